"""Each closed form against a second route: enumeration, mpmath, SciPy's own distributions, or the monthly recursion."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from scipy import integrate, linalg, special, stats

from gpuloan_mc import closed_form as cf

YEARLY_RATES = [[0.0, 0.6, 0.2], [0.35, 0.0, 0.35], [0.1, 0.8, 0.0]]


# Number of defaults


@pytest.mark.parametrize("pd", [0.0, 1e-9, 0.02, 0.3, 0.999, 1.0])
def test_binomial_by_enumeration(pd: float) -> None:
    n = 6
    expected = np.zeros(n + 1)
    for outcome in itertools.product((0, 1), repeat=n):
        expected[sum(outcome)] += math.prod(pd if default else 1 - pd for default in outcome)
    assert cf.binomial_loss(n, pd) == pytest.approx(expected, rel=1e-12, abs=1e-300)


def test_binomial_of_many_loans() -> None:
    assert cf.binomial_loss(5000, 0.03) == pytest.approx(stats.binom.pmf(np.arange(5001), 5000, 0.03), abs=1e-11)


@pytest.mark.parametrize(("pd", "loading"), [(0.02, 0.3), (0.3, 0.9), (1e-4, 0.5), (0.05, -0.3)])
def test_mixture_against_mpmath(pd: float, loading: float) -> None:
    n = 20
    pmf = cf.one_factor_mixture(n, pd, loading)
    threshold = mpmath.mpf(float(special.ndtri(pd)))

    def weight(k: int) -> float:
        def integrand(x: mpmath.mpf) -> mpmath.mpf:
            p = mpmath.ncdf((threshold - loading * x) / mpmath.sqrt(1 - loading**2))
            return mpmath.npdf(x) * mpmath.binomial(n, k) * p**k * (1 - p) ** (n - k)

        return float(mpmath.quad(integrand, [-12, -6, -3, -1, 0, 1, 3, 6, 12]))

    assert [pmf[k] for k in (0, 1, 5, 20)] == pytest.approx([weight(k) for k in (0, 1, 5, 20)], abs=1e-12)


@pytest.mark.parametrize("n", [1, 10, 1000, 10_000])
def test_mixture_identities(n: int) -> None:
    pd, loading = 0.03, 0.4
    pmf = cf.one_factor_mixture(n, pd, loading)
    assert pmf.shape == (n + 1,)
    assert pmf.sum() == pytest.approx(1, abs=1e-10)
    assert cf.distribution_mean(pmf) == pytest.approx(n * pd, rel=1e-10)
    k = np.arange(n + 1)
    both = stats.multivariate_normal(cov=[[1, loading**2], [loading**2, 1]]).cdf([special.ndtri(pd)] * 2)
    assert (k * (k - 1)) @ pmf == pytest.approx(n * (n - 1) * both, rel=1e-8)


def test_mixture_without_loading_is_binomial() -> None:
    assert cf.one_factor_mixture(50, 0.1, 0.0) == pytest.approx(cf.binomial_loss(50, 0.1), abs=1e-13)


@pytest.mark.parametrize("loading", [1.0, -1.0, 1.5])
def test_loading_of_one_or_more_is_refused(loading: float) -> None:
    with pytest.raises(ValueError, match="loading"):
        cf.one_factor_mixture(5, 0.1, loading)


@pytest.mark.parametrize("pd", [-0.1, 1.1, math.nan])
def test_probability_outside_its_range_is_refused(pd: float) -> None:
    for call in (cf.binomial_loss, lambda n, p: cf.one_factor_mixture(n, p, 0.1)):
        with pytest.raises(ValueError, match="pd"):
            call(5, pd)


@pytest.mark.parametrize("dof", [3, 4.5, 30])
def test_t_mixture_against_scipys_quadrature(dof: float) -> None:
    """No default among n: the χ² integral by its own density, the factor by Gauss-Hermite."""
    n, pd, loading = 8, 0.05, 0.3
    x, weights = special.roots_hermitenorm(120)
    own, threshold = math.sqrt(1 - loading**2), stats.t.ppf(pd, dof)

    def given(chi_square: float, k: int) -> float:
        p = special.ndtr((threshold * math.sqrt(chi_square / dof) - loading * x) / own)
        return float(weights @ (math.comb(n, k) * p**k * (1 - p) ** (n - k))) / math.sqrt(2 * math.pi)

    pmf = cf.t_mixture(n, pd, loading, dof)
    for k in (0, 1, 4):
        expected = integrate.quad(lambda s, k=k: stats.chi2.pdf(s, dof) * given(s, k), 0, dof * 20, limit=200)[0]
        assert pmf[k] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("dof", [3, 10, 1000])
def test_t_mixture_identities(dof: float) -> None:
    pmf = cf.t_mixture(40, 0.02, 0.5, dof)
    k = np.arange(41)
    assert pmf.sum() == pytest.approx(1, abs=1e-10)
    assert cf.distribution_mean(pmf) == pytest.approx(40 * 0.02, rel=1e-10)
    assert (k * (k - 1)) @ pmf == pytest.approx(40 * 39 * cf.t_copula_joint_pd(0.02, 0.02, 0.25, dof), rel=1e-9)


def test_t_mixture_tends_to_the_gaussian() -> None:
    distance = [
        np.abs(cf.t_mixture(20, 0.1, 0.4, dof) - cf.one_factor_mixture(20, 0.1, 0.4)).max() for dof in (1e3, 1e4)
    ]
    assert distance[0] < 1e-3 and distance[1] == pytest.approx(distance[0] / 10, rel=0.05)


def test_joint_t_probability() -> None:
    """Symmetric in the two, with the known orthant probability and mpmath's double integral of the density."""
    assert cf.t_copula_joint_pd(0.02, 0.3, 0.4, 5) == pytest.approx(cf.t_copula_joint_pd(0.3, 0.02, 0.4, 5), rel=1e-10)
    for dof in (3, 7.5):  # elliptical: as for the normal, 1/4 + asin(rho)/2π
        assert cf.t_copula_joint_pd(0.5, 0.5, -0.6, dof) == pytest.approx(
            0.25 + math.asin(-0.6) / (2 * math.pi), rel=1e-10
        )
    dof, rho = 4, 0.3

    def density(y: float, x: float) -> float:
        form = (x * x - 2 * rho * x * y + y * y) / (1 - rho * rho)
        return float((1 + form / dof) ** (-(dof + 2) / 2)) / (2 * math.pi * math.sqrt(1 - rho * rho))

    first, second = stats.t.ppf(0.05, dof), stats.t.ppf(0.2, dof)
    expected = integrate.dblquad(density, -math.inf, first, -math.inf, second, epsabs=1e-11, epsrel=1e-9)[0]
    assert cf.t_copula_joint_pd(0.05, 0.2, rho, dof) == pytest.approx(expected, rel=1e-7)


