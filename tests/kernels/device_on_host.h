// A CUDA device on the host, for tests: the threads of a block are fibers that run until they meet a barrier.
//
// The order in which threads run between two barriers is chosen by the caller and differs from round to round, so that
// what depends on it shows. Shared memory and the arena begin as garbage. Blocks run one after the other, those of a cluster
// beside each other, each with shared memory of its own.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __cluster_dims__(...)
#define GPULOAN_SHARED(name) unsigned char* const name = device_on_host::shared_of(device_on_host::block_of_cluster())
#define GPULOAN_ARGUMENTS const gpuloan::Plan &plan, const gpuloan::Run &run

namespace device_on_host {

struct Dim3 {
    unsigned x, y, z;
};

// Where a fiber stands: ready, at a barrier of the cluster, of the block or of its warp, or finished.
enum class State { ready, at_cluster, at_block, at_warp, done };

struct Fiber {
    void* stack_pointer;
    State state;
    unsigned mask;  // of the warp barrier at which it waits
    unsigned value;  // given to a collective
};

inline Dim3 block_index, grid_size, block_size, thread_index;
inline std::vector<unsigned char> shared, stacks;  // shared: one block's after another's
inline std::size_t shared_size;
inline std::vector<Fiber> fibers;  // of all blocks of a cluster
inline unsigned current, round_number;
inline std::vector<int> block_or, block_or_result;
inline void* scheduler_pointer;
inline void (*body)();
constexpr std::size_t STACK = 64 * 1024;

// Saves the callee's registers on its stack, keeps the stack pointer, and goes on with another stack.
extern "C" void device_on_host_switch(void** from, void* to);
#if defined(__x86_64__)
asm(R"(
.text
.globl device_on_host_switch
.type device_on_host_switch,@function
device_on_host_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size device_on_host_switch,.-device_on_host_switch
)");
#elif defined(__aarch64__)
asm(R"(
.text
.globl device_on_host_switch
.type device_on_host_switch,%function
device_on_host_switch:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
)");
#else
#error "fibers are written for x86-64 and AArch64"
#endif

inline unsigned block_of_cluster() { return current / block_size.x; }
inline unsigned char* shared_of(unsigned block) { return shared.data() + block * shared_size; }

inline void fail(const char* what) {
    std::fprintf(stderr, "device_on_host: %s\n", what);
    std::abort();
}

inline void wait(State state, unsigned mask) {
    Fiber& fiber = fibers[current];
    fiber.state = state;
    fiber.mask = mask;
    device_on_host_switch(&fiber.stack_pointer, scheduler_pointer);
}

inline void run_fiber() {
    body();
    wait(State::done, 0);
    fail("a finished thread ran again");
}

inline void prepare(unsigned i) {
    unsigned char* top = stacks.data() + (i + 1) * STACK;
    top -= reinterpret_cast<std::uintptr_t>(top) % 16;
#if defined(__x86_64__)
    void** words = reinterpret_cast<void**>(top) - 8;  // six registers, the place to return to, and a missing caller
    std::memset(words, 0, 8 * sizeof(void*));
    words[6] = reinterpret_cast<void*>(&run_fiber);
#else
    void** words = reinterpret_cast<void**>(top) - 20;
    std::memset(words, 0, 20 * sizeof(void*));
    words[11] = reinterpret_cast<void*>(&run_fiber);
#endif
    fibers[i] = {words, State::ready, 0, 0};
}

// Lets go who waits at a barrier that everybody has reached: threads that have finished count as there.
inline bool release(State barrier, unsigned first, unsigned end) {
    for (unsigned i = first; i < end; ++i) {
        if (fibers[i].state != barrier && fibers[i].state != State::done) return false;
    }
    for (unsigned i = first; i < end; ++i) {
        if (fibers[i].state == barrier) fibers[i].state = State::ready;
    }
    return true;
}

inline void release_block(unsigned block) {
    if (!release(State::at_block, block * block_size.x, (block + 1) * block_size.x)) return;
    block_or_result[block] = block_or[block];
    block_or[block] = 0;
}

inline void release_warp(unsigned warp) {
    const unsigned first = warp * 32, n = static_cast<unsigned>(fibers.size()) - first;
    for (unsigned i = 0; i < 32 && i < n; ++i) {
        const Fiber& fiber = fibers[first + i];
        if (fiber.state != State::at_warp) continue;
        bool is_complete = true;
        for (unsigned j = 0; j < 32 && j < n; ++j) {
            const Fiber& other = fibers[first + j];
            if (!(fiber.mask >> j & 1) || other.state == State::done) continue;
            is_complete = is_complete && other.state == State::at_warp && other.mask == fiber.mask;
        }
        if (!is_complete) continue;
        const unsigned mask = fiber.mask;
        for (unsigned j = 0; j < 32 && j < n; ++j) {
            if (mask >> j & 1 && fibers[first + j].state == State::at_warp) fibers[first + j].state = State::ready;
        }
    }
}

// The k-th thread of a round: 0 ascending, 1 descending, others some permutation that changes by the round.
inline unsigned place(unsigned k, unsigned n, unsigned order) {
    if (order == 0) return k;
    if (order == 1) return n - 1 - k;
    return (k * (2 * (round_number * 7 + order) + 1) + round_number * 13) % n;  // n is a power of two: odd factors permute
}

inline void run_cluster(unsigned first_block, unsigned y, unsigned order) {
    const unsigned n = static_cast<unsigned>(fibers.size()), n_blocks = n / block_size.x;
    for (unsigned i = 0; i < n; ++i) prepare(i);
    block_or.assign(n_blocks, 0);
    block_or_result.assign(n_blocks, 0);
    for (unsigned n_done = 0; n_done < n;) {
        bool has_run = false;
        n_done = 0;
        for (unsigned k = 0; k < n; ++k) {
            current = place(k, n, order);
            thread_index = {current % block_size.x, 0, 0};
            block_index = {first_block + block_of_cluster(), y, 0};
            if (fibers[current].state == State::ready) {
                device_on_host_switch(&scheduler_pointer, fibers[current].stack_pointer);
                has_run = true;
            }
            n_done += fibers[current].state == State::done;
        }
        if (!has_run && n_done < n) fail("deadlock: a barrier that not every thread reaches");
        for (unsigned warp = 0; warp * 32 < n; ++warp) release_warp(warp);
        for (unsigned block = 0; block < n_blocks; ++block) release_block(block);
        release(State::at_cluster, 0, n);
        ++round_number;
    }
}

// Runs a kernel whose clusters have `n_blocks` blocks; `body_of_thread` calls it with the arguments.
inline void launch(void (*body_of_thread)(), unsigned n_blocks, Dim3 grid, unsigned threads, unsigned shared_bytes,
                   unsigned order) {
    if (grid.x % n_blocks != 0) fail("a grid that is no multiple of the cluster");
    body = body_of_thread;
    grid_size = grid;
    block_size = {threads, 1, 1};
    fibers.assign(n_blocks * threads, Fiber{});
    stacks.resize((n_blocks * threads + 1) * STACK);
    shared_size = (shared_bytes + 31) / 16 * 16;
    for (unsigned y = 0; y < grid.y; ++y) {
        for (unsigned k = 0; k < grid.x; k += n_blocks) {
            shared.assign(n_blocks * shared_size, static_cast<unsigned char>(0xA5 + 31 * order));
            run_cluster(order % 2 ? grid.x - n_blocks - k : k, y, order);
        }
    }
}


}  // namespace device_on_host

