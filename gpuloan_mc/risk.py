"""Risk figures of a loss distribution, each with its Monte Carlo error.

Losses are int64 cents, one a path. Totals, squares, ranks and tail sums are integers or fractions until the last step,
so no figure depends on the order of the paths or on how they were cut into chunks.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from .kept_numbers import kept
from .path_columns import Integers, blocks, ordered

I64 = NDArray[np.int64]

LEVELS = (0.95, 0.99, 0.999, 0.9997)
BLOCK_ROWS = 65_536
CONFIDENCE = 0.95
_STANDARD_ERRORS = 1.959963984540054  # the normal quantile at 0.975
FEW_PATHS = 50  # a tail of fewer says little, and its error less

_BLOCK_VALUES = 1 << 20  # bounds the memory of wide tables
_WORD = 32
_LIMB = 21  # three limbs hold 63 bits, and 2^16 sums of three products of 42 bits stay below 2^60
_LIMB_MASK = np.int64((1 << _LIMB) - 1)


@dataclass(frozen=True, slots=True)
class Moments:
    """Count, total and total of squares of whole numbers, all exact. Adding two gives those of both samples."""

    n: int
    total: int
    total_of_squares: int

    @classmethod
    def of(cls, values: Integers) -> Moments:
        """The moments of signed whole numbers of any shape."""
        return cls.columns(values.reshape(-1, 1))[0]

    @classmethod
    def columns(cls, values: Integers) -> tuple[Moments, ...]:
        """The moments of each column of values, shape (n_paths, n_columns)."""
        totals, squares = column_totals(values), column_sums_of_squares(values)
        return tuple(cls(len(values), t, s) for t, s in zip(totals, squares, strict=True))

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.n + other.n, self.total + other.total, self.total_of_squares + other.total_of_squares)

    @property
    def mean(self) -> float:
        """The mean; nan without values."""
        return float(Fraction(self.total, self.n)) if self.n else math.nan

    @property
    def variance(self) -> float:
        """The unbiased variance, rounded once; nan below two values."""
        if self.n < 2:
            return math.nan
        return float(Fraction(self.n * self.total_of_squares - self.total**2, self.n * (self.n - 1)))

    @property
    def standard_deviation(self) -> float:
        """The root of the unbiased variance; nan below two values."""
        return math.sqrt(self.variance)

    @property
    def standard_error(self) -> float:
        """The standard error of the mean; nan below two values."""
        return math.sqrt(self.variance / self.n) if self.n else math.nan


@dataclass(frozen=True, slots=True)
class RiskFigures:
    """What a loss distribution comes to. Money in cents; `_se` is a standard error, `_ci` a 95 % confidence interval.

    Mappings go from a level, such as 0.999, to its figure. A bound of `value_at_risk_ci` is None where the paths are
    too few to have one. `tail_paths` counts the paths that an expected shortfall averages: with few, distrust its error
    too. A standard error is nan with one path.
    """

    n_paths: int
    expected_loss: float
    expected_loss_se: float
    loss_std: float
    loss_std_se: float
    probability_of_loss: float
    probability_of_loss_se: float
    probability_of_loss_ci: tuple[float, float]
    value_at_risk: Mapping[float, int]
    value_at_risk_ci: Mapping[float, tuple[int | None, int | None]]
    expected_shortfall: Mapping[float, float]
    expected_shortfall_se: Mapping[float, float]
    tail_paths: Mapping[float, int]
    max_loss: int


def figures(losses: I64, levels: Sequence[float] = LEVELS) -> RiskFigures:
    """The risk figures of losses, shape (n_paths,), in cents and in any order.

    Raises:
        TypeError: the losses are not int64.
        ValueError: no path, not one-dimensional, a negative loss, or a level outside (0, 1).
    """
    if losses.dtype != np.int64:
        raise TypeError(f"losses are {losses.dtype}; they must be whole cents, int64")
    if losses.ndim != 1 or losses.size == 0:
        raise ValueError(f"losses have shape {losses.shape}; one dimension and at least one path are expected")
    return ordered_figures(ordered(losses), levels)


def ordered_figures(losses: I64, levels: Sequence[float] = LEVELS) -> RiskFigures:
    """The risk figures of losses in rising order, cents.

    Raises:
        ValueError: a negative loss, or a level outside (0, 1).
    """
    if losses[0] < 0:
        raise ValueError(f"a path lost {losses[0]} cents; a loss is at least 0")
    moments = Moments.of(losses)
    worst = {tail.level: tail for tail in tails(losses, sorted(levels))}
    return RiskFigures(
        n_paths=len(losses),
        expected_loss=moments.mean,
        expected_loss_se=moments.standard_error,
        loss_std=moments.standard_deviation,
        loss_std_se=standard_deviation_se(losses),
        probability_of_loss=probability_of_loss(losses),
        probability_of_loss_se=probability_of_loss_se(losses),
        probability_of_loss_ci=probability_of_loss_interval(losses),
        value_at_risk={level: worst[level].value_at_risk for level in levels},
        value_at_risk_ci=dict(zip(levels, value_at_risk_intervals(losses, levels), strict=True)),
        expected_shortfall={level: worst[level].shortfall for level in levels},
        expected_shortfall_se={level: worst[level].shortfall_se for level in levels},
        tail_paths={level: worst[level].paths for level in levels},
        max_loss=int(losses[-1]),
    )


# Exact sums -----------------------------------------------------------------------------------------------------------


def total(values: I64) -> int:
    """The exact sum of int64 values of any shape, however large."""
    return column_totals(values.reshape(-1, 1))[0]


def sum_of_squares(values: I64) -> int:
    """The exact sum of the squares of int64 values of any shape, however large."""
    return column_sums_of_squares(values.reshape(-1, 1))[0]


def column_totals(values: Integers) -> list[int]:
    """The exact sum of each column of int64 values, shape (n_rows, n_columns)."""
    sums = [0] * values.shape[1]
    for block in _blocks(values):
        # Two words, so that not even sums of 2^63 - 1 overflow.
        high, low = (block >> _WORD).sum(axis=0), (block & 0xFFFFFFFF).sum(axis=0)
        sums = [s + (int(h) << _WORD) + int(w) for s, h, w in zip(sums, high, low, strict=True)]
    return sums


def column_sums_of_squares(values: Integers) -> list[int]:
    """The exact sum of squares of each column of int64 values, shape (n_rows, n_columns)."""
    sums = [0] * values.shape[1]
    for block in _blocks(values):
        for place, products in enumerate(_square_limbs(block)):
            sums = [s + (int(p) << place * _LIMB) for s, p in zip(sums, products.sum(axis=0), strict=True)]
    return sums


def _square_limbs(values: I64) -> Iterator[I64]:
    """The squares as five int64 digits in base 2^21, lowest first, each below 2^44."""
    size = np.abs(values).view(np.uint64)  # |-2^63| is right once it is read as unsigned
    a = (size & np.uint64(_LIMB_MASK)).view(np.int64)
    b = (size >> np.uint64(_LIMB) & np.uint64(_LIMB_MASK)).view(np.int64)
    c = (size >> np.uint64(2 * _LIMB)).view(np.int64)
    yield a * a
    yield 2 * a * b
    yield 2 * a * c + b * b
    yield 2 * b * c
    yield c * c


def _blocks(values: Integers) -> Iterator[I64]:
    if values.dtype.kind != "i":
        raise TypeError(f"values are {values.dtype}; exact sums need whole numbers")
    rows = max(1, min(BLOCK_ROWS, _BLOCK_VALUES // max(1, values.shape[1])))
    return (block.astype(np.int64, copy=False) for block in blocks(values, rows))


# Moments --------------------------------------------------------------------------------------------------------------


def mean(values: I64) -> float:
    """The mean, rounded once."""
    return Moments.of(values).mean


def standard_error(values: I64) -> float:
    """The standard error of the mean; nan below two values."""
    return Moments.of(values).standard_error


def standard_deviation(values: I64) -> float:
    """The root of the unbiased variance; nan below two values."""
    return Moments.of(values).standard_deviation


def standard_deviation_se(values: I64) -> float:
    """The standard error of the standard deviation s: sqrt((m4 - m2²) / n) / 2s, the delta method.

    m2 and m4 are central moments. The sum of fourth powers rounds in the order given; `figures` sorts first. 0 when all
    values are equal, nan below two.
    """
    moments = Moments.of(values)
    if moments.n < 2 or moments.variance == 0:
        return moments.variance
    m2 = moments.variance * (moments.n - 1) / moments.n
    fourth = (float(np.sum((block - moments.mean) ** 4)) for block in _blocks(values.reshape(-1, 1)))
    m4 = math.fsum(fourth) / moments.n
    return math.sqrt(max(0.0, m4 - m2 * m2) / moments.n) / (2 * moments.standard_deviation)


def standard_errors(confidence: float = CONFIDENCE) -> float:
    """How many standard errors lie between a figure and the end of its normal interval."""
    if confidence == CONFIDENCE:
        return _STANDARD_ERRORS
    from scipy import special

    return float(special.ndtri((1 + confidence) / 2))


# Probability of loss --------------------------------------------------------------------------------------------------


def probability_of_loss(losses: I64) -> float:
    """The share of paths that lose anything."""
    return _paths_with_loss(losses) / len(losses)


def _paths_with_loss(losses: I64) -> int:
    return sum(int(np.count_nonzero(block > 0)) for block in blocks(losses))


def probability_of_loss_se(losses: I64) -> float:
    """The binomial standard error of `probability_of_loss`; 0 at a share of 0 or 1, where the interval says more."""
    p = probability_of_loss(losses)
    return math.sqrt(p * (1 - p) / len(losses))


def probability_of_loss_interval(losses: I64) -> tuple[float, float]:
    """The 95 % interval for the probability of a loss; of use also when no path or every path loses."""
    return wilson_interval(_paths_with_loss(losses), len(losses))


def wilson_interval(count: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The score interval for a probability after `count` events in n trials (Wilson, JASA 22, 1927)."""
    z = standard_errors(confidence)
    p, weight = count / n, 1 / (1 + z * z / n)
    middle = weight * (p + z * z / (2 * n))
    reach = weight * z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # At a share of 0 or 1 a bound is exact, and rounding must not move it.
    return (0.0 if count == 0 else middle - reach), (1.0 if count == n else middle + reach)


