"""Results: figures and JSON."""

import json

import numpy as np
import pytest

from gpuloan_mc.errors import InputRejected, UsageError
from gpuloan_mc.schemas import SUMMARY_KEYS
from gpuloan_mc.simulation import simulate

KEYS = (
    "n_paths seed engine engine_reason seconds loan_steps_per_second digest plan_digest balance expected_loss "
    "expected_loss_se loss_std probability_of_loss value_at_risk value_at_risk_ci expected_shortfall "
    "expected_shortfall_se default_rate expected_loss_by_year expected_loss_by_cause"
).split()


@pytest.fixture
def run(market, pool):
    world = market(hazard_classes=[{"name": "pool", "pd_by_year": [0.02]}])
    portfolio = pool(world, 20, loading=0.4)
    return world, portfolio, simulate(portfolio, world, n_paths=10_000)


def test_json_has_every_promised_field(run):
    found = json.loads(run[2].to_json())
    assert set(KEYS) <= set(found)
    assert list(found) == list(SUMMARY_KEYS)
    for key in ("value_at_risk", "value_at_risk_ci", "expected_shortfall", "expected_shortfall_se"):
        assert list(found[key]) == ["0.95", "0.99", "0.999", "0.9997"]
    assert found["balance"] == 20e6
    assert found["expected_loss"] == pytest.approx(run[2].losses.mean() / 100)
    assert found["loan_steps_per_second"] == pytest.approx(10_000 * 20 * 12 / found["seconds"])


def test_summary_gives_an_error_or_an_interval_for_every_figure(run):
    frame = run[2].summary()
    assert list(frame.columns) == ["value", "standard_error", "low", "high"]
    assert (frame["standard_error"].notna() | frame["low"].notna()).all()
    assert frame.loc["expected_loss", "value"] == run[2].expected_loss


@pytest.mark.parametrize("argument", [{"n_paths": 0}, {"seed": -1}, {"seed": 2**64}, {"chunk": 0}, {"engine": "gpu"}])
def test_wrong_arguments_are_refused(run, argument):
    with pytest.raises(UsageError, match=next(iter(argument))):
        simulate(run[1], run[0], **({"n_paths": 10} | argument))


def test_another_market_than_the_books_own_is_checked_against_it(run, market):
    world, portfolio, result = run
    with pytest.raises(InputRejected, match="hazard_class 'pool' is not in"):
        simulate(portfolio, market(), n_paths=5)
    gentler = world.replace(hazard_classes=[{"name": "pool", "pd_by_year": [0.001]}])
    assert simulate(portfolio, gentler, n_paths=10_000).expected_loss < result.expected_loss / 5


def test_numpy_integers_are_arguments_like_any_other(run):
    found = simulate(run[1], run[0], n_paths=np.int64(8), seed=np.uint64(3), chunk=np.int32(5))
    assert json.loads(found.to_json())["n_paths"] == 8


def test_what_a_result_holds_cannot_be_changed(run):
    _, _, result = run
    for array in (result.losses, result.defaults, result.by_loan.loss, result.prices):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    with pytest.raises(AttributeError):
        result.seed = 2


def test_dollars_by_year_and_cause_are_the_moments_means(run):
    result = run[2]
    assert sum(result.expected_loss_by_year) == pytest.approx(result.expected_loss)
    assert result.expected_loss_by_cause["parent"] == pytest.approx(result.expected_loss)
    assert result.expected_defaults == result.defaults.mean()
