"""Engine `numba`: the path functions compiled for this CPU, paths over threads, loans and obligors over SIMD lanes."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from ..plan import Plan
from ..reference.arithmetic import I64
from ..reference.path import Defaults, History
from .base import Events, Footprint, LoanTable, PathTable, PoolCash, table_bytes
from .numba_compile import Compiled, cache_folder, compiled, import_numba

_BLOCKS_A_WORKER = 16
_LARGEST_BLOCK = 1024  # paths: a worker is asked to stop between four paths, and asks for more between blocks
_LONGEST_CHUNK = 262_144
_WAIT = 0.1  # seconds between looks at the workers, so that Ctrl-C is seen


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class NumbaCpu:
    """Engine `numba` on some threads. It keeps the layout and the memory of the last plan."""

    name = "numba"

    def __init__(self, workers: int | None = None) -> None:
        import_numba()
        self.workers = available_cores() if workers is None else workers
        self._plan: Plan | None = None

    def prepare(self, plan: Plan) -> Compiled:
        """Lay the plan out and compile, unless both are done.

        Raises:
            EnvironmentProblem: numba is missing, broken or can't compile here.
        """
        from numba import typeof

        from .numba_layout import lay_out, structs
        from .numba_loops import run_paths
        from .numba_memory import memory
        from .numba_structs import Struct

        if self._plan is not plan:
            book = lay_out(plan)
            self._book, self._book_values = structs(book), book
            self._memory = [Struct(memory(book)) for _ in range(self.workers)]
            self._plan = plan
        columns, sums, stop = Struct(_path_columns(plan, 1, False)), Struct(_sums(plan)), np.zeros(1, np.int64)
        arguments = (self._book, self._memory[0], columns, sums, np.uint64(0), np.uint64(0), 0, 0, stop)
        return compiled(run_paths, tuple(typeof(a) for a in arguments))

    def first_chunk(self, plan: Plan) -> int:
        """Paths of a run's first chunk: a few a worker."""
        return 64 * self.workers

    def longest_chunk(self, plan: Plan) -> int:
        """Paths of a chunk at most: 36 bytes each, and prices where they are kept."""
        return _LONGEST_CHUNK

    def footprint(self, plan: Plan, chunk: int) -> Footprint:
        """The layout, each worker's memory and sums, and a table."""
        self.prepare(plan)
        each = array_bytes(self._memory[0].values) + array_bytes(_sums(plan))
        return Footprint(array_bytes(self._book_values) + self.workers * each + 2 * table_bytes(plan, chunk))

    def run(self, plan: Plan, seed: int, first_path: int, n_paths: int, *, prices: bool = False) -> PathTable:
        """The integers of paths first_path … first_path + n_paths - 1, with their prices when asked for."""
        from .digit_rows import added, path_table

        entry = self.prepare(plan).entry
        columns = _path_columns(plan, n_paths, prices)
        sums = self._in_blocks(entry, plan, seed, first_path, columns, self._memory)
        return path_table(first_path, columns._asdict(), added(sums), prices)

    def _in_blocks(
        self, entry: Any, plan: Plan, seed: int, first_path: int, columns: Any, memories: Sequence[Any]
    ) -> list[Any]:
        """Paths from `first_path` on into the columns, a block after another; each worker's sums."""
        from .numba_structs import Struct

        n_paths = len(columns.loss)
        columns_struct, sums = Struct(columns), [_sums(plan) for _ in range(self.workers)]
        stop = np.zeros(1, np.int64)
        blocks = iter(_blocks(first_path, n_paths, self.workers))

        def work(memory: Struct, own: Struct) -> None:
            for first, count in blocks:  # shared: a list iterator gives each block once
                if stop[0]:
                    break
                row = first - first_path
                entry(self._book, memory, columns_struct, own, np.uint64(seed), np.uint64(first), count, row, stop)

        tables = [Struct(s) for s in sums]
        with ThreadPoolExecutor(self.workers, thread_name_prefix="gpuloan-mc") as pool:
            futures = [pool.submit(work, m, s) for m, s in zip(memories, tables, strict=True)]
            _wait_for(futures, stop)
        return sums

    def events(self, plan: Plan, seed: int, paths: I64) -> Events:
        """Every default of the paths with these numbers."""
        entry = self.prepare(plan).entry
        return Events(*self._alone(entry, plan, seed, paths, self._memory)[: len(fields(Events))])

    def replay(self, plan: Plan, seed: int, paths: I64) -> LoanTable:
        """The paths with these numbers, in full."""
        from .numba_record import new_record
        from .numba_structs import Struct

        entry = self.prepare(plan).entry
        record = new_record(self._book_values, len(paths))
        records = [record._replace(recoveries=np.zeros_like(record.recoveries)) for _ in range(self.workers)]
        memories = [Struct(m.values._replace(record=Struct(r))) for m, r in zip(self._memory, records, strict=True)]
        columns = self._alone(entry, plan, seed, paths, memories)
        history = History(**{f.name: getattr(record, f.name) for f in fields(History)})
        return LoanTable(paths, _defaults(columns), history)

    def _alone(self, entry: Any, plan: Plan, seed: int, paths: I64, memories: Sequence[Any]) -> I64:
        """Columns of every default: those of an event, then its recovery's where paths are recorded.

        Each path is run alone, and its rows are read from the memory before the next.
        """
        from .numba_structs import Struct

        columns, stop = Struct(_path_columns(plan, len(paths), False)), np.zeros(1, np.int64)

        def work(memory: Struct, places: I64) -> list[I64]:
            sums, kept = Struct(_sums(plan)), memory.values
            found = []
            for place in places:
                if stop[0]:
                    break
                path = np.uint64(paths[place])
                entry(self._book, memory, columns, sums, np.uint64(seed), path, 1, place, stop)
                n = int(kept.n_events[0])
                kept.events[:n, 0] = place
                found.append(_rows(kept, n))
            return found

        shares = np.array_split(np.arange(len(paths)), self.workers)
        with ThreadPoolExecutor(self.workers, thread_name_prefix="gpuloan-mc") as pool:
            futures = [pool.submit(work, m, s) for m, s in zip(memories, shares, strict=True)]
            _wait_for(futures, stop)
        rows = [block for future in futures for block in future.result()]
        return np.ascontiguousarray(np.concatenate(rows).T)

    def pool_cash(self, plan: Plan, seed: int, first_path: int, n_paths: int) -> PoolCash:
        """What the GPU loans of paths first_path … first_path + n_paths - 1 pay and owe."""
        from .numba_pool import new_pool
        from .numba_structs import Struct

        entry = self.prepare(plan).entry
        pool = new_pool(self._book_values, n_paths)
        memories = [Struct(m.values._replace(pool=Struct(pool))) for m in self._memory]
        self._in_blocks(entry, plan, seed, first_path, _path_columns(plan, n_paths, False), memories)
        return PoolCash(**{f.name: getattr(pool, f.name) for f in fields(PoolCash)})


