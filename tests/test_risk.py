"""Risk figures against slow, exact arithmetic on small samples, and their errors against the truth on many samples."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import special, stats

from gpuloan_mc import risk
from gpuloan_mc.risk import Moments

I64 = NDArray[np.int64]
INT64 = st.integers(-(2**63), 2**63 - 1)
TIED = st.lists(st.integers(0, 5) | st.integers(0, 10**15), min_size=1, max_size=40)
LEVEL = st.sampled_from(["0.05", "0.5", "0.75", "0.9", "0.95", "0.99", "0.9997"])


def quantile_by_definition(losses: list[int], level: str) -> int:
    n = len(losses)
    return min(x for x in losses if Fraction(sum(y <= x for y in losses), n) >= Fraction(level))


def shortfall_by_definition(losses: list[int], level: str) -> float:
    """The integral of the lower quantile over (level, 1), which is a step function with steps at 1/n, 2/n, ..."""
    n, ordered, area = len(losses), sorted(losses), Fraction(0)
    for i, x in enumerate(ordered):
        area += x * max(Fraction(0), Fraction(i + 1, n) - max(Fraction(i, n), Fraction(level)))
    return float(area / (1 - Fraction(level)))


def skewed(n_paths: int, seed: int = 1) -> I64:
    """Losses like a book's: most paths lose nothing, some share an amount, a few lose much."""
    rng = np.random.default_rng(seed)
    losses = np.floor(rng.lognormal(18, 1.5, n_paths)).astype(np.int64)
    losses[rng.random(n_paths) < 0.6] = 0
    losses[rng.random(n_paths) < 0.1] = 45_000_000
    return losses


@given(st.lists(INT64, min_size=0, max_size=50))
def test_totals_are_exact_over_all_of_int64(values: list[int]) -> None:
    array = np.array(values, dtype=np.int64)
    assert risk.total(array) == sum(values)
    assert risk.sum_of_squares(array) == sum(x * x for x in values)


def test_totals_do_not_overflow_in_full_blocks() -> None:
    n = 2 * risk.BLOCK_ROWS + 3
    for extreme in (2**63 - 1, -(2**63)):
        array = np.full(n, extreme, dtype=np.int64)
        assert risk.total(array) == n * extreme
        assert risk.sum_of_squares(array) == n * extreme**2


def test_columns_are_summed_apart_however_wide_or_long() -> None:
    for shape in ((70_000, 3), (300, 5000), (0, 2), (5, 0)):
        table = np.random.default_rng(2).integers(-(2**62), 2**62, shape)
        totals, squares = risk.column_totals(table), risk.column_sums_of_squares(table)
        assert len(totals) == len(squares) == shape[1]
        for column in {0, shape[1] // 2, shape[1] - 1} if shape[1] else set():
            cells = [int(x) for x in table[:, column]]
            assert totals[column] == sum(cells)
            assert squares[column] == sum(x * x for x in cells)


def test_exact_sums_refuse_other_types() -> None:
    with pytest.raises(TypeError, match="whole numbers"):
        risk.total(np.zeros(3))  # type: ignore[arg-type]


@given(st.lists(INT64, min_size=2, max_size=30), st.integers(0, 30))
def test_moments_add_up_and_agree_with_fractions(values: list[int], cut: int) -> None:
    array = np.array(values, dtype=np.int64)
    moments = Moments.of(array)
    assert Moments.of(array[:cut]) + Moments.of(array[cut:]) == moments
    n, mean = len(values), Fraction(sum(values), len(values))
    variance = sum((x - mean) ** 2 for x in values) / (n - 1)
    assert moments.mean == risk.mean(array) == float(mean)
    assert moments.variance == float(variance)
    assert moments.standard_error == pytest.approx(math.sqrt(variance / n), rel=1e-15)
    assert risk.standard_error(array) == moments.standard_error


def test_moments_of_columns_are_those_of_each_column() -> None:
    table = np.random.default_rng(4).integers(0, 10**15, (1000, 4))
    assert Moments.columns(table) == tuple(Moments.of(table[:, i]) for i in range(4))


def test_moments_without_spread_or_values() -> None:
    assert math.isnan(Moments(0, 0, 0).mean) and math.isnan(Moments(0, 0, 0).standard_error)
    one = Moments.of(np.array([7]))
    assert one.mean == 7 and math.isnan(one.standard_error) and math.isnan(one.standard_deviation)
    assert Moments.of(np.array([7, 7, 7])).standard_error == 0


def test_variance_survives_a_large_mean() -> None:
    values = 10**17 + np.array([1, 2, 3, 4], dtype=np.int64)
    assert Moments.of(values).variance == 5 / 3


@given(TIED, LEVEL)
def test_quantile_and_shortfall_follow_their_definitions(losses: list[int], level: str) -> None:
    ordered = np.sort(np.array(losses, dtype=np.int64))
    assert risk.value_at_risk(ordered, float(level)) == quantile_by_definition(losses, level)
    assert risk.expected_shortfall(ordered, float(level)) == shortfall_by_definition(losses, level)


def test_rank_is_exact_where_floats_are_not() -> None:
    # 0.07 * 100 is 7.000000000000001 in float64.
    assert risk.value_at_risk(np.arange(1, 101), 0.07) == 7
    assert risk.value_at_risk(np.arange(1, 1_000_001), 0.9997) == 999_700
    assert risk.tail_paths(1_000_000, 0.9997) == 300
    assert risk.value_at_risk(np.arange(1, 101), np.float64(0.07)) == 7


def test_level_beyond_the_sample_is_its_maximum() -> None:
    ordered = np.arange(1, 101)
    assert risk.value_at_risk(ordered, 0.9997) == 100
    assert risk.expected_shortfall(ordered, 0.9997) == 100
    assert risk.tail_paths(100, 0.9997) == 1
    # 0.9997^100 = 0.970: the quantile lies above every path, too often for an upper bound; P(K <= 98) = 0.0004.
    assert risk.value_at_risk_interval(ordered, 0.9997) == (99, None)


@pytest.mark.parametrize("level", [0, 1, -0.5, 95, 1.0])
def test_level_outside_its_range_is_refused(level: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        risk.value_at_risk(np.arange(10), level)


@given(TIED, LEVEL)
def test_shortfall_is_at_least_the_quantile_and_at_most_the_maximum(losses: list[int], level: str) -> None:
    ordered = np.sort(np.array(losses, dtype=np.int64))
    shortfall = risk.expected_shortfall(ordered, float(level))
    assert ordered[-1] >= shortfall >= risk.value_at_risk(ordered, float(level))


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=30), LEVEL)
def test_shortfall_is_subadditive_under_ties(pairs: list[tuple[int, int]], level: str) -> None:
    a, b = np.array(pairs, dtype=np.int64).T
    both = risk.expected_shortfall(np.sort(a + b), float(level))
    apart = risk.expected_shortfall(np.sort(a), float(level)) + risk.expected_shortfall(np.sort(b), float(level))
    assert both <= apart + 1e-12


