"""The market block against closed forms (docs/model.md 8: 1, 2, 3, 11), in standard errors."""

import numpy as np
import pytest

from gpuloan_mc import closed_form
from gpuloan_mc.planning import build_market
from gpuloan_mc.prices import simulate_prices
from gpuloan_mc.reference import market as reference

N = 40_000
FLAT_DEMAND = {"mean_reversion": 2.0, "volatility": 0.2, "initial": 0.4}
THREE = {
    "names": ["boom", "normal", "glut"],
    "means": [0.3, 0.0, -0.5],
    "transitions": [[0, 0.6, 0.2], [0.35, 0, 0.35], [0.1, 0.8, 0]],
    "initial": "normal",
}


def z_score(sample, mean, variance):
    return (sample.mean() - mean) / np.sqrt(variance / len(sample))


def variance_z(sample, variance):
    """For a near-normal sample: the sample variance's standard error is variance·sqrt(2/n)."""
    return (sample.var() / variance - 1) / np.sqrt(2 / len(sample))


def demand_of(market, n=N, seed=11, **changes):
    plan = build_market(market(**changes), [], sells_chips=False)
    return reference.demand_path(plan, seed, reference.path_numbers(0, n))


@pytest.mark.parametrize("month", [1, 6, 24])
def test_demand_is_an_ornstein_uhlenbeck_path(market, month):
    path = demand_of(market, horizon_months=24, demand=FLAT_DEMAND)
    mean, variance = closed_form.ou_moments(2.0, 0.2, month / 12, 0.4, 0.0)
    sample = path.demand[month].astype(float)
    assert abs(z_score(sample, mean, variance)) < 4
    assert abs(variance_z(sample, variance)) < 4


def test_the_demand_factor_is_standard_normal_and_moves_with_demand(market):
    path = demand_of(market, horizon_months=12, demand=FLAT_DEMAND)
    factor = path.factor.astype(float)
    assert abs(z_score(factor, 0, 1)) < 4
    assert abs(variance_z(factor, 1)) < 4
    assert np.corrcoef(factor, path.demand[12])[0, 1] > 0.4


def test_regimes_reach_their_stationary_shares_and_sojourns(market):
    path = demand_of(market, horizon_months=240, regimes=THREE, n=4000)
    shares = closed_form.stationary_regimes(THREE["transitions"])
    last = path.regimes[240]
    for regime, share in enumerate(shares):
        assert abs(z_score((last == regime).astype(float), share, share * (1 - share))) < 4
    stayed = closed_form.mean_sojourn_months(THREE["transitions"])
    for regime, months in enumerate(stayed):
        here = path.regimes[:-1] == regime
        left = (path.regimes[1:] != regime)[here]
        assert abs(z_score(left.astype(float), 1 / months, 1 / months)) < 4


def test_jumps_have_the_mean_and_variance_of_one_exponential_a_month(market):
    path = demand_of(
        market, n=400_000, horizon_months=1, demand={"jumps_per_year": 3.0, "jump_down_share": 0.6, "jump_mean": 0.12}
    )
    mean, variance = closed_form.jump_moments(3.0, 0.6, 0.12)
    sample = path.demand[1].astype(float)
    assert abs(z_score(sample, mean, variance)) < 4
    fourth = ((sample - mean) ** 4).mean()
    assert abs(sample.var() - variance) < 4 * np.sqrt((fourth - variance**2) / len(sample))


def test_prices_have_lognormal_means(market, gpu):
    part = gpu({"volatility": 0.3, "demand_beta": 1.2, "decline": 0.06}, generation_factors={"mean_reversion": 1.5})
    part["spot"] = {"premium": 1.35, "mean_reversion": 6.0, "volatility": 0.6}
    prices = simulate_prices(market(demand=FLAT_DEMAND, gpu=part), n_paths=N, seed=5)
    month = 9
    mean_m, var_m = closed_form.ou_moments(2.0, 0.2, month / 12, 0.4, 0.0)
    _, var_x = closed_form.ou_moments(1.5, 0.3, month / 12, 0.0, 0.0)
    _, var_c = closed_form.ou_moments(6.0, 0.6, month / 12, 0.0, 0.0)
    start = np.log(2.0) - 1.2 * 0.4 - 0.06 * month / 12
    for sample, extra, premium in ((prices.contract, 0.0, 0.0), (prices.spot, var_c, np.log(1.35))):
        variance = 1.2**2 * var_m + var_x + extra
        mean = start + 1.2 * mean_m + premium
        values = sample[:, month, 0].astype(float)
        exact = closed_form.lognormal_mean(mean, variance)
        assert abs(z_score(values, exact, exact**2 * np.expm1(variance))) < 4


