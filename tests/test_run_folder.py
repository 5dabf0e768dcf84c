"""Run folders: complete, described to the last column, and a book that runs again."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars
import pyarrow.parquet as pq
import pytest

from gpuloan_mc import schemas
from gpuloan_mc.engines.numpy_reference import NumpyReference
from gpuloan_mc.errors import UsageError
from gpuloan_mc.files import toml_text
from gpuloan_mc.inputs.columns import TAPES
from gpuloan_mc.market import Market
from gpuloan_mc.plan import Plan
from gpuloan_mc.portfolio import Portfolio
from gpuloan_mc.run_folder import MANIFEST
from gpuloan_mc.simulation import simulate

N = 700


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A run of the bundled book and its folder."""
    folder = tmp_path_factory.mktemp("run") / "out"
    portfolio = Portfolio.read("neocloud-2024")
    return folder, simulate(portfolio, portfolio.market, n_paths=N, seed=3, out=folder)


def manifest(folder):
    return json.loads((folder / MANIFEST).read_text())


def test_the_page_is_written_from_the_code():
    assert (Path(__file__).parents[1] / "docs" / "schema.md").read_text() == schemas.schema_page()


def test_every_file_is_there_and_named(written):
    folder, _ = written
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    tapes = {f"inputs/{name}.parquet" for name in TAPES}
    assert set(names) == {*schemas.FILES, *tapes, "inputs/market.toml", "inputs/plan.npz", MANIFEST, "summary.json", "totals.bin"}
    facts = manifest(folder)["files"]
    assert set(facts) == set(names) - {MANIFEST}
    for name, fact in facts.items():
        data = (folder / name).read_bytes()
        assert fact == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


@pytest.mark.parametrize("file", schemas.FILES)
def test_every_column_is_the_schemas(written, file):
    folder, _ = written
    table, schema = pq.read_table(folder / file), schemas.FILES[file]
    assert table.schema.metadata[b"schema_version"] == str(schemas.SCHEMA_VERSION).encode()
    types = {"decimal": "decimal128(38, 0)", "float64": "double"}
    for column in table.schema:
        kind = schema.field_of(column.name).kind
        assert str(column.type) == types.get(kind, kind)
    assert [c for c in table.column_names if c in {f.name for f in schema.fixed}] == [f.name for f in schema.fixed]


def test_a_writer_that_strays_from_the_schema_is_stopped():
    frame = pd.DataFrame({f.name: [1] for f in schemas.FILES["paths.parquet"].fields})
    with pytest.raises(KeyError, match="colour"):
        schemas.arrow_table("paths.parquet", frame.assign(colour=1))
    with pytest.raises(KeyError, match="lacks defaults"):
        schemas.arrow_table("paths.parquet", frame.drop(columns="defaults"))


def test_the_manifest_says_what_ran(written):
    folder, result = written
    found = manifest(folder)
    assert list(found) == list(schemas.MANIFEST_KEYS)
    assert found["complete"] is True
    assert (found["digest"], found["plan_digest"]) == (result.digest, result.plan_digest)
    assert found["market_digest"] == Market.read(folder / "inputs").digest
    book = Path(schemas.__file__).parent / "books" / "neocloud-2024"
    for name in ("loans", "deployments", "obligors"):
        tape = found["inputs"][name]
        assert tape["sha256"] == hashlib.sha256((book / f"{name}.csv").read_bytes()).hexdigest()
        assert tape["rows"] == len(pd.read_csv(book / f"{name}.csv"))
    assert found["inputs"]["market"]["sha256"] == hashlib.sha256((book / "market.toml").read_bytes()).hexdigest()
    assert found["money"]["commitment"] == 1_307_372_600_000
    assert set(found["timings"]) >= {"plan", "paths"}
    assert set(found["host"]) == {"system", "machine", "processor", "cores"}
    assert json.loads((folder / "summary.json").read_text()) == result.to_json_dict()


