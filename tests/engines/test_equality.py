"""The numba engine returns the reference's integers, all of them: whatever the book, chunk, workers and row order."""

from __future__ import annotations

import importlib.util
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from gpuloan_mc.engines.base import LoanTable, PathTable, PoolCash
from gpuloan_mc.engines.numba_cpu import NumbaCpu
from gpuloan_mc.engines.numpy_reference import NumpyReference
from gpuloan_mc.errors import InputRejected
from gpuloan_mc.example import write_example
from gpuloan_mc.planning import build_plan
from gpuloan_mc.portfolio import Portfolio
from gpuloan_mc.simulation import simulate
from gpuloan_mc.totals import Totals

REFERENCE = NumpyReference()


def generated() -> Any:
    """The books of test_properties.py: the same strategy, another property."""
    path = Path(__file__).parents[1] / "test_properties.py"
    spec = importlib.util.spec_from_file_location("generated_books", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BOOKS = generated()


def differences(one: Any, other: Any) -> list[str]:
    """Names of the columns that differ in an entry."""
    found = []
    for field in fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, Totals):
            found += [f"{field.name}.{name}" for name in differences(a, b)]
        elif not (a is None and b is None) and not np.array_equal(a, b):
            found.append(field.name)
    return found


def history_differences(one: LoanTable, other: LoanTable) -> list[str]:
    """Names of the arrays of two replays that differ in a bit."""
    pairs = [(one.defaults, other.defaults), (one.history, other.history)]
    columns = [(f.name, getattr(a, f.name), getattr(b, f.name)) for a, b in pairs for f in fields(a)]
    found = [n for n, a, b in columns if (a.dtype, a.shape, a.tobytes()) != (b.dtype, b.shape, b.tobytes())]
    return found + ([] if np.array_equal(one.paths, other.paths) else ["paths"])


def assert_same_replay(engine: NumbaCpu, plan: Any, seed: int, paths: Any) -> None:
    found, expected = (e.replay(plan, seed, np.asarray(paths)) for e in (engine, REFERENCE))
    assert history_differences(found, expected) == []


def assert_same(one: PathTable, other: PathTable) -> None:
    assert differences(one, other) == []


def plan_of(portfolio: Portfolio) -> Any:
    return build_plan(portfolio, portfolio.market)


@pytest.fixture(scope="module")
def engine() -> NumbaCpu:
    return NumbaCpu(2)


@pytest.mark.parametrize("book", ["vasicek-100", "neocloud-2024"])
@pytest.mark.parametrize("prices", [False, True])
def test_bundled_books(engine, book, prices):
    plan = plan_of(Portfolio.read(book))
    for first, n in ((0, 500), (7, 30), (2**32 - 3, 6)):
        assert_same(engine.run(plan, 5, first, n, prices=prices), REFERENCE.run(plan, 5, first, n, prices=prices))


@pytest.mark.parametrize("overhang", [0.0, 0.8])
@pytest.mark.parametrize("changes", [{}, {"sale_impact": 0.0, "step_in": 1.0}, {"lag_max_months": 1, "step_in": 0.0}])
def test_the_busy_book(engine, busy_book, overhang, changes):
    world, portfolio = busy_book(overhang, **changes)
    plan = build_plan(portfolio, world)
    assert_same(engine.run(plan, 2**64 - 1, 3, 601), REFERENCE.run(plan, 2**64 - 1, 3, 601))


def one_factor(market, pool, n_loans, copula="gaussian", grouped=True, own=False, **changes):
    """Plain loans of one class; with `own`, every borrower has its own loading and scale."""
    dependence = {"copula": copula, "factors": ["demand", "credit"], "grouped": grouped}
    if copula == "t":
        dependence["degrees_of_freedom"] = 4.0
    world = market(hazard_classes=[{"name": "pool", "hazard": 0.03}], dependence=dependence, **changes)
    portfolio = pool(world, n_loans, loading=0.4, lgd_sd=0.2, lgd_loading=0.5)
    if own:
        obligors = portfolio.obligors.copy()
        draw = np.random.default_rng(1)
        obligors["loading_demand"] = draw.uniform(-0.5, 0.7, n_loans).round(4)
        obligors["loading_credit"] = draw.uniform(-0.5, 0.6, n_loans).round(4)
        obligors["pd_scale"] = draw.choice([0.0, 0.01, 1.0, 30.0], n_loans)
        portfolio = portfolio.replace(obligors=obligors)
    return build_plan(portfolio, world)


@pytest.mark.parametrize("copula", ["gaussian", "t"])
@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("own", [True, False])
def test_plain_loans(engine, market, pool, copula, grouped, own):
    plan = one_factor(market, pool, 300, copula, grouped, own)
    assert_same(engine.run(plan, 9, 1, 401), REFERENCE.run(plan, 9, 1, 401))


