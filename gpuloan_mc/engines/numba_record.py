"""What the compiled loops keep of paths that are replayed: the arrays of `History`, and how each loan was recovered."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..reference.market import MAX_LAUNCHES
from ..reference.obligors import NEVER

STEPPED_IN, SALE_MONTH, PROCEEDS = range(3)
RECOVERY_FIELDS = 3


class Record(NamedTuple):
    """A path's place is its row of the run. Threads write different paths; `recoveries` is a thread's own.

    Without paths nothing is recorded.
    """

    regimes: Any  # (T + 1, n_paths), and so on: the arrays of `History`
    demand: Any
    contract: Any
    spot: Any
    overhang: Any
    values: Any
    utilisation: Any
    released: Any
    launch_months: Any
    default_months: Any
    recoveries: Any  # (defaults of a path, RECOVERY_FIELDS) beside the events; rows of plain loans stay 0


def new_record(book: Any, n_paths: int) -> Record:
    """Room for so many paths of a book."""
    market = book.market
    by_path = (int(market.n_months) + 1, n_paths)
    by_generation = (*by_path, len(market.demand_beta))
    n_loans = len(book.loans.key) + len(book.plain.facts)
    return Record(
        regimes=np.zeros(by_path, np.int32),
        demand=np.zeros(by_path, np.float32),
        contract=np.zeros(by_generation, np.float32),
        spot=np.zeros(by_generation, np.float32),
        overhang=np.zeros(by_generation, np.float32),
        values=np.zeros((*by_path, len(market.vintage_generation)), np.float32),
        utilisation=np.zeros(by_path, np.float32),
        released=np.zeros(by_generation, np.int64),
        launch_months=np.full((len(market.launch_first), MAX_LAUNCHES, n_paths), np.inf, np.float32),
        default_months=np.full((n_paths, len(book.obligors.facts)), NEVER, np.int32),
        recoveries=np.zeros((n_loans if n_paths else 0, RECOVERY_FIELDS), np.int64),
    )