# Quantiles and shortfall: losses sorted, smallest first ---------------------------------------------------------------


def value_at_risk(sorted_losses: I64, level: float) -> int:
    """The lower quantile, cents: the smallest loss x of the sample with F(x) >= level.

    The level is read as the decimal it prints as, so rank level·n is exact: 0.95 of 100 paths is path 95, not 96.
    """
    return int(sorted_losses[quantile_rank(len(sorted_losses), level) - 1])


def value_at_risk_interval(
    sorted_losses: I64, level: float, confidence: float = CONFIDENCE
) -> tuple[int | None, int | None]:
    """An interval for the quantile that assumes nothing of the distribution: two order statistics, cents.

    The number of losses up to the quantile is at least binomial(n, level), so each bound errs with at most half of
    1 - confidence, ties or not (David and Nagaraja, Order Statistics, 2003, 7.1). None: no order statistic is far
    enough out.
    """
    return _bounds(sorted_losses, *_outer_ranks(len(sorted_losses), level, confidence))


def value_at_risk_intervals(
    sorted_losses: I64, levels: Sequence[float], confidence: float = CONFIDENCE
) -> list[tuple[int | None, int | None]]:
    """`value_at_risk_interval` at several levels; their ranks are found once for a number of paths."""
    n = len(sorted_losses)
    ranks = kept(
        "ranks around quantiles",
        (n, confidence, *levels),
        (len(levels), 2),
        np.int64,
        lambda: np.array([_outer_ranks(n, level, confidence) for level in levels], dtype=np.int64).reshape(-1, 2),
    )
    return [_bounds(sorted_losses, low, high) for low, high in ranks.tolist()]


