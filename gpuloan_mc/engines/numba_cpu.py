"""Engine `numba`: the path functions compiled for this CPU, paths over threads, loans and obligors over SIMD lanes."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ..paths.tally import EVENT_FIELDS, Totals
from ..plan import CAUSES, Plan
from ..reference.market import MAX_LAUNCHES
from .base import PathTable
from .numba_layout import PATHS_AT_ONCE, SCRATCH, TILE, Book, lay_out
from .numba_loops import Work, run_paths
from .numba_structs import Struct

from numba import njit

compiled = njit(error_model="numpy", nogil=True)(run_paths)


def memory(book: Book) -> Work:
    """A thread's memory for a book."""
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
        group_months=np.zeros(horizon + 1, i64),
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
        events=np.zeros((PATHS_AT_ONCE * (n_loans + len(book.plain.key)), EVENT_FIELDS), i64),
        n_events=np.zeros(1, i64),
    )


def empty_totals(plan: Plan, n_paths: int) -> Totals:
    """Zeros of the right shapes."""
    horizon = int(plan.market.horizon)
    i64 = np.int64
    return Totals(
        *(np.zeros(n_paths, i64) for _ in range(4)),
        np.zeros(n_paths, np.int32),
        np.zeros((n_paths, -(-horizon // 12)), i64),
        np.zeros((n_paths, len(CAUSES)), i64),
        *(np.zeros(plan.n_loans, i64) for _ in range(3)),
        *(np.zeros(horizon + 1, i64) for _ in range(2)),
    )


class NumbaCpu:
    name = "numba"

    def run(self, plan: Plan, seed: int, first_path: int, n_paths: int) -> PathTable:
        book = lay_out(plan)
        totals = empty_totals(plan, n_paths)
        stop = np.zeros(1, np.int64)
        tables = Book(*(Struct(part) if isinstance(part, tuple) else part for part in book))
        compiled(Struct(tables), Struct(memory(book)), Struct(totals), np.uint64(seed), np.uint64(first_path), n_paths, 0, stop)
        return PathTable(first_path, *totals)
