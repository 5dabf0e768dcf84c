"""Defaults against exact distributions (docs/model.md 8: 4, 5, 6, 7, 14), in standard errors."""

import numpy as np
import pytest

from gpuloan_mc import closed_form, pilot
from gpuloan_mc.planning import build_market
from gpuloan_mc.simulation import simulate

POOL = {"name": "pool", "pd_by_year": [0.02]}
REGIMES = {"names": ["calm", "glut"], "means": [0.0, -0.5], "transitions": [[0, 0.5], [0.8, 0]], "initial": "calm"}


def defaults_against(result, pmf):
    """Largest distance, in standard errors, of the tail probabilities of the number of defaults, where 30 are due."""
    n = result.n_paths
    counts = np.bincount(result.defaults, minlength=len(pmf))
    tails, exact = counts[::-1].cumsum()[::-1] / n, pmf[::-1].cumsum()[::-1]
    seen = (exact * n > 30) & (exact < 1 - 1e-9)
    tails, exact = tails[seen], exact[seen]
    return np.abs((tails - exact) / np.sqrt(exact * (1 - exact) / n)).max()


@pytest.mark.parametrize("grouped", [True, False])
def test_independent_loans_are_binomial(market, pool, grouped):
    world = market(hazard_classes=[POOL], dependence={"grouped": grouped})
    result = simulate(pool(world, 50), world, n_paths=40_000, seed=3)
    assert defaults_against(result, closed_form.binomial_loss(50, 0.02)) < 4


@pytest.mark.parametrize("loading", [0.3, 0.6])
def test_one_factor_pool_is_the_exact_mixture(market, pool, loading):
    world = market(hazard_classes=[POOL])
    result = simulate(pool(world, 100, loading=loading), world, n_paths=40_000, seed=4)
    assert defaults_against(result, closed_form.one_factor_mixture(100, 0.02, loading)) < 4


def test_a_large_pool_approaches_vasiceks_limit(market, pool):
    world = market(hazard_classes=[POOL])
    loading = np.sqrt(0.2)
    result = simulate(pool(world, 2000, loading=loading, lgd=1.0), world, n_paths=10_000, seed=5)
    rate = np.sort(result.defaults / 2000)
    for level in (0.5, 0.9, 0.99):
        low, high = np.quantile(rate, level - 0.006), np.quantile(rate, min(level + 0.006, 1))
        assert low - 0.002 < closed_form.vasicek_quantile(0.02, 0.2, level) < high + 0.002


def test_t_copula_pool_is_the_exact_mixture(market, pool):
    world = market(hazard_classes=[POOL], dependence={"copula": "t", "degrees_of_freedom": 4.0})
    result = simulate(pool(world, 60, loading=0.4), world, n_paths=40_000, seed=6)
    assert defaults_against(result, closed_form.t_mixture(60, 0.02, 0.4, 4.0)) < 4


@pytest.mark.parametrize("copula", [{}, {"copula": "t", "degrees_of_freedom": 4.0}])
def test_grouped_and_single_decisions_agree_but_for_rounding(market, pool, copula):
    demand = {"mean_reversion": 2.0, "volatility": 0.3}
    moved = POOL | {"demand_sensitivity": 1.0, "regime_multipliers": [0.7, 2.5]}

    def losses(grouped):
        world = market(
            horizon_months=24,
            demand=demand,
            regimes=REGIMES,
            hazard_classes=[moved],
            dependence=copula | {"grouped": grouped},
        )
        return simulate(pool(world, 200, loading=0.3, term_months=24), world, n_paths=4000, seed=9)

    one, other = losses(True), losses(False)
    assert one.defaults.sum() > 10_000
    assert np.abs(one.defaults - other.defaults).sum() <= 1e-4 * one.defaults.sum() + 2


def test_correlated_factors_act_as_their_covariance(market, pool, book):
    # loadings a with correlation R: the pool's pairwise correlation is a'Ra
    world = market(
        hazard_classes=[POOL],
        dependence={"factors": ["demand", "credit"], "correlation": [[1.0, 0.5], [0.5, 1.0]]},
    )
    obligors = [
        {"obligor_id": f"B{i}", "hazard_class": "pool", "loading_demand": 0.3, "loading_credit": 0.4} for i in range(60)
    ]
    loans = [
        {"loan_id": f"L{i}", "borrower_id": f"B{i}", "balance_usd": 1e6, "rate": 0.05, "term_months": 12, "lgd": 0.5}
        for i in range(60)
    ]
    result = simulate(book(world, loans, obligors), world, n_paths=40_000, seed=8)
    joint = np.sqrt(0.09 + 0.16 + 2 * 0.5 * 0.3 * 0.4)
    assert defaults_against(result, closed_form.one_factor_mixture(60, 0.02, joint)) < 4


