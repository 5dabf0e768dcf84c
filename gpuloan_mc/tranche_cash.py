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
from .inputs.pool_file import PoolFile, read_pool
from .questions import Questions
from .receipts import Pool
from .reference.arithmetic import F64, I64
from .risk import Moments
from .waterfall import CENTS, YEAR, Flows, Structure, run_waterfall

if TYPE_CHECKING:
    import pandas as pd

LOW = 0.05  # the quantile of yields that is shown
NEWTON_STEPS = 60
SAME = 1e-13  # of a discount factor


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
    parts = list(_parts(structure, loans, n_paths))
    joined = {name: np.concatenate([p[name] for p in parts], axis=-1) for name in parts[0] if not name.startswith("mean")}
    means = {name: sum(p[name] for p in parts) / n_paths for name in parts[0] if name.startswith("mean")}
    return TrancheCash(structure, **joined, **means)


def _parts(structure: Structure, loans: Pool, n_paths: int) -> Iterator[dict[str, Any]]:
    """The fields of a `TrancheCash`, a chunk of paths at a time; means are sums over the chunk."""
    for _, cash in loans.cash(n_paths):
        flows = run_waterfall(structure, cash)
        yield {
            "losses": flows.owed,
            "shortfalls": flows.deferred,
            "lives": lives(flows.principal),
            "yields": yields(structure, flows),
            "failed": flows.failed,
            "trapped": flows.trapped,
            "fees": flows.fees,
            "mean_interest": flows.interest.sum(axis=1, dtype=np.float64),
            "mean_principal": flows.principal.sum(axis=1, dtype=np.float64),
        }


def lives(principal: I64) -> F64:
    """Mean time to principal, years, of flows (…, T + 1); nan where there is none."""
    total = principal.sum(axis=-1)
    months = principal @ np.arange(principal.shape[-1], dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, months / (YEAR * total), math.nan)


def yields(structure: Structure, flows: Flows) -> F64:
    """Yearly yield of each tranche and path at its size; the residual also pays for the reserve."""
    price = np.array(structure.sizes, dtype=np.float64)
    price[-1] += structure.reserve
    return internal_rate((flows.interest + flows.principal).astype(np.float64), price[:, None])


def internal_rate(flows: F64, price: F64) -> F64:
    """The yearly rate, compounded monthly, at which flows (…, T + 1) are worth the price (…); -1 where none is above 0.

    With v = 1/(1 + monthly rate), Σ c_t·v^t rises in v and is convex. v ≤ (price / Σ c)^(1/mean month) for flows of one
    sign, by Jensen, so Newton's steps from there fall to the root one after another.
    """
    total = flows.sum(axis=-1)
    paid = total > 0
    months = np.arange(flows.shape[-1], dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        middle = np.maximum((flows @ months) / total, 1)
        v = np.where(paid, (price / np.where(paid, total, 1)) ** (1 / middle), 1.0)
        for _ in range(NEWTON_STEPS):
            value, slope = _value(flows, v)
            step = np.where(paid & (slope > 0), (value - price) / np.where(slope > 0, slope, 1), 0)
            v = v - step
            if np.all(np.abs(step) <= SAME * v):
                break
    return np.where(paid, v ** -YEAR - 1, -1.0)


def _value(flows: F64, v: F64) -> tuple[F64, F64]:
    """Σ c_t·v^t and its slope, by Horner's rule."""
    value, slope = np.zeros_like(v), np.zeros_like(v)
    for t in range(flows.shape[-1] - 1, -1, -1):
        slope = slope * v + value
        value = value * v + flows[..., t]
    return value, slope


def _mean(values: F64) -> tuple[float, float]:
    """Mean and standard error; nan where there are too few."""
    if len(values) == 0:
        return math.nan, math.nan
    error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan
    return float(values.mean()), error
