// Cash of all GPU loans in a month (docs/model.md 5.3-5.6): loans over the team's threads, defaults into a list.
#pragma once

#include "contracts.cuh"
#include "loans.cuh"
#include "recovery.cuh"
#include "world.cuh"

namespace gpuloan {

// In the place of breaches: loans that the loop over lanes passes over.
constexpr float DEAD = -1.0f, WAITING = -2.0f, MATURING = -3.0f;
constexpr i32 CAUSE_BITS = 3;

// (5.3) interest of a month with this base rate.
template <class Team>
GPULOAN_DEVICE float rate_of(const Walker<Team>& w, i32 loan, float base_rate) {
    const Quad* const slots = slots_of(w, loan);
    return monthly_rate(terms_of(w, slots[TILE]).first.x, base_rate, slots[0].w);
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

// Below, N is what the compiler may know of a book in a month, so that the loop over lanes is left with less: slots a loan, where
// all chips are in service, all loans drawn and no loan has an LTV cap. 0: nothing.
constexpr i32 ANY = 0;

// (5.3) one deployment's revenue and cost join. Chips that are not in service have no hours: fma(0, x, y) is y.
template <i32 N, class Team>
GPULOAN_DEVICE void add_slot(const Walker<Team>& w, i32 t, i32 loan, i32 j, float let_rate, Quad slot, float& revenue,
                             float& cost) {
    float hours = slot.x, opex = slot.y;
    if (N == ANY && w.plan.deployments.start[j * w.plan.size.n_loans + loan] > t) hours = opex = ZERO;
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
template <i32 N, class Team>
GPULOAN_DEVICE float net_income(const Walker<Team>& w, i32 t, i32 loan, const float* rates, const Quad* slots) {
    float revenue = ZERO, cost = ZERO;
    if constexpr (N > 0) {
        const Rates<N> let = *reinterpret_cast<const Rates<N>*>(rates);
        GPULOAN_UNROLLED
        for (i32 j = 0; j < N; ++j) add_slot<N>(w, t, loan, j, let.of[j], slots[j], revenue, cost);
    } else {
        GPULOAN_ROLLED
        for (i32 j = 0; j < w.plan.size.n_slots; ++j) {
            add_slot<N>(w, t, loan, j, rates[j], slots[j * TILE], revenue, cost);
        }
    }
    return revenue - cost;
}

// A default, handled once all are known. `why` is its cause as if no tenant were lost. The loop over lanes passes over a loan
// whose breaches are DEAD: the caller says so.
template <class Team>
GPULOAN_DEVICE void add_default(Walker<Team>& w, i32 t, i32 loan, i32 why, float balance, float reserve) {
    const i32 place = next_place(w.m.counters + DEFAULTED);
    *reinterpret_cast<Quad*>(w.m.workouts + place) = {balance, reserve, bits_float(loan), bits_float(t << CAUSE_BITS | why)};
}

// What begins for a loan in a month, in the low bits of `opening`.
constexpr i32 DRAWS = 0, BEGINS = 1, MATURES = 2, OPENING_BITS = 2;

// Before the month's cash: draws, service that begins, loans that mature.
template <class Team>
GPULOAN_DEVICE void open_loans(Walker<Team>& w, Share share) {
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
    const Words words = draw(w.run, w.path(), LOAN, 0, w.plan.loans.key[loan]);
    const i32 pulled_in = event_word(words.w0) < w.plan.loans.pulled_in[loan] ? PULLED_IN : 0;
    const i32 steps_in = event_word(words.w1) < recovery.step_in ? STEPS_IN : 0;
    const i32 lag = sale_lag(recovery.lag_table, words.w2, recovery.lag_max);
    return {lag << LAG_SHIFT | steps_in | pulled_in, words.w3};
}

// (5.4), (5.5) support of a party's loans is gone; the SPV may be pulled in.
template <class Team>
GPULOAN_DEVICE void parent_defaults(Walker<Team>& w, i32 t, Span loans, i32 finger) {
    GPULOAN_ROLLED
    for (i32 k = loans.first + finger; k < loans.end; k += FINGERS) {
        const i32 loan = w.plan.lists.parent[k];
        float* const state = state_of(w, loan);
        state[SUPPORT] = ZERO;
        if (state[BREACHES] != DEAD && w.m.fates[loan].bits & PULLED_IN) {
            state[BREACHES] = DEAD;
            add_default(w, t, loan, PARENT, state[BALANCE], state[RESERVE]);
        }
    }
}

// Where a thread's loan has its rows.
struct Rows {
    const float* principal;
    float* state;
    const float* rates;
    const Quad* slots;
};

template <i32 N, class Team>
GPULOAN_DEVICE Rows rows_of(const Walker<Team>& w, i32 t, i32 loan) {
    return {w.plan.loans.principal + static_cast<u32>(t * w.plan.size.n_loans + loan), state_of<N, true>(w, loan),
            rates_of<N, true>(w, loan), slots_of<N>(w, loan)};
}

// Those of the thread's k-th loan from there, where that is at a fixed distance.
template <i32 N, class Team>
GPULOAN_DEVICE Rows rows_after(const Rows& rows, i32 k) {
    constexpr i32 FLOATS = Team::block_size / TILE * (ROW + N * TILE), QUADS = Team::size * quads_of(N);
    return {rows.principal + k * Team::size, rows.state + k * FLOATS, rows.rates + k * FLOATS, rows.slots + k * QUADS};
}

// (5.3)-(5.5) a month of a loan that neither waits nor matures.
template <i32 N, class Team>
GPULOAN_DEVICE void pay_loan(Walker<Team>& w, i32 t, i32 loan, Quad state, Quad& place, const Rows& rows) {
    const Quad quads[2] = {rows.slots[0], rows.slots[TILE]};
    const Terms& terms = terms_of(w, quads[1]);
    const Quad first = terms.first, second = terms.second;
    const float balance = state.x, reserve = state.y, support = state.z, breaches = state.w;
    const float principal = least(balance, *rows.principal);
    const float income = net_income<N>(w, t, loan, rows.rates, N > 0 ? quads : rows.slots);
    const float service = debt_service(balance, monthly_rate(first.x, w.month.base_rate, quads[0].w), principal);
    const float count = income < first.y * service ? breaches + ONE : ZERO;
    const bool falls_short = is_short(shortfall(service, income), reserve, support);
    const bool is_default = falls_short | (count >= first.z);
    bool locked = income < first.w * service;
    if (N == ANY && second.w > ZERO) locked = locked | (balance > second.w * collateral(w, t, loan));
    const Funds funds = pay(balance, reserve, support, principal, service, income, second.x, locked ? ONE : second.y);
    const bool is_repaid = funds.balance <= REPAID_BELOW && (N > 0 || float_bits(second.z) <= t);
    place = {funds.balance, funds.reserve, funds.support, is_default | is_repaid ? DEAD : count};
    if (is_default) add_default(w, t, loan, cause_of(falls_short, false, false), balance, reserve);
}

// (5.3) a loan's month; one that waits for its chips is charged interest.
template <i32 N, class Team>
GPULOAN_DEVICE void step_loan(Walker<Team>& w, i32 t, i32 loan, const Rows& rows) {
    Quad& place = *reinterpret_cast<Quad*>(rows.state);
    const Quad state = place;
    if (state.w >= ZERO) {
        pay_loan<N>(w, t, loan, state, place, rows);
    } else if (N == ANY && state.w == WAITING) {  // once all chips are in service no loan waits for its first
        place.x = exposure(state.x, rate_of(w, loan, w.month.base_rate));
    }
}

// (5.3) of all loans. Where a thread's loans are at a fixed distance, four share the loop's own instructions.
template <i32 N, class Team>
GPULOAN_DEVICE void pay_loans_of(Walker<Team>& w, i32 t) {
    constexpr i32 SIZE = Team::size, COPIES = 4;
    const i32 n = w.plan.size.n_lanes;
    i32 loan = w.team.rank();
    if constexpr (N > 0 && SIZE % TILE == 0) {
        Rows rows = rows_of<N>(w, t, loan);
        GPULOAN_ROLLED
        for (const i32 last = n - (COPIES - 1) * SIZE; loan < last; loan += COPIES * SIZE) {
            GPULOAN_UNROLLED
            for (i32 k = 0; k < COPIES; ++k) step_loan<N>(w, t, loan + k * SIZE, rows_after<N, Team>(rows, k));
            rows = rows_after<N, Team>(rows, COPIES);
        }
    }
    GPULOAN_ROLLED
    for (; loan < n; loan += SIZE) step_loan<N>(w, t, loan, rows_of<N>(w, t, loan));
}

// Written out for what most books are in most months.
template <class Team>
GPULOAN_DEVICE void pay_loans(Walker<Team>& w, i32 t) {
    if (t < w.plan.size.steady_from) {
        pay_loans_of<ANY>(w, t);
    } else if (w.plan.size.n_slots == 2) {
        pay_loans_of<2>(w, t);
    } else {
        pay_loans_of<1>(w, t);
    }
}

// (5.3)-(5.5) the whole balance is due, unless a new lender takes it over. Nothing of the loan is read again: none is drawn after
// its term (a rule of the inputs). `pay_loans` passes over MATURING and DEAD alike.
template <class Team>
GPULOAN_DEVICE void mature_loan(Walker<Team>& w, i32 t, i32 loan) {
    const Loans& loans = w.plan.loans;
    float* const state = state_of(w, loan);
    const float balance = state[BALANCE], reserve = state[RESERVE], support = state[SUPPORT];
    const float income = net_income<ANY>(w, t, loan, rates_of(w, loan), slots_of(w, loan));
    float principal = balance;
    if (loans.refinance_ltv[loan] > ZERO && is_refinanced(balance, loans.refinance_ltv[loan], collateral(w, t, loan))) {
        principal = ZERO;
    }
    const float service = debt_service(balance, rate_of(w, loan, w.month.base_rate), principal);
    state[BREACHES] = DEAD;
    if (is_short(shortfall(service, income), reserve, support)) {
        add_default(w, t, loan, cause_of(true, true, false), balance, reserve);
    }
}

template <class Team>
GPULOAN_DEVICE void mature_loans(Walker<Team>& w, i32 t, Share share) {
    const Span maturing = w.month.maturing;
    GPULOAN_ROLLED
    for (i32 k = maturing.first + share.rank; k < maturing.end; k += share.size) {
        const i32 loan = w.plan.lists.maturing[k];
        if (state_of(w, loan)[BREACHES] == MATURING) mature_loan(w, t, loan);
    }
}

}  // namespace gpuloan
