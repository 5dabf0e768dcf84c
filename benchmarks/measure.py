"""Measurements, each in a process of its own so that its peak memory is its own: `python measure.py TASK ARGUMENTS`.

The arguments are JSON, the answer is the last line of output as JSON. `child` starts one.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import inspect
import json
import os
import platform
import re
import resource
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SEED = 7
LOG = 3000  # characters of a failed child's last words that are kept
MAX_PATHS = 10_000_000
PACKAGES = ("numpy", "scipy", "numba", "llvmlite")

Answer = dict[str, Any]


# --- in the parent ----------------------------------------------------------------------------------------------------


def child(task: str, arguments: Answer, **options: Any) -> Answer:
    """A task's answer, or {"failed": why}; options as of `answers`."""
    lines, failed = answers(task, arguments, **options)
    return failed or lines[-1]


def answers(
    task: str,
    arguments: Answer,
    *,
    script: Path = Path(__file__),
    python: str = sys.executable,
    timeout: float = 3600,
    package: bool = True,
    more: dict[str, str] | None = None,
) -> tuple[list[Answer], Answer]:
    """All that a task said, a line each, up to its end or the time limit; and {"failed": why}, or nothing.

    `package`: it sees the same gpuloan_mc as this process. `more`: environment of its own, such as another checkout's.
    """
    environment = dict(os.environ)
    if package:
        spec = importlib.util.find_spec("gpuloan_mc")
        assert spec is not None and spec.origin is not None
        found = [str(Path(spec.origin).parent.parent), os.environ.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, found))
    environment |= more or {}
    failed: Answer = {}
    try:
        done = bounded([python, str(script), task, json.dumps(arguments)], timeout, env=environment)
        text = done.stdout
        if done.returncode:
            failed = {"failed": why(done.returncode, done.stderr), "log": _without_folders(done.stderr[-LOG:])}
    except subprocess.TimeoutExpired as late:
        failed, text = {"failed": f"not finished in {timeout:.0f} s"}, str(late.output or "")
    return [dict(json.loads(line)) for line in text.splitlines() if line.startswith("{") and line.endswith("}")], failed


def bounded(command: list[str], timeout: float, **options: Any) -> subprocess.CompletedProcess[str]:
    """A command that ends in time, with all that it started.

    Raises:
        subprocess.TimeoutExpired: it did not; `output` is what it said so far.
    """
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, start_new_session=True, **streams, **options) as process:
        try:
            said, complained = process.communicate(timeout=timeout)
        except BaseException as error:  # Ctrl-C too: its process group is not the terminal's
            os.killpg(process.pid, signal.SIGKILL)
            said, _ = process.communicate()
            if isinstance(error, subprocess.TimeoutExpired):
                raise subprocess.TimeoutExpired(command, timeout, said) from None
            raise
    return subprocess.CompletedProcess(command, process.returncode, said, complained)


def why(code: int, complaints: str) -> str:
    """What stopped a child, in one line that names no folder."""
    if "MemoryError" in complaints or "Unable to allocate" in complaints or code == -9:
        return "out of memory"
    last = [line for line in complaints.strip().splitlines() if line.strip()][-1:]
    return _without_folders(last[0]) if last else f"exit code {code}"


