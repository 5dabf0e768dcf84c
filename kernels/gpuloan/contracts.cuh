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
    w.m.claim_rate[d] = let_rate(w, d);
    end_contract(w, d, state, CLAIM);
}

// (5.1) contracts of a party that defaults this month.
template <class Team>
GPULOAN_DEVICE void lose_contracts(Walker<Team>& w, i32 t, Span contracts) {
    GPULOAN_ROLLED
    for (i32 k = contracts.first; k < contracts.end; ++k) {
        const i32 d = w.plan.lists.tenant[k];
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

// (5.1), (5.2) a contract begins or may end: its tenant has fallen before, or it renews, or its chips come back. Contracts of
// who falls this month are left to `lose_contracts`, which another thread may be at.
template <class Team>
GPULOAN_DEVICE void contract_due(Walker<Team>& w, i32 t, i32 d) {
    const Recovery& recovery = w.plan.recovery;
    const u8 state = w.m.contract_state[d];
    if (!(state & LET)) return;
    const i32 fallen = w.m.months[w.plan.deployments.tenant[d]];
    if (fallen <= t) {
        if (fallen < t) lose_tenant(w, d, state);
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
    // and puts at most D in, so that none of a ring of 2 D is overwritten before it is read.
    w.m.renewed[next_place(w.m.renewed_end + t) & (w.plan.size.ring - 1)] = d;
}

// Contracts that are due in month t: by the tape, then those renewed renewal_term months ago.
template <class Team>
GPULOAN_DEVICE void step_contracts(Walker<Team>& w, i32 t) {
    const Span due = month_of(w, t).due;
    const i32 n_due = due.end - due.first, before = t - w.plan.recovery.renewal_term;
    i32 first = 0, n = n_due;
    if (before >= 1) {
        first = w.m.renewed_end[before - 1];
        n += w.m.renewed_end[before] - first;
    }
    GPULOAN_ROLLED
    for (i32 k = w.team.rank(); k < n; k += Team::size) {
        const i32* const place = k < n_due ? w.plan.lists.due + due.first + k
                                           : w.m.renewed + ((first + k - n_due) & (w.plan.size.ring - 1));
        contract_due(w, t, *place);
    }
}

}  // namespace gpuloan