def _bounds(sorted_losses: I64, low: int, high: int) -> tuple[int | None, int | None]:
    """The losses of two ranks; None: there is none."""
    return (
        int(sorted_losses[low - 1]) if low >= 1 else None,
        int(sorted_losses[high - 1]) if high <= len(sorted_losses) else None,
    )


def quantile_ranks(n: int, level: float, confidence: float = CONFIDENCE) -> tuple[int | None, int | None]:
    """Ranks, from 1, of the order statistics that bound a quantile of n draws; None: none is far enough out."""
    low, high = _outer_ranks(n, level, confidence)
    return (low if low >= 1 else None), (high if high <= n else None)


def _outer_ranks(n: int, level: float, confidence: float) -> tuple[int, int]:
    """The same; 0 below and n + 1 above where none is."""
    p = float(_exact(level))
    low = _binomial_quantile(n, p, (1 - confidence) / 2)
    return low, _binomial_quantile(n, p, (1 + confidence) / 2) + 1


@dataclass(frozen=True, slots=True)
class Tail:
    """The worst 1 - level of the losses, cents. `paths`: how many have a weight in the shortfall."""

    level: float
    value_at_risk: int
    shortfall: float
    shortfall_se: float
    paths: int


def tails(sorted_losses: I64, levels: Sequence[float]) -> list[Tail]:
    """Quantile, shortfall and its error at rising levels, in one pass over the losses.

    Shortfall: the mean of the worst 1 - level of the distribution, rounded once. Of the losses equal to the quantile
    just so many count as fill the tail (Acerbi and Tasche, Journal of Banking and Finance 26, 2002); this keeps the
    measure coherent under ties. Its standard error is that of the mean excess over the quantile, over 1 - level: the
    asymptotic variance of Manistre and Hancock (North American Actuarial Journal 9, 2005); nan where a single path
    makes the tail. It knows only the tail that was drawn, and is too small when that holds few paths.
    """
    n, found = len(sorted_losses), []
    beyond, end = Moments(0, 0, 0), n
    for level in reversed(levels):
        exact, rank = _exact(level), quantile_rank(n, level)
        beyond, end = beyond + Moments.of(sorted_losses[rank:end]), rank
        quantile = int(sorted_losses[rank - 1])
        shortfall = float((beyond.total + quantile * (rank - exact * n)) / ((1 - exact) * n))
        excess = Moments(
            n,
            beyond.total - beyond.n * quantile,
            beyond.total_of_squares - 2 * quantile * beyond.total + beyond.n * quantile**2,
        )
        paths = tail_paths(n, level)
        error = excess.standard_error / float(1 - exact) if paths > 1 else math.nan
        found.append(Tail(level, quantile, shortfall, error, paths))
    return found[::-1]


