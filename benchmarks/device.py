"""Acceptance on a GPU machine in one command: tests, equal digests, memory limits, sanitizer, then times.

    python benchmarks/device.py                 all parts, within eight minutes; writes results/device-<gpu>-<version>.json
    python benchmarks/device.py --part cases    one part; --case NAME: one case
    python benchmarks/device.py --readme        the page again, from the committed results

Each part has a process and a time limit of its own, and one that fails takes nothing with it. It runs with the packages
that are there and only ever reads the card's settings.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cases
import device_page
import measure
import run

import gpuloan_mc

TOTAL = 465.0  # seconds; eight minutes with the start of Python
LIMITS = {"tests": 130, "equality": 110, "memory": 60, "sanitizer": 80, "start": 60, "cases": 240}
GPU_ENGINES = ("cuda", "numba-cuda")
REPEATS = 3
MANY = 200_000  # paths of the bundled book: more than fit the least memory that is tried
PACKAGES = (*measure.PACKAGES, "cupy-cuda13x", "cupy-cuda12x", "cuda-bindings", "nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12",
            "numba-cuda-mlir", "numba-cuda")  # fmt: skip
SEAM = "GPULOAN_MC_BENCHMARK_SEAM"  # tests: a file whose install() puts a fake device in the place of CuPy's
SMI = ("name", "driver_version", "clocks.sm", "clocks.max.sm", "clocks.mem", "power.limit", "temperature.gpu",
       "compute_mode", "memory.total", "memory.used")  # fmt: skip

Report = dict[str, Any]


# --- cases ------------------------------------------------------------------------------------------------------------


def plain_book(n_loans: int, in_groups: bool) -> Any:
    """Plain loans for a year, four factors; groups of four loans with the same loadings, or each its own."""
    portfolio, market = cases.pool(n_loans, own_loadings=True, grouped=in_groups)
    dependence: dict[str, Any] = {"factors": ["demand", "credit", "region", "sector"], "grouped": in_groups}
    market = market.replace(dependence=dependence)
    obligors = portfolio.obligors.copy()
    size = 4 if in_groups else 1
    first = [i // size * size for i in range(n_loans)]
    obligors["loading_demand"] = obligors["loading_demand"].to_numpy()[first]
    for name, loading in (("credit", 0.15), ("region", 0.1), ("sector", 0.05)):
        obligors[f"loading_{name}"] = loading
    book = gpuloan_mc.Portfolio.from_frames(market=market, loans=portfolio.loans, obligors=obligors)
    return book, market


def gpu_book(n_loans: int, horizon: int, term: int | None = None) -> Any:
    """GPU loans as in cases.py, all of them of one term where it is given."""
    portfolio, market = cases.gpu_book(n_loans, horizon)
    if term is not None:
        portfolio = portfolio.replace(loans=portfolio.loans.assign(term_months=term))
    return portfolio, market


@dataclass(frozen=True, slots=True)
class Timed:
    """A timed case; its paths and times to reach are in device_page.py."""

    what: str
    book: Callable[[], Any]
    rate_paths: int  # on the reference engine, for the share of loan-months that live


TIMED = {
    "plain-groups": Timed("36,000 plain loans, a year, four factors, groups of 4", partial(plain_book, 36_000, True), 64),
    "plain-own": Timed("36,000 plain loans, a year, four factors, own loadings", partial(plain_book, 36_000, False), 64),
    "small": Timed("40 GPU loans, 84 months", partial(gpu_book, 40, 84), 256),
    "typical": Timed("1,024 GPU loans, 84 months, terms to the end", partial(gpu_book, 1024, 84, 84), 32),
    "typical-half": Timed("1,024 GPU loans, 84 months, terms of 42", partial(gpu_book, 1024, 84, 42), 32),
    "large": Timed("10,000 GPU loans, 120 months", partial(gpu_book, 10_000, 120), 16),
}

EQUAL: dict[str, Callable[[], Any]] = {
    "neocloud-2024": lambda: _bundled("neocloud-2024"),
    "vasicek-100": lambda: _bundled("vasicek-100"),
    "gpu-40": partial(gpu_book, 40, 84),
    "gpu-300": partial(gpu_book, 300, 60),
    "plain-groups": partial(plain_book, 600, True),
    "plain-own": partial(plain_book, 600, False),
    "t-copula": partial(cases.pool, 500, dof=4.0),
}


def _bundled(name: str) -> Any:
    portfolio = gpuloan_mc.Portfolio.read(name)
    return portfolio, portfolio.market


# --- the parent -------------------------------------------------------------------------------------------------------


class Clock:
    """What is left of the whole time."""

    def __init__(self, total: float) -> None:
        self._end = time.monotonic() + total

    def limit(self, part: str, share: float = 1.0) -> float:
        """Seconds for a part, or a share of its time."""
        return max(1.0, min(LIMITS[part] * share, self._end - time.monotonic()))

    def is_over(self) -> bool:
        """Whether there is too little left to begin anything."""
        return self._end - time.monotonic() < 2


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0, or 1 where a digest differs, a test failed or a part could not run."""
    options = _options(arguments)
    if options.readme:
        run.readme.write(run.RESULTS, measure.HERE / "README.md")
        return 0
    clock = Clock(options.total)
    report: Report = {
        "kind": "device",
        "version": gpuloan_mc.__version__,
        "note": options.note,
        "machine": measure.machine(),
        "packages": measure.versions(PACKAGES),
        "device": guarded(about_device),
        "engines": guarded(engines_here),
    }
    for engine, state in report["engines"].items():
        print(f"engine {engine}: {state}", flush=True)
    for part, work in PARTS.items():
        if part in options.part:
            begin = time.monotonic()
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
    """A task below, in a process of its own."""
    return measure.child(task, arguments, script=Path(__file__), timeout=timeout)