@given(st.integers(1, 500), st.floats(0.01, 0.999), st.sampled_from([0.005, 0.025, 0.5, 0.975, 0.995]))
@settings(max_examples=200)
def test_interval_ranks_are_binomial_quantiles(n: int, p: float, probability: float) -> None:
    k = risk._binomial_quantile(n, p, probability)
    assert stats.binom.cdf(k, n, p) >= probability - 1e-12
    assert k == 0 or stats.binom.cdf(k - 1, n, p) < probability + 1e-12


def test_interval_bounds_of_a_known_case() -> None:
    # binomial(100, 0.95): P(K <= 89) = 0.0115, P(K <= 90) = 0.0282; P(K <= 98) = 0.9629, P(K <= 99) = 0.9941.
    assert risk.value_at_risk_interval(np.arange(1, 101), 0.95) == (90, 100)
    assert risk.value_at_risk_interval(np.arange(1, 11), 0.05) == (None, 3)


@pytest.mark.parametrize("tied", [False, True])
def test_interval_covers_the_quantile(tied: bool) -> None:
    rng, n_samples, n, level = np.random.default_rng(5), 2000, 400, 0.95
    span = 20 if tied else 10**9
    samples = np.sort(rng.integers(1, span + 1, (n_samples, n)), axis=1)
    truth = math.ceil(Fraction("0.95") * span)
    hits = 0
    for sample in samples:
        low, high = risk.value_at_risk_interval(sample, level)
        assert low is not None and high is not None
        hits += low <= truth <= high
    assert hits / n_samples >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / n_samples)
    assert tied or hits / n_samples <= 0.97 + 3 * math.sqrt(0.95 * 0.05 / n_samples)


def test_shortfall_error_is_that_of_manistre_and_hancock() -> None:
    ordered = np.sort(skewed(100_000))
    for level in (0.95, 0.99):
        var, es = risk.value_at_risk(ordered, level), risk.expected_shortfall(ordered, level)
        k = round(level * len(ordered))
        tail = ordered[k:].astype(np.float64)
        expected = math.sqrt((tail.var() + level * (es - var) ** 2) / len(tail))
        assert risk.expected_shortfall_se(ordered, level) == pytest.approx(expected, rel=1e-4)


def test_errors_match_the_spread_over_many_samples() -> None:
    runs = [risk.figures(np.floor(1e6 * x).astype(np.int64), (0.95,)) for x in samples_of_exponentials()]
    for estimates, errors in (
        ([r.expected_loss for r in runs], [r.expected_loss_se for r in runs]),
        ([r.loss_std for r in runs], [r.loss_std_se for r in runs]),
        ([r.expected_shortfall[0.95] for r in runs], [r.expected_shortfall_se[0.95] for r in runs]),
    ):
        # 1000 runs know the spread to 2.2 %.
        assert np.mean(errors) == pytest.approx(np.std(estimates), rel=0.08)


def samples_of_exponentials() -> NDArray[np.float64]:
    return np.random.default_rng(6).exponential(size=(1000, 2000))


