// A path's memory while its months are walked. Hot: what every month touches, in shared memory where it fits. Cold: what
// events touch, in global memory. Offsets come with the plan. The blocks of a cluster share the state of loans out among
// them; the rest of the hot memory, a few rows, is then in global memory.
#pragma once

#include "plan.cuh"
#include "team.cuh"

namespace gpuloan {

// Places among `counters`: parties that fall this month, defaults, month of the last sale, defaults before a month of even number
// and before one of odd.
constexpr i32 FALLEN = 0, DEFAULTED = 1, LAST_SALE = 2, BEFORE = 3, N_COUNTERS = 5;

// Four floats that are read and written at once.
struct alignas(16) Quad {
    float x, y, z, w;
};

// Entries of a list.
struct alignas(8) Span {
    i32 first, end;
};

// Rows that are read and written at once, at multiples of 16 bytes: no region of memory promises more.
//
// A month of the plan: entries of its lists, base rate and growth of costs.
struct alignas(16) Month {
    Span opening, due, maturing;
    float base_rate, cost_growth;
};

// What a party has a hand in.
struct alignas(16) Hand {
    Span contracts, loans, plain, none;
};

// A deployment. `let_place`: where a path's state has the rate of its contract.
struct alignas(16) Deployment {
    i32 generation, vintage, start, in_service, units, tenant, let_place, contract_end;
    float contract_rate, hours, opex, hourly_opex, unit_share, sale_pressure, claim_recovery, none;
};

// Its contract on a path. `claim_rate`: of one that its tenant's default ended.
struct alignas(16) Contract {
    i32 state, end;
    float claim_rate, none;
};

// Where a month's entries end in `hits` and `renewed`.
struct alignas(8) Mark {
    i32 hits, renewed;
};

// Of this month: contracts that are due, those renewed from `first_due` on, and what the word of a contract that ends is below if
// its tenant stays.
struct alignas(16) Note {
    i32 first_due, n_due, stays, none;
};

// What a loan's draw holds ready, should it default: flags and, above them, the months to its sale; the word of its haircut.
struct alignas(8) Fate {
    i32 bits;
    u32 haircut_word;
};

// A loan that defaulted: its balance and reserve then, its month and cause; slots whose chips are sold, and whose contracts are
// kept; months to the sale.
struct alignas(16) Workout {
    float balance, reserve;
    i32 loan, month_cause, sold, kept, lag, none;
};

static_assert(sizeof(Month) == 32 && sizeof(Hand) == 32 && sizeof(Deployment) == 64, "rows that cuda_layout.py fills");
static_assert(sizeof(Contract) == 16 && sizeof(Mark) == 8 && sizeof(Fate) == 8 && sizeof(Workout) == 32, "its bytes");

struct Memory {
    // hot
    float* spot;    // (G,)
    u32* released;  // (rows, G) chips that come back, a row a month
    float *overhang, *contract;                // (G,)
    float *cumulative, *level;                 // (C,) H and ln H of classes that are fed back
    i32* counters;
    Mark* marks;                               // (T + 1,)
    Note* note;
    Quad* theta;                               // (2, W / 8) of watched parties
    float* state;                              // (tiles, rows, TILE) of loans
    // cold
    float* log_hazard;  // (C, H + 1) of classes that are fed back
    float* rents;       // (T + 1, G) what a chip earns from a month on
    i32 *months, *hits, *fallen;  // (A,) default months, parties by month; (A + W,) this month's, the watched behind those
    Contract* contracts;          // (slots, L)
    Fate* fates;                  // (L,)
    Workout* workouts;            // (L,) in the order of defaults
    i32* renewed;                 // a ring of contracts that were renewed
};

template <class T>
GPULOAN_DEVICE T* at(u8* base, i32 offset) {
    return reinterpret_cast<T*>(base + offset);
}

GPULOAN_DEVICE Memory memory_at(const Places& places, u8* hot, u8* cold) {
    Memory m;
    m.released = at<u32>(hot, places.released);
    m.overhang = at<float>(hot, places.overhang);
    m.contract = at<float>(hot, places.contract);
    m.spot = at<float>(hot, 0);  // first of all: its address takes no sum
    m.cumulative = at<float>(hot, places.cumulative);
    m.level = at<float>(hot, places.level);
    m.counters = at<i32>(hot, places.counters);
    m.marks = at<Mark>(hot, places.marks);
    m.note = at<Note>(hot, places.note);
    m.theta = at<Quad>(hot, places.theta);
    m.state = at<float>(hot, places.state);
    m.log_hazard = at<float>(cold, places.log_hazard);
    m.rents = at<float>(cold, places.rents);
    m.months = at<i32>(cold, places.months);
    m.hits = at<i32>(cold, places.hits);
    m.fallen = at<i32>(cold, places.fallen);
    m.contracts = at<Contract>(cold, places.contracts);
    m.fates = at<Fate>(cold, places.fates);
    m.workouts = at<Workout>(cold, places.workouts);
    m.renewed = at<i32>(cold, places.renewed);
    return m;
}

// A path on its way, as one of its threads sees it.
template <class Team>
struct Walker {
    const Plan& plan;
    const Run& run;
    Team team;
    Memory m;
    i64 row;
    bool is_active;  // false: walks beside the last path without leaving a trace
    Month month;     // that is walked

