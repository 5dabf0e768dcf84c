"""How sure a run is: measures against the number of paths, and the paths that an error asked for would need."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from . import path_columns, risk
from .contributions import exact_level
from .errors import UsageError
from .reference.arithmetic import I64
from .risk import Moments

if TYPE_CHECKING:
    import pandas as pd

CENTS = 100
FIRST_PATHS = 64


def convergence(losses: I64, levels: Sequence[float], target: float = 0.01) -> pd.DataFrame:
    """A row a measure and number of paths 2^k, the last all paths (docs/schema.md, convergence.parquet).

    Args:
        losses: (n_paths,) cents.
        levels: of value at risk and expected shortfall.
        target: relative standard error for `paths_needed`: the square of the error falls as one over the paths. For a
            value at risk the error is its 95 % interval's width over 3.92.

    Raises:
        UsageError: a level or the target lies outside (0, 1).
    """
    import pandas as pd

    if not 0 < target < 1:
        raise UsageError(f"target is {target!s:.40}; a relative error lies between 0 and 1, such as 0.01")
    for level in levels:
        exact_level(level)
    names = "measure level paths value_usd standard_error_usd low_usd high_usd tail_paths few paths_needed".split()
    rows = [_row(m, target) for n in _sizes(len(losses)) for m in measured(losses[:n], levels)]
    frame = pd.DataFrame(rows, columns=names)
    order = frame.groupby(["measure", "level"], sort=False, dropna=False).ngroup()
    return frame.iloc[np.lexsort((frame["paths"], order))].reset_index(drop=True)


def _sizes(n_paths: int) -> list[int]:
    """64, 128, …, and all."""
    powers = [2**k for k in range(FIRST_PATHS.bit_length() - 1, n_paths.bit_length()) if 2**k < n_paths]
    return [*powers, n_paths]


@dataclass(frozen=True, slots=True)
class Measured:
    """A measure of some paths, dollars, with its standard error and 95 % interval; nan where the paths are too few.

    `level` is nan for the expected loss. `tail_paths`: how many paths make the figure.
    """

    measure: str
    level: float
    paths: int
    value: float
    standard_error: float
    low: float
    high: float
    tail_paths: int


def measured(losses: I64, levels: Sequence[float]) -> list[Measured]:
    """Expected loss, then value at risk and expected shortfall by level, of losses (n_paths,), cents.

    The error of a value at risk is its 95 % interval's width over 3.92.
    """
    ordered, n = path_columns.ordered(losses), len(losses)
    z = risk.standard_errors()

    def mean(measure: str, level: float, cents: float, error_cents: float, tail: int) -> Measured:
        value, error = cents / CENTS, error_cents / CENTS
        return Measured(measure, level, n, value, error, value - z * error, value + z * error, tail)

    moments = Moments.of(losses)
    found = [mean("expected_loss", math.nan, moments.mean, moments.standard_error, n)]
    for level in levels:
        tail = risk.tails(ordered, [level])[0]
        low, high = (math.nan if x is None else x / CENTS for x in risk.value_at_risk_interval(ordered, level))
        value = tail.value_at_risk / CENTS
        found.append(Measured("value_at_risk", level, n, value, (high - low) / (2 * z), low, high, tail.paths))
        found.append(mean("expected_shortfall", level, tail.shortfall, tail.shortfall_se, tail.paths))
    return found


_Row = tuple[str, float, int, float, float, float, float, int, bool, float]


def _row(m: Measured, target: float) -> _Row:
    needed = paths_needed(m.paths, m.value, m.standard_error, target)
    few = m.tail_paths < risk.FEW_PATHS
    return m.measure, m.level, m.paths, m.value, m.standard_error, m.low, m.high, m.tail_paths, few, needed


def paths_needed(n_paths: int, value: float, error: float, target: float) -> float:
    """Paths for a standard error of `target` of the value, if it falls as one over their root; nan: not known."""
    if not value > 0 or not math.isfinite(error):
        return math.nan
    return float(math.ceil(n_paths * (error / (target * value)) ** 2)) if error else float(n_paths)
