"""Stresses and sensitivities: paired paths, errors of differences, what must grow."""

import json
import math

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from gpuloan_mc import differences, risk, schemas
from gpuloan_mc.comparison import MANIFEST, TABLE, stress
from gpuloan_mc.errors import InputRejected, UsageError
from gpuloan_mc.portfolio import Portfolio
from gpuloan_mc.scenario import Scenario, scenarios
from gpuloan_mc.sensitivity import JUDGEMENT, Range, sensitivities
from gpuloan_mc.simulation import simulate
from gpuloan_mc.text import with_error


@pytest.fixture(scope="module")
def neocloud():
    return Portfolio.read("neocloud-2024")


# --- errors of differences --------------------------------------------------------------------------------------------


class Losses:
    def __init__(self, losses):
        self.losses, self.ordered = losses, np.sort(losses)


def pairs(n, seed, together):
    """Two lognormal losses whose logarithms correlate."""
    draw = np.random.default_rng(seed)
    z = draw.normal(size=(3, n))
    a, b = z[0], together * z[0] + math.sqrt(1 - together**2) * z[1]
    return Losses(np.exp(10 + a).astype(np.int64)), Losses(np.exp(10.1 + 1.05 * b).astype(np.int64))


@pytest.mark.parametrize("together", [0.0, 0.9, 0.99])
def test_errors_are_the_spread_over_seeds(together):
    n, level, found, told = 2000, 0.95, [], []
    for seed in range(300):
        a, b = pairs(n, seed, together)
        one, other = risk.figures(a.losses, [level]), risk.figures(b.losses, [level])
        found.append(
            (
                other.expected_loss - one.expected_loss,
                other.value_at_risk[level] - one.value_at_risk[level],
                other.expected_shortfall[level] - one.expected_shortfall[level],
            )
        )
        told.append(
            (
                differences.mean_difference(b.losses, a.losses).standard_error,
                differences.value_at_risk_difference_se(b, a, level),
                differences.shortfall_difference_se(b, a, level),
            )
        )
    ratio = np.array(told).mean(axis=0) / np.array(found).std(axis=0, ddof=1)
    assert ratio[[0, 2]] == pytest.approx(1, abs=0.12)  # 300 seeds know a spread to 4 %
    assert 0.85 < ratio[1] < 1.25  # an interval's bounds are order statistics: a bit wide, never much too narrow


def test_no_difference_has_no_error():
    a, _ = pairs(1000, 1, 0.0)
    assert differences.mean_difference(a.losses, a.losses).standard_error == 0
    assert differences.value_at_risk_difference_se(a, a, 0.95) == pytest.approx(0, abs=1e-3)
    assert differences.shortfall_difference_se(a, a, 0.95) == 0


def test_too_few_paths_have_no_error():
    a, b = pairs(20, 1, 0.0)
    assert math.isnan(differences.value_at_risk_difference_se(a, b, 0.99))
    assert math.isnan(differences.shortfall_difference_se(a, b, 0.99))


@pytest.mark.parametrize(
    "value, error, text",
    [
        (154.1921, 3.4176, "154.2 ± 3.4"),
        (-0.012361, 0.00067, "-0.01236 ± 0.00067"),
        (1234567.0, 4321.0, "1,234,600 ± 4,300"),
        (12.3456, None, "12.35 ± …"),
        (12.3456, float("nan"), "12.35 ± …"),
        (12.3456, 0.0, "12.35 ± 0"),
        (0.0, 0.0, "0 ± 0"),
        (float("nan"), 1.0, "…"),
    ],
)
def test_figures_are_shown_to_the_error(value, error, text):
    assert with_error(value, error) == text


def test_a_difference_shows_its_sign():
    assert with_error(1.234, 0.1, signed=True) == "+1.23 ± 0.10"


# --- stress -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def few(neocloud):
    return stress(neocloud, neocloud.market, ["no_feedback", "lab_failure"], n_paths=400, seed=4)


def test_a_stress_is_its_runs(neocloud, few):
    base = simulate(neocloud, neocloud.market, n_paths=400, seed=4)
    lab = simulate(neocloud, neocloud.market, n_paths=400, seed=4, scenarios=["lab_failure"])
    assert [run.scenario for run in few.runs] == ["base", "no_feedback", "lab_failure"]
    assert [few.runs[0].digest, few.runs[2].digest] == [base.digest, lab.digest]
    assert few.runs[2].scenario_digest == Scenario.read("lab_failure").digest
    row = few.figure("expected_loss").loc["lab_failure"]
    paired = (lab.losses - base.losses) / 100
    assert row["value"] == lab.expected_loss
    assert row["difference"] == pytest.approx(lab.expected_loss - base.expected_loss)
    assert row["difference_se"] == pytest.approx(paired.std(ddof=1) / 20)
    assert row["difference_se"] < row["standard_error"]
    shortfall = few.figure("expected_shortfall", 0.95).loc["lab_failure"]
    assert shortfall["standard_error"] == lab.expected_shortfall_se[0.95]
    assert (few.figure("default_rate").loc["base"][["difference", "difference_se"]] == 0).all()
    with pytest.raises(UsageError, match="no figure"):
        few.figure("expected_loss", 0.5)


