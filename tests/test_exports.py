"""Exports: the same values to pandas, Polars and DuckDB, a manifest that can be checked, and names that do no harm."""

import hashlib
import json
import math
import re
import shutil
from dataclasses import replace
from decimal import Decimal

import duckdb
import numpy as np
import pandas as pd
import polars
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from packaging.version import Version

from gpuloan_mc import SavedRun, open_results, schemas
from gpuloan_mc.apportion import KINDS
from gpuloan_mc.cli import cli
from gpuloan_mc.comparison import MANIFEST as STRESS
from gpuloan_mc.comparison import Stress, stress
from gpuloan_mc.errors import UsageError
from gpuloan_mc.exports import MANIFEST
from gpuloan_mc.scenario import Scenario
from gpuloan_mc.simulation import simulate

N = 300
# pandas 3.1 reads every digit and warns of being asked to
ROUND_TRIP = {} if Version(pd.__version__) >= Version("3.1") else {"float_precision": "round_trip"}
LAYERS = ("0:0.1", "0.1:")
EVERYTHING = ("exceedance", "contributions", "timeline", "convergence", "tranches", "stress", "portfolio_splt",
              "portfolio_selt", "portfolio_ept", "portfolio_palt")  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory, busy_run):
    """A run of the busy book, and its folder."""
    folder = tmp_path_factory.mktemp("run") / "R"
    return folder, simulate(busy_run.portfolio, busy_run.portfolio.market, n_paths=N, seed=5, out=folder)


@pytest.fixture(scope="module")
def stressed(tmp_path_factory, run):
    """A stress of the same book, and its folder."""
    _, result = run
    less = Scenario.of("less chips' worth", market={"scale": {"gpu.overhang.impact": 1.5}})
    found = stress(result.portfolio, result.portfolio.market, [less], n_paths=100, seed=5)
    return found.write(tmp_path_factory.mktemp("stress") / "S"), found


@pytest.fixture(scope="module")
def everything(tmp_path_factory, run, stressed):
    """All tables, as Parquet and as text."""
    folders = {}
    for kind in ("parquet", "csv"):
        folder = tmp_path_factory.mktemp("export") / kind
        folders[kind] = SavedRun.read(run[0]).export(
            folder, level=0.9, tranches=LAYERS, stress=stressed[0], kind=kind, open_results=True
        )
    return folders


def manifest(folder):
    return json.loads((folder / MANIFEST).read_text())


def plain(value):
    """A cell as every reader should give it: missing is None, numbers compare as numbers."""
    if value is None or value is pd.NA or (isinstance(value, (float, np.floating)) and math.isnan(value)):
        return None
    if isinstance(value, Decimal):
        return int(value)
    if isinstance(value, np.generic):
        return value.item()
    return {"True": True, "False": False}.get(value, value) if isinstance(value, str) else value


def rows(found):
    return [tuple(map(plain, row)) for row in found]


def read_by_all(path):
    """The rows as pandas, Polars and DuckDB read them, in one line each."""
    if path.suffix == ".parquet":
        return {
            "pandas": rows(pd.read_parquet(path).itertuples(index=False, name=None)),
            "polars": rows(polars.read_parquet(path).rows()),
            "duckdb": rows(duckdb.sql(f"select * from '{path}'").fetchall()),
        }
    return {
        "pandas": rows(pd.read_csv(path, **ROUND_TRIP).itertuples(index=False, name=None)),
        "polars": rows(polars.read_csv(path, infer_schema_length=None).rows()),
        "duckdb": rows(duckdb.sql(f"select * from read_csv('{path}', sample_size=-1)").fetchall()),
    }


