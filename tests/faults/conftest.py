"""Counts of faults, kept for docs/reliability.md, and the small book that they run."""

import importlib.util
import shutil
from pathlib import Path

import pandas as pd
import pytest

from gpuloan_mc import run_folder
from gpuloan_mc.example import write_example
from gpuloan_mc.portfolio import Portfolio
from gpuloan_mc.simulation import simulate

from .damage import N, stop_after


def load(name):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


page = load("page")


@pytest.fixture
def record(request):
    """Take a test's counts; `pytest -m faults --record-faults` writes them into the page."""

    def take(name, **counts):
        if request.config.getoption("--record-faults"):
            page.keep(name, counts)

    return take


@pytest.fixture
def reliability():
    """The page's module."""
    return page


@pytest.fixture(scope="module")
def small_book():
    """Six loans that default often."""
    return load("forks").small_book()


@pytest.fixture(scope="module")
def a_file_a_chunk():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_folder, "_SECONDS", 0.0)
        yield


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory, small_book, a_file_a_chunk):
    """A run with three of six chunks done, one of another seed, and the digest of the whole."""
    folder, other = tmp_path_factory.mktemp("faults") / "run", tmp_path_factory.mktemp("other") / "run"
    stop_after(folder, small_book, 5, 120)
    stop_after(other, small_book, 6, 120)
    return folder, other, simulate(small_book, small_book.market, n_paths=N, seed=5, engine="numpy").digest


@pytest.fixture(scope="module")
def books(tmp_path_factory):
    """A book with CSV tapes, and the same with Parquet."""
    csv, parquet = (tmp_path_factory.mktemp(name) / "book" for name in ("csv", "parquet"))
    write_example(csv, n_loans=30, seed=2)
    shutil.copytree(csv, parquet)
    for tape in parquet.glob("*.csv"):
        pd.read_csv(tape).to_parquet(tape.with_suffix(".parquet"), index=False)
        tape.unlink()
    for book in (csv, parquet):
        Portfolio.read(book)
    return csv, parquet
