"""The first run: paths on numpy while a child compiles numba, and the same integers wherever it switches."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import gpuloan_mc
from gpuloan_mc import cli, first_run, news, simulation
from gpuloan_mc.engine_paths import EnginePaths, other_engines
from gpuloan_mc.engines import code_cache, cores, numba_child, numba_compile, numba_halves
from gpuloan_mc.engines.code_cache import CACHE
from gpuloan_mc.engines.numba_child import CompilingChild
from gpuloan_mc.engines.numba_cpu import NumbaCpu
from gpuloan_mc.errors import EnvironmentProblem, Interrupted
from gpuloan_mc.planning import build_plan
from gpuloan_mc.portfolio import Portfolio
from gpuloan_mc.simulation import resume, simulate

N, SEED, CHUNK = 400, 5, 90
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(gpuloan_mc.__file__).parent.parent)}
FILES = ("paths.parquet", "totals.bin", "loans.parquet", "timeline.parquet", "segments.parquet", "loss_distribution.parquet")


class FakeChild:
    """A child that is ready when it has been asked so often, or fails then."""

    def __init__(self, ready_after: int, problem: str = "") -> None:
        self.asked, self.ended, self._after, self._problem = 0, False, ready_after, problem

    def is_ready(self) -> bool:
        self.asked += 1
        if self.asked <= self._after:
            return False
        if self._problem:
            raise EnvironmentProblem(self._problem)
        return True

    def end(self) -> None:
        self.ended = True


@pytest.fixture
def begin(monkeypatch):
    """Let `auto` begin on numpy, with a child that is ready after so many chunks."""

    def begun(ready_after, problem=""):
        child = FakeChild(ready_after, problem)
        monkeypatch.setattr(simulation, "compiling_child", lambda: child)
        return child

    return begun


@pytest.fixture
def forbid(monkeypatch):
    def begun():
        raise AssertionError("a child was begun")

    monkeypatch.setattr(simulation, "compiling_child", begun)


@pytest.fixture(scope="module")
def book(busy_book):
    return busy_book()


def run(book, **how):
    world, portfolio = book
    return simulate(portfolio, world, **({"n_paths": N, "seed": SEED, "chunk": CHUNK} | how))


def ranges(result):
    return [(row["engine"], row["first_path"], row["n_paths"]) for row in result.engine_paths]


# --- the same integers, and who computed them ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ready_after", "expected"),
    [
        (0, [("numba", 0, 400)]),
        (1, [("numpy", 0, 90), ("numba", 90, 310)]),
        (3, [("numpy", 0, 270), ("numba", 270, 130)]),
        (99, [("numpy", 0, 400)]),
    ],
)
def test_a_run_that_switches_has_the_integers_of_one_that_does_not(book, begin, busy_run, tmp_path, ready_after, expected):
    child = begin(ready_after)
    found = run(book, out=tmp_path / "first")
    assert ranges(found) == expected
    assert (found.engine, found.digest) == ("numba", busy_run.digest)
    assert found.engine_reason.startswith("auto: numba; ")
    assert np.array_equal(found.prices, busy_run.prices)
    assert child.ended == (ready_after < 99)  # one that compiles still is its keeper's
    whole = run(book, engine="numba", out=tmp_path / "whole")
    assert ranges(whole) == [("numba", 0, 400)]
    for name in FILES:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    manifest = json.loads((tmp_path / "first" / "manifest.json").read_text())
    rows = [{"engine": engine, "first_path": first, "n_paths": n} for engine, first, n in expected]
    assert manifest["engine_paths"] == rows
    assert json.loads((tmp_path / "first" / "summary.json").read_text())["engine_paths"] == rows


def test_chunks_are_short_at_first_and_none_is_long(book, begin):
    begin(99)
    seen = []
    run(book, n_paths=5000, chunk=None, progress=lambda done, total: seen.append(done))
    assert seen == [0, 256, 2304, 4352, 5000]


def test_a_target_is_looked_at_on_both_engines(book, begin):
    begin(2)
    target = gpuloan_mc.Target("el", 0.9)
    found = run(book, n_paths=30_000, chunk=None, target=target)
    assert found.n_paths == 20_480
    assert [engine for engine, _, _ in ranges(found)] == ["numpy", "numba"]
    assert found.digest == run(book, n_paths=20_480, chunk=None, engine="numba").digest


def test_a_stopped_run_goes_on_and_tells_both_engines(book, begin, busy_run, tmp_path):
    child = begin(99)

    def stop(done, total):
        if done >= 180:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match=r"stopped after 180 of 400 paths"):
        run(book, out=tmp_path, progress=stop)
    assert child.ended
    found = resume(tmp_path)
    assert ranges(found) == [("numpy", 0, 180), ("numba", 180, 220)]
    assert found.digest == busy_run.digest
    more = resume(tmp_path, extend_paths=500)
    assert ranges(more) == [("numpy", 0, 180), ("numba", 180, 320)]


def test_ranges_are_joined_and_told():
    paths = EnginePaths()
    for engine, first, end in (("numba", 20, 30), ("numpy", 0, 5), ("numpy", 10, 20), ("numpy", 5, 10), ("numba", 30, 40)):
        paths.add(engine, first, end)
    again = EnginePaths()
    again.add_all(paths.rows, 25)
    assert [tuple(row.values()) for row in paths.rows] == [("numpy", 0, 20), ("numba", 20, 20)]
    assert [tuple(row.values()) for row in again.rows] == [("numpy", 0, 20), ("numba", 20, 5)]
    assert other_engines("numba", paths.rows) == ", paths 0 to 19 on numpy"
    assert other_engines("numba", paths.rows[1:]) == ""


# --- who begins, and who waits ----------------------------------------------------------------------------------------


def test_an_engine_that_is_named_waits(book, forbid, tmp_path):
    assert run(book, engine="numba", out=tmp_path).engine == "numba"
    assert run(book, engine="numpy").engine == "numpy"
    assert resume(tmp_path, extend_paths=450).engine == "numba"
    pooled = Portfolio.read("neocloud-2024")
    assert simulate(pooled, pooled.market, n_paths=20, pool="neocloud-2024").engine == "numba"


@pytest.mark.parametrize(
    ("cold", "idle", "begun"), [(True, 1, True), (True, 0, False), (False, 1, False), (False, 0, False)]
)
def test_a_child_is_begun_where_nothing_is_compiled_and_a_core_is_idle(monkeypatch, cold, idle, begun):
    monkeypatch.setattr(numba_halves, "is_cold", lambda: cold)
    monkeypatch.setattr(cores, "idle_cores", lambda: idle)
    monkeypatch.setattr(numba_child.CompilingChild, "start", lambda what: FakeShared(what))
    monkeypatch.setattr(numba_child, "_shared", None)
    child = first_run.compiling_child()
    assert (child is not None) == begun
    if begun:
        monkeypatch.setattr(cores, "idle_cores", lambda: 0)
        assert first_run.compiling_child() is child  # the next run of this process takes it up


class FakeShared(FakeChild):
    """A child of `shared_child`."""

    has_ended, is_mine, left = False, True, False

    def __init__(self, what="all", ready_after=99, problem=""):
        super().__init__(ready_after, problem)
        assert what == "all"

    def leave(self):
        self.left = True


def test_nothing_is_begun_where_no_folder_keeps_it(monkeypatch):
    monkeypatch.setattr(numba_halves, "is_cold", lambda: True)
    monkeypatch.setattr(numba_compile, "cache_folder", lambda: None)
    assert first_run.compiling_child() is None


@pytest.mark.parametrize(
    ("machine", "mine", "load", "idle"),
    [(2, 2, 0.0, 1), (2, 2, 1.0, 1), (2, 2, 1.1, 0), (64, 2, 30.0, 1), (64, 8, 60.5, 3), (1, 1, 0.0, 0), (8, 4, 9.0, 0)],
)
def test_idle_cores_are_what_the_load_leaves(monkeypatch, machine, mine, load, idle):
    monkeypatch.setattr(cores.os, "cpu_count", lambda: machine)
    monkeypatch.setattr(cores, "available_cores", lambda: mine)
    monkeypatch.setattr(cores.os, "getloadavg", lambda: (load, 0.0, 0.0))
    assert cores.idle_cores() == idle


def test_a_system_without_a_load_average_has_no_idle_cores(monkeypatch):
    def unknown():
        raise OSError

    monkeypatch.setattr(cores.os, "getloadavg", unknown)
    assert cores.idle_cores() == 0


def test_the_cache_is_warm_with_both_halves(monkeypatch, tmp_path):
    monkeypatch.setenv(CACHE, str(tmp_path))
    for name in numba_halves.HALVES:
        assert not numba_halves.is_warm()
        (numba_compile.cache_folder() / f"numba_loops.{name}-1.py3.1.nbc").write_bytes(b"")
    assert numba_halves.is_warm()


def test_all_books_give_the_loops_the_same_types():
    books = [Portfolio.read(name) for name in ("neocloud-2024", "vasicek-100")]
    first, second = (NumbaCpu(1).signature(build_plan(b, b.market)) for b in books)
    assert first == second


# --- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("out", [False, True])
def test_a_child_that_cannot_compile_ends_the_run(book, begin, tmp_path, out):
    child = begin(2, "engine numba can't be compiled here (no target). engine 'numpy' gives the same figures, slowly.")
    with pytest.raises(EnvironmentProblem, match=r"engine numba can't be compiled here \(no target\)") as caught:
        run(book, **({"out": tmp_path} if out else {}))
    assert child.ended
    assert ("what is done is safe" in str(caught.value)) == out


def test_a_book_that_cannot_be_planned_ends_the_child(book, begin, tmp_path):
    child = begin(99)
    (tmp_path / "file").write_text("")
    with pytest.raises(gpuloan_mc.GpuLoanError):
        run(book, out=tmp_path / "file")
    assert child.ended


def child_of(code):
    """A child that runs this code, and the process behind it."""
    words = tempfile.TemporaryFile()  # noqa: SIM115  # the child closes it
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stderr=words, env=ENVIRONMENT)
    return CompilingChild(process, words), process


WAIT = "from gpuloan_mc.engines.numba_child import _live_with_parent; _live_with_parent()"


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import sys; sys.stderr.write('numba is ill'); sys.exit(4)", "^numba is ill$"),
        ("1 / 0", r"^engine numba can't be compiled here \(the process that compiled it ended with code 1: (?s:.)*ZeroDivision"),
        ("import os; os.kill(os.getpid(), 9)", r"^engine numba can't be compiled here \(the process .* killed by SIGKILL\)"),
    ],
)
def test_a_child_that_failed_says_why(code, says):
    child, process = child_of(code)
    child.wait()
    with pytest.raises(EnvironmentProblem, match=says):
        child.is_ready()
    child.end()
    assert process.returncode != 0


def test_a_child_that_is_killed_is_seen():
    child, process = child_of(WAIT)
    assert not child.is_ready()
    process.send_signal(signal.SIGKILL)
    child.wait()
    with pytest.raises(EnvironmentProblem, match=r"killed by SIGKILL.*engine 'numpy' \(--engine numpy\) gives the same"):
        child.is_ready()
    child.end()


def test_a_child_ends_with_its_parent_and_leaves_nothing():
    child, process = child_of(WAIT)
    process.stdin.close()  # as the system does when the parent dies
    child.wait()
    assert process.returncode == 1
    child.end()
    other, process = child_of(WAIT)
    other.end()
    assert process.returncode == -signal.SIGKILL


def test_a_child_that_is_left_goes_on():
    child, process = child_of(WAIT)
    child.leave()
    assert os.waitstatus_to_exitcode(os.waitpid(process.pid, 0)[1]) == 0


def test_a_child_that_ends_as_it_is_left_is_no_problem():
    child, process = child_of("pass")
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has seen it
    child.leave()
    assert not process.returncode


def test_a_child_that_another_run_has_ended_is_not_waited_for():
    child, process = child_of(WAIT)
    child.end()
    assert process.returncode == -signal.SIGKILL
    assert child.is_ready()
    child.end()


@pytest.mark.parametrize(("inside", "what"), [("all", "all"), ("months", "all"), ("months", "months")])
def test_a_child_does_not_begin_itself_again(monkeypatch, inside, what):
    monkeypatch.setattr(numba_child.subprocess, "Popen", lambda *_, **__: pytest.fail("it was begun"))
    monkeypatch.setenv("GPULOAN_MC_COMPILES", inside)
    assert CompilingChild.start(what) is None


def test_a_program_without_a_python_of_its_own_begins_no_child(monkeypatch):
    monkeypatch.setattr(numba_child.subprocess, "Popen", lambda *_, **__: pytest.fail("it was begun"))
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert CompilingChild.start("all") is None


def test_no_folder_for_temporary_files_is_no_child_and_no_cache(monkeypatch):
    def nowhere(*_, **__):
        raise FileNotFoundError("no usable temporary directory")

    monkeypatch.setattr(tempfile, "TemporaryFile", nowhere)
    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    assert CompilingChild.start("all") is None
    assert code_cache.temporary() is None


def test_a_system_that_forbids_priorities_runs_all_the_same(monkeypatch):
    def forbidden(*_):
        raise PermissionError("not here")

    monkeypatch.setattr(os, "setpriority", forbidden, raising=False)
    assert first_run._politely(lambda: 7) == 7


def test_a_failing_chunk_is_raised_where_it_is_waited_for(monkeypatch):
    def ill():
        raise RuntimeError("ill")

    monkeypatch.setattr(first_run, "_give_way", ill)
    with pytest.raises(RuntimeError, match="ill"):
        first_run._politely(lambda: 7)


def test_a_line_with_facts_can_be_sent_to_another_process():
    line = news.compiled(3.0, 512)
    again = pickle.loads(pickle.dumps(line))
    assert (again, again.event, again.facts) == (line, line.event, line.facts)


def test_no_room_for_a_process_is_no_child(monkeypatch):
    def full(*_, **__):
        raise OSError("no room")

    monkeypatch.setattr(numba_child.subprocess, "Popen", full)
    assert CompilingChild.start("all") is None


# --- what is told -----------------------------------------------------------------------------------------------------


def events(command):
    done = CliRunner().invoke(cli.cli, [*command, "--json", "--progress", "json"])
    return [json.loads(line) for line in done.stderr.splitlines()], done


def test_events_tell_of_the_compiler(begin):
    begin(1)
    found, _ = events(["run", "vasicek-100", "--paths", "300", "--chunk", "100"])
    assert [e["event"] for e in found] == ["compiling", "paths", "paths", "compiled", "paths", "paths", "done"]
    compiling, compiled = found[0], found[3]
    assert (compiling["engine"], compiling["meanwhile"]) == ("numba", "numpy")
    assert compiling["text"] == "engine numba: compiling once, about 12 s; meanwhile on numpy"
    assert (compiled["engine"], compiled["meanwhile_paths"]) == ("numba", 100)
    assert compiled["after"] >= 0


def test_an_engine_that_waits_tells_so_too(monkeypatch):
    monkeypatch.setattr(numba_halves, "is_cold", lambda: True)
    found, _ = events(["run", "vasicek-100", "--engine", "numba", "--paths", "10"])
    assert [e["event"] for e in found] == ["compiling", "compiled", "paths", "paths", "done"]
    assert found[0]["meanwhile"] is None
    done = CliRunner().invoke(cli.cli, ["run", "vasicek-100", "--engine", "numba", "--paths", "10"])
    assert [line[:32] for line in done.stderr.splitlines()] == ["engine numba: compiling once, ab"]
    done = CliRunner().invoke(cli.cli, ["run", "vasicek-100", "--engine", "numba", "--paths", "10", "--progress", "none"])
    assert done.stderr == ""


def test_the_page_says_who_ran_what(begin):
    begin(1)
    done = CliRunner().invoke(cli.cli, ["run", "vasicek-100", "--paths", "300", "--chunk", "100"])
    assert "paths 0 to 99 on numpy" in " ".join(done.stdout.split())
    assert done.stderr == "engine numba: compiling once, about 12 s; meanwhile on numpy\n"


@pytest.mark.parametrize(
    ("terminal", "line"), [(True, "compiling goes on in the background"), (False, "`gpuloan-mc warmup` compiles it for the next")]
)
def test_a_compiler_outlives_its_command_on_a_terminal_only(monkeypatch, begin, terminal, line):
    child = FakeShared()
    monkeypatch.setattr(numba_child, "_shared", child)
    assert line in numba_child.finish_shared(stay=terminal)
    assert (child.left, child.ended) == (terminal, not terminal)
    assert numba_child.finish_shared(stay=terminal) == ""


def test_a_failure_after_the_last_path_is_told(monkeypatch):
    child = FakeShared(ready_after=0, problem="engine numba can't be compiled here (x)")
    monkeypatch.setattr(numba_child, "_shared", child)
    assert numba_child.finish_shared(stay=True) == "engine numba can't be compiled here (x)"
    assert child.ended


def test_python_is_quiet(begin, book, capfd):
    begin(1)
    run(book)
    assert capfd.readouterr() == ("", "")


# --- the real compiler ------------------------------------------------------------------------------------------------

FIRST = """
import gpuloan_mc.engines.cores as cores
cores.idle_cores = lambda: 1
from gpuloan_mc import Portfolio, simulate
book, told = Portfolio.read("neocloud-2024"), []
while True:
    found = simulate(book, book.market, n_paths=300, seed=7, tell=told.append)
    print(found.digest, *sorted({row["engine"] for row in found.engine_paths}), flush=True)
    if found.engine_paths[0]["engine"] == "numba":
        break
assert told[0].event == "compiling", told
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_cold_cache_is_filled_while_numpy_runs(tmp_path):
    environment = ENVIRONMENT | {CACHE: str(tmp_path)}
    done = subprocess.run([sys.executable, "-W", "error", "-c", FIRST], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].endswith(" numpy")
    assert lines[-1].endswith(" numba")
    assert len({line.split()[0] for line in lines}) == 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("boot", ["", "import sys; sys.exit(1)"])
def test_two_processes_fill_the_cache_and_one_does_if_the_other_fails(tmp_path, boot):
    code = f"""
from gpuloan_mc.engines import numba_child, numba_cpu
numba_child._BOOT = {boot!r} or numba_child._BOOT
print(numba_cpu.warm_up(processes=2)[0].was_cached)
"""
    environment = ENVIRONMENT | {CACHE: str(tmp_path)}
    for expected in ("False\n", "True\n"):
        done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, env=environment)
        assert (done.stdout, done.stderr) == (expected, "")
