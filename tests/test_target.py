"""Runs that stop when they are sure enough: where they stop, what they say, and how often they are right."""

import itertools
import json

import numpy as np
import pytest

from gpuloan_mc import Portfolio, Target, closed_form, resume, risk, simulate
from gpuloan_mc.engines.numba_cpu import NumbaCpu
from gpuloan_mc.errors import Interrupted, UsageError
from gpuloan_mc.planning import build_plan


@pytest.mark.parametrize(
    "measure, error, text",
    [
        ("mean", 0.01, "measure is 'mean'; it must be el, var:LEVEL or es:LEVEL"),
        ("el:0.9", 0.01, "measure is"),
        ("es", 0.01, "measure is"),
        ("es:1", 0.01, "level is 1; it must lie between 0 and 1"),
        ("var:x", 0.01, "level is x"),
        ("el", 0.0, "target error is 0.0; it must lie between 0 and 1"),
        ("el", float("nan"), "target error is nan"),
    ],
)
def test_bad_targets_are_refused(measure, error, text):
    with pytest.raises(UsageError, match=text):
        Target(measure, error)


def test_looks_grow_by_a_fifth_and_end_at_the_most():
    looks = list(Target("el", 0.01).looks(200_000))
    assert looks[0] == 20 * 1024
    assert looks[-1] == 200_000
    assert all(look % 1024 == 0 for look in looks[:-1])
    assert all(1.2 <= b / a < 1.25 for a, b in itertools.pairwise(looks[:-1]))
    assert list(Target("el", 0.01).looks(500)) == [500]


def test_errors_are_those_of_the_result():
    book = Portfolio.read("vasicek-100")
    result = simulate(book, book.market, n_paths=5000)
    z = 1.959963984540054
    low, high = result.value_at_risk_ci[0.99]
    wanted = {
        "el": z * result.expected_loss_se / result.expected_loss,
        "var:0.99": (high - low) / 2 / result.value_at_risk[0.99],
        "es:0.99": z * result.expected_shortfall_se[0.99] / result.expected_shortfall[0.99],
    }
    for measure, error in wanted.items():
        assert Target(measure, 0.5).error_of(result.losses) == pytest.approx(error, rel=1e-12)
    assert Target("var:0.9997", 0.5).error_of(result.losses[:100]) == np.inf
    assert Target("el", 0.5).error_of(np.zeros(100, np.int64)) == np.inf


def test_a_run_stops_where_the_rule_says_whatever_its_chunks(tmp_path):
    book, target = Portfolio.read("vasicek-100"), Target("el", 0.02)
    whole = simulate(book, book.market, n_paths=60_000)
    looks = list(target.looks(60_000))
    stop = next(look for look in looks if target.error_of(whole.losses[:look]) <= target.error)
    assert looks[0] < stop < looks[-1]
    found = simulate(book, book.market, n_paths=60_000, target=target, chunk=7001, out=tmp_path / "out")
    assert found.n_paths == stop
    assert np.array_equal(found.losses, whole.losses[:stop])
    told = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert told["target"] == target.to_json_dict(found.losses)
    assert told["target"]["reached"] is True

    def interrupt(done, _):
        if done > 21_000:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        simulate(book, book.market, n_paths=60_000, target=target, out=tmp_path / "cut", chunk=9000, progress=interrupt)
    assert resume(tmp_path / "cut").digest == found.digest
    assert resume(tmp_path / "cut", extend_paths=60_000).digest == whole.digest


def test_a_target_out_of_reach_takes_all_paths():
    book = Portfolio.read("vasicek-100")
    found = simulate(book, book.market, n_paths=30_000, target=Target("es:0.999", 0.001))
    assert found.n_paths == 30_000
    assert found.to_json_dict()["target"]["reached"] is False


@pytest.mark.slow
@pytest.mark.parametrize("measure, error", [("el", 0.01), ("es:0.99", 0.03)])
def test_the_interval_at_the_stop_covers_the_exact_figure(measure, error):
    """200 seeds: an interval of 95 % misses at most 18 of them (the chance of more is 1.1 %)."""
    book, target = Portfolio.read("vasicek-100"), Target(measure, error)
    plan, engine = build_plan(book, book.market), NumbaCpu()
    pmf = closed_form.one_factor_mixture(100, 0.01, 0.2**0.5)
    unit = 45_000_000  # cents that a default loses
    exact = unit * (
        closed_form.distribution_mean(pmf)
        if measure == "el"
        else closed_form.distribution_expected_shortfall(pmf, 0.99)
    )
    missed, stops = 0, []
    for seed in range(200):
        losses = np.zeros(0, np.int64)
        for look in target.looks(10_000_000):
            table = engine.run(plan, seed, len(losses), look - len(losses))
            losses = np.concatenate([losses, table.loss])
            if (half := target.error_of(losses)) <= error:
                break
        figure = losses.mean() if measure == "el" else risk.expected_shortfall(np.sort(losses), 0.99)
        missed += abs(figure - exact) > half * figure
        stops.append(len(losses))
    assert len(set(stops)) > 1, "the rule must have had a choice"
    assert missed <= 18, (missed, stops)
