"""Layouts in which four neighbouring paths lie side by side, so that loops over lanes serve all four.

A row of months holds every month of a market: month t of path q is lane 4t + q, and the row is filled up to whole vectors.
A block holds one month of four generations, or of four hazard classes: 16 lanes, 4k + q for the kth of them on path q.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..plan import Plan
from ..reference.arithmetic import F32, F64, I32

PATHS_AT_ONCE = 4  # one Philox call serves four paths where one word is needed
LANES = 16  # of a block; loops over them have as many steps, so that nothing is tested before the first
_A_BLOCK = LANES // PATHS_AT_ONCE

# Rows of a block: what a month leaves to the next and to the book's loans, …
OVERHANG, MEAN, PRICE, RENT, SPOT, SPOT_PRICE = range(6)
MONTH_ROWS = 6
# … what is known of all months before the first, …
OUTSIDE, PREMIUM, USED = range(3)
AHEAD_ROWS = 3
# … and the market's own numbers.
DEPTH, FLOOR, COST, ANNUITY = range(4)
TERM_ROWS = 4
# The same of hazard classes that the book's chips move.
CUMULATIVE, LEVEL = range(2)
STATE_ROWS = 2
SHIFT, DEMAND = range(2)
DRIVER_ROWS = 2
DEMAND_SENSITIVITY, OVERHANG_SENSITIVITY = range(2)
SENSITIVITY_ROWS = 2


class Abreast(NamedTuple):
    """Tables of a market and its hazard classes, each number once for each of four paths."""

    width: np.int64  # lanes of a row of months
    n_lanes: np.int64  # LANES
    n_blocks: np.int64  # blocks of generations
    n_fed_blocks: np.int64  # blocks of the classes that the book's chips move
    base_log_price: F32  # (G, width)
    terms: F32  # ((T + 1) * blocks * TERM_ROWS * LANES,)
    calendar: F64  # ((T + 1) * blocks * LANES,) whole numbers: float64 holds them exactly
    hazard: F32  # (C, width)
    fixed_class: I32  # classes that the book's chips do not move
    fed_class: I32  # those that they do
    fed_hazard: F32  # ((H + 1) * fed blocks * LANES,)
    sensitivities: F32  # (fed blocks * SENSITIVITY_ROWS * LANES,)


def abreast(plan: Plan, fed_back: Any) -> Abreast:
    """The tables of a plan; `fed_back`: (C,) whether the book's own chips move a class."""
    market, obligors = plan.market, plan.obligors
    width = months_width(int(market.n_months))
    months = int(market.n_months) + 1
    tables = (market.inverse_depth, market.price_floor, market.hourly_cost, market.annuity)
    terms = np.stack([_blocks(table[:months]) for table in tables], axis=2)
    fed = np.nonzero(fed_back)[0]
    by_class = np.stack([obligors.demand_sensitivity[fed], obligors.overhang_sensitivity[fed]])
    return Abreast(
        width=np.int64(width),
        n_lanes=np.int64(LANES),
        n_blocks=np.int64(terms.shape[1]),
        n_fed_blocks=np.int64(-(-len(fed) // _A_BLOCK)),
        base_log_price=read_only(_rows(market.base_log_price.T, width)),
        terms=read_only(terms.reshape(-1)),
        calendar=read_only(_blocks(market.calendar).reshape(-1), np.float64),
        hazard=read_only(_rows(obligors.hazard.T, width)),
        fixed_class=read_only(np.nonzero(~np.asarray(fed_back, np.bool_))[0], np.int32),
        fed_class=read_only(fed, np.int32),
        fed_hazard=read_only(_blocks(obligors.hazard[:, fed]).reshape(-1)),
        sensitivities=read_only(_blocks(by_class).swapaxes(0, 1).reshape(-1)),
    )


def months_width(n_months: int) -> int:
    """Lanes of months 0 … n_months of four paths, whole vectors."""
    return -(-PATHS_AT_ONCE * (n_months + 1) // LANES) * LANES


def _rows(table: Any, width: int) -> Any:
    """(rows, months) to (rows, width): each number four times."""
    rows = np.zeros((len(table), width), np.float32)
    four = np.repeat(table, PATHS_AT_ONCE, axis=1)
    rows[:, : four.shape[1]] = four
    return rows


def _blocks(table: Any) -> Any:
    """(months, columns) to (months, blocks, LANES): each number four times, empty lanes 0."""
    months, columns = table.shape
    blocks = np.zeros((months, -(-columns // _A_BLOCK), _A_BLOCK), table.dtype)
    blocks.reshape(months, -1)[:, :columns] = table
    return np.repeat(blocks, PATHS_AT_ONCE, axis=2)


def read_only(array: Any, dtype: Any = None) -> Any:
    """A copy that nothing can write to."""
    copy = np.array(array, dtype=dtype, order="C")
    copy.setflags(write=False)
    return copy
