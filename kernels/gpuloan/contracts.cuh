// Contracts of deployments (docs/model.md 5.1, 5.2): what their tenants' defaults and their ends do.
#pragma once

#include "credit.cuh"
#include "loans.cuh"
#include "memory.cuh"

namespace gpuloan {

constexpr i32 LET = 1, CLAIM = 2, RELEASED = 4;
constexpr float NOT_LET = -1.0f;

// (2.7) chips count once a path.
template <class Team>
GPULOAN_DEVICE void release(Walker<Team>& w, const Deployment& deployment, i32& state) {
    if (state & RELEASED) return;
    state |= RELEASED;
    atomicAdd(w.m.released + deployment.generation, static_cast<u32>(deployment.units));
}

// The contract is over and its chips come back; `is_lost`: its tenant has defaulted (5.1), which leaves a claim.
template <class Team>
GPULOAN_DEVICE void end_contract(Walker<Team>& w, const Deployment& deployment, Contract& contract, i32 state, bool is_lost) {
    float& rate = let_rate(w, deployment);
    if (is_lost) contract.claim_rate = rate;
    rate = NOT_LET;
    state = (state & ~LET) | (is_lost ? CLAIM : 0);
    release(w, deployment, state);
    contract.state = state;
}

// (5.1) contracts of a party that defaults this month.
template <class Team>
GPULOAN_DEVICE void lose_contracts(Walker<Team>& w, i32 t, Span contracts) {
    GPULOAN_ROLLED
    for (i32 k = contracts.first; k < contracts.end; ++k) {
        const i32 d = w.plan.lists.tenant[k];
        const Deployment& deployment = deployment_of(w, d);
        Contract& contract = w.m.contracts[d];
        const i32 state = contract.state;
        if (state & LET && deployment.start <= t) end_contract(w, deployment, contract, state, true);
    }
}

// (5.2) whether the tenant of a contract that has ended stays.
template <class Team>
GPULOAN_DEVICE bool renews(const Walker<Team>& w, i32 t, i32 d) {
    const Words words = draw_four(w.run.seed, w.path(), RENEWAL, t, w.plan.deployments.key[d]);
    const i32 u = event_word(chosen(words, static_cast<i32>(w.path() & 3)));
    return u < w.plan.recovery.renewal[w.run.regime[w.place(t)]];
}

// (5.1), (5.2) a contract begins or may end: its tenant has fallen before, or it renews, or its chips come back. Contracts of
// who falls this month are left to `lose_contracts`, which another thread may be at.
template <class Team>
GPULOAN_DEVICE void contract_due(Walker<Team>& w, i32 t, i32 d) {
    const Recovery& recovery = w.plan.recovery;
    const Deployment& deployment = deployment_of(w, d);
    Contract& contract = w.m.contracts[d];
    const i32 state = contract.state;
    if (!(state & LET)) return;
    const i32 fallen = w.m.months[deployment.tenant];
    if (fallen == t || (fallen > t && contract.end >= t)) return;
    if (fallen < t || !renews(w, t, d)) {
        end_contract(w, deployment, contract, state, fallen < t);
        return;
    }
    let_rate(w, deployment) = renewed_rate(w.m.contract[deployment.generation], recovery.renewal_keep, recovery.paid_share);
    contract.end = t - 1 + recovery.renewal_term;
    // due again renewal_term months from now: this month's part of the ring. A month takes at most D entries out of it
    // and puts at most D in, so that none of a ring of 2 D is overwritten before it is read.
    w.m.renewed[next_place(&w.m.marks[t].renewed) & (w.plan.size.ring - 1)] = d;
}

// Contracts that are due in month t: by the tape, then those renewed renewal_term months ago.
template <class Team>
GPULOAN_DEVICE void step_contracts(Walker<Team>& w, i32 t, Share share) {
    if (!share.is_ours) return;
    const Span due = w.month.due;
    const i32 n_due = due.end - due.first, before = t - w.plan.recovery.renewal_term;
    i32 first = 0, n = n_due;
    if (before >= 1) {
        first = w.m.marks[before - 1].renewed;
        n += w.m.marks[before].renewed - first;
    }
    GPULOAN_ROLLED
    for (i32 k = share.rank; k < n; k += share.size) {
        const i32* const place = k < n_due ? w.plan.lists.due + static_cast<u32>(due.first + k)
                                           : w.m.renewed + static_cast<u32>((first + k - n_due) & (w.plan.size.ring - 1));
        contract_due(w, t, *place);
    }
}

}  // namespace gpuloan