# --- what is here -----------------------------------------------------------------------------------------------------


def about_device() -> Report:
    """What nvidia-smi says; only questions are put to it."""
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return {"failed": "nvidia-smi is not here"}
    command = [smi, f"--query-gpu={','.join(SMI)}", "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    rows = [[cell.strip() for cell in line.split(",")] for line in done.stdout.strip().splitlines()]
    return {**dict(zip(SMI, rows[0], strict=True)), "gpus": len(rows)}


def engines_here() -> Report:
    """Each engine: usable, or why not."""
    return child("engines", {}, 60)


def needed(names: tuple[str, ...]) -> list[str]:
    """Those of the engines that can run.

    Raises:
        RuntimeError: none can.
    """
    here = engines_here()
    usable = [name for name in names if here.get(name) == "usable"]
    if not usable:
        raise RuntimeError(here.get(names[0]) or here.get("failed"))
    return usable


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
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=clock.limit("tests"))
    except subprocess.TimeoutExpired:
        return {"failed": f"not finished in {clock.limit('tests'):.0f} s"}
    lines = [line for line in done.stdout.strip().splitlines() if line.strip()]
    summary = lines[-1] if lines else "no output"
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    if done.returncode:
        return {"failed": f"{summary}; {'; '.join(failed)[:1000]}", "log": "\n".join(lines[-60:])}
    return {"outcome": summary}


def equality(clock: Clock, options: argparse.Namespace) -> Report:
    """Digests of every engine on every book, three times, against the reference."""
    names = ["numpy", "numba", *needed(GPU_ENGINES)]
    found: Report = {"engines": names, "repeats": REPEATS, "paths": options.check_paths, "books": {}}
    for book in options.book:
        arguments = {"book": book, "engines": names, "paths": options.check_paths, "repeats": REPEATS}
        limit = clock.limit("equality", 0.4)
        found["books"][book] = {"failed": "no time left"} if clock.is_over() else child("digests", arguments, limit)
    return found


def memory(clock: Clock, options: argparse.Namespace) -> Report:
    """Whether the engine keeps to a limit of CuPy's pool with the same digest, and says so where nothing fits."""
    needed(("cuda",))
    found: Report = {}
    for name, limit in (("free", None), ("64 MiB", 64 * 2**20), ("1 MiB", 2**20)):
        found[name] = child("limited", {"limit": limit, "paths": min(options.paths or MANY, MANY)}, clock.limit("memory", 0.5))
    digests = {f["digest"] for f in found.values() if "digest" in f}
    same = len(digests) == 1 and "digest" in found["64 MiB"]
    told = "has no room" in found["1 MiB"].get("refused", "")
    return {**found, "outcome": "equal within a limit, refused below it" if same and told else "DIFFERS"}


