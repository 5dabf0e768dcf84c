"""Tests that run in numba's CUDA simulator; test_numba_cuda.py starts them in a process of its own."""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

import gpuloan_mc.paths
from gpuloan_mc.digest import LossDigest
from gpuloan_mc.engines import numba_cuda
from gpuloan_mc.engines.cuda_target import SIMULATOR, load_target
from gpuloan_mc.engines.numba_cuda import NumbaCuda
from gpuloan_mc.engines.numpy_reference import NumpyReference
from gpuloan_mc.engines.twins import Twins
from gpuloan_mc.example import write_example
from gpuloan_mc.paths import arithmetic, loans, market, obligors, path, philox, primitives, recovery
from gpuloan_mc.planning import build_plan
from gpuloan_mc.portfolio import Portfolio
from gpuloan_mc.totals import Totals

f32, f64, i32, i64, u64 = np.float32, np.float64, np.int32, np.int64, np.uint64
REFERENCE = NumpyReference()
TWINS = Twins(load_target())
draw = np.random.default_rng(17)


def test_this_is_the_simulator(request):
    assert os.environ[SIMULATOR] == "1"
    assert request.config.getoption("--cudasim")
    assert load_target().simulated


# --- the engine -------------------------------------------------------------------------------------------------------


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


def digest(table: Any) -> str:
    losses = LossDigest()
    losses.add(0, table.loss)
    return losses.hexdigest()


def assert_same(plan: Any, seed: int, first: int, n: int, engine: NumbaCuda | None = None, **options: Any) -> None:
    ours = (engine or NumbaCuda()).run(plan, seed, first, n, **options)
    theirs = REFERENCE.run(plan, seed, first, n, **options)
    assert differences(ours, theirs) == []
    assert digest(ours) == digest(theirs)
    assert theirs.defaults.any()


@pytest.mark.parametrize("first, n", [(0, 12), (3, 2), (2**32 - 3, 6)])
def test_vasicek(first, n):
    portfolio = Portfolio.read("vasicek-100")
    assert_same(build_plan(portfolio, portfolio.market), 5, first, n)


@pytest.mark.parametrize("copula", ["gaussian", "t"])
@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("own", [True, False])
def test_plain_loans(market, pool, copula, grouped, own):
    dependence = {"copula": copula, "factors": ["demand", "credit"], "grouped": grouped}
    if copula == "t":
        dependence["degrees_of_freedom"] = 4.0
    world = market(hazard_classes=[{"name": "pool", "hazard": 0.2}], dependence=dependence, horizon_months=14)
    portfolio = pool(world, 12, loading=0.4, lgd_sd=0.2, lgd_loading=0.5)
    if own:
        obligors = portfolio.obligors.copy()
        obligors["loading_demand"] = np.linspace(-0.5, 0.7, 12).round(4)
        obligors["pd_scale"] = [0.0, 0.01, 1.0, 30.0] * 3
        portfolio = portfolio.replace(obligors=obligors)
    assert_same(build_plan(portfolio, world), 9, 1, 7)


@pytest.mark.parametrize("overhang", [0.0, 0.8])
@pytest.mark.parametrize("changes", [{}, {"sale_impact": 0.0, "step_in": 1.0}, {"lag_max_months": 1, "step_in": 0.0}])
def test_gpu_loans(busy_book, overhang, changes):
    world, portfolio = busy_book(overhang, **changes)
    assert_same(build_plan(portfolio, world), 2**64 - 1, 3, 5)


def test_prices_are_kept_when_asked_for(busy_book):
    world, portfolio = busy_book()
    assert_same(build_plan(portfolio, world), 8, 0, 4, prices=True)


def test_the_generated_book(tmp_path):
    write_example(tmp_path / "book", n_loans=20, seed=3)
    portfolio = Portfolio.read(tmp_path / "book")
    assert_same(build_plan(portfolio, portfolio.market), 4, 3, 1)


@pytest.mark.parametrize("threads, blocks", [(1, 1), (5, 3)])
def test_threads_and_blocks_do_not_matter(busy_book, threads, blocks):
    world, portfolio = busy_book()
    plan, engine = build_plan(portfolio, world), NumbaCuda()
    engine._blocks_in_flight = lambda _: blocks  # type: ignore[method-assign]
    engine.prepare(plan)
    engine._threads = threads
    assert_same(plan, 8, 3, 3, engine)


def test_defaults_that_found_no_place_are_found_again(busy_book):
    world, portfolio = busy_book()
    plan, engine = build_plan(portfolio, world), NumbaCuda()
    engine.prepare(plan)
    engine._capacity = 3
    assert_same(plan, 8, 2, 2, engine)
    assert engine._capacity > 3


def test_more_defaults_than_memory_allows_cut_the_launch(market, pool, monkeypatch):
    world = market(hazard_classes=[{"name": "pool", "hazard": 0.5}])
    plan, engine = build_plan(pool(world, 12), world), NumbaCuda()
    engine.prepare(plan)
    engine._capacity = 3
    monkeypatch.setattr(numba_cuda, "_EVENT_BYTES", 8 * numba_cuda._EVENT_FIELDS * 10)
    sizes, launch = [], engine._launch
    engine._launch = lambda *a: (sizes.append(a[2]), launch(*a))[1]  # type: ignore[method-assign]
    assert_same(plan, 8, 1, 6, engine)
    assert sizes[:3] == [6, 3, 1]


