// Defaults of GPU loans and the sales that end them (docs/model.md 6).
#pragma once

#include "lanes.cuh"

namespace gpuloan {

// (6.3) chips of a draw that has lapsed are not sold.
GPULOAN_DEVICE bool has_lapsed(i32 t, i32 draw_month, const Deployment& deployment) {
    return draw_month > t && deployment.in_service >= draw_month;
}

// (6.1)-(6.3) what a default does to contracts and chips, and when these are sold: their month is known at once. Its cause stands
// in the workout as if no tenant were lost.
template <class Team>
GPULOAN_DEVICE void open_workout(Walker<Team>& w, i32 t, Workout& workout) {
    const i32 loan = workout.loan, why = workout.month_cause & ((1 << CAUSE_BITS) - 1);
    const i32 fate = w.m.fates[loan].bits, lag = fate >> LAG_SHIFT;
    const i32 draw_month = w.plan.loans.draw_month[loan], n = w.plan.loans.n_deployments[loan];
    i32 sold = 0, kept = 0, all = 0;
    GPULOAN_ROLLED
    for (i32 j = 0; j < n; ++j) {
        const i32 d = j * w.plan.size.n_loans + loan;
        const Deployment& deployment = deployment_of(w, d);
        i32 state = w.m.contracts[d].state;
        all |= state;
        if (fate & STEPS_IN && state & LET && deployment.start <= t) {
            kept |= 1 << j;
        } else if (!has_lapsed(t, draw_month, deployment)) {
            sold |= 1 << j;
            release(w, t + lag, deployment, state);
        }
        w.m.contracts[d].state = state & ~LET;
    }
    const i32 cause = why == PARENT ? PARENT : cause_of(why != COVENANT, why == MATURITY, (all & CLAIM) != 0);
    workout.month_cause = t << CAUSE_BITS | cause;
    workout.sold = sold;
    workout.kept = kept;
    workout.lag = lag;
    atomicMax(w.m.counters + LAST_SALE, t + lag);
}

// The defaults of month t, a thread each.
template <class Team>
GPULOAN_DEVICE void open_workouts(Walker<Team>& w, i32 t, Share share) {
    GPULOAN_ROLLED
    for (i32 k = w.m.counters[BEFORE + (t & 1)] + share.rank; k < w.m.counters[DEFAULTED]; k += share.size) {
        open_workout(w, t, w.m.workouts[k]);
    }
}

// (6.2) what is left after a kept deployment, or after the claim that its tenant's default left.
template <class Team>
GPULOAN_DEVICE float after_contract(const Walker<Team>& w, i32 t, const Deployment& deployment, const Contract& contract,
                                    float cost_growth, bool is_kept, float haircut, float rest) {
    const Recovery& recovery = w.plan.recovery;
    const i32 left = months_left(contract.end, t);
    const float rate = is_kept ? let_rate(w, deployment) : contract.claim_rate;
    const float value = contract_value(deployment.hours, rate, deployment.opex, cost_growth, recovery.opex_stress,
                                       recovery.contract_annuity[left]);
    if (!is_kept) return after_claim(rest, deployment.claim_recovery, value);
    const i32 g = deployment.generation, n = w.plan.size.n_generations;
    const float chips = deployment.unit_share * value_of(w, t, deployment);
    const float later = w.plan.market.annuity[(t + left) * n + g] * recovery.inverse_annuity[t * n + g];
    return rest - kept_value(value, recovery.performance, chips, later, recovery.chip_discount[left], haircut,
                             recovery.sale_keep);
}

// (6.2) what is left after all contracts, of a default in month t.
template <class Team>
GPULOAN_DEVICE float after_contracts(const Walker<Team>& w, i32 t, const Workout& workout, float cost_growth, float haircut,
                                     float rest) {
    GPULOAN_ROLLED
    for (i32 j = 0; j < w.plan.loans.n_deployments[workout.loan]; ++j) {
        const i32 d = j * w.plan.size.n_loans + workout.loan;
        const Contract contract = w.m.contracts[d];
        const bool is_kept = workout.kept >> j & 1;
        if (is_kept || contract.state & CLAIM) {
            rest = after_contract(w, t, deployment_of(w, d), contract, cost_growth, is_kept, haircut, rest);
        }
    }
    return rest;
}

// (6.3) proceeds of a sale in month t.
template <class Team>
GPULOAN_DEVICE float proceeds(const Walker<Team>& w, i32 t, const Workout& workout, float haircut) {
    const Recovery& recovery = w.plan.recovery;
    const float cost_growth = month_of(w, t).cost_growth, lag = static_cast<float>(workout.lag);
    float total = ZERO;
    GPULOAN_ROLLED
    for (i32 j = 0; workout.sold >> j != 0; ++j) {
        if (!(workout.sold >> j & 1)) continue;
        const Deployment& deployment = deployment_of(w, j * w.plan.size.n_loans + workout.loan);
        const float depth = w.plan.market.inverse_depth[t * w.plan.size.n_generations + deployment.generation];
        const float price =
            sale_price(value_of(w, t, deployment), haircut, deployment.sale_pressure, depth, recovery.sale_keep);
        const float storage = recovery.storage_share * (deployment.hourly_opex * cost_growth);
        total = add_proceeds(total, deployment.unit_share, price, storage, lag);
    }
    return greatest(total, ZERO);
}

// (6.1)-(6.4) a default's exposure and loss, which join the integers of the run.
template <class Team>
GPULOAN_DEVICE void settle_default(const Walker<Team>& w, const Workout& workout) {
    const Recovery& recovery = w.plan.recovery;
    const i32 loan = workout.loan, t = workout.month_cause >> CAUSE_BITS, cause = workout.month_cause & ((1 << CAUSE_BITS) - 1);
    const Month month = month_of(w, t);
    const float haircut = share_of_table(recovery.haircut_table, w.m.fates[loan].haircut_word);
    const float ead = exposure(workout.balance, rate_of(w, loan, month.base_rate));
    const float rest = after_contracts(w, t, workout, month.cost_growth, haircut, ead - workout.reserve);
    const float lost = loss(w.plan.loans.kept_share[loan], rest, recovery.lender_discount[workout.lag],
                            proceeds(w, t + workout.lag, workout, haircut));
    const double commitment = w.plan.loans.commitment_cents[loan];
    const i32 index = w.plan.loans.index[loan];
    const i64 ead_cents = to_cents(commitment, ead), lost_cents = to_cents(commitment, lost);
    add_to_path(w.plan, w.run, w.row, index, t, cause, ead_cents, lost_cents);
    add_to_loan(w.run, index, cause, ead_cents, lost_cents, 1);
}

// A path's defaults, all when the last chips are sold: whole warps, where a month has a few.
template <class Team>
GPULOAN_DEVICE void settle_defaults(const Walker<Team>& w) {
    if (!w.is_active) return;
    GPULOAN_ROLLED
    for (i32 k = w.team.rank(); k < w.m.counters[DEFAULTED]; k += Team::size) settle_default(w, w.m.workouts[k]);
}

}  // namespace gpuloan
