"""Contracts of deployments, compiled: who has lost a tenant, who renews, which chips come back."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..paths.loans import renewed_rate
from ..paths.philox import RENEWAL, chosen, draw_four, event_word
from ..paths.primitives import float_bits, prefetch
from .numba_abreast import PATHS_AT_ONCE, PRICE
from .numba_layout import (
    CLAIM,
    D_GENERATION,
    D_KEY,
    D_LET_PLACE,
    D_LOAN,
    D_START,
    D_TENANT,
    D_UNITS,
    END_OF,
    LET,
    NEXT_DUE,
    NOT_LET,
    RATE_OF,
    RELEASED,
    STATE_OF,
)
from .numba_memory import (
    NOBODY,
    compiled_loop,
    contract_row,
    entity,
    inlined_loop,
    month_lane,
    month_place,
    state_stride,
)

u8, u64 = np.uint8, np.uint64

AHEAD = 8


@compiled_loop
def set_let_rate(lanes: Any, work: Any, q: int, facts: Any, rate: Any) -> None:
    """What a deployment's contract pays on path q, or NOT_LET."""
    work.arena[u64(facts[D_LET_PLACE]) + u64(q) * state_stride(lanes)] = rate


@compiled_loop
def end_contract(book: Any, work: Any, q: int, d: Any) -> None:
    """The contract is over and its chips come back."""
    work.contract[contract_row(d, q), STATE_OF] &= ~LET
    facts = book.lanes.deployment_facts[d]
    set_let_rate(book.lanes, work, q, facts, NOT_LET)
    release(work, q, work.contract[contract_row(d, q)], facts)


@compiled_loop
def release(work: Any, q: int, contract: Any, facts: Any) -> None:
    """(2.7) chips count once a path."""
    if not contract[STATE_OF] & RELEASED:
        contract[STATE_OF] |= RELEASED
        work.released[month_lane(facts[D_GENERATION], q)] += facts[D_UNITS]


@compiled_loop
def lose_tenant(book: Any, work: Any, q: int, d: Any) -> None:
    """(5.1) the tenant has defaulted."""
    work.contract[contract_row(d, q), STATE_OF] |= CLAIM
    work.tenant_lost[q, book.lanes.deployment_facts[d, D_LOAN]] = u8(1)
    end_contract(book, work, q, d)


@compiled_loop
def lose_tenants(book: Any, work: Any, q: int, t: int) -> None:
    """(5.1) contracts whose tenant defaults in month t."""
    lanes, facts = book.lanes, book.lanes.deployment_facts
    party = work.hit_head[q, t]
    while party != NOBODY:
        for k in range(lanes.tenant_first[party], lanes.tenant_first[party + 1]):
            d = lanes.tenant_deployment[k]
            if work.contract[contract_row(d, q), STATE_OF] & LET and facts[d, D_START] <= t:
                lose_tenant(book, work, q, d)
        party = work.hit_next[q, party]


@compiled_loop
def first_ends(book: Any, work: Any, seed: Any, quad: Any, low: int, high: int, t: int) -> None:
    """(5.2) contracts as they were at month 0 that begin or may end in month t: four paths, which share a draw."""
    lanes, facts = book.lanes, book.lanes.deployment_facts
    end = lanes.due_first[t + 1]
    for k in range(lanes.due_first[t], end):
        if k + 2 * AHEAD < end:
            prefetch(facts, lanes.due[k + 2 * AHEAD], 0)
            prefetch(work.contract, contract_row(lanes.due[k + 2 * AHEAD], 0), 0)
        if k + AHEAD < end:
            ask_for_rates(lanes, work, facts[lanes.due[k + AHEAD]], low, high)
        d = lanes.due[u64(k)]
        four = draw_four(seed, u64(PATHS_AT_ONCE * quad), RENEWAL, u64(t), entity(facts[d], D_KEY))
        for q in range(low, high):
            contract_due(book, work, four, q, t, d)


@compiled_loop
def ask_for_rates(lanes: Any, work: Any, facts: Any, low: int, high: int) -> None:
    """Ask for the places of a contract's rate ahead of their use."""
    place = u64(facts[D_LET_PLACE])
    for q in range(low, high):
        prefetch(work.arena, 0, place + u64(q) * state_stride(lanes))


@compiled_loop
def later_ends(book: Any, work: Any, seed: Any, quad: Any, q: int, t: int) -> None:
    """(5.2) renewed contracts that may end in month t."""
    facts, d = book.lanes.deployment_facts, work.due_head[q, t]
    while d != NOBODY:
        following = work.contract[contract_row(d, q), NEXT_DUE]  # a renewal puts it on another list
        four = draw_four(seed, u64(PATHS_AT_ONCE * quad), RENEWAL, u64(t), entity(facts[d], D_KEY))
        contract_due(book, work, four, q, t, d)
        d = following


@inlined_loop
def contract_due(book: Any, work: Any, four: Any, q: int, t: int, d: Any) -> None:
    """A contract begins or may end: its tenant has fallen before, or it renews, or its chips come back."""
    row, facts = u64(contract_row(d, q)), book.lanes.deployment_facts[u64(d)]
    if not work.contract[row, STATE_OF] & LET:
        return
    if work.months[u64(q), u64(facts[D_TENANT])] <= t:
        lose_tenant(book, work, q, d)
    elif work.contract[row, END_OF] >= t:  # it begins
        month = u64(work.contract[row, END_OF] + 1)
        if month <= u64(book.market.horizon):
            work.contract[row, NEXT_DUE] = work.due_head[u64(q), month]
            work.due_head[u64(q), month] = d
    else:
        renew_or_end(book, work, four, q, t, d, row, facts)


@inlined_loop
def renew_or_end(book: Any, work: Any, four: Any, q: int, t: int, d: Any, row: Any, facts: Any) -> None:
    """(5.2) without a branch: which of the two comes is a matter of chance, and a wrong guess costs more than both."""
    recovery, contract, heads = book.recovery, work.contract, work.due_head
    renews = event_word(chosen(four, q)) < recovery.renewal[u64(work.regime[month_lane(t, q)])]
    g = u64(facts[D_GENERATION])
    rate = renewed_rate(work.month[month_place(PRICE, g, q)], recovery.renewal_keep, recovery.paid_share)
    state, end = contract[row, STATE_OF], t - 1 + recovery.renewal_term
    month = u64(min(end, book.market.horizon) + 1)  # the list behind the horizon is never read
    head, path = heads[u64(q), month], u64(q)
    contract[row, END_OF] = end if renews else contract[row, END_OF]
    contract[row, RATE_OF] = float_bits(rate) if renews else contract[row, RATE_OF]
    contract[row, NEXT_DUE] = head
    contract[row, STATE_OF] = state if renews else (state & ~LET) | RELEASED
    heads[path, month] = d if renews else head
    work.released[month_lane(g, q)] += facts[D_UNITS] * (1 - (renews | ((state & RELEASED) != 0)))
    set_let_rate(book.lanes, work, q, facts, rate if renews else NOT_LET)
