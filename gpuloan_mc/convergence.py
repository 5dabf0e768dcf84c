"""How sure a run is: measures against the number of paths, and the paths that an error asked for would need."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from . import risk
from .contributions import exact_level
from .errors import UsageError
from .reference.arithmetic import I64
from .risk import Moments

if TYPE_CHECKING:
    import pandas as pd

CENTS = 100
FEW_PATHS = 50  # a tail of fewer says little, and its error less
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
    rows = [row for n in _sizes(len(losses)) for row in _rows(losses[:n], levels, target)]
    frame = pd.DataFrame(rows, columns=names)
    order = frame.groupby(["measure", "level"], sort=False, dropna=False).ngroup()
    return frame.iloc[np.lexsort((frame["paths"], order))].reset_index(drop=True)


def _sizes(n_paths: int) -> list[int]:
    """64, 128, …, and all."""
    powers = [2**k for k in range(FIRST_PATHS.bit_length() - 1, n_paths.bit_length()) if 2**k < n_paths]
    return [*powers, n_paths]


_Row = tuple[str, float, int, float, float, float, float, int, bool, float]


def _rows(losses: I64, levels: Sequence[float], target: float) -> list[_Row]:
    """Expected loss, then value at risk and expected shortfall by level."""
    ordered, n = np.sort(losses), len(losses)
    z = float(special.ndtri((1 + risk.CONFIDENCE) / 2))
    moments = Moments.of(losses)
    found = [_mean_row("expected_loss", math.nan, n, moments.mean, moments.standard_error, z, n, target)]
    for level in levels:
        tail = risk.tails(ordered, [level])[0]
        low, high = risk.value_at_risk_interval(ordered, level)
        bounds = [math.nan if x is None else x / CENTS for x in (low, high)]
        error = (bounds[1] - bounds[0]) / (2 * z)
        value = tail.value_at_risk / CENTS
        few = tail.paths < FEW_PATHS
        needed = paths_needed(n, value, error, target)
        found.append(("value_at_risk", level, n, value, error, bounds[0], bounds[1], tail.paths, few, needed))
        found.append(
            _mean_row("expected_shortfall", level, n, tail.shortfall, tail.shortfall_se, z, tail.paths, target)
        )
    return found


def _mean_row(
    measure: str, level: float, n: int, cents: float, error_cents: float, z: float, tail: int, target: float
) -> _Row:
    value, error = cents / CENTS, error_cents / CENTS
    few, needed = tail < FEW_PATHS, paths_needed(n, value, error, target)
    return measure, level, n, value, error, value - z * error, value + z * error, tail, few, needed


def paths_needed(n_paths: int, value: float, error: float, target: float) -> float:
    """Paths for a standard error of `target` of the value, if it falls as one over their root; nan: not known."""
    if not value > 0 or not math.isfinite(error):
        return math.nan
    return float(math.ceil(n_paths * (error / (target * value)) ** 2)) if error else float(n_paths)


def digits(value: float, error: float | None) -> str:
    """A figure with the digits that its standard error supports: to the error's second leading digit.

    Without an error, or with one of zero, to the unit.
    """
    if value != value:
        return "…"
    if error is None or error != error or error <= 0:
        return f"{value:,.0f}"
    place = 1 - math.floor(math.log10(error))
    rounded = round(value, place)
    return f"{rounded:,.{max(place, 0)}f}"
