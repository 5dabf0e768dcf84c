"""Default and recovery of a loan, compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..paths.arithmetic import ZERO
from ..paths.loans import PARENT, monthly_rate
from ..paths.path import to_cents
from ..paths.philox import LOAN, draw, event_word
from ..paths.primitives import bits_float, float_bits, prefetch
from ..paths.recovery import (
    add_proceeds,
    after_claim,
    contract_value,
    exposure,
    kept_value,
    loss,
    months_left,
    sale_lag,
    sale_price,
    share_of_table,
)
from .numba_cash import add_recovery, take_back
from .numba_contracts import release
from .numba_layout import (
    CLAIM,
    D_CLAIM_RECOVERY,
    D_GENERATION,
    D_HOURLY_OPEX,
    D_HOURS,
    D_IN_SERVICE,
    D_OPEX,
    D_PRESSURE,
    D_START,
    D_UNIT_SHARE,
    D_VINTAGE,
    DEAD,
    END_OF,
    L_DRAW_MONTH,
    L_END,
    L_FIRST,
    L_FLOATING,
    L_INDEX,
    L_KEPT_SHARE,
    L_KEY,
    L_MARGIN,
    L_TILE,
    LET,
    RATE_OF,
    STATE_OF,
)
from .numba_memory import (
    AT_BALANCE,
    AT_BREACHES,
    AT_RESERVE,
    NOBODY,
    compiled_loop,
    contract_row,
    emit,
    entity,
    is_pooled,
    is_recorded,
    lane_place,
    workout_row,
)
from .numba_prices import value_of
from .numba_record import PROCEEDS, SALE_MONTH, STEPPED_IN

f32, i32, i64, u64 = np.float32, np.int32, np.int64, np.uint64

MONTH_OF, CAUSE_OF, LAG_OF, SOLD_OF, EAD_OF, REST_OF, HAIRCUT_OF, NEXT_SALE = range(8)


@compiled_loop
def bury(lanes: Any, work: Any, q: int, loan: Any) -> None:
    """The loan is repaid or has defaulted: lane loops pass over it."""
    work.arena[lane_place(lanes, loan, q) + AT_BREACHES] = DEAD
    work.living[q, lanes.loan_facts[loan, L_TILE]] -= 1


@compiled_loop
def rate_of(book: Any, loan: Any, t: int) -> Any:
    """(5.3) interest of month t."""
    facts = book.lanes.loan_facts[loan]
    return monthly_rate(bits_float(facts[L_FLOATING]), book.recovery.base_rate[t], bits_float(facts[L_MARGIN]))


@compiled_loop
def default(book: Any, work: Any, seed: Any, path: Any, q: int, t: int, loan: Any, cause: Any) -> None:
    """(6.1), (6.2) and the month of the sale."""
    lanes, recovery, loan_facts = book.lanes, book.recovery, book.lanes.loan_facts[loan]
    place = lane_place(lanes, loan, q)
    w = draw(seed, path, LOAN, u64(0), entity(loan_facts, L_KEY))
    stepped_in = event_word(w[1]) < recovery.step_in
    lag = sale_lag(recovery.lag_table, w[2], recovery.lag_max)
    haircut = share_of_table(recovery.haircut_table, w[3])
    ead = exposure(work.arena[place + AT_BALANCE], rate_of(book, loan, t))
    rest = ead - work.arena[place + AT_RESERVE]
    sold, bit, draw_month = i32(0), i32(1), loan_facts[L_DRAW_MONTH]
    for d in range(loan_facts[L_FIRST], loan_facts[L_END]):
        contract, facts = work.contract[contract_row(d, q)], lanes.deployment_facts[d]
        state = contract[STATE_OF]
        kept = stepped_in and state & LET and facts[D_START] <= t
        if kept or state & CLAIM:
            rest = after_contract(book, work, q, t, contract, facts, kept, haircut, rest)
        if not kept and not lapsed(facts, draw_month, t):
            sold = i32(sold | bit)
        bit = i32(bit << 1)
        contract[STATE_OF] = state & ~LET
    bury(lanes, work, q, loan)
    if is_pooled(work) and cause != PARENT:  # a parent's default comes before the month's cash is added up
        take_back(
            work, q, t, book.loans.commitment_cents[loan], work.arena[place + AT_BALANCE], rate_of(book, loan, t)
        )
    workout = work.workout[workout_row(lanes, loan, q)]
    workout[MONTH_OF], workout[CAUSE_OF], workout[LAG_OF], workout[SOLD_OF] = t, cause, lag, sold
    workout[EAD_OF], workout[REST_OF] = float_bits(ead), float_bits(rest)
    workout[HAIRCUT_OF], workout[NEXT_SALE] = float_bits(haircut), work.sale_head[q, t + lag]
    work.sale_head[q, t + lag] = loan
    work.open_sales[q] += 1


@compiled_loop
def lapsed(facts: Any, draw_month: Any, t: Any) -> Any:
    """(6.3) chips of a draw that has lapsed: in service from the draw month on, and the draw is still to come."""
    return draw_month > t and facts[D_IN_SERVICE] >= draw_month


@compiled_loop
def after_contract(
    book: Any, work: Any, q: int, t: int, contract: Any, facts: Any, kept: Any, haircut: Any, rest: Any
) -> Any:
    """(6.2) what is left after a kept deployment, or after the claim that its tenant's default left."""
    market, recovery = book.market, book.recovery
    left = months_left(contract[END_OF], i32(t))
    worth = contract_value(
        bits_float(facts[D_HOURS]),
        bits_float(contract[RATE_OF]),
        bits_float(facts[D_OPEX]),
        recovery.cost_growth[t],
        recovery.opex_stress,
        recovery.contract_annuity[left],
    )
    if not kept:
        return after_claim(rest, bits_float(facts[D_CLAIM_RECOVERY]), worth)
    g = facts[D_GENERATION]
    return rest - kept_value(
        worth,
        recovery.performance,
        bits_float(facts[D_UNIT_SHARE]) * value_of(market, work, q, t, facts[D_VINTAGE]),
        market.annuity[t + left, g] * recovery.inverse_annuity[t, g],
        recovery.chip_discount[left],
        haircut,
        recovery.sale_keep,
    )


