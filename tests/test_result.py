"""Results: figures, tables, JSON and run folders."""

import json
import tomllib

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuloan_mc.errors import UsageError
from gpuloan_mc.files import toml_text
from gpuloan_mc.inputs.books import bundled_books
from gpuloan_mc.market import Market
from gpuloan_mc.plan import Plan
from gpuloan_mc.result import MANIFEST
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


def test_a_run_folder_is_complete_and_readable(run, tmp_path):
    world, portfolio, result = run
    folder = result.write(tmp_path / "out", portfolio, world)
    names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    assert names == [
        "inputs/deployments.parquet", "inputs/loans.parquet", "inputs/market.toml", "inputs/obligors.parquet",
        "inputs/plan.npz", "inputs/schedules.parquet", MANIFEST, "paths.parquet", "summary.json",
    ]  # fmt: skip
    paths = pd.read_parquet(folder / "paths.parquet")
    assert np.array_equal(paths["loss_cents"], result.losses)
    assert Plan.load(folder / "inputs" / "plan.npz").digest == result.plan_digest
    assert json.loads((folder / MANIFEST).read_text())["digest"] == result.digest
    assert json.loads((folder / "summary.json").read_text())["expected_loss"] == result.expected_loss
    result.write(folder, portfolio, world)  # an earlier run folder may be replaced


def test_the_book_as_read_runs_again(run, tmp_path):
    world, portfolio, result = run
    inputs = result.write(tmp_path / "out", portfolio, world) / "inputs"
    frames = {n: pd.read_parquet(inputs / f"{n}.parquet") for n in ("loans", "deployments", "obligors", "schedules")}
    market = type(world).read(inputs)
    assert market == world
    again = type(portfolio).from_frames(market=market, **frames)
    assert simulate(again, market, n_paths=10_000).digest == result.digest
    assert type(portfolio).read(inputs).loans.equals(portfolio.loans)


TOML_VALUES = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
    st.dates(),
)
TOML_LISTS = st.lists(TOML_VALUES, max_size=3)
TOML_KEYS = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)
TOML_TABLES = st.recursive(
    st.dictionaries(TOML_KEYS, TOML_VALUES | TOML_LISTS, max_size=4),
    lambda inner: st.dictionaries(TOML_KEYS, TOML_VALUES | inner | st.lists(inner, min_size=1, max_size=3), max_size=4),
    max_leaves=8,
)


@given(TOML_TABLES)
def test_toml_is_read_as_it_was_written(table):
    assert tomllib.loads(toml_text(table)) == table


@pytest.mark.parametrize("book", bundled_books())
def test_a_bundled_market_survives_writing(book, tmp_path):
    market = Market.read(book)
    (tmp_path / "market.toml").write_text(toml_text(market.model_dump(exclude_none=True)), encoding="utf-8")
    assert Market.read(tmp_path) == market


def test_other_peoples_folders_are_left_alone(run, tmp_path):
    world, portfolio, result = run
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        result.write(tmp_path, portfolio, world)
    with pytest.raises(UsageError, match="is a file"):
        result.write(tmp_path / "notes.txt", portfolio, world)


@pytest.mark.parametrize("argument", [{"n_paths": 0}, {"seed": -1}, {"seed": 2**64}, {"chunk": 0}, {"engine": "gpu"}])
def test_wrong_arguments_are_refused(run, argument):
    with pytest.raises(UsageError, match=next(iter(argument))):
        simulate(run[1], run[0], **({"n_paths": 10} | argument))
