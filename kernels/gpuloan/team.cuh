// The threads that walk one path together: a block, half of one, some lanes of a warp, or the blocks of a cluster. No twin: it is
// about threads.
#pragma once

#include "portable.cuh"

#ifdef __CUDACC__
#define GPULOAN_DEVICE __device__ __forceinline__
#define GPULOAN_UNROLLED _Pragma("unroll")
#define GPULOAN_ROLLED _Pragma("unroll 1")  // rare or long: four copies would crowd the instruction cache
#else
#define GPULOAN_DEVICE static inline
#define GPULOAN_UNROLLED
#define GPULOAN_ROLLED
#endif

namespace gpuloan {

constexpr i32 WARP = 32;
constexpr u32 WHOLE_WARP = 0xFFFFFFFFu;

// Asks for the cache line of an address; changes nothing.
GPULOAN_DEVICE void prefetch(const void* place) {
#ifdef __CUDA_ARCH__
    asm volatile("prefetch.L1 [%0];" ::"l"(place));
#else
    (void)place;
#endif
}

#ifdef __CUDA_ARCH__  // tests give their own
// Clusters are there from sm_90 on. This block's place in its cluster.
GPULOAN_DEVICE u32 block_of_cluster() {
    u32 place;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(place));
    return place;
}

// A barrier of all threads of a cluster; it orders what they wrote to shared and global memory.
GPULOAN_DEVICE void sync_cluster() {
    asm volatile("barrier.cluster.arrive.release;\n\tbarrier.cluster.wait.acquire;" ::: "memory");
}

// Where another block of the cluster has what lies at `place` of this block's shared memory.
template <class T>
GPULOAN_DEVICE T* in_block(T* place, u32 block) {
    u64 there;
    asm("mapa.u64 %0, %1, %2;" : "=l"(there) : "l"(place), "r"(block));
    return reinterpret_cast<T*>(there);
}
#endif

// Threads of a team that a phase keeps to itself, beside others between the same barriers.
struct Share {
    bool is_ours;
    i32 rank, size;
};

// A block walks PATHS paths side by side, each with SIZE threads, the same share of the lanes of every warp: so the few events that
// a month of a path has share a warp with those of its neighbour.
template <i32 SIZE, i32 PATHS = 1>
struct Block {
    static constexpr i32 size = SIZE, leaders = WARP / PATHS, teams = PATHS, blocks = 1, block_size = SIZE;

    i32 rank() const {
        const i32 thread = static_cast<i32>(threadIdx.x);
        return PATHS == 1 ? thread : thread / WARP * leaders + thread % leaders;
    }
    Share all() const { return {true, rank(), size}; }
    Share lower() const { return {rank() < size / 2, rank(), size / 2}; }
    Share upper() const { return {rank() >= size / 2, rank() - size / 2, size / 2}; }
    // The first warp walks the market.
    bool leads() const { return threadIdx.x < WARP; }
    void sync_leaders() const { __syncwarp(WHOLE_WARP); }
    void sync() const { __syncthreads(); }
    bool any(bool x) const { return __syncthreads_or(x) != 0; }
    // Which of the paths is this thread's.
    i32 place() const { return static_cast<i32>(threadIdx.x) % WARP / leaders; }
};

// SIZE lanes of a warp walk a path; the warp's paths go through the months together, so that it never splits for good.
template <i32 SIZE, i32 THREADS>
struct Lanes {
    static constexpr i32 size = SIZE, leaders = SIZE, blocks = 1, block_size = SIZE;

    i32 rank() const { return static_cast<i32>(threadIdx.x) % SIZE; }
    Share all() const { return {true, rank(), size}; }
    Share lower() const { return all(); }  // there is one warp
    Share upper() const { return all(); }
    bool leads() const { return true; }
    void sync_leaders() const { __syncwarp(WHOLE_WARP); }
    void sync() const { __syncwarp(WHOLE_WARP); }
    bool any(bool x) const { return __any_sync(WHOLE_WARP, x) != 0; }
    static constexpr i32 teams = THREADS / SIZE;
    i32 place() const { return static_cast<i32>(threadIdx.x) / SIZE; }
};

// BLOCKS blocks of SIZE threads walk a path; each keeps a share of the loans' state in its shared memory.
template <i32 SIZE, i32 BLOCKS>
struct Cluster {
    static constexpr i32 size = SIZE * BLOCKS, leaders = WARP, blocks = BLOCKS, block_size = SIZE;
    u32 block = block_of_cluster();

    i32 rank() const { return static_cast<i32>(block) * SIZE + static_cast<i32>(threadIdx.x); }
    Share all() const { return {true, rank(), size}; }
    Share lower() const { return {rank() < size / 2, rank(), size / 2}; }
    Share upper() const { return {rank() >= size / 2, rank() - size / 2, size / 2}; }
    bool leads() const { return rank() < WARP; }
    void sync_leaders() const { __syncwarp(WHOLE_WARP); }
    void sync() const { sync_cluster(); }
    // Of an x that all threads have read alike.
    bool any(bool x) const {
        sync();
        return x;
    }
    static constexpr i32 teams = 1;
    i32 place() const { return 0; }
};

}  // namespace gpuloan