def wide_book(market, gpu, book, n_loans=45, n_generations=9, n_classes=6):
    """More of everything than lanes hold: generations, also of one slot, hazard classes that chips move, launches."""
    part = gpu({"volatility": 0.3, "cost_when_new_usd": 45_000.0, "opex_usd_per_hour": 0.3})
    first = part["generations"][0] | {"depth_chips": 20_000.0}
    part["generations"] = [
        first | {"name": f"G{g}", "launch_month": min(g, 3), "price_usd_per_hour": 2.0 + 0.1 * g} for g in range(n_generations)
    ]
    part |= {
        "spot": {"premium": 1.2, "mean_reversion": 6.0, "volatility": 0.6},
        "launches": {"first_month": 1.0, "cadence_months": 2.0, "lag_mean_months": 1.0, "ramp_months": 9.0, "impact": 0.2,
                     "gain_mean": 0.2, "gain_sd": 0.1},
        "overhang": {"impact": 0.8, "absorption": 1.0, "own_weight": 0.6,
                     "calendar": [{"gpu": "G7", "month": 5, "units": 4000}]},
        "contracts": {"paid_share": 0.97, "renewal": [0.6], "renewal_term_months": 4},
    }  # fmt: skip
    classes = [
        {"name": f"C{c}", "hazard": 0.03 + 0.02 * c, "demand_sensitivity": 0.2 * c, "overhang_sensitivity": 0.3 * (c != 2)}
        for c in range(n_classes)
    ]
    demand = {"mean_reversion": 2.0, "volatility": 0.3, "forced": {"months": [6, 9], "levels": [-0.4, 0.1]}}
    world = market(horizon_months=30, demand=demand, hazard_classes=classes, gpu=part)
    loans = [
        {"loan_id": f"L{i:02}", "borrower_id": f"P{i % n_classes}", "balance_usd": 9e6 + 1e5 * i, "spread": 0.06,
         "amortisation": "annuity", "term_months": 12 + i % 19, "dscr_default": 1.0, "dscr_default_months": 3}
        for i in range(n_loans)
    ]  # fmt: skip
    deployments = [
        {"deployment_id": f"D{i:02}-{j}", "loan_id": f"L{i:02}", "gpu": f"G{(i + 4 * j) % n_generations}", "units": 200 + i,
         "tenant_id": f"P{(i + j) % n_classes}", "price_usd_per_hour": 2.2, "contract_months": str(3 + (i + 5 * j) % 14)}
        for i in range(n_loans)
        for j in range(1 + i % 3)
    ]  # fmt: skip
    obligors = [{"obligor_id": f"P{c}", "hazard_class": f"C{c}", "loading_demand": 0.3} for c in range(n_classes)]
    return build_plan(book(world, loans, obligors, deployments), world)


def test_more_generations_classes_and_launches_than_lanes_of_a_block(engine, market, gpu, book):
    plan = wide_book(market, gpu, book)
    assert_same(engine.run(plan, 6, 2, 203, prices=True), REFERENCE.run(plan, 6, 2, 203, prices=True))
    assert_same_replay(engine, plan, 6, [3, 4, 205, 2**33 + 1])


def test_plain_loans_over_ten_years(engine, market, pool):
    plan = one_factor(market, pool, 150, horizon_months=120)
    assert_same(engine.run(plan, 9, 0, 200), REFERENCE.run(plan, 9, 0, 200))


def test_a_book_of_several_tiles_under_feedback(engine, tmp_path):
    write_example(tmp_path / "book", n_loans=300, seed=3)
    plan = plan_of(Portfolio.read(tmp_path / "book"))
    assert_same(engine.run(plan, 4, 2, 49), REFERENCE.run(plan, 4, 2, 49))


@pytest.mark.parametrize("book", ["vasicek-100", "neocloud-2024"])
def test_replays_of_bundled_books(engine, book):
    plan = plan_of(Portfolio.read(book))
    paths = [*range(60), 977, 2**32 - 1, 2**32, 977]
    assert_same_replay(engine, plan, 5, paths)
    before = engine.run(plan, 5, 0, 60).loss  # a replay leaves nothing behind
    table = engine.replay(plan, 5, np.arange(60))
    assert np.array_equal(np.bincount(table.defaults.path, table.defaults.loss, 60).astype(np.int64), before)
    assert np.array_equal(engine.run(plan, 5, 0, 60).loss, before)


@pytest.mark.parametrize("overhang", [0.0, 0.8])
@pytest.mark.parametrize("changes", [{}, {"step_in": 1.0}, {"lag_max_months": 1, "step_in": 0.0}])
def test_replays_of_the_busy_book(engine, busy_book, overhang, changes):
    world, portfolio = busy_book(overhang, **changes)
    plan = build_plan(portfolio, world)
    assert_same_replay(engine, plan, 2**64 - 1, np.random.default_rng(3).integers(0, 10**9, 300))


@pytest.mark.parametrize("grouped", [True, False])
def test_replays_of_plain_loans(engine, market, pool, gpu, grouped):
    plan = one_factor(market, pool, 300, "t", grouped, True)
    assert_same_replay(engine, plan, 9, np.arange(3, 80))
    launches = {"first_month": 3.0, "cadence_months": 5.0, "impact": 0.3, "gain_mean": 0.4}
    beside = one_factor(market, pool, 40, grouped=grouped, gpu=gpu({"volatility": 0.3}, launches=launches))
    assert_same_replay(engine, beside, 9, np.arange(3, 80))


