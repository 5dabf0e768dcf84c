"""Break-evens and grids: named parameters, the level found, its interval, what can't be reached."""

import json
import math

import numpy as np
import pyarrow.parquet as pq
import pytest

from gpuloan_mc import schemas
from gpuloan_mc.breakeven import FIRST_LOSS, MANIFEST, TABLE, ShortfallLimit, TrancheLoss, break_even
from gpuloan_mc.comparison import stress
from gpuloan_mc.errors import InputRejected, UsageError
from gpuloan_mc.grid import Axis, grid
from gpuloan_mc.parameter import Parameter, merged
from gpuloan_mc.scenario import stressed
from gpuloan_mc.sensitivity import Range
from gpuloan_mc.simulation import simulate

HAIRCUT = Range("gpu.recovery.haircut_mean", 0.1, 0.6)

# --- parameters -------------------------------------------------------------------------------------------------------


def test_roll_off_is_what_is_not_renewed(busy_book):
    world, portfolio = busy_book()
    _, moved = stressed(portfolio, world, [Parameter("roll_off").at(0.3)])
    assert moved.gpu.contracts.renewal == [0.7, 0.7]
    _, set_by_key = stressed(portfolio, world, [Parameter("gpu.contracts.renewal.*").at(0.7)])
    assert set_by_key == moved


def test_a_price_is_forced_from_its_month_on(busy_book):
    world, portfolio = busy_book()
    scenario = Parameter("force.price.H100.12").at(1.25)
    run = simulate(portfolio, world, n_paths=50, scenarios=[scenario])
    free = simulate(portfolio, world, n_paths=50)
    h100 = run.names.generations.index("H100")
    prices, before = (r.prices[:, :, 0, h100] for r in (run, free))
    assert (prices[:, 12:] == np.float32(1.25)).all()
    assert len(np.unique(prices[:, 11])) > 1
    assert (prices[:, :8] == before[:, :8]).mean() > 0.9  # but for chips that other defaults release


@pytest.mark.parametrize(
    "parameter, value, error, text",
    [
        (Parameter("roll_off", "scale"), 1.0, UsageError, "can't be scaled"),
        (Parameter("force.price.H100.12", "scale"), 1.0, UsageError, "can't be scaled"),
        (Parameter("force.price.H100"), 1.0, UsageError, "names no month"),
        (Parameter("force.price.H100.x"), 1.0, UsageError, "names no month"),
        (Parameter("roll_off"), 1.5, InputRejected, "renewal"),
        (Parameter("force.price.H10O.12"), 1.0, InputRejected, "H10O"),
        (Parameter("force.price.H100.12"), -1.0, InputRejected, "greater than 0"),
        (Parameter("gpu.overhang.impct"), 1.0, InputRejected, "Did you mean impact"),
    ],
)
def test_wrong_parameters_are_sentences(busy_book, parameter, value, error, text):
    world, portfolio = busy_book()
    with pytest.raises(error, match=text):
        stressed(portfolio, world, [parameter.at(value)])


def test_changes_are_joined():
    one = {"market": {"set": {"a": 1}}, "loans": [1]}
    other = {"market": {"set": {"b": 2}, "scale": {"c": 3}}, "loans": [2]}
    assert merged(one, other) == {"market": {"set": {"a": 1, "b": 2}, "scale": {"c": 3}}, "loans": [1, 2]}
    assert one == {"market": {"set": {"a": 1}}, "loans": [1]}


# --- break-even -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found(busy_book):
    world, portfolio = busy_book()
    ends = [
        simulate(portfolio, world, n_paths=400, scenarios=[HAIRCUT.at(v)]).expected_shortfall[0.95] for v in (0.1, 0.6)
    ]
    target = ShortfallLimit(0.95, sum(ends) / 2)
    return world, portfolio, ends, break_even(portfolio, world, HAIRCUT, target, n_paths=400, steps=6)


