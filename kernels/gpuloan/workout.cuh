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

// (6.1), (6.2) and the month of the sale.
template <class Team>
GPULOAN_DEVICE void open_workout(Walker<Team>& w, i32 t, i32 loan, i32 cause) {
    const Recovery& recovery = w.plan.recovery;
    const Words words = draw(w.run.seed, w.path(), LOAN, 0, w.plan.loans.key[loan]);
    const bool steps_in = event_word(words.w1) < recovery.step_in;
    const i32 lag = sale_lag(recovery.lag_table, words.w2, recovery.lag_max);
    const float haircut = share_of_table(recovery.haircut_table, words.w3);
    const float* const state = state_of(w, loan);
    const float ead = exposure(state[BALANCE], rate_of(w, t, loan));
    float rest = ead - state[RESERVE];
    i32 sold = 0;
    GPULOAN_ROLLED
    for (i32 j = 0; j < w.plan.loans.n_deployments[loan]; ++j) {
        const i32 d = j * w.plan.size.n_loans + loan;
        const u8 contract = w.m.contract_state[d];
        const bool is_kept = steps_in && contract & LET && w.plan.deployments.start[d] <= t;
        if (is_kept || contract & CLAIM) rest = after_contract(w, t, d, is_kept, haircut, rest);
        if (!is_kept && !has_lapsed(w.plan, t, loan, d)) sold |= 1 << j;
        w.m.contract_state[d] = static_cast<u8>(contract & ~LET);
    }
    w.m.month_cause[loan] = t << CAUSE_BITS | cause;
    w.m.lag[loan] = lag;
    w.m.sold[loan] = sold;
    w.m.ead[loan] = ead;
    w.m.rest[loan] = rest;
    w.m.haircut[loan] = haircut;
    const i32 place = next_place(w.m.counters + WORKOUTS);
    w.m.workouts[place] = loan;
    w.m.sale_month[place] = t + lag;
    atomicAdd(w.m.counters + UNSOLD, 1);
}

// The defaults of month t, a thread each.
template <class Team>
GPULOAN_DEVICE void open_workouts(Walker<Team>& w, i32 t) {
    for (i32 k = w.team.rank(); k < w.m.counters[QUEUED]; k += Team::size) {
        const i32 entry = w.m.queue[k];
        const i32 loan = entry >> CAUSE_BITS, why = entry & ((1 << CAUSE_BITS) - 1);
        const bool is_lost = w.m.tenant_lost[loan] != 0;
        open_workout(w, t, loan, why == PARENT ? PARENT : cause_of(why != COVENANT, why == MATURITY, is_lost));
    }
}

// The workouts that end in month t. Lists of even and odd months alternate: one is emptied while the other is read.
template <class Team>
GPULOAN_DEVICE void find_sales(Walker<Team>& w, i32 t) {
    for (i32 k = w.team.rank(); k < w.m.counters[WORKOUTS]; k += Team::size) {
        if (w.m.sale_month[k] == t) w.m.sales[next_place(w.m.counters + SOLD_NOW + (t & 1))] = w.m.workouts[k];
    }
}

// (6.3) proceeds, (6.4) loss.
template <class Team>
GPULOAN_DEVICE void sell(Walker<Team>& w, i32 t, i32 loan) {
    const Deployments& deployments = w.plan.deployments;
    const Recovery& recovery = w.plan.recovery;
    const Loans& loans = w.plan.loans;
    const i32 lag = w.m.lag[loan], sold = w.m.sold[loan], month_cause = w.m.month_cause[loan];
    const float haircut = w.m.haircut[loan];
    float total = ZERO;
    GPULOAN_ROLLED
    for (i32 j = 0; sold >> j != 0; ++j) {
        if (!(sold >> j & 1)) continue;
        const i32 d = j * w.plan.size.n_loans + loan;
        const float depth = w.plan.market.inverse_depth[t * w.plan.size.n_generations + deployments.generation[d]];
        const float price = sale_price(value_of(w, t, deployments.vintage[d]), haircut, deployments.sale_pressure[d],
                                       depth, recovery.sale_keep);
        const float storage = recovery.storage_share * (deployments.hourly_opex[d] * recovery.cost_growth[t]);
        total = add_proceeds(total, deployments.unit_share[d], price, storage, static_cast<float>(lag));
        u8 state = w.m.contract_state[d];
        release(w, d, state);
        w.m.contract_state[d] = state;
    }
    const float proceeds = greatest(total, ZERO);
    const float fraction = loss(loans.kept_share[loan], w.m.rest[loan], recovery.lender_discount[lag], proceeds);
    const double commitment = loans.commitment_cents[loan];
    atomicAdd(w.m.counters + UNSOLD, -1);
    if (!w.is_active) return;
    const i32 index = loans.index[loan], month = month_cause >> CAUSE_BITS;
    const i32 cause = month_cause & ((1 << CAUSE_BITS) - 1);
    const i64 ead = to_cents(commitment, w.m.ead[loan]), lost = to_cents(commitment, fraction);
    add_to_path(w.plan, w.run, w.row, index, month, cause, ead, lost);
    add_to_loan(w.run, index, cause, ead, lost, 1);
}

// The sales of month t, a thread each; next month's list is emptied.
template <class Team>
GPULOAN_DEVICE void settle_sales(Walker<Team>& w, i32 t) {
    for (i32 k = w.team.rank(); k < w.m.counters[SOLD_NOW + (t & 1)]; k += Team::size) sell(w, t, w.m.sales[k]);
    if (w.team.rank() == 0) w.m.counters[SOLD_NOW + ((t + 1) & 1)] = 0;
}

}  // namespace gpuloan