def warm_up() -> tuple[Compiled, Path | None]:
    """Compile, or load what was compiled before; and the folder it lies in.

    Raises:
        EnvironmentProblem: numba is missing, broken or can't compile here.
    """
    from ..inputs.books import bundled_books
    from ..planning import build_plan
    from ..portfolio import Portfolio

    portfolio = Portfolio.read(bundled_books()[-1])  # any book: all have the same types
    return NumbaCpu(1).prepare(build_plan(portfolio, portfolio.market)), cache_folder()


def _blocks(first_path: int, n_paths: int, workers: int) -> list[tuple[int, int]]:
    """(first path, number of paths) of the pieces that workers take; four neighbours stay together."""
    size = max(4, min(_LARGEST_BLOCK, n_paths // (workers * _BLOCKS_A_WORKER)) // 4 * 4)
    edges = [first_path, *range((first_path // 4) * 4 + size, first_path + n_paths, size), first_path + n_paths]
    return [(a, b - a) for a, b in itertools.pairwise(edges)]


def _wait_for(futures: Sequence[Future[Any]], stop: I64) -> None:
    """Until all are done; whatever ends the wait (Ctrl-C, an error) stops the workers after the paths at hand."""
    waiting: Any = set(futures)
    try:
        while waiting:
            done, waiting = wait(waiting, timeout=_WAIT)
            for future in done:
                future.result()
    finally:
        stop[0] = 1


def _rows(kept: Any, n: int) -> I64:
    """The first n defaults of a thread's memory; what was recorded of them is cleared for the next path."""
    record = kept.record.values
    if not len(record.default_months):
        return np.asarray(kept.events[:n].copy())
    recoveries = record.recoveries[:n]
    rows = np.hstack([kept.events[:n], recoveries])
    recoveries[:] = 0
    return rows


def _defaults(columns: I64) -> Defaults:
    """Events and recoveries, a row each, as the reference gives them."""
    path, loan, month, cause, ead, loss, stepped_in, sale_month, proceeds = columns
    loan, month, cause, sale_month = (column.astype(np.int32) for column in (loan, month, cause, sale_month))
    return Defaults.join([Defaults(path, loan, month, cause, ead, loss, stepped_in != 0, sale_month, proceeds)])


def _path_columns(plan: Plan, n_paths: int, prices: bool) -> Any:
    from ..paths.tally import PathColumns

    shape = (n_paths if prices else 0, int(plan.market.horizon) + 1, 2, len(plan.market.demand_beta))
    loss, discounted, balance, largest = (np.zeros(n_paths, np.int64) for _ in range(4))
    return PathColumns(loss, discounted, balance, largest, np.zeros(n_paths, np.int32), np.zeros(shape, np.float32))


def _sums(plan: Plan) -> Any:
    from ..paths.tally import GROUP_COLUMNS, LOAN_COLUMNS, Sums
    from .numba_layout import aligned

    n_groups = plan.n_groups
    shapes = ((n_groups, GROUP_COLUMNS), (4, n_groups, 3), (4, n_groups), (4,))
    return Sums(aligned((plan.n_loans, LOAN_COLUMNS), np.int64), *(np.zeros(shape, np.int64) for shape in shapes))


def array_bytes(values: Any) -> int:
    """Bytes of the arrays in a named tuple, and in those within it."""
    if isinstance(values, np.ndarray):
        return values.nbytes
    return sum(array_bytes(v) for v in values) if isinstance(values, tuple) else 0