def sanitizer(clock: Clock, options: argparse.Namespace) -> Report:
    """memcheck and racecheck on a few paths of the bundled book, where compute-sanitizer is installed."""
    needed(("cuda",))
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        return {"outcome": "compute-sanitizer is not installed"}
    found = {}
    for check in ("memcheck", "racecheck"):
        task = [sys.executable, __file__, "few", json.dumps({"paths": 64})]
        command = [tool, "--tool", check, "--error-exitcode", "9", *task]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=clock.limit("sanitizer", 0.5))
        except subprocess.TimeoutExpired:
            found[check] = "not finished in time"
            continue
        lines = [line for line in done.stdout.splitlines() if "ERROR SUMMARY" in line or "RACECHECK SUMMARY" in line]
        found[check] = f"exit code {done.returncode}: {' '.join(lines) or 'no summary'}"
    clean = all(text.startswith("exit code 0") for text in found.values())
    return {**found, "outcome": "clean"} if clean else {**found, "failed": "; ".join(found.values())}


def start(clock: Clock, options: argparse.Namespace) -> Report:
    """The first run with an empty cache of compiled kernels, and that of the next process."""
    needed(("cuda",))
    with tempfile.TemporaryDirectory() as folder:
        arguments = {"engine": "cuda", "cache": folder, "paths": min(options.paths or MANY, MANY)}
        cold = child("first_run", arguments, clock.limit("start", 0.7))
        warm = child("first_run", arguments, clock.limit("start", 0.3))
    return {"cold": cold, "warm": warm}