def test_quantile_and_shortfall_of_a_small_distribution() -> None:
    pmf = np.array([0.5, 0.2, 0.2, 0.1])
    assert [cf.distribution_quantile(pmf, level) for level in (0.5, 0.6, 0.7, 0.9, 0.95)] == [0, 1, 1, 2, 3]
    assert cf.distribution_expected_shortfall(pmf, 0.8) == pytest.approx((0.1 * 2 + 0.1 * 3) / 0.2)
    assert cf.distribution_expected_shortfall(pmf, 0.95) == 3
    assert cf.distribution_mean(pmf) == pytest.approx(0.9)


def test_quantile_bears_with_rounded_sums() -> None:
    assert [cf.distribution_quantile(np.full(20, 0.05), level) for level in (0.15, 0.3, 0.95, 1.0)] == [2, 5, 18, 19]


# Large pools


def test_large_pool_tends_to_vasicek() -> None:
    pd, rho, level = 0.02, 0.09, 0.999
    limit = cf.vasicek_expected_shortfall(pd, rho, level)
    gaps = []
    for n in (1000, 10_000):
        pmf = cf.one_factor_mixture(n, pd, math.sqrt(rho))
        quantile = cf.distribution_quantile(pmf, level) / n
        assert quantile == pytest.approx(cf.vasicek_quantile(pd, rho, level), rel=30 / n)
        gaps.append(cf.distribution_expected_shortfall(pmf, level) / n - limit)
    # What a finite pool adds falls as 1/n.
    assert gaps[0] / gaps[1] == pytest.approx(10, rel=0.02) and 0 < gaps[1] < 0.003 * limit


