"""Own float32 functions against SciPy in float64, SciPy against mpmath, and fma against exact rational arithmetic."""

from fractions import Fraction

import mpmath
import numpy as np
import pytest
import scipy.special as special

from gpuloan_mc.reference import arithmetic

N = 1_000_000
rng = np.random.default_rng(20241130)

EXP_POINTS = np.concatenate([rng.uniform(-40, 40, N), [-40, 40, 0, -0.0, 1e-30, -1e-30]]).astype(np.float32)
LOG_POINTS = np.concatenate([np.exp(rng.uniform(-69, 40, N)), rng.uniform(0.5, 2, N), [1, 2.0**-100, 2.0**60]])
QUANTILE_POINTS = np.concatenate(
    [rng.uniform(0, 0.5, N), np.exp2(rng.uniform(-33, -1, N)), 0.5 - np.exp2(-rng.uniform(2, 24, N)), [2.0**-33, 0.5]]
)
CDF_POINTS = np.concatenate([rng.uniform(-6.5, 6.5, N), rng.normal(size=N) * 1e-3, [-6.5, 6.5, 0]])


def positive_float32(x, low, high):
    x = np.asarray(x).astype(np.float32)
    return x[(x >= low) & (x <= high)]


def ulps(value, exact):
    spacing = np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64)
    return np.abs(value.astype(np.float64) - exact) / np.maximum(spacing, 2.0**-149)


FUNCTIONS = {
    "exp": (arithmetic.exp, np.exp, mpmath.exp, EXP_POINTS),
    "log": (arithmetic.log, np.log, mpmath.log, positive_float32(LOG_POINTS, 2.0**-100, 1e18)),
    "quantile": (
        arithmetic.normal_quantile,
        lambda p: -special.ndtri(p),
        lambda p: mpmath.sqrt(2) * mpmath.erfinv(1 - 2 * p),
        positive_float32(QUANTILE_POINTS, 2.0**-33, 0.5),
    ),
    "cdf": (arithmetic.normal_cdf, special.ndtr, mpmath.ncdf, CDF_POINTS.astype(np.float32)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_within_two_ulp_of_scipy(name):
    ours, scipy_one, _, points = FUNCTIONS[name]
    errors = ulps(ours(points), scipy_one(points.astype(np.float64)))
    assert errors.max() <= 2, (errors.max(), points[errors.argmax()])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_scipy_itself_against_mpmath(name):
    _, scipy_one, exact_one, points = FUNCTIONS[name]
    chosen = np.random.default_rng(7).choice(points, 2000).astype(np.float64)
    chosen = chosen[np.abs(chosen) > 1e-20] if name == "exp" else chosen
    with mpmath.workdps(40):
        exact = np.array([float(exact_one(mpmath.mpf(x))) for x in chosen])
    scale = np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64)
    assert np.all(np.abs(scipy_one(chosen) - exact) <= 1e-3 * np.maximum(scale, 1e-45))


def round_to_float32(exact):
    """Nearest float32 of a rational, ties to even, by comparison with its neighbours."""
    guess = np.float32(float(exact))
    around = [np.nextafter(guess, np.float32(-np.inf)), guess, np.nextafter(guess, np.float32(np.inf))]
    distances = [abs(Fraction(float(x)) - exact) for x in around]
    best = min(distances)
    nearest = [x for x, d in zip(around, distances, strict=True) if d == best]
    return next((x for x in nearest if int(x.view(np.int32)) % 2 == 0), nearest[0])


def test_fma_rounds_once():
    draw = np.random.default_rng(3)
    a, b = (draw.integers(2**23, 2**24, 4000).astype(np.float32) * np.float32(2.0**-23) for _ in range(2))
    c = np.round(draw.normal(size=4000) * 2**25).astype(np.float32)  # sums on a coarse grid: many are near a tie
    exact = [Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z)) for x, y, z in zip(a, b, c, strict=True)]
    assert np.array_equal(arithmetic.fma(a, b, c), np.array([round_to_float32(e) for e in exact]))


def test_fma_where_rounding_twice_goes_wrong():
    a, b = np.float32(1 + 2.0**-23), np.float32(1 - 2.0**-23)  # their product is 1 - 2^-46
    c = np.float32(2**24 + 2)
    assert np.float32(np.float64(a) * np.float64(b) + np.float64(c)) == np.float32(2**24 + 4)
    assert arithmetic.fma(a, b, c) == np.float32(2**24 + 2)
    assert arithmetic.fma(-a, b, -c) == np.float32(-(2**24) - 2)


@pytest.mark.parametrize("low, per_unit, cells", [(-8, 64, 1024), (-24, 64, 1792)])
def test_interpolation_meets_the_knots_and_is_clamped(low, per_unit, cells):
    knots = low + np.arange(cells + 1) / per_unit
    values = np.sin(knots)
    table = np.stack([values[:-1], np.diff(values) * per_unit]).astype(np.float32)
    at_knots = arithmetic.interpolate(table, knots[:-1].astype(np.float32), low, per_unit)
    assert np.allclose(at_knots, values[:-1], atol=2e-7)
    beyond = arithmetic.interpolate(table, np.array([low - 5, knots[-1] + 5], np.float32), low, per_unit)
    assert np.allclose(beyond, [values[0], values[-1]], atol=3e-7)


def test_small_states_are_flushed():
    x = np.array([2.0**-61, -(2.0**-61), 2.0**-60, 1], np.float32)
    assert arithmetic.flush(x).tolist() == [0, 0, 2.0**-60, 1]
