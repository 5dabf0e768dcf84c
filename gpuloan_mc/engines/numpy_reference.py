"""The reference engine: the NumPy model over chunks of paths. Slow, obvious, exact; the others must equal it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..payments import reference_payments
from ..plan import Plan
from ..reference.arithmetic import F32, I64
from ..reference.market import path_numbers
from ..reference.path import History, Recorder, record_paths, run_paths
from ..reference.pool import pool_cash
from .base import Events, Footprint, LoanTable, PathTable, PoolCash, check_cash, tally

if TYPE_CHECKING:
    from ..receipts import PlainSchedule, Pool

# An array of this many float32 and its float64 companions stay in a core's cache.
_TILE = 65_536


class NumpyReference:
    """Engine `numpy`."""

    name = "numpy"

    def prepare(self, plan: Plan) -> None:
        """Nothing comes before the first path."""

    def first_chunk(self, plan: Plan) -> int:
        """Paths of a run's first chunk."""
        return paths_at_once(plan)

    def longest_chunk(self, plan: Plan) -> int:
        """Paths of a chunk at most."""
        return paths_at_once(plan)

    def footprint(self, plan: Plan, chunk: int) -> Footprint:
        """Not known before a chunk has run: NumPy's temporary arrays depend on what happens."""
        return Footprint(None)

    def run(
        self,
        plan: Plan,
        seed: int,
        first_path: int,
        n_paths: int,
        *,
        prices: bool = False,
        pool: Pool | None = None,
    ) -> PathTable:
        """The integers of paths first_path … first_path + n_paths - 1, with prices and a pool's payments when asked for."""
        paths = path_numbers(first_path, n_paths)
        if pool is not None:
            table = self.run(plan, seed, first_path, n_paths, prices=prices)
            cash = self.pool_cash(plan, seed, first_path, n_paths, pool.plain)
            check_cash(cash, table.loss)
            return replace(table, payments=reference_payments(pool.structure, cash))
        if not prices:
            return tally(plan, first_path, n_paths, run_paths(plan, seed, paths))
        defaults, history = record_paths(plan, seed, paths, Recorder(plan, n_paths))
        return tally(plan, first_path, n_paths, defaults, _prices(plan, history))

    def events(self, plan: Plan, seed: int, paths: I64) -> Events:
        """Every default of the paths with these numbers."""
        size = paths_at_once(plan)
        parts = []
        for first in range(0, len(paths), size):
            rows = run_paths(plan, seed, paths[first : first + size].astype(np.uint64))
            columns = (rows.path + first, rows.loan, rows.month, rows.cause, rows.ead, rows.loss)
            parts.append(np.stack([column.astype(np.int64) for column in columns]))
        return Events(*np.concatenate(parts, axis=1))

    def pool_cash(
        self, plan: Plan, seed: int, first_path: int, n_paths: int, plain: PlainSchedule | None = None
    ) -> PoolCash:
        """What the loans of paths first_path … first_path + n_paths - 1 pay and owe; without `plain` the GPU loans alone."""
        paths, size = path_numbers(first_path, n_paths), paths_at_once(plan)
        parts = [pool_cash(plan, seed, paths[first : first + size]) for first in range(0, n_paths, size)]
        cash = PoolCash(*(np.concatenate(column) for column in zip(*parts, strict=True)))
        if plain is not None:
            plain.join(cash, self.events(plan, seed, paths.astype(np.int64)))
        return cash

    def replay(self, plan: Plan, seed: int, paths: I64) -> LoanTable:
        """The paths with these numbers, in full."""
        defaults, history = record_paths(plan, seed, paths.astype(np.uint64), Recorder(plan, len(paths)))
        return LoanTable(paths, defaults, history)


def _prices(plan: Plan, history: History) -> F32:
    """(n_paths, H + 1, 2, G): contract and spot price of months 0 … H."""
    end = int(plan.market.horizon) + 1
    return np.ascontiguousarray(np.stack([history.contract[:end], history.spot[:end]]).transpose(2, 1, 0, 3))


def paths_at_once(plan: Plan) -> int:
    """Paths a chunk for which the arrays of a month fit the cache; memory does not grow beyond it."""
    parties = len(plan.obligors.own_key) + len(plan.obligors.grouped_key) // 4
    width = max(len(plan.deployments.key), len(plan.loans.key), parties, 1)
    return max(16, min(8192, _TILE // width))