def test_vasicek_quantile_inverts_the_limit_distribution() -> None:
    pd, rho = 0.01, 0.2
    for level in (0.5, 0.99, 0.9997):
        x = cf.vasicek_quantile(pd, rho, level)
        back = special.ndtr((math.sqrt(1 - rho) * special.ndtri(x) - special.ndtri(pd)) / math.sqrt(rho))
        assert back == pytest.approx(level, rel=1e-12)


@pytest.mark.parametrize("level", [0.5, 0.99, 0.9997])
def test_vasicek_shortfall_is_the_mean_of_the_quantiles_beyond(level: float) -> None:
    pd, rho = 0.01, 0.2
    # With the level's own score as variable the integrand is smooth.
    area = integrate.quad(
        lambda z: stats.norm.pdf(z) * cf.vasicek_quantile(pd, rho, stats.norm.cdf(z)),
        special.ndtri(level),
        8,
        epsabs=1e-15,
    )[0]
    assert cf.vasicek_expected_shortfall(pd, rho, level) == pytest.approx(area / (1 - level), rel=1e-9)
    assert cf.vasicek_expected_shortfall(pd, rho, 1e-12) == pytest.approx(pd, rel=1e-9)


@pytest.mark.parametrize("correlation", [-1.0, -0.7, 0.0, 0.3, 0.95, 1.0])
def test_bivariate_normal(correlation: float) -> None:
    both = stats.multivariate_normal(cov=[[1, correlation], [correlation, 1]], allow_singular=True)
    for x, y in ((0.0, 0.0), (-2.0, 1.0), (1.5, 0.5), (-1.0, -3.0)):
        assert cf.bivariate_normal(x, y, correlation) == pytest.approx(both.cdf([x, y]), abs=1e-7)
        assert cf.bivariate_normal(x, y, correlation) == pytest.approx(
            cf.bivariate_normal(y, x, correlation), abs=1e-12
        )
    assert cf.bivariate_normal(0, 0, correlation) == pytest.approx(
        0.25 + math.asin(correlation) / (2 * math.pi), abs=1e-13
    )
    assert cf.bivariate_normal(-1.0, -40.0, correlation) == 0


# Demand, prices and regimes


@pytest.mark.parametrize("kappa", [0.0, 1e-6, 2.0, 30.0])
def test_ou_moments_by_the_monthly_recursion(kappa: float) -> None:
    """(2.2) step by step: its mean and variance after n months are those of continuous time, not near them."""
    sigma, x0, mean, months = 0.3, 0.4, -0.5, 30
    m, v = x0, 0.0
    s2 = sigma**2 / 12 if kappa == 0 else sigma**2 * (1 - mpmath.exp(-kappa / 6)) / (2 * kappa)
    for _ in range(months):
        decay = mpmath.exp(-kappa / 12)
        m, v = m + (1 - decay) * (mean - m), decay**2 * v + s2
    assert cf.ou_moments(kappa, sigma, months / 12, x0, mean) == pytest.approx((float(m), float(v)), rel=1e-8)


def test_lognormal_mean() -> None:
    expected = integrate.quad(lambda x: math.exp(x) * stats.norm.pdf(x, -0.3, 0.5), -8, 8)[0]
    assert cf.lognormal_mean(-0.3, 0.25) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("jumps", "down"), [(0.5, 0.6), (12.0, 0.0), (0.0, 0.5)])
def test_jump_moments_by_integration(jumps: float, down: float) -> None:
    mean_size = 0.12
    q = 1 - math.exp(-jumps / 12)
    size, square = (
        float(mpmath.quad(lambda x, k=k: x**k * mpmath.exp(-x / mean_size) / mean_size, [0, 1, 10])) for k in (1, 2)
    )
    mean = q * ((1 - down) - down) * size
    assert cf.jump_moments(jumps, down, mean_size) == pytest.approx((mean, q * square - mean**2), rel=1e-10, abs=1e-18)


