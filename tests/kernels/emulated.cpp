// simulate.cu on the host: one entry that launches a kernel by name.
#include "device_on_host.h"

#include "simulate.cu"

namespace {

const Plan* the_plan;
const Run* the_run;

struct Kernel {
    const char* name;
    unsigned blocks;  // of a cluster
    void (*body)();
};

#define CLUSTER(name, blocks) {#name, blocks, [] { name(*the_plan, *the_run); }}
#define KERNEL(name) CLUSTER(name, 1)
const Kernel KERNELS[] = {
    KERNEL(draw_ahead),         KERNEL(simulate_plain),     KERNEL(simulate_small_8),  KERNEL(simulate_small_16),
    KERNEL(simulate_pair_128), KERNEL(simulate_block_256), KERNEL(simulate_block_512), KERNEL(simulate_large_512),
    KERNEL(close_loans),        KERNEL(close_paths),
    CLUSTER(simulate_cluster_2, 2), CLUSTER(simulate_cluster_4, 4), CLUSTER(simulate_cluster_8, 8),
};

}  // namespace

extern "C" int launch(const char* name, unsigned grid_x, unsigned grid_y, unsigned threads, unsigned shared_bytes,
                      const Plan* plan, const Run* run, unsigned order) {
    the_plan = plan;
    the_run = run;
    for (const Kernel& kernel : KERNELS) {
        if (std::strcmp(kernel.name, name) != 0) continue;
        device_on_host::launch(kernel.body, kernel.blocks, {grid_x, grid_y, 1}, threads, shared_bytes, order);
        return 0;
    }
    return 1;
}
