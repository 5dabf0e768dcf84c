// Contracts of deployments (docs/model.md 5.1, 5.2): what their tenants' defaults and their ends do.
#pragma once

#include "credit.cuh"
#include "loans.cuh"
#include "memory.cuh"
#include "world.cuh"

namespace gpuloan {

constexpr i32 LET = 1, CLAIM = 2, RELEASED = 4;
constexpr float NOT_LET = -1.0f;
constexpr i32 FINGERS = 4;  // threads that share out what a party has in its hands

// (2.7) chips that come back in a month count once a path.
template <class Team>
GPULOAN_DEVICE void release(Walker<Team>& w, i32 month, const Deployment& deployment, i32& state) {
    if (state & RELEASED) return;
    state |= RELEASED;
    atomicAdd(released_in(w, month) + deployment.generation, static_cast<u32>(deployment.units));
}

// The contract is over and its chips come back; `is_lost`: its tenant has defaulted (5.1), which leaves a claim.
template <class Team>
GPULOAN_DEVICE void end_contract(Walker<Team>& w, i32 t, const Deployment& deployment, Contract& contract, i32 state,
                                 bool is_lost) {
    float& rate = let_rate(w, deployment);
    if (is_lost) contract.claim_rate = rate;
    rate = NOT_LET;
    state = (state & ~LET) | (is_lost ? CLAIM : 0);
    release(w, t, deployment, state);
    contract.state = state;
}

// (5.1) contracts of a party that defaults this month, the threads of a hand from one to the next.
template <class Team>
GPULOAN_DEVICE void lose_contracts(Walker<Team>& w, i32 t, Span contracts, i32 finger) {
    GPULOAN_ROLLED
    for (i32 k = contracts.first + finger; k < contracts.end; k += FINGERS) {
        const i32 d = w.plan.lists.tenant[k];
        const Deployment& deployment = deployment_of(w, d);
        Contract& contract = w.m.contracts[d];
        const i32 state = contract.state;
        if (state & LET && deployment.start <= t) end_contract(w, t, deployment, contract, state, true);
    }
}

// (5.2) whether the tenant of a contract that has ended stays.
template <class Team>
GPULOAN_DEVICE bool renews(const Walker<Team>& w, i32 t, i32 d) {
    // under the seed: the keys of all rounds would be loaded by every warp, and few have a contract that ends
    const Words words = draw_four(w.run.seed, w.path(), RENEWAL, t, w.plan.deployments.key[static_cast<u32>(d)]);
    const i32 u = event_word(chosen(words, w.word()));
    return u < w.m.note->stays;
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
        end_contract(w, t, deployment, contract, state, fallen < t);
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
    const Span tape = w.month.due;
    const i32 n_tape = tape.end - tape.first, first = w.m.note->first_due;
    GPULOAN_ROLLED
    for (i32 k = share.rank; k < w.m.note->n_due; k += share.size) {
        const i32* const place = k < n_tape ? w.plan.lists.due + static_cast<u32>(tape.first + k)
                                            : w.m.renewed + static_cast<u32>((first + k - n_tape) & (w.plan.size.ring - 1));
        contract_due(w, t, *place);
    }
}

}  // namespace gpuloan
