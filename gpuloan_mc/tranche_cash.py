"""What a pool's tranches get over all paths of a run: losses, interest, weighted average life and yield, with errors."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import risk
from .arguments import whole_number
from .engines.base import PoolCash
from .engines.numba_cpu import available_cores
from .inputs.pool_file import PoolFile, read_pool
from .payments import Payments, compiled_payments, reference_payments
from .questions import Questions
from .receipts import Pool
from .reference.arithmetic import F64, I64
from .risk import Moments
from .waterfall import CENTS, Structure

if TYPE_CHECKING:
    import pandas as pd

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
        n_paths: how many of the run's paths; None: all. Each is run again on the CPU.

    Raises:
        InputRejected: the pool's file is wrong, or its tranches take more than the commitment.
        UsageError: more paths than the run has, or a path does not lose what the run says.
    """
    file = pool if isinstance(pool, PoolFile) else read_pool(pool)
    n_paths = run.n_paths if n_paths is None else whole_number("n_paths", n_paths, 1, run.n_paths)
    loans = Pool.of(run)
    structure = Structure.of(
        file, run.portfolio.market, balance=loans.balance, undrawn=loans.undrawn, last_draw=loans.last_draw,
        months=int(run.plan.market.n_months),
    )  # fmt: skip
    found = Payments.joined([_payments(run, structure, cash) for _, cash in loans.cash(n_paths)])
    columns = {f.name: getattr(found, f.name) for f in fields(Payments) if f.name not in ("interest", "principal")}
    return TrancheCash(
        structure, **columns, mean_interest=found.interest / n_paths, mean_principal=found.principal / n_paths
    )


def _payments(run: Questions, structure: Structure, cash: PoolCash) -> Payments:
    if run.engine == "numpy":
        return reference_payments(structure, cash)
    return compiled_payments(structure, cash, available_cores())


def _mean(values: F64) -> tuple[float, float]:
    """Mean and standard error; nan where there are too few."""
    if len(values) == 0:
        return math.nan, math.nan
    error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan
    return float(values.mean()), error
