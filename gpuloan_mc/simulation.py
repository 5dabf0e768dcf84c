"""The straight line: portfolio and market to plan, plan through an engine, integers to a result."""

from __future__ import annotations

import dataclasses
import math
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .arguments import MAX_PATHS, MAX_SEED, MAX_WORKERS, device_numbers, whole_number
from .engines.choice import choose_engine, cpu_engine, default_paths, event_engine, make_engine
from .errors import EnvironmentProblem, Interrupted, UsageError
from .first_run import FirstRun, compiling_child
from .inputs.pool_file import PoolFile, as_pool
from .ledger import PRICE_PATHS, Ledger
from .manifest import read_manifest
from .market import Market
from .planning import build_plan
from .receipts import Pool
from .result import CENTS, Result
from .risk import Moments, tails
from .run_folder import Job, RunFolder, prepare_run_folder
from .scenario import Scenario, as_scenario, stressed
from .target import MAX_PATHS as TARGET_PATHS
from .target import Target
from .workforce import LocalWork, Workforce

if TYPE_CHECKING:
    from .portfolio import Portfolio

Progress = Callable[[int, int], None]
_SORTED_AT_ONCE = 1 << 23  # losses, in less than a second


def simulate(
    portfolio: Portfolio,
    market: Market,
    *,
    n_paths: int | None = None,
    seed: int = 1,
    engine: str = "auto",
    workers: int | None = None,
    devices: Sequence[int] | None = None,
    chunk: int | None = None,
    out: str | Path | None = None,
    host: bool = True,
    scenarios: Sequence[Scenario | str | Path] = (),
    target: Target | None = None,
    pool: PoolFile | str | Path | None = None,
    progress: Progress | None = None,
    cluster: Any = None,
    deadline: float | None = None,
    tell: Callable[[str], None] | None = None,
) -> Result:
    """The loss distribution of a book.

    Args:
        portfolio: the loans and the parties behind them.
        market: the world they live in.
        n_paths: futures to simulate, 1 … 2^40; None: the engine's default (1,000,000 on a GPU, 100,000 on numba,
            10,000 on numpy).
        seed: 0 … 2^64 - 1. Same book, market and seed: same integers, path by path.
        engine: auto, cuda, numba-cuda, numba or numpy; auto takes the first of cuda, numba-cuda and numba that can run
            here. No engine changes a figure, and one that was named is never replaced by another. The first run of auto on a
            machine may begin on numpy while numba is compiled (docs/engines.md); `result.engine_paths` tells.
        workers: threads of the engine numba; None: all cores. Changes speed, never a result.
        devices: numbers of the GPUs that engine cuda uses, as CUDA counts them; None: device 0. Each takes ranges of paths;
            changes speed, never a result.
        chunk: paths at a time; changes memory and speed, never a result.
        out: a new, empty or earlier run's folder to write the run into (docs/schema.md). What is done is safe there:
            `resume` goes on with a run that was stopped or killed.
        host: whether the manifest of `out` holds facts about this machine.
        scenarios: stresses applied in order before the run: a `Scenario`, a TOML file or a bundled one's name.
        target: stop as soon as a measure is so sure (`gpuloan_mc.target`); `n_paths` is then the most paths to take, None:
            10,000,000. `result.target` and summary.json tell what was reached.
        pool: a `PoolFile`, a pool.toml, or a book whose folder has one: on every path its tranches get the cash of the loans
            (docs/waterfall.md), and `result.waterfall(pool)` is there at once. For the engines of the CPU: auto takes numba.
        progress: called with (paths done, paths in all) after each chunk.
        cluster: a `distributed.Client`: its workers run the paths (docs/cluster.md), each with `engine`.
        deadline: seconds without an answer after which a worker of the cluster is given up; None: ten times the median of
            a chunk, at least 60.
        tell: called with a line for each worker of the cluster that is refused or given up, and when the engine numba is
            compiled; lines that are `news.News` are events with facts.

    Raises:
        UsageError: an argument is out of range, or `out` can't be used.
        EnvironmentProblem: the engine can't run on this machine, another process writes into `out`, or the disk is full.
        Interrupted: Ctrl-C; says how far the run has come.
        InputRejected: the book does not fit the market or a scenario, or cannot be planned.
    """
    seed = whole_number("seed", seed, 0, MAX_SEED)
    if n_paths is not None:
        n_paths = whole_number("n_paths", n_paths, 1, MAX_PATHS)
    tranches = None if pool is None else as_pool(pool)
    asked = engine if tranches is None else cpu_engine(engine, devices, cluster)
    with _workforce(asked, workers, devices, chunk, cluster, deadline, tell) as force:
        if n_paths is None:
            n_paths = default_paths(force.engine) if target is None else TARGET_PATHS
        if market != portfolio.market:
            portfolio = portfolio.replace(market=market)  # the book was checked against another one
        chain = [as_scenario(s) for s in scenarios]
        portfolio, market = stressed(portfolio, market, chain)
        with nullcontext() if out is None else RunFolder(prepare_run_folder(out)) as folder:
            start = time.perf_counter()
            plan = build_plan(portfolio, market)
            securitised = None if tranches is None else Pool.of(plan, portfolio, tranches)
            planned = time.perf_counter() - start
            applied = tuple((s.name, s.digest) for s in chain)
            job = Job(portfolio, plan, n_paths, seed, force.engine, force.reason, applied, target, securitised)
            if folder is not None:
                folder.begin(job, host=host)
            return _run(job, force, Ledger(plan, n_paths, securitised), planned, folder, progress)


