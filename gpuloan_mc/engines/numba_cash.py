"""What loans pay and owe (docs/model.md 9), compiled: added up where a pool's cash is asked for.

A month's interest and principal are those of all loans that are to pay; a loan that defaults after that takes its own back.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..paths.arithmetic import ZERO
from ..paths.path import to_cents
from ..paths.primitives import lane_function, nearest
from .numba_layout import DEAD, RATE, TILE, WAITING
from .numba_memory import (
    AT_BALANCE,
    AT_BREACHES,
    compiled_loop,
    compiled_sum,
    is_pooled,
    lane_place,
    state_base,
    tile_base,
)

i64, u64, f64 = np.int64, np.uint64, np.float64

AT_RATE = u64(RATE * TILE)
PLAIN_COLUMNS = ("interest", "principal", "balance", "drawn")  # of a plain loan's schedule
INTEREST, PRINCIPAL, BALANCE, DRAWN = range(4)


@lane_function
def cents_of(commitment: Any, fraction: Any) -> Any:
    """`to_cents` as a float64, for sums over lanes."""
    return nearest(commitment * f64(fraction))


@compiled_loop
def cash_row(work: Any, q: int) -> Any:
    """Where a path's cash is kept."""
    return work.row[0] + q - work.pool.first[0]


@compiled_loop
def start_cash(work: Any, low: int, high: int) -> None:
    """What the plain loans pay if none defaults."""
    pool = work.pool
    if not is_pooled(work):
        return
    for q in range(low, high):
        row = cash_row(work, q)
        for t in range(pool.defaulted.shape[1]):
            pool.defaulted[row, t] = 0
            pool.recovery[row, t] = 0
        for t in range(pool.all_plain.shape[1]):
            pool.interest[row, t] = pool.all_plain[INTEREST, t]
            pool.principal[row, t] = pool.all_plain[PRINCIPAL, t]
            pool.balance[row, t] = pool.all_plain[BALANCE, t]
            pool.drawn[row, t] = pool.all_plain[DRAWN, t]


@compiled_loop
def stop_plain(work: Any, q: int, loan: Any, month: Any, ead: Any, lost: Any) -> None:
    """A plain loan that defaults pays no more; what is drawn at the opening of that month is part of its exposure."""
    pool, row = work.pool, cash_row(work, q)
    if pool.plain.shape[0] == 0:
        return
    for t in range(month, pool.plain.shape[2]):
        pool.interest[row, t] -= pool.plain[loan, INTEREST, t]
        pool.principal[row, t] -= pool.plain[loan, PRINCIPAL, t]
        pool.balance[row, t] -= pool.plain[loan, BALANCE, t]
        if t > month:
            pool.drawn[row, t] -= pool.plain[loan, DRAWN, t]
    pool.defaulted[row, month] += ead
    pool.recovery[row, month] += ead - lost


@compiled_loop
def add_draw(book: Any, work: Any, q: int, t: int, loan: Any) -> None:
    """A loan's undrawn part."""
    work.pool.drawn[cash_row(work, q), t] += to_cents(book.loans.commitment_cents[loan], book.loans.undrawn[loan])


@compiled_loop
def add_due(book: Any, work: Any, q: int, t: int, tile: int) -> None:
    """What a tile's loans pay in month t if none defaults: interest, and the opening part of principal."""
    lanes, row = book.lanes, cash_row(work, q)
    interest, opening = tile_due(
        work.arena, tile_base(lanes, tile), state_base(lanes, tile, q), book.loans.commitment_cents, u64(tile * TILE),
        loans_in(lanes, tile),
    )  # fmt: skip
    work.pool.interest[row, t] += i64(interest)
    work.pool.principal[row, t] += i64(opening)


@compiled_sum
def tile_due(arena: Any, shared: Any, state: Any, commitment: Any, first: Any, n: int) -> Any:
    """Interest and balances, each loan's in whole cents, of the lanes that are to pay. Vectorises."""
    interest, opening = 0.0, 0.0
    for i in range(n):
        lane = u64(i)
        balance, breaches, cents = arena[state + AT_BALANCE + lane], arena[state + AT_BREACHES + lane], commitment[first + lane]
        owed = balance if (breaches != DEAD) & (breaches != WAITING) else ZERO
        opening += cents_of(cents, owed)
        interest += cents_of(cents, owed * arena[shared + AT_RATE + lane])
    return interest, opening


@compiled_loop
def take_back(work: Any, q: int, t: int, commitment: Any, balance: Any, rate: Any) -> None:
    """A loan that defaults pays nothing of what `add_due` has added for it."""
    row = cash_row(work, q)
    work.pool.interest[row, t] -= to_cents(commitment, balance * rate)
    work.pool.principal[row, t] -= to_cents(commitment, balance)


@compiled_loop
def add_recovery(work: Any, q: int, month: Any, sold: Any, ead: Any, lost: Any) -> None:
    """What a defaulted loan owed, and what came of it in the month of its sale."""
    row = cash_row(work, q)
    work.pool.defaulted[row, month] += ead
    work.pool.recovery[row, sold] += ead - lost


@compiled_loop
def add_balances(book: Any, work: Any, q: int, t: int) -> None:
    """What the loans owe after month t, and its part of their principal."""
    lanes, commitment, row = book.lanes, book.loans.commitment_cents, cash_row(work, q)
    balance = i64(0)
    for tile in range(lanes.tile_lanes.shape[0]):
        if work.living[q, tile] > 0:
            balance += i64(
                tile_balance(work.arena, state_base(lanes, tile, q), commitment, u64(tile * TILE), loans_in(lanes, tile))
            )
    work.pool.balance[row, t] += balance
    work.pool.principal[row, t] -= balance - waiting_balance(book, work, q, t)


@compiled_sum
def tile_balance(arena: Any, state: Any, commitment: Any, first: Any, n: int) -> Any:
    """What the living loans of a tile owe, each in whole cents. Vectorises."""
    total = 0.0
    for i in range(n):
        lane = u64(i)
        lives = arena[state + AT_BREACHES + lane] != DEAD
        total += cents_of(commitment[first + lane], arena[state + AT_BALANCE + lane] if lives else ZERO)
    return total


@compiled_loop
def waiting_balance(book: Any, work: Any, q: int, t: int) -> Any:
    """What the loans owe that pay nothing before their chips serve."""
    lanes, total = book.lanes, i64(0)
    for k in range(lanes.waiting.shape[0]):
        loan = lanes.waiting[k]
        if book.loans.first_month[loan] <= t:
            break
        place = lane_place(lanes, loan, q)
        if work.arena[place + AT_BREACHES] == WAITING:
            total += to_cents(book.loans.commitment_cents[loan], work.arena[place + AT_BALANCE])
    return total


@compiled_loop
def loans_in(lanes: Any, tile: int) -> Any:
    """Loans of a tile; the lanes behind them are empty."""
    return min(TILE, lanes.n_loans - tile * TILE)