def _without_folders(text: str) -> str:
    return re.sub(r"(/[\w.@+-]+)+/", "", text)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> Answer:
    """What the figures depend on; no name of the host."""
    return {
        "cpu": _cpu(),
        "cores": cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _cpu() -> str:
    """Model, with family and number where the name alone says little."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(re.findall(r"^([^\t:]+)\t*: (.*)$", text.split("\n\n")[0], re.M))
    name = fields.get("model name", platform.machine())
    return f"{name} ({fields['cpu family']}/{fields['model']})" if "cpu family" in fields else name


def slug(about: Answer) -> str:
    """A machine's file name: cpu and cores."""
    return re.sub(r"[^a-z0-9]+", "-", f"{about['cpu']} {about['cores']} cores".lower()).strip("-")


def versions(names: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Versions of the packages that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def load() -> list[float]:
    """The machine's load over 1, 5 and 15 minutes: what else was running."""
    return [round(x, 2) for x in os.getloadavg()]


def timing(seconds: list[float], paths: int, loans: int, steps: int, live_share: float) -> Answer:
    """Speeds from the median of repeated runs; `steps` loan-steps a path and loan."""
    middle = statistics.median(seconds)
    loan_steps = paths * loans * steps
    return {
        "paths": paths,
        "seconds": [round(s, 4) for s in seconds],
        "median_seconds": round(middle, 4),
        "spread": round((max(seconds) - min(seconds)) / middle, 3),
        "paths_per_second": paths / middle,
        "loan_steps_per_second": loan_steps / middle,
        "live_loan_months_per_second": loan_steps * live_share / middle,
        "loan_draws_per_second": paths * loans / middle,
        "ns_per_loan_step": middle / loan_steps * 1e9,
    }


# --- in the child -----------------------------------------------------------------------------------------------------


def peak_memory() -> int:
    """The most memory this process has held, bytes.

    Linux's getrusage still counts the parent's pages from before exec, so its own file comes first.
    """
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        found = None
    return 1024 * int(found[1] if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def repeated(run: Callable[[int], float], start: int, seconds: float, repeats: int, step: int = 1) -> tuple[int, Any]:
    """Paths that fill `seconds`, a multiple of `step`, and the times of that many paths, `repeats` times."""
    spent = run(start)
    paths = int(start * min(seconds / max(spent, 1e-9), MAX_PATHS / start))
    paths = max(step, min(MAX_PATHS, paths // step * step))
    return paths, [run(paths) for _ in range(repeats)]


def is_there(engine: str) -> bool:
    """Whether this version has the engine."""
    from gpuloan_mc.engines.choice import ENGINES

    return engine in ENGINES


def simulation(book: Any, engine: str, workers: int | None, n_paths: int, seed: int = SEED) -> Any:
    """A run of an engine; workers None: an engine without threads."""
    import gpuloan_mc

    portfolio, market = book
    known = inspect.signature(gpuloan_mc.simulate).parameters
    more = {} if workers is None or "workers" not in known else {"workers": workers}
    if engine == "numpy":
        more["chunk"] = reference_chunk(portfolio.n_loans)
    return gpuloan_mc.simulate(portfolio, market, n_paths=n_paths, seed=seed, engine=engine, **more)


def reference_chunk(n_loans: int) -> int:
    """Paths at a time of the reference engine: its float64 arrays of loans about 2 MiB."""
    return max(16, 2**18 // n_loans)


def figures(result: Any) -> Answer:
    """What the array program is compared with."""
    return {
        "paths": result.n_paths,
        "expected_loss": result.expected_loss,
        "expected_loss_se": result.expected_loss_se,
        "defaults": result.default_rate * result.n_loans,
        "defaults_se": result.default_rate_se * result.n_loans,
    }


def facts(case: str, n_paths: int) -> Answer:
    """Loans, months, live share and events of a case."""
    import cases

    from gpuloan_mc.planning import build_plan

    plan = build_plan(*cases.CASES[case].book())
    return {
        "loans": plan.n_loans,
        "deployments": len(plan.deployments.key),
        "months": int(plan.market.horizon),
        "plan_digest": plan.digest,
        "rates_paths": n_paths,
        "rates": cases.rates(plan, SEED, n_paths),
    }


def check(case: str, engine: str, threads: list[int | None], paths: int) -> Answer:
    """The digest of an engine's losses for each number of threads."""
    import cases

    book = cases.CASES[case].book()
    results = [simulation(book, engine, n, paths) for n in threads]
    return {
        "digests": [r.digest for r in results],
        "compile_seconds": getattr(results[0], "compile_seconds", 0.0),
        "seconds": results[0].seconds,
        "figures": figures(results[0]),
        "peak_memory": peak_memory(),
    }


def engine(
    case: str, engine: str, threads: int | None, start: int, seconds: float, repeats: int, live_share: float
) -> Answer:
    """Times of an engine on a case. The first run warms up and compiles; the reference is timed in whole chunks."""
    import cases

    book = cases.CASES[case].book()
    first = simulation(book, engine, threads, start)
    last = [first]
    chunk = reference_chunk(first.n_loans) if engine == "numpy" else 1

    def run(n_paths: int) -> float:
        last[0] = simulation(book, engine, threads, n_paths)
        return float(last[0].seconds)

    paths, times = repeated(run, max(start, chunk), seconds, repeats, chunk)
    return {
        **timing(times, paths, first.n_loans, first.horizon_months, live_share),
        "compile_seconds": getattr(first, "compile_seconds", 0.0),
        "peak_memory": peak_memory(),
        "figures": figures(last[0]),
    }


def arrays(
    case: str, method: str, threads: int, start: int, seconds: float, repeats: int, live_share: float
) -> Answer:
    """Times of the array program on a case, and its figures."""
    import arrays as program
    import cases
    import numpy as np

    from gpuloan_mc.planning import build_plan

    plan = build_plan(*cases.CASES[case].book())
    chunk = program.chunk_size(plan, program.numpy_library()) * threads
    last: list[Any] = [program.run(plan, start, seed=SEED, workers=threads, method=method)]

    def run(n_paths: int) -> float:
        begin = time.perf_counter()
        last[0] = program.run(plan, n_paths, seed=SEED, workers=threads, method=method)
        return time.perf_counter() - begin

    paths, times = repeated(run, max(start, chunk), seconds, repeats, chunk)
    losses, defaults = last[0].losses, last[0].defaults
    return {
        **timing(times, paths, plan.n_loans, int(plan.market.horizon), live_share),
        "peak_memory": peak_memory(),
        "figures": {
            "paths": paths,
            "expected_loss": float(losses.mean()),
            "expected_loss_se": float(losses.std(ddof=1) / np.sqrt(paths)),
            "defaults": float(defaults.mean()),
            "defaults_se": float(defaults.std(ddof=1) / np.sqrt(paths)),
        },
    }


def parts(case: str, seconds: float, repeats: int) -> Answer:
    """What the engine numba spends a loan-month on."""
    import bounds

    return bounds.parts(case, seconds, repeats, SEED)


def fma(threads: list[int], seconds: float, repeats: int) -> Answer:
    """Speed of a bare fma loop: what more threads can gain on this machine. Its 256 float32 stay in registers."""
    import numba
    import numpy as np

    @numba.njit(nogil=True, fastmath=True)
    def loop(x: Any, a: Any, b: Any, n: int) -> None:
        for _ in range(n):
            for i in range(256):  # known to the compiler, so that it keeps them in registers
                x[i] = x[i] * a + b

    def one(n: int) -> None:
        loop(np.ones(256, np.float32), np.float32(0.5), np.float32(1), n)

    def run(n: int, count: int) -> float:
        workers = [threading.Thread(target=one, args=(n,)) for _ in range(count)]
        begin = time.perf_counter()
        for w in workers:
            w.start()
        for w in workers:
            w.join()
        return time.perf_counter() - begin

    one(1)
    n = int(1_000_000 * seconds / run(1_000_000, 1))
    times = {count: [run(n, count) for _ in range(repeats)] for count in threads}
    speeds = {count: count * 256 * n / statistics.median(t) for count, t in times.items()}
    return {
        "threads": threads,
        "fma_per_second": [speeds[count] for count in threads],
        "gain": speeds[threads[-1]] / speeds[threads[0]],
    }


TASKS: dict[str, Callable[..., Answer]] = {f.__name__: f for f in (facts, check, engine, arrays, parts, fma)}

if __name__ == "__main__":
    print(json.dumps(TASKS[sys.argv[1]](**json.loads(sys.argv[2]))))
