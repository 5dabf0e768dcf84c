"""Runs read back from their folders: the same answers, and a refusal in a sentence for any that is not whole."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from gpuloan_mc import SavedRun, schemas
from gpuloan_mc.answers import write_answers
from gpuloan_mc.errors import UsageError
from gpuloan_mc.manifest import MANIFEST, sealed
from gpuloan_mc.simulation import simulate

N = 300


@pytest.fixture(scope="module")
def written(tmp_path_factory, busy_run):
    """A run of the busy book on the fast engine, and its folder."""
    folder = tmp_path_factory.mktemp("saved") / "out"
    return folder, simulate(busy_run.portfolio, busy_run.portfolio.market, n_paths=N, seed=5, out=folder)


@pytest.fixture
def copy(written, tmp_path):
    shutil.copytree(written[0], tmp_path / "copy")
    return tmp_path / "copy"


def test_a_saved_run_answers_as_its_result(written):
    folder, result = written
    saved = SavedRun.read(folder)
    assert np.array_equal(saved.losses, result.losses)
    assert saved.plan.digest == result.plan_digest
    assert saved.digest == result.digest
    for ask in (
        lambda run: run.replay(run.worst(3)).loans,
        lambda run: run.replay([7]).market,
        lambda run: run.contributions(0.95, by="tenant").table,
        lambda run: run.tranches(["0:0.05", "0.05:"]).by_year,
        lambda run: run.convergence(),
    ):
        pd.testing.assert_frame_equal(ask(saved), ask(result), check_exact=True)
    assert not saved.losses.flags.writeable


def test_the_worst_paths_come_worst_first(written):
    _, result = written
    worst = result.worst(N)
    assert sorted(worst) == list(range(N))
    assert np.all(np.diff(result.losses[worst]) <= 0)
    ties = np.nonzero(np.diff(result.losses[worst]) == 0)[0]
    assert len(ties) and np.all(worst[ties] < worst[ties + 1])
    for k in (0, N + 1, 1.5):
        with pytest.raises(UsageError, match="worst"):
            result.worst(k)


def edit(folder, **changes):
    found = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_bytes(sealed(found | changes))


def test_no_run_is_told_from_a_run(tmp_path):
    for place, text in ((tmp_path / "none", "is no folder"), (tmp_path, "has no readable manifest.json")):
        with pytest.raises(UsageError, match=f"{text}; name a folder written by gpuloan-mc run"):
            SavedRun.read(place)
    (tmp_path / MANIFEST).write_text("[]")
    with pytest.raises(UsageError, match=r"was not finished\. Go on with: gpuloan-mc resume"):
        SavedRun.read(tmp_path)


@pytest.mark.parametrize(
    "changes, text",
    [
        ({"complete": False}, "was not finished"),
        ({"schema_version": 99}, "schema_version is 99, and this version reads 2"),
        ({"rng_scheme": "mt19937"}, "rng_scheme is 'mt19937'"),
        ({"digest": "0" * 64}, "its paths or its plan are not those of its manifest"),
        ({"plan_digest": ""}, "its paths or its plan are not those of its manifest"),
        ({"files": {}}, r"manifest\.json is damaged"),
        ({"files": []}, r"manifest\.json is damaged"),
    ],
)
def test_a_manifest_of_another_run_is_refused(copy, changes, text):
    edit(copy, **changes)
    with pytest.raises(UsageError, match=text):
        SavedRun.read(copy)


def test_a_manifest_that_was_changed_is_refused(copy):
    found = json.loads((copy / MANIFEST).read_text())
    (copy / MANIFEST).write_text(json.dumps(found | {"seed": found["seed"] + 1}))
    with pytest.raises(UsageError, match=r"manifest\.json was changed or damaged since it was written"):
        SavedRun.read(copy)


@pytest.mark.parametrize("file", ["paths.parquet", "inputs/plan.npz", "inputs/loans.parquet", "inputs/market.toml"])
def test_a_changed_file_is_named(copy, file):
    data = bytearray((copy / file).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / file).write_bytes(data)
    with pytest.raises(UsageError, match=f"{file} was changed or damaged since the run. Run the book again"):
        SavedRun.read(copy)
    (copy / file).unlink()
    with pytest.raises(UsageError, match=f"{file} can't be read"):
        SavedRun.read(copy)


def test_a_path_that_loses_something_else_is_refused(written):
    _, result = written
    path = int(result.worst(1)[0])
    losses = result.losses.copy()
    losses[path] += 1
    other = replace(result, losses=losses)
    for ask in (lambda: other.replay([path]), lambda: other.contributions(0.99)):
        with pytest.raises(UsageError, match=f"path {path} loses {losses[path] - 1} cents when it is run again"):
            ask()


def test_every_answer_is_the_schemas(written, tmp_path):
    _, result = written
    from gpuloan_mc.inputs.pool_file import PoolFile
    from gpuloan_mc.tranches import rating_stress

    layers = result.tranches(["0:0.05", "0.05:"])
    tables = result.replay([3, 4]).tables() | {
        "contributions": result.contributions().table,
        "tail_paths": result.tail_paths(0.9),
        "tranches": layers.table,
        "tranche_years": layers.by_year,
        "rating_stress": rating_stress(result, [0.9]),
        "convergence": result.convergence([0.9]),
        "stability": result.stability(2, [0.9]),
    }
    pool = PoolFile.model_validate({"tranches": [{"name": "A", "share": 0.8, "coupon": 0.07}, {"name": "R"}]})
    cash = result.waterfall(pool)
    tables |= {"waterfall": cash.table, "waterfall_months": cash.months}
    assert {f"{name}.parquet" for name in tables} == set(schemas.ANSWERS)
    for path in write_answers(tmp_path / "out", tables):
        table, schema = pq.read_table(path), schemas.ANSWERS[path.name]
        for column in table.schema:
            schema.field_of(column.name)
        assert {f.name for f in schema.fixed} - {"utilisation"} <= set(table.column_names)
    write_answers(tmp_path / "out", tables, "csv")
    with pytest.raises(UsageError, match="not empty"):
        write_answers(tmp_path, tables)


def test_text_files_hold_no_formulas(tmp_path):
    frame = pd.DataFrame({"path": [1, 1], "obligor_id": ["=HYPERLINK(1)", "b"], "month": [3, 4]})
    (path,) = write_answers(tmp_path / "out", {"replay_parties": frame}, "csv")
    assert path.read_text() == "path,obligor_id,month\n1,'=HYPERLINK(1),3\n1,b,4\n"
