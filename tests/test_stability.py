"""Seeds side by side: the spread of figures, and whether the errors stated are it."""

import math

import numpy as np
import pytest
from scipy import stats

from gpuloan_mc import stability as module
from gpuloan_mc.arguments import MAX_SEED
from gpuloan_mc.errors import UsageError
from gpuloan_mc.simulation import simulate


@pytest.fixture(scope="module")
def run(market, pool):
    world = market(hazard_classes=[{"name": "pool", "hazard": 0.3}])
    return simulate(pool(world, 20, loading=0.4, lgd_sd=0.2), world, n_paths=1000, seed=3, engine="numpy")


def test_the_spread_is_that_of_the_seeds_that_follow(run):
    found = run.stability(4, [0.9]).set_index("measure")
    others = [run] + [simulate(run.portfolio, run.portfolio.market, n_paths=1000, seed=s) for s in (4, 5, 6)]
    means = [r.expected_loss for r in others]
    row = found.loc["expected_loss"]
    assert (row["seeds"], row["paths"], row["value_usd"]) == (4, 1000, run.expected_loss)
    assert row["mean_usd"] == pytest.approx(np.mean(means))
    assert row["spread_usd"] == pytest.approx(np.std(means, ddof=1))
    assert row["standard_error_usd"] == run.expected_loss_se
    assert row["stated_error_usd"] == pytest.approx(math.sqrt(np.mean([r.expected_loss_se**2 for r in others])))
    assert row["ratio"] == pytest.approx(row["spread_usd"] / row["stated_error_usd"])
    assert row["ratio_low"] == pytest.approx(math.sqrt(stats.chi2.ppf(0.025, 3) / 3))
    assert row["ratio_high"] == pytest.approx(math.sqrt(stats.chi2.ppf(0.975, 3) / 3))
    assert list(found.index) == ["expected_loss", "value_at_risk", "expected_shortfall"]
    assert found.loc["expected_shortfall", "tail_paths"] == 100 and not found["few"].any()


def test_errors_that_are_right_agree(run):
    found = run.stability(12, [0.9])
    assert found["agrees"].all()
    assert found["ratio"].between(0.5, 1.5).all()


def test_errors_that_are_wrong_are_told(run, monkeypatch):
    honest = module.measured

    def bold(losses, levels):
        from dataclasses import replace

        return [replace(m, standard_error=m.standard_error / 5) for m in honest(losses, levels)]

    monkeypatch.setattr(module, "measured", bold)
    assert not module.stability(run, 12, [0.9])["agrees"].any()


def test_a_book_that_never_loses_agrees_with_itself(pool, market):
    world = market()
    found = simulate(pool(world, 3, "safe"), world, n_paths=100, engine="numpy").stability(2, [0.9])
    assert (found["spread_usd"] == 0).all() and found["agrees"].iloc[0] and math.isnan(found["ratio"].iloc[0])


def test_seeds_go_round_at_the_last(pool, market):
    world = market(hazard_classes=[{"name": "pool", "hazard": 0.3}])
    book = pool(world, 3)
    last = simulate(book, world, n_paths=50, seed=MAX_SEED, engine="numpy")
    first = simulate(book, world, n_paths=50, seed=0, engine="numpy")
    assert last.stability(2, []).iloc[0]["mean_usd"] == pytest.approx((last.expected_loss + first.expected_loss) / 2)


@pytest.mark.parametrize(
    "arguments, text", [((1,), "seeds is 1"), ((1001,), "seeds is 1001"), ((2, [1.0]), "level is 1.0")]
)
def test_wrong_arguments_are_sentences(run, arguments, text):
    with pytest.raises(UsageError, match=text):
        run.stability(*arguments)
