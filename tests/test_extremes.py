"""Legal but extreme numbers: a sentence or the exact answer, never a silent wrong one."""

import numpy as np
import pytest

from gpuloan_mc.errors import InputRejected
from gpuloan_mc.planning import build_plan
from gpuloan_mc.simulation import simulate

CERTAIN = {"name": "bad", "hazard": 20.0}


def test_the_largest_book_adds_up_over_many_paths(market, pool):
    world = market(hazard_classes=[CERTAIN])
    result = simulate(pool(world, 1, "bad", balance_usd=1e12, lgd=1.0), world, n_paths=100_000)
    exact = int(result.defaults.sum()) * 10**14
    assert exact > 2**63
    assert int(result.loans["loss_cents"].iloc[0]) == exact
    assert int(result.loans["loss_cents_parent"].iloc[0]) == exact
    assert result.expected_loss == pytest.approx(exact / 100_000 / 100)


@pytest.mark.parametrize("mean, share", [(0.1, 0.999), (0.5, 0.9999), (0.9, 0.99)])
def test_a_beta_lgd_stays_between_nothing_and_all(market, pool, mean, share):
    world = market(hazard_classes=[CERTAIN])
    sd = share * np.sqrt(mean * (1 - mean))
    result = simulate(pool(world, 1, "bad", lgd=mean, lgd_sd=sd), world, n_paths=20_000)
    assert result.losses.min() >= 0 and result.losses.max() <= 100_000_000
    assert (result.losses > 99_999_000).any()
    assert abs(result.losses.mean() / 1e8 - mean) < 4 * sd / np.sqrt(20_000) + 0.005


def test_a_spread_too_small_to_see_is_no_spread(market, pool, gpu):
    world = market(hazard_classes=[CERTAIN])
    result = simulate(pool(world, 1, "bad", lgd_sd=1e-170), world, n_paths=100)
    assert set(np.unique(result.losses)) <= {0, 44_999_999, 45_000_000, 45_000_001}
    chips = market(hazard_classes=[CERTAIN], gpu=gpu(recovery={"haircut_mean": 0.2, "haircut_sd": 1e-170}))
    assert np.all(build_plan(pool(chips, 1, "bad"), chips).recovery.haircut_table[0] == np.float32(0.2))


def test_a_scale_of_nothing_never_defaults(market, book):
    world = market(
        hazard_classes=[CERTAIN | {"demand_sensitivity": 20.0}], demand={"volatility": 1.0}, dependence={"pd": "as-given"}
    )
    obligors = [{"obligor_id": "B", "hazard_class": "bad", "pd_scale": 0.0}]
    loans = [{"loan_id": "L", "borrower_id": "B", "balance_usd": 1e6, "rate": 0.05, "term_months": 12, "lgd": 0.5}]
    for grouped in (True, False):
        chosen = world.replace(dependence=world.dependence.replace(grouped=grouped))
        assert simulate(book(chosen, loans, obligors), chosen, n_paths=3000).defaults.sum() == 0


def test_interest_that_outgrows_the_loan_is_refused(market, gpu, book):
    world = market(gpu=gpu(), horizon_months=600)
    loan = {"loan_id": "L", "borrower_id": "P", "balance_usd": 1e6, "rate": 2.0, "term_months": 600}
    chips = [{"deployment_id": "D", "loan_id": "L", "gpu": "H100", "units": 10, "in_service_month": 590}]
    portfolio = book(world, [loan], [{"obligor_id": "P", "hazard_class": "safe"}], chips)
    with pytest.raises(InputRejected, match="loan L: interest that joins the balance"):
        simulate(portfolio, world, n_paths=2)


def test_a_market_whose_tables_overflow_is_refused(market, gpu, pool):
    part = gpu({"life_end_month": 1200})
    part["value"] = {"buyers_yield": 0.0, "expected_decline": -2.0}
    world = market(gpu=part)
    with pytest.raises(InputRejected, match=r"too extreme: market\.annuity"):
        simulate(pool(world, 1, "safe"), world, n_paths=2)


def test_more_chips_than_money_can_count_are_refused(market, gpu, book):
    world = market(gpu=gpu())
    loan = {"loan_id": "L", "borrower_id": "P", "balance_usd": 1e6, "rate": 0.1, "term_months": 12}
    chips = [{"deployment_id": "D", "loan_id": "L", "gpu": "H100", "units": 2**31 - 1}]
    portfolio = book(world, [loan], [{"obligor_id": "P", "hazard_class": "safe"}], chips)
    with pytest.raises(InputRejected, match=r"the chips cost 2\.1\d+e\+16 dollars"):
        simulate(portfolio, world, n_paths=2)


def test_a_lockup_of_nothing_is_off_when_rates_are_negative(market, gpu, book):
    """Debt service below 0 and income a little below 0: nothing is swept without a lock-up."""
    world = market(gpu=gpu({"price_usd_per_hour": 0.4, "opex_usd_per_hour": 0.401}))
    loan = {"loan_id": "L", "borrower_id": "P", "balance_usd": 1e6, "rate": -0.12, "term_months": 24}
    chips = [{"deployment_id": "D", "loan_id": "L", "gpu": "H100", "units": 100}]
    plan = build_plan(book(world, [loan], [{"obligor_id": "P", "hazard_class": "safe"}], chips), world)
    from gpuloan_mc.reference.market import path_numbers
    from gpuloan_mc.reference.path import Recorder, record_paths

    class Cash(Recorder):
        swept = 0.0

        def cash(self, t, cash):
            self.swept += float(cash.swept.sum())

    recorder = Cash(plan, 1)
    record_paths(plan, 1, path_numbers(0, 1), recorder)
    assert recorder.swept == 0