#define threadIdx (device_on_host::thread_index)
#define blockIdx (device_on_host::block_index)
#define gridDim (device_on_host::grid_size)
#define blockDim (device_on_host::block_size)

inline void __syncthreads() { device_on_host::wait(device_on_host::State::at_block, 0); }

inline int __syncthreads_or(int x) {
    const unsigned block = device_on_host::block_of_cluster();
    device_on_host::block_or[block] |= x != 0;
    __syncthreads();
    return device_on_host::block_or_result[block];
}

// What team.cuh says in machine code.
inline unsigned block_of_cluster() { return device_on_host::block_of_cluster(); }
inline void sync_cluster() { device_on_host::wait(device_on_host::State::at_cluster, 0); }

template <class T>
T* in_block(T* place, unsigned block) {
    using namespace device_on_host;
    const auto offset = reinterpret_cast<unsigned char*>(place) - shared_of(device_on_host::block_of_cluster());
    return reinterpret_cast<T*>(shared_of(block) + offset);
}

inline void __syncwarp(unsigned mask) { device_on_host::wait(device_on_host::State::at_warp, mask); }

inline unsigned __ballot_sync(unsigned mask, bool x) {
    using namespace device_on_host;
    fibers[current].value = x;
    __syncwarp(mask);
    const unsigned first = current / 32 * 32;
    unsigned result = 0;
    for (unsigned j = 0; j < 32 && first + j < fibers.size(); ++j) {
        if (mask >> j & 1 && fibers[first + j].state != State::done) result |= fibers[first + j].value << j;
    }
    __syncwarp(mask);  // nobody gives the next value before all have read this one
    return result;
}

inline int __any_sync(unsigned mask, bool x) { return __ballot_sync(mask, x) != 0; }
inline int __popc(unsigned x) { return __builtin_popcount(x); }

template <class T, class U>
T atomicAdd(T* place, U amount) {
    const T before = *place;
    *place = static_cast<T>(before + static_cast<T>(amount));
    return before;
}

template <class T>
T atomicMax(T* place, T value) {
    const T before = *place;
    if (value > before) *place = value;
    return before;
}
