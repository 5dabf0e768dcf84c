"""Runs in odd surroundings and with little memory: the same digest, or a sentence."""

import importlib.util
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gpuloan_mc import run_folder
from gpuloan_mc.engines.cuda_layout import lay_out
from gpuloan_mc.engines.cupy_raw import CupyRaw
from gpuloan_mc.engines.numpy_reference import NumpyReference
from gpuloan_mc.errors import EnvironmentProblem
from gpuloan_mc.planning import build_plan

pytestmark = pytest.mark.faults
PACKAGE = str(Path(run_folder.__file__).parents[1])
COMMAND = [sys.executable, "-P", "-W", "error", "-m", "gpuloan_mc.cli", "run", "vasicek-100", "--engine", "numpy"]
DIGEST = '"digest": "'


def run(out, *options, environment=None, **process):
    """Exit code, digest and errors of a run in a process of its own."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "LANG", "TZ"))}
    environment = inherited | {"PYTHONPATH": PACKAGE, "OPENBLAS_NUM_THREADS": "1"} | (environment or {})
    environment = {key: value for key, value in environment.items() if value is not None}
    command = [*COMMAND, "--paths", "2000", "--json", "--out", str(out), *options]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", env=environment, timeout=120, **process)
    found = done.stdout.split(DIGEST)[1][:64] if DIGEST in done.stdout else None
    return done.returncode, found, done.stderr


@pytest.fixture(scope="module")
def digest(tmp_path_factory):
    code, found, _ = run(tmp_path_factory.mktemp("undisturbed") / "run")
    assert code == 0
    return found


ENVIRONMENTS = {
    "locale C": {"LC_ALL": "C"},
    "locale POSIX, no UTF-8 mode": {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    "German locale": {"LC_ALL": "de_DE.UTF-8"},
    "Turkish locale": {"LC_ALL": "tr_TR.UTF-8"},
    "a day ahead": {"TZ": "Pacific/Kiritimati"},
    "no such time zone": {"TZ": "Nowhere/At_All"},
    "no home": {"HOME": None, "XDG_CACHE_HOME": None},
    "a home that is not there": {"HOME": "/nowhere/at/all", "XDG_CACHE_HOME": None},
    "a home that can't be written": {"HOME": "/proc", "XDG_CACHE_HOME": "/proc"},
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_odd_environments(tmp_path, digest, name):
    assert run(tmp_path / "run", environment=ENVIRONMENTS[name])[:2] == (0, digest)


@pytest.mark.parametrize("mask", [0o000, 0o077, 0o777])
def test_odd_masks(tmp_path, digest, mask):
    code, found, told = run(tmp_path / "run", preexec_fn=lambda: os.umask(mask))
    assert (code, found) == (0, digest) or (mask == 0o777 and code in (2, 4) and "Traceback" not in told), told


def test_odd_names(tmp_path, digest):
    assert run(tmp_path / "ein Lauf – 道 'q' \"d\" $x")[:2] == (0, digest)


def test_a_working_folder_that_has_gone(tmp_path, digest):
    gone = tmp_path / "gone"
    gone.mkdir()
    assert run(tmp_path / "run", cwd=gone, preexec_fn=lambda: os.rmdir(gone))[:2] == (0, digest)


def test_a_folder_that_cannot_be_written():
    code, _, told = run("/proc/a run")
    assert code == 2
    assert told.count("\n") == 1
    assert "/proc/a run" in told


FORK = """
import os, sys
import gpuloan_mc
market = gpuloan_mc.Market.read("vasicek-100")
book = gpuloan_mc.Portfolio.read("vasicek-100", market)
before = gpuloan_mc.simulate(book, market, n_paths=30_000, engine="numba").digest
child = os.fork()
if child == 0:
    os._exit(0 if gpuloan_mc.simulate(book, market, n_paths=30_000, engine="numba").digest == before else 9)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_child_forked_after_a_run(record):
    done = subprocess.run([sys.executable, "-c", FORK], env=os.environ | {"PYTHONPATH": PACKAGE}, timeout=200)
    assert done.returncode == 0
    record("surroundings", cases=len(ENVIRONMENTS) + 3 + 4)


# --- memory -----------------------------------------------------------------------------------------------------------


def test_little_memory_of_the_host(tmp_path, digest, record):
    """From far too little to enough: a sentence, then the digest.

    Where the tables of Arrow's text functions find no room its C++ aborts, which nobody can catch, and other extensions
    return without saying why. That is a matter of a few megabytes, which move with every version of a package.
    """
    codes = []
    for step, limit in enumerate((200, 300, 800, 1600, 6400)):
        def limited(n=limit * 2**20):
            resource.setrlimit(resource.RLIMIT_AS, (n, n))

        code, found, told = run(tmp_path / str(step), preexec_fn=limited)
        if limit == 300 and code == -signal.SIGABRT:
            assert "std::bad_alloc" in told, (limit, told)
            continue
        if limit == 300 and code == 70:
            assert "SystemError: error return without exception set" in told, (limit, told)
            continue
        assert (code, found) == (0, digest) or code == 4, (limit, told)
        assert "Traceback" not in told, told
        codes.append(code)
    assert codes[0] == 4
    assert codes[-1] == 0
    record("host memory", limits=5)


def _fake():
    path = Path(__file__).parents[1] / "engines" / "fake_device.py"
    spec = importlib.util.spec_from_file_location("fake_device", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_allocation_on_the_device_fails(small_book, record):
    """The n-th: smaller chunks and the same integers, or what is needed and what is free."""
    fake, plan = _fake(), build_plan(small_book, small_book.market)
    chunks = [(first, 2500) for first in range(0, 15_000, 2500)]
    theirs = [NumpyReference().run(plan, 5, *chunk) for chunk in chunks]
    refused, halved, of_plan = 0, 0, len(lay_out(plan).arrays)
    for n in range(of_plan - 19, of_plan + 41):
        device = fake.FakeDevice(0, 2**30, fake.ReferenceKernels(plan))
        make, calls = device._buffer, []

        def failing(*arguments, make=make, calls=calls, n=n):
            calls.append(1)
            if len(calls) == n:
                raise fake.OutOfDeviceMemory("the n-th")
            return make(*arguments)

        device._buffer = failing
        engine = CupyRaw((0,), connect=lambda _: device)  # noqa: B023
        try:
            ours = [engine.run(plan, 5, *chunk) for chunk in chunks]
        except EnvironmentProblem as problem:
            assert n <= of_plan, problem
            assert "MiB needed, 1,02" in str(problem)
            refused += 1
            continue
        assert n > of_plan
        for mine, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(mine.loss, other.loss)
            np.testing.assert_array_equal(mine.loan_cause_loss, other.loan_cause_loss)
        halved += len(calls) >= n
    assert (refused, halved) == (20, 40)  # of the plan there is nothing smaller
    record("device memory", allocations=60, refused=refused)
