"""What a user waits for beside the engine: the first run on a machine, and what a whole command computes outside the engine.

Each is measured on one checkout; `versus.py` measures two in turn. `python commands.py TASK ARGUMENTS` is the child of it.
"""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

import checkout
import measure
from checkout import Checkout

Answer = dict[str, Any]
BOOK = "neocloud-2024"
FIRST_PATHS, WHOLE_PATHS = 20_000, 100_000
LONGEST = 1800.0  # seconds of a child
SETTLE = 300.0  # seconds that what a command leaves running may take
SCRIPT = Path(__file__)


# --- the first run ----------------------------------------------------------------------------------------------------


def cold_start(of: Checkout) -> Answer:
    """Seconds from the start of the command, without machine code, to its first paths and to all; CPU seconds of compiling.

    The command is `run`, engine auto. Compiling is measured apart, on folders of its own: CPU seconds of a process that
    gets the engine ready, and of those that it starts, less those of one that finds the machine code.
    """
    with _folder() as cold:
        found = _first_run(Checkout(of.root, cold))
    with _folder() as cold:
        cpu = [_warm_up_cpu(Checkout(of.root, cold)) for _ in range(2)]
    failed = next((c for c in (found, *cpu) if "failed" in c), None)
    return failed or found | {"compile_cpu_seconds": cpu[0]["cpu"] - cpu[1]["cpu"]}


def _run(paths: int) -> list[str]:
    return ["run", BOOK, "--paths", str(paths), "--seed", str(measure.SEED)]


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        yield Path(name)


def _first_run(of: Checkout) -> Answer:
    command = [sys.executable, "-P", "-m", "gpuloan_mc.cli", *_run(FIRST_PATHS), "--progress", "json", "--json"]
    start = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | of.environment, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            seen = list(_paths_done(process.stderr, start))
            assert process.stdout is not None
            said = process.stdout.read()
            code = process.wait(LONGEST)
        finally:
            _let_end(process.pid)
    if code or not seen:
        return {"failed": f"the command ended with code {code}"}
    first_seconds, first = seen[0]
    return {
        "first_paths": first,
        "first_paths_seconds": first_seconds,
        "paths": seen[-1][1],
        "paths_seconds": seen[-1][0],
        "digest": json.loads(said)["digest"],
    }


def _paths_done(lines: Any, start: float) -> Iterator[tuple[float, int]]:
    """When how many paths were done, of a run's events."""
    for line in lines:
        event = json.loads(line) if line.startswith("{") else {}
        if event.get("event") == "paths" and event["paths"] > 0:
            yield time.perf_counter() - start, event["paths"]


def _let_end(group: int) -> None:
    """Wait until all that a command has started is over: a compiler that it left behind would slow the next down."""
    end = time.monotonic() + SETTLE
    while _runs(group):
        if time.monotonic() > end:
            os.killpg(group, signal.SIGKILL)
        time.sleep(0.1)


def _runs(group: int) -> bool:
    """Whether a process of the group runs; one that is over and that nobody has waited for does not."""
    for about in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = about.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue  # it has just ended
        if int(its_group) == group and state not in "ZX":
            return True
    return False


def _warm_up_cpu(of: Checkout) -> Answer:
    return of.child("warm_up", {}, SCRIPT, LONGEST)


def warm_up(root: str) -> Answer:
    """In the child: the engine made ready, and the CPU seconds of that, other processes included."""
    checkout.must_be(root)
    from gpuloan_mc.engines.numba_cpu import warm_up

    before = cpu_seconds()
    warm_up()
    return {"cpu": cpu_seconds() - before}


def cpu_seconds() -> float:
    """User and system time of this process and of those that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


# --- the whole command ------------------------------------------------------------------------------------------------


def whole_command(of: Checkout) -> Answer:
    """CPU seconds of `run --paths 100000 --out R`, the interpreter's start to its end, less those of the engine's runs in it.

    Both are of one process: the engine's are those of the process while `NumbaCpu.run` works, less what it does to get
    machine code. Something that another thread did meanwhile would count as the engine's.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with _folder() as out:
        found = of.child("whole", {"out": str(out / "R")}, SCRIPT, LONGEST)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if "failed" in found:
        return found
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return found | {"cpu_seconds": cpu, "outside_seconds": cpu - found["engine_seconds"]}


def whole(root: str, out: str) -> Answer:
    """In the child: the command, with the engine's CPU time and the digest."""
    checkout.must_be(root)
    from gpuloan_mc import cli
    from gpuloan_mc.engines.numba_cpu import NumbaCpu

    spent = {"run": 0.0, "prepare": 0.0}
    depth = [0]
    command = ["gpuloan-mc", *_run(WHOLE_PATHS), "--out", out, "--progress", "none"]

    def timed(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if name == "prepare" and not depth[0]:
                return method(*arguments, **options)  # not within a run
            depth[0] += 1
            begin = time.process_time()
            try:
                return method(*arguments, **options)
            finally:
                spent[name] += time.process_time() - begin
                depth[0] -= 1

        return call

    patches = {name: timed(name, getattr(NumbaCpu, name)) for name in spent}
    with mock.patch.multiple(NumbaCpu, **patches), mock.patch.object(sys, "argv", command), redirect_stdout(io.StringIO()):
        code = _exit_code(cli.main)
    if code or not spent["run"]:
        raise RuntimeError(f"the command ended with code {code} and {spent['run']:.1f} s of the engine numba")
    summary = json.loads((Path(out) / "summary.json").read_text())
    return {"engine_seconds": spent["run"] - spent["prepare"], "paths": WHOLE_PATHS, "digest": summary["digest"]}


def _exit_code(command: Callable[[], None]) -> int:
    try:
        command()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


# each with the figures of an answer that are compared
MEASUREMENTS: dict[str, tuple[Callable[[Checkout], Answer], tuple[str, ...]]] = {
    "cold-start": (cold_start, ("first_paths_seconds", "paths_seconds", "compile_cpu_seconds")),
    "whole-command": (whole_command, ("outside_seconds", "engine_seconds")),
}
TASKS: dict[str, Callable[..., Answer]] = {f.__name__: f for f in (warm_up, whole)}

if __name__ == "__main__":
    print(json.dumps(TASKS[sys.argv[1]](**json.loads(sys.argv[2]))))
