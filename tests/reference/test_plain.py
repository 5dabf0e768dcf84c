"""Plain loans: schedules, exposure and loss given default (docs/model.md 4)."""

import numpy as np
import pytest
import scipy.special as special

from gpuloan_mc import closed_form, risk
from gpuloan_mc.planning import build_plan
from gpuloan_mc.simulation import simulate

BAD = {"name": "bad", "hazard": 3.0}


def test_a_fixed_lgd_is_exact_to_the_cent(market, pool):
    world = market(hazard_classes=[BAD])
    result = simulate(pool(world, 1, hazard_class="bad"), world, n_paths=2000)
    assert set(np.unique(result.losses)) == {0, 45_000_000}
    assert np.array_equal(result.losses, 45_000_000 * result.defaults)


@pytest.mark.parametrize("amortisation", ["annuity", "linear", "bullet"])
def test_scheduled_balances_are_the_textbook_ones(market, pool, amortisation):
    world = market(horizon_months=36)
    plan = build_plan(pool(world, 1, "safe", term_months=30, rate=0.08, amortisation=amortisation), world)
    months = np.arange(1, 31)
    exact = {
        "annuity": [closed_form.annuity_balance(1.0, 0.08, 30, m - 1) for m in months],
        "linear": 1 - (months - 1) / 30,
        "bullet": np.ones(30),
    }[amortisation]
    assert np.allclose(plan.plain.opening[0, 1:31], exact, atol=1e-12)
    assert np.all(plan.plain.opening[0, 31:] == 0)


def test_interest_only_then_annuity_and_a_draw(market, book):
    world = market(horizon_months=24)
    loan = {
        "loan_id": "L",
        "borrower_id": "B",
        "balance_usd": 600.0,
        "undrawn_usd": 400.0,
        "draw_month": 10,
        "rate": 0.06,
        "amortisation": "annuity",
        "interest_only_months": 4,
        "term_months": 24,
        "lgd": 0.5,
    }
    plan = build_plan(book(world, [loan], [{"obligor_id": "B", "hazard_class": "safe"}]), world)
    opening = plan.plain.opening[0]
    assert np.allclose(opening[1:6], 0.6)
    assert opening[9] == pytest.approx(0.6 * closed_form.annuity_balance(1.0, 0.06, 20, 4))
    drawn = 0.6 * closed_form.annuity_balance(1.0, 0.06, 20, 5) + 0.4
    assert opening[10] == pytest.approx(drawn)
    assert opening[24] == pytest.approx(drawn * closed_form.annuity_balance(1.0, 0.06, 15, 14))


def test_a_schedule_is_followed_and_the_rest_falls_due_at_maturity(market, book):
    world = market(horizon_months=12)
    loan = {"loan_id": "L", "borrower_id": "B", "balance_usd": 1000.0, "rate": 0.05, "term_months": 8, "lgd": 0.5}
    rows = [{"loan_id": "L", "month": 3, "principal_usd": 250.0}, {"loan_id": "L", "month": 5, "principal_usd": 100.0}]
    portfolio = book(
        world, [loan | {"amortisation": "schedule"}], [{"obligor_id": "B", "hazard_class": "safe"}], None, rows
    )
    plan = build_plan(portfolio, world)
    assert np.allclose(plan.plain.opening[0, 1:10], [1, 1, 1, 0.75, 0.75, 0.65, 0.65, 0.65, 0])


def test_beta_lgd_has_its_mean_and_spread(market, pool):
    world = market(hazard_classes=[{"name": "bad", "hazard": 20.0}])
    result = simulate(pool(world, 1, hazard_class="bad", lgd=0.4, lgd_sd=0.2), world, n_paths=50_000, seed=3)
    lgd = result.losses[result.defaults == 1] / 1e8
    n = len(lgd)
    assert n > 49_000
    assert abs(lgd.mean() - 0.4) < 4 * 0.2 / np.sqrt(n)
    fourth = ((lgd - 0.4) ** 4).mean()
    assert abs(lgd.var() - 0.04) < 4 * np.sqrt((fourth - 0.04**2) / n)
    a, b = 0.4 * (0.24 / 0.04 - 1), 0.6 * (0.24 / 0.04 - 1)
    for q in (0.1, 0.5, 0.9):
        assert abs((lgd < special.betaincinv(a, b, q)).mean() - q) < 4 * np.sqrt(q * (1 - q) / n)


def test_bad_demand_raises_a_loaded_lgd(market, pool):
    world = market(hazard_classes=[{"name": "bad", "hazard": 0.7}])
    pools = [pool(world, 1, "bad", loading=0.5, lgd=0.4, lgd_sd=0.2, lgd_loading=x) for x in (0.0, 0.8)]
    plain, loaded = (simulate(p, world, n_paths=20_000, seed=3) for p in pools)
    assert np.array_equal(plain.defaults, loaded.defaults)
    hit = plain.defaults == 1
    difference = (loaded.losses - plain.losses)[hit] / 1e8
    assert difference.mean() > 4 * difference.std() / np.sqrt(hit.sum())


def test_a_guarantee_pays_its_share(market, pool):
    world = market(hazard_classes=[BAD])
    full = simulate(pool(world, 3, "bad"), world, n_paths=500)
    kept = simulate(pool(world, 3, "bad", guarantee_share=0.8), world, n_paths=500)
    assert np.array_equal(kept.losses * 5, full.losses)


def test_vasicek_figures_lie_within_four_standard_errors(market, pool):
    world = market(hazard_classes=[{"name": "pool", "pd_by_year": [0.01]}])
    result = simulate(pool(world, 100, loading=np.sqrt(0.2)), world, n_paths=40_000, seed=1)
    pmf = closed_form.one_factor_mixture(100, 0.01, np.sqrt(0.2))
    figures = risk.figures(result.losses)
    mean = closed_form.distribution_mean(pmf) * 45_000_000
    assert abs(figures.expected_loss - mean) < 4 * figures.expected_loss_se
    for level in (0.95, 0.99, 0.999):
        low, high = figures.value_at_risk_ci[level]
        assert low <= closed_form.distribution_quantile(pmf, level) * 45_000_000 <= high
        exact = closed_form.distribution_expected_shortfall(pmf, level) * 45_000_000
        assert abs(figures.expected_shortfall[level] - exact) < 4 * figures.expected_shortfall_se[level]