@compiled_loop
def sell_due(book: Any, work: Any, q: int, t: int) -> None:
    """(6.3), (6.4) the sales of month t: the losses are known."""
    loan, lanes = work.sale_head[q, t], book.lanes
    while loan != NOBODY:
        following = work.workout[workout_row(lanes, loan, q), NEXT_SALE]
        if following != NOBODY:
            prefetch(work.workout, workout_row(lanes, following, q), 0)
            prefetch(lanes.loan_facts, following, 0)
            d = lanes.loan_facts[following, L_FIRST]
            prefetch(lanes.deployment_facts, d, 0)
            prefetch(work.contract, contract_row(d, q), 0)
        sell(book, work, q, t, loan)
        loan = following


@compiled_loop
def sell(book: Any, work: Any, q: int, t: int, loan: Any) -> None:
    """(6.3) proceeds, (6.4) loss."""
    lanes, recovery, market = book.lanes, book.recovery, book.market
    workout, loan_facts = work.workout[workout_row(lanes, loan, q)], lanes.loan_facts[loan]
    haircut, lag, total, bit = bits_float(workout[HAIRCUT_OF]), f32(workout[LAG_OF]), ZERO, i32(1)
    for d in range(loan_facts[L_FIRST], loan_facts[L_END]):
        if workout[SOLD_OF] & bit:
            facts = lanes.deployment_facts[d]
            value = value_of(market, work, q, t, facts[D_VINTAGE])
            depth = market.inverse_depth[t, facts[D_GENERATION]]
            price = sale_price(value, haircut, bits_float(facts[D_PRESSURE]), depth, recovery.sale_keep)
            storage = recovery.storage_share * (bits_float(facts[D_HOURLY_OPEX]) * recovery.cost_growth[t])
            total = add_proceeds(total, bits_float(facts[D_UNIT_SHARE]), price, storage, lag)
            release(work, q, work.contract[contract_row(d, q)], facts)
        bit = i32(bit << 1)
    proceeds = total if total > ZERO else ZERO
    rest, kept_share = bits_float(workout[REST_OF]), bits_float(loan_facts[L_KEPT_SHARE])
    fraction = loss(kept_share, rest, recovery.lender_discount[workout[LAG_OF]], proceeds)
    commitment = book.loans.commitment_cents[loan]
    ead, lost = to_cents(commitment, bits_float(workout[EAD_OF])), to_cents(commitment, fraction)
    if is_recorded(work):
        record_recovery(lanes, work, t, workout, loan_facts, to_cents(commitment, proceeds))
    if is_pooled(work):
        add_recovery(work, q, workout[MONTH_OF], t, ead, lost)
    emit(work, q, i64(loan_facts[L_INDEX]), i64(workout[MONTH_OF]), i64(workout[CAUSE_OF]), ead, lost)
    work.open_sales[q] -= 1


@compiled_loop
def record_recovery(lanes: Any, work: Any, t: int, workout: Any, loan_facts: Any, proceeds: Any) -> None:
    """How the loan of the next event was recovered. Chips that are neither sold nor lapsed are the lender's: kept."""
    stepped_in, bit = i64(0), i32(1)
    for d in range(loan_facts[L_FIRST], loan_facts[L_END]):
        if not workout[SOLD_OF] & bit and not lapsed(
            lanes.deployment_facts[d], loan_facts[L_DRAW_MONTH], workout[MONTH_OF]
        ):
            stepped_in = i64(1)
        bit = i32(bit << 1)
    recovery = work.record.recoveries[work.n_events[0]]
    recovery[STEPPED_IN], recovery[SALE_MONTH], recovery[PROCEEDS] = stepped_in, t, proceeds