def test_replays_of_several_tiles_under_feedback(engine, tmp_path):
    write_example(tmp_path / "book", n_loans=300, seed=3)
    assert_same_replay(engine, plan_of(Portfolio.read(tmp_path / "book")), 4, np.arange(2, 30))


def assert_same_cash(engine: NumbaCpu, plan: Any, seed: int, first: int, n: int) -> PoolCash:
    found, expected = (e.pool_cash(plan, seed, first, n) for e in (engine, REFERENCE))
    assert differences(found, expected) == []
    return found


def test_cash_of_the_gpu_book(engine):
    plan = plan_of(Portfolio.read("neocloud-2024"))
    before = engine.run(plan, 5, 2, 201)
    found = assert_same_cash(engine, plan, 5, 2, 201)
    assert np.array_equal(found.defaulted.sum(axis=1) - found.recovery.sum(axis=1), before.loss)
    assert_same(engine.run(plan, 5, 2, 201), before)  # it leaves nothing behind
    assert not differences(NumbaCpu(1).pool_cash(plan, 5, 2, 201), found)
    assert all(getattr(found, f.name).any() for f in fields(found))


@pytest.mark.parametrize("overhang", [0.0, 0.8])
@pytest.mark.parametrize("changes", [{}, {"step_in": 1.0}, {"lag_max_months": 1, "step_in": 0.0}])
def test_cash_of_the_busy_book(engine, busy_book, overhang, changes):
    world, portfolio = busy_book(overhang, **changes)
    assert_same_cash(engine, build_plan(portfolio, world), 2**64 - 1, 3, 300)


def test_cash_of_several_tiles_under_feedback(engine, tmp_path):
    write_example(tmp_path / "book", n_loans=300, seed=3)
    assert_same_cash(engine, plan_of(Portfolio.read(tmp_path / "book")), 4, 2, 29)


def test_plain_loans_are_no_part_of_it(engine, market, pool):
    found = assert_same_cash(engine, one_factor(market, pool, 40), 4, 0, 9)
    assert not any(getattr(found, f.name).any() for f in fields(found))


def random_replays_lose_what_the_run_says(book: str, name: str, n_paths: int) -> None:
    portfolio = Portfolio.read(book)
    result = simulate(portfolio, portfolio.market, n_paths=n_paths, seed=11, engine=name)
    paths = np.random.default_rng(7).permutation(n_paths)[:1000]
    assert np.array_equal(result.replay(paths).losses, result.losses[paths])
    assert result.losses[paths].any()


@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_a_thousand_random_replays_lose_what_the_run_says(name):
    random_replays_lose_what_the_run_says("vasicek-100", name, 2000)


def test_a_thousand_random_replays_of_the_gpu_book():
    random_replays_lose_what_the_run_says("neocloud-2024", "numba", 20_000)


@pytest.mark.slow
def test_a_thousand_random_replays_of_the_gpu_book_on_the_reference():
    random_replays_lose_what_the_run_says("neocloud-2024", "numpy", 10_000)


def test_chunks_workers_and_row_order_do_not_matter(busy_book):
    world, portfolio = busy_book()
    shuffled = portfolio.replace(
        **{n: getattr(portfolio, n).sample(frac=1, random_state=4) for n in ("loans", "deployments", "obligors")}
    )
    whole = simulate(portfolio, world, n_paths=200, seed=5, engine="numpy")
    for chunk in (1, 7, 200):
        assert simulate(portfolio, world, n_paths=200, seed=5, chunk=chunk).digest == whole.digest
    for workers in (1, 2, 3):
        parts = simulate(shuffled, world, n_paths=200, seed=5, workers=workers)
        assert parts.digest == whole.digest
        assert differences(parts.by_loan, whole.by_loan) == differences(parts.by_group, whole.by_group) == []
        assert np.array_equal(parts.prices, whole.prices)


def engines_agree(engine: NumbaCpu, market: dict[str, Any], rows: dict[str, Any]) -> None:
    try:
        plan = plan_of(BOOKS.read(market, rows))
    except InputRejected:
        return
    assert_same(engine.run(plan, 3, 5, 41, prices=True), REFERENCE.run(plan, 3, 5, 41, prices=True))
    assert_same(engine.run(plan, 3, 5, 41), REFERENCE.run(plan, 3, 5, 41))
    assert_same_replay(engine, plan, 3, [5, 40, 8, 9, 10, 11, 8, 2**33])
    assert_same_cash(engine, plan, 3, 5, 41)


ENGINE = NumbaCpu(1)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(BOOKS.books())
def test_generated_books(book):
    engines_agree(ENGINE, *book)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(BOOKS.books())
def test_many_generated_books(book):
    engines_agree(ENGINE, *book)
