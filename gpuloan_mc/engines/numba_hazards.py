"""Hazards of the classes, compiled: all months at once, or month by month where the book's own chips move them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..paths.arithmetic import ZERO, log
from ..paths.obligors import H_0, accumulated, log_accumulated
from .numba_abreast import (
    CUMULATIVE,
    DEMAND,
    DEMAND_SENSITIVITY,
    DRIVER_ROWS,
    LANES,
    LEVEL,
    MEAN,
    OVERHANG_SENSITIVITY,
    PATHS_AT_ONCE,
    SENSITIVITY_ROWS,
    SHIFT,
    STATE_ROWS,
)
from .numba_market import BEFORE
from .numba_memory import compiled_loop, month_lane

u64 = np.uint64

AT_SHIFT, AT_DEMAND = u64(SHIFT * LANES), u64(DEMAND * LANES)
AT_CUMULATIVE, AT_LEVEL, AT_MEAN = u64(CUMULATIVE * LANES), u64(LEVEL * LANES), u64(MEAN * LANES)
OF_DEMAND, OF_OVERHANG = u64(DEMAND_SENSITIVITY * LANES), u64(OVERHANG_SENSITIVITY * LANES)


@compiled_loop
def start_hazards(hazards: Any, abreast: Any, work: Any, horizon: int) -> None:
    """(3.1) all months of the classes that the book's chips do not move; month 0 and the drivers of the others."""
    end = PATHS_AT_ONCE * (horizon + 1)
    for k in range(abreast.fixed_class.shape[0]):
        c = abreast.fixed_class[k]
        shift_class(hazards, work, c, end)
        for q in range(PATHS_AT_ONCE):
            work.cumulative[q], work.log_hazard[c, q] = H_0, log(H_0)
        chain_hazard(
            work.cumulative,
            work.log_hazard[c],
            abreast.hazard[c],
            work.shift,
            work.demand,
            end,
            hazards.demand_sensitivity[c],
            hazards.overhang_sensitivity[c],
        )
    for k in range(abreast.fed_class.shape[0]):
        c = abreast.fed_class[k]
        shift_class(hazards, work, c, end)
        put_drivers(work, abreast.n_fed_blocks, k, horizon)
        state = k // 4 * STATE_ROWS * LANES + k % 4 * PATHS_AT_ONCE
        for q in range(PATHS_AT_ONCE):
            work.log_hazard[c, q] = log(H_0)
            work.hazard_state[u64(state + q) + AT_CUMULATIVE] = H_0
            work.hazard_state[u64(state + q) + AT_LEVEL] = log(H_0)


@compiled_loop
def shift_class(hazards: Any, work: Any, c: int, end: int) -> None:
    """a of (3.1): the regime's of each month."""
    for i in range(end):
        lane = u64(i)
        work.shift[lane] = hazards.regime_shift[c, work.regime[lane]]


@compiled_loop
def chain_hazard(
    cumulative: Any, level: Any, hazard: Any, shift: Any, demand: Any, end: int, of_demand: Any, of_overhang: Any
) -> None:
    """(3.1) month after month, four paths at once. Vectorises."""
    for i in range(PATHS_AT_ONCE, end):
        lane = u64(i)
        total = accumulated(
            cumulative[lane - BEFORE], hazard[lane], shift[lane], of_demand, demand[lane], of_overhang, ZERO
        )
        cumulative[lane] = total
        level[lane] = log_accumulated(total, level[lane - BEFORE])


@compiled_loop
def put_drivers(work: Any, n_blocks: int, k: int, horizon: int) -> None:
    """What moves a class beside the overhang, where its month finds it."""
    for t in range(horizon + 1):
        place = u64((t * n_blocks + k // 4) * DRIVER_ROWS * LANES + k % 4 * PATHS_AT_ONCE)
        for q in range(PATHS_AT_ONCE):
            lane = month_lane(t, q)
            work.drivers[place + AT_SHIFT + u64(q)] = work.shift[lane]
            work.drivers[place + AT_DEMAND + u64(q)] = work.demand[lane]


@compiled_loop
def step_hazards(abreast: Any, work: Any, t: int) -> None:
    """(3.1) of month t of the classes that the book's chips move."""
    for block in range(abreast.n_fed_blocks):
        hazard_block(abreast, work, t, block)
    for k in range(abreast.fed_class.shape[0]):
        c, state = abreast.fed_class[k], k // 4 * STATE_ROWS * LANES + k % 4 * PATHS_AT_ONCE
        for q in range(PATHS_AT_ONCE):
            work.log_hazard[c, month_lane(t, q)] = work.hazard_state[u64(state + q) + AT_LEVEL]


@compiled_loop
def hazard_block(abreast: Any, work: Any, t: int, block: int) -> None:
    """(3.1) of a block of classes. Vectorises."""
    state, drivers, month = work.hazard_state, work.drivers, work.month
    hazard, sensitivities = abreast.fed_hazard, abreast.sensitivities
    place = t * abreast.n_fed_blocks + block
    at, driver, of_month = u64(block * STATE_ROWS * LANES), u64(place * DRIVER_ROWS * LANES), u64(place * LANES)
    of_class = u64(block * SENSITIVITY_ROWS * LANES)
    for i in range(LANES):
        lane = u64(i)
        total = accumulated(
            state[at + AT_CUMULATIVE + lane],
            hazard[of_month + lane],
            drivers[driver + AT_SHIFT + lane],
            sensitivities[of_class + OF_DEMAND + lane],
            drivers[driver + AT_DEMAND + lane],
            sensitivities[of_class + OF_OVERHANG + lane],
            month[AT_MEAN + lane],
        )
        state[at + AT_CUMULATIVE + lane] = total
        state[at + AT_LEVEL + lane] = log_accumulated(total, state[at + AT_LEVEL + lane])