def test_a_break_even_is_where_the_figure_is_its_goal(found):
    world, portfolio, ends, answer = found
    assert answer.step == pytest.approx(0.5 / 64)
    assert answer.low < answer.value < answer.high
    there = simulate(portfolio, world, n_paths=400, scenarios=[HAIRCUT.at(answer.value)])
    assert answer.reading.value == there.expected_shortfall[0.95]
    below, above = (
        simulate(portfolio, world, n_paths=400, scenarios=[HAIRCUT.at(v)]).expected_shortfall[0.95]
        for v in (answer.value - answer.step, answer.value + answer.step)
    )
    assert below < sum(ends) / 2 < above


def test_the_interval_ends_where_the_figures_own_interval_leaves_the_goal(found):
    _, _, ends, answer = found
    goal, rows = sum(ends) / 2, answer.table
    inside = rows[(rows["level"] > answer.low + answer.step) & (rows["level"] < answer.high - answer.step)]
    outside = rows[(rows["level"] < answer.low - answer.step) | (rows["level"] > answer.high + answer.step)]
    assert len(inside) and ((inside["low"] <= goal) & (goal <= inside["high"])).all()
    assert len(outside) and not ((outside["low"] <= goal) & (goal <= outside["high"])).any()


def test_a_tranche_first_loses_where_one_future_in_a_hundred_reaches_it(busy_book):
    world, portfolio = busy_book()
    price = Range("force.price.H100.1", 0.6, 2.0)
    run = simulate(portfolio, world, n_paths=500, scenarios=[price.at(2.0)])
    attachment = run.value_at_risk[0.99] * 1.3
    answer = break_even(portfolio, world, price, TrancheLoss((attachment, None)), n_paths=500, steps=7)
    assert FIRST_LOSS == 0.01
    worse, better = (
        simulate(portfolio, world, n_paths=500, scenarios=[price.at(answer.value + s * answer.step)]).losses
        for s in (-1, 1)
    )
    assert np.mean(worse > attachment * 100) >= 0.01 > np.mean(better > attachment * 100)
    assert answer.low is None or answer.low < answer.value  # the figure falls as the price rises
    assert answer.high is None or answer.value < answer.high


def test_shares_are_of_the_commitment(pool, market):
    world = market(hazard_classes=[{"name": "pool", "hazard": 0.3}])
    run = simulate(pool(world, 10), world, n_paths=50, engine="numpy")
    assert ShortfallLimit(0.9, 0.2).read(run).goal == 0.2 * 10e6
    assert ShortfallLimit(0.9, 3e6).read(run).goal == 3e6
    share, dollars = (TrancheLoss(t).read(run) for t in ("0.1:0.2", "1000000:2000000"))
    assert share == dollars
    assert share.value == np.mean(run.losses > 1e8)


def test_few_paths_give_no_interval(pool, market):
    world = market(hazard_classes=[{"name": "pool", "hazard": 0.3}])
    book = pool(world, 10)
    answer = break_even(
        book, world, Range("loans.lgd", 0.1, 0.9), ShortfallLimit(0.99, 0.2), n_paths=80, engine="numpy"
    )
    assert answer.reading.tail_paths == 1 and math.isnan(answer.reading.low)
    assert answer.low is None and answer.high is None
    assert json.dumps(answer.to_json_dict(), allow_nan=False)


