// Defaults of GPU loans and the sales that end them (docs/model.md 6).
#pragma once

#include "lanes.cuh"

namespace gpuloan {

// (6.2) what is left after a kept deployment, or after the claim that its tenant's default left.
template <class Team>
GPULOAN_DEVICE float after_contract(const Walker<Team>& w, i32 t, i32 d, bool is_kept, float haircut, float rest) {
    const Deployments& deployments = w.plan.deployments;
    const Recovery& recovery = w.plan.recovery;
    const i32 left = months_left(w.m.contract_end[d], t);
    const float rate = is_kept ? let_rate(w, d) : w.m.claim_rate[d];
    const float contract = contract_value(deployments.hours[d], rate, deployments.opex[d], recovery.cost_growth[t],
                                          recovery.opex_stress, recovery.contract_annuity[left]);
    if (!is_kept) return after_claim(rest, deployments.claim_recovery[d], contract);
    const i32 g = deployments.generation[d], n = w.plan.size.n_generations;
    const float chips = deployments.unit_share[d] * value_of(w, t, deployments.vintage[d]);
    const float later = w.plan.market.annuity[(t + left) * n + g] * recovery.inverse_annuity[t * n + g];
    return rest - kept_value(contract, recovery.performance, chips, later, recovery.chip_discount[left], haircut,
                             recovery.sale_keep);
}

// (6.3) chips of a draw that has lapsed are not sold.
GPULOAN_DEVICE bool has_lapsed(const Plan& plan, i32 t, i32 loan, i32 d) {
    const i32 draw_month = plan.loans.draw_month[loan];
    return draw_month > t && plan.deployments.in_service[d] >= draw_month;
}

// Where the workouts that end in a month are listed. A row is used again once its month is over: lags are shorter than the
// rows are many.
template <class Team>
GPULOAN_DEVICE i32* sales_of(const Walker<Team>& w, i32 month) {
    return w.m.sales + static_cast<i64>(month & (w.plan.size.sale_rows - 1)) * w.plan.size.n_loans;
}

// (6.1), (6.2) and the month of the sale; `why` is the cause as if no tenant were lost.
template <class Team>
GPULOAN_DEVICE void open_workout(Walker<Team>& w, i32 t, i32 loan, i32 why) {
    const Fate fate = w.m.fates[loan];
    const bool steps_in = fate.bits & STEPS_IN;
    const float* const state = state_of(w, loan);
    const float ead = exposure(state[BALANCE], rate_of(w, t, loan));
    float rest = ead - state[RESERVE];
    i32 sold = 0, all = 0;
    GPULOAN_ROLLED
    for (i32 j = 0; j < w.plan.loans.n_deployments[loan]; ++j) {
        const i32 d = j * w.plan.size.n_loans + loan;
        const u8 contract = w.m.contract_state[d];
        const bool is_kept = steps_in && contract & LET && w.plan.deployments.start[d] <= t;
        if (is_kept || contract & CLAIM) rest = after_contract(w, t, d, is_kept, fate.haircut, rest);
        if (!is_kept && !has_lapsed(w.plan, t, loan, d)) sold |= 1 << j;
        w.m.contract_state[d] = static_cast<u8>(contract & ~LET);
        all |= contract;
    }
    const i32 cause = why == PARENT ? PARENT : cause_of(why != COVENANT, why == MATURITY, (all & CLAIM) != 0);
    const i32 lag = fate.bits >> LAG_SHIFT, month = t + lag, place = next_place(w.m.counters + DEFAULTED);
    w.m.workouts[place] = {ead, rest, fate.haircut, loan, t << CAUSE_BITS | cause, sold, lag, 0};
    sales_of(w, month)[next_place(w.m.sale_count + month)] = place;
    atomicMax(w.m.counters + LAST_SALE, month);
}

// The defaults of month t, a thread each.
template <class Team>
GPULOAN_DEVICE void open_workouts(Walker<Team>& w, i32 t) {
    GPULOAN_ROLLED
    for (i32 k = w.team.rank(); k < w.m.counters[QUEUED]; k += Team::size) {
        const i32 entry = w.m.queue[k];
        open_workout(w, t, entry >> CAUSE_BITS, entry & ((1 << CAUSE_BITS) - 1));
    }
}

// (6.3) proceeds, (6.4) loss.
template <class Team>
GPULOAN_DEVICE void sell(Walker<Team>& w, i32 t, Workout& place) {
    const Deployments& deployments = w.plan.deployments;
    const Recovery& recovery = w.plan.recovery;
    const Workout workout = place;
    const float lag = static_cast<float>(workout.lag);
    float total = ZERO;
    GPULOAN_ROLLED
    for (i32 j = 0; workout.sold >> j != 0; ++j) {
        if (!(workout.sold >> j & 1)) continue;
        const i32 d = j * w.plan.size.n_loans + workout.loan;
        const float depth = w.plan.market.inverse_depth[t * w.plan.size.n_generations + deployments.generation[d]];
        const float price = sale_price(value_of(w, t, deployments.vintage[d]), workout.haircut,
                                       deployments.sale_pressure[d], depth, recovery.sale_keep);
        const float storage = recovery.storage_share * (deployments.hourly_opex[d] * recovery.cost_growth[t]);
        total = add_proceeds(total, deployments.unit_share[d], price, storage, lag);
        u8 state = w.m.contract_state[d];
        release(w, d, state);
        w.m.contract_state[d] = state;
    }
    place.rest = loss(w.plan.loans.kept_share[workout.loan], workout.rest, recovery.lender_discount[workout.lag],
                      greatest(total, ZERO));
}

// The sales of month t, a thread each.
template <class Team>
GPULOAN_DEVICE void settle_sales(Walker<Team>& w, i32 t) {
    const i32* const sales = sales_of(w, t);
    GPULOAN_ROLLED
    for (i32 k = w.team.rank(); k < w.m.sale_count[t]; k += Team::size) sell(w, t, w.m.workouts[sales[k]]);
}

// A path's defaults join the integers of the run, all when the last chips are sold: 32 at once.
template <class Team>
GPULOAN_DEVICE void count_defaults(const Walker<Team>& w) {
    if (!w.is_active) return;
    GPULOAN_ROLLED
    for (i32 k = w.team.rank(); k < w.m.counters[DEFAULTED]; k += Team::size) {
        const Workout workout = w.m.workouts[k];
        const double commitment = w.plan.loans.commitment_cents[workout.loan];
        const i32 index = w.plan.loans.index[workout.loan], month = workout.month_cause >> CAUSE_BITS;
        const i32 cause = workout.month_cause & ((1 << CAUSE_BITS) - 1);
        const i64 ead = to_cents(commitment, workout.ead), lost = to_cents(commitment, workout.rest);
        add_to_path(w.plan, w.run, w.row, index, month, cause, ead, lost);
        add_to_loan(w.run, index, cause, ead, lost, 1);
    }
}

}  // namespace gpuloan
