"""The straight line: portfolio and market to plan, plan through an engine, integers to a result."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import MAX_PATHS, MAX_SEED, whole_number
from .engines.numpy_reference import NumpyReference, paths_at_once
from .errors import UsageError
from .ledger import PRICE_PATHS, Ledger
from .market import Market
from .planning import build_plan
from .result import Result
from .run_folder import RunFolder

if TYPE_CHECKING:
    from .portfolio import Portfolio

Progress = Callable[[int, int], None]

ENGINES = ("auto", "numpy")
DEFAULT_PATHS = {"numpy": 10_000}


def simulate(
    portfolio: Portfolio,
    market: Market,
    *,
    n_paths: int | None = None,
    seed: int = 1,
    engine: str = "auto",
    chunk: int | None = None,
    out: str | Path | None = None,
    host: bool = True,
    progress: Progress | None = None,
) -> Result:
    """The loss distribution of a book.

    Args:
        portfolio: the loans and the parties behind them.
        market: the world they live in.
        n_paths: futures to simulate, 1 … 2^40; None: the engine's default (10,000 on numpy).
        seed: 0 … 2^64 - 1. Same book, market and seed: same integers, path by path.
        engine: auto or numpy.
        chunk: paths at a time; changes memory and speed, never a result.
        out: a new, empty or earlier run's folder to write the run into (docs/schema.md).
        host: whether the manifest of `out` holds facts about this machine.
        progress: called with (paths done, paths in all) after each chunk.

    Raises:
        UsageError: an argument is out of range, or `out` can't be used.
        InputRejected: the book does not fit the market, or cannot be planned.
    """
    name, reason = choose_engine(engine)
    n_paths = whole_number("n_paths", DEFAULT_PATHS[name] if n_paths is None else n_paths, 1, MAX_PATHS)
    seed = whole_number("seed", seed, 0, MAX_SEED)
    if chunk is not None:
        chunk = whole_number("chunk", chunk, 1, MAX_PATHS)
    if market != portfolio.market:
        portfolio = portfolio.replace(market=market)  # the book was checked against another one
    with nullcontext() if out is None else RunFolder(out) as folder:
        result = _run(portfolio, market, n_paths, seed, name, reason, chunk, folder, progress)
        if folder is not None:
            folder.finish(result, market, host=host)
    return result


def _run(
    portfolio: Portfolio,
    market: Market,
    n_paths: int,
    seed: int,
    engine: str,
    reason: str,
    chunk: int | None,
    folder: RunFolder | None,
    progress: Progress | None,
) -> Result:
    start = time.perf_counter()
    plan = build_plan(portfolio, market)
    planned = time.perf_counter()
    runner, ledger = NumpyReference(), Ledger(plan, n_paths)
    if progress is not None:
        progress(0, n_paths)
    for first, count in chunks(n_paths, chunk or paths_at_once(plan)):
        table = runner.run(plan, seed, first, count, prices=first < PRICE_PATHS)
        ledger.add(table)
        if folder is not None:
            folder.add(table)
        if progress is not None:
            progress(ledger.done, n_paths)
    timings = {"plan": planned - start, "paths": time.perf_counter() - planned}
    return Result.of(ledger, portfolio, plan, seed=seed, engine=engine, engine_reason=reason, timings=timings)


def choose_engine(engine: str) -> tuple[str, str]:
    """Name of the engine that runs, and why that one.

    Raises:
        UsageError: no such engine.
    """
    if engine not in ENGINES:
        raise UsageError(f"engine is {engine!r}; it must be one of {', '.join(ENGINES)}")
    if engine == "auto":
        return "numpy", "auto: numpy, the reference engine, is the only one in this version"
    return engine, "asked for"


def chunks(n_paths: int, size: int) -> Iterator[tuple[int, int]]:
    """(first path, number of paths) of each chunk; the paths whose prices are kept are chunks of their own."""
    first = 0
    while first < n_paths:
        end = min(first + size, PRICE_PATHS if first < PRICE_PATHS else n_paths, n_paths)
        yield first, end - first
        first = end
