// Plain loans that no feedback reaches (docs/model.md 3.6, 4): a thread decides an obligor for four neighbouring paths with
// one Philox call. A bound on the rank of a word settles almost all; the others go through a queue of the warp, so that
// what is exact, and rare, is done by 32 lanes at once.
#pragma once

#include "credit.cuh"

namespace gpuloan {

struct Candidate {
    i32 position, row;
    u32 word;
};

constexpr i32 QUEUE = 160;  // candidates: fewer than 32 that wait, and four a lane

// A warp's candidates.
struct CandidateQueue {
    Candidate* entries;
    i32 n;  // the same in all lanes
};

GPULOAN_DEVICE void settle(const Plan& plan, const Run& run, Candidate candidate) {
    const i32 p = candidate.position;
    if (candidate.row < 0 || candidate.row >= run.n_paths) return;  // a path that was not asked for: its bound is 0
    if (plan.obligors.facts[4 * p] >= 0) return;  // parties of GPU loans are decided where those are walked
    const Levels levels = levels_ahead(plan, run, candidate.row, plan.obligors.klass[p]);
    const i32 month = default_month(plan, run, candidate.row, p, candidate.word, levels);
    if (month != NEVER) obligor_defaults(plan, run, candidate.row, p, month);
}

// Takes up to WARP candidates off the end of the queue, one a lane.
GPULOAN_DEVICE void drain(const Plan& plan, const Run& run, CandidateQueue& queue, i32 lane) {
    const i32 left = queue.n > WARP ? queue.n - WARP : 0;
    __syncwarp(WHOLE_WARP);
    if (left + lane < queue.n) settle(plan, run, queue.entries[left + lane]);
    __syncwarp(WHOLE_WARP);
    queue.n = left;
}

// Lanes that have a candidate append it.
GPULOAN_DEVICE void append(CandidateQueue& queue, i32 lane, bool has, Candidate own) {
    const u32 who = __ballot_sync(WHOLE_WARP, has);
    if (has) queue.entries[queue.n + __popc(who & ((1u << lane) - 1))] = own;
    queue.n += __popc(who);
}

// Where four neighbouring paths are: rows first to first + 3, of which those from low up to high are asked for.
struct Four {
    u64 path;  // of row `first`, a multiple of 4
    i64 first;
    i32 low, high;
};

GPULOAN_DEVICE Four four_paths(const Run& run, i64 place) {
    const u64 path = (run.first_path / 4 + static_cast<u64>(place)) * 4;
    const i64 first = static_cast<i64>(path - run.first_path);  // from -3 on
    const i64 left = run.n_paths - first;
    return {path, first, first < 0 ? static_cast<i32>(-first) : 0, left < 0 ? 0 : left < 4 ? static_cast<i32>(left) : 4};
}

// rank(w) <= bound is (w ^ flipped(bound)) <= bound: SIGN_BIT for bounds below it, else all bits. Where the rank of w lies in
// the other half than the bound, the flipped word lies on the same side of the bound as the rank.
GPULOAN_DEVICE u32 flipped(u32 bound) { return static_cast<u32>(static_cast<i32>(bound) >> 31) | SIGN_BIT; }

// The obligors of one run on four paths.
GPULOAN_DEVICE void decide_run(const Plan& plan, const Run& run, CandidateQueue& queue, i32 lane, Four four, i32 r) {
    const Obligors& obligors = plan.obligors;
    u32 bounds[4], flips[4];
    GPULOAN_UNROLLED
    for (i32 j = 0; j < 4; ++j) {
        const bool is_asked = j >= four.low && j < four.high;
        bounds[j] = is_asked ? bound_of_run(plan, run, four.first + j, r) : 0;
        flips[j] = flipped(bounds[j]);
    }
    const i32 end = obligors.run_first[r + 1];
    GPULOAN_ROLLED
    for (i32 p = obligors.run_first[r]; p < end; ++p) {
        const Words w = draw(run, four.path >> 2, OBLIGOR, 0, obligors.key[p]);
        const u32 words[4] = {w.w0, w.w1, w.w2, w.w3};
        bool has[4], has_any = false;
        GPULOAN_UNROLLED
        for (i32 j = 0; j < 4; ++j) {
            has[j] = (words[j] ^ flips[j]) <= bounds[j];
            has_any = has_any | has[j];
        }
        if (!__any_sync(WHOLE_WARP, has_any)) continue;
        GPULOAN_UNROLLED
        for (i32 j = 0; j < 4; ++j) {
            append(queue, lane, has[j], {p, static_cast<i32>(four.first + j), words[j]});
        }
        GPULOAN_ROLLED
        while (queue.n >= WARP) drain(plan, run, queue, lane);
    }
}

// A slice of the runs for the four paths of a thread.
GPULOAN_DEVICE void decide_slice(const Plan& plan, const Run& run, Candidate* entries, Four four, i32 slice, i32 n_slices) {
    const i32 lane = static_cast<i32>(threadIdx.x) % WARP;
    const i64 n_runs = plan.size.n_plain_runs;
    CandidateQueue queue = {entries, 0};
    GPULOAN_ROLLED
    for (i64 r = n_runs * slice / n_slices; r < n_runs * (slice + 1) / n_slices; ++r) {
        decide_run(plan, run, queue, lane, four, static_cast<i32>(r));
    }
    if (queue.n > 0) drain(plan, run, queue, lane);
}

}  // namespace gpuloan