def test_generations_are_correlated_as_asked(market, gpu):
    part = gpu()
    one = part["generations"][0] | {"volatility": 0.3}
    part["generations"] = [one | {"name": f"G{i}", "launch_month": i} for i in range(5)]
    part["generation_factors"] = {"correlation_decay": 0.65}
    prices = simulate_prices(market(horizon_months=1, gpu=part), n_paths=N, seed=5)
    measured = np.corrcoef(np.log(prices.contract[:, 1].astype(float)).T)
    place = np.arange(5)
    exact = 0.65 ** np.abs(place[:, None] - place)
    assert np.all(np.abs(np.arctanh(np.minimum(measured, 0.99)) - np.arctanh(np.minimum(exact, 0.99))) < 4 / np.sqrt(N))


def test_the_first_launch_spares_the_newest_generation(market, gpu):
    part = gpu()
    old = part["generations"][0]
    part["generations"] = [old | {"name": "new", "launch_month": 3}, old]
    part["launches"] = {
        "first_month": 3.0,
        "cadence_months": 1000.0,
        "ramp_months": 6.0,
        "impact": 0.5,
        "gain_mean": 0.4,
    }
    prices = simulate_prices(market(gpu=part), n_paths=3)
    assert prices.generations == ("H100", "new")
    assert np.allclose(prices.contract[:, :, 1], 2.0, rtol=1e-6)
    theta = 0.2 * np.clip((np.arange(13) - 3) / 6, 0, 1)
    assert np.allclose(prices.contract[0, :, 0], 2 * np.exp(-theta), rtol=1e-6)


def test_outside_expiries_press_on_prices_and_fade(market, gpu):
    overhang = {"impact": 0.8, "absorption": 1.0, "calendar": [{"gpu": "H100", "month": 3, "units": 250_000}]}
    prices = simulate_prices(market(gpu=gpu(overhang=overhang)), n_paths=2)
    months = np.arange(13)
    stock = np.where(months >= 3, 0.25 * np.exp(-(months - 3) / 12), 0)
    assert np.allclose(prices.contract[0, :, 0], 2 * np.exp(-0.8 * stock), rtol=1e-6)


def test_a_floor_holds_prices_at_a_share_of_cash_cost(market, gpu):
    part = gpu({"decline": 2.0, "opex_usd_per_hour": 1.0}, costs={"floor_share": 0.7})
    prices = simulate_prices(market(horizon_months=24, gpu=part), n_paths=1)
    assert prices.contract[0, -1, 0] == pytest.approx(0.7, rel=1e-6)


@pytest.mark.parametrize("month", [0, 10, 59, 60, 61])
def test_chip_value_is_the_discounted_rent_of_the_life_left(market, gpu, month):
    part = gpu({"opex_usd_per_hour": 0.5, "scrap_share": 0.0001}, utilisation={"level": 0.8})
    part["value"] = {"buyers_yield": 0.15, "expected_decline": 0.22}
    prices = simulate_prices(market(horizon_months=72, gpu=part), n_paths=1)
    exact = closed_form.collateral_value(2.0, 0.8, 0.5, (60 - month) / 12, 0.37, scrap=1000.0)
    assert prices.chip_values[0, month, 0] == pytest.approx(exact, rel=1e-5)


def test_chip_value_is_capped_at_the_aged_cost(market, gpu):
    part = gpu({"cost_when_new_usd": 20_000.0, "recoverable_share": 0.8})
    part["value"] = {"buyers_yield": 0.1, "ageing": 0.15}
    prices = simulate_prices(market(gpu=part), n_paths=1)
    assert prices.chip_values[0, 6, 0] == pytest.approx(16_000 * np.exp(-0.15 * 0.5), rel=1e-6)


def test_a_market_alone_does_not_depend_on_the_number_of_paths(market, gpu):
    part = gpu({"volatility": 0.3}, spot={"volatility": 0.6})
    part["launches"] = {"first_month": 3.0, "lag_mean_months": 4.0, "impact": 0.3, "gain_mean": 0.4, "gain_sd": 0.1}
    many = simulate_prices(market(demand=FLAT_DEMAND, gpu=part), n_paths=50)
    few = simulate_prices(market(demand=FLAT_DEMAND, gpu=part), n_paths=7)
    assert np.array_equal(many.contract[:7], few.contract)
    assert np.array_equal(many.spot[:7], few.spot)
    assert np.array_equal(many.chip_values[:7], few.chip_values)