def test_tables_add_up_to_the_paths(written):
    folder, result = written
    paths = pd.read_parquet(folder / "paths.parquet")
    assert np.array_equal(paths["loss_cents"], result.losses)
    table = NumpyReference().run(result.plan, 3, 0, N)
    assert np.array_equal(paths["largest_loss_cents"], table.largest_loss)
    assert np.array_equal(paths["defaulted_balance_cents"], table.defaulted_balance)
    segments = pd.read_parquet(folder / "segments.parquet")
    parts = [pd.read_parquet(folder / f"{name}.parquet") for name in ("loans", "timeline")]
    parts += [part for _, part in segments.groupby("column")]
    assert len(parts) == 4
    for part in parts:
        assert int(part["loss_cents"].sum()) == int(paths["loss_cents"].sum())
        assert int(part["ead_cents"].sum()) == int(paths["defaulted_balance_cents"].sum())
        assert part["defaults"].sum() == paths["defaults"].sum()
    assert not parts[0].drop(columns=["lgd", "lgd_se", "mean_ead_usd"]).isna().any().any()


def test_its_inputs_are_a_book_that_runs_again(written):
    folder, result = written
    again = Portfolio.read(folder / "inputs")
    assert again.loans.equals(result.portfolio.loans)
    found = simulate(again, again.market, n_paths=N, seed=3)
    assert (found.digest, found.plan_digest) == (result.digest, result.plan_digest)
    assert Plan.load(folder / "inputs" / "plan.npz").digest == result.plan_digest


def test_one_line_reads_a_table(written):
    folder, _ = written
    page = schemas.schema_page()
    lines = re.search(r"<!-- read -->\n```python\n(.*?)```", page, re.DOTALL)[1].splitlines()
    tools = {"pandas": pd, "polars": polars, "duckdb": duckdb, "R": folder}
    frames = [eval(line, tools) for line in lines]  # our own page
    assert frames[0].shape[0] == 5
    assert frames[1].shape[0] == 8
    assert len(frames[2].fetchall()) == 60


def test_the_machine_can_be_left_out(market, pool, tmp_path):
    world = market()
    simulate(pool(world, 2, "safe"), world, n_paths=3, out=tmp_path / "out", host=False)
    assert manifest(tmp_path / "out")["host"] is None


def test_chunks_and_row_groups_do_not_matter(written, tmp_path, monkeypatch):
    folder, result = written
    monkeypatch.setattr("gpuloan_mc.path_rows.ROWS_A_GROUP", 100)
    simulate(result.portfolio, result.portfolio.market, n_paths=N, seed=3, chunk=77, out=tmp_path / "out")
    for name in schemas.FILES:
        pd.testing.assert_frame_equal(pd.read_parquet(folder / name), pd.read_parquet(tmp_path / "out" / name))
    assert pq.ParquetFile(tmp_path / "out" / "paths.parquet").num_row_groups > 1


def test_other_peoples_folders_are_left_alone(market, pool, tmp_path):
    world = market()
    (tmp_path / "notes.txt").write_text("mine")
    for place, text in ((tmp_path, "not empty"), (tmp_path / "notes.txt", "is a file")):
        with pytest.raises(UsageError, match=text):
            simulate(pool(world, 2, "safe"), world, n_paths=3, out=place)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_paths_of_a_run_that_was_stopped_are_not_overwritten(market, pool, tmp_path):
    world, out = market(), tmp_path / "out"
    portfolio = pool(world, 2, "safe")
    simulate(portfolio, world, n_paths=3, out=out)

    def stop(done, n_paths):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(portfolio, world, n_paths=30, chunk=10, out=out, progress=stop)
    assert manifest(out)["complete"] is False
    assert not list(out.glob(".*.part"))
    before = {p.name: p.read_bytes() for p in (out / "chunks").iterdir()}
    with pytest.raises(UsageError, match=r"was not finished\. Go on with: gpuloan-mc resume"):
        simulate(portfolio, world, n_paths=5, out=out)
    assert {p.name: p.read_bytes() for p in (out / "chunks").iterdir()} == before
    shutil.rmtree(out / "chunks")  # given up, as the message says
    simulate(portfolio, world, n_paths=5, out=out)
    assert manifest(out)["complete"] is True
    assert len(pd.read_parquet(out / "paths.parquet")) == 5


def test_a_market_survives_writing(tmp_path, busy_book):
    world, _ = busy_book()
    (tmp_path / "market.toml").write_text(toml_text(world.model_dump(exclude_none=True)), encoding="utf-8")
    assert Market.read(tmp_path) == world
    assert Market.read(tmp_path).digest == world.digest