def test_a_stress_writes_what_the_schema_says(few, tmp_path):
    folder = few.write(few.write(tmp_path / "out"))
    table = pq.read_table(folder / TABLE)
    assert table.column_names == [f.name for f in schemas.COMPARISONS[TABLE].fields]
    pd.testing.assert_frame_equal(table.to_pandas(), few.table, check_dtype=False)
    found = json.loads((folder / MANIFEST).read_text())
    assert list(found) == list(schemas.STRESS_KEYS)
    assert found == few.to_json_dict()
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(UsageError, match="not empty"):
        few.write(tmp_path)


def test_every_bundled_scenario_that_fits_runs_when_none_is_named(pool, market):
    world = market(hazard_classes=[{"name": "pool", "hazard": 0.05}])
    found = stress(pool(world, 5), world, n_paths=20)
    assert [run.scenario for run in found.runs] == ["base", "overlong_debt"]
    left = {name for name, _ in found.left_out}
    assert left == set(scenarios()) - {"base", "overlong_debt"}


def test_problems_of_all_scenarios_come_at_once(neocloud):
    bad = [Scenario.of(name, market={"set": {"horizon_months": value}}) for name, value in (("a", 0), ("b", -1))]
    with pytest.raises(InputRejected) as caught:
        stress(neocloud, neocloud.market, [*bad, "no_such"], n_paths=10)
    assert {p.file for p in caught.value.problems} == {"a", "b", "no_such"}


@pytest.mark.parametrize("names", [["lab_failure", "lab_failure"]])
def test_a_name_stands_for_one_scenario(neocloud, names):
    with pytest.raises(InputRejected, match="two scenarios have this name"):
        stress(neocloud, neocloud.market, names, n_paths=10)


def book_with(key, *values):
    return [Scenario.of(f"{key} {v:g}", market={"set": {key: v}}) for v in values]


@pytest.mark.parametrize(
    "chosen",
    [
        book_with("gpu.overhang.impact", 1.6, 3.0),
        book_with("gpu.recovery.lag_mean_months", 5.0, 8.0),
        book_with("gpu.recovery.haircut_mean", 0.3, 0.5),
        [
            Scenario.of(f"price {v:g}", market={"scale": {"gpu.generations.*.price_usd_per_hour": v}})
            for v in (0.9, 0.7)
        ],
        [Scenario.of(f"advance {v:g}", loans=[{"scale": {"balance_usd": v}}]) for v in (1.1, 1.3)],
        [Scenario.of(f"hazard {v:g}", market={"scale": {"hazard_classes.*.hazard": v}}) for v in (1.5, 3.0)],
    ],
    ids=lambda chosen: chosen[0].name.split()[0],
)
def test_what_hurts_more_costs_more_within_the_error(busy_book, chosen):
    world, portfolio = busy_book()
    found = stress(portfolio, world, chosen, n_paths=1500, seed=9)
    for figure, level in (("expected_loss", None), ("expected_shortfall", 0.95)):
        moved = found.figure(figure, level)
        assert (moved["difference"] >= -3 * moved["difference_se"]).all()
        assert moved["difference"].iloc[2] > moved["difference"].iloc[1] > 0 or figure == "expected_shortfall"
    assert found.figure("expected_loss")["difference"].is_monotonic_increasing


# --- sensitivities ----------------------------------------------------------------------------------------------------


def test_a_tornado_has_the_widest_first(busy_book, tmp_path):
    world, portfolio = busy_book()
    ranges = [Range("gpu.recovery.sale_cost", 0.05, 0.06), Range("loans.remoteness", 0.2, 0.9),
              Range("hazard_classes.*.hazard", 0.5, 2.0, "scale")]  # fmt: skip
    found = sensitivities(portfolio, world, ranges, n_paths=300)
    table = found.tornado("expected_loss", None)
    assert table["parameter"].iloc[-1] == "gpu.recovery.sale_cost"
    row = table.set_index("parameter").loc["hazard_classes.*.hazard"]
    assert (row["low"], row["high"]) == ("× 0.5", "× 2")
    assert row["difference_low"] < 0 < row["difference_high"]
    folder = found.write(tmp_path / "out")
    written = pq.read_table(folder / "sensitivities.parquet")
    assert written.column_names == [f.name for f in schemas.COMPARISONS["sensitivities.parquet"].fields]
    assert len(written) == 3 * 2 * 10


def test_judgements_fit_the_bundled_book_and_name_their_source(neocloud):
    from gpuloan_mc.sensitivity import _fitting

    assert all(item.source and item.low < item.high for item in JUDGEMENT)
    fitting, left_out = _fitting(neocloud, neocloud.market)
    assert fitting == JUDGEMENT
    assert left_out == []


def test_judgements_that_do_not_fit_are_left_out(pool, market):
    world = market(hazard_classes=[{"name": "pool", "hazard": 0.05}])
    found = sensitivities(pool(world, 5), world, n_paths=20)
    assert {item.parameter.split(".")[0] for item in found.ranges} == {"hazard_classes", "loans"}
    assert len(found.ranges) + len(found.left_out) == len(JUDGEMENT)


def test_an_unknown_parameter_is_refused(busy_book):
    world, portfolio = busy_book()
    with pytest.raises(InputRejected, match="Did you mean impact"):
        sensitivities(portfolio, world, [Range("gpu.overhang.impct", 0, 1)], n_paths=10)