def _workforce(
    engine: str,
    workers: int | None,
    devices: Sequence[int] | None,
    chunk: int | None,
    cluster: Any,
    deadline: float | None,
    tell: Callable[[str], None] | None,
) -> Workforce:
    """What runs the paths: an engine here, or the workers of a cluster."""
    if chunk is not None:
        chunk = whole_number("chunk", chunk, 1, MAX_PATHS)
    if workers is not None:
        workers = whole_number("workers", workers, 1, MAX_WORKERS)
    numbers = device_numbers(devices)
    if cluster is None:
        if deadline is not None:
            raise UsageError("a deadline is for the workers of a cluster; leave it away, or name a cluster")
        name, reason = choose_engine(engine, numbers)

        def here() -> LocalWork:
            return LocalWork(make_engine(name, workers, numbers), reason, chunk, tell)

        begun = compiling_child() if (engine, name) == ("auto", "numba") else None
        return here() if begun is None else FirstRun(begun, here, reason, chunk, tell)
    if workers is not None or numbers is not None:
        raise UsageError("workers of a cluster have their own threads and devices; leave workers and devices away")
    if deadline is not None and not 0 < deadline < math.inf:
        raise UsageError(f"deadline is {deadline!r:.40}; it must be a number of seconds above 0")
    from .crew import Crew

    return Crew(cluster, engine, deadline=deadline, chunk=chunk, tell=tell)


def resume(
    folder: str | Path,
    *,
    extend_paths: int | None = None,
    engine: str | None = None,
    workers: int | None = None,
    devices: Sequence[int] | None = None,
    chunk: int | None = None,
    progress: Progress | None = None,
    cluster: Any = None,
    deadline: float | None = None,
    tell: Callable[[str], None] | None = None,
) -> Result:
    """Go on with the run of a folder that was stopped or killed: the result, to the last cent, of one that was not.

    Args:
        folder: written by `simulate(out=...)` or `gpuloan-mc run --out`.
        extend_paths: paths in all, more than the run had; the others are added to them.
        engine: as for `simulate`; None: the run's own.
        workers, devices, chunk, progress, cluster, deadline: as for `simulate`.
        tell: called with a line for each file of finished paths that is damaged or of another run, which are run again, and
            for each worker of the cluster that is refused or given up, and when the engine numba is compiled.

    Raises:
        UsageError: the folder holds no run, or its book, its manifest or the program is another than when it began.
        EnvironmentProblem, Interrupted: as `simulate`.
    """
    read_manifest(Path(folder))  # no folder, no lock in it
    start = time.perf_counter()
    with ExitStack() as stack:
        place = stack.enter_context(RunFolder(folder))
        job = place.reopen()
        n_paths = job.n_paths if extend_paths is None else whole_number("extend_paths", extend_paths, 1, MAX_PATHS)
        if extend_paths is not None and n_paths <= job.n_paths:
            raise UsageError(f"{folder} is a run of {job.n_paths:,} paths already; extend it to more than these")
        asked = "auto" if engine is None and (devices is not None or cluster is not None) else engine
        if asked is not None and job.pool is not None:
            asked = cpu_engine(asked, devices, cluster)
        force = stack.enter_context(_workforce(asked or job.engine, workers, devices, chunk, cluster, deadline, tell))
        if asked is not None:
            job = dataclasses.replace(job, engine=force.engine, engine_reason=force.reason)
        ledger = Ledger(job.plan, n_paths, job.pool)
        if extend_paths is not None:
            place.extend(n_paths, job.pool)
            job = dataclasses.replace(job, n_paths=n_paths, target=None)
        place.load(ledger)
        _add_prices(job, ledger, place)
        if place.complete:
            return _result(job, ledger, {"plan": 0.0, "compile": 0.0, "paths": place.seconds})
        for path, why in place.chunks.bad.items():
            if tell is not None:
                tell(f"{path}: {why}; its paths are run again")
        return _run(job, force, ledger, time.perf_counter() - start, place, progress)


