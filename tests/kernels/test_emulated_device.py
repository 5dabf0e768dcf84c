"""The CUDA kernels, built by g++ and run on an emulated device, return the reference's integers: all of them.

Every mapping, whatever the book, the chunk and the order in which threads run between two barriers.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings

from gpuloan_mc.engines import cuda_mapping
from gpuloan_mc.engines.numba_cpu import NumbaCpu
from gpuloan_mc.engines.numpy_reference import NumpyReference
from gpuloan_mc.errors import InputRejected
from gpuloan_mc.example import write_example
from gpuloan_mc.planning import build_plan
from gpuloan_mc.portfolio import Portfolio


def _module(path: Path) -> Any:
    """A test module by its file: tests are no package."""
    name = f"kernels_{path.stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


HERE = Path(__file__).parent
EMULATED = _module(HERE / "emulated.py")
EQUALITY = _module(HERE.parent / "engines" / "test_equality.py")
BOOKS = EQUALITY.BOOKS
REFERENCE = NumpyReference()
FAST = NumbaCpu(1)  # equal to the reference by tests/engines

pytestmark = pytest.mark.skipif(
    EMULATED.compiler() is None, reason="the emulated device is built by g++: there is none"
)

MAPPINGS = {
    "8 lanes": {},
    "16 lanes": {"SMALL_BOOK": 0},
    "pair of 128": {"SMALL_BOOK": 0, "MIDDLE_BOOK": 0},
    "block of 256": {"SMALL_BOOK": 0, "MIDDLE_BOOK": 0, "PAIR_OF_128": 0},
    "block of 512": {"SMALL_BOOK": 0, "MIDDLE_BOOK": 0, "PAIR_OF_128": 0, "BLOCK_OF_256": 0},
    "cluster of 2": {"SMALL_BOOK": 0, "MIDDLE_BOOK": 0, "PAIR_OF_128": 0, "BLOCK_OF_512": 0, "CLUSTERS": (2,)},
    "cluster of 4": {"SMALL_BOOK": 0, "MIDDLE_BOOK": 0, "PAIR_OF_128": 0, "BLOCK_OF_512": 0, "CLUSTERS": (4,)},
    "cluster of 8": {"SMALL_BOOK": 0, "MIDDLE_BOOK": 0, "PAIR_OF_128": 0, "BLOCK_OF_512": 0, "CLUSTERS": (8,)},
    "large": {"SMALL_BOOK": 0, "MIDDLE_BOOK": 0},
}
KERNELS = {
    "8 lanes": "simulate_small_8",
    "16 lanes": "simulate_small_16",
    "pair of 128": "simulate_pair_128",
    "block of 256": "simulate_block_256",
    "block of 512": "simulate_block_512",
    "cluster of 2": "simulate_cluster_2",
    "cluster of 4": "simulate_cluster_4",
    "cluster of 8": "simulate_cluster_8",
    "large": "simulate_large_512",
}


@pytest.fixture(params=MAPPINGS)
def mapping(request: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Any]:
    """A kernel that walks months, and the device on which the book gets it."""
    for name, value in MAPPINGS[request.param].items():
        monkeypatch.setattr(cuda_mapping, name, value)
    device = EMULATED.TINY_DEVICE if request.param == "large" else EMULATED.DEVICE
    if request.param.startswith("cluster"):
        device = EMULATED.CLUSTER_DEVICE
    return KERNELS[request.param], device


def assert_same(plan: Any, seed: int, first: int, n: int, engine: Any = FAST, **how: Any) -> None:
    prices = how.get("prices", False)
    expected = engine.run(plan, seed, first, n, prices=prices)
    found = EMULATED.run_emulated(plan, seed, first, n, **how)
    assert EQUALITY.differences(found, expected) == []


def launched(plan: Any, n: int, device: Any) -> list[str]:
    layout = EMULATED.lay_out(plan)
    return [launch.kernel for launch in cuda_mapping.launches(layout, n, device)]


def layout_classes(plan: Any) -> Any:
    """The class of terms of each lane."""
    layout = EMULATED.lay_out(plan)
    return layout.parts["loans"]["slots"][:, 1, :, 3].reshape(-1)[: layout.size["n_loans"]].view(np.int32)


def test_terms_of_a_class_are_those_of_its_loans():
    plan = EQUALITY.plan_of(Portfolio.read("neocloud-2024"))
    loans, classes = plan.loans, EMULATED.lay_out(plan).parts["loans"]
    order = np.array([int(np.nonzero(loans.key == key)[0][0]) for key in classes["key"]])
    told = classes["classes"][layout_classes(plan)]
    assert len(classes["classes"]) > 1
    for k, name in ((0, "floating"), (1, "dscr_default"), (4, "reserve_months"), (5, "sweep_share"), (7, "ltv_cap")):
        assert np.array_equal(told[:, k], getattr(loans, name)[order].astype(np.float32))


@pytest.mark.parametrize("book", ["vasicek-100", "neocloud-2024"])
@pytest.mark.parametrize("prices", [False, True])
def test_bundled_books(book, prices):
    plan = EQUALITY.plan_of(Portfolio.read(book))
    for order, (first, n) in enumerate(((0, 101), (7, 30), (2**32 - 3, 6))):
        assert_same(plan, 5, first, n, REFERENCE, prices=prices, order=order)


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("overhang", [0.0, 0.8])
def test_every_mapping_of_the_busy_book(mapping, busy_book, overhang, order):
    kernel, device = mapping
    world, portfolio = busy_book(overhang)
    plan = build_plan(portfolio, world)
    assert kernel in launched(plan, 23, device)
    assert_same(plan, 2**64 - 1, 3, 23, order=order, device=device)


@pytest.mark.parametrize("changes", [{"sale_impact": 0.0, "step_in": 1.0}, {"lag_max_months": 1, "step_in": 0.0}])
def test_ways_of_recovery(busy_book, changes):
    world, portfolio = busy_book(**changes)
    assert_same(build_plan(portfolio, world), 2, 0, 200, REFERENCE, order=2, prices=True)


@pytest.mark.parametrize("copula", ["gaussian", "t"])
@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("own", [True, False])
def test_plain_loans(market, pool, copula, grouped, own):
    plan = EQUALITY.one_factor(market, pool, 300, copula, grouped, own)
    assert_same(plan, 9, 1, 401, order=2)


def test_plain_loans_over_ten_years(market, pool):
    plan = EQUALITY.one_factor(market, pool, 150, horizon_months=120)
    assert_same(plan, 9, 2, 200, order=1)


@pytest.mark.parametrize("first", [0, 1, 2, 3, 2**40 - 9])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_few_paths(busy_book, first, n):
    world, portfolio = busy_book()
    assert_same(build_plan(portfolio, world), 8, first, n, order=n)


def test_chunks_do_not_matter(busy_book):
    world, portfolio = busy_book()
    plan = build_plan(portfolio, world)
    whole = EMULATED.run_emulated(plan, 4, 5, 90)
    parts = [EMULATED.run_emulated(plan, 4, first, n) for first, n in ((5, 1), (6, 43), (49, 46))]
    assert np.array_equal(np.concatenate([p.loss for p in parts]), whole.loss)
    total = parts[0].by_group + parts[1].by_group + parts[2].by_group
    assert EQUALITY.differences(total, whole.by_group) == []


def test_a_book_of_several_hundred_loans_under_feedback(mapping, tmp_path):
    _, device = mapping
    write_example(tmp_path / "book", n_loans=300, seed=3)
    plan = EQUALITY.plan_of(Portfolio.read(tmp_path / "book"))
    klass = layout_classes(plan)
    assert klass.max() > 0 and np.all(np.diff(klass) >= 0)  # lanes stand by class of terms
    assert_same(plan, 4, 2, 5, order=2, device=device)


@pytest.mark.parametrize("slots", [1, 2])
def test_loops_over_lanes_of_steady_books(slots, tmp_path):
    """Four loans a turn, then those that are left, in a last tile that is not full."""
    write_example(tmp_path / "book", n_loans=600, seed=3)
    file = tmp_path / "book" / "deployments.csv"
    pd.read_csv(file, dtype=str).groupby("loan_id").head(slots).to_csv(file, index=False)
    plan = EQUALITY.plan_of(Portfolio.read(tmp_path / "book"))
    size = EMULATED.lay_out(plan).size
    assert (size["n_slots"], size["n_lanes"]) == (slots, 608)
    assert 1 < size["steady_from"] < size["horizon"]  # before it, any book's loop
    assert "simulate_pair_128" in launched(plan, 5, EMULATED.DEVICE)
    assert_same(plan, 4, 2, 5, order=1)


def kernels_agree(market: Any, rows: Any) -> None:
    try:
        plan = EQUALITY.plan_of(BOOKS.read(market, rows))
    except InputRejected:
        return
    assert_same(plan, 3, 5, 21, order=2, prices=True)
    assert_same(plan, 3, 5, 9, order=1, device=EMULATED.TINY_DEVICE)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(BOOKS.books())
def test_generated_books(book):
    kernels_agree(*book)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(BOOKS.books())
def test_many_generated_books(book):
    kernels_agree(*book)