# --- the twins --------------------------------------------------------------------------------------------------------


EDGES = np.array(
    [0, -0.0, 1, -1, 0.5, 2.0**-60, -(2.0**-61), 40, -40, 41, -41, 6.5, -6.5, 2.25, 1e-30, 8, -8, 64, -64], f32
)
REAL = np.concatenate([EDGES, draw.normal(size=20).astype(f32), draw.uniform(-45, 45, 20).astype(f32)])
POSITIVE = np.exp(draw.uniform(-69, 40, len(REAL))).astype(f32)
SHARES = draw.uniform(0, 1, len(REAL)).astype(f32)
TAILS = np.concatenate([[2.0**-33, 0.5], np.exp2(draw.uniform(-33, -1, len(REAL) - 2))]).astype(f32)
WORDS = np.concatenate([[0, 1, 2**31 - 1, 2**31, 2**32 - 1], draw.integers(0, 2**32, len(REAL) - 5)]).astype(u64)
LONG_WORDS = np.append(draw.integers(0, 2**64, len(REAL) - 2, dtype=u64), [u64(0), u64(2**64 - 1)])
SMALL = draw.integers(0, 60, len(REAL)).astype(i32)
FLAGS = draw.integers(0, 2, len(REAL)).astype(np.bool_)
CENTS = draw.uniform(1e3, 1e12, len(REAL)).round()
TABLE = np.sort(draw.normal(size=(2, 4096)).astype(f32))
# what a parameter of this name or type takes, where random reals are not what it is made for
BY_NAME = {
    "p": TAILS, "cumulative": POSITIVE, "hourly_cost": SHARES, "w": WORDS, "path": WORDS, "purpose": SMALL.astype(u64),
    "step": SMALL.astype(u64), "bound": WORDS, "residual_low": SHARES + f32(0.1), "residual_high": SHARES + f32(0.2),
    "per_unit": np.full(len(REAL), 64, f32), "low": np.full(len(REAL), -8, f32), "high": np.full(len(REAL), 8, f32),
    "is_t": FLAGS.astype(i32), "words": WORDS, "place": SMALL % 4, "longest": SMALL + i32(1), "t": SMALL, "month": SMALL,
    "n": draw.normal(size=len(REAL)).astype(f32), "k": SMALL, "commitment": CENTS, "loss": CENTS.astype(i64),
    "mixing": SHARES + f32(0.5), "contract_end": SMALL,
}  # fmt: skip
BY_TYPE = {
    "np.float32": REAL,
    "np.uint64": LONG_WORDS,
    "np.int32": SMALL,
    "bool": FLAGS,
    "np.float64": SHARES.astype(f64),
}
SKIPPED = {"philox._round"}  # counters of 32 bits: philox covers it


def path_functions() -> dict[str, Any]:
    """Every path function of scalars, by module and name."""
    found = {}
    for module in (arithmetic, loans, market, obligors, path, philox, recovery):
        for name, value in vars(module).items():
            if hasattr(value, "py_func") and value.py_func.__module__ == module.__name__:
                found[f"{module.__name__.split('.')[-1]}.{name}"] = value
    return {name: value for name, value in found.items() if name not in SKIPPED}


FUNCTIONS = path_functions()


def test_every_path_function_is_compared():
    modules = {info.name for info in pkgutil.iter_modules(gpuloan_mc.paths.__path__)}
    assert modules == {
        m.__name__.split(".")[-1] for m in (arithmetic, loans, market, obligors, path, philox, recovery)
    } | {
        "lanes",  # of the CPU
        "primitives",
        "tally",  # sums on the host
    }
    assert len(FUNCTIONS) > 50
    assert importlib.import_module("gpuloan_mc.paths.primitives") is primitives


def arguments(name: str, function: Any, row: int) -> list[Any]:
    """The row's value of each parameter."""
    values = []
    for parameter in inspect.signature(function.py_func).parameters.values():
        kind = str(parameter.annotation)
        if kind == "F32":
            values.append(TABLE)
        elif kind == "Words":
            values.append(tuple(WORDS[(row + k) % len(WORDS)] for k in range(4)))
        elif name == "philox.philox":
            values.append(WORDS[(row * 7 + len(values)) % len(WORDS)])
        else:
            options = BY_NAME.get(parameter.name)
            wanted = {"np.float32": f32, "np.uint64": u64, "np.int32": i32, "np.int64": i64, "np.float64": f64}.get(
                kind
            )
            if options is None or (wanted is not None and options.dtype != wanted):
                options = BY_TYPE.get(kind, SMALL)
            values.append(options[(row * (1 + len(values)) + len(values)) % len(options)])
    return values


def bits(value: Any) -> Any:
    """The bits of a float32; zeros of either sign are one number, for no integer depends on it, and so are NaNs."""
    if isinstance(value, tuple):
        return tuple(map(bits, value))
    if not isinstance(value, (float, f32)):
        return int(value)
    if np.isnan(value):
        return "NaN"
    return int((f32(value) + f32(0)).view(i32))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_twins_equal_the_path_functions(name):
    """Interpreted twin against the function compiled for this CPU, bit for bit."""
    function, twin = FUNCTIONS[name], TWINS.of(FUNCTIONS[name])
    for row in range(len(REAL)):
        given = arguments(name, function, row)
        with np.errstate(all="ignore"):
            assert bits(twin(*given)) == bits(function(*given)), given
