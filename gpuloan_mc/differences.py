"""Differences of two loss distributions under common random numbers, each with the standard error of the difference.

Losses are int64 cents, one a path; path n of both is the same future but for what was changed, so errors largely cancel.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from . import risk
from .risk import I64, Moments


class Losses(Protocol):
    """A run's losses, path by path, and the same in rising order, which a run keeps."""

    @property
    def losses(self) -> I64: ...
    @property
    def ordered(self) -> I64: ...


def mean_difference(one: I64, other: I64) -> Moments:
    """Moments of one - other by path: its mean is exact, its error knows how the two move together."""
    return Moments.of(one.astype(np.int64) - other)


def value_at_risk_se(run: Losses, level: float) -> float:
    """A standard error of the lower quantile: the distribution-free 95 % interval over 2 × 1.96.

    nan where the paths are too few for a bound.
    """
    low, high = risk.value_at_risk_interval(run.ordered, level)
    if low is None or high is None:
        return math.nan
    return (high - low) / (2 * risk.standard_errors())


def value_at_risk_difference_se(one: Losses, other: Losses, level: float) -> float:
    """The standard error of the difference of two lower quantiles.

    A quantile's influence value is (1{loss > quantile} - (1 - level)) over the density there: two quantiles correlate as
    the indicators do, path by path, and each has its own error. nan where either has none.
    """
    a, b = value_at_risk_se(one, level), value_at_risk_se(other, level)
    if math.isnan(a) or math.isnan(b):
        return math.nan
    together = _correlation(_beyond(one, level), _beyond(other, level))
    return math.sqrt(max(0.0, a * a + b * b - 2 * together * a * b))


def shortfall_difference_se(one: Losses, other: Losses, level: float) -> float:
    """The standard error of the difference of two expected shortfalls: that of the mean difference of the excesses over
    the two quantiles, over 1 - level.

    The excess is a shortfall's influence value (Manistre and Hancock, North American Actuarial Journal 9, 2005). nan where
    a single path makes the tail.
    """
    if risk.tail_paths(len(one.losses), level) < 2:
        return math.nan
    return mean_difference(_excess(one, level), _excess(other, level)).standard_error / (1 - level)


def _quantile(run: Losses, level: float) -> int:
    return int(run.ordered[risk.quantile_rank(len(run.ordered), level) - 1])


def _excess(run: Losses, level: float) -> I64:
    return np.maximum(run.losses - _quantile(run, level), 0)


def _beyond(run: Losses, level: float) -> I64:
    return (run.losses > _quantile(run, level)).astype(np.int64)


def _correlation(a: I64, b: I64) -> float:
    """Of two columns of zeros and ones; 0 where one of them never changes."""
    n, p, q, both = len(a), int(a.sum()), int(b.sum()), int((a & b).sum())
    spread = p * (n - p) * q * (n - q)
    return (n * both - p * q) / math.sqrt(spread) if spread else 0.0
