"""Forced demand, prices and default months: they replace the value, never a draw, and engines agree on them."""

import numpy as np
import pytest

from gpuloan_mc.engines.numba_cpu import NumbaCpu
from gpuloan_mc.engines.numpy_reference import NumpyReference
from gpuloan_mc.errors import InputRejected
from gpuloan_mc.planning import build_plan
from gpuloan_mc.prices import simulate_prices
from gpuloan_mc.reference.obligors import NEVER

N = 160


def with_demand(world, **forced):
    return world.replace(demand=world.demand.replace(forced=forced))


def with_price(world, **forced):
    return world.replace(gpu=world.gpu.replace(forced_prices=[forced]))


def with_default(portfolio, month, *names):
    obligors = portfolio.obligors.copy()
    obligors.loc[obligors["obligor_id"].isin(names), "default_month"] = month
    return portfolio.replace(obligors=obligors)


def history(portfolio, world):
    plan = build_plan(portfolio, world)
    return NumpyReference().replay(plan, 5, np.arange(N)).history


def test_what_is_not_forced_is_a_plan_without_force(busy_book):
    world, portfolio = busy_book()
    plan = build_plan(portfolio, world)
    assert (plan.market.forced_demand == 2**20).all()
    assert plan.obligors.hazard.shape[1] == len(world.hazard_classes)


@pytest.mark.parametrize("after", ["hold", "model"])
def test_demand_takes_its_path_and_draws_stay(busy_book, after):
    world, portfolio = busy_book()
    free, forced = history(portfolio, world), history(
        portfolio, with_demand(world, months=[3, 5, 9], levels=[0.5, -0.5, -0.1], after=after)
    )  # fmt: skip
    assert np.array_equal(free.regimes, forced.regimes)
    assert np.array_equal(free.demand[:3], forced.demand[:3])
    expected = np.interp(np.arange(3, 10), [3, 5, 9], [0.5, -0.5, -0.1]).astype(np.float32)
    assert (forced.demand[3:10] == expected[:, None]).all()
    assert (forced.demand[10:] == np.float32(-0.1)).all() == (after == "hold")
    assert (np.ptp(forced.demand[10], axis=0) > 0) == (after == "model")


@pytest.mark.parametrize("after", ["hold", "model"])
def test_a_price_takes_its_path_whatever_is_released(busy_book, after):
    world, portfolio = busy_book(2.0)
    path = {"gpu": "H100", "months": [2, 8], "usd_per_hour": [2.0, 1.0], "after": after}
    free, forced = history(portfolio, world), history(portfolio, with_price(world, **path))
    expected = np.exp(np.interp(np.arange(2, 9), [2, 8], np.log([2.0, 1.0])))
    assert forced.contract[2:9, :, 0] == pytest.approx(np.repeat(expected[:, None], N, axis=1), rel=1e-6)
    assert np.ptp(forced.contract[2:9, :, 0], axis=1).max() == 0
    assert np.array_equal(free.contract[:2], forced.contract[:2])
    assert np.ptp(forced.spot[5, :, 0]) > 0
    assert (np.ptp(forced.contract[20, :, 0]) > 0) == (after == "model")
    assert np.array_equal(free.demand, forced.demand)
    assert np.array_equal(free.launch_months, forced.launch_months)


def test_a_forced_price_keeps_above_the_floor(busy_book):
    world, _ = busy_book()
    world = world.replace(gpu=world.gpu.replace(costs={"floor_share": 0.7, "rise": 0.0}))
    found = simulate_prices(with_price(world, gpu="H100", months=[1], usd_per_hour=[0.01]), 50)
    assert found.contract[:, 1:, 0] == pytest.approx(0.7 * 0.4, rel=1e-6)


