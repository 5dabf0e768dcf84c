"""What GPU loans pay and owe by path and month (docs/model.md 9), kept by the compiled loops where it is asked for."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class PoolRecord(NamedTuple):
    """The columns of `PoolCash`, (n_paths, T + 1) cents, of which threads write different rows. Without paths none is kept."""

    interest: Any
    principal: Any
    drawn: Any
    balance: Any
    defaulted: Any
    recovery: Any


def new_pool(book: Any, n_paths: int) -> PoolRecord:
    """Room for so many paths of a book."""
    shape = (n_paths, int(book.market.n_months) + 1)
    return PoolRecord(*(np.zeros(shape, np.int64) for _ in PoolRecord._fields))
