"""Intervals hold as often as they say: 400 seeds of a book whose distribution is known exactly."""

from functools import partial

import numpy as np
import pytest
from scipy import special

from gpuloan_mc import closed_form
from gpuloan_mc.portfolio import Portfolio
from gpuloan_mc.simulation import simulate

SEEDS, PATHS, LEVEL = 400, 40_000, 0.99  # 400 paths in the tail: its excesses are skewed, and fewer cover less
SIZES = np.arange(1, 101)  # a hundred loans of unlike size: losses are all but continuous
UNIT_USD, LGD, PD, LOADING = 10_000.0, 0.45, 0.01, 0.2**0.5
TRANCHE = (0.03, 0.06)
Z = 1.959964


def unlike_sizes():
    """vasicek-100 with loans of 10,000, 20,000, … dollars."""
    book = Portfolio.read("vasicek-100")
    loans = book.loans.copy()
    loans["balance_usd"] = SIZES * UNIT_USD
    return book.replace(loans=loans)


def losses_given(sizes, factor):
    """P(Σ size of the defaults = k | factor), shape (n_factors, 1 + Σ SIZES): the loans are independent."""
    n = 1 << int(SIZES.sum()).bit_length()
    pd = special.ndtr((special.ndtri(PD) - LOADING * factor) / np.sqrt(1 - LOADING**2))[:, None]
    turn = np.exp(-2j * np.pi * np.arange(n // 2 + 1) / n)
    transform = np.ones((len(factor), n // 2 + 1), dtype=complex)
    for size in sizes:
        transform *= 1 - pd + pd * turn**size
    return np.fft.irfft(transform, n, axis=1)[:, : SIZES.sum() + 1]


def largest_given(factor):
    """P(Σ = k and the largest loan is in default | factor)."""
    pd = special.ndtr((special.ndtri(PD) - LOADING * factor) / np.sqrt(1 - LOADING**2))[:, None]
    others = losses_given(SIZES[:-1], factor)
    return np.hstack([np.zeros((len(factor), SIZES[-1])), pd * others[:, : -SIZES[-1]]])


def exact_figures():
    """Expected loss, VaR, ES, the tranche's probability of loss and the largest loan's contribution to ES; dollars."""
    unit = UNIT_USD * LGD
    pmf = closed_form.normal_mean(partial(losses_given, SIZES), tolerance=1e-12)
    with_largest = closed_form.normal_mean(largest_given, tolerance=1e-12)
    assert pmf.sum() == pytest.approx(1, abs=1e-9) and with_largest.sum() == pytest.approx(PD, abs=1e-9)
    k = closed_form.distribution_quantile(pmf, LEVEL)
    tied = (1 - LEVEL - pmf[k + 1 :].sum()) / pmf[k]
    share = with_largest[k + 1 :].sum() + tied * with_largest[k]
    attachment = TRANCHE[0] * SIZES.sum() / LGD
    return {
        "expected loss": closed_form.distribution_mean(pmf) * unit,
        "VaR": k * unit,
        "ES": closed_form.distribution_expected_shortfall(pmf, LEVEL) * unit,
        "tranche": pmf[int(np.floor(attachment)) + 1 :].sum(),
        "contribution": share / (1 - LEVEL) * SIZES[-1] * unit,
    }


@pytest.mark.slow
def test_intervals_hold_nineteen_times_out_of_twenty():
    exact, book = exact_figures(), unlike_sizes()
    held = dict.fromkeys(exact, 0)
    for seed in range(SEEDS):
        run = simulate(book, book.market, n_paths=PATHS, seed=seed)
        largest = run.contributions(LEVEL).table.set_index("item").loc["L100"]
        layer = run.tranches([TRANCHE]).table.iloc[0]
        intervals = {
            "expected loss": around(run.expected_loss, run.expected_loss_se),
            "VaR": run.value_at_risk_ci[LEVEL],
            "ES": around(run.expected_shortfall[LEVEL], run.expected_shortfall_se[LEVEL]),
            "tranche": (layer["probability_of_loss_low"], layer["probability_of_loss_high"]),
            "contribution": around(largest["expected_shortfall_usd"], largest["expected_shortfall_se_usd"]),
        }
        for name, (low, high) in intervals.items():
            held[name] += low <= exact[name] <= high
    shares = {name: n / SEEDS for name, n in held.items()}
    assert all(0.925 <= share <= 0.975 for share in shares.values()), shares


def around(value, error):
    return value - Z * error, value + Z * error
