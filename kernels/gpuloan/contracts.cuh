// Contracts of deployments (docs/model.md 5.1, 5.2): what their tenants' defaults and their ends do.
#pragma once

#include "credit.cuh"
#include "loans.cuh"
#include "memory.cuh"

namespace gpuloan {

constexpr u8 LET = 1, CLAIM = 2, RELEASED = 4;
constexpr float NOT_LET = -1.0f;

// (2.7) chips count once a path.
template <class Team>
GPULOAN_DEVICE void release(Walker<Team>& w, i32 d, u8& state) {
    if (state & RELEASED) return;
    state |= RELEASED;
    const Deployments& deployments = w.plan.deployments;
    atomicAdd(w.m.released + deployments.generation[d], static_cast<u32>(deployments.units[d]));
}

// The contract is over and its chips come back; `more`: what else is noted.
template <class Team>
GPULOAN_DEVICE void end_contract(Walker<Team>& w, i32 d, u8 state, u8 more) {
    state = static_cast<u8>((state & ~LET) | more);
    let_rate(w, d) = NOT_LET;
    release(w, d, state);
    w.m.contract_state[d] = state;
}

// (5.1) the tenant has defaulted.
template <class Team>
GPULOAN_DEVICE void lose_tenant(Walker<Team>& w, i32 d, u8 state) {
    w.m.tenant_lost[d % w.plan.size.n_loans] = 1;  // two contracts of a loan may both say so
    w.m.claim_rate[d] = let_rate(w, d);
    end_contract(w, d, state, CLAIM);
}

// (5.1) contracts of a party that defaults this month.
template <class Team>
GPULOAN_DEVICE void lose_contracts(Walker<Team>& w, i32 t, i32 party) {
    const Lists& lists = w.plan.lists;
    GPULOAN_ROLLED
    for (i32 k = lists.tenant_first[party]; k < lists.tenant_first[party + 1]; ++k) {
        const i32 d = lists.tenant[k];
        const u8 state = w.m.contract_state[d];
        if (state & LET && w.plan.deployments.start[d] <= t) lose_tenant(w, d, state);
    }
}

// (5.2) whether the tenant of a contract that has ended stays.
template <class Team>
GPULOAN_DEVICE bool renews(const Walker<Team>& w, i32 t, i32 d) {
    const Words words = draw_four(w.run.seed, w.path(), RENEWAL, t, w.plan.deployments.key[d]);
    const i32 u = event_word(chosen(words, static_cast<i32>(w.path() & 3)));
    return u < w.plan.recovery.renewal[w.run.regime[t * w.run.n_paths + w.row]];
}

// (5.1), (5.2) a contract begins or may end: its tenant has fallen before, or it renews, or its chips come back.
template <class Team>
GPULOAN_DEVICE void contract_due(Walker<Team>& w, i32 t, i32 d) {
    const Recovery& recovery = w.plan.recovery;
    const u8 state = w.m.contract_state[d];
    if (!(state & LET)) return;
    if (w.m.months[w.plan.deployments.tenant[d]] <= t) {
        lose_tenant(w, d, state);
        return;
    }
    if (w.m.contract_end[d] >= t) return;
    if (!renews(w, t, d)) {
        end_contract(w, d, state, 0);
        return;
    }
    const float price = w.m.contract[w.plan.deployments.generation[d]];
    let_rate(w, d) = renewed_rate(price, recovery.renewal_keep, recovery.paid_share);
    w.m.contract_end[d] = t - 1 + recovery.renewal_term;
    // due again renewal_term months from now: this month's part of the ring. A month takes at most D entries out of it
    // and puts at most D in, so that none of 2 D is overwritten before it is read.
    const i32 capacity = 2 * w.plan.size.n_slots * w.plan.size.n_loans;
    w.m.renewed[next_place(w.m.counters + RENEWED) % capacity] = d;
}

// Contracts that are due in month t: by the tape, then those renewed renewal_term months ago.
template <class Team>
GPULOAN_DEVICE void step_contracts(Walker<Team>& w, i32 t) {
    const Lists& lists = w.plan.lists;
    GPULOAN_ROLLED
    for (i32 k = lists.due_first[t] + w.team.rank(); k < lists.due_first[t + 1]; k += Team::size) {
        contract_due(w, t, lists.due[k]);
    }
    const i32 before = t - w.plan.recovery.renewal_term;
    if (before < 1) return;
    const i32 capacity = 2 * w.plan.size.n_slots * w.plan.size.n_loans;
    GPULOAN_ROLLED
    for (i32 k = w.m.renewed_end[before - 1] + w.team.rank(); k < w.m.renewed_end[before]; k += Team::size) {
        contract_due(w, t, w.m.renewed[k % capacity]);
    }
}

}  // namespace gpuloan
