"""Engine `numba`: the path functions compiled for this CPU, paths over threads, loans and obligors over SIMD lanes."""

from __future__ import annotations

import itertools
import os
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np

from ..plan import Plan
from ..reference.arithmetic import I64
from ..reference.market import MAX_LAUNCHES
from .base import Footprint, PathTable, table_bytes
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
        from .numba_structs import Struct

        if self._plan is not plan:
            book = lay_out(plan)
            self._book, self._book_values = structs(book), book
            self._memory = [Struct(memory(book)) for _ in range(self.workers)]
            self._plan = plan
        columns, sums, stop = Struct(_path_columns(plan, 1, False)), Struct(_sums(plan)), np.zeros(1, np.int64)
        arguments = (self._book, self._memory[0], columns, sums, np.uint64(0), np.uint64(0), 0, 0, stop)
        return compiled(tuple(typeof(a) for a in arguments))

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
        from .numba_structs import Struct

        entry = self.prepare(plan).entry
        columns = _path_columns(plan, n_paths, prices)
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
            futures = [pool.submit(work, m, s) for m, s in zip(self._memory, tables, strict=True)]
            _wait_for(futures, stop)
        return path_table(first_path, columns._asdict(), added(sums), prices)


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


def _wait_for(futures: list[Future[None]], stop: I64) -> None:
    """Until all are done; whatever ends the wait (Ctrl-C, an error) stops the workers after the paths at hand."""
    waiting: Any = set(futures)
    try:
        while waiting:
            done, waiting = wait(waiting, timeout=_WAIT)
            for future in done:
                future.result()
    finally:
        stop[0] = 1


def _path_columns(plan: Plan, n_paths: int, prices: bool) -> Any:
    from ..paths.tally import PathColumns

    shape = (n_paths if prices else 0, int(plan.market.horizon) + 1, 2, len(plan.market.demand_beta))
    loss, discounted, balance, largest = (np.zeros(n_paths, np.int64) for _ in range(4))
    return PathColumns(loss, discounted, balance, largest, np.zeros(n_paths, np.int32), np.zeros(shape, np.float32))


def _sums(plan: Plan) -> Any:
    from ..paths.tally import GROUP_COLUMNS, LOAN_COLUMNS, Sums

    n_groups = plan.n_groups
    shapes = ((n_groups, GROUP_COLUMNS), (4, n_groups, 3), (4, n_groups), (4,))
    return Sums(_aligned(plan.n_loans, LOAN_COLUMNS), *(np.zeros(shape, np.int64) for shape in shapes))


def _aligned(n_rows: int, n_columns: int) -> I64:
    """Zeros whose rows begin with a cache line."""
    raw = np.zeros(n_rows * n_columns + 8, np.int64)
    start = -(raw.ctypes.data // 8) % 8
    return raw[start : start + n_rows * n_columns].reshape(n_rows, n_columns)


def array_bytes(values: Any) -> int:
    """Bytes of the arrays in a named tuple, and in those within it."""
    if isinstance(values, np.ndarray):
        return values.nbytes
    return sum(array_bytes(v) for v in values) if isinstance(values, tuple) else 0


def memory(book: Any) -> Any:
    """A thread's memory for a book: it does not grow with the paths."""
    from ..paths.tally import EVENT_FIELDS
    from .numba_layout import PATHS_AT_ONCE, SCRATCH, TILE
    from .numba_loops import Work

    n_months, horizon = int(book.market.n_months), int(book.market.horizon)
    n_generations, n_classes = len(book.market.demand_beta), book.hazards.hazard.shape[1]
    n_loans, n_deployments, n_active = len(book.loans.key), len(book.deployments.key), int(book.obligors.n_active)
    watched = int(book.obligors.phase_first[3] - book.obligors.phase_first[2])
    flags, below = np.zeros(TILE, np.uint8), np.zeros(PATHS_AT_ONCE * TILE, np.uint8)
    arena = np.zeros(SCRATCH + len(book.lanes.template), np.float32)
    arena[TILE : 2 * TILE] = np.inf

    def of_path(*shape: int, dtype: Any = np.float32) -> Any:
        return np.zeros((PATHS_AT_ONCE, *shape), dtype)

    i32, i64 = np.int32, np.int64
    return Work(
        arena=arena,
        flags=flags,
        flags_by_8=flags.view(np.uint64),
        words=np.zeros(PATHS_AT_ONCE * TILE, np.uint32),
        bounds=np.zeros(PATHS_AT_ONCE * TILE, np.uint32),
        below=below,
        below_by_8=below.view(np.uint64),
        group=of_path(dtype=i32),
        group_months=of_path(horizon + 1, dtype=i64),
        regime=of_path(n_months + 1, dtype=i32),
        demand=of_path(n_months + 1),
        premium=of_path(n_months + 1),
        used=of_path(n_months + 1),
        outside=of_path(n_months + 1, n_generations),
        launch_month=np.zeros((len(book.market.launch_first), MAX_LAUNCHES), np.float32),
        launch_size=np.zeros((len(book.market.launch_first), MAX_LAUNCHES), np.float32),
        factors=of_path(max(int(book.hazards.n_factors), 1)),
        mixing=of_path(2),
        cumulative=of_path(n_classes),
        log_hazard=of_path(n_classes, horizon + 1),
        overhang=of_path(n_generations),
        released=of_path(n_generations, dtype=i64),
        contract=of_path(n_generations),
        rent=of_path(n_generations),
        spot=of_path(n_generations),
        spot_price=of_path(n_generations),
        mean_overhang=of_path(),
        months=of_path(n_active, dtype=i32),
        hit_head=np.full((PATHS_AT_ONCE, horizon + 2), -1, i32),
        hit_next=of_path(n_active, dtype=i32),
        theta=of_path(watched),
        contract_state=of_path(n_deployments, dtype=np.uint8),
        contract_end=of_path(n_deployments, dtype=i32),
        contract_rate=of_path(n_deployments),
        due_head=of_path(horizon + 2, dtype=i32),
        due_next=of_path(n_deployments, dtype=i32),
        tenant_lost=of_path(n_loans, dtype=np.uint8),
        sale_head=of_path(n_months + 2, dtype=i32),
        sale_next=of_path(n_loans, dtype=i32),
        workout=of_path(n_loans, 4, dtype=i32),
        workout_share=of_path(n_loans, 3),
        open_sales=of_path(dtype=i64),
        living=of_path(len(book.lanes.tile_lanes), dtype=i64),
        events=np.zeros((PATHS_AT_ONCE * (n_loans + len(book.plain.facts)), EVENT_FIELDS), i64),
        n_events=np.zeros(1, i64),
        row=np.zeros(1, i64),
    )
