// The kernels: they count and call. What is launched when: gpuloan_mc/engines/cuda_mapping.py.

#include "gpuloan/demand.cuh"
#include "gpuloan/plain.cuh"
#include "gpuloan/walk.cuh"

#ifndef GPULOAN_SHARED  // tests give their own
#define GPULOAN_SHARED(name) extern __shared__ __align__(16) unsigned char name[]
#define GPULOAN_ARGUMENTS const __grid_constant__ gpuloan::Plan plan, const __grid_constant__ gpuloan::Run run
#endif

// Blocks of two paths that a multiprocessor is to hold. From sm_120 on its shared memory has room for one or two, and a third would
// only cost registers.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1200
#define PAIRS 2
#else
#define PAIRS 3
#endif

using namespace gpuloan;

// A thread a path: what no feedback reaches.
extern "C" __global__ void __launch_bounds__(128, 8) draw_ahead(GPULOAN_ARGUMENTS) {
    GPULOAN_SHARED(shared);
    const i64 row = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (row >= run.n_paths) return;
    draw_demand(plan, run, row);
    draw_factors(plan, run, row);
    draw_hazards(plan, run, row);
    if (!run.walks) return;
    draw_launches(plan, run, row);
    draw_premium(plan, run, row);
    draw_generations(plan, run, row, reinterpret_cast<float*>(shared));
}

// A thread four neighbouring paths, blockIdx.y a slice of the obligors of plain loans.
extern "C" __global__ void __launch_bounds__(128, 4) simulate_plain(GPULOAN_ARGUMENTS) {
    GPULOAN_SHARED(shared);
    const i64 place = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x;
    Candidate* const entries = reinterpret_cast<Candidate*>(shared) + threadIdx.x / WARP * QUEUE;
    decide_slice(plan, run, entries, four_paths(run, place), static_cast<i32>(blockIdx.y), static_cast<i32>(gridDim.y));
}

// Eight or sixteen lanes a path.
extern "C" __global__ void __launch_bounds__(128, 4) simulate_small_8(GPULOAN_ARGUMENTS) {
    GPULOAN_SHARED(shared);
    walk_paths<Lanes<8, 128>, true>(plan, run, shared);
}

extern "C" __global__ void __launch_bounds__(128, 4) simulate_small_16(GPULOAN_ARGUMENTS) {
    GPULOAN_SHARED(shared);
    walk_paths<Lanes<16, 128>, true>(plan, run, shared);
}

// A block two paths.
extern "C" __global__ void __launch_bounds__(256, PAIRS) simulate_pair_128(GPULOAN_ARGUMENTS) {
    GPULOAN_SHARED(shared);
    walk_paths<Block<128, 2>, true>(plan, run, shared);
}

// A block a path.
extern "C" __global__ void __launch_bounds__(256, 2) simulate_block_256(GPULOAN_ARGUMENTS) {
    GPULOAN_SHARED(shared);
    walk_paths<Block<256>, true>(plan, run, shared);
}

extern "C" __global__ void __launch_bounds__(512, 1) simulate_block_512(GPULOAN_ARGUMENTS) {
    GPULOAN_SHARED(shared);
    walk_paths<Block<512>, true>(plan, run, shared);
}

// A cluster a path: the state of its loans over the shared memory of two, four or eight multiprocessors.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
extern "C" __global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(512, 1) simulate_cluster_2(GPULOAN_ARGUMENTS) {
    GPULOAN_SHARED(shared);
    walk_paths<Cluster<512, 2>, true>(plan, run, shared);
}

extern "C" __global__ void __cluster_dims__(4, 1, 1) __launch_bounds__(512, 1) simulate_cluster_4(GPULOAN_ARGUMENTS) {
    GPULOAN_SHARED(shared);
    walk_paths<Cluster<512, 4>, true>(plan, run, shared);
}

extern "C" __global__ void __cluster_dims__(8, 1, 1) __launch_bounds__(512, 1) simulate_cluster_8(GPULOAN_ARGUMENTS) {
    GPULOAN_SHARED(shared);
    walk_paths<Cluster<512, 8>, true>(plan, run, shared);
}
#endif

// A block a path whose loans' state does not fit on the multiprocessors.
extern "C" __global__ void __launch_bounds__(512, 1) simulate_large_512(GPULOAN_ARGUMENTS) {
    walk_paths<Block<512>, false>(plan, run, nullptr);
}

// A thread a plain loan.
extern "C" __global__ void __launch_bounds__(128) close_loans(GPULOAN_ARGUMENTS) {
    const i32 loan = static_cast<i32>(blockIdx.x * blockDim.x + threadIdx.x);
    if (loan < plan.size.n_plain) close_loan(plan, run, loan);
}

// A thread a group, blockIdx.y a share of the paths.
extern "C" __global__ void __launch_bounds__(128) close_paths(GPULOAN_ARGUMENTS) {
    const i32 group = static_cast<i32>(blockIdx.x * blockDim.x + threadIdx.x);
    if (group < plan.size.n_groups) close_group(plan, run, group, blockIdx.y, gridDim.y);
}
