"""GPU loans against hand-computed cases and closed forms (docs/model.md 8: 8, 9, 10, 12, 13)."""

import numpy as np
import pytest

from gpuloan_mc import closed_form
from gpuloan_mc.planning import build_plan
from gpuloan_mc.reference import loans as reference
from gpuloan_mc.reference import market as reference_market
from gpuloan_mc.reference import obligors as reference_obligors
from gpuloan_mc.reference.path import run_paths
from gpuloan_mc.simulation import simulate

HOURS = 730
LOAN = {
    "loan_id": "L",
    "borrower_id": "P",
    "balance_usd": 1_000_000.0,
    "rate": 0.12,
    "amortisation": "bullet",
    "term_months": 24,
    "remoteness": 0.0,
}
CHIPS = {"deployment_id": "D", "loan_id": "L", "gpu": "H100", "units": 100}
SAFE = [{"obligor_id": "P", "hazard_class": "safe"}, {"obligor_id": "T", "hazard_class": "safe"}]
LET = {"tenant_id": "T", "price_usd_per_hour": 2.0, "contract_months": 12}


def one_default(market, portfolio, seed=1, paths=1):
    rows = run_paths(build_plan(portfolio, market), seed, reference_market.path_numbers(0, paths))
    assert len(rows.path) == 1
    return rows


def test_a_loan_that_earns_its_service_loses_nothing(market, gpu, book):
    world = market(horizon_months=24, gpu=gpu())
    loan = LOAN | {"amortisation": "annuity"}
    result = simulate(book(world, [loan], SAFE, [CHIPS]), world, n_paths=200)
    assert result.losses.sum() == 0
    assert result.defaults.sum() == 0


def test_deterministic_price_fall_gives_the_hand_computed_month_and_loss(market, gpu, book):
    """Spot rent falls 40 % a year; interest 10,000 a month; the reserve of 15,000 carries the first short months."""
    decline, price, opex = 1.2, 0.5, 0.2
    part = gpu(
        {"decline": decline, "price_usd_per_hour": price, "opex_usd_per_hour": opex, "life_end_month": 48},
        recovery={
            "lag_max_months": 6,
            "lag_mean_months": 3.5,
            "lag_shape": 1000.0,
            "lenders_yield": 0.12,
            "haircut_mean": 0.2,
            "sale_cost": 0.06,
            "sale_impact": 0.8,
            "storage_share": 0.35,
        },
    )
    world = market(horizon_months=24, gpu=part)
    portfolio = book(world, [LOAN | {"reserve_usd": 15_000.0}], SAFE, [CHIPS | {"units": 1000}])
    reserve, month = 15_000.0, 0
    while True:
        month += 1
        rent = 1000 * HOURS * (price * np.exp(-decline * month / 12) - opex)
        need = max(0.0, 10_000 - rent)
        if need > reserve:
            break
        reserve -= need
    rows = one_default(world, portfolio)
    assert rows.month[0] == month
    lag = int(rows.sale_month[0]) - month
    assert lag in (3, 4, 5)
    sale = month + lag
    life = max(48 - sale, 0) / 12
    net = max(price * np.exp(-decline * sale / 12) - opex, 0)
    value = 8760 * net * (1 - np.exp(-0.1 * life)) / 0.1
    proceeds = 1000 * (value * 0.8 * np.exp(-0.8 * 1000 / 1e6) * 0.94 - 0.35 * HOURS * opex * lag)
    loss = 1_010_000 - reserve - np.exp(-0.12 * lag / 12) * max(proceeds, 0)
    assert rows.ead[0] == pytest.approx(101_000_000, abs=20)  # float32 keeps a ten-millionth
    assert rows.proceeds[0] / 100 == pytest.approx(max(proceeds, 0), abs=2)
    assert rows.loss[0] / 100 == pytest.approx(loss, abs=2)
    assert reference.Cause(rows.cause[0]) is reference.Cause.PAYMENT