@pytest.mark.parametrize(
    "between, target, text",
    [
        (HAIRCUT, ShortfallLimit(0.95, 1e9), "does not lie between; widen the range or move the goal"),
        (HAIRCUT, TrancheLoss("0.99:1", 0.5), "0.5 does not lie between"),
        (Range("gpu.recovery.haircut_mean", 0.6, 0.1), ShortfallLimit(0.95, 0.1), "it must go up"),
        (Range("gpu.recovery.haircut_mean", 0.1, math.nan), ShortfallLimit(0.95, 0.1), "it must go up"),
    ],
)
def test_what_can_not_be_reached_is_a_sentence(busy_book, between, target, text):
    world, portfolio = busy_book()
    with pytest.raises(UsageError, match=text):
        break_even(portfolio, world, between, target, n_paths=50)


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: ShortfallLimit(1.0, 0.1), "level is 1.0"),
        (lambda: ShortfallLimit(0.99, 0), "limit is 0"),
        (lambda: ShortfallLimit(0.99, math.nan), "limit is nan"),
        (lambda: TrancheLoss("0.3:0.1"), "is inverted"),
        (lambda: TrancheLoss("0.1:0.3", 1.0), "probability is 1"),
        (lambda: Axis("loans.lgd", ()), "at least one value"),
        (lambda: Axis("loans.lgd", (0.1, 0.1)), "each once"),
    ],
)
def test_wrong_goals_and_axes_are_sentences(make, text):
    with pytest.raises(UsageError, match=text):
        make()


def test_a_break_even_writes_what_the_schema_says(found, tmp_path):
    *_, answer = found
    folder = answer.write(answer.write(tmp_path / "out"))
    table = pq.read_table(folder / TABLE)
    assert table.column_names == [f.name for f in schemas.COMPARISONS[TABLE].fields]
    assert len(table) == len(answer.table) <= 3 * 6 + 3
    written = json.loads((folder / MANIFEST).read_text())
    assert list(written) == list(schemas.BREAKEVEN_KEYS)
    assert written == answer.to_json_dict()


@pytest.mark.slow
def test_intervals_of_break_evens_are_as_wide_as_the_spread_over_seeds(busy_book):
    """Thirty seeds know a spread to 13 %."""
    world, portfolio = busy_book()
    target, haircut = ShortfallLimit(0.95, 55e6), Range("gpu.recovery.haircut_mean", 0.05, 0.8)
    found = [
        break_even(portfolio, world, haircut, target, n_paths=1000, seed=seed, steps=6, workers=1) for seed in range(30)
    ]
    spread = np.std([f.value for f in found], ddof=1)
    stated = np.mean([(f.high - f.low) / 3.92 for f in found])
    assert stated == pytest.approx(spread, rel=0.35)


# --- grid -------------------------------------------------------------------------------------------------------------


def test_a_grid_is_a_stress_of_every_pair(busy_book, tmp_path):
    world, portfolio = busy_book()
    alpha, roll_off = Axis("gpu.overhang.impact", (0.8, 2.0)), Axis("roll_off", (0.2, 0.9))
    found = grid(portfolio, world, alpha, roll_off, n_paths=100)
    assert [(row.x, row.y) for row in found.table.drop_duplicates(["x", "y"]).itertuples()] == [
        (0.8, 0.2), (0.8, 0.9), (2.0, 0.2), (2.0, 0.9)
    ]  # fmt: skip
    crossed = found.crossed("value", "expected_loss", None)
    chain = [alpha.of.at(2.0), roll_off.of.at(0.9)]
    assert crossed.loc[2.0, 0.9] == simulate(portfolio, world, n_paths=100, scenarios=chain).expected_loss
    alone = stress(portfolio, world, [roll_off.of.at(0.9)], n_paths=100).figure("expected_loss").iloc[1]
    assert found.crossed("difference", "expected_loss", None).loc[0.8, 0.9] == alone["difference"]  # 0.8 is the base's
    assert found.crossed("difference_se", "expected_loss", None).loc[0.8, 0.9] == alone["difference_se"]
    folder = found.write(found.write(tmp_path / "out"))
    table = pq.read_table(folder / "grid.parquet")
    assert table.column_names == [f.name for f in schemas.COMPARISONS["grid.parquet"].fields]
    assert len(table) == 4 * 10 and (folder / "stress.parquet").is_file()
    assert list(found.to_json_dict()) == list(schemas.STRESS_KEYS)
    with pytest.raises(UsageError, match="name two"):
        grid(portfolio, world, alpha, alpha)