def test_stationary_regimes_do_not_move() -> None:
    shares = cf.stationary_regimes(YEARLY_RATES)
    generator = np.array(YEARLY_RATES) - np.diag(np.sum(YEARLY_RATES, axis=1))
    assert shares @ linalg.expm(generator / 12) == pytest.approx(shares, abs=1e-14)
    assert linalg.expm(generator * 1000)[0] == pytest.approx(shares, abs=1e-10)
    assert shares.sum() == pytest.approx(1, abs=1e-14)


def test_stationary_regimes_by_hand() -> None:
    assert cf.stationary_regimes([[0.0]]) == pytest.approx([1.0])
    assert cf.stationary_regimes([[0, 1], [3, 0]]) == pytest.approx([0.75, 0.25])
    assert cf.stationary_regimes([[-1, 1], [3, -3]]) == pytest.approx([0.75, 0.25])
    assert cf.stationary_regimes([[0, 1], [0, 0]]) == pytest.approx([0, 1], abs=1e-15)
    with pytest.raises(ValueError, match="communicate"):
        cf.stationary_regimes([[0, 0], [0, 0]])


def test_mean_sojourn_by_summing_the_months() -> None:
    generator = np.array(YEARLY_RATES) - np.diag(np.sum(YEARLY_RATES, axis=1))
    stay = np.diag(linalg.expm(generator / 12))
    months = np.arange(1, 5000)[:, None]
    assert cf.mean_sojourn_months(YEARLY_RATES) == pytest.approx(
        (months * stay ** (months - 1) * (1 - stay)).sum(axis=0)
    )
    assert list(cf.mean_sojourn_months([[0.0]])) == [math.inf]


# Default intensities


@pytest.mark.parametrize(("kappa", "sensitivity"), [(2.0, 1.0), (0.0, 3.0), (2.0, -1.0), (5.0, 0.0)])
def test_cox_survival_of_one_and_two_months(kappa: float, sensitivity: float) -> None:
    sigma, x0, mean, h1, h2 = 0.4, 0.2, -0.3, 0.05, 0.08
    x, weights = special.roots_hermitenorm(80)
    weights = weights / math.sqrt(2 * math.pi)
    decay, noise = math.exp(-kappa / 12), math.sqrt(cf.ou_moments(kappa, sigma, 1 / 12, 0, 0)[1])
    m1 = mean + decay * (x0 - mean) + noise * x
    m2 = mean + decay * (m1[:, None] - mean) + noise * x
    first = np.exp(-h1 * np.exp(-sensitivity * m1))
    one, two = weights @ first, (weights * first) @ np.exp(-h2 * np.exp(-sensitivity * m2)) @ weights
    assert cf.cox_survival_ou([h1], sensitivity, kappa, sigma, x0, mean) == pytest.approx(one, rel=1e-12)
    assert cf.cox_survival_ou([h1, h2], sensitivity, kappa, sigma, x0, mean) == pytest.approx(two, rel=1e-12)


def test_cox_survival_of_many_months() -> None:
    hazards = np.linspace(0.001, 0.02, 60)
    assert cf.cox_survival_ou(hazards, 0.0, 2.0, 0.2) == pytest.approx(math.exp(-hazards.sum()), rel=1e-12)
    by_hand = math.prod(math.exp(-h * math.exp(-0.5 * 0.3 * math.exp(-2 * t / 12))) for t, h in enumerate(hazards, 1))
    assert cf.cox_survival_ou(hazards, 0.5, 2.0, 0.0, x0=0.3) == pytest.approx(by_hand, rel=1e-12)
    # Where hazards are tiny, 1 - survival is the sum of the mean hazards: lognormal means.
    tiny = 1e-7 * hazards
    expected = sum(h * cf.lognormal_mean(0.0, cf.ou_moments(2.0, 0.2, t / 12, 0, 0)[1]) for t, h in enumerate(tiny, 1))
    assert 1 - cf.cox_survival_ou(tiny, 1.0, 2.0, 0.2) == pytest.approx(expected, rel=1e-5)


# Loans and collateral


