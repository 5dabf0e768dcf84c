"""What a default does to the state: deployments stop, chips come back once."""

import numpy as np

from gpuloan_mc.planning import build_plan
from gpuloan_mc.reference import loans, recovery
from gpuloan_mc.reference import market as reference_market

LOANS = [
    {"loan_id": f"L{i}", "borrower_id": "P", "balance_usd": 1e6, "rate": 0.1, "term_months": 24} for i in range(2)
]
CHIPS = [
    {"deployment_id": f"D{i}", "loan_id": loan, "gpu": "H100", "units": 10, "tenant_id": "T", "price_usd_per_hour": 2.0,
     "contract_months": 12}
    for i, loan in enumerate(["L0", "L1", "L1"])
]  # fmt: skip
PARTIES = [{"obligor_id": "P", "hazard_class": "safe"}, {"obligor_id": "T", "hazard_class": "safe"}]


def state_after_default(market, gpu, book, step_in=0.0):
    part = gpu()
    part["recovery"] = {"lag_max_months": 1, "step_in": step_in}
    world = market(horizon_months=12, gpu=part)
    plan = build_plan(book(world, LOANS, PARTIES, CHIPS), world)
    paths = reference_market.path_numbers(0, 3)
    demand = reference_market.demand_path(plan.market, 1, paths)
    launched = reference_market.launches(plan.market, 1, paths)
    world_state = reference_market.initial_state(plan.market, 3)
    prices = reference_market.prices(plan.market, 1, demand.demand[1], world_state, launched)
    state = loans.initial_loans(plan, 1, paths)
    defaulted = np.array([[True, False], [True, True], [False, True]])
    causes = np.zeros((3, 2), dtype=np.int32)
    workouts = recovery.open_workouts(plan, 1, paths, 1, state, defaulted, causes, prices)
    return plan, state, workouts, prices


def test_a_defaulted_loans_contracts_stop_and_no_others(market, gpu, book):
    _, state, _, _ = state_after_default(market, gpu, book)
    assert state.let.tolist() == [[False, True, True], [False, False, False], [True, False, False]]
    assert state.alive.tolist() == [[False, True], [False, False], [True, False]]


def test_sold_chips_come_back_once(market, gpu, book):
    plan, state, workouts, prices = state_after_default(market, gpu, book)
    released = np.zeros((3, 1), dtype=np.int64)
    recovery.sell(plan, 2, state, workouts, prices, released)
    assert released[:, 0].tolist() == [10, 30, 20]
    recovery.sell(plan, 2, state, workouts, prices, released)
    assert released[:, 0].tolist() == [10, 30, 20]


def test_chips_that_the_lender_keeps_are_not_sold(market, gpu, book):
    plan, state, workouts, prices = state_after_default(market, gpu, book, step_in=1.0)
    released = np.zeros((3, 1), dtype=np.int64)
    recovery.sell(plan, 2, state, workouts, prices, released)
    assert released.sum() == 0
    assert np.all(workouts.proceeds == 0)
    assert np.all(workouts.rest < workouts.ead)
