"""What the page is drawn from: a run, its timeline and facts, and a stress of the same book."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__
from ..comparison import Stress
from ..errors import UsageError
from ..exports import stress_of
from ..inputs.pool_file import read_pool
from ..outlook import Outlook
from ..questions import Questions
from ..reference.arithmetic import F64
from ..result import Result
from ..saved_run import SavedRun
from ..sensitivity import TABLE as SENSITIVITIES

if TYPE_CHECKING:
    import pandas as pd

    from ..tranche_cash import TrancheCash

CENTS = 100.0
LEVEL = 0.99  # of every panel that needs one
POOL_PATHS = 20_000  # the waterfall runs paths again: as many as a page is waited for
FEWEST_PATHS = 2  # a run of one path has no error


@dataclass(frozen=True)
class Figures:
    """A run and what stands beside it. `facts`: the manifest as (name, value) rows."""

    run: Questions
    stress: Stress | None
    sensitivities: pd.DataFrame | None
    pool: TrancheCash | None
    facts: tuple[tuple[str, str], ...] = field(repr=False)

    @classmethod
    def of(cls, run: Questions, folders: Sequence[str | Path] = (), pool: str | Path | None = None) -> Figures:
        """The figures of a result or a saved run, of the folders of a stress and of sensitivities, and of a pool.toml.

        Raises:
            UsageError: the stress is of another book, or its folder can't be read; or the run can't be shown.
            InputRejected: the pool's file is wrong.
        """
        if run.n_paths < FEWEST_PATHS:
            raise UsageError("a report needs a run of at least 2 paths: run the book again with more --paths")
        scenarios = varied = None
        for folder in folders:
            found = stress_of(run, folder)
            if (Path(folder) / SENSITIVITIES).is_file():
                varied = _sensitivities(Path(folder))
            else:
                scenarios = found
        file = run.pool if pool is None else read_pool(pool)
        n_paths = run.n_paths if file is None or run.has_payments(file) else min(run.n_paths, POOL_PATHS)
        notes = None if file is None else run.waterfall(file, n_paths)
        return cls(run, scenarios, varied, notes, tuple(_facts(run)))

    @cached_property
    def timeline(self) -> pd.DataFrame:
        """timeline.parquet."""
        return self.run.timeline

    @cached_property
    def losses(self) -> F64:
        """Losses of the paths in ascending order, (n_paths,) dollars."""
        return self.run.ordered / CENTS

    @cached_property
    def outlook(self) -> Outlook:
        """The book at month 0."""
        return Outlook.of(self.run.portfolio, self.run.portfolio.market)

    @cached_property
    def generations(self) -> list[str]:
        """Names of the generations, oldest first."""
        return list(self.run.names.generations)

    @cached_property
    def main_generation(self) -> int | None:
        """The generation of most of the book's chips; None: no chips."""
        chips = self.run.plan.deployments
        return int(np.bincount(chips.generation, chips.units).argmax()) if len(chips.units) else None

    def prices(self, kind: str, gpu: str) -> dict[int, F64]:
        """Points of a price by percentile, months 1 … horizon."""
        points = (5, 25, 50, 75, 95)
        return {p: self.timeline[f"{kind}_{gpu}_p{p:02}"].to_numpy(np.float64) for p in points}

    def mean_price(self, kind: str, gpu: str) -> tuple[F64, F64]:
        """Mean of a price and its standard error, months 1 … horizon."""
        mean, error = (self.timeline[f"{kind}_{gpu}_{name}"].to_numpy(np.float64) for name in ("mean", "mean_se"))
        return mean, error


def _sensitivities(folder: Path) -> pd.DataFrame:
    """sensitivities.parquet of a folder."""
    import pandas as pd
    import pyarrow as pa

    try:
        found = pd.read_parquet(folder / SENSITIVITIES)
        return found[["parameter", "end", "setting", "figure", "level", "difference", "difference_se"]]
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise UsageError(
            f"{folder}: {SENSITIVITIES} is damaged. Run gpuloan-mc sensitivities BOOK --out DIR again"
        ) from error


def _facts(run: Questions) -> list[tuple[str, str]]:
    plan_digest = run.plan.digest
    rows = [
        ("gpuloan_mc", run.version if isinstance(run, SavedRun) else __version__),
        ("seed", str(run.seed)),
        ("paths", f"{run.n_paths:,}"),
        ("horizon, months", str(run.horizon_months)),
        ("engine", run.engine),
        ("digest of the losses", run.digest),
        ("digest of the plan", plan_digest),
        ("digest of the market", run.portfolio.market.digest),
    ]
    scenarios = run.scenarios if isinstance(run, (SavedRun, Result)) else ()
    rows += [(f"scenario {name}", digest) for name, digest in scenarios]
    if isinstance(run, SavedRun):
        manifest: dict[str, Any] = json.loads(json.dumps(dict(run.manifest), default=str))
        inputs = manifest.get("inputs")
        for name, fact in (inputs if isinstance(inputs, dict) else {}).items():
            if isinstance(fact, dict) and fact.get("sha256"):
                rows.append((f"input {fact.get('file')}", str(fact["sha256"])))
            else:
                rows.append((f"input {name}", "not from a file"))
        rows += [(name, str(fact.get("sha256"))) for name, fact in manifest["files"].items() if isinstance(fact, dict)]
    return rows