@pytest.mark.parametrize("month", [1, 12, 30, 31, 600])
def test_a_party_defaults_in_its_month_and_no_other(busy_book, month):
    world, portfolio = busy_book()
    portfolio = with_default(portfolio, 0, "p0")
    free, forced = history(portfolio, world), history(with_default(portfolio, month, "p1", "t2"), world)
    columns = [1, 6]  # own obligors by id: p0 … p3, t0 … t3
    expected = month if month <= 30 else NEVER
    assert (forced.default_months[:, columns] == expected).all()
    # a class whose hazard reads the overhang may feel the fall of another party; tenants' hazards do not
    assert np.array_equal(free.default_months[:, [4, 5, 7]], forced.default_months[:, [4, 5, 7]])


def test_a_party_whose_scale_is_0_defaults_all_the_same(pool, market):
    world = market(hazard_classes=[{"name": "pool", "hazard": 0.01}])
    portfolio = pool(world, 20)
    obligors = portfolio.obligors.assign(pd_scale=0.0, default_month=[7] * 5 + [0] * 15)
    plan = build_plan(portfolio.replace(obligors=obligors), world)
    assert (len(plan.obligors.own_key), len(plan.obligors.grouped_key)) == (5, 15)
    table = NumpyReference().run(plan, 1, 0, 50)
    assert (table.defaults == 5).all()


@pytest.mark.parametrize("copula", [{}, {"copula": "t", "degrees_of_freedom": 3.0}])
def test_engines_agree_on_everything_forced(busy_book, copula):
    world, portfolio = busy_book(1.5)
    world = world.replace(dependence=world.dependence.replace(**copula))
    world = with_demand(world, months=[2, 12], levels=[0.2, -0.6], after="model")
    world = with_price(world, gpu="B200", months=[6, 24], usd_per_hour=[2.5, 0.8], after="hold")
    portfolio = with_default(with_default(portfolio, 5, "t1", "p2"), 17, "t3").replace(market=world)
    plan = build_plan(portfolio, world)
    one, other = NumpyReference().run(plan, 3, 0, N), NumbaCpu().run(plan, 3, 0, N)
    assert np.array_equal(one.loss, other.loss)
    assert np.array_equal(one.defaults, other.defaults)
    assert one.loss.max() > 0


def test_too_many_months_are_refused(pool, market):
    world = market(horizon_months=100, hazard_classes=[{"name": "pool", "hazard": 0.01}])
    portfolio = pool(world, 80, term_months=100)
    portfolio = portfolio.replace(obligors=portfolio.obligors.assign(default_month=np.arange(1, 81)))
    with pytest.raises(InputRejected) as caught:
        build_plan(portfolio, world)
    assert [p.rule for p in caught.value.problems] == ["default-months"]


@pytest.mark.parametrize(
    "forced, rule",
    [
        ({"gpu": "H10", "months": [1], "usd_per_hour": [1.0]}, "unknown-name"),
        ({"gpu": "H100", "months": [2, 1], "usd_per_hour": [1.0, 1.0]}, "curve"),
        ({"gpu": "H100", "months": [1, 2], "usd_per_hour": [1.0]}, "lists-differ"),
        ({"gpu": "H100", "months": [1], "usd_per_hour": [0.0]}, "greater_than"),
    ],
)
def test_bad_paths_are_refused(busy_book, forced, rule):
    world, _ = busy_book()
    with pytest.raises(ValueError) as caught:
        with_price(world, **forced)
    first = caught.value.errors()[0]
    broken = first.get("ctx", {}).get("error")
    found = getattr(broken, "rule", None) or getattr(
        next(iter(getattr(broken, "broken", [])), None), "rule", first["type"]
    )
    assert found == rule


def test_two_paths_for_one_chip_are_refused(busy_book):
    world, _ = busy_book()
    path = {"gpu": "H100", "months": [1], "usd_per_hour": [1.0]}
    with pytest.raises(ValueError, match="forced_prices has 'H100' twice"):
        world.replace(gpu=world.gpu.replace(forced_prices=[path, path]))
