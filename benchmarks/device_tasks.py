"""What `device.py` has done in processes of their own: books, and tasks that say what they find, a line of JSON each.

    python benchmarks/device_tasks.py TASK ARGUMENTS     arguments as JSON
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import cases
import measure

import gpuloan_mc

GPU_ENGINES = ("cuda", "numba-cuda")
SEAM = "GPULOAN_MC_BENCHMARK_SEAM"  # tests: a file whose install() puts a fake device in the place of CuPy's
SMI = ("name", "driver_version", "clocks.sm", "clocks.max.sm", "clocks.mem", "power.limit", "temperature.gpu",
       "compute_mode", "memory.total", "memory.used")  # fmt: skip

Report = dict[str, Any]


# --- books ------------------------------------------------------------------------------------------------------------


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


# --- tasks ------------------------------------------------------------------------------------------------------------


def about_device() -> Report:
    """What nvidia-smi says; only questions are put to it."""
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return {"failed": "nvidia-smi is not here"}
    command = [smi, f"--query-gpu={','.join(SMI)}", "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    rows = [[cell.strip() for cell in line.split(",")] for line in done.stdout.strip().splitlines()]
    return {**dict(zip(SMI, rows[0], strict=True)), "gpus": len(rows)}


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
    _install_seam()
    said = TASKS[sys.argv[1]](**json.loads(sys.argv[2]))
    for answer in [said] if isinstance(said, dict) else said:
        print(json.dumps(answer), flush=True)
