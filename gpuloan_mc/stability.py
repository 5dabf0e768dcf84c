"""Whether a run's errors can be believed: its book run again with other seeds, and the spread beside what was stated."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from . import risk
from .arguments import MAX_SEED, whole_number
from .comparison import after
from .contributions import exact_level
from .convergence import Measured, measured
from .questions import Questions
from .simulation import simulate

if TYPE_CHECKING:
    import pandas as pd

MAX_SEEDS = 1000


def stability(
    run: Questions,
    n_seeds: int = 10,
    levels: Sequence[float] = (0.99,),
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """A row a measure: its spread over seeds beside the standard errors that the runs state (docs/schema.md,
    stability.parquet).

    The first seed is the run's own, whose paths are not simulated again; the others follow it. With errors that are right,
    (n_seeds - 1)·ratio² is a χ² variable of n_seeds - 1 degrees of freedom, if the measure is normal over seeds: the ratio
    then lies inside `ratio_low` and `ratio_high` 19 times out of 20.

    Args:
        n_seeds: 2 … 1,000. levels: of value at risk and expected shortfall. workers: as in `simulate`.
        progress: called with (paths done, paths in all).

    Raises:
        UsageError: an argument is out of range.
        InputRejected, EnvironmentProblem, Interrupted: as `simulate`.
    """
    import pandas as pd

    n_seeds = whole_number("seeds", n_seeds, 2, MAX_SEEDS)
    for level in levels:
        exact_level(level)
    portfolio, n_paths = run.portfolio, run.n_paths
    found = [measured(run.losses, levels)]
    for k in range(1, n_seeds):
        told = None if progress is None else after(progress, (k - 1) * n_paths, (n_seeds - 1) * n_paths)
        seed = (run.seed + k) % (MAX_SEED + 1)
        other = simulate(portfolio, portfolio.market, n_paths=n_paths, seed=seed, workers=workers, progress=told)
        found.append(measured(other.losses, levels))
    return pd.DataFrame([_row(list(rows)) for rows in zip(*found, strict=True)])


def _row(seeds: list[Measured]) -> dict[str, float | str | int | bool]:
    """One measure over the seeds, the run's own first."""
    n, own = len(seeds), seeds[0]
    values, errors = (np.array([getattr(m, name) for m in seeds]) for name in ("value", "standard_error"))
    spread, stated = float(values.std(ddof=1)), math.sqrt(float((errors**2).mean()))
    from scipy import special

    low, high = (math.sqrt(float(special.chdtri(n - 1, tail)) / (n - 1)) for tail in _two_tails())
    ratio = spread / stated if stated > 0 else math.nan
    return {
        "measure": own.measure,
        "level": own.level,
        "seeds": n,
        "paths": own.paths,
        "value_usd": own.value,
        "mean_usd": float(values.mean()),
        "spread_usd": spread,
        "standard_error_usd": own.standard_error,
        "stated_error_usd": stated,
        "ratio": ratio,
        "ratio_low": low,
        "ratio_high": high,
        "agrees": bool(low <= ratio <= high) or (spread == 0 and stated == 0),
        "tail_paths": own.tail_paths,
        "few": own.tail_paths < risk.FEW_PATHS,
    }


def _two_tails() -> tuple[float, float]:
    """Probabilities above the lower and the upper bound of a 95 % interval."""
    return (1 + risk.CONFIDENCE) / 2, (1 - risk.CONFIDENCE) / 2