def test_everything_is_there_and_the_manifest_names_it(run, everything):
    for kind, folder in everything.items():
        found = manifest(folder)
        assert list(found) == list(schemas.EXPORT_KEYS)
        assert {p.name for p in folder.iterdir()} == {MANIFEST, *found["files"]}
        assert list(found["files"]) == [f"{name}.{kind}" for name in EVERYTHING]
        for name, fact in found["files"].items():
            data = (folder / name).read_bytes()
            assert (fact["bytes"], fact["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
            assert fact["schema_version"] == schemas.SCHEMA_VERSION
            assert fact["rows"] == len(read_by_all(folder / name)["polars"])
        _, result = run
        assert (found["digest"], found["plan_digest"]) == (result.digest, result.plan_digest)
        assert (found["seed"], found["n_paths"], found["level"], found["format"]) == (5, N, 0.9, kind)
        assert found["open_results"] == {"standard": "ORD 1", "NumberOfPeriods": N, "PeriodLength": 2.5}


@pytest.mark.parametrize("kind", ["parquet", "csv"])
@pytest.mark.parametrize("name", EVERYTHING)
def test_three_readers_read_the_same_values(everything, kind, name):
    typed = [
        tuple(map(plain, row.values())) for row in pq.read_table(everything["parquet"] / f"{name}.parquet").to_pylist()
    ]
    assert typed
    for reader, found in read_by_all(everything[kind] / f"{name}.{kind}").items():
        assert found == typed, reader


@pytest.mark.parametrize("name", EVERYTHING)
def test_every_column_is_the_schemas(everything, name):
    table = pq.read_table(everything["parquet"] / f"{name}.parquet")
    schema = (schemas.FILES | schemas.COMPARISONS | schemas.ANSWERS | schemas.EXPORTS)[f"{name}.parquet"]
    types = {"decimal": "decimal128(38, 0)", "float64": "double", "bool_": "bool"}
    for column in table.schema:
        kind = schema.field_of(column.name).kind
        assert str(column.type) == types.get(kind, kind)
    assert [c for c in table.column_names if c in {f.name for f in schema.fixed}] == [f.name for f in schema.fixed]
    assert table.schema.metadata[b"schema_version"] == str(schemas.SCHEMA_VERSION).encode()


def test_a_result_and_its_folder_export_the_same_bytes(run, stressed, everything, tmp_path):
    _, result = run
    mine = result.export(tmp_path / "X", level=0.9, tranches=LAYERS, stress=stressed[1], open_results=True)
    assert manifest(mine) == manifest(everything["parquet"])
    again = result.export(tmp_path / "Y", level=0.9, tranches=LAYERS, stress=stressed[1], kind="csv", open_results=True)
    assert manifest(again) == manifest(everything["csv"])


def test_the_tables_are_the_runs_answers(run, stressed, everything):
    _, result = run

    def table(name):
        return pd.read_parquet(everything["parquet"] / f"{name}.parquet")

    parts = [result.contributions(0.9, by).table for by in KINDS]
    assert set(KINDS) == {"loan", "borrower", "tenant", "generation", "cause", "year"}
    found = table("contributions")
    assert list(found["item"]) == [item for part in parts for item in part["item"]]
    assert np.array_equal(found["expected_shortfall_usd"], np.concatenate([p["expected_shortfall_usd"] for p in parts]))
    assert (found["level"] == 0.9).all()
    for name, answer in {"convergence": result.convergence([0.9]), "stress": stressed[1].table}.items():
        pd.testing.assert_frame_equal(table(name), answer, check_exact=True, check_dtype=False)
    assert [int(x) for x in table("tranches")["loss_cents"]] == list(result.tranches(LAYERS).table["loss_cents"])
    assert np.array_equal(table("timeline")["default_rate"], result.timeline["default_rate"])


def test_exceedance_points_are_shares_of_the_paths(run, everything):
    _, result = run
    found = pd.read_parquet(everything["parquet"] / "exceedance.parquet")
    assert len(found) == len(result.loss_distribution)
    for row in found.itertuples():
        beyond = np.mean(result.losses > row.loss_cents)
        assert beyond <= row.exceedance_probability < np.mean(result.losses >= row.loss_cents) + 1e-12
        assert row.return_period == pytest.approx(1 / row.exceedance_probability, rel=1e-12)
    exact = found.set_index("level")["return_period"]
    assert (exact[0.9], exact[0.99], exact[0.999], exact[0.9999], exact[0.99999]) == (10, 100, 1000, 10_000, 100_000)


def test_what_an_earlier_export_left_is_gone(run, everything, tmp_path):
    _, result = run
    shutil.copytree(everything["parquet"], tmp_path / "X")
    shutil.copy(everything["csv"] / "tranches.csv", tmp_path / "X")
    (tmp_path / "X" / "notes.txt").write_text("mine")
    result.export(tmp_path / "X")
    names = {"exceedance.parquet", "contributions.parquet", "timeline.parquet", "convergence.parquet"}
    assert set(manifest(tmp_path / "X")["files"]) == names
    assert manifest(tmp_path / "X")["open_results"] is None
    assert {p.name for p in (tmp_path / "X").iterdir()} == names | {MANIFEST, "notes.txt"}


# --- the names of open results data -----------------------------------------------------------------------------------

# ODS_OpenResultsData, Schema/ORD_Table_Examples.csv (SampleType of the ALT, EPCalc as version 1 has it)
STANDARD = {
    "splt": "Period PeriodWeight EventId Year Month Day Hour Minute SummaryId SampleId Loss ImpactedExposure",
    "selt": "EventId SummaryId SampleId Loss ImpactedExposure",
    "ept": "SummaryId EPCalc EPType ReturnPeriod Loss",
    "palt": "SummaryId SampleType MeanLoss SDLoss",
}


def test_columns_have_the_standards_names(everything):
    for name, columns in STANDARD.items():
        table = pq.read_table(everything["parquet"] / f"portfolio_{name}.parquet")
        assert set(table.column_names) == set(columns.split())


def test_periods_are_the_paths_that_lose(run, everything):
    _, result = run
    found = pd.read_parquet(everything["parquet"] / "portfolio_splt.parquet")
    assert np.array_equal(found["Period"], np.nonzero(result.losses)[0] + 1)
    assert np.array_equal(found["Loss"], result.losses[result.losses > 0] / 100)
    assert (found["PeriodWeight"] == 1 / N).all() and 0 < len(found) < N
    events = pd.read_parquet(everything["parquet"] / "portfolio_selt.parquet")
    assert np.array_equal(events["EventId"], found["EventId"]) and np.array_equal(events["Loss"], found["Loss"])
    average = pd.read_parquet(everything["parquet"] / "portfolio_palt.parquet").iloc[0]
    weighted = (found["Loss"] * found["PeriodWeight"]).sum()
    assert weighted == pytest.approx(average["MeanLoss"], rel=1e-12)
    assert average["SDLoss"] == pytest.approx(np.std(result.losses / 100, ddof=1), rel=1e-12)


def test_return_periods_agree_with_ranks_to_one_rank(run, everything):
    _, result = run
    found = pd.read_parquet(everything["parquet"] / "portfolio_ept.parquet")
    assert set(found["EPType"]) == {3, 4} and set(found["EPCalc"]) == {2}
    assert found["ReturnPeriod"].max() <= N
    worst = np.sort(result.losses)[::-1] / 100
    aggregate = found[found["EPType"] == 3].set_index("ReturnPeriod")["Loss"]
    beyond = found[found["EPType"] == 4].set_index("ReturnPeriod")["Loss"]
    for period in (2.0, 3.0, 5.0, 10.0, 50.0, 100.0):
        if period in aggregate.index:
            k = round(N / period)  # the k-th largest loss has the return period n / k
            assert aggregate[period] == worst[k]
            assert beyond[period] == pytest.approx(worst[:k].mean(), rel=1e-12)
    assert {2.0, 10.0, 100.0} <= set(aggregate.index)


def test_a_run_with_more_paths_than_periods_have_numbers_is_refused(run, monkeypatch):
    monkeypatch.setattr(open_results, "MAX_PERIODS", N - 1)
    with pytest.raises(UsageError, match="has 300 paths; ORD numbers periods up to 299"):
        open_results.tables(run[1])


def test_a_book_that_loses_nothing_and_a_run_of_one_path_export(market, pool, tmp_path):
    world = market()
    result = simulate(pool(world, 2, "safe"), world, n_paths=1, out=tmp_path / "R")
    for run, name in ((result, "X"), (SavedRun.read(tmp_path / "R"), "Y")):
        folder = run.export(tmp_path / name, open_results=True, tranches=["0:1"])
        assert manifest(folder)["files"]["portfolio_splt.parquet"]["rows"] == 0
        assert pd.read_parquet(folder / "portfolio_palt.parquet")["SDLoss"].isna().all()
    assert manifest(tmp_path / "X") == manifest(tmp_path / "Y")


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, text",
    [
        ({"level": 1.0}, "level is 1.0; it must lie between 0 and 1"),
        ({"tranches": ["0.3:0.1"]}, "is inverted"),
        ({"kind": "xlsx"}, "the format is 'xlsx'; it must be parquet or csv"),
        ({"stress": "none"}, r"none is no folder; name a folder written by gpuloan-mc stress BOOK --out DIR"),
    ],
)
def test_wrong_arguments_are_sentences(run, tmp_path, arguments, text):
    with pytest.raises(UsageError, match=text):
        run[1].export(tmp_path / "X", **arguments)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_other_peoples_folders_are_left_alone(run, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not empty; name a new folder"):
        run[1].export(tmp_path)
    with pytest.raises(UsageError, match="is not empty"):
        run[1].export(run[0])


def test_a_folder_in_the_way_is_a_sentence(run, tmp_path):
    run[1].export(tmp_path / "X")
    (tmp_path / "X" / "stress.csv").mkdir()
    with pytest.raises(UsageError, match=r"stress\.csv can't be removed: .*; name another folder"):
        run[1].export(tmp_path / "X")


def test_a_stress_is_read_back_and_must_be_of_the_same_book(run, stressed, tmp_path):
    folder, found = stressed
    again = Stress.read(folder)
    assert replace(again, table=None) == replace(found, table=None)
    pd.testing.assert_frame_equal(again.table, found.table, check_exact=True, check_dtype=False)
    other = replace(found, runs=(replace(found.runs[0], plan_digest="0" * 64), *found.runs[1:]))
    with pytest.raises(UsageError, match=r"is of another book or market than the run\. Stress the run's own"):
        run[1].export(tmp_path / "X", stress=other)


@pytest.mark.parametrize(
    "change, text",
    [
        (lambda found: found.update(schema_version=99), "its schema_version is 99, and this version reads 2"),
        (lambda found: found.update(runs=[]), r"stress\.json is damaged. Run gpuloan-mc stress BOOK --out DIR again"),
        (lambda found: found.update(runs=[1]), r"stress\.json is damaged"),
        (lambda found: found["runs"][0].update(seconds="long"), r"stress\.json is damaged"),
        (lambda found: found.pop("figures"), r"stress\.json is damaged"),
        (lambda found: found["figures"][0].update(value="much"), r"stress\.json is damaged"),
    ],
)
def test_a_damaged_stress_is_a_sentence(stressed, tmp_path, change, text):
    found = json.loads((stressed[0] / STRESS).read_text())
    change(found)
    (tmp_path / STRESS).write_text(json.dumps(found))
    with pytest.raises(UsageError, match=text):
        Stress.read(tmp_path)
    (tmp_path / STRESS).write_text("{")
    with pytest.raises(UsageError, match=r"has no readable stress\.json"):
        Stress.read(tmp_path)


@pytest.mark.parametrize("name", ["timeline.parquet", "paths.parquet"])
def test_a_damaged_run_is_not_exported(run, tmp_path, name):
    shutil.copytree(run[0], tmp_path / "R")
    data = bytearray((tmp_path / "R" / name).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "R" / name).write_bytes(data)
    with pytest.raises(UsageError, match=f"{name} was changed or damaged since the run"):
        SavedRun.read(tmp_path / "R").export(tmp_path / "X")


# --- the command ------------------------------------------------------------------------------------------------------


def invoke(*arguments):
    return CliRunner().invoke(cli, [str(a) for a in arguments])


def test_the_command_writes_what_the_method_writes(run, stressed, everything, tmp_path):
    layers = [part for layer in LAYERS for part in ("--tranche", layer)]
    done = invoke("export", run[0], "--out", tmp_path / "X", "--level", 0.9, *layers, "--stress", stressed[0], "--ord")
    assert done.exit_code == 0, done.output
    assert manifest(tmp_path / "X") == manifest(everything["parquet"])
    told = re.findall(r"(\w+)\.parquet: ([\d,]+) rows?", " ".join(done.output.split()))
    assert [name for name, _ in told] == list(EVERYTHING)
    assert MANIFEST in done.output


def test_the_command_needs_a_folder(run):
    assert invoke("export", run[0]).exit_code == 2
