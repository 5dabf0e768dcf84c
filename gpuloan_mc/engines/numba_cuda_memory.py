"""What a block of the kernel of numba-cuda works on: where its threads are, what they share on the chip, where results go."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .numba_cuda_layout import MOST_GENERATIONS, PATHS_AT_ONCE
from .twins import DEVICE

cuda: Any = DEVICE  # the target's module in the twins

f32, f64, i32, i64, u32, u64 = np.float32, np.float64, np.int32, np.int64, np.uint32, np.uint64

DEAD, WAITING = i32(-1), i32(-2)  # in the place of a loan's breaches
LET, CLAIM, RELEASED = i32(1), i32(2), i32(4)
NO_MONTH, ONE_MORE, ONE_LESS = i32(0), i32(1), i32(-1)
FOUR_BITS = u64(3)
QUAD_SHIFT = u64(2)
ALL_QUALITIES = f32(1e6)

# rows of a path's generations in shared memory
OVERHANG, CONTRACT, RENT, SPOT_INCOME, SPOT_PRICE = range(5)
GENERATION_SHAPE = (PATHS_AT_ONCE, 5, MOST_GENERATIONS)
RELEASED_SHAPE = (PATHS_AT_ONCE, MOST_GENERATIONS)


class Here(NamedTuple):
    """Where a thread is: its block's paths 4·quad + low … 4·quad + high - 1, their slots, and its part of the work."""

    seed: Any
    quad: Any  # uint64
    low: Any
    high: Any
    slot: Any  # of path 4·quad
    row: Any  # of path 4·quad in the results, maybe negative
    thread: Any
    n_threads: Any


class Shared(NamedTuple):
    """What a block's threads share on the chip."""

    generation: Any  # (4, 5, MOST_GENERATIONS)
    mean_overhang: Any  # (4,)
    released: Any  # (4, MOST_GENERATIONS) int32 chips of this month
    open_sales: Any  # (4,) int32


class Results(NamedTuple):
    """Where defaults and prices go."""

    events: Any  # (capacity, EVENT_FIELDS) int64
    n_events: Any  # (1,) int64 defaults seen, more than the capacity when some found no place
    prices: Any  # (paths, H + 1, 2, G), no rows where they are not asked for


def path_of(here: Any, q: Any) -> Any:
    """Number of a path among the four."""
    return (here.quad << QUAD_SHIFT) + u64(q)


def emit(results: Any, row: Any, loan: Any, month: Any, cause: Any, ead: Any, lost: Any) -> None:
    """One default; where no place is left it is counted, and the host asks again with more."""
    k = cuda.atomic.add(results.n_events, 0, i64(1))
    if k < results.events.shape[0]:
        results.events[k, 0] = i64(row)
        results.events[k, 1] = i64(loan)
        results.events[k, 2] = i64(month)
        results.events[k, 3] = i64(cause)
        results.events[k, 4] = i64(ead)
        results.events[k, 5] = i64(lost)
