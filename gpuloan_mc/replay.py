"""Paths in full, from their numbers: run again on a CPU engine, checked against the run's integers, with names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .engines.base import LoanTable
from .engines.choice import event_engine
from .engines.numpy_reference import paths_at_once
from .errors import UsageError
from .names import FAMILIES, Names
from .plan import CAUSES
from .questions import Questions, check_losses
from .reference.arithmetic import I64
from .reference.obligors import NEVER
from .reference.path import Defaults, History

if TYPE_CHECKING:
    import pandas as pd

MODES = ("fixed or drawn LGD", "sale", "step-in", "step-in and sale")
_CHUNKS = 4
_PATH_AXIS = {"launch_months": 2, "default_months": 0}  # of a history's arrays; 1 for the others


@dataclass(frozen=True)
class Replay:
    """Some paths in full. `defaults.path` and the path axis of `history` count in `paths`; frames name everything."""

    paths: I64  # (n_paths,) path numbers
    defaults: Defaults
    history: History
    names: Names = field(repr=False)

    @property
    def losses(self) -> I64:
        """Loss of each path, cents."""
        sums = np.zeros(len(self.paths), dtype=np.int64)
        np.add.at(sums, self.defaults.path, self.defaults.loss)
        return sums

    @property
    def modes(self) -> NDArray[np.int64]:
        """How each default was recovered: a position in MODES."""
        rows = self.defaults
        kept = np.where(rows.proceeds > 0, 3, 2)
        return np.where(rows.sale_month == 0, 0, np.where(rows.stepped_in, kept, 1))

    @property
    def loans(self) -> pd.DataFrame:
        """A row a default (docs/schema.md, replay_loans.parquet)."""
        import pandas as pd

        rows, names = self.defaults, self.names
        sold = pd.array(rows.sale_month, dtype="Int64")
        sold[rows.sale_month == 0] = pd.NA
        return pd.DataFrame(
            {
                "path": self.paths[rows.path],
                "loan_id": [names.loans[i] for i in rows.loan],
                "borrower_id": [names.borrowers[i] for i in rows.loan],
                "month": rows.month.astype(np.int64),
                "cause": [CAUSES[i] for i in rows.cause],
                "ead_cents": rows.ead,
                "mode": [MODES[i] for i in self.modes],
                "sale_month": sold,
                "proceeds_cents": rows.proceeds,
                "loss_cents": rows.loss,
            }
        )

    @property
    def parties(self) -> pd.DataFrame:
        """A row a party that defaults by the horizon (replay_parties.parquet)."""
        import pandas as pd

        months = self.history.default_months
        path, column = np.nonzero(months < NEVER)
        order = np.lexsort((column, months[path, column], path))
        path, column = path[order], column[order]
        return pd.DataFrame(
            {
                "path": self.paths[path],
                "obligor_id": [self.names.obligors[i] for i in column],
                "month": months[path, column].astype(np.int64),
            }
        )

    @property
    def market(self) -> pd.DataFrame:
        """A row a path and month (replay_market.parquet)."""
        import pandas as pd

        history, names = self.history, self.names
        n_months = len(history.regimes)
        columns: dict[str, Any] = {
            "path": np.repeat(self.paths, n_months),
            "month": np.tile(np.arange(n_months), len(self.paths)),
            "regime": [names.regimes[z] for z in history.regimes.T.reshape(-1)],
            "demand": _by_path(history.demand),
        }
        for g, gpu in enumerate(names.generations[: history.contract.shape[2]]):
            for kind in ("contract", "spot", "overhang", "released"):
                columns[f"{kind}_{gpu}"] = _by_path(getattr(history, kind)[:, :, g])
        if names.generations:
            columns["utilisation"] = _by_path(history.utilisation)
        return pd.DataFrame(columns)

    @property
    def chip_values(self) -> pd.DataFrame:
        """A row a path, month and vintage of the book's chips (replay_chip_values.parquet)."""
        import pandas as pd

        values = self.history.values.transpose(1, 0, 2)
        n_vintages = values.shape[2]
        vintages = self.names.vintages[:n_vintages]
        path, month, vintage = (i.reshape(-1) for i in np.indices(values.shape))
        return pd.DataFrame(
            {
                "path": self.paths[path],
                "month": month.astype(np.int64),
                "gpu": [vintages[v][0] for v in vintage],
                "in_service_month": np.array([m for _, m in vintages], dtype=np.int64)[vintage],
                "value_usd": values.reshape(-1).astype(np.float64),
            }
        )

    @property
    def launches(self) -> pd.DataFrame:
        """A row a launch before the market's end (replay_launches.parquet)."""
        import pandas as pd

        months = self.history.launch_months
        path, family, launch = np.nonzero(np.isfinite(months).transpose(2, 0, 1))
        return pd.DataFrame(
            {
                "path": self.paths[path],
                "family": [FAMILIES[i] for i in family],
                "launch": launch.astype(np.int64),
                "month": months[family, launch, path].astype(np.float64),
            }
        )

    def tables(self) -> dict[str, pd.DataFrame]:
        """Every frame by the name of its file."""
        names = ("loans", "parties", "market", "chip_values", "launches")
        return {f"replay_{name}": getattr(self, name) for name in names}

    def story(self, path: int) -> list[str]:
        """The path with this number, told in a dozen lines.

        Raises:
            UsageError: it is not among the paths replayed.
        """
        from .story import story

        places = np.nonzero(self.paths == path)[0]
        if not len(places):
            raise UsageError(f"path {path} was not replayed; these were: {', '.join(map(str, self.paths[:5]))}")
        return story(self, int(places[0]))


