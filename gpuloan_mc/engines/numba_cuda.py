"""Engine `numba-cuda`: the path functions as device twins in one CUDA kernel, a block of threads for four paths."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np

from ..errors import EnvironmentProblem
from ..plan import Plan
from ..reference.arithmetic import F32, I64
from ..reference.path import Defaults
from .base import Footprint, PathTable, table_bytes, tally
from .cuda_target import Target, load_target
from .numba_cuda_layout import (
    MOST_GENERATIONS,
    PATHS_AT_ONCE,
    DeviceBook,
    DeviceWork,
    device_book,
    device_work,
)

THREADS = 128  # of a block
_BLOCKS_A_PROCESSOR = 8
_WORK_BYTES = 512 << 20  # memory of paths in flight
_EVENT_BYTES = 256 << 20  # memory of a launch's defaults; more of them: the launch is cut in two
_EVENT_FIELDS = 6
_FIRST_EVENTS = 1 << 16
_FIRST_CHUNK, _LONGEST_CHUNK = 4096, 65_536


class NumbaCuda:
    """Engine `numba-cuda` on one device. It keeps the last plan's arrays there."""

    name = "numba-cuda"

    def __init__(self, device: int = 0) -> None:
        self._target = load_target()
        self.device = device
        self._plan: Plan | None = None
        self._kernel: Any = None

    def prepare(self, plan: Plan) -> None:
        """Put the plan on the device, unless it is there.

        Raises:
            EnvironmentProblem: there is no usable device.
        """
        if self._plan is plan:
            return
        self._select()
        if self._kernel is None:
            self._kernel = make_kernel(self._target)
        book = device_book(plan)
        if len(plan.market.demand_beta) > MOST_GENERATIONS:
            raise ValueError(f"a market has at most {MOST_GENERATIONS} generations")
        parties = int(book.obligors[2].max(initial=-1)) + 1
        n_blocks = self._blocks_in_flight(sum(a.nbytes for a in device_work(book, PATHS_AT_ONCE, parties)))
        self._n_blocks, self._threads = n_blocks, 2 if self._target.simulated else THREADS
        self._book = DeviceBook(*(self._target.put(array) for array in book))
        work = device_work(book, PATHS_AT_ONCE * n_blocks, parties)
        self._work = DeviceWork(*(self._target.put(array) for array in work))
        self._capacity = max(_FIRST_EVENTS, PATHS_AT_ONCE * plan.n_loans)
        self._plan = plan

    def _select(self) -> None:
        """Make the device current."""
        try:
            self._target.cuda.select_device(self.device)
        except Exception as error:  # no driver, no device, a driver too old: each its own type
            raise EnvironmentProblem(
                f"engine numba-cuda: device {self.device} can't be used ({type(error).__name__}: {error}); "
                "engine 'numba' (--engine numba) gives the same figures on the CPU."
            ) from error

    def _blocks_in_flight(self, block_bytes: int) -> int:
        """As many as the device keeps busy, and the memory of paths in flight allows."""
        if self._target.simulated:
            return 2
        processors = int(self._target.cuda.get_current_device().MULTIPROCESSOR_COUNT)
        return max(1, min(_BLOCKS_A_PROCESSOR * processors, _WORK_BYTES // max(block_bytes, 1)))

    def first_chunk(self, plan: Plan) -> int:
        """Paths of a run's first chunk."""
        return _FIRST_CHUNK

    def longest_chunk(self, plan: Plan) -> int:
        """Paths of a chunk at most."""
        return _LONGEST_CHUNK

    def footprint(self, plan: Plan, chunk: int) -> Footprint:
        """The plan, the paths in flight and the defaults of a launch on the device; defaults and a table here."""
        self.prepare(plan)
        held = sum(int(array.nbytes) for array in (*self._book, *self._work))
        events = 8 * _EVENT_FIELDS * self._capacity
        return Footprint(events + 2 * table_bytes(plan, chunk), (held + events,))

    def run(self, plan: Plan, seed: int, first_path: int, n_paths: int, *, prices: bool = False) -> PathTable:
        """The integers of paths first_path … first_path + n_paths - 1, with their prices when asked for."""
        self.prepare(plan)
        kept = np.zeros(
            (n_paths if prices else 0, int(plan.market.horizon) + 1, 2, len(plan.market.demand_beta)), np.float32
        )
        parts = self._launches(seed, first_path, 0, n_paths, kept)
        return tally(plan, first_path, n_paths, _defaults(np.concatenate(parts)), kept if prices else None)

    def _launches(self, seed: int, first_path: int, row: int, n_paths: int, prices: F32) -> list[I64]:
        """The defaults of some rows of a chunk; a launch that found more than there was place for is done again."""
        n_events, events = self._launch(seed, first_path + row, n_paths, prices[row : row + n_paths])
        if n_events <= len(events):
            events = events[:n_events]
            events[:, 0] += row
            return [events]
        most = _EVENT_BYTES // (8 * _EVENT_FIELDS)
        if n_events <= most or n_paths == 1:
            self._capacity = n_events
            return self._launches(seed, first_path, row, n_paths, prices)
        half = n_paths // 2
        first = self._launches(seed, first_path, row, half, prices)
        return first + self._launches(seed, first_path, row + half, n_paths - half, prices)

    def _launch(self, seed: int, first_path: int, n_paths: int, prices: F32) -> tuple[int, I64]:
        """Number of defaults, and those that found a place; prices are filled in."""
        from .numba_cuda_loops import Results

        put, get = self._target.put, self._target.get
        results = Results(
            put(np.zeros((self._capacity, _EVENT_FIELDS), np.int64)),
            put(np.zeros(1, np.int64)),
            put(np.zeros_like(prices)),
        )
        n_blocks = min(self._n_blocks, n_paths // PATHS_AT_ONCE + 2)
        self._kernel[n_blocks, self._threads](
            self._book, self._work, results, np.uint64(seed), np.uint64(first_path), np.int64(n_paths)
        )
        prices[:] = get(results.prices)
        return int(get(results.n_events)[0]), get(results.events)


@functools.cache
def make_kernel(target: Target) -> Any:
    """The kernel for a target, made of twins; compiled once a process, whatever number of engines."""
    from .numba_cuda_loops import run_paths
    from .twins import Twins

    return Twins(target).kernel(run_paths)


def _defaults(events: I64) -> Defaults:
    """Rows (path, loan, month, cause, EAD, loss) as the tally takes them; what only a replay tells is zero."""
    path, loan, month, cause, ead, lost = np.ascontiguousarray(events.T)
    zeros = np.zeros(len(path), np.int32)
    columns = (path, loan.astype(np.int32), month.astype(np.int32), cause.astype(np.int32), ead, lost)
    made = Defaults(*columns, zeros.astype(np.bool_), zeros, zeros.astype(np.int64))
    assert len(dataclasses.fields(made)) == len(columns) + 3
    return made
