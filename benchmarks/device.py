"""Acceptance on a GPU machine in one command: tests, equal digests, memory limits, sanitizer, then times.

    python benchmarks/device.py                 all parts, within eight minutes; writes results/device-<gpu>-<version>.json
    python benchmarks/device.py --part cases    one part; --case NAME: one case
    python benchmarks/device.py --readme        the page again, from the committed results

Each part has a process and a time limit of its own, and one that fails takes nothing with it. It runs with the packages
that are there and only ever reads the card's settings.
"""

from __future__ import annotations

import argparse
import functools
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import device_page
import device_tasks
import measure
import run
from device_tasks import EQUAL, GPU_ENGINES, TIMED, about_device

import gpuloan_mc

TOTAL = 465.0  # seconds; eight minutes with the start of Python
LIMITS = {"tests": 110, "equality": 110, "memory": 40, "sanitizer": 80, "start": 40, "cases": 300}
CASES = 190.0  # seconds that the parts before the cases leave for them
ARRAYS = "array program"
ARRAY_CASES = ("plain-own", "typical", "typical-half")
# books, and the first paths of each, that the sanitizer sees: several paths a warp, two a block and the last
# alone, plain loans, a cluster
SANITIZED = {"neocloud-2024": 64, "gpu-300": 7, "plain-own": 64, "plain-groups": 64, "gpu-6000": 2}
REPEATS = 3
MANY = 200_000  # paths of the bundled book: more than fit the least memory that is tried
PACKAGES = (*measure.PACKAGES, "cupy-cuda13x", "cupy-cuda12x", "cuda-bindings", "nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12",
            "numba-cuda-mlir", "numba-cuda")  # fmt: skip

SCRIPT = Path(device_tasks.__file__)

Report = dict[str, Any]


# --- the parent -------------------------------------------------------------------------------------------------------


class Clock:
    """What is left of the whole time, and of the part that runs. Without cases no time is kept for them."""

    def __init__(self, total: float, parts: list[str]) -> None:
        self._end = time.monotonic() + total
        self._kept = min(CASES, total / 2) if "cases" in parts else 0.0
        self._part = self._end

    def begin(self, part: str) -> None:
        """The part's time runs from now."""
        end = self._end if part == "cases" else self._end - self._kept
        self._part = min(end, time.monotonic() + LIMITS[part])

    def limit(self, pieces: int = 1) -> float:
        """Seconds for the next of so many pieces of the part, which share what is left of it."""
        return max(1.0, (self._part - time.monotonic()) / pieces)

    def is_over(self) -> bool:
        """Whether there is too little left of the part to begin anything."""
        return self._part - time.monotonic() < 2


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0, or 1 where a digest differs, a test failed or a part could not run."""
    options = _options(arguments)
    if options.readme:
        run.readme.write(run.RESULTS, measure.HERE / "README.md")
        return 0
    clock = Clock(options.total, options.part)
    report: Report = {
        "kind": "device",
        "version": gpuloan_mc.__version__,
        "note": options.note,
        "machine": measure.machine(),
        "packages": measure.versions(PACKAGES),
        "device": guarded(about_device),
        "engines": guarded(usable),
    }
    for engine, state in report["engines"].items():
        print(f"engine {engine}: {state}", flush=True)
    for part, work in PARTS.items():
        if part in options.part:
            begin = time.monotonic()
            clock.begin(part)
            report[part] = {"failed": "no time left"} if clock.is_over() else guarded(partial(work, clock, options))
            report[f"{part}_seconds"] = round(time.monotonic() - begin, 1)
            print(f"{part}: {device_page.outcome(report[part])}", flush=True)
            _write(report, options)
    print("\n" + "\n".join(device_page.device_tables(report)))
    if options.out.parent == run.RESULTS:
        run.readme.write(run.RESULTS, measure.HERE / "README.md")
    return 1 if any(device_page.failures(report)) else 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", choices=list(PARTS))
    parser.add_argument("--case", action="append", choices=list(TIMED))
    parser.add_argument("--book", action="append", choices=list(EQUAL), help="of the part equality")
    parser.add_argument("--paths", type=int, help="at most so many a case")
    parser.add_argument("--check-paths", type=int, default=512, help="paths that are compared with the reference")
    parser.add_argument("--total", type=float, default=TOTAL, help="seconds for everything")
    parser.add_argument("--note", default="", help="a sentence that goes with the figures")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--readme", action="store_true", help="write README.md from the committed results, run nothing")
    options = parser.parse_args(arguments)
    options.part = options.part or list(PARTS)
    options.case = options.case or list(TIMED)
    options.book = options.book or list(EQUAL)
    if options.out is None:
        name = re.sub(r"[^a-z0-9]+", "-", str(guarded(about_device).get("name", "no-gpu")).lower()).strip("-")
        options.out = run.RESULTS / f"device-{name}-{gpuloan_mc.__version__}.json"
    return options


def _write(report: Report, options: argparse.Namespace) -> None:
    """After every part: whatever happens next, what was measured stays."""
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1) + "\n")


def guarded(work: Callable[[], Report]) -> Report:
    """A part's report, or {"failed": why}."""
    try:
        return work()
    except Exception as error:  # one part's failure must not lose the others
        kind = "" if type(error) is RuntimeError else f"{type(error).__name__}: "
        return {"failed": f"{kind}{re.sub(r'(/[^ /:]+)+/', '', str(error))[:500]}"}


