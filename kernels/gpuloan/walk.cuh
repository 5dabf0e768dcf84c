// A path's months (docs/model.md: order inside a month), walked by a team of threads.
#pragma once

#include "workout.cuh"

namespace gpuloan {

// Month 0 of loans. Lanes beyond the last are DEAD.
template <class Team>
GPULOAN_DEVICE void start_loans(Walker<Team>& w) {
    const Loans& loans = w.plan.loans;
    GPULOAN_ROLLED
    for (i32 loan = w.team.rank(); loan < w.plan.size.n_lanes; loan += Team::size) {
        Quad& state = *reinterpret_cast<Quad*>(state_of<0, true>(w, loan));
        if (loan >= w.plan.size.n_loans) {
            state.w = DEAD;
            continue;
        }
        state = {loans.balance[loan], loans.reserve[loan], loans.support[loan], loans.first_month[loan] > 1 ? WAITING : ZERO};
        w.m.fates[loan] = draw_fate(w, loan);
    }
}

template <class Team>
GPULOAN_DEVICE void start_contracts(Walker<Team>& w) {
    GPULOAN_ROLLED
    for (i32 d = w.team.rank(); d < w.plan.size.n_slots * w.plan.size.n_loans; d += Team::size) {
        const Deployment& deployment = deployment_of(w, d);
        const bool is_let = deployment.tenant >= 0;
        w.m.contracts[d] = {is_let ? LET : 0, deployment.contract_end, ZERO, ZERO};
        let_rate(w, deployment) = is_let ? deployment.contract_rate : NOT_LET;
    }
}

// Nobody has defaulted, and nothing is listed.
template <class Team>
GPULOAN_DEVICE void start_lists(Walker<Team>& w) {
    const Size& size = w.plan.size;
    GPULOAN_ROLLED
    for (i32 k = w.team.rank(); k < size.n_parties; k += Team::size) w.m.months[k] = NEVER;
    GPULOAN_ROLLED
    for (i32 k = w.team.rank(); k <= size.n_months; k += Team::size) w.m.marks[k] = {};
    GPULOAN_ROLLED
    for (i32 k = w.team.rank(); k < N_COUNTERS; k += Team::size) w.m.counters[k] = 0;
}

template <class Team>
GPULOAN_DEVICE u32 obligor_word(const Walker<Team>& w, i32 p) {
    const Words words = draw_four(w.run, w.path(), OBLIGOR, 0, w.plan.obligors.key[p]);
    return chosen(words, w.word());
}

// (3.5), (3.6) default months of the parties that no feedback reaches, and how many fall in each month.
template <class Team>
GPULOAN_DEVICE void decide_early(Walker<Team>& w) {
    const Obligors& obligors = w.plan.obligors;
    GPULOAN_ROLLED
    for (i32 k = w.team.rank(); k < w.plan.size.n_early; k += Team::size) {
        const i32 p = obligors.early[k];
        const Levels levels = levels_ahead(w.plan, w.run, w.row, obligors.klass[p]);
        const i32 month = default_month(w.plan, w.run, w.row, p, obligor_word(w, p), levels);
        if (month == NEVER) continue;
        w.m.months[obligors.facts[4 * p]] = month;
        atomicAdd(&w.m.marks[month].hits, 1);
    }
}

// Lists those parties by month: those of month t end at marks[t].hits.
template <class Team>
GPULOAN_DEVICE void list_early(Walker<Team>& w) {
    if (w.team.rank() == 0 && w.plan.size.n_early > 0) {
        i32 first = 0;
        GPULOAN_ROLLED
        for (i32 t = 0; t <= w.plan.size.horizon; ++t) {
            const i32 n = w.m.marks[t].hits;
            w.m.marks[t].hits = first;
            first += n;
        }
    }
    w.team.sync();
    GPULOAN_ROLLED
    for (i32 k = w.team.rank(); k < w.plan.size.n_early; k += Team::size) {
        const i32 party = w.plan.obligors.facts[4 * w.plan.obligors.early[k]], month = w.m.months[party];
        if (month != NEVER) w.m.hits[next_place(&w.m.marks[month].hits)] = party;
    }
}

constexpr i32 INFINITE = 0x7F800000;  // bits of a theta that no hazard reaches

// (3.4) theta of the parties that the book's own chips can bring down.
template <class Team>
GPULOAN_DEVICE void draw_watched(Walker<Team>& w) {
    float* const thetas = &w.m.theta[0].x;
    GPULOAN_ROLLED
    for (i32 k = w.team.rank(); k < 8 * w.plan.size.n_eights; k += Team::size) {
        const i32 p = w.plan.obligors.watched[k];
        thetas[k] = p < 0 ? bits_float(INFINITE) : own_threshold(w.plan, w.run, w.row, p, obligor_word(w, p));
    }
}

GPULOAN_DEVICE float least_of(Quad theta) { return least(least(theta.x, theta.y), least(theta.z, theta.w)); }

// Which of four a level has reached, a bit each.
GPULOAN_DEVICE u32 reached(float level, Quad theta) {
    return (level >= theta.x) | (level >= theta.y) << 1 | (level >= theta.z) << 2 | (level >= theta.w) << 3;
}

// (3.5) watched parties that default in month t, eight of one class a thread: four, and four half the list further, so that
// neighbours read neighbours. Which zero is the least changes no comparison.
template <class Team>
GPULOAN_DEVICE void watch(Walker<Team>& w, i32 t) {
    const Obligors& obligors = w.plan.obligors;
    const i32 n_eights = w.plan.size.n_eights;
    GPULOAN_ROLLED
    for (i32 k = w.team.rank(); k < n_eights; k += Team::size) {
        const float level = w.m.level[obligors.watched_class[k]];
        const Quad low = w.m.theta[k], high = w.m.theta[n_eights + k];
        if (!(level >= least(least_of(low), least_of(high)))) continue;
        u32 left = reached(level, low) | reached(level, high) << 4;
        GPULOAN_ROLLED
        for (; left != 0; left &= left - 1) {
            const i32 bit = __popc(~left & (left - 1));  // the lowest
            const i32 place = bit < 4 ? 4 * k + bit : 4 * (n_eights + k - 1) + bit;
            const i32 party = obligors.watched_party[static_cast<u32>(place)];
            (&w.m.theta[0].x)[place] = bits_float(INFINITE);  // never again
            w.m.months[party] = t;
            w.m.fallen[next_place(w.m.counters + FALLEN)] = party;
        }
    }
}

// Plain loans of parties, once their months are all known.
template <class Team>
GPULOAN_DEVICE void count_plain_loans(const Walker<Team>& w) {
    if (!w.is_active || w.plan.size.n_plain == 0) return;
    GPULOAN_ROLLED
    for (i32 party = w.team.rank(); party < w.plan.size.n_parties; party += Team::size) {
        const i32 month = w.m.months[party];
        const Span plain = hand_of(w, party).plain;
        if (month != NEVER) plain_loans_default(w.plan, w.run, w.row, plain.first, plain.end, month);
    }
}

// Obligors of plain loans alone whose hazards were known only after the horizon.
template <class Team>
GPULOAN_DEVICE void decide_late(Walker<Team>& w) {
    const Size& size = w.plan.size;
    GPULOAN_ROLLED
    for (i32 p = size.first_late + w.team.rank(); p < size.first_watched; p += Team::size) {
        const Levels levels = {w.m.log_hazard + w.plan.obligors.klass[p] * (size.horizon + 1), 1};
        const i32 month = default_month(w.plan, w.run, w.row, p, obligor_word(w, p), levels);
        if (month != NEVER && w.is_active) obligor_defaults(w.plan, w.run, w.row, p, month);
    }
}

// The parties that default in month t, those decided early and those watched, with the contracts and loans in their hands.
template <class Team>
GPULOAN_DEVICE void parties_default(Walker<Team>& w, i32 t, Share share) {
    GPULOAN_ROLLED
    for (i32 k = share.rank / FINGERS; k < w.m.counters[FALLEN]; k += share.size / FINGERS) {
        const i32 early = w.m.marks[t - 1].hits + k;
        const Hand hand = hand_of(w, early < w.m.marks[t].hits ? w.m.hits[early] : w.m.fallen[k]);
        lose_contracts(w, t, hand.contracts, share.rank % FINGERS);
        parent_defaults(w, t, hand.loans, share.rank % FINGERS);
    }
}

// What all threads read of month t, written by one: lists that are empty yet, and contracts that are due, by the tape and those
// renewed renewal_term months ago.
template <class Team>
GPULOAN_DEVICE void begin_month(Walker<Team>& w, i32 t) {
    if (w.team.rank() != 0) return;
    const Recovery& recovery = w.plan.recovery;
    const i32 before = t - recovery.renewal_term;
    Mark& mark = w.m.marks[t];
    const Mark last = w.m.marks[t - 1];
    Note note = {0, w.month.due.end - w.month.due.first, recovery.renewal[w.ahead(w.run.regime, t)], 0};
    if (before >= 1) {
        note.first_due = w.m.marks[before - 1].renewed;
        note.n_due += w.m.marks[before].renewed - note.first_due;
    }
    *w.m.note = note;
    mark.renewed = last.renewed;
    w.m.counters[FALLEN] = mark.hits - last.hits;
    w.m.counters[BEFORE + (t & 1)] = w.m.counters[DEFAULTED];
}

// Month t up to the horizon: between two barriers everything is written by one thread or by integer atomics. The workouts of the
// month before stand beside the market, which their chips reach a month later at the earliest.
template <class Team>
GPULOAN_DEVICE void step_month(Walker<Team>& w, i32 t) {
    const Share lower = w.team.lower(), upper = w.team.upper();
    w.month = month_of(w, t);
    if (w.team.leads()) {
        step_market(w, t);
        begin_month(w, t);
    }
    if (upper.is_ours) {
        open_workouts(w, t - 1, upper);
        open_loans(w, upper);
    }
    w.team.sync();
    if (w.plan.size.n_eights > 0) {
        watch(w, t);
        w.team.sync();
    }
    if (lower.is_ours) {
        parties_default(w, t, lower);
        look_ahead(w, t);
    }
    if (upper.is_ours) step_contracts(w, t, upper);
    w.team.sync();
    pay_loans(w, t);
    if (upper.is_ours) mature_loans(w, t, upper);
    w.team.sync();
}

// Months 1 to T; after the horizon only while chips are left to sell.
template <class Team>
GPULOAN_DEVICE void walk_path(Walker<Team>& w) {
    start_loans(w);
    start_contracts(w);
    start_lists(w);
    start_market(w);
    w.team.sync();
    decide_early(w);
    draw_watched(w);
    w.team.sync();
    list_early(w);
    w.team.sync();
    const i32 horizon = w.plan.size.horizon;
    GPULOAN_ROLLED
    for (i32 t = 1; t <= horizon; ++t) step_month(w, t);
    open_workouts(w, horizon, w.team.all());
    w.team.sync();
    GPULOAN_ROLLED
    for (i32 t = horizon + 1; t <= w.plan.size.n_months; ++t) {
        if (!w.team.any(t <= w.m.counters[LAST_SALE])) break;
        if (w.team.leads()) step_market(w, t);
        w.team.sync();
    }
    decide_late(w);
    count_plain_loans(w);
    settle_defaults(w);
    w.team.sync();
}

// The paths of a launch: each team takes one, then those that follow a whole grid of teams later. Teams of a warp stay
// together: one without a path of its own walks beside the others on the last path.
template <class Team, bool IS_SHARED>
GPULOAN_DEVICE void walk_paths(const Plan& plan, const Run& run, u8* shared) {
    constexpr bool IS_SPLIT = Team::blocks > 1;  // the state of loans is in shared memory, the rest of the hot memory is not
    const Team team;
    const Places& places = plan.memory;
    const i64 begin = static_cast<i64>(blockIdx.x) / Team::blocks * Team::teams;
    const i64 step = static_cast<i64>(gridDim.x) / Team::blocks * Team::teams;
    const i32 beside = IS_SPLIT ? places.state : IS_SHARED ? 0 : places.hot_bytes;  // hot memory in the arena
    u8* const arena = run.arena + (begin + team.place()) * (places.cold_bytes + beside);
    u8* const hot = IS_SHARED && !IS_SPLIT ? shared + team.place() * places.hot_bytes : arena + places.cold_bytes;
    if (IS_SPLIT) team.sync();  // no block reaches into another that has not begun
    GPULOAN_ROLLED
    for (i64 first = begin; first < run.n_paths; first += step) {
        const i64 row = first + team.place();
        const bool is_active = row < run.n_paths;
        Walker<Team> w = {plan, run, team, memory_at(places, hot, arena), is_active ? row : run.n_paths - 1, is_active, {}};
        if constexpr (IS_SPLIT) w.m.state = at<float>(shared, 0);
        walk_path(w);
    }
}

}  // namespace gpuloan
