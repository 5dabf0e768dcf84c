"""Contracts of deployments, compiled: who has lost a tenant, who renews, which chips come back."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..paths.loans import renewed_rate
from ..paths.philox import RENEWAL, chosen, draw_four, event_word
from ..paths.primitives import float_bits, prefetch
from .numba_abreast import PRICE
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
from .numba_memory import NOBODY, compiled_loop, contract_row, entity, month_lane, month_place, state_stride

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
def step_deployments(book: Any, work: Any, seed: Any, path: Any, q: int, t: int) -> None:
    """(5.1), (5.2) of month t."""
    lanes, facts = book.lanes, book.lanes.deployment_facts
    party = work.hit_head[q, t]
    while party != NOBODY:
        for k in range(lanes.tenant_first[party], lanes.tenant_first[party + 1]):
            d = lanes.tenant_deployment[k]
            if work.contract[contract_row(d, q), STATE_OF] & LET and facts[d, D_START] <= t:
                lose_tenant(book, work, q, d)
        party = work.hit_next[q, party]
    end = lanes.due_first[t + 1]
    for k in range(lanes.due_first[t], end):
        if k + 2 * AHEAD < end:
            prefetch(facts, lanes.due[k + 2 * AHEAD], 0)
            prefetch(work.contract, contract_row(lanes.due[k + 2 * AHEAD], q), 0)
        if k + AHEAD < end:
            place = u64(facts[lanes.due[k + AHEAD], D_LET_PLACE]) + u64(q) * state_stride(lanes)
            prefetch(work.arena, 0, place)
        contract_due(book, work, seed, path, q, t, lanes.due[k])
    d = work.due_head[q, t]
    while d != NOBODY:
        following = work.contract[contract_row(d, q), NEXT_DUE]  # a renewal puts it on another list
        contract_due(book, work, seed, path, q, t, d)
        d = following


@compiled_loop
def contract_due(book: Any, work: Any, seed: Any, path: Any, q: int, t: int, d: Any) -> None:
    """A contract begins or may end: its tenant has fallen before, or it renews, or its chips come back."""
    contract, facts, recovery = work.contract[contract_row(d, q)], book.lanes.deployment_facts[d], book.recovery
    if not contract[STATE_OF] & LET:
        return
    if work.months[q, facts[D_TENANT]] <= t:
        lose_tenant(book, work, q, d)
        return
    if contract[END_OF] < t:
        w = chosen(draw_four(seed, path, RENEWAL, u64(t), entity(facts, D_KEY)), q)
        if event_word(w) >= recovery.renewal[work.regime[month_lane(t, q)]]:
            end_contract(book, work, q, d)
            return
        price = work.month[month_place(PRICE, facts[D_GENERATION], q)]
        rate = renewed_rate(price, recovery.renewal_keep, recovery.paid_share)
        contract[RATE_OF] = float_bits(rate)
        set_let_rate(book.lanes, work, q, facts, rate)
        contract[END_OF] = t - 1 + recovery.renewal_term
    month = contract[END_OF] + 1
    if month <= book.market.horizon:
        contract[NEXT_DUE] = work.due_head[q, month]
        work.due_head[q, month] = d
