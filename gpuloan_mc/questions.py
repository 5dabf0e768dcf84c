"""What can be asked of a run after it is done, from its path losses and by running paths again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import path_columns, risk
from .engines.base import Events
from .errors import UsageError
from .plan import Plan
from .reference.arithmetic import I64
from .risk import RiskFigures

if TYPE_CHECKING:
    import pandas as pd

    from .answers import Format
    from .comparison import Stress
    from .contributions import Contributions
    from .inputs.pool_file import PoolFile
    from .marginal import Marginal
    from .names import Names
    from .payments import Payments
    from .portfolio import Portfolio
    from .replay import Replay
    from .report.notebook import Plots
    from .tranche_cash import TrancheCash
    from .tranches import Allocation, Tranches

EVENTS_AT_ONCE = 1 << 20  # bounds the memory of paths that are run again
LONGEST_CHUNK = 8192


class Questions(ABC):
    """A finished run. Results and runs read from their folders answer alike: by the same integers."""

    seed: int
    engine: str
    digest: str
    plan: Plan
    portfolio: Portfolio
    losses: I64  # (n_paths,) cents
    pool: PoolFile | None  # that the run was one with

    @property
    def n_paths(self) -> int:
        """Number of paths."""
        return len(self.losses)

    @property
    def n_loans(self) -> int:
        """Number of loans."""
        return self.plan.n_loans

    @property
    def horizon_months(self) -> int:
        """Defaults count in months 1 to this one."""
        return int(self.plan.market.horizon)

    @property
    def commitment_usd(self) -> float:
        """Drawn and undrawn at month 0."""
        return self.portfolio.commitment_usd

    @property
    @abstractmethod
    def payments(self) -> Payments | None:
        """What the tranches of its pool get; None: it was run without one."""

    def has_payments(self, pool: PoolFile) -> bool:
        """Whether the run was one with the structure of this pool."""
        return self.pool is not None and self.pool.digest == pool.digest

    @property
    @abstractmethod
    def timeline(self) -> pd.DataFrame:
        """A row a month: defaults, losses, price points (docs/schema.md, timeline.parquet)."""

    @cached_property
    def figures(self) -> RiskFigures:
        """Risk figures of the losses, in cents."""
        return risk.ordered_figures(self.ordered)

    @cached_property
    def ordered(self) -> I64:
        """The losses in rising order, cents."""
        found = path_columns.ordered(self.losses)
        found.setflags(write=False)
        return found

    @cached_property
    def loss_distribution(self) -> pd.DataFrame:
        """Quantiles with their intervals, and the shortfall beyond each (docs/schema.md, loss_distribution.parquet)."""
        from .frames import loss_distribution

        return loss_distribution(self)

    @cached_property
    def names(self) -> Names:
        """What the rows of the plan are called."""
        from .names import Names

        return Names(self.portfolio, self.plan)

    def worst(self, k: int = 1) -> NDArray[np.int64]:
        """Numbers of the k paths that lose most, the worst first; of equal losses the earlier path first.

        Raises:
            UsageError: k is no whole number from 1 to the number of paths.
        """
        from .arguments import whole_number

        k = whole_number("worst", k, 1, self.n_paths)
        least = self.ordered[self.n_paths - k]
        worse = path_columns.where(self.losses, lambda losses: losses > least)
        worse = worse[np.argsort(-self.losses[worse], kind="stable")]
        return np.concatenate([worse, path_columns.where(self.losses, lambda losses: losses == least)[: k - len(worse)]])

    def replay(self, paths: Sequence[int] | NDArray[np.int64]) -> Replay:
        """Paths in full, from their numbers: the market's history, every default, and the story of a path.

        Raises:
            UsageError: a number is not that of a path of this run, or a path does not lose what the run says.
        """
        from .replay import replay

        return replay(self, paths)

    def contributions(self, level: float = 0.99, by: str = "loan") -> Contributions:
        """Who and what makes the expected shortfall and the value at risk at a level.

        Args:
            level: of the loss distribution, inside (0, 1).
            by: loan, borrower, tenant, generation, cause, year or a segment column.

        Raises:
            UsageError: no such level or column.
        """
        from .contributions import contributions

        return contributions(self, level, by)

    def tail_paths(self, level: float = 0.99) -> pd.DataFrame:
        """The average path of the tail beside the average path, month by month (docs/schema.md, tail_paths.parquet)."""
        from .tail_paths import tail_paths

        return tail_paths(self, level)

    def tranches(
        self, tranches: Sequence[Any], *, level: float = 0.99, allocation: Allocation = "sequential"
    ) -> Tranches:
        """Layers of the loss: each a pair (attachment, detachment) or a text such as "0.1:0.3".

        Allocation: losses from the bottom up (sequential), or to each layer by its share of the commitment (pro-rata).

        Raises:
            UsageError: a layer is inverted or overlaps another, or mixes shares and dollars.
        """
        from .tranches import Tranches

        return Tranches.of(self, tranches, level=level, allocation=allocation)

    def waterfall(self, pool: PoolFile | str | Path, n_paths: int | None = None) -> TrancheCash:
        """The cash-flow waterfall of all loans as one securitised pool (docs/waterfall.md).

        Args:
            pool: a pool.toml, or a book whose folder has one.
            n_paths: how many of the run's paths, the first ones; None: all. If the run was one with this pool, all are there;
                else each is run again on the CPU.

        Raises:
            InputRejected: the pool's file is wrong, or its tranches take more than the commitment.
            UsageError: a path does not lose what the run says.
        """
        from .tranche_cash import tranche_cash

        return tranche_cash(self, pool, n_paths)

    def convergence(self, levels: Sequence[float] = (0.99,), *, target: float = 0.01) -> pd.DataFrame:
        """Measures against the first 2^k paths, and the paths that a relative error of `target` needs."""
        from .convergence import convergence

        return convergence(self.losses, levels, target)

    def stability(self, n_seeds: int = 10, levels: Sequence[float] = (0.99,)) -> pd.DataFrame:
        """The book run with other seeds: the spread of each measure beside its stated error (stability.parquet)."""
        from .stability import stability

        return stability(self, n_seeds, levels)

    def marginal(self, remove: Sequence[str] = (), add: Portfolio | str | Path | None = None) -> Marginal:
        """The book without some loans, with those of another book, or both, on the same paths.

        Raises:
            UsageError: no such loan, or an id is in both books.
            InputRejected: the added book breaks a rule.
        """
        from .marginal import marginal

        return marginal(self, remove, add)

    def export(
        self,
        folder: str | Path,
        *,
        level: float = 0.99,
        tranches: Sequence[Any] = (),
        stress: Stress | str | Path | None = None,
        kind: Format = "parquet",
        open_results: bool = False,
    ) -> Path:
        """Write what other systems read into a new, empty or earlier export's folder (docs/downstream.md).

        Args:
            folder: where to.
            level: of the contributions, the tranches' shortfall and the convergence, inside (0, 1).
            tranches: layers as `tranches` takes them; none: no table of them.
            stress: a stress of the same book, or the folder that one wrote; None: no table of scenarios.
            kind: parquet, or csv for people.
            open_results: also the tables with the names of Oasis' open results data.

        Raises:
            UsageError: an argument is out of range, the stress is of another book, or the folder can't be used.
        """
        from .exports import export

        return export(self, folder, level, tranches, stress, kind, open_results)

    def report(
        self, path: str | Path, *, stress: str | Path | Sequence[str | Path] = (), pool: str | Path | None = None
    ) -> Path:
        """Write the run as one page for people: HTML without scripts or links (docs/report.md).

        Args:
            path: of the file; one that is there is replaced.
            stress: folders of a stress and of sensitivities of the same book.
            pool: a pool.toml, or a book whose folder has one; None: no waterfall.

        Raises:
            UsageError: the stress is of another book, the run has fewer than two paths, or the file can't be written.
            InputRejected: the pool's file is wrong, or its tranches take more than the commitment.
        """
        from .report.page import report

        return report(self, path, stress, pool)

    @property
    def plot(self) -> Plots:
        """Charts of the run: `plot.loss()`, `.exceedance()`, `.prices()`. Notebooks show them; `.svg` is their text."""
        from .report.notebook import Plots

        return Plots(self)

    def _repr_html_(self) -> str:
        """The headline and the exceedance curve, for notebooks."""
        from .report.notebook import summary

        return summary(self)

    def checked_events(self, paths: I64) -> Iterator[tuple[I64, Events]]:
        """Every default of some paths, a chunk at a time: (the chunk's paths, its defaults).

        Raises:
            UsageError: a path does not lose what the run says.
        """
        from .engines.choice import event_engine

        engine = event_engine(self.engine)
        size = max(16, min(LONGEST_CHUNK, EVENTS_AT_ONCE // max(self.n_loans, 1)))
        for first in range(0, len(paths), size):
            chunk = paths[first : first + size]
            events = engine.events(self.plan, self.seed, chunk)
            check_losses(self, chunk, events.path, events.loss)
            yield chunk, events


def check_losses(run: Questions, paths: I64, path: I64, loss: I64) -> None:
    """Whether the losses of each path add up to the integer that the run has for it.

    Args:
        run: the run.
        paths: path numbers, (n_paths,).
        path, loss: (n,) place in `paths` and cents of each default.

    Raises:
        UsageError: they do not.
    """
    sums = np.zeros(len(paths), dtype=np.int64)
    np.add.at(sums, path, loss)
    check_sums(run, paths, sums)


def check_sums(run: Questions, paths: I64, sums: I64) -> None:
    """Whether paths that were run again lose the integers that the run has for them: (n_paths,) numbers and cents.

    Raises:
        UsageError: one does not.
    """
    wrong = np.nonzero(sums != run.losses[paths])[0]
    if len(wrong):
        number, found, said = (int(x[wrong[0]]) for x in (paths, sums, run.losses[paths]))
        raise UsageError(
            f"path {number} loses {found} cents when it is run again, and {said} in the run: the run was made by another "
            "version of gpuloan_mc, or its folder was changed. Run the book again with --out, then ask again"
        )
