"""The reference engine: the NumPy model over chunks of paths. Slow, obvious, exact; the others must equal it."""

from __future__ import annotations

from ..plan import Plan
from ..reference.market import path_numbers
from ..reference.path import run_paths
from .base import PathTable, tally

# An array of this many float32 and its float64 companions stay in a core's cache.
_TILE = 65_536


class NumpyReference:
    """Engine `numpy`."""

    name = "numpy"

    def run(self, plan: Plan, seed: int, first_path: int, n_paths: int) -> PathTable:
        """The integers of paths first_path … first_path + n_paths - 1."""
        return tally(plan, first_path, n_paths, run_paths(plan, seed, path_numbers(first_path, n_paths)))


def paths_at_once(plan: Plan) -> int:
    """Paths a chunk for which the arrays of a month fit the cache; memory does not grow beyond it."""
    width = max(len(plan.deployments.key), len(plan.loans.key), len(plan.obligors.grouped_key) // 4, 1)
    return max(16, min(8192, _TILE // width))
