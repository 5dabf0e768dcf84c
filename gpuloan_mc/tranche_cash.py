"""What a pool's tranches get over all paths of a run: losses, interest, weighted average life and yield, with errors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import risk
from .arguments import whole_number
from .engines.choice import event_engine
from .inputs.pool_file import PoolFile, as_pool
from .payments import COLUMNS, SUMS, Payments, as_floats
from .questions import Questions, check_sums
from .receipts import Pool
from .reference.arithmetic import F64, I64
from .risk import Moments
from .waterfall import CENTS, Structure

if TYPE_CHECKING:
    import pandas as pd

PATHS_AT_ONCE = 16_384
LOW = 0.05  # the quantile of yields that is shown


@dataclass(frozen=True)
class TrancheCash:
    """A pool's structure evaluated on the first paths of a run. Arrays are (tranches, n_paths), the residual last."""

    structure: Structure
    losses: I64 = field(repr=False)  # cents of principal that are never paid
    shortfalls: I64 = field(repr=False)  # cents of interest
    lives: F64 = field(repr=False)  # years; nan where no principal is paid
    yields: F64 = field(repr=False)  # a year; -1 where nothing is paid
    failed: I64 = field(repr=False)  # (n_paths,) months in which a test failed
    trapped: I64 = field(repr=False)  # (n_paths,) cents of interest that tests or turbo turned into principal
    fees: I64 = field(repr=False)  # (n_paths,) cents
    mean_interest: F64 = field(repr=False)  # (tranches, T + 1) cents
    mean_principal: F64 = field(repr=False)

    @property
    def n_paths(self) -> int:
        """Number of paths."""
        return int(self.losses.shape[1])

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row a tranche, the most senior first (docs/schema.md, waterfall.parquet)."""
        import pandas as pd

        return pd.DataFrame([self._row(k) for k in range(len(self.structure.sizes))])

    def _row(self, k: int) -> dict[str, Any]:
        size, losses, n = self.structure.sizes[k], self.losses[k], self.n_paths
        moments, short = Moments.of(losses), Moments.of(self.shortfalls[k])
        hit = int(np.count_nonzero(losses))
        low, high = risk.wilson_interval(hit, n)
        life, life_se = _mean(self.lives[k][~np.isnan(self.lives[k])])
        yearly, yearly_se = _mean(self.yields[k])
        return {
            "tranche": self.structure.names[k],
            "size_usd": size / CENTS,
            "expected_loss_usd": moments.mean / CENTS,
            "expected_loss_se_usd": moments.standard_error / CENTS,
            "expected_loss_share": moments.mean / size,
            "expected_loss_share_se": moments.standard_error / size,
            "probability_of_loss": hit / n,
            "probability_of_loss_low": low,
            "probability_of_loss_high": high,
            "expected_shortfall_of_interest_usd": short.mean / CENTS,
            "expected_shortfall_of_interest_se_usd": short.standard_error / CENTS,
            "life_years": life,
            "life_se_years": life_se,
            "yield": yearly,
            "yield_se": yearly_se,
            "yield_low": float(np.sort(self.yields[k])[risk.quantile_rank(n, LOW) - 1]),
            "paths_with_loss": hit,
            "paths": n,
        }

    @cached_property
    def months(self) -> pd.DataFrame:
        """A row a tranche and month: mean interest, principal and what is owed after it (waterfall_months.parquet)."""
        import pandas as pd

        frames = []
        for k, name in enumerate(self.structure.names):
            principal = self.mean_principal[k]
            frame = {
                "tranche": name,
                "month": np.arange(len(principal), dtype=np.int64),
                "interest_usd": self.mean_interest[k] / CENTS,
                "principal_usd": principal / CENTS,
                "owed_usd": (self.structure.sizes[k] - np.cumsum(principal)) / CENTS,
            }
            frames.append(pd.DataFrame(frame))
        return pd.concat(frames, ignore_index=True)


def tranche_cash(run: Questions, pool: PoolFile | str | Path, n_paths: int | None = None) -> TrancheCash:
    """The waterfall of a run's loans as one pool, on its first paths.

    Args:
        run: a run.
        pool: a `PoolFile`, a pool.toml, or a book whose folder has one.
        n_paths: how many of the run's paths; None: all. If the run was one with this pool, all are there; else each is run
            again on the CPU.

    Raises:
        InputRejected: the pool's file is wrong, or its tranches take more than the commitment.
        UsageError: more paths than the run has, or a path does not lose what the run says.
    """
    file = as_pool(pool)
    n_paths = run.n_paths if n_paths is None else whole_number("n_paths", n_paths, 1, run.n_paths)
    found = run.payments if n_paths == run.n_paths and run.has_payments(file) else None
    securitised = Pool.of(run.plan, run.portfolio, file)
    if found is None:
        found = Payments.joined(list(_payments(run, securitised, n_paths)))
    columns = {name: getattr(found, name) for name in COLUMNS}
    means: dict[str, Any] = {f"mean_{name}": as_floats(getattr(found, name)) / n_paths for name in SUMS}
    return TrancheCash(securitised.structure, **columns, **means)


def _payments(run: Questions, pool: Pool, n_paths: int) -> Iterator[Payments]:
    """Paths that are run again, a chunk at a time."""
    engine = event_engine(run.engine)
    engine.prepare(run.plan)
    size = min(engine.longest_chunk(run.plan), PATHS_AT_ONCE)
    for first in range(0, n_paths, size):
        table = engine.run(run.plan, run.seed, first, min(size, n_paths - first), pool=pool)
        check_sums(run, first + np.arange(len(table.loss), dtype=np.int64), table.loss)
        assert table.payments is not None
        yield table.payments


def _mean(values: F64) -> tuple[float, float]:
    """Mean and standard error; nan where there are too few."""
    if len(values) == 0:
        return math.nan, math.nan
    error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan
    return float(values.mean()), error