@pytest.mark.parametrize("months", [1, 2, 6])
def test_cox_survival_under_moving_demand(market, pool, months):
    world = market(
        horizon_months=months,
        demand={"mean_reversion": 2.0, "volatility": 0.8},
        hazard_classes=[{"name": "pool", "hazard": 0.6, "demand_sensitivity": 1.5}],
        dependence={"pd": "as-given"},
    )
    result = simulate(pool(world, 1, term_months=months), world, n_paths=100_000, seed=12)
    exact = 1 - closed_form.cox_survival_ou([0.6 / 12] * months, 1.5, 2.0, 0.8)
    measured = result.defaults.mean()
    assert abs(measured - exact) < 4 * np.sqrt(exact * (1 - exact) / result.n_paths)


def test_matched_hazards_return_the_pd_curve(market, pool):
    world = market(
        horizon_months=36,
        demand={"mean_reversion": 2.0, "volatility": 0.3},
        regimes=REGIMES,
        hazard_classes=[
            {
                "name": "pool",
                "pd_by_year": [0.02, 0.06, 0.09],
                "demand_sensitivity": 1.0,
                "regime_multipliers": [0.7, 2.5],
            }
        ],
    )
    result = simulate(pool(world, 300, term_months=36), world, n_paths=8000, seed=2)
    for year, cumulative in enumerate([0.02, 0.06, 0.09], start=1):
        short = pool(world, 300, term_months=12 * year)
        rates = simulate(short, world, n_paths=8000, seed=2).defaults / 300 if year < 3 else result.defaults / 300
        assert abs(rates.mean() - cumulative) < 4 * rates.std() / np.sqrt(len(rates)) + 0.01 * cumulative


def test_pd_scale_multiplies_the_hazard(market, book):
    world = market(hazard_classes=[POOL])
    obligors = [{"obligor_id": "B", "hazard_class": "pool", "pd_scale": 5.0}]
    loans = [{"loan_id": "L", "borrower_id": "B", "balance_usd": 1e6, "rate": 0.05, "term_months": 12, "lgd": 0.5}]
    result = simulate(book(world, loans, obligors), world, n_paths=100_000, seed=2)
    exact = 1 - 0.98**5
    assert abs(result.defaults.mean() - exact) < 4 * np.sqrt(exact * (1 - exact) / 100_000)


def test_nobody_defaults_without_a_hazard(market, pool):
    world = market()
    result = simulate(pool(world, 20, hazard_class="safe", loading=0.9), world, n_paths=5000)
    assert result.defaults.sum() == 0
    assert result.losses.sum() == 0


def test_hazards_matched_before_are_those_matched_now(market):
    def hazards_of(pd, multipliers=(0.7, 2.5), **demand):
        item = {"name": "pool", "pd_by_year": pd, "demand_sensitivity": 1.0, "regime_multipliers": list(multipliers)}
        world = market(
            horizon_months=24,
            demand={"mean_reversion": 2.0, "volatility": 0.3} | demand,
            regimes=REGIMES,
            hazard_classes=[item, item | {"name": "other", "demand_sensitivity": 0.5}],
        )
        return pilot.matched_hazards(world, build_market(world, [], sells_chips=False))

    asked = [
        lambda: hazards_of([0.02, 0.06]),
        lambda: hazards_of([0.03, 0.06]),
        lambda: hazards_of([0.02, 0.06], multipliers=(0.7, 2.0)),
        lambda: hazards_of([0.02, 0.06], volatility=0.4),
    ]
    kept = [ask() for ask in asked + asked]
    for i, ask in enumerate(asked):
        pilot._kept.clear()
        fresh = ask()
        assert np.array_equal(kept[i], fresh) and np.array_equal(kept[i + len(asked)], fresh)
    assert len({h.tobytes() for h in kept}) == len(asked)