def child(task: str, arguments: Report, timeout: float) -> Report:
    """A task of device_tasks.py, in a process of its own."""
    return measure.child(task, arguments, script=SCRIPT, timeout=timeout)


# --- what is here -----------------------------------------------------------------------------------------------------


def engines_here() -> Report:
    """Each engine: usable, or why not."""
    return child("engines", {}, 30)


@functools.cache
def usable() -> Report:
    """As `engines_here`, asked once."""
    return engines_here()


def needed(names: tuple[str, ...]) -> list[str]:
    """Those of the engines that can run.

    Raises:
        RuntimeError: none can.
    """
    here = usable()
    found = [name for name in names if here.get(name) == "usable"]
    if not found:
        raise RuntimeError(here.get(names[0]) or here.get("failed"))
    return found


class ClocksSeen:
    """SM clocks in MHz while something runs, from nvidia-smi once a second."""

    def __init__(self) -> None:
        self.seen: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> ClocksSeen:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(5)

    def _watch(self) -> None:
        while not self._stop.wait(1.0):
            try:
                self.seen.append(float(about_device()["clocks.sm"]))
            except Exception:
                return

    def report(self) -> Report:
        """Least, middle and most."""
        if not self.seen:
            return {}
        return {"least": min(self.seen), "median": statistics.median(self.seen), "most": max(self.seen)}


# --- parts ------------------------------------------------------------------------------------------------------------


def tests(clock: Clock, options: argparse.Namespace) -> Report:
    """The tests marked gpu."""
    command = [sys.executable, "-m", "pytest", "--gpu", "-m", "gpu", "-q", "-p", "no:cacheprovider", "-W", "default"]
    command.append("tests/engines/test_gpu.py")  # the others need packages that a GPU machine may lack
    root = measure.HERE.parent
    limit = clock.limit()
    try:
        done = measure.bounded(command, limit, cwd=root)
    except subprocess.TimeoutExpired:
        return {"failed": f"not finished in {limit:.0f} s"}
    lines = [line for line in done.stdout.strip().splitlines() if line.strip()]
    summary = lines[-1] if lines else "no output"
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    if done.returncode:
        return {"failed": f"{summary}; {'; '.join(failed)[:1000]}", "log": "\n".join(lines[-60:])}
    return {"outcome": summary}


def equality(clock: Clock, options: argparse.Namespace) -> Report:
    """Digests of every engine on every book, on a GPU three times, against the reference.

    Each GPU engine has a process, and says a book's digest when it has it: one that hangs loses the books after that alone.
    """
    groups = [["numpy", "numba"], *([name] for name in needed(GPU_ENGINES))]
    books: Report = {book: {"digests": {}, "outcome": "equal"} for book in options.book}
    for k, names in enumerate(groups):
        arguments = {"books": options.book, "engines": names, "paths": options.check_paths, "repeats": REPEATS}
        limit = clock.limit(len(groups) - k)
        lines, failed = measure.answers("digests", arguments, script=SCRIPT, timeout=limit)
        for line in lines:
            books[line["book"]]["loans"] = line["loans"]
            books[line["book"]]["digests"][line["engine"]] = line["digest"]
        for name in names:
            for found in books.values():
                if name not in found["digests"]:
                    found["failed"] = f"{name}: {failed.get('failed', 'no answer')}"
    for found in books.values():
        if len(set(found["digests"].values())) > 1:
            found["outcome"] = "DIFFERS"
        elif "failed" in found:
            found["outcome"] = "failed"
    engines = [name for group in groups for name in group]
    return {"engines": engines, "repeats": REPEATS, "paths": options.check_paths, "books": books}


