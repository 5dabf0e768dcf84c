// Defaults of GPU loans and the sales that end them (docs/model.md 6).
#pragma once

#include "lanes.cuh"

namespace gpuloan {

// (6.2) what is left after a kept deployment, or after the claim that its tenant's default left.
template <class Team>
GPULOAN_DEVICE float after_contract(const Walker<Team>& w, i32 t, const Deployment& deployment, const Contract& contract,
                                    bool is_kept, float haircut, float rest) {
    const Recovery& recovery = w.plan.recovery;
    const i32 left = months_left(contract.end, t);
    const float rate = is_kept ? let_rate(w, deployment) : contract.claim_rate;
    const float value = contract_value(deployment.hours, rate, deployment.opex, w.month.cost_growth,
                                       recovery.opex_stress, recovery.contract_annuity[left]);
    if (!is_kept) return after_claim(rest, deployment.claim_recovery, value);
    const i32 g = deployment.generation, n = w.plan.size.n_generations;
    const float chips = deployment.unit_share * value_of(w, t, deployment);
    const float later = w.plan.market.annuity[(t + left) * n + g] * recovery.inverse_annuity[t * n + g];
    return rest - kept_value(value, recovery.performance, chips, later, recovery.chip_discount[left], haircut,
                             recovery.sale_keep);
}

// (6.3) chips of a draw that has lapsed are not sold.
GPULOAN_DEVICE bool has_lapsed(i32 t, i32 draw_month, const Deployment& deployment) {
    return draw_month > t && deployment.in_service >= draw_month;
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
    const Quad state = *reinterpret_cast<const Quad*>(state_of(w, loan));
    const float ead = exposure(state.x, rate_of(w, loan));
    const i32 draw_month = w.plan.loans.draw_month[loan], n = w.plan.loans.n_deployments[loan];
    float rest = ead - state.y;
    i32 sold = 0, all = 0;
    GPULOAN_ROLLED
    for (i32 j = 0; j < n; ++j) {
        const i32 d = j * w.plan.size.n_loans + loan;
        const Deployment& deployment = deployment_of(w, d);
        const Contract contract = w.m.contracts[d];
        const bool is_kept = steps_in && contract.state & LET && deployment.start <= t;
        if (is_kept || contract.state & CLAIM) {
            rest = after_contract(w, t, deployment, contract, is_kept, fate.haircut, rest);
        }
        if (!is_kept && !has_lapsed(t, draw_month, deployment)) sold |= 1 << j;
        w.m.contracts[d].state = contract.state & ~LET;
        all |= contract.state;
    }
    const i32 cause = why == PARENT ? PARENT : cause_of(why != COVENANT, why == MATURITY, (all & CLAIM) != 0);
    const i32 lag = fate.bits >> LAG_SHIFT, month = t + lag, place = next_place(w.m.counters + DEFAULTED);
    w.m.workouts[place] = {ead, rest, fate.haircut, loan, t << CAUSE_BITS | cause, sold, lag, 0};
    sales_of(w, month)[next_place(&w.m.marks[month].sales)] = place;
    atomicMax(w.m.counters + LAST_SALE, month);
}

// The defaults of month t, a thread each.
template <class Team>
GPULOAN_DEVICE void open_workouts(Walker<Team>& w, i32 t, Share share) {
    if (!share.is_ours) return;
    GPULOAN_ROLLED
    for (i32 k = share.rank; k < w.m.counters[QUEUED]; k += share.size) {
        const i32 entry = w.m.queue[k];
        open_workout(w, t, entry >> CAUSE_BITS, entry & ((1 << CAUSE_BITS) - 1));
    }
}

// (6.3) proceeds, (6.4) loss.
template <class Team>
GPULOAN_DEVICE void sell(Walker<Team>& w, i32 t, Workout& place) {
    const Recovery& recovery = w.plan.recovery;
    const Workout workout = place;
    const float lag = static_cast<float>(workout.lag);
    float total = ZERO;
    GPULOAN_ROLLED
    for (i32 j = 0; workout.sold >> j != 0; ++j) {
        if (!(workout.sold >> j & 1)) continue;
        const i32 d = j * w.plan.size.n_loans + workout.loan;
        const Deployment& deployment = deployment_of(w, d);
        const float depth = w.plan.market.inverse_depth[t * w.plan.size.n_generations + deployment.generation];
        const float price = sale_price(value_of(w, t, deployment), workout.haircut, deployment.sale_pressure, depth,
                                       recovery.sale_keep);
        const float storage = recovery.storage_share * (deployment.hourly_opex * w.month.cost_growth);
        total = add_proceeds(total, deployment.unit_share, price, storage, lag);
        i32 state = w.m.contracts[d].state;
        release(w, deployment, state);
        w.m.contracts[d].state = state;
    }
    place.rest = loss(w.plan.loans.kept_share[workout.loan], workout.rest, recovery.lender_discount[workout.lag],
                      greatest(total, ZERO));
}

// The sales of month t, a thread each.
template <class Team>
GPULOAN_DEVICE void settle_sales(Walker<Team>& w, i32 t, Share share) {
    if (!share.is_ours) return;
    const i32* const sales = sales_of(w, t);
    GPULOAN_ROLLED
    for (i32 k = share.rank; k < w.m.marks[t].sales; k += share.size) sell(w, t, w.m.workouts[sales[k]]);
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
