// Cash of all GPU loans in a month (docs/model.md 5.3-5.6): loans over the team's threads, events into a queue.
#pragma once

#include "contracts.cuh"
#include "loans.cuh"
#include "recovery.cuh"
#include "world.cuh"

namespace gpuloan {

// In the place of breaches: loans that the loop over lanes passes over.
constexpr float DEAD = -1.0f, WAITING = -2.0f, MATURING = -3.0f;
constexpr i32 CAUSE_BITS = 3;

// (5.3) interest of this month.
template <class Team>
GPULOAN_DEVICE float rate_of(const Walker<Team>& w, i32 loan) {
    const Quad* const slots = slots_of(w, loan);
    return monthly_rate(terms_of(w, slots[TILE].w).first.x, w.month.base_rate, slots[0].w);
}

// (5.6) value of the loan's chips in service.
template <class Team>
GPULOAN_DEVICE float collateral(const Walker<Team>& w, i32 t, i32 loan) {
    float value = ZERO;
    GPULOAN_ROLLED
    for (i32 j = 0; j < w.plan.loans.n_deployments[loan]; ++j) {
        const Deployment& deployment = deployment_of(w, j * w.plan.size.n_loans + loan);
        if (deployment.start > t) continue;
        value = fma(deployment.unit_share, value_of(w, t, deployment), value);
    }
    return value;
}

// What the compiler may know of a book in a month, so that the loop over lanes is left with less: N, slots a loan (0: any);
// SERVE, all chips are in service; CAPS, some loan has an LTV cap.
template <i32 N_, bool SERVE_, bool CAPS_>
struct Kind {
    static constexpr i32 N = N_;
    static constexpr bool SERVE = SERVE_, CAPS = CAPS_;
};
using AnyKind = Kind<0, false, true>;

// (5.3) one deployment's revenue and cost join. Chips that are not in service have no hours: fma(0, x, y) is y.
template <class Kind, class Team>
GPULOAN_DEVICE void add_slot(const Walker<Team>& w, i32 t, i32 loan, i32 j, float let_rate, Quad slot, float& revenue,
                             float& cost) {
    float hours = slot.x, opex = slot.y;
    if (!Kind::SERVE && w.plan.deployments.start[j * w.plan.size.n_loans + loan] > t) hours = opex = ZERO;
    const u8* const prices = reinterpret_cast<const u8*>(w.m.spot);
    const float spot = *reinterpret_cast<const float*>(prices + static_cast<u32>(float_bits(slot.z)));
    revenue = add_revenue(revenue, hours, let_rate, spot);
    cost = fma(opex, w.month.cost_growth, cost);
}

// Rates of N contracts, read at once.
template <i32 N>
struct alignas(N == 2 ? 8 : 4) Rates {
    float of[N];
};

// (5.3) NOI of a loan whose quads of slots are at hand, or begin at `slots`.
template <class Kind, class Team>
GPULOAN_DEVICE float net_income(const Walker<Team>& w, i32 t, i32 loan, const float* rates, const Quad* slots) {
    float revenue = ZERO, cost = ZERO;
    if constexpr (Kind::N > 0) {
        const Rates<Kind::N> let = *reinterpret_cast<const Rates<Kind::N>*>(rates);
        GPULOAN_UNROLLED
        for (i32 j = 0; j < Kind::N; ++j) add_slot<Kind>(w, t, loan, j, let.of[j], slots[j], revenue, cost);
    } else {
        GPULOAN_ROLLED
        for (i32 j = 0; j < w.plan.size.n_slots; ++j) {
            add_slot<Kind>(w, t, loan, j, rates[j], slots[j * TILE], revenue, cost);
        }
    }
    return revenue - cost;
}

// A default, handled once all are known: the loop over lanes passes over the loan, whose `breaches` say so. `why` is its cause as
// if no tenant were lost.
template <class Team>
GPULOAN_DEVICE void queue_default(Walker<Team>& w, float& breaches, i32 loan, i32 why) {
    breaches = DEAD;
    w.m.queue[next_place(w.m.counters + QUEUED)] = loan << CAUSE_BITS | why;
}

// What begins for a loan in a month, in the low bits of `opening`.
constexpr i32 DRAWS = 0, BEGINS = 1, MATURES = 2, OPENING_BITS = 2;

// Before the month's cash: draws, service that begins, loans that mature.
template <class Team>
GPULOAN_DEVICE void open_loans(Walker<Team>& w, Share share) {
    if (!share.is_ours) return;
    const Span opening = w.month.opening;
    GPULOAN_ROLLED
    for (i32 k = opening.first + share.rank; k < opening.end; k += share.size) {
        const i32 entry = w.plan.lists.opening[k], loan = entry >> OPENING_BITS, what = entry & ((1 << OPENING_BITS) - 1);
        float* const state = state_of(w, loan);
        if (what == DRAWS) {
            state[BALANCE] = state[BALANCE] + w.plan.loans.undrawn[loan];  // of a loan that is DEAD nobody reads it
        } else if (what == MATURES && state[BREACHES] != DEAD) {
            state[BREACHES] = MATURING;
        } else if (what == BEGINS && state[BREACHES] == WAITING) {
            state[BREACHES] = ZERO;
        }
    }
}

// In the bits of a fate.
constexpr i32 PULLED_IN = 1, STEPS_IN = 2, LAG_SHIFT = 2;

// What a default of the loan takes from its draw (5.5, 6.2, 6.3): for all loans before month 1, 32 at once, where in its month
// a default would keep a warp to itself.
template <class Team>
GPULOAN_DEVICE Fate draw_fate(const Walker<Team>& w, i32 loan) {
    const Recovery& recovery = w.plan.recovery;
    const Words words = draw(w.run.seed, w.path(), LOAN, 0, w.plan.loans.key[loan]);
    const i32 pulled_in = event_word(words.w0) < w.plan.loans.pulled_in[loan] ? PULLED_IN : 0;
    const i32 steps_in = event_word(words.w1) < recovery.step_in ? STEPS_IN : 0;
    const i32 lag = sale_lag(recovery.lag_table, words.w2, recovery.lag_max);
    return {lag << LAG_SHIFT | steps_in | pulled_in, share_of_table(recovery.haircut_table, words.w3)};
}

// (5.4), (5.5) support of a party's loans is gone; the SPV may be pulled in.
template <class Team>
GPULOAN_DEVICE void parent_defaults(Walker<Team>& w, Span loans) {
    GPULOAN_ROLLED
    for (i32 k = loans.first; k < loans.end; ++k) {
        const i32 loan = w.plan.lists.parent[k];
        float* const state = state_of(w, loan);
        state[SUPPORT] = ZERO;
        if (state[BREACHES] != DEAD && w.m.fates[loan].bits & PULLED_IN) queue_default(w, state[BREACHES], loan, PARENT);
    }
}

// (5.3)-(5.5) a month of a loan that neither waits nor matures.
template <class Kind, class Team>
GPULOAN_DEVICE void pay_loan(Walker<Team>& w, i32 t, i32 loan, Quad state, Quad& place, const float* rates,
                             const Quad* slots, float scheduled) {
    const Quad quads[2] = {slots[0], slots[TILE]};
    const Terms& terms = terms_of(w, quads[1].w);
    const Quad first = terms.first, second = terms.second;
    const float balance = state.x, reserve = state.y, support = state.z, breaches = state.w;
    const float principal = least(balance, scheduled);
    const float income = net_income<Kind>(w, t, loan, rates, Kind::N > 0 ? quads : slots);
    const float service = debt_service(balance, monthly_rate(first.x, w.month.base_rate, quads[0].w), principal);
    const float count = income < first.y * service ? breaches + ONE : ZERO;
    const bool falls_short = is_short(shortfall(service, income), reserve, support);
    if (falls_short | (count >= first.z)) {
        queue_default(w, place.w, loan, cause_of(falls_short, false, false));
        return;
    }
    bool locked = income < first.w * service;
    if (Kind::CAPS && second.w > ZERO) locked = locked | (balance > second.w * collateral(w, t, loan));
    const Funds funds =
        pay(balance, reserve, support, principal, service, income, second.x, locked ? ONE : second.y);
    const bool is_repaid = funds.balance <= REPAID_BELOW && float_bits(second.z) <= t;
    place = {funds.balance, funds.reserve, funds.support, is_repaid ? DEAD : count};
}

// Where a thread's loan has its rows.
struct Rows {
    const float* principal;
    float* state;
    const float* rates;
    const Quad* slots;
};

template <class Kind, class Team>
GPULOAN_DEVICE Rows rows_of(const Walker<Team>& w, i32 t, i32 loan) {
    return {w.plan.loans.principal + static_cast<u32>(t * w.plan.size.n_loans + loan), state_of<Kind::N, true>(w, loan),
            rates_of<Kind::N, true>(w, loan), slots_of<Kind::N>(w, loan)};
}

// Those of the thread's k-th loan from there.
template <class Kind, class Team>
GPULOAN_DEVICE Rows rows_after(const Rows& rows, i32 k) {
    constexpr i32 TILES = Team::size / TILE, OWN = Team::block_size / TILE, FLOATS = ROW + Kind::N * TILE;
    return {rows.principal + k * Team::size, rows.state + k * (OWN * FLOATS), rows.rates + k * (OWN * FLOATS),
            rows.slots + k * (TILES * quads_of(Kind::N) * TILE)};
}

// (5.3) a loan's month; one that waits for its chips is charged interest.
template <class Kind, class Team>
GPULOAN_DEVICE void step_loan(Walker<Team>& w, i32 t, i32 loan, const Rows& rows) {
    Quad& place = *reinterpret_cast<Quad*>(rows.state);
    const Quad quad = place;
    if (quad.w >= ZERO) {
        pay_loan<Kind>(w, t, loan, quad, place, rows.rates, rows.slots, *rows.principal);
    } else if (!Kind::SERVE && quad.w == WAITING) {  // once all chips are in service no loan waits for its first
        place.x = exposure(quad.x, rate_of(w, loan));
    }
}

// (5.3) of all loans. Where the next loan's rows are at a fixed distance, four share the loop's own instructions.
template <class Kind, class Team>
GPULOAN_DEVICE void pay_loans_of(Walker<Team>& w, i32 t) {
    constexpr i32 SIZE = Team::size, COPIES = 4;
    const i32 n = lanes_in_use(w);
    i32 loan = w.team.rank();
    if constexpr (Kind::N > 0 && SIZE % TILE == 0) {
        Rows rows = rows_of<Kind>(w, t, loan);
        GPULOAN_ROLLED
        for (; loan + (COPIES - 1) * SIZE < n; loan += COPIES * SIZE, rows = rows_after<Kind, Team>(rows, COPIES)) {
            GPULOAN_UNROLLED
            for (i32 k = 0; k < COPIES; ++k) step_loan<Kind>(w, t, loan + k * SIZE, rows_after<Kind, Team>(rows, k));
        }
    }
    GPULOAN_ROLLED
    for (; loan < n; loan += SIZE) step_loan<Kind>(w, t, loan, rows_of<Kind>(w, t, loan));
}

// Written out for what most books are in most months: one or two deployments a loan, all in service, no caps.
template <class Team>
GPULOAN_DEVICE void pay_loans(Walker<Team>& w, i32 t) {
    const Size& size = w.plan.size;
    const bool is_plain = !size.has_caps && t >= size.latest_start;
    if (is_plain && size.n_slots == 1) {
        pay_loans_of<Kind<1, true, false>>(w, t);
    } else if (is_plain && size.n_slots == 2) {
        pay_loans_of<Kind<2, true, false>>(w, t);
    } else {
        pay_loans_of<AnyKind>(w, t);
    }
}

// (5.3)-(5.5) the whole balance is due, unless a new lender takes it over.
template <class Team>
GPULOAN_DEVICE void mature_loan(Walker<Team>& w, i32 t, i32 loan) {
    const Loans& loans = w.plan.loans;
    float* const state = state_of(w, loan);
    const float balance = state[BALANCE], reserve = state[RESERVE], support = state[SUPPORT];
    const float income = net_income<AnyKind>(w, t, loan, rates_of(w, loan), slots_of(w, loan));
    float principal = balance;
    if (loans.refinance_ltv[loan] > ZERO && is_refinanced(balance, loans.refinance_ltv[loan], collateral(w, t, loan))) {
        principal = ZERO;
    }
    const float service = debt_service(balance, rate_of(w, loan), principal);
    if (is_short(shortfall(service, income), reserve, support)) {
        queue_default(w, state[BREACHES], loan, cause_of(true, true, false));
        return;
    }
    const Funds funds = pay(balance, reserve, support, balance, service, income, ZERO, ONE);
    state[BALANCE] = ZERO;
    state[RESERVE] = funds.reserve;
    state[SUPPORT] = funds.support;
    // Another thread may read the loan's quad in this interval, in `pay_loans`, which passes over MATURING and DEAD alike and
    // then uses nothing else of it; a loan is never drawn after its term (a rule of the inputs), so ZERO does not occur.
    state[BREACHES] = loans.draw_month[loan] <= t ? DEAD : ZERO;
}

template <class Team>
GPULOAN_DEVICE void mature_loans(Walker<Team>& w, i32 t, Share share) {
    if (!share.is_ours) return;
    const Span maturing = w.month.maturing;
    GPULOAN_ROLLED
    for (i32 k = maturing.first + share.rank; k < maturing.end; k += share.size) {
        const i32 loan = w.plan.lists.maturing[k];
        if (state_of(w, loan)[BREACHES] == MATURING) mature_loan(w, t, loan);
    }
}

}  // namespace gpuloan