def memory(clock: Clock, options: argparse.Namespace) -> Report:
    """Whether the engine keeps to a limit of CuPy's pool with the same digest, and says so where nothing fits."""
    needed(("cuda",))
    found: Report = {}
    tried = (("free", None), ("64 MiB", 64 * 2**20), ("1 MiB", 2**20))
    for k, (name, limit) in enumerate(tried):
        arguments = {"limit": limit, "paths": min(options.paths or MANY, MANY)}
        found[name] = child("limited", arguments, clock.limit(len(tried) - k))
    digests = {f["digest"] for f in found.values() if "digest" in f}
    same = len(digests) == 1 and "digest" in found["64 MiB"]
    told = "has no room" in found["1 MiB"].get("refused", "")
    return {**found, "outcome": "equal within a limit, refused below it" if same and told else "DIFFERS"}


def sanitizer(clock: Clock, options: argparse.Namespace) -> Report:
    """memcheck and racecheck on a few paths of books of several mappings, where compute-sanitizer is installed.

    What there was no time for is told, and fails nothing.
    """
    needed(("cuda",))
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        return {"outcome": "compute-sanitizer is not installed"}
    checks = [(check, book, paths) for book, paths in SANITIZED.items() for check in ("memcheck", "racecheck")]
    found = {}
    for k, (check, book, paths) in enumerate(checks):
        if clock.is_over():
            found[f"{check}, {book}"] = "no time left"
            continue
        task = [sys.executable, str(SCRIPT), "few", json.dumps({"book": book, "paths": paths})]
        command = [tool, "--tool", check, "--error-exitcode", "9", *task]
        try:
            done = measure.bounded(command, clock.limit(min(3, len(checks) - k)))
        except subprocess.TimeoutExpired:
            found[f"{check}, {book}"] = "not finished in time"
            continue
        lines = [line for line in done.stdout.splitlines() if "ERROR SUMMARY" in line or "RACECHECK SUMMARY" in line]
        found[f"{check}, {book}"] = f"exit code {done.returncode}: {' '.join(lines) or 'no summary'}"
    ended = {name: text for name, text in found.items() if text.startswith("exit code")}
    bad = [f"{name}: {text}" for name, text in ended.items() if not text.startswith("exit code 0")]
    outcome = f"clean in {len(ended)} of {len(checks)} checks" + ("" if len(ended) == len(checks) else ", no time for the others")
    return {**found, "failed": "; ".join(bad)} if bad else {**found, "outcome": outcome}


def start(clock: Clock, options: argparse.Namespace) -> Report:
    """The first run with an empty cache of compiled kernels, and that of the next process."""
    needed(("cuda",))
    with tempfile.TemporaryDirectory() as folder:
        arguments = {"engine": "cuda", "cache": folder, "paths": min(options.paths or MANY, MANY)}
        cold = child("first_run", arguments, clock.limit())
        warm = child("first_run", arguments, clock.limit())
    return {"cold": cold, "warm": warm}


def timed_cases(clock: Clock, options: argparse.Namespace) -> Report:
    """Wall time and CUDA's events of each case and GPU engine, equal losses first; the array program where CuPy is."""
    entries: Report = {name: {"what": TIMED[name].what} for name in options.case}
    engines = needed(GPU_ENGINES)
    # engine cuda first on all cases: what takes longer than it should takes no time from it
    todo = [(name, engine) for engine in engines for name in options.case]
    todo += [(name, ARRAYS) for name in options.case if name in ARRAY_CASES and "cuda" in engines]
    with ClocksSeen() as clocks:
        for k, (name, engine) in enumerate(todo):
            paths = min(options.paths or 2**40, device_page.TARGETS[name][0])
            arguments = {"name": name, "paths": paths, "repeats": REPEATS}
            if engine != ARRAYS:
                arguments |= {"engine": engine, "check_paths": options.check_paths // 8}
            limit = clock.limit(min(4, len(todo) - k))
            task = "array_program" if engine == ARRAYS else "timing"
            entries[name][engine] = {"failed": "no time left"} if clock.is_over() else child(task, arguments, limit)
    return {"cases": entries, "clocks": clocks.report()}


PARTS: dict[str, Callable[[Clock, argparse.Namespace], Report]] = {
    "tests": tests, "equality": equality, "memory": memory, "sanitizer": sanitizer, "start": start, "cases": timed_cases,
}  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
