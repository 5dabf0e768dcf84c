"""Host tables in float64 (docs/model.md 1.3, 1.8): scores, curves, annuities and schedules, before they are rounded.

SciPy's functions are imported where they are called: tables that were found before are read (`kept_numbers`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .kept_numbers import kept
from .reference.arithmetic import F32, F64, I64, SCORE_LIMIT, SCORE_PER_UNIT, Bool

MONTH = 1 / 12

Curve = Callable[[F64], F64]


def tabulate(function: Curve, low: float, high: float, per_unit: int) -> F32:
    """Values and slopes (2, n_cells) of a piecewise linear table; error h²/16 of the second derivative.

    The chord lies on one side of a curved function: knots are shifted by half of its largest distance, but not beyond
    their neighbours, so that the table keeps to the function's range.
    """
    n_cells = round((high - low) * per_unit)
    knots = low + np.arange(-1, n_cells + 2) / per_unit
    exact = function(knots)
    around = np.stack([exact[:-2], exact[1:-1], exact[2:]])
    shifted = exact[1:-1] - (exact[2:] - 2 * exact[1:-1] + exact[:-2]) / 16
    values = np.clip(shifted, around.min(axis=0), around.max(axis=0))
    return np.stack([values[:-1], np.diff(values) * per_unit]).astype(np.float32)


def table_of(curve: Callable[..., Curve], *parameters: float | None, low: float, high: float, per_unit: int) -> F32:
    """The table of a curve of these parameters, found once."""
    return kept(
        f"table of {curve.__name__}",
        (*parameters, low, high, per_unit),
        (2, round((high - low) * per_unit)),
        np.float32,
        lambda: tabulate(curve(*parameters), low, high, per_unit),
    )


def score_table(quantile: Callable[..., Curve], *parameters: float) -> F32:
    """A draw's quantile as a table of its normal score: `quantile` of the parameters takes scores n, not probabilities."""
    return table_of(quantile, *parameters, low=-SCORE_LIMIT, high=SCORE_LIMIT, per_unit=SCORE_PER_UNIT)


def score_tables(quantile: Callable[..., Curve], parameters: Sequence[tuple[float, ...]]) -> F32:
    """(n, 2, n_cells): a table for each of many parameters, all kept as one."""

    def one(*values: float) -> F32:
        return tabulate(quantile(*values), -SCORE_LIMIT, SCORE_LIMIT, SCORE_PER_UNIT)

    return kept(
        f"tables of {quantile.__name__}",
        (SCORE_LIMIT, SCORE_PER_UNIT, *itertools.chain.from_iterable(parameters)),
        (len(parameters), 2, 2 * SCORE_LIMIT * SCORE_PER_UNIT),
        np.float32,
        lambda: np.stack([one(*values) for values in parameters]),
    )


def exponential_score(mean: float) -> Curve:
    """Exponential size of a given mean at a normal score."""
    from scipy import special

    return lambda n: -mean * special.log_ndtr(-n)


def gamma_score(mean: float, shape: float) -> Curve:
    """Gamma variable of a given mean and shape at a normal score."""
    from scipy import special

    def value(n: F64) -> F64:
        if mean == 0:
            return np.zeros_like(n)
        lower = special.gammaincinv(shape, special.ndtr(np.minimum(n, 0)))
        upper = special.gammainccinv(shape, special.ndtr(-np.maximum(n, 0)))
        return np.asarray(np.where(n < 0, lower, upper) * (mean / shape))

    return value


def beta_score(mean: float, sd: float) -> Curve:
    """Beta variable of a given mean and standard deviation at a normal score; sd 0: the mean."""
    from scipy import special

    def value(n: F64) -> F64:
        if sd < 1e-9:  # nothing that float32 could tell from the mean
            return np.full_like(n, mean)
        total = mean * (1 - mean) / sd**2 - 1
        a, b = mean * total, (1 - mean) * total
        lower = special.betaincinv(a, b, special.ndtr(np.minimum(n, 0)))
        upper = 1 - special.betaincinv(b, a, special.ndtr(-np.maximum(n, 0)))
        return np.asarray(np.where(n < 0, lower, upper))

    return value


def mixing_score(degrees_of_freedom: float) -> Curve:
    """W = sqrt(ν/χ²_ν) of the t copula at a normal score of χ²."""
    chi = gamma_score(degrees_of_freedom, degrees_of_freedom / 2)
    return lambda n: np.sqrt(degrees_of_freedom / np.maximum(chi(n), 1e-30))


def inverse_mixing_score(degrees_of_freedom: float) -> Curve:
    """1/W at a normal score of χ²."""
    mixing = mixing_score(degrees_of_freedom)
    return lambda n: 1 / mixing(n)


def log_cumulative_hazard(degrees_of_freedom: float | None) -> Curve:
    """ln E(A) = ln(-ln(1 - G(A))), G normal (None) or Student's t."""
    from scipy import special

    def value(a: F64) -> F64:
        if degrees_of_freedom is None:
            lower, log_upper = np.asarray(special.ndtr(a)), np.asarray(special.log_ndtr(-a))
        else:
            lower = np.asarray(special.stdtr(degrees_of_freedom, a))
            log_upper = np.log(np.maximum(special.stdtr(degrees_of_freedom, -a), 1e-300))
        small = lower < 1e-8  # there -ln(1-G) is G to float64's precision
        hazard = np.where(small, np.maximum(lower, 1e-26), -log_upper)
        return np.asarray(np.log(hazard))

    return value


