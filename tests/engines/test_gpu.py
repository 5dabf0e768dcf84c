"""The GPU engines on a real GPU: `pytest --gpu -m gpu`. Integers have no tolerance."""

from __future__ import annotations

import pytest

from gpuloan_mc.engines.choice import gpu_problem, make_engine
from gpuloan_mc.errors import EnvironmentProblem
from gpuloan_mc.example import write_example
from gpuloan_mc.planning import build_plan
from gpuloan_mc.portfolio import Portfolio
from gpuloan_mc.simulation import simulate

pytestmark = pytest.mark.gpu
ENGINES = ("cuda", "numba-cuda")


@pytest.fixture(params=ENGINES)
def name(request):
    """A GPU engine that can run here; cuda must."""
    problem = gpu_problem(request.param)
    if problem is not None and request.param != "cuda":
        pytest.skip(str(problem))
    assert problem is None, str(problem)
    return request.param


def digests(portfolio, market, name, n_paths):
    """The digest of the CPU engine, and of three runs on the GPU."""
    cpu = simulate(portfolio, market, n_paths=n_paths, seed=11, engine="numba").digest
    return cpu, [simulate(portfolio, market, n_paths=n_paths, seed=11, engine=name).digest for _ in range(3)]


@pytest.mark.parametrize("book", ["vasicek-100", "neocloud-2024"])
def test_bundled_books(name, book):
    portfolio = Portfolio.read(book)
    cpu, gpu = digests(portfolio, portfolio.market, name, 30_000)
    assert gpu == [cpu] * 3


def test_all_columns_and_prices(name, busy_book):
    world, portfolio = busy_book()
    one = simulate(portfolio, world, n_paths=2000, seed=5, engine="numpy")
    other = simulate(portfolio, world, n_paths=2000, seed=5, engine=name, chunk=700)
    assert other.digest == one.digest
    assert (other.prices == one.prices).all()
    for table in ("loans", "timeline", "loss_distribution"):
        assert getattr(other, table).equals(getattr(one, table))


@pytest.mark.parametrize("n_loans", [150, 700, 1500, 3000])
def test_every_mapping(name, n_loans, tmp_path):
    write_example(tmp_path / "book", n_loans=n_loans, seed=3)
    portfolio = Portfolio.read(tmp_path / "book")
    cpu, gpu = digests(portfolio, portfolio.market, name, 1000)
    assert gpu == [cpu] * 3


@pytest.mark.parametrize("copula", ["gaussian", "t"])
@pytest.mark.parametrize("grouped", [True, False])
def test_plain_loans(name, market, pool, copula, grouped):
    dependence = {"copula": copula, "factors": ["demand", "credit"], "grouped": grouped}
    if copula == "t":
        dependence["degrees_of_freedom"] = 4.0
    world = market(hazard_classes=[{"name": "pool", "hazard": 0.03}], dependence=dependence)
    portfolio = pool(world, 3000, loading=0.4, lgd_sd=0.2, lgd_loading=0.5)
    cpu, gpu = digests(portfolio, world, name, 5000)
    assert gpu == [cpu] * 3


def test_a_limit_of_memory_is_kept_to():
    cupy = pytest.importorskip("cupy")
    portfolio = Portfolio.read("neocloud-2024")
    plan = build_plan(portfolio, portfolio.market)
    pool = cupy.get_default_memory_pool()
    whole = make_engine("cuda").run(plan, 1, 0, 50_000).loss
    pool.free_all_blocks()
    try:
        pool.set_limit(size=64 * 2**20)
        assert (make_engine("cuda").run(plan, 1, 0, 50_000).loss == whole).all()
        pool.free_all_blocks()
        pool.set_limit(size=2**20)
        with pytest.raises(EnvironmentProblem, match="has no room for"):
            make_engine("cuda").run(plan, 1, 0, 50_000)
    finally:
        pool.set_limit(size=0)
