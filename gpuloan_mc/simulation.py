"""The straight line: portfolio and market to plan, plan through an engine, integers to a result."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import MAX_PATHS, MAX_SEED, MAX_WORKERS, device_numbers, whole_number
from .engines.base import Engine
from .engines.choice import choose_engine, default_paths, make_engine
from .engines.pace import Pace
from .errors import Interrupted
from .ledger import PRICE_PATHS, Ledger
from .market import Market
from .plan import Plan
from .planning import build_plan
from .result import CENTS, Result
from .risk import Moments
from .run_folder import RunFolder
from .scenario import Scenario, as_scenario, stressed

if TYPE_CHECKING:
    from .portfolio import Portfolio

Progress = Callable[[int, int], None]


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
    progress: Progress | None = None,
) -> Result:
    """The loss distribution of a book.

    Args:
        portfolio: the loans and the parties behind them.
        market: the world they live in.
        n_paths: futures to simulate, 1 … 2^40; None: the engine's default (1,000,000 on a GPU, 100,000 on numba,
            10,000 on numpy).
        seed: 0 … 2^64 - 1. Same book, market and seed: same integers, path by path.
        engine: auto, cuda, numba-cuda, numba or numpy; auto takes the first of cuda, numba-cuda and numba that can run
            here. No engine changes a figure, and one that was named is never replaced by another.
        workers: threads of the engine numba; None: all cores. Changes speed, never a result.
        devices: numbers of the GPUs that engine cuda uses, as CUDA counts them; None: device 0. Each takes ranges of paths;
            changes speed, never a result.
        chunk: paths at a time; changes memory and speed, never a result.
        out: a new, empty or earlier run's folder to write the run into (docs/schema.md).
        host: whether the manifest of `out` holds facts about this machine.
        scenarios: stresses applied in order before the run: a `Scenario`, a TOML file or a bundled one's name.
        progress: called with (paths done, paths in all) after each chunk.

    Raises:
        UsageError: an argument is out of range, or `out` can't be used.
        EnvironmentProblem: the engine can't run on this machine.
        Interrupted: Ctrl-C; says how far the run has come.
        InputRejected: the book does not fit the market or a scenario, or cannot be planned.
    """
    devices = device_numbers(devices)
    name, reason = choose_engine(engine, devices)
    n_paths = whole_number("n_paths", default_paths(name) if n_paths is None else n_paths, 1, MAX_PATHS)
    seed = whole_number("seed", seed, 0, MAX_SEED)
    if chunk is not None:
        chunk = whole_number("chunk", chunk, 1, MAX_PATHS)
    if workers is not None:
        workers = whole_number("workers", workers, 1, MAX_WORKERS)
    if market != portfolio.market:
        portfolio = portfolio.replace(market=market)  # the book was checked against another one
    chain = [as_scenario(s) for s in scenarios]
    portfolio, market = stressed(portfolio, market, chain)
    with nullcontext() if out is None else RunFolder(out) as folder:
        runner = make_engine(name, workers, devices)
        result = _run(portfolio, market, n_paths, seed, runner, reason, chunk, folder, progress)
        result = dataclasses.replace(result, scenarios=tuple((s.name, s.digest) for s in chain))
        if folder is not None:
            folder.finish(result, market, host=host)
    return result


def _run(
    portfolio: Portfolio,
    market: Market,
    n_paths: int,
    seed: int,
    engine: Engine,
    reason: str,
    chunk: int | None,
    folder: RunFolder | None,
    progress: Progress | None,
) -> Result:
    start = time.perf_counter()
    plan = build_plan(portfolio, market)
    planned = time.perf_counter()
    engine.prepare(plan)
    prepared = time.perf_counter()
    ledger = Ledger(plan, n_paths)
    try:
        _add_paths(engine, plan, seed, n_paths, chunk, ledger, folder, progress)
    except KeyboardInterrupt:
        raise Interrupted(_so_far(ledger, n_paths)) from None
    timings = {"plan": planned - start, "compile": prepared - planned, "paths": time.perf_counter() - prepared}
    return Result.of(ledger, portfolio, plan, seed=seed, engine=engine.name, engine_reason=reason, timings=timings)


def _add_paths(
    engine: Engine,
    plan: Plan,
    seed: int,
    n_paths: int,
    chunk: int | None,
    ledger: Ledger,
    folder: RunFolder | None,
    progress: Progress | None,
) -> None:
    if progress is not None:
        progress(0, n_paths)
    pace = Pace(engine.first_chunk(plan), engine.longest_chunk(plan)) if chunk is None else Pace(chunk, chunk)
    while ledger.done < n_paths:
        first = ledger.done
        # the paths whose prices are kept are chunks of their own
        end = min(first + pace.size, PRICE_PATHS if first < PRICE_PATHS else n_paths, n_paths)
        table = pace.timed(lambda: engine.run(plan, seed, first, end - first, prices=first < PRICE_PATHS))  # noqa: B023
        ledger.add(table)
        if folder is not None:
            folder.add(table)
        if progress is not None:
            progress(ledger.done, n_paths)


def _so_far(ledger: Ledger, n_paths: int) -> str:
    """What an interrupted run knows."""
    if ledger.done == 0:
        return f"stopped before the first of {n_paths:,} paths was done"
    loss = Moments.of(ledger.losses[: ledger.done])
    return (
        f"stopped after {ledger.done:,} of {n_paths:,} paths: expected loss {loss.mean / CENTS:,.0f} "
        f"± {loss.standard_error / CENTS:,.0f} dollars so far"
    )
