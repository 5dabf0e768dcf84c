"""How the numba engine runs: vectorised loops, the cache of machine code, other CPUs, workers, Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import gpuloan_mc
from gpuloan_mc.engines import choice, code_cache, numba_compile, numba_halves
from gpuloan_mc.engines.numba_cpu import NumbaCpu
from gpuloan_mc.engines.pace import Pace
from gpuloan_mc.errors import EnvironmentProblem, UsageError
from gpuloan_mc.planning import build_plan
from gpuloan_mc.portfolio import Portfolio
from gpuloan_mc.simulation import simulate

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(gpuloan_mc.__file__).parent.parent)}
COMMAND = [sys.executable, "-P", "-W", "error", "-m", "gpuloan_mc.cli"]
pytestmark = pytest.mark.usefixtures("machine_code")


def run_json(*arguments, **environment):
    done = subprocess.run(
        [*COMMAND, "run", *map(str, arguments), "--json"],
        capture_output=True, text=True, env=ENVIRONMENT | {k: str(v) for k, v in environment.items()}, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# --- other CPUs -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_other_cpus_give_the_same_digest(tmp_path):
    plain = run_json("neocloud-2024", "--paths", 300)
    other = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "GPULOAN_MC_CACHE": tmp_path}
    generic = run_json("neocloud-2024", "--paths", 300, **other)
    features = " ".join(("AVX512F", "AVX512_SKX", "AVX2", "FMA3"))
    numpy_ = run_json(
        "neocloud-2024", "--paths", 300, "--engine", "numpy", NPY_DISABLE_CPU_FEATURES=available(features)
    )
    assert plain["digest"] == generic["digest"] == numpy_["digest"]


def available(features):
    """Those of NumPy's dispatched CPU features that are on here: it warns about the others."""
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    return " ".join(f for f in features.split() if f in __cpu_dispatch__ and __cpu_features__.get(f))


# --- cache ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_eight_processes_on_a_cold_cache_all_succeed(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: run_json("vasicek-100", "--paths", 100, GPULOAN_MC_CACHE=tmp_path), range(8)))
    assert len({f["digest"] for f in found}) == 1
    assert run_json("vasicek-100", "--paths", 100, GPULOAN_MC_CACHE=tmp_path)["compile_seconds"] < 5


def test_a_warm_start_is_quick():
    """In units of what the packages that a run rests on take to be imported, in turn: machines are fast, slow and busy."""
    run_json("vasicek-100", "--paths", 10)  # warm from here on
    imports, runs = [], []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import numba, pandas, pyarrow, pydantic"], check=True, env=ENVIRONMENT)
        middle = time.perf_counter()
        found = run_json("vasicek-100", "--paths", 10_000)
        imports.append(middle - start)
        runs.append(time.perf_counter() - middle)
    assert min(runs) < 3.5 * min(imports)
    assert found["compile_seconds"] < min(runs)


def test_the_folder_is_keyed_by_sources_and_cpu(monkeypatch, tmp_path):
    monkeypatch.setenv(code_cache.CACHE, str(tmp_path))
    folder = numba_compile.cache_folder()
    assert folder == tmp_path / f"code-{numba_compile.key()}"
    assert not numba_halves.is_warm()


def test_a_named_folder_that_cannot_be_written_is_an_error(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(code_cache.CACHE, str(tmp_path / "file"))
    with pytest.raises(EnvironmentProblem, match="can't be written"):
        numba_compile.cache_folder()


def test_a_home_that_cannot_be_written_gives_way_to_a_temporary_folder(monkeypatch, tmp_path):
    monkeypatch.delenv(code_cache.CACHE, raising=False)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(code_cache.tempfile, "gettempdir", lambda: str(tmp_path))
    folder = numba_compile.cache_folder()
    assert folder is not None
    assert folder.parent.parent == tmp_path
    assert folder.parent.stat().st_mode & 0o077 == 0


def test_others_cannot_plant_machine_code(monkeypatch, tmp_path):
    monkeypatch.setattr(code_cache.tempfile, "gettempdir", lambda: str(tmp_path))
    user = os.getuid() if hasattr(os, "getuid") else 0
    (tmp_path / f"gpuloan-mc-{user}").mkdir()
    (tmp_path / f"gpuloan-mc-{user}").chmod(0o777)
    assert code_cache.temporary() is None


# --- choice of engine, workers, pace ----------------------------------------------------------------------------------


def test_engines_and_workers_that_do_not_go_together():
    with pytest.raises(UsageError, match="auto, cuda, numba-cuda, numba, numpy"):
        choice.choose_engine("gpu")
    with pytest.raises(UsageError, match="one core"):
        choice.make_engine("numpy", 2)




def test_a_broken_numba_is_an_error_with_a_way_out(monkeypatch):
    portfolio = Portfolio.read("vasicek-100")
    monkeypatch.setitem(sys.modules, "numba", None)  # importing it fails
    with pytest.raises(EnvironmentProblem, match=r"numba can't be imported.*pip install.*engine numpy|engine 'numpy'"):
        simulate(portfolio, portfolio.market, n_paths=10)


def test_a_failing_compiler_is_an_error_with_a_way_out(monkeypatch):
    def broken(*_):
        raise RuntimeError("no target for this CPU")

    portfolio = Portfolio.read("vasicek-100")
    monkeypatch.setattr(numba_halves, "_loops", {})
    monkeypatch.setattr(numba_compile, "_compiled", {})
    monkeypatch.setattr(numba_compile, "_dispatcher", broken)
    with pytest.raises(EnvironmentProblem, match="no target for this CPU"):
        simulate(portfolio, portfolio.market, n_paths=10)


def test_a_chunk_takes_about_a_second(monkeypatch):
    clock = iter([0, 0.01, 0.01, 2.01, 3, 13])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    pace = Pace(100, 1000)
    pace.timed(lambda: None)
    assert pace.size == 400  # at most four times the last
    pace.timed(lambda: None)
    assert pace.size == 200
    pace.timed(lambda: None)
    assert pace.size == 100  # fewer than the first would be no sooner


def test_workers_share_all_paths():
    plan = build_plan(portfolio := Portfolio.read("vasicek-100"), portfolio.market)
    tables = [NumbaCpu(w).run(plan, 1, 5, 999) for w in (1, 2, 5)]
    assert all(np.array_equal(tables[0].loss, t.loss) for t in tables)


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------


@pytest.mark.faults
def test_ctrl_c_stops_within_a_second_and_says_what_is_known():
    run_json("neocloud-2024", "--paths", 10)  # warm
    process = subprocess.Popen(
        [*COMMAND, "run", "neocloud-2024", "--paths", "1000000000"], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=ENVIRONMENT,
    )  # fmt: skip
    time.sleep(6)
    start = time.perf_counter()
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    seconds = time.perf_counter() - start
    assert process.returncode == 5
    assert re.search(
        r"stopped after [\d,]+ of 1,000,000,000 paths: expected loss [\d,]+ ± [\d,]+ dollars so far", error
    )
    assert seconds < 1.5