def test_deviation_error_by_hand() -> None:
    # 0, 0, 0, 4: m2 = 3, m4 = 21, s = 2: sqrt((21 - 9) / 4) / (2 * 2)
    assert risk.standard_deviation(np.array([0, 0, 0, 4])) == 2
    assert risk.standard_deviation_se(np.array([0, 0, 0, 4])) == pytest.approx(math.sqrt(3) / 4, rel=1e-15)


@pytest.mark.parametrize(("count", "n"), [(0, 1), (0, 50), (1, 50), (25, 50), (50, 50), (3, 1_000_000)])
def test_wilson_interval_solves_the_score_equation(count: int, n: int) -> None:
    expected = stats.binomtest(count, n).proportion_ci(0.95, "wilson")
    assert risk.wilson_interval(count, n) == pytest.approx((expected.low, expected.high), rel=1e-9, abs=1e-15)


def test_probability_of_loss() -> None:
    losses = np.array([0, 0, 1, 0, 10**15])
    assert risk.probability_of_loss(losses) == 0.4
    assert risk.probability_of_loss_se(losses) == pytest.approx(math.sqrt(0.4 * 0.6 / 5), rel=1e-15)
    assert risk.probability_of_loss_interval(losses) == risk.wilson_interval(2, 5)


def test_figures_do_not_depend_on_the_order_of_paths() -> None:
    losses = skewed(150_000)
    expected = risk.figures(losses)
    for seed in range(3):
        assert risk.figures(np.random.default_rng(seed).permutation(losses)) == expected


def test_figures_leave_the_losses_as_they_were() -> None:
    losses = skewed(1000)
    before = losses.copy()
    losses.flags.writeable = False
    risk.figures(losses)
    assert np.array_equal(losses, before)


def test_figures_are_the_functions_of_the_sorted_losses() -> None:
    losses = skewed(20_000)
    ordered, result = np.sort(losses), risk.figures(losses)
    assert result.n_paths == 20_000 and result.max_loss == max(losses)
    assert result.expected_loss == pytest.approx(losses.mean(), rel=1e-12)
    assert result.loss_std == pytest.approx(losses.std(ddof=1), rel=1e-12)
    assert result.expected_loss_se == pytest.approx(losses.std(ddof=1) / math.sqrt(20_000), rel=1e-12)
    for level, n_tail in zip(risk.LEVELS, (1000, 200, 20, 6), strict=True):
        assert result.value_at_risk[level] == np.quantile(losses, level, method="inverted_cdf")
        assert result.expected_shortfall[level] == pytest.approx(ordered[-n_tail:].mean(), rel=1e-12)
        assert result.tail_paths[level] == n_tail
        low, high = result.value_at_risk_ci[level]
        assert low is not None and low <= result.value_at_risk[level] and (high is None or high >= low)


def test_figures_when_no_path_loses() -> None:
    result = risk.figures(np.zeros(1000, dtype=np.int64))
    assert result.expected_loss == result.loss_std == result.loss_std_se == result.max_loss == 0
    assert result.probability_of_loss == result.probability_of_loss_se == 0
    assert result.probability_of_loss_ci == (0.0, pytest.approx(0.0038268, abs=1e-6))
    assert set(result.expected_shortfall.values()) == {0.0}
    assert {x for x in result.expected_shortfall_se.values() if not math.isnan(x)} == {0.0}


def test_figures_of_one_path() -> None:
    result = risk.figures(np.array([123]))
    assert result.expected_loss == result.max_loss == 123
    assert set(result.value_at_risk.values()) == set(result.expected_shortfall.values()) == {123}
    # binomial(1, 0.95) is 0 with probability 0.05 > 0.025: not even the only loss bounds that quantile from below.
    assert [result.value_at_risk_ci[level] for level in (0.95, 0.99)] == [(None, None), (123, None)]
    assert all(math.isnan(x) for x in (result.expected_loss_se, result.loss_std, result.loss_std_se))
    assert all(math.isnan(x) for x in result.expected_shortfall_se.values())


def test_figures_of_losses_near_the_end_of_int64() -> None:
    top = 2**63 - 1
    result = risk.figures(np.array([0, top, top, top]))
    assert result.expected_loss == 3 * top / 4
    assert result.value_at_risk[0.99] == top and result.expected_shortfall[0.99] == float(top)
    assert result.loss_std == pytest.approx(top / 2, rel=1e-15)


def test_figures_refuse_what_is_not_losses() -> None:
    with pytest.raises(TypeError, match="whole cents"):
        risk.figures(np.zeros(3))  # type: ignore[arg-type]
    for wrong in (np.zeros(0, dtype=np.int64), np.zeros((2, 2), dtype=np.int64)):
        with pytest.raises(ValueError, match="shape"):
            risk.figures(wrong)
    with pytest.raises(ValueError, match="lost -1 cents"):
        risk.figures(np.array([3, -1]))


def test_figures_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        risk.figures(np.array([1])).n_paths = 2  # type: ignore[misc]


def test_standard_errors_of_an_interval_are_the_normal_quantile() -> None:
    assert risk.standard_errors() == special.ndtri((1 + risk.CONFIDENCE) / 2)
    assert risk.standard_errors(0.9) == special.ndtri(0.95)