def expected_shortfall(sorted_losses: I64, level: float) -> float:
    """The mean of the worst 1 - level of the losses, cents (`tails`)."""
    return tails(sorted_losses, [level])[0].shortfall


def expected_shortfall_se(sorted_losses: I64, level: float) -> float:
    """The standard error of the expected shortfall, cents (`tails`)."""
    return tails(sorted_losses, [level])[0].shortfall_se


def tail_paths(n_paths: int, level: float) -> int:
    """How many of the n paths have a weight in the expected shortfall: (1 - level)·n, rounded up."""
    return n_paths - math.floor(_exact(level) * n_paths)


def quantile_rank(n: int, level: float) -> int:
    """Rank, from 1, of the lower quantile among n sorted draws."""
    if n == 0:
        raise ValueError("no losses: a quantile needs at least one path")
    return math.ceil(_exact(level) * n)


def _exact(level: float) -> Fraction:
    exact = Fraction(str(level))
    if not 0 < exact < 1:
        raise ValueError(f"level is {level}; it must lie between 0 and 1, such as 0.99")
    return exact


def _binomial_quantile(n: int, p: float, probability: float) -> int:
    """The smallest k with P(binomial(n, p) <= k) >= probability."""
    from scipy import special

    return bisect_left(range(n), probability, key=lambda k: float(special.bdtr(k, n, p)))
