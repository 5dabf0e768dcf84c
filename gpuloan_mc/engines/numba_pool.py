"""What GPU loans pay and owe by path and month (docs/model.md 9), kept by the compiled loops where it is asked for."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .numba_layout import PATHS_AT_ONCE

u8 = np.uint8

GONE, STANDS, FALLEN = u8(0), u8(1), u8(2)


class PoolRecord(NamedTuple):
    """The columns of `PoolCash`, (n_paths, T + 1) cents, of which threads write different rows; then a thread's own.

    Without paths nothing is kept.
    """

    interest: Any
    principal: Any
    drawn: Any
    balance: Any
    defaulted: Any
    recovery: Any
    opening: Any  # (4, L) float32 balances as the month opens, before what is drawn in it
    standing: Any  # (4, L) GONE, STANDS or FALLEN this month


def new_pool(book: Any, n_paths: int) -> PoolRecord:
    """Room for so many paths of a book."""
    shape = (n_paths, int(book.market.n_months) + 1)
    own = (PATHS_AT_ONCE, len(book.loans.key) if n_paths else 0)
    interest, principal, drawn, balance, defaulted, recovery = (np.zeros(shape, np.int64) for _ in range(6))
    opening, standing = np.zeros(own, np.float32), np.zeros(own, np.uint8)
    return PoolRecord(interest, principal, drawn, balance, defaulted, recovery, opening, standing)


def thread_pool(pool: PoolRecord) -> PoolRecord:
    """The same columns, and memory of another thread's own."""
    return pool._replace(opening=np.zeros_like(pool.opening), standing=np.zeros_like(pool.standing))