    u64 path() const { return run.first_path + row; }
    // Of four words, one for each of neighbouring paths, which is the path's.
    i32 word() const { return static_cast<i32>((static_cast<u32>(run.first_path) + static_cast<u32>(row)) & 3); }
    // What row k of (rows, paths) has of the path; a launch has fewer than 2^30.
    template <class T>
    const T& ahead(const T* rows, i32 k) const {
        static_assert(sizeof(T) == 4, "");
        const u64 bytes = wide_product(static_cast<u32>(k), 4 * static_cast<u32>(run.n_paths));
        return *reinterpret_cast<const T*>(reinterpret_cast<const u8*>(rows + row) + bytes);
    }
};

// A tile of loans: a quad of state a lane (balance, reserve, support, breaches), then a lane's rates of contracts, negative
// where none is live. And what paths share: a quad for each slot, two at least (hours, opex, place of the generation's price,
// and in the first the loan's margin, in the second its class of terms), two for each class of terms (floating, covenant,
// allowed, lockup; reserve months, sweep, draw month, LTV cap). Loans have few terms: the lanes of a warp mostly read one class.
constexpr i32 TILE = 32;
constexpr i32 BALANCE = 0, RESERVE = 1, SUPPORT = 2, BREACHES = 3, QUAD = 4, ROW = QUAD * TILE;

// Where a tile of so many floats lies. The blocks of a cluster take turns of as many tiles as they have warps, so that the
// loans rank, rank + size, ... of a thread lie in its own block. IS_OWN: this tile does.
template <bool IS_OWN, class Team>
GPULOAN_DEVICE float* tile_at(const Walker<Team>& w, u32 tile, u32 floats) {
    if constexpr (Team::blocks == 1) {
        return w.m.state + tile * floats;
    } else {
        constexpr u32 TURN = Team::block_size / TILE;
        float* const here = w.m.state + (tile / (TURN * Team::blocks) * TURN + tile % TURN) * floats;
        const u32 owner = tile / TURN % Team::blocks;
        return IS_OWN || owner == w.team.block ? here : in_block(here, owner);
    }
}

// N: slots a loan where the compiler may know them, else 0. Unsigned: divisions are shifts and masks.
template <i32 N = 0, bool IS_OWN = false, class Team>
GPULOAN_DEVICE float* state_of(const Walker<Team>& w, i32 loan) {
    const u32 lane = static_cast<u32>(loan), n_slots = N > 0 ? N : w.plan.size.n_slots;
    return tile_at<IS_OWN>(w, lane / TILE, ROW + n_slots * TILE) + lane % TILE * QUAD;
}

// The rates of a loan's contracts.
template <i32 N = 0, bool IS_OWN = false, class Team>
GPULOAN_DEVICE const float* rates_of(const Walker<Team>& w, i32 loan) {
    const u32 lane = static_cast<u32>(loan), n_slots = N > 0 ? N : w.plan.size.n_slots;
    return tile_at<IS_OWN>(w, lane / TILE, ROW + n_slots * TILE) + ROW + lane % TILE * n_slots;
}

// Quads of a loan's slots.
constexpr i32 quads_of(i32 n_slots) { return n_slots > 2 ? n_slots : 2; }

// A loan's quads of slots, TILE apart.
template <i32 N = 0, class Team>
GPULOAN_DEVICE const Quad* slots_of(const Walker<Team>& w, i32 loan) {
    const u32 lane = static_cast<u32>(loan), n_quads = quads_of(N > 0 ? N : w.plan.size.n_slots);
    return reinterpret_cast<const Quad*>(w.plan.loans.slots) + lane / TILE * (n_quads * TILE) + lane % TILE;
}

struct Terms {
    Quad first, second;
};

// A loan's class of terms: its second quad says which.
template <class Team>
GPULOAN_DEVICE const Terms& terms_of(const Walker<Team>& w, Quad second) {
    return reinterpret_cast<const Terms*>(w.plan.loans.classes)[static_cast<u32>(float_bits(second.w))];
}

// The rate of a deployment's contract.
template <class Team>
GPULOAN_DEVICE float& let_rate(const Walker<Team>& w, const Deployment& deployment) {
    const u32 place = static_cast<u32>(deployment.let_place);
    if constexpr (Team::blocks == 1) {
        return w.m.state[place];
    } else {
        const u32 floats = ROW + w.plan.size.n_slots * TILE;
        return tile_at<false>(w, place / floats, floats)[place % floats];
    }
}

// Rows of the plan.
template <class Team>
GPULOAN_DEVICE const Deployment& deployment_of(const Walker<Team>& w, i32 d) {
    return reinterpret_cast<const Deployment*>(w.plan.deployments.rows)[static_cast<u32>(d)];
}

template <class Team>
GPULOAN_DEVICE Month month_of(const Walker<Team>& w, i32 t) {
    return reinterpret_cast<const Month*>(w.plan.lists.months)[static_cast<u32>(t)];
}

template <class Team>
GPULOAN_DEVICE Hand hand_of(const Walker<Team>& w, i32 party) {
    return reinterpret_cast<const Hand*>(w.plan.lists.hands)[static_cast<u32>(party)];
}

// Appends to a list and says where.
GPULOAN_DEVICE i32 next_place(i32* counter) { return atomicAdd(counter, 1); }

}  // namespace gpuloan
