"""Runs that are stopped and go on: the same integers and the same files as one that was not."""

import dataclasses
import hashlib
import json
import shutil

import numpy as np
import pyarrow
import pytest

from gpuloan_mc import SavedRun, path_rows, run_folder, simulation
from gpuloan_mc.chunks import BadChunk, Chunk, RunKey, read_chunk, write_chunk
from gpuloan_mc.engines.numpy_reference import NumpyReference
from gpuloan_mc.errors import EnvironmentProblem, Interrupted, UsageError
from gpuloan_mc.files import WholeFile
from gpuloan_mc.ledger import Ledger
from gpuloan_mc.lock import FolderLock
from gpuloan_mc.manifest import MANIFEST, sealed
from gpuloan_mc.simulation import resume, simulate
from gpuloan_mc.verification import verify

N = 260


@pytest.fixture(autouse=True)
def a_file_a_chunk(monkeypatch):
    monkeypatch.setattr(run_folder, "_SECONDS", 0.0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, busy_run):
    """An undisturbed run on the reference engine, and its folder."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    portfolio = busy_run.portfolio
    return folder, simulate(portfolio, portfolio.market, n_paths=N, seed=5, engine="numpy", out=folder)


def stopped(folder, whole, after=120, n_paths=N, **options):
    """The same run stopped after so many paths."""

    def stop(done, _):
        if done >= after:
            raise KeyboardInterrupt

    portfolio = whole[1].portfolio
    options = {"seed": 5, "engine": "numpy", "chunk": 40} | options
    with pytest.raises(Interrupted) as told:
        simulate(portfolio, portfolio.market, n_paths=n_paths, out=folder, progress=stop, **options)
    return str(told.value)


def chunks(folder):
    return sorted((folder / "chunks").glob("*.chunk"))


def data_files(folder):
    """Digests of all files but those that hold timings."""
    files = (p for p in folder.rglob("*") if p.is_file() and p.name not in (MANIFEST, "summary.json"))
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_a_stopped_run_goes_on_to_the_same_files(tmp_path, whole):
    out = tmp_path / "a run"
    text = stopped(out, whole)
    assert "stopped after 120 of 260 paths: expected loss" in text
    assert "ES 99 %" in text
    assert text.endswith(f"go on with: gpuloan-mc resume '{out}'")
    assert len(chunks(out)) == 3
    ran = []
    found = resume(out, chunk=70, progress=lambda done, _: ran.append(done))
    assert ran == [120, 190, 260]
    assert found.digest == whole[1].digest
    assert data_files(out) == data_files(whole[0])
    mine, other = (json.loads((f / MANIFEST).read_text()) for f in (out, whole[0]))
    for key in ("timings", "files", "checksum"):
        del mine[key], other[key]
    assert mine == other
    assert list(mine) == list(other)


def test_a_finished_run_is_read_again(whole):
    before = data_files(whole[0])
    (whole[0] / "chunks").mkdir()
    (whole[0] / "chunks" / "left.chunk").write_bytes(b"by a run killed at its very end")
    found = resume(whole[0])
    assert found.to_json_dict() | {"compile_seconds": 0, "timings": 0, "loan_steps_per_second": 0} == whole[
        1
    ].to_json_dict() | {"compile_seconds": 0, "timings": 0, "loan_steps_per_second": 0}
    assert found.timeline.equals(whole[1].timeline)
    assert data_files(whole[0]) == before


@pytest.mark.parametrize("price_paths", [10_000, 100])
def test_paths_are_added_exactly(tmp_path, whole, monkeypatch, price_paths):
    for module in ("ledger", "simulation", "workforce"):
        monkeypatch.setattr(f"gpuloan_mc.{module}.PRICE_PATHS", price_paths)
    portfolio = whole[1].portfolio
    options = {"seed": 5, "engine": "numpy"}
    simulate(portfolio, portfolio.market, n_paths=90, out=tmp_path / "more", **options)
    found = resume(tmp_path / "more", extend_paths=170)
    found = resume(tmp_path / "more", extend_paths=N, engine="numba")
    again = simulate(portfolio, portfolio.market, n_paths=N, out=tmp_path / "fresh", **options)
    assert found.digest == again.digest == whole[1].digest
    assert data_files(tmp_path / "more") == data_files(tmp_path / "fresh")
    with pytest.raises(UsageError, match="is a run of 260 paths already; extend it to more"):
        resume(tmp_path / "more", extend_paths=N)


@pytest.fixture
def short(tmp_path, whole):
    """A finished run of fewer paths, read a few rows at a time."""
    portfolio = whole[1].portfolio
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(path_rows, "_ROWS_AT_ONCE", 30)
        simulate(portfolio, portfolio.market, n_paths=100, seed=5, engine="numpy", out=tmp_path / "short")
        yield tmp_path / "short"


def stop_extending(folder, after=180):
    def stop(done, _):
        if done >= after:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        resume(folder, extend_paths=N, chunk=40, progress=stop)


def test_an_extension_that_is_stopped_goes_on_to_the_same_files(short, whole):
    stop_extending(short)
    found = verify(short, engine="numba", sample=100)
    assert found.agrees
    assert (found.n_paths, found.compared) == (180, 180)
    ran = []
    assert resume(short, chunk=1000, progress=lambda done, _: ran.append(done)).digest == whole[1].digest
    assert ran == [180, N]
    assert data_files(short) == data_files(whole[0])


def test_a_finished_run_is_read_a_few_rows_at_a_time(short, whole):
    with run_folder.RunFolder(short) as place:
        place.reopen()
        tables = [chunk.table for chunk in place._there(100)]
    assert [(t.first_path, len(t.loss)) for t in tables] == [(0, 30), (30, 30), (60, 30), (90, 10)]
    assert np.array_equal(np.concatenate([t.loss for t in tables]), whole[1].losses[:100])
    assert [int(t.by_loan.defaults.sum()) > 0 for t in tables] == [True, False, False, False]
    assert sum(int(t.defaults.sum()) for t in tables) == tables[0].by_loan.defaults.sum()


def test_reading_paths_keeps_none_of_them(tmp_path, whole, monkeypatch):
    monkeypatch.setattr(path_rows, "ROWS_A_GROUP", 10_000)
    chance, n = np.random.default_rng(1), 300_000  # incompressible: 13 MB
    columns = {name: chance.integers(0, 1 << 30, n) for name in path_rows.COLUMNS}
    columns["defaults"] = columns["defaults"].astype(np.int32)
    table = dataclasses.replace(NumpyReference().run(whole[1].plan, 5, 0, 1), **columns)
    with WholeFile(tmp_path / "paths.parquet") as stream:
        assert path_rows.write_rows(stream, iter([table])) == n
    before, most, firsts = pyarrow.total_allocated_bytes(), 0, []
    for first, rows in path_rows.read_rows(tmp_path / "paths.parquet"):
        assert np.array_equal(rows["loss"], table.loss[first : first + 10_000])
        most = max(most, pyarrow.total_allocated_bytes() - before)
        firsts.append(first)
    assert firsts == list(range(0, n, 10_000))
    assert most < 4_000_000


@pytest.mark.parametrize("name", ["paths.parquet", "totals.bin"])
def test_a_finished_run_damaged_while_it_is_extended_is_run_again(short, whole, name):
    stop_extending(short)
    file = short / "chunks" / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    file.write_bytes(data)
    assert verify(short, engine="numpy").unreadable == (f"{file}: damaged",)
    told, ran = [], []
    found = resume(short, chunk=1000, tell=told.append, progress=lambda done, _: ran.append(done))
    assert told == [f"{file}: damaged; its paths are run again"]
    assert ran == [80, 180, N]
    assert found.digest == whole[1].digest
    assert data_files(short) == data_files(whole[0])


def test_a_damaged_run_is_not_extended(short):
    (short / "totals.bin").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"totals\.bin was changed or damaged since the run"):
        resume(short, extend_paths=N)
    assert SavedRun.read(short).n_paths == 100


def test_paths_of_an_extension_are_not_overwritten(short):
    stop_extending(short, after=100)
    with pytest.raises(UsageError, match="holds paths of a run that was not finished"):
        run_folder.prepare_run_folder(short)


def test_a_finished_run_is_verified_while_its_folder_is_held(whole):
    with FolderLock(whole[0]):
        assert verify(whole[0], engine="numba").agrees


def test_an_unfinished_run_is_extended(tmp_path, whole):
    stopped(tmp_path / "out", whole, after=80, n_paths=100)
    assert resume(tmp_path / "out", extend_paths=N).digest == whole[1].digest


def test_only_what_is_damaged_is_run_again(tmp_path, whole):
    out = tmp_path / "out"
    stopped(out, whole)
    second = chunks(out)[1]
    data = bytearray(second.read_bytes())
    data[len(data) // 2] ^= 4
    second.write_bytes(data)
    found = verify(out, engine="numpy")
    assert not found.agrees
    assert found.unreadable == (f"{second}: damaged",)
    ran, told = [], []
    found = resume(out, chunk=1000, progress=lambda done, _: ran.append(done), tell=told.append)
    assert found.digest == whole[1].digest
    assert ran == [80, 120, 260]
    assert told == [f"{second}: damaged; its paths are run again"]
    assert data_files(out) == data_files(whole[0])


def test_a_changed_book_seed_or_version_is_refused(tmp_path, whole):
    stopped(tmp_path / "out", whole)
    for file, change, text in (
        (MANIFEST, lambda data: data.replace(b'"seed": 5', b'"seed": 6'), "was changed or damaged since it was written"),
        (MANIFEST, lambda data: sealed(json.loads(data) | {"version": "0.0.9"}), "its version is '0.0.9', and this version"),
        (MANIFEST, lambda data: sealed(json.loads(data) | {"rng_scheme": "x"}), "its rng_scheme is 'x'"),
        (MANIFEST, lambda data: sealed(json.loads(data) | {"plan_digest": "x"}), "its book is not the one of its manifest"),
        ("inputs/loans.parquet", lambda data: data[:-1] + b"0", "inputs/loans.parquet was changed or damaged"),
        ("inputs/market.toml", lambda data: data + b"\n", "inputs/market.toml was changed or damaged"),
    ):  # fmt: skip
        copy = tmp_path / "copy"
        shutil.copytree(tmp_path / "out", copy)
        (copy / file).write_bytes(change((copy / file).read_bytes()))
        with pytest.raises(UsageError, match=text):
            resume(copy)
        shutil.rmtree(copy)


def test_no_run_to_go_on_with(tmp_path, whole):
    with pytest.raises(UsageError, match="is no folder; name a folder written by gpuloan-mc run"):
        resume(tmp_path / "none")
    (tmp_path / MANIFEST).write_bytes(sealed({"complete": False}))
    with pytest.raises(UsageError, match="was stopped before its first path"):
        resume(tmp_path)


def test_a_disk_too_small_is_told_before_the_start(tmp_path, whole, monkeypatch):
    monkeypatch.setattr(run_folder, "free_bytes", lambda path: 10_000)
    portfolio = whole[1].portfolio
    with pytest.raises(EnvironmentProblem, match=r"1,000 paths take about [\d,]+ bytes, and 10,000 are free there"):
        simulate(portfolio, portfolio.market, n_paths=1000, engine="numpy", out=tmp_path / "out")


def test_verify_names_the_path_that_is_another(tmp_path, whole, monkeypatch):
    found = verify(whole[0], engine="numba", sample=3)
    assert found.agrees
    assert (found.engine, found.n_paths, found.compared) == ("numba", N, N)
    run = NumpyReference.run

    def wrong(self, plan, seed, first_path, n_paths, *, prices=False):
        table = run(self, plan, seed, first_path, n_paths, prices=prices)
        table.largest_loss[7] += 1
        return table

    monkeypatch.setattr(NumpyReference, "run", wrong)
    assert verify(whole[0], engine="numpy").different == (7,)


def test_a_chunk_survives_writing_and_no_bit_may_change(tmp_path, whole):
    plan = whole[1].plan
    key = RunKey("1", "scheme", plan.digest, 2**64 - 1)
    table = NumpyReference().run(plan, 5, 30, 20, prices=True)
    write_chunk(tmp_path / "c", key, Chunk(table, 1.5))
    found = read_chunk(tmp_path / "c", key)
    assert found.seconds == 1.5
    ledgers = [Ledger(plan, 50) for _ in range(2)]
    for ledger, piece in zip(ledgers, (table, found.table), strict=True):
        ledger.add(piece)
    for name in ("losses", "discounted_losses", "defaults", "loan_cause_defaults", "loan_cause_loss", "prices"):
        assert np.array_equal(*(getattr(ledger, name) for ledger in ledgers)), name
    for name in ("by_loan", "by_group"):
        for one, other in zip(*(getattr(ledger, name).arrays() for ledger in ledgers), strict=True):
            assert np.array_equal(one, other)
    with pytest.raises(BadChunk, match="of another run: its seed is 18446744073709551615, not 3"):
        read_chunk(tmp_path / "c", dataclasses.replace(key, seed=3))
    data = (tmp_path / "c").read_bytes()
    for place in np.linspace(0, len(data) - 1, 60).astype(int):
        (tmp_path / "c").write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(BadChunk, match="damaged"):
            read_chunk(tmp_path / "c", key)


def test_a_ledger_knows_its_gaps(whole):
    ledger, plan = Ledger(whole[1].plan, 100), whole[1].plan
    assert ledger.gap(100) == (0, 100)
    for first, n in ((20, 10), (60, 40), (30, 5)):
        ledger.add(NumpyReference().run(plan, 5, first, n))
    assert ledger.ranges == [(20, 35), (60, 100)]
    assert (ledger.done, ledger.end, ledger.gap(100), ledger.gap(10)) == (55, 100, (0, 20), (0, 10))
    ledger.add(NumpyReference().run(plan, 5, 0, 20))
    assert ledger.gap(100) == (35, 60)
    ledger.add(NumpyReference().run(plan, 5, 35, 25))
    assert ledger.gap(100) is None
    assert np.array_equal(np.concatenate(list(ledger.known_losses())), whole[1].losses[:100])


def test_a_run_goes_on_after_a_full_disk(tmp_path, whole, monkeypatch):
    def full(*_):
        raise EnvironmentProblem("no space")

    with monkeypatch.context() as patched:
        patched.setattr(simulation.RunFolder, "_write_paths", full)
        with pytest.raises(EnvironmentProblem, match=r"no space\nwhat is done is safe; go on with: gpuloan-mc resume"):
            stopped(tmp_path / "out", whole, after=1000)
    assert resume(tmp_path / "out").digest == whole[1].digest
