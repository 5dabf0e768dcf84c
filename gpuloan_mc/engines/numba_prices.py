"""A month's prices, compiled: from the chips that came back in the month before, four generations of four paths a block."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..paths.arithmetic import ZERO, exp
from ..paths.loans import spot_rate
from ..paths.market import chip_value, log_price, next_overhang, spot_price, yearly_rent
from ..paths.primitives import fma
from .numba_abreast import (
    AHEAD_ROWS,
    ANNUITY,
    COST,
    DEPTH,
    FLOOR,
    LANES,
    MEAN,
    MONTH_ROWS,
    OUTSIDE,
    OVERHANG,
    PREMIUM,
    PRICE,
    RENT,
    SPOT,
    SPOT_PRICE,
    TERM_ROWS,
    USED,
)
from .numba_memory import compiled_loop, month_lane, month_place

f32, i64, u64 = np.float32, np.int64, np.uint64

AT_OVERHANG, AT_MEAN, AT_PRICE, AT_RENT, AT_SPOT, AT_SPOT_PRICE = (
    u64(row * LANES) for row in (OVERHANG, MEAN, PRICE, RENT, SPOT, SPOT_PRICE)
)
AT_OUTSIDE, AT_PREMIUM, AT_USED = (u64(row * LANES) for row in (OUTSIDE, PREMIUM, USED))
AT_DEPTH, AT_FLOOR, AT_COST, AT_ANNUITY = (u64(row * LANES) for row in (DEPTH, FLOOR, COST, ANNUITY))


@compiled_loop
def step_market(market: Any, abreast: Any, recovery: Any, work: Any, t: int) -> None:
    """(2.7)-(2.11) of month t from the chips released in t-1, four paths."""
    for block in range(abreast.n_blocks):
        add_chips(abreast, work, t, block, abreast.n_lanes, market.overhang_decay)
    spread_mean(market, work, t, abreast.n_blocks)
    for block in range(abreast.n_blocks):
        price_block(abreast, work, t, block, market.own_weight, market.overhang_impact, recovery.spot_keep)


@compiled_loop
def add_chips(abreast: Any, work: Any, t: int, block: int, n: int, decay: Any) -> None:
    """(2.7) of a block; the next month starts without chips. Vectorises: with a constant `n` it would be unrolled."""
    month, released, calendar, terms = work.month, work.released, abreast.calendar, abreast.terms
    place = t * abreast.n_blocks + block
    at, term = u64(block * MONTH_ROWS * LANES), u64(place * TERM_ROWS * LANES)
    of_book, outside = u64(block * LANES), u64(place * LANES)
    for i in range(n):
        lane = u64(i)
        chips = f32(released[of_book + lane] + calendar[outside + lane])
        released[of_book + lane] = 0.0
        overhang = month[at + AT_OVERHANG + lane]
        month[at + AT_OVERHANG + lane] = next_overhang(overhang, decay, chips, terms[term + AT_DEPTH + lane])


@compiled_loop
def spread_mean(market: Any, work: Any, t: int, n_blocks: int) -> None:
    """(2.8) V̄ of each path, for all its generations."""
    month, weights = work.month, market.depth_weights
    first, second, third, fourth = ZERO, ZERO, ZERO, ZERO
    for g in range(market.demand_beta.shape[0]):
        place, weight = month_place(OVERHANG, g, 0), weights[t, g]
        first = fma(weight, month[place], first)
        second = fma(weight, month[place + u64(1)], second)
        third = fma(weight, month[place + u64(2)], third)
        fourth = fma(weight, month[place + u64(3)], fourth)
    for g in range(4 * n_blocks):
        place = month_place(MEAN, g, 0)
        month[place], month[place + u64(1)] = first, second
        month[place + u64(2)], month[place + u64(3)] = third, fourth


@compiled_loop
def price_block(abreast: Any, work: Any, t: int, block: int, own_weight: Any, impact: Any, keep: Any) -> None:
    """(2.8)-(2.11) of a block, and what an uncontracted chip earns an hour. Vectorises."""
    month, ahead, terms = work.month, work.ahead, abreast.terms
    place = t * abreast.n_blocks + block
    at, before, term = u64(block * MONTH_ROWS * LANES), u64(place * AHEAD_ROWS * LANES), u64(place * TERM_ROWS * LANES)
    for i in range(LANES):
        lane = u64(i)
        logarithm = log_price(
            ahead[before + AT_OUTSIDE + lane],
            month[at + AT_OVERHANG + lane],
            month[at + AT_MEAN + lane],
            own_weight,
            impact,
            terms[term + AT_FLOOR + lane],
        )
        used = ahead[before + AT_USED + lane]
        contract, spot = exp(logarithm), spot_price(logarithm, ahead[before + AT_PREMIUM + lane])
        month[at + AT_PRICE + lane] = contract
        month[at + AT_RENT + lane] = yearly_rent(
            contract, used, terms[term + AT_COST + lane], terms[term + AT_ANNUITY + lane]
        )
        month[at + AT_SPOT_PRICE + lane] = spot
        month[at + AT_SPOT + lane] = spot_rate(spot, used, keep)


@compiled_loop
def start_prices(market: Any, abreast: Any, recovery: Any, work: Any) -> None:
    """Month 0: no overhang and no launch since."""
    for block in range(abreast.n_blocks):
        price_block(abreast, work, 0, block, market.own_weight, market.overhang_impact, recovery.spot_keep)


@compiled_loop
def keep_prices(market: Any, work: Any, paths: Any, q: int, t: int) -> None:
    """Contract and spot prices of a month, where they are asked for."""
    if paths.prices.shape[0] > 0:
        for g in range(market.demand_beta.shape[0]):
            paths.prices[work.row[0] + q, t, 0, g] = work.month[month_place(PRICE, g, q)]
            paths.prices[work.row[0] + q, t, 1, g] = work.month[month_place(SPOT_PRICE, g, q)]


@compiled_loop
def record_market(market: Any, work: Any, q: int, t: int) -> None:
    """The market of month t, and the chips that came back in it."""
    record, row, lane = work.record, work.row[0] + q, month_lane(t, q)
    record.regimes[t, row], record.demand[t, row] = work.regime[lane], work.demand[lane]
    record.utilisation[t, row] = work.used[lane]
    for g in range(market.demand_beta.shape[0]):
        record.contract[t, row, g] = work.month[month_place(PRICE, g, q)]
        record.spot[t, row, g] = work.month[month_place(SPOT_PRICE, g, q)]
        record.overhang[t, row, g] = work.month[month_place(OVERHANG, g, q)]
        record.released[t, row, g] = i64(work.released[month_lane(g, q)])
    for vintage in range(market.vintage_generation.shape[0]):
        record.values[t, row, vintage] = value_of(market, work, q, t, vintage)


@compiled_loop
def value_of(market: Any, work: Any, q: int, t: int, vintage: Any) -> Any:
    """(2.11) C_v, computed where it is asked for."""
    g = market.vintage_generation[vintage]
    return chip_value(work.month[month_place(RENT, g, q)], market.value_cap[t, vintage], market.scrap_value[g])