@pytest.mark.parametrize("rate", [Fraction(0), Fraction(1, 10), Fraction(-1, 100)])
def test_annuity_balance_by_paying_it_down(rate: Fraction) -> None:
    term, principal, monthly = 36, Fraction(1_000_000), rate / 12
    growth = (1 + monthly) ** term
    payment = principal / term if rate == 0 else principal * monthly * growth / (growth - 1)
    balance = principal
    for month in range(term + 1):
        assert cf.annuity_balance(1e6, float(rate), term, month) == pytest.approx(float(balance), rel=1e-12, abs=1e-8)
        balance = balance * (1 + monthly) - payment


def test_annuity_balance_is_continuous_at_zero_interest() -> None:
    assert cf.annuity_balance(1.0, 1e-12, 36, 12) == pytest.approx(cf.annuity_balance(1.0, 0.0, 36, 12), rel=1e-10)


@pytest.mark.parametrize("discount", [0.0, 0.37, -0.1])
def test_collateral_value_is_the_annuity_formula(discount: float) -> None:
    factor = 5.25 if discount == 0 else (1 - math.exp(-discount * 5.25)) / discount
    expected = 8760 * (2.2 * 0.82 - 0.52) * factor
    assert cf.collateral_value(2.2, 0.82, 0.52, 5.25, discount) == pytest.approx(expected, rel=1e-12)


def test_collateral_value_at_its_bounds() -> None:
    assert cf.collateral_value(0.5, 0.8, 0.52, 5, 0.3, scrap=2000.0) == 2000
    assert cf.collateral_value(9.0, 0.9, 0.52, 5, 0.3, cap=36_000.0) == 36_000
    assert cf.collateral_value(2.2, 0.8, 0.52, -1, 0.3) == 0


def by_bivariate_normals(pd: float, loading: float, collateral: float, volatility: float, r: float) -> float:
    """Pykhtin's route: two default-and-shortfall probabilities, the second under the measure weighted by C."""
    k, rho = float(special.ndtri(pd)), loading * r
    edge = -math.log(collateral) / volatility
    mean_collateral = collateral * cf.lognormal_mean(0.0, volatility**2)
    plain = cf.bivariate_normal(k, edge, rho)
    weighted = cf.bivariate_normal(k - volatility * rho, edge - volatility, rho)
    return plain - mean_collateral * weighted


@pytest.mark.parametrize(
    ("pd", "loading", "collateral", "volatility", "r"),
    [(0.05, 0.3, 1.2, 0.3, 0.5), (0.01, 0.7, 0.9, 0.6, 0.9), (0.2, 0.5, 1.5, 0.4, 1.0), (0.05, 0.4, 1.0, 0.3, -0.6)],
)
def test_joint_default_and_collateral(
    pd: float, loading: float, collateral: float, volatility: float, r: float
) -> None:
    expected = by_bivariate_normals(pd, loading, collateral, volatility, r)
    assert cf.frye_expected_loss(pd, loading, collateral, volatility, r) == pytest.approx(expected, rel=1e-9)


def test_joint_default_and_collateral_at_the_limits() -> None:
    assert cf.frye_expected_loss(0.05, 0.3, 0.6, 0.0, 0.5) == pytest.approx(0.05 * 0.4, rel=1e-10)
    apart = cf.frye_expected_loss(0.05, 0.3, 1.1, 0.4, 0.0)
    d = -math.log(1.1) / 0.4
    put = special.ndtr(d) - 1.1 * cf.lognormal_mean(0, 0.16) * special.ndtr(d - 0.4)
    assert apart == pytest.approx(0.05 * put, rel=1e-10)
    assert cf.frye_expected_loss(0.05, 0.3, 1.1, 0.4, 0.5) > apart > cf.frye_expected_loss(0.05, 0.3, 1.1, 0.4, -0.5)


# Quadrature


@pytest.mark.parametrize(
    ("function", "expected"),
    [(lambda z: z**2, 1.0), (lambda z: z**8, 105.0), (lambda z: np.exp(0.5 * z), math.exp(0.125))],
)
def test_normal_mean(function: Callable[[cf.F64], cf.F64], expected: float) -> None:
    assert cf.normal_mean(function) == pytest.approx(expected, rel=1e-12)


def test_quadrature_that_does_not_converge_says_so() -> None:
    with pytest.raises(ArithmeticError, match="converge"):
        cf.normal_mean(lambda z: (z > 0.1234).astype(np.float64))