def test_step_in_keeps_the_contract_and_the_chips_after_it(market, gpu, book):
    """The parent's default pulls the SPV in; the lender keeps a contract with nine months to run."""
    part = gpu(
        {"opex_usd_per_hour": 0.5, "life_end_month": 48},
        recovery={
            "lag_max_months": 1,
            "step_in": 1.0,
            "performance": 0.85,
            "opex_stress": 1.15,
            "lenders_yield": 0.12,
            "haircut_mean": 0.2,
            "sale_cost": 0.06,
        },
        contracts={"renewal": [0.0], "paid_share": 0.97},
    )
    part["value"] = {"buyers_yield": 0.15, "expected_decline": 0.22}
    world = market(
        horizon_months=3, gpu=part, hazard_classes=[{"name": "safe", "hazard": 0.0}, {"name": "bad", "hazard": 20.0}]
    )
    parties = [{"obligor_id": "P", "hazard_class": "bad"}, SAFE[1]]
    rows = one_default(world, book(world, [LOAN | {"balance_usd": 5e6}], parties, [CHIPS | LET]))
    tau = int(rows.month[0])
    left = 12 - tau
    annuity = sum(np.exp(-0.12 * i / 12) for i in range(1, left + 1))
    contract = 0.85 * 100 * HOURS * (2.0 * 0.97 - 1.15 * 0.5) * annuity

    def years(month):
        return (1 - np.exp(-0.37 * (48 - month) / 12)) / 0.37

    chips = 100 * 8760 * 1.5 * years(12) * np.exp(-(0.12 + 0.22) * left / 12) * 0.8 * 0.94
    assert rows.stepped_in[0]
    assert rows.proceeds[0] == 0
    assert rows.loss[0] / 100 == pytest.approx(5.05e6 - contract - chips, abs=5)
    assert reference.Cause(rows.cause[0]) is reference.Cause.PARENT


def test_a_defaulted_tenant_leaves_a_claim_and_its_chips(market, gpu, book):
    part = gpu(
        {"price_usd_per_hour": 0.001},
        recovery={"lag_max_months": 1, "lenders_yield": 0.12, "step_in": 1.0, "performance": 0.5},
    )
    classes = [{"name": "safe", "hazard": 0.0}, {"name": "bad", "hazard": 20.0, "claim_recovery": 0.4}]
    world = market(horizon_months=3, gpu=part, hazard_classes=classes)
    parties = [SAFE[0], {"obligor_id": "T", "hazard_class": "bad"}]
    rows = one_default(world, book(world, [LOAN], parties, [CHIPS | LET]))
    tau = int(rows.month[0])
    annuity = sum(np.exp(-0.12 * i / 12) for i in range(1, 12 - tau + 1))
    value = 8760 * 0.001 * (1 - np.exp(-0.1 * (60 - tau - 1) / 12)) / 0.1
    loss = 1_010_000 - 0.4 * 100 * HOURS * 2.0 * annuity - 100 * value * np.exp(-0.01)
    assert rows.loss[0] / 100 == pytest.approx(loss, abs=2)
    assert reference.Cause(rows.cause[0]) is reference.Cause.TENANT


def test_a_covenant_counts_months_running(market, gpu, book):
    world = market(horizon_months=12, gpu=gpu({"price_usd_per_hour": 0.15}))
    loan = LOAN | {"dscr_default": 1.2, "dscr_default_months": 5}
    rows = one_default(world, book(world, [loan], SAFE, [CHIPS]))
    assert 100 * HOURS * 0.15 > 10_000  # debt service is paid
    assert rows.month[0] == 5
    assert reference.Cause(rows.cause[0]) is reference.Cause.COVENANT


@pytest.mark.parametrize("refinance_ltv, defaults", [(0.0, 1), (0.5, 1), (0.9, 0)])
def test_a_balloon_is_refinanced_up_to_its_share_of_value(market, gpu, book, refinance_ltv, defaults):
    part = gpu({"price_usd_per_hour": 0.5, "life_end_month": 36})
    world = market(horizon_months=12, gpu=part)
    loan = LOAN | {"term_months": 12, "refinance_ltv": refinance_ltv}
    portfolio = book(world, [loan], SAFE, [CHIPS | {"units": 200}])
    value = 200 * 8760 * 0.5 * (1 - np.exp(-0.2)) / 0.1
    assert 1 / 0.9 < value / 1e6 < 2
    rows = run_paths(build_plan(portfolio, world), 1, reference_market.path_numbers(0, 1))
    assert len(rows.path) == defaults
    if defaults:
        assert rows.month[0] == 12
        assert reference.Cause(rows.cause[0]) is reference.Cause.MATURITY


def test_support_carries_a_loan_until_it_is_spent(market, gpu, book):
    world = market(horizon_months=12, gpu=gpu({"price_usd_per_hour": 0.1}))
    short = 10_000 - 100 * HOURS * 0.1
    portfolio = book(world, [LOAN | {"support_usd": 3.5 * short}], SAFE, [CHIPS])
    assert one_default(world, portfolio).month[0] == 4


def test_nothing_is_due_before_the_first_chip_serves(market, gpu, book):
    world = market(horizon_months=12, gpu=gpu({"price_usd_per_hour": 0.01}))
    portfolio = book(world, [LOAN], SAFE, [CHIPS | {"in_service_month": 7}])
    rows = one_default(world, portfolio)
    assert rows.month[0] == 7
    assert rows.ead[0] / 100 == pytest.approx(1e6 * 1.01**7, abs=2)


