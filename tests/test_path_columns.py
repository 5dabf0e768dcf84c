"""Columns too long for memory: the same values, the same order and the same figures as those that are not."""

import subprocess
import sys

import numpy as np
import pytest

from gpuloan_mc import path_columns
from gpuloan_mc.errors import EnvironmentProblem
from gpuloan_mc.path_columns import Column, blocks, ordered, where
from gpuloan_mc.saved_run import SavedRun
from gpuloan_mc.simulation import simulate

RNG = np.random.default_rng(20)
SAMPLES = {
    "distinct": RNG.permutation(5000),
    "ties": RNG.integers(0, 40, 5000),
    "an atom": np.where(RNG.random(5000) < 0.9, 0, RNG.integers(0, 2**62, 5000)),
    "equal": np.full(5000, 7),
    "falling": np.arange(5000)[::-1],
    "extremes": np.concatenate([np.full(2500, -(2**63)), np.full(2500, 2**63 - 1)]),
}


@pytest.fixture
def little_memory(monkeypatch):
    """Columns of more than 100 values go into files, and are sorted 96 at a time."""
    monkeypatch.setattr(path_columns, "IN_MEMORY", 100)
    monkeypatch.setattr(path_columns, "_RUN", 96)
    monkeypatch.setattr(path_columns, "_AT_ONCE", 64)


def column(values):
    made = Column(len(values), values.dtype.type)
    for first in range(0, len(values), 77):
        made.write(first, values[first : first + 77])
    return made.values


@pytest.mark.parametrize("name", SAMPLES)
def test_a_column_in_a_file_is_read_and_sorted_like_an_array(little_memory, name):
    values = SAMPLES[name].astype(np.int64)
    found = column(values)
    assert isinstance(found, np.memmap)
    np.testing.assert_array_equal(found, values)
    np.testing.assert_array_equal(ordered(found), np.sort(values))
    np.testing.assert_array_equal(np.concatenate(list(blocks(found))), values)
    middle = np.median(values)
    np.testing.assert_array_equal(where(found, lambda x: x > middle), np.nonzero(values > middle)[0])


def test_a_short_column_is_an_array():
    found = column(np.arange(50, dtype=np.int32))
    assert not isinstance(found, np.memmap)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(ordered(found[::-1]), np.arange(50))


def test_no_name_is_left_behind(little_memory, tmp_path, monkeypatch):
    monkeypatch.setattr(path_columns.tempfile, "tempdir", str(tmp_path))
    kept = ordered(column(np.arange(1000)))
    assert list(tmp_path.iterdir()) == []
    assert kept[999] == 999


def test_too_little_room_is_told_before(little_memory, monkeypatch):
    monkeypatch.setattr(path_columns, "free_bytes", lambda _: 799)
    with pytest.raises(EnvironmentProblem, match=r"799 bytes free, and columns of the run take 808 there.*TMPDIR"):
        Column(101, np.int64)


def test_room_is_looked_at_for_all_columns_before_a_run(little_memory, monkeypatch, busy_run):
    """Files grow as they are written: each alone would find the room that all of them need."""
    monkeypatch.setattr(path_columns, "free_bytes", lambda _: 36 * 200 - 1)
    portfolio = busy_run.portfolio
    with pytest.raises(EnvironmentProblem, match="columns of the run take 7,200 there"):
        simulate(portfolio, portfolio.market, n_paths=200, engine="numpy")


def test_a_disk_that_fills_up_is_told(little_memory, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    found = Column(101, np.int64)
    monkeypatch.setattr(path_columns.os, "pwrite", full)
    with pytest.raises(EnvironmentProblem, match="ENOSPC"):
        found.write(0, np.arange(101))


def test_a_run_in_files_says_what_one_in_memory_says(little_memory, tmp_path, busy_run):
    portfolio = busy_run.portfolio
    run = {"n_paths": 330, "seed": 5, "engine": "numpy", "chunk": 70}
    long = simulate(portfolio, portfolio.market, **run, out=tmp_path / "long")
    read = SavedRun.read(tmp_path / "long")
    for found in (long, read):
        assert isinstance(found.losses, np.memmap)
        assert isinstance(found.ordered, np.memmap)
    path_columns.IN_MEMORY = 1 << 20
    short = simulate(portfolio, portfolio.market, **run)
    assert not isinstance(short.losses, np.memmap)
    for found in (long, read):
        assert found.digest == short.digest
        assert found.figures == short.figures
        assert found.loss_distribution.equals(short.loss_distribution)
        assert found.worst(330).tolist() == short.worst(330).tolist()
        assert found.convergence().equals(short.convergence())
        for name in ("beyond", "tied", "window"):
            mine, other = (getattr(x.contributions(0.9).tail, name) for x in (found, short))
            assert mine.tolist() == other.tolist()
    assert long.summary().equals(short.summary())
    for found in (long, read, short):
        assert not found.losses.flags.writeable
        assert not found.ordered.flags.writeable


_LONG_RUN = """
import re, gpuloan_mc as g
market = g.Market.read("vasicek-100")
portfolio = g.Portfolio.read("vasicek-100", market)
run = g.simulate(portfolio, market, n_paths={n_paths}, engine="numba")
peak = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]  # not ru_maxrss: it begins as the parent's
print(run.to_json_dict()["expected_shortfall"]["0.999"], int(peak) // 1024)
"""


@pytest.mark.slow
def test_a_long_run_stays_in_bounds():
    """10⁸ paths: 2.8 GB of columns; a run of 10⁹ takes hardly more memory."""
    done = subprocess.run(
        [sys.executable, "-c", _LONG_RUN.format(n_paths=10**8)], capture_output=True, text=True, check=True
    )
    assert float(done.stdout.split()[1]) < 1500