def latent_of_log_hazard(degrees_of_freedom: float | None) -> Curve:
    """G⁻¹(1 - exp(-e^x)), the latent quality at which the cumulative hazard is e^x."""
    from scipy import special

    def value(x: F64) -> F64:
        hazard = np.exp(x)
        pd, survival = -np.expm1(-hazard), np.exp(-hazard)
        if degrees_of_freedom is None:
            return np.asarray(np.where(pd < 0.5, special.ndtri(pd), -special.ndtri(survival)))
        low, high = (special.stdtrit(degrees_of_freedom, p) for p in (pd, survival))
        return np.asarray(np.where(pd < 0.5, low, -high))

    return value


def forward_curve(months: list[int], rates: list[float], n_months: int) -> F64:
    """Rate a year in force in month t = 0 … n_months, linear between the knots."""
    return np.interp(np.arange(n_months + 1), months, rates)


def forced_path(months: list[int], values: list[float], hold: bool, n_months: int) -> F64:
    """Values of months 0 … n_months, linear between the knots; nan where the path forces nothing."""
    t = np.arange(n_months + 1)
    free = (t < months[0]) | ((t > months[-1]) & (not hold))
    return np.asarray(np.where(free, np.nan, np.interp(t, months, values)), dtype=np.float64)


def discount_factors(rates: F64) -> F64:
    """Value at month 0 of a dollar in month t: the product of 1/(1 + rate/12) over months 1 … t."""
    return np.concatenate([[1.0], np.cumprod(1 / (1 + rates[1:] * MONTH))])


def monthly_hazards(
    by_year: list[float] | None, by_month: list[float] | None, hazard: float | None, n_months: int
) -> F64:
    """Hazard (n_months + 1,) of month t of a PD curve (docs/model.md 3.1); entry 0 is unused and 0."""
    months = np.arange(n_months + 1, dtype=np.float64)
    if hazard is not None:
        cumulative = hazard * MONTH * months
    else:
        step = 12 if by_year is not None else 1
        curve = np.array([0.0, *(by_year if by_year is not None else by_month or [])])
        known = -np.log1p(-curve)
        knots = step * np.arange(len(known), dtype=np.float64)
        beyond = known[-1] + (known[-1] - known[-2]) / step * (months - knots[-1])
        cumulative = np.where(months <= knots[-1], np.interp(months, knots, known), beyond)
    return np.concatenate([[0.0], np.diff(cumulative)])


def shock(volatility: float, speed: float) -> float:
    """s(σ, κ): standard deviation of one month's move of a mean-reverting state (docs/model.md 2)."""
    if speed == 0:
        return volatility * float(np.sqrt(MONTH))
    return volatility * float(np.sqrt(-np.expm1(-2 * speed * MONTH) / (2 * speed)))


def continuous_annuity(years: F64, yield_: float) -> F64:
    """(1 - e^(-kr))/k: a dollar a year for r years, discounted at k; r when k = 0."""
    r = np.maximum(years, 0)
    return r if yield_ == 0 else -np.expm1(-yield_ * r) / yield_


@dataclass(frozen=True, slots=True)
class Terms:
    """What a schedule is made of, one entry a loan (n_loans,); balances as fractions of the commitment."""

    balance: F64
    undrawn: F64
    draw_month: I64
    first_month: I64
    term: I64
    interest_only: I64
    annuity: Bool
    linear: Bool
    rates: F64  # (n_loans, n_months + 1): rate of a month, a twelfth of the yearly one; up to the longest term
    vector: F64  # (n_loans, horizon + 1): principal of schedules; 0 for the other loans


def schedule(terms: Terms, horizon: int) -> tuple[F64, F64]:
    """Opening balances and scheduled principal (n_loans, horizon + 1) of months 0 … horizon (docs/model.md 5.3).

    Before first_month interest joins the balance; principal starts after the interest-only months; annuity and linear
    payments are struck then, and again at a later draw. At maturity the whole balance is due.
    """
    n = len(terms.balance)
    factors = _annuity_factors(terms)
    opening, principal = np.zeros((n, horizon + 1)), np.zeros((n, horizon + 1))
    start = terms.first_month + terms.interest_only
    strike = np.maximum(start, terms.draw_month)
    balance, payment, slice_ = terms.balance.copy(), np.zeros(n), np.zeros(n)
    for t in range(1, horizon + 1):
        balance = balance + np.where(terms.draw_month == t, terms.undrawn, 0)
        struck = (t == start) | (t == strike)
        payment = np.where(struck, balance / np.maximum(factors[:, t], 1e-12), payment)
        slice_ = np.where(struck, balance / np.maximum(terms.term - t + 1, 1), slice_)
        interest = balance * terms.rates[:, t]
        due = np.where(terms.annuity, payment - interest, np.where(terms.linear, slice_, terms.vector[:, t]))
        due = np.where((t >= start) | ~(terms.annuity | terms.linear), due, 0)
        due = np.clip(np.where(t == terms.term, balance, due), 0, balance)
        capitalised = t < terms.first_month
        opening[:, t], principal[:, t] = balance, np.where(capitalised, 0, due)
        balance = np.where(capitalised, balance + interest, balance - due)
    return opening, principal


def _annuity_factors(terms: Terms) -> F64:
    """Value at the start of month t of a dollar at the end of each month t … term, (n_loans, n_months + 2)."""
    n, width = terms.rates.shape
    factors = np.zeros((n, width + 1))
    for t in range(width - 1, 0, -1):
        inside = t <= terms.term
        factors[:, t] = np.where(inside, (1 + factors[:, t + 1]) / (1 + terms.rates[:, t]), 0)
    return factors
