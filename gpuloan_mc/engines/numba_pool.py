"""What loans pay and owe by path and month (docs/model.md 9), kept by the compiled loops where it is asked for."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..reference.arithmetic import I64


class PoolRecord(NamedTuple):
    """The columns of `PoolCash`, (n_paths, T + 1) cents, of which threads write different rows. Without paths none is kept."""

    interest: Any
    principal: Any
    drawn: Any
    balance: Any
    defaulted: Any
    recovery: Any
    first: Any  # (1,) row of the tally that is row 0 here
    plain: Any  # (n_plain, 4, T + 1) what each plain loan pays and owes until it defaults; none: plain loans are left out
    all_plain: Any  # (4, T + 1) all of them together


def new_pool(book: Any, n_paths: int, plain: I64 | None = None, all_plain: I64 | None = None) -> PoolRecord:
    """Room for so many paths of a book; `plain`: interest, principal, balance and draws of its plain loans in its order."""
    shape = (n_paths, int(book.market.n_months) + 1)
    interest, principal, drawn, balance, defaulted, recovery = (np.zeros(shape, np.int64) for _ in range(6))
    if plain is None or all_plain is None:
        plain, all_plain = np.zeros((0, 4, shape[1]), np.int64), np.zeros((4, shape[1]), np.int64)
    first = np.zeros(1, np.int64)
    return PoolRecord(interest, principal, drawn, balance, defaulted, recovery, first, plain, all_plain)