def replay(run: Questions, paths: Sequence[int] | NDArray[np.int64]) -> Replay:
    """The paths with these numbers, in full.

    Raises:
        UsageError: a number is not that of a path of this run, or a path does not lose what the run says.
    """
    numbers = path_numbers(paths, run.n_paths)
    table = join(list(checked_tables(run, numbers)))
    return Replay(numbers, table.defaults, table.history, run.names)


def checked_tables(run: Questions, numbers: I64) -> Iterator[LoanTable]:
    """The paths in full, a few chunks of the reference engine at a time: what a call costs is shared by many paths.

    Raises:
        UsageError: a path does not lose what the run says.
    """
    engine, size = event_engine(run.engine), _CHUNKS * paths_at_once(run.plan)
    for first in range(0, len(numbers), size):
        table = engine.replay(run.plan, run.seed, numbers[first : first + size])
        check_losses(run, table.paths, table.defaults.path, table.defaults.loss)
        yield table


def join(tables: list[LoanTable]) -> LoanTable:
    """The paths of all tables, in order."""
    if len(tables) == 1:
        return tables[0]
    first = np.cumsum([0, *(len(t.paths) for t in tables[:-1])])
    columns = {f.name: np.concatenate([getattr(t.defaults, f.name) for t in tables]) for f in fields(Defaults)}
    columns["path"] = np.concatenate([t.defaults.path + n for t, n in zip(tables, first, strict=True)])
    history = {
        f.name: np.concatenate([getattr(t.history, f.name) for t in tables], axis=_PATH_AXIS.get(f.name, 1))
        for f in fields(History)
    }
    return LoanTable(np.concatenate([t.paths for t in tables]), Defaults(**columns), History(**history))


def path_numbers(paths: Sequence[int] | NDArray[np.int64], n_paths: int) -> I64:
    """Path numbers, (n,).

    Raises:
        UsageError: no list of whole numbers, or a number is not that of a path of a run of `n_paths`.
    """
    numbers = np.asarray(paths)
    if numbers.ndim != 1 or numbers.size == 0 or numbers.dtype.kind not in "iu":
        raise UsageError("paths to replay must be a list of whole numbers, at least one")
    wrong = [str(p) for p in numbers if not 0 <= p < n_paths]
    if wrong:
        raise UsageError(f"no path {', '.join(wrong[:5])} in this run; its paths are 0 to {n_paths - 1}")
    return numbers.astype(np.int64)


def _by_path(values: Any) -> Any:
    """(months, n_paths) as one column: a path's months after another's."""
    kind = np.int64 if values.dtype.kind == "i" else np.float64
    return values.T.reshape(-1).astype(kind)
