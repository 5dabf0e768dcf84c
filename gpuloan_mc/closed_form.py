"""Known answers: what the model must give when features are switched off until a formula or a quadrature is left.

Everything is float64 and shares no code with the engines. Rates and volatilities are a year, times in years unless
named months, probabilities fractions. Section and equation numbers are those of docs/model.md; section 8 there lists
the checks.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import integrate, linalg, special

F64 = NDArray[np.float64]
Integrand = Callable[[F64], F64]

MONTH = 1 / 12
HOURS_A_YEAR = 8760
NORMAL_REACH = 9.5  # beyond it the normal density leaves 2e-21 of mass

_NODES_AT_ONCE = 512
_MAX_HALVINGS = 14
_ROUNDING = 1e-12


# Number of defaults ---------------------------------------------------------------------------------------------------


def binomial_loss(n_loans: int, pd: float) -> F64:
    """The distribution of the number of defaults among independent loans, shape (n_loans + 1,)."""
    _check_pd(pd)
    k = np.arange(n_loans + 1, dtype=np.float64)
    log_pmf = _log_choices(n_loans) + special.xlogy(k, pd) + special.xlog1py(n_loans - k, -pd)
    return np.asarray(np.exp(log_pmf), dtype=np.float64)


def one_factor_mixture(n_loans: int, pd: float, loading: float) -> F64:
    """The distribution of the number of defaults in the one-factor Gaussian copula (3.3), shape (n_loans + 1,).

    Each loan defaults when loading·F + sqrt(1 - loading²)·ε falls below the normal quantile of pd. Given F the loans
    are independent (Vasicek, Risk 15(12), 2002; Li, Journal of Fixed Income 9, 2000). Error below 1e-10.
    """
    own = _own_share(pd, loading)
    threshold = special.ndtri(pd)
    return normal_mean(lambda f: _binomial_of_score(n_loans, (threshold - loading * f) / own))


def t_mixture(n_loans: int, pd: float, loading: float, dof: float) -> F64:
    """The distribution of the number of defaults in the one-factor t copula (3.3), shape (n_loans + 1,).

    The Gaussian latent variable is multiplied by sqrt(dof/χ²), one χ² for all loans (Demarta and McNeil, International
    Statistical Review 73, 2005). Double quadrature over χ² and the factor; error below 1e-10.
    """
    own = _own_share(pd, loading)
    threshold = special.stdtrit(dof, pd)

    def given(scale: float) -> F64:
        return normal_mean(
            lambda f: _binomial_of_score(n_loans, (threshold * scale - loading * f) / own), tolerance=1e-12
        )

    return _chi_mean(lambda scales: np.array([given(s) for s in scales]), dof)


def t_copula_joint_pd(pd_1: float, pd_2: float, correlation: float, dof: float) -> float:
    """The probability that both of two obligors default under a t copula; correlation inside (-1, 1).

    One integral over the first's latent variable x: given x the second is t with dof + 1 degrees of freedom, centred at
    correlation·x, with variance (1 - correlation²)(dof + x²)/(dof + 1).
    """
    _own_share(pd_1, correlation)
    _check_inner_pd(pd_2)
    first, second = float(special.stdtrit(dof, pd_1)), float(special.stdtrit(dof, pd_2))
    log_constant = -0.5 * math.log(dof) - float(special.betaln(dof / 2, 0.5))

    def density(x: float) -> float:
        spread = math.sqrt((1 - correlation**2) * (dof + x * x) / (dof + 1))
        log_own = log_constant - (dof + 1) / 2 * math.log1p(x * x / dof)
        return math.exp(log_own) * float(special.stdtr(dof + 1, (second - correlation * x) / spread))

    return _quad(density, -math.inf, first)


def distribution_mean(pmf: F64) -> float:
    """The mean of a distribution on 0, 1, 2, ..."""
    return float(np.arange(len(pmf)) @ pmf)


def distribution_quantile(pmf: F64, level: float) -> int:
    """The lower quantile of a distribution on 0, 1, 2, ...: the smallest k with F(k) >= level, to 1e-12 in F."""
    return int(np.argmax(np.cumsum(pmf) >= min(level, float(pmf.sum())) - _ROUNDING))


def distribution_expected_shortfall(pmf: F64, level: float) -> float:
    """The mean of the worst 1 - level of a distribution on 0, 1, 2, ...; of the quantile just what fills the tail."""
    k = distribution_quantile(pmf, level)
    beyond = pmf[k + 1 :]
    return k + float(np.arange(1, len(beyond) + 1) @ beyond) / (1 - level)


# Large pools ----------------------------------------------------------------------------------------------------------


def vasicek_quantile(pd: float, rho: float, level: float) -> float:
    """The quantile of the share that defaults in an infinite homogeneous pool; rho = loading².

    A large pool's lower quantile tends to it. Source: Vasicek, Risk 15(12), 2002.
    """
    return float(special.ndtr((special.ndtri(pd) + math.sqrt(rho) * special.ndtri(level)) / math.sqrt(1 - rho)))


def vasicek_expected_shortfall(pd: float, rho: float, level: float) -> float:
    """The mean share that defaults in the worst 1 - level of an infinite homogeneous pool; rho = loading².

    It is Φ2(Φ⁻¹(pd), Φ⁻¹(1 - level); √rho)/(1 - level): the default probability given a factor that bad.
    """
    worst_factor = -float(special.ndtri(level))
    return bivariate_normal(float(special.ndtri(pd)), worst_factor, math.sqrt(rho)) / (1 - level)


def bivariate_normal(x: float, y: float, correlation: float) -> float:
    """P(X <= x, Y <= y) of two standard normals with a correlation in [-1, 1]."""
    if correlation == 1:
        return float(special.ndtr(min(x, y)))
    if correlation == -1:
        return max(0.0, float(special.ndtr(x) - special.ndtr(-y)))
    own = math.sqrt(1 - correlation**2)
    low, high = -NORMAL_REACH, min(y, NORMAL_REACH)
    if high <= low:
        return 0.0
    return _quad(lambda z: _density_at(z) * float(special.ndtr((x - correlation * z) / own)), low, high)


# Demand, prices and regimes (section 2) -------------------------------------------------------------------------------


def ou_moments(kappa: float, sigma: float, t: float, x0: float, mean: float) -> tuple[float, float]:
    """Mean and variance at time t of an Ornstein-Uhlenbeck process from x0; (2.2)-(2.4) have them at each month's end.

    kappa = 0 is a Brownian motion without drift. Source: Vasicek, Journal of Financial Economics 5, 1977.
    """
    if kappa == 0:
        return x0, sigma**2 * t
    return (
        mean + (x0 - mean) * math.exp(-kappa * t),
        sigma**2 * -math.expm1(-2 * kappa * t) / (2 * kappa),
    )


def lognormal_mean(mean: float, variance: float) -> float:
    """The mean of e^X for a normal X."""
    return math.exp(mean + variance / 2)


def jump_moments(
    jumps_per_year: float, down_share: float, mean_size: float, step: float = MONTH
) -> tuple[float, float]:
    """Mean and variance of the jump of one step (2.2): at most one, exponential in size, down with `down_share`."""
    probability = -math.expm1(-jumps_per_year * step)
    mean = probability * mean_size * (1 - 2 * down_share)
    return mean, 2 * probability * mean_size**2 - mean**2


def stationary_regimes(transitions: ArrayLike) -> F64:
    """The long-run share of time in each regime, shape (n_regimes,), for yearly rates Q, row = from (2.1).

    The diagonal is not read.

    Raises:
        ValueError: the shares depend on the first regime, as two regimes cannot reach each other.
    """
    generator = _generator(transitions)
    n = len(generator)
    equations = np.vstack([generator.T, np.ones(n)])
    if np.linalg.matrix_rank(equations) < n:
        raise ValueError("the regimes do not communicate: no single stationary distribution")
    shares: F64 = np.linalg.lstsq(equations, np.eye(1, n + 1, k=n)[0])[0]
    return shares


def mean_sojourn_months(transitions: ArrayLike) -> F64:
    """The mean number of months a regime lasts when seen once a month, shape (n_regimes,): 1/(1 - P_zz).

    P = expm(Q/12) (2.1), so leaving and coming back inside a month does not count. Infinite if never left.
    """
    stay = np.diag(linalg.expm(_generator(transitions) * MONTH))
    with np.errstate(divide="ignore"):
        return np.asarray(1 / (1 - stay), dtype=np.float64)


# Default intensities (3.1) --------------------------------------------------------------------------------------------


def cox_survival_ou(
    hazards: ArrayLike, sensitivity: float, kappa: float, sigma: float, x0: float = 0.0, mean: float = 0.0
) -> float:
    """The probability of no default in months 1 to n: E[exp(-Σ_t h_t·e^{-b·M_t})], M an OU process seen monthly.

    hazards: h_t a month, shape (n_months,); sensitivity: b. One regime and no jumps. The density of M on surviving
    paths is carried from month to month by the trapezoidal rule; error below 1e-10 for |b|·sigma up to 2. A Cox
    process: Lando, Review of Derivatives Research 2, 1998.
    """
    monthly = np.asarray(hazards, dtype=np.float64)
    decay, noise = math.exp(-kappa * MONTH), math.sqrt(ou_moments(kappa, sigma, MONTH, 0.0, 0.0)[1])
    if noise == 0:
        path = mean + (x0 - mean) * decay ** np.arange(1, len(monthly) + 1)
        return math.exp(-float(monthly @ np.exp(-sensitivity * path)))
    nodes = _ou_grid(len(monthly), kappa, sigma, x0, mean, noise / 8)
    width = (nodes[-1] - nodes[0]) / (len(nodes) - 1)
    step = _density((nodes[:, None] - mean - decay * (nodes - mean)) / noise) / noise * width
    alive = _density((nodes - mean - decay * (x0 - mean)) / noise) / noise
    for month, hazard in enumerate(monthly):
        alive = (alive if month == 0 else step @ alive) * np.exp(-hazard * np.exp(-sensitivity * nodes))
    return float(alive.sum() * width)


def _ou_grid(n_months: int, kappa: float, sigma: float, x0: float, mean: float, width: float) -> F64:
    """Even nodes that hold the process, to NORMAL_REACH standard deviations, in each of the months."""
    moments = [ou_moments(kappa, sigma, t * MONTH, x0, mean) for t in range(1, n_months + 1)]
    low = min(m - NORMAL_REACH * math.sqrt(v) for m, v in moments)
    high = max(m + NORMAL_REACH * math.sqrt(v) for m, v in moments)
    return np.linspace(low, high, math.ceil((high - low) / width) + 1)


# Loans and collateral (sections 2, 5 and 6) ---------------------------------------------------------------------------


def annuity_balance(principal: float, rate: float, term: int, month: int) -> float:
    """The balance after the payment of a month, 0 to term, of a loan repaid by `term` equal payments; rate a year."""
    if rate == 0:
        return principal * (term - month) / term
    monthly = math.log1p(rate / 12)
    return principal * math.expm1(-monthly * (term - month)) / math.expm1(-monthly * term)


def collateral_value(
    price: float,
    utilisation: float,
    cost: float,
    years_left: float,
    discount: float,
    scrap: float = 0.0,
    cap: float = math.inf,
) -> float:
    """A chip's value (2.11), dollars: its net rent ($/hour, not below 0) integrated over its remaining life.

    discount: the buyer's yield plus the expected decline of rent, a year, continuous. The value lies in [scrap, cap].
    """
    net = max(price * utilisation - cost, 0.0)
    rent = _quad(lambda s: HOURS_A_YEAR * net * math.exp(-discount * s), 0.0, max(years_left, 0.0))
    return max(scrap, min(cap, rent))


def frye_expected_loss(
    pd: float, loading: float, collateral: float, volatility: float, collateral_loading: float
) -> float:
    """Expected loss, a share of exposure, when default and collateral share a factor: E[1{default}·max(0, 1 - C)].

    Default: loading·X + sqrt(1-loading²)·ε falls below the normal quantile of pd. Collateral over exposure:
    ln C = ln collateral + volatility·(r·X + sqrt(1-r²)·e), r = collateral_loading. One step, (3.3) with H = 1. Models
    of Frye (Risk 13(4), 2000) and Pykhtin (Risk 16(8), 2003), here by quadrature over X and, given X, over e.
    """
    own = _own_share(pd, loading)
    threshold = float(special.ndtri(pd))
    systematic = volatility * collateral_loading
    residual = volatility * math.sqrt(max(0.0, 1 - collateral_loading**2))

    def loss(x: float) -> float:
        shortfall = _mean_shortfall(math.log(collateral) + systematic * x, residual)
        return _density_at(x) * float(special.ndtr((threshold - loading * x) / own)) * shortfall

    # Where C passes 1 the integrand has its kink, or nearly one.
    kink = -math.log(collateral) / systematic if systematic else 0.0
    middle = min(max(kink, -NORMAL_REACH), NORMAL_REACH)
    return _quad(loss, -NORMAL_REACH, middle) + _quad(loss, middle, NORMAL_REACH)


def _mean_shortfall(log_value: float, volatility: float) -> float:
    """E[max(0, 1 - e^{log_value + volatility·e})] over a standard normal e."""
    if volatility == 0:
        return max(0.0, -math.expm1(log_value))
    edge = min(max(-log_value / volatility, -NORMAL_REACH), NORMAL_REACH)
    return _quad(lambda e: _density_at(e) * -math.expm1(log_value + volatility * e), -NORMAL_REACH, edge)


# Quadrature -----------------------------------------------------------------------------------------------------------


def normal_mean(function: Integrand, tolerance: float = 1e-13) -> F64:
    """E[function(Z)] for a standard normal Z; function maps nodes, shape (m,), to values, shape (m, ...)."""
    return _trapezoid(lambda z: _weigh(_density(z), function(z)), -NORMAL_REACH, NORMAL_REACH, tolerance)


def _chi_mean(function: Integrand, dof: float, tolerance: float = 1e-11) -> F64:
    """E[function(sqrt(χ²/dof))] for χ² with dof degrees of freedom, integrated over y = ln(χ²/dof)."""
    half = dof / 2
    low, high = (math.log(inverse(half, 1e-18) / half) for inverse in (special.gammaincinv, special.gammainccinv))
    log_constant = half * math.log(half) - math.lgamma(half)

    def integrand(y: F64) -> F64:
        return _weigh(np.exp(log_constant + half * (y - np.exp(y))), function(np.exp(y / 2)))

    return _trapezoid(integrand, low, high, tolerance)


def _trapezoid(integrand: Integrand, low: float, high: float, tolerance: float) -> F64:
    """The integral of a smooth function that vanishes at both ends, the step halved until the answer rests.

    For such functions the rule converges exponentially (Trefethen and Weideman, SIAM Review 56, 2014).

    Raises:
        ArithmeticError: it does not come to rest.
    """
    step = (high - low) / 32
    value = step * _sum(integrand, np.linspace(low, high, 33))
    for _ in range(_MAX_HALVINGS):
        finer = value / 2 + step / 2 * _sum(integrand, np.arange(low + step / 2, high, step))
        if np.max(np.abs(finer - value)) <= tolerance:
            return finer
        value, step = finer, step / 2
    raise ArithmeticError(
        f"quadrature did not converge to {tolerance}: a loading very near 1 makes the integrand a step"
    )


def _sum(integrand: Integrand, nodes: F64) -> F64:
    pieces = (nodes[first : first + _NODES_AT_ONCE] for first in range(0, len(nodes), _NODES_AT_ONCE))
    return np.asarray(sum(integrand(piece).sum(axis=0) for piece in pieces), dtype=np.float64)


def _quad(function: Callable[[float], float], low: float, high: float) -> float:
    return float(integrate.quad(function, low, high, epsabs=1e-14, epsrel=1e-12, limit=200)[0])


def _weigh(weights: F64, values: F64) -> F64:
    return np.asarray(weights.reshape(weights.shape + (1,) * (values.ndim - 1)) * values, dtype=np.float64)


def _density(z: F64) -> F64:
    return np.asarray(np.exp(-z * z / 2) / math.sqrt(2 * math.pi), dtype=np.float64)


def _density_at(z: float) -> float:
    return math.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def _binomial_of_score(n: int, score: F64) -> F64:
    """Binomial distributions, shape (m, n + 1), for default probabilities Φ(score), score of shape (m,)."""
    k = np.arange(n + 1, dtype=np.float64)
    # The logarithms of both tails, so that neither p nor 1 - p loses digits.
    log_pd, log_survival = special.log_ndtr(score)[:, None], special.log_ndtr(-score)[:, None]
    return np.asarray(np.exp(_log_choices(n) + k * log_pd + (n - k) * log_survival), dtype=np.float64)


def _log_choices(n: int) -> F64:
    k = np.arange(n + 1, dtype=np.float64)
    choices = special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
    return np.asarray(choices, dtype=np.float64)


def _generator(transitions: ArrayLike) -> F64:
    rates = np.array(transitions, dtype=np.float64)
    np.fill_diagonal(rates, 0.0)
    np.fill_diagonal(rates, -rates.sum(axis=1))
    return rates


def _own_share(pd: float, loading: float) -> float:
    _check_inner_pd(pd)
    if not -1 < loading < 1:
        raise ValueError(f"loading is {loading}; it must lie inside (-1, 1)")
    return math.sqrt(1 - loading**2)


def _check_inner_pd(pd: float) -> None:
    if not 0 < pd < 1:
        raise ValueError(f"pd is {pd}; it must lie inside (0, 1)")


def _check_pd(pd: float) -> None:
    if not 0 <= pd <= 1:
        raise ValueError(f"pd is {pd}; it must lie in [0, 1]")
