"""What the average path of the tail looks like beside the average path: prices, regimes, timing. A reverse stress."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from .contributions import Tail
from .questions import Questions
from .reference.arithmetic import F64, I32, I64
from .reference.obligors import NEVER
from .reference.path import History
from .replay import checked_tables

if TYPE_CHECKING:
    import pandas as pd

SAMPLE = 2000  # paths behind each average at most


def tail_paths(run: Questions, level: float) -> pd.DataFrame:
    """Averages by quantity and month: of the worst paths and of all, with their errors.

    The tail is every path that loses at least the value at risk; of more than SAMPLE such paths, SAMPLE spread evenly by
    number. All paths are stood for by the run's first SAMPLE. Quantities: contract and spot price by generation, shares of
    paths in each regime, demand, utilisation, overhang and chips released by generation, loans and parties in default by
    the month (cumulative).

    Raises:
        UsageError: the level lies outside (0, 1).
    """
    import pandas as pd

    tail = Tail.of(run.losses, run.ordered, level)
    worst = np.union1d(tail.beyond, tail.tied)
    if len(worst) > SAMPLE:
        worst = worst[np.linspace(0, len(worst) - 1, SAMPLE).astype(np.int64)]
    everyone = np.arange(min(run.n_paths, SAMPLE))
    (mean, error), (mean_all, error_all) = (_averages(run, paths) for paths in (worst, everyone))
    n_months = len(mean[0])
    names = _quantities(run)
    return pd.DataFrame(
        {
            "quantity": np.repeat(np.array(names, dtype=object), n_months),
            "month": np.tile(np.arange(n_months), len(names)),
            "tail_mean": mean.reshape(-1),
            "tail_se": error.reshape(-1),
            "mean": mean_all.reshape(-1),
            "se": error_all.reshape(-1),
            "tail_paths": len(worst),
            "paths": len(everyone),
        }
    )


def _quantities(run: Questions) -> list[str]:
    names = run.names
    by_gpu = [f"{kind} {gpu}" for gpu in names.generations for kind in ("contract", "spot", "overhang", "released")]
    regimes = [f"regime {name}" for name in names.regimes]
    return [*by_gpu, *regimes, "demand", "utilisation", "loans in default", "parties in default"]


def _averages(run: Questions, paths: I64) -> tuple[F64, F64]:
    """Means and their standard errors, (quantities, months 0 … H)."""
    total = squares = np.zeros((1, 1))
    for table in checked_tables(run, paths):
        defaults = table.defaults
        values = np.stack([*_series(run, table.history), _defaulted(run, defaults.path, defaults.month, table.paths)])
        values = np.concatenate([values, _parties(run, table.history)[None]])
        total, squares = total + values.sum(axis=2), squares + (values**2).sum(axis=2)
    n = len(paths)
    if n < 2:
        return total / n, np.full(total.shape, np.nan)
    variance = np.maximum(squares - total * total / n, 0) / (n - 1)
    return total / n, np.sqrt(variance / n)


def _series(run: Questions, history: History) -> Iterator[F64]:
    """(months 0 … H, n_paths) of each quantity that the market records."""
    end = run.horizon_months + 1
    for g in range(len(run.names.generations)):
        for kind in ("contract", "spot", "overhang", "released"):
            yield getattr(history, kind)[:end, :, g].astype(np.float64)
    for z in range(len(run.names.regimes)):
        yield (history.regimes[:end] == z).astype(np.float64)
    yield history.demand[:end].astype(np.float64)
    yield history.utilisation[:end].astype(np.float64)


def _defaulted(run: Questions, path: I64, month: I32, paths: I64) -> F64:
    """Loans in default by each month."""
    count = np.zeros((run.horizon_months + 1, len(paths)))
    np.add.at(count, (month, path), 1)
    return np.asarray(count.cumsum(axis=0))


def _parties(run: Questions, history: History) -> F64:
    """Parties in default by each month."""
    months = history.default_months
    count = np.zeros((run.horizon_months + 1, len(months)))
    path, column = np.nonzero(months < NEVER)
    np.add.at(count, (months[path, column], path), 1)
    return np.asarray(count.cumsum(axis=0))
