"""The promise: a path's loss depends on book, market, seed and path alone. Integers, so no tolerance."""

import numpy as np
import pytest

from gpuloan_mc.digest import loss_digest
from gpuloan_mc.engines.numpy_reference import NumpyReference
from gpuloan_mc.plan import Plan
from gpuloan_mc.planning import build_plan
from gpuloan_mc.simulation import simulate

N = 300


@pytest.fixture
def busy(busy_book):
    return busy_book()


def test_the_book_exercises_the_model(busy):
    world, portfolio = busy
    result = simulate(portfolio, world, n_paths=2000)
    assert all(m.total > 0 for m in result.loss_by_cause.values())
    assert 0.2 < result.default_rate < 0.9
    assert result.losses.min() >= 0
    table = NumpyReference().run(build_plan(portfolio, world), 1, 0, 2000)
    assert np.array_equal(table.loss, result.losses)
    assert np.all(table.loss <= table.defaulted_balance)
    assert np.all(table.largest_loss <= table.loss)
    assert result.largest_loss == table.largest_loss.max()
    assert np.all(result.discounted_losses <= result.losses)


@pytest.mark.parametrize("chunk", [1, 7, N])
def test_chunks_do_not_matter(busy, chunk):
    world, portfolio = busy
    n = 40 if chunk == 1 else N
    whole = simulate(portfolio, world, n_paths=n, seed=5)
    parts = simulate(portfolio, world, n_paths=n, seed=5, chunk=chunk)
    assert whole.digest == parts.digest
    assert np.array_equal(whole.discounted_losses, parts.discounted_losses)
    assert whole.loss_by_cause == parts.loss_by_cause


def test_a_run_is_a_prefix_of_a_longer_one(busy):
    world, portfolio = busy
    long, short = (simulate(portfolio, world, n_paths=n, seed=5).losses for n in (N, 101))
    assert np.array_equal(long[:101], short)
    assert loss_digest(long[:101]) == simulate(portfolio, world, n_paths=101, seed=5).digest


def test_a_chunk_in_the_middle_is_the_same_paths(busy):
    world, portfolio = busy
    plan = build_plan(portfolio, world)
    whole = NumpyReference().run(plan, 5, 0, 120)
    middle = NumpyReference().run(plan, 5, 77, 13)
    assert np.array_equal(whole.loss[77:90], middle.loss)
    assert np.array_equal(whole.defaults[77:90], middle.defaults)


def test_row_order_does_not_matter(busy):
    world, portfolio = busy
    frames = {n: getattr(portfolio, n).sample(frac=1, random_state=4) for n in ("loans", "deployments", "obligors")}
    shuffled = portfolio.replace(**frames)
    one, other = (simulate(p, world, n_paths=N, seed=5) for p in (portfolio, shuffled))
    assert one.plan_digest == other.plan_digest
    assert one.digest == other.digest


def test_seeds_differ_and_two_runs_agree(busy):
    world, portfolio = busy
    digests = [simulate(portfolio, world, n_paths=N, seed=s).digest for s in (5, 5, 6, 2**64 - 1)]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_a_saved_plan_gives_the_same_integers(busy, tmp_path):
    world, portfolio = busy
    plan = build_plan(portfolio, world)
    (tmp_path / "plan.npz").write_bytes(plan.to_bytes())
    loaded = Plan.load(tmp_path / "plan.npz")
    assert loaded.digest == plan.digest
    assert np.array_equal(NumpyReference().run(loaded, 5, 0, N).loss, NumpyReference().run(plan, 5, 0, N).loss)


def test_another_loan_leaves_the_others_alone_when_nothing_is_fed_back(busy_book):
    world, portfolio = busy_book(overhang=0.0, sale_impact=0.0)
    fewer = portfolio.replace(
        loans=portfolio.loans[portfolio.loans["loan_id"] != "L05"],
        deployments=portfolio.deployments[portfolio.deployments["loan_id"] != "L05"],
    )
    all_, some = (simulate(p, world, n_paths=N, seed=5).loans for p in (portfolio, fewer))
    assert all_[all_["loan_id"] != "L05"].reset_index(drop=True).equals(some)


def test_switched_off_feedback_is_no_feedback(busy_book):
    """α = d = 0: chips of other loans that come back change nothing, bit for bit (docs/model.md 8.10)."""
    world, portfolio = busy_book(overhang=0.0)
    flooded = world.replace(
        gpu=world.gpu.replace(
            overhang=world.gpu.overhang.replace(calendar=[{"gpu": "H100", "month": 6, "units": 10_000_000}])
        )
    )
    assert simulate(portfolio, world, n_paths=N).digest == simulate(portfolio, flooded, n_paths=N).digest


def shortfall(world, portfolio):
    result = simulate(portfolio, world, n_paths=1500, seed=3)
    return result.expected_shortfall[0.95], result.expected_shortfall_se[0.95]


def test_shortfall_grows_with_impact_leverage_and_lag(busy_book):
    """Common random numbers, within the error (docs/model.md 8.10)."""
    world, portfolio = busy_book()
    base, error = shortfall(world, portfolio)
    milder, _ = shortfall(*busy_book(overhang=0.0))
    assert milder < base + error
    slower = world.replace(gpu=world.gpu.replace(recovery=world.gpu.recovery.replace(lag_mean_months=6.0)))
    assert shortfall(slower, portfolio)[0] > base - error
    loans = portfolio.loans.copy()
    loans["balance_usd"] *= 1.15
    assert shortfall(world, portfolio.replace(loans=loans))[0] > base
