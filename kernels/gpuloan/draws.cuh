// The draws of a run. The keys of Philox's ten rounds come with it, where each thread would bump them for each draw.
#pragma once

#include "philox.cuh"
#include "plan.cuh"
#include "team.cuh"

namespace gpuloan {

// `draw` of philox.cuh under the run's seed.
GPULOAN_DEVICE Words draw(const Run& run, u64 path, u32 purpose, u32 step, u64 entity) {
    Words c = counter(path, purpose, step, entity);
    GPULOAN_UNROLLED
    for (u32 number = 0; number < ROUNDS; ++number) {
        c = round(c.w0, c.w1, c.w2, c.w3, run.keys[2 * number], run.keys[2 * number + 1], 0);
    }
    return c;
}

// `draw_four` of philox.cuh under the run's seed.
GPULOAN_DEVICE Words draw_four(const Run& run, u64 path, u32 purpose, u32 step, u64 entity) {
    return draw(run, path >> 2, purpose, step, entity);
}

}  // namespace gpuloan