def _add_prices(job: Job, ledger: Ledger, folder: RunFolder) -> None:
    """The prices of a finished run are not among its files: its paths that have them are run again."""
    n_paths = min(folder.n_finished, PRICE_PATHS)
    if n_paths == 0:
        return
    engine = event_engine(job.engine)
    engine.prepare(job.plan)
    again = engine.run(job.plan, job.seed, 0, n_paths, prices=True)
    if again.prices is None or not np.array_equal(again.loss, ledger.losses[:n_paths]):
        raise EnvironmentProblem(
            f"{folder.path}: paths of the run lose something else when they are run again here; "
            f"gpuloan-mc verify {folder.path} says which"
        )
    ledger.prices[:n_paths] = again.prices


def _run(
    job: Job,
    force: Workforce,
    ledger: Ledger,
    planned: float,
    folder: RunFolder | None,
    progress: Progress | None,
) -> Result:
    """Run the paths that the ledger lacks."""
    with _told(job, ledger, folder):
        start = time.perf_counter()
        force.prepare(job.plan, job.pool)
        prepared = time.perf_counter()
        before = 0.0 if folder is None else folder.seconds
        for look in [job.n_paths] if job.target is None else job.target.looks(job.n_paths):
            if look < ledger.end:
                continue  # the run has gone beyond it
            _add_paths(job, force, look, ledger, folder, progress)
            if job.target is not None and job.target.error_of(ledger.losses[:look]) <= job.target.error:
                ledger.cut(look)
                break
        seconds = before + time.perf_counter() - prepared
        result = _result(job, ledger, {"plan": planned, "compile": prepared - start, "paths": seconds})
        if folder is not None:
            folder.finish(result, ledger)
        return result


def _result(job: Job, ledger: Ledger, timings: dict[str, float]) -> Result:
    found = Result.of(
        ledger,
        job.portfolio,
        job.plan,
        seed=job.seed,
        engine=job.engine,
        engine_reason=job.engine_reason,
        timings=timings,
    )
    pool = None if job.pool is None else job.pool.file
    return dataclasses.replace(found, scenarios=job.scenarios, target=job.target, pool=pool)


def _add_paths(
    job: Job,
    force: Workforce,
    end: int,
    ledger: Ledger,
    folder: RunFolder | None,
    progress: Progress | None,
) -> None:
    """Run all paths below `end` that the ledger lacks."""
    if progress is not None:
        progress(ledger.done, job.n_paths)
    for chunk in force.tables(job, ledger, end):
        ledger.add(chunk.table, chunk.engine)
        if folder is not None:
            folder.add(chunk)
        if progress is not None:
            progress(ledger.done, job.n_paths)


@contextmanager
def _told(job: Job, ledger: Ledger, folder: RunFolder | None) -> Iterator[None]:
    """What stops a run says how far it has come, and how to go on."""
    way_on = "" if folder is None else f"gpuloan-mc resume {shlex.quote(str(folder.path))}"
    try:
        yield
    except KeyboardInterrupt:
        if folder is not None:
            folder.flush()
            way_on = f"\ngo on with: {way_on}"
        raise Interrupted(_so_far(ledger, job.n_paths) + way_on) from None
    except EnvironmentProblem as problem:
        if folder is None:
            raise
        raise EnvironmentProblem(f"{problem}\nwhat is done is safe; go on with: {way_on}") from problem


def _so_far(ledger: Ledger, n_paths: int) -> str:
    """What an interrupted run knows."""
    if ledger.done == 0:
        return f"stopped before the first of {n_paths:,} paths was done"
    loss = sum((Moments.of(losses) for losses in ledger.known_losses()), Moments(0, 0, 0))
    text = (
        f"stopped after {ledger.done:,} of {n_paths:,} paths: expected loss {loss.mean / CENTS:,.0f} "
        f"± {loss.standard_error / CENTS:,.0f} dollars so far"
    )
    if ledger.done > _SORTED_AT_ONCE:
        return text
    tail = tails(np.sort(np.concatenate(list(ledger.known_losses()))), [0.99])[0]
    return f"{text}, ES 99 % {tail.shortfall / CENTS:,.0f} ± {tail.shortfall_se / CENTS:,.0f}"
