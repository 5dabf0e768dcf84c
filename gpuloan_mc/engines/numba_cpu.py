"""Engine `numba`: the path functions compiled for this CPU, paths over threads, loans and obligors over SIMD lanes."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np

from ..plan import Plan
from ..reference.arithmetic import I64
from ..reference.market import MAX_LAUNCHES
from ..totals import N_DIGITS, Totals, carry
from .base import Events, PathTable
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

    def run(self, plan: Plan, seed: int, first_path: int, n_paths: int, *, prices: bool = False) -> PathTable:
        """The integers of paths first_path … first_path + n_paths - 1, with their prices when asked for."""
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
        return _table(plan, first_path, columns, sums, prices)

    def events(self, plan: Plan, seed: int, paths: I64) -> Events:
        """Every default of the paths with these numbers: each is run alone, and its rows are read from the memory."""
        from .numba_structs import Struct

        entry = self.prepare(plan).entry
        stop = np.zeros(1, np.int64)

        def work(memory: Struct, places: I64) -> list[I64]:
            columns, sums, kept = Struct(_path_columns(plan, 1, False)), Struct(_sums(plan)), memory.values
            found = []
            for place in places:
                if stop[0]:
                    break
                path = np.uint64(paths[place])
                entry(self._book, memory, columns, sums, np.uint64(seed), path, 1, 0, stop)
                rows = kept.events[: int(kept.n_events[0])].copy()
                rows[:, 0] = place
                found.append(rows)
            return found

        shares = np.array_split(np.arange(len(paths)), self.workers)
        with ThreadPoolExecutor(self.workers, thread_name_prefix="gpuloan-mc") as pool:
            futures = [pool.submit(work, m, s) for m, s in zip(self._memory, shares, strict=True)]
            _wait_for(futures, stop)
        rows = [block for future in futures for block in future.result()]
        return Events(*np.ascontiguousarray(np.concatenate(rows).T))


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


def _table(plan: Plan, first_path: int, columns: Any, sums: list[Any], prices: bool) -> PathTable:
    """The workers' sums as one table."""
    from ..paths.tally import CAUSE_COLUMNS, D_SQUARED, LOSS_COLUMNS, D

    by_loan, by_group = (_added([getattr(s, name) for s in sums]) for name in ("by_loan", "by_group"))
    by_cause = by_loan[:, CAUSE_COLUMNS].reshape(len(by_loan), -1, 3)
    # a loan defaults at most once a path, for one cause
    by_loan[:, D] = by_loan[:, D_SQUARED] = by_cause[:, :, 0].sum(axis=1)
    by_loan[:, LOSS_COLUMNS] = by_cause[:, :, 1:].sum(axis=1)
    cause_loss = np.zeros((N_DIGITS, *by_cause.shape[:2]), np.int64)
    cause_loss[:2] = by_cause[:, :, 1:].transpose(2, 0, 1)
    carry(cause_loss)
    return PathTable(
        first_path=first_path,
        loss=columns.loss,
        discounted_loss=columns.discounted_loss,
        defaulted_balance=columns.defaulted_balance,
        largest_loss=columns.largest_loss,
        defaults=columns.defaults,
        by_loan=_totals(by_loan),
        by_group=_totals(by_group),
        loan_cause_defaults=np.ascontiguousarray(by_cause[:, :, 0]),
        loan_cause_loss=cause_loss,
        prices=columns.prices if prices else None,
    )


def _added(parts: list[I64]) -> I64:
    return np.asarray(np.add.reduce(parts))


def _totals(rows: I64) -> Totals:
    from ..paths.tally import D_SQUARED, E_L, E_SQUARED, HIGH, L_SQUARED, D, E, L

    def digits(place: int, given: int) -> I64:
        result = np.zeros((N_DIGITS, len(rows)), np.int64)
        result[:2] = rows[:, place : place + 2].T
        if given == N_DIGITS:
            result[2:] = rows[:, HIGH + place : HIGH + place + 2].T
        carry(result)
        return result

    return Totals(
        defaults=np.ascontiguousarray(rows[:, D]),
        ead=digits(E, 2),
        loss=digits(L, 2),
        defaults_squared=np.ascontiguousarray(rows[:, D_SQUARED]),
        ead_squared=digits(E_SQUARED, 4),
        ead_loss=digits(E_L, 4),
        loss_squared=digits(L_SQUARED, 4),
    )


def memory(book: Any) -> Any:
    """A thread's memory for a book: it does not grow with the paths."""
    from ..paths.tally import EVENT_FIELDS
    from .numba_layout import CONTRACT_COLUMNS, PATHS_AT_ONCE, SCRATCH, TILE, aligned
    from .numba_loops import WORKOUT_COLUMNS, Work

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
        price=of_path(n_generations),
        rent=of_path(n_generations),
        spot=of_path(n_generations),
        spot_price=of_path(n_generations),
        mean_overhang=of_path(),
        months=of_path(n_active, dtype=i32),
        hit_head=np.full((PATHS_AT_ONCE, horizon + 2), -1, i32),
        hit_next=of_path(n_active, dtype=i32),
        theta=of_path(watched),
        contract=aligned((PATHS_AT_ONCE * n_deployments, CONTRACT_COLUMNS), i32),
        due_head=of_path(horizon + 2, dtype=i32),
        tenant_lost=of_path(n_loans, dtype=np.uint8),
        sale_head=of_path(n_months + 2, dtype=i32),
        workout=aligned((PATHS_AT_ONCE * n_loans, WORKOUT_COLUMNS), i32),
        open_sales=of_path(dtype=i64),
        living=of_path(len(book.lanes.tile_lanes), dtype=i64),
        events=np.zeros((PATHS_AT_ONCE * (n_loans + len(book.plain.facts)), EVENT_FIELDS), i64),
        n_events=np.zeros(1, i64),
        row=np.zeros(1, i64),
    )
