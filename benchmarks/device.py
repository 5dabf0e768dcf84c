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
import importlib.util
import json
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
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
LIMITS = {"tests": 110, "equality": 110, "memory": 40, "sanitizer": 80, "start": 40, "cases": 300}
CASES = 190.0  # seconds that the parts before the cases leave for them
GPU_ENGINES = ("cuda", "numba-cuda")
ARRAYS = "array program"
ARRAY_CASES = ("plain-own", "typical", "typical-half")
# books, and the first paths of each, that the sanitizer sees: several paths a warp, a block a path, plain loans, a cluster
SANITIZED = {"neocloud-2024": 64, "gpu-300": 8, "plain-own": 64, "plain-groups": 64, "gpu-6000": 2}
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
        lines, failed = measure.answers("digests", arguments, script=Path(__file__), timeout=limit)
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
    """memcheck and racecheck on a few paths of books of every mapping, where compute-sanitizer is installed.

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
        task = [sys.executable, __file__, "few", json.dumps({"book": book, "paths": paths})]
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


# --- in the child -----------------------------------------------------------------------------------------------------


def engines() -> Report:
    """Each engine: usable, or why not."""
    from gpuloan_mc.engines.choice import gpu_problem

    problems = {name: gpu_problem(name) for name in GPU_ENGINES}
    return {name: "usable" if problem is None else str(problem) for name, problem in problems.items()}


def digests(books: list[str], engines: list[str], paths: int, repeats: int) -> Iterator[Report]:
    """The digest of each book by each engine; of those on a GPU, whether all repeats have it."""
    for book in books:
        portfolio, market = EQUAL[book]()
        for name in engines:
            times = repeats if name in GPU_ENGINES else 1
            results = [gpuloan_mc.simulate(portfolio, market, n_paths=paths, seed=7, engine=name) for _ in range(times)]
            digest = results[0].digest if len({r.digest for r in results}) == 1 else "REPEATS DIFFER"
            yield {"book": book, "loans": portfolio.n_loans, "engine": name, "digest": digest}


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


def few(book: str, paths: int) -> Report:
    """A few paths of a book, for the sanitizer."""
    portfolio, market = EQUAL[book]() if book in EQUAL else gpu_book(6000, 12)
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
    paths = _affordable(lambda n: runner.run(plan, 7, 0, n), paths, repeats)
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


def array_program(name: str, paths: int, repeats: int) -> Report:
    """Times of the array program on CuPy, and whether its mean loss is that of engine cuda within their errors."""
    import arrays
    import numpy as np

    from gpuloan_mc.planning import build_plan

    portfolio, market = TIMED[name].book()
    plan, library = build_plan(portfolio, market), arrays.cupy_library()

    def run(n_paths: int) -> Any:
        return arrays.run(plan, n_paths, seed=7, library=library)

    ours = gpuloan_mc.simulate(portfolio, market, n_paths=min(paths, 20_000), seed=7, engine="cuda")
    paths = _affordable(run, paths, repeats)
    walls = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        losses = run(paths).losses
        walls.append(time.perf_counter() - begin)
    error = math.hypot(float(losses.std(ddof=1)) / math.sqrt(paths), ours.expected_loss_se)
    apart = abs(float(np.mean(losses)) - ours.expected_loss) / error
    share = cases.rates(plan, 7, TIMED[name].rate_paths)["live_share"]
    speeds = measure.timing(walls[1:], paths, plan.n_loans, int(plan.market.horizon), share)
    return {
        "equality": "equal" if apart < 4 else f"{apart:.1f} standard errors apart", "loans": plan.n_loans,
        "months": int(plan.market.horizon), "live_share": share, "first_seconds": walls[0], **speeds,
        "kernel_seconds": None, "issue_limit_slots": None,
    }  # fmt: skip


def _affordable(run: Callable[[int], Any], paths: int, repeats: int, seconds: float = 20.0) -> int:
    """The paths asked for, or as many as fit the time, by pilots that grow until one takes a tenth of a second."""
    pilot, took = min(64, paths), 0.0
    while True:
        begin = time.perf_counter()
        run(pilot)
        took = time.perf_counter() - begin
        if took > 0.1 or pilot == paths:
            return max(pilot, min(paths, int(seconds / (repeats + 1) / took * pilot)))
        pilot = min(4 * pilot, paths)


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


TASKS: dict[str, Callable[..., Report | Iterator[Report]]] = {
    f.__name__: f for f in (engines, digests, limited, few, first_run, timing, array_program)
}

if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] in TASKS:
        _install_seam()
        said = TASKS[sys.argv[1]](**json.loads(sys.argv[2]))
        for answer in [said] if isinstance(said, dict) else said:
            print(json.dumps(answer), flush=True)
    else:
        sys.exit(main())