def test_a_lapsed_draw_brings_neither_debt_nor_chips(market, gpu, book):
    part = gpu({"price_usd_per_hour": 0.01})
    world = market(horizon_months=12, gpu=part)
    loan = LOAN | {"undrawn_usd": 500_000.0, "draw_month": 6}
    late = CHIPS | {"deployment_id": "E", "in_service_month": 6, "units": 50}
    with_late = one_default(world, book(world, [loan], SAFE, [CHIPS, late]))
    without = one_default(world, book(world, [loan], SAFE, [CHIPS]))
    assert with_late.month[0] == 1
    assert with_late.ead[0] == pytest.approx(101_000_000, abs=20)
    assert with_late.proceeds[0] == without.proceeds[0]


def test_a_sweep_shortens_the_loan(market, gpu, book):
    """All surplus prepays: 14,600 a month of rent against 1 % of the balance."""
    world = market(horizon_months=24, gpu=gpu({"price_usd_per_hour": 2.0}))
    loan = LOAN | {"sweep_share": 1.0, "term_months": 24}
    balance, months = 1e6, 0
    while balance > 0:
        months += 1
        balance -= 146_000 - 0.01 * balance
    plan = build_plan(book(world, [loan], SAFE, [CHIPS]), world)
    history = balances(plan, 1)
    assert np.argmax(history[:, 0] <= 2.0**-20) == months


def balances(plan, n_paths, seed=1):
    """Opening-of-next-month balance of the first loan by month, and the cash identity on every step."""
    paths = reference_market.path_numbers(0, n_paths)
    demand = reference_market.demand_path(plan.market, seed, paths)
    parties = reference_obligors.draw_obligors(plan.obligors, seed, paths, demand.factor)
    launched = reference_market.launches(plan.market, seed, paths)
    world = reference_market.initial_state(plan.market, n_paths)
    state, chains = reference.initial_loans(plan, seed, paths), reference.slots(plan.loans)
    released = np.zeros((n_paths, len(plan.market.demand_beta)), dtype=np.int64)
    out = [state.balance[:, 0].copy()]
    for t in range(1, int(plan.market.horizon) + 1):
        world = reference_market.next_state(plan.market, seed, paths, t, world, released)
        prices = reference_market.prices(plan.market, t, demand.demand[t], world, launched)
        released[:] = 0
        reference_obligors.accumulate_hazards(
            plan.obligors, t, parties, demand.regimes[t], demand.demand[t], prices.mean_overhang
        )
        reference_obligors.defaults(plan.obligors, t, parties)
        reference.step_deployments(plan, seed, paths, t, state, parties.months, demand.regimes[t], prices, released)
        defaulted, *_ = reference.step_loans(plan, t, state, parties.months, prices, chains)
        assert np.all(state.balance >= 0)
        assert np.all(state.reserve >= 0)
        assert np.all(state.support >= 0)
        state.alive &= ~defaulted
        out.append(state.balance[:, 0].copy())
    return np.array(out)


def frye_world(market, gpu, sigma):
    part = gpu({"cost_when_new_usd": 1e7, "price_usd_per_hour": 0.04})
    return market(
        horizon_months=1,
        demand={"volatility": sigma},
        hazard_classes=[{"name": "p", "pd_by_month": [0.05]}],
        gpu=part,
    )


def test_one_step_default_and_collateral_move_together(market, gpu, book):
    """Frye's case: a common factor drives the default in month 1 and the lognormal collateral sold in month 2."""
    sigma, loading = 1.2, 0.6
    world = frye_world(market, gpu, sigma)
    loan = LOAN | {"rate": 0.0, "balance_usd": 100_000.0}
    parties = [{"obligor_id": "P", "hazard_class": "p", "loading_demand": loading}]
    n = 200_000
    result = simulate(book(world, [loan], parties, [CHIPS]), world, n_paths=n, seed=21)
    value = 100 * 8760 * 0.04 * (1 - np.exp(-0.1 * 58 / 12)) / 0.1 / 100_000
    exact = closed_form.frye_expected_loss(0.05, loading, value, sigma * np.sqrt(2 / 12), np.sqrt(0.5))
    sample = result.losses / 1e7
    assert abs(sample.mean() - exact) < 4 * sample.std() / np.sqrt(n)
    alone = closed_form.frye_expected_loss(0.05, 0.0, value, sigma * np.sqrt(2 / 12), np.sqrt(0.5))
    assert exact > 1.2 * alone  # the test would see a missing link