def timed_cases(clock: Clock, options: argparse.Namespace) -> Report:
    """Wall time and CUDA's events of each case and GPU engine; equal losses first."""
    found: Report = {"cases": {}}
    engines = needed(GPU_ENGINES)
    with ClocksSeen() as clocks:
        for name in options.case:
            entry: Report = {"what": TIMED[name].what}
            for engine in engines:
                arguments = {"name": name, "engine": engine, "paths": min(options.paths or 2**40, device_page.TARGETS[name][0])}
                arguments |= {"check_paths": options.check_paths // 8, "repeats": REPEATS}
                limit = clock.limit("cases", 0.3)
                entry[engine] = {"failed": "no time left"} if clock.is_over() else child("timing", arguments, limit)
            found["cases"][name] = entry
    return {**found, "clocks": clocks.report()}


PARTS: dict[str, Callable[[Clock, argparse.Namespace], Report]] = {
    "tests": tests, "equality": equality, "memory": memory, "sanitizer": sanitizer, "start": start, "cases": timed_cases,
}  # fmt: skip


# --- in the child -----------------------------------------------------------------------------------------------------


def engines() -> Report:
    """Each engine: usable, or why not."""
    from gpuloan_mc.engines.choice import gpu_problem

    problems = {name: gpu_problem(name) for name in GPU_ENGINES}
    return {name: "usable" if problem is None else str(problem) for name, problem in problems.items()}


def digests(book: str, engines: list[str], paths: int, repeats: int) -> Report:
    """The digest of each engine; of those on a GPU, whether all repeats have it."""
    portfolio, market = EQUAL[book]()
    found: Report = {}
    for name in engines:
        times = repeats if name in GPU_ENGINES else 1
        results = [gpuloan_mc.simulate(portfolio, market, n_paths=paths, seed=7, engine=name) for _ in range(times)]
        found[name] = results[0].digest if len({r.digest for r in results}) == 1 else "REPEATS DIFFER"
    outcome = "equal" if len(set(found.values())) == 1 else "DIFFERS"
    return {"loans": portfolio.n_loans, "digests": found, "outcome": outcome}


def limited(limit: int | None, paths: int) -> Report:
    """A run of the bundled book within a limit of device memory, or what it is refused with."""
    from gpuloan_mc.engines import cuda_device
    from gpuloan_mc.errors import EnvironmentProblem

    if limit is not None:
        os.environ["CUPY_GPU_MEMORY_LIMIT"] = str(limit)
    portfolio, market = _bundled(cases.BUNDLED)
    try:
        result = gpuloan_mc.simulate(portfolio, market, n_paths=paths, seed=7, engine="cuda", chunk=paths)
    except EnvironmentProblem as refused:
        return {"refused": str(refused)}
    return {"digest": result.digest, "seconds": result.seconds, "free_bytes": cuda_device.connect(0).free_bytes()}


def few(paths: int) -> Report:
    """A few paths of the bundled book, for the sanitizer."""
    portfolio, market = _bundled(cases.BUNDLED)
    return {"digest": gpuloan_mc.simulate(portfolio, market, n_paths=paths, seed=7, engine="cuda").digest}


def first_run(engine: str, cache: str, paths: int) -> Report:
    """Seconds until the first figures of a process, by stage."""
    os.environ["GPULOAN_MC_CACHE"] = cache
    portfolio, market = _bundled(cases.BUNDLED)
    begin = time.perf_counter()
    result = gpuloan_mc.simulate(portfolio, market, n_paths=paths, seed=7, engine=engine)
    wall = time.perf_counter() - begin
    compiled, seconds = result.compile_seconds, result.seconds
    return {"wall_seconds": wall, "compile": compiled, "seconds": seconds, "paths": paths, "digest": result.digest}


def timing(name: str, engine: str, paths: int, check_paths: int, repeats: int) -> Report:
    """Times of a case: the first run of a process (cold), then repeats (warm)."""
    from gpuloan_mc.engines import cuda_device
    from gpuloan_mc.engines.choice import make_engine
    from gpuloan_mc.engines.cupy_raw import CupyRaw
    from gpuloan_mc.planning import build_plan

    plan = build_plan(*TIMED[name].book())
    watched = EventClock(cuda_device.connect(0)) if engine == "cuda" else None
    runner: Any = make_engine(engine) if watched is None else CupyRaw((0,), connect=lambda _: watched)
    begin = time.perf_counter()
    runner.prepare(plan)
    prepared = time.perf_counter() - begin
    ours = runner.run(plan, 7, 0, check_paths).loss
    reference = make_engine("numba").run(plan, 7, 0, check_paths).loss
    if not (ours == reference).all():
        return {"equality": "DIFFERS", "check_paths": check_paths}
    share = cases.rates(plan, 7, TIMED[name].rate_paths)["live_share"]
    paths = _affordable(runner, plan, paths, repeats)
    walls, kernels = [], []
    for _ in range(repeats + 1):
        if watched is not None:
            watched.restart()
        begin = time.perf_counter()
        runner.run(plan, 7, 0, paths)
        walls.append(time.perf_counter() - begin)
        kernels.append(watched.total() if watched is not None else None)
    speeds = measure.timing(walls[1:], paths, plan.n_loans, int(plan.market.horizon), share)
    return {
        "equality": "equal", "check_paths": check_paths, "loans": plan.n_loans, "months": int(plan.market.horizon),
        "live_share": share, "prepare_seconds": prepared, "first_seconds": walls[0], **speeds,
        "kernel_seconds": None if watched is None else statistics.median(k for k in kernels[1:] if k is not None),
        "issue_limit_slots": None if watched is None else _issue_limit(watched),
    }  # fmt: skip


def _affordable(runner: Any, plan: Any, paths: int, repeats: int, seconds: float = 30.0) -> int:
    """The paths asked for, or as many as fit the time."""
    pilot = max(4, paths // 64)
    begin = time.perf_counter()
    runner.run(plan, 7, 0, pilot)
    each = (time.perf_counter() - begin) / pilot
    return max(pilot, min(paths, int(seconds / (repeats + 1) / each)))


def _issue_limit(device: Any) -> float | None:
    """Lane-slots a second that the device can issue at the clock it is said to reach."""
    try:
        return float(device.size.multiprocessors * 128 * float(about_device()["clocks.max.sm"]) * 1e6)
    except (KeyError, ValueError):
        return None


class EventClock:
    """A device that takes the time of its kernels by CUDA's own events."""

    def __init__(self, device: Any) -> None:
        self._device = device
        self._spans: list[tuple[Any, Any]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)

    def launch(self, launch: Any, *structs: bytes) -> None:
        """Start a kernel between two marks."""
        begin = self._device.mark()
        self._device.launch(launch, *structs)
        self._spans.append((begin, self._device.mark()))

    def restart(self) -> None:
        """Forget what was timed."""
        self._spans = []

    def total(self) -> float:
        """Seconds that the kernels took."""
        return float(sum(self._device.seconds(a, b) for a, b in self._spans))


def _install_seam() -> None:
    """A fake device, where a test names one."""
    file = os.environ.get(SEAM)
    if file:
        spec = importlib.util.spec_from_file_location("benchmark_seam", file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.install()


TASKS: dict[str, Callable[..., Report]] = {f.__name__: f for f in (engines, digests, limited, few, first_run, timing)}

if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] in TASKS:
        _install_seam()
        print(json.dumps(TASKS[sys.argv[1]](**json.loads(sys.argv[2]))))
    else:
        sys.exit(main())
