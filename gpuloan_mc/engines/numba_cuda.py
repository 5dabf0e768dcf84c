"""Engine `numba-cuda`: the path functions as device twins in one CUDA kernel, a block of threads for four paths."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from ..errors import EnvironmentProblem
from ..plan import Plan
from ..reference.arithmetic import F32, I64
from ..reference.path import Defaults
from .base import Footprint, PathTable, table_bytes, tally
from .cuda_device import FLOOR, OutOfDeviceMemory, no_room
from .cuda_setup import while_running
from .cuda_sources import WAY_OUT
from .cuda_target import INSTALL, Target, installed_version, load_target
from .numba_cuda_layout import (
    MOST_GENERATIONS,
    PATHS_AT_ONCE,
    DeviceBook,
    DeviceWork,
    device_book,
    device_work,
)

T = TypeVar("T")

THREADS = 128  # of a block
_BLOCKS_A_PROCESSOR = 8
_WORK_BYTES = 512 << 20  # memory of paths in flight
_EVENT_BYTES = 256 << 20  # memory of a launch's defaults; more of them: the launch is cut in two
_EVENT_FIELDS = 6
_FIRST_EVENTS = 1 << 16
_NO_MEMORY = 2  # CUDA's status
_FIRST_CHUNK, _LONGEST_CHUNK = 4096, 65_536


class NumbaCuda:
    """Engine `numba-cuda` on one device. It keeps the last plan's arrays there."""

    name = "numba-cuda"

    def __init__(self, device: int = 0) -> None:
        self._target = load_target()
        self.device = device
        self._plan: Plan | None = None
        self._kernel: Any = None
        self._compiled = False

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
        self._threads = 2 if self._target.simulated else THREADS
        arrays = _fitting(lambda: self._put(book))
        if arrays is None:
            raise self._too_small("the plan", sum(a.nbytes for a in book))
        self._book = DeviceBook(*arrays)
        self._n_blocks, self._work = self._put_work(book, n_blocks, parties)
        self._capacity = max(_FIRST_EVENTS, PATHS_AT_ONCE * plan.n_loans)
        self._most_paths = _LONGEST_CHUNK
        self._plan = plan

    def _put_work(self, book: DeviceBook, n_blocks: int, parties: int) -> tuple[int, DeviceWork]:
        """Memory for paths in flight, and how many blocks have a place in it: fewer where that is all there is."""
        while True:
            work = device_work(book, PATHS_AT_ONCE * n_blocks, parties)
            arrays = _fitting(lambda: self._put(work))  # noqa: B023
            if arrays is not None:
                return n_blocks, DeviceWork(*arrays)
            if n_blocks == 1:
                raise self._too_small("a block's paths", sum(a.nbytes for a in work))
            n_blocks //= 2

    def _put(self, arrays: Iterable[Any]) -> list[Any]:
        with self._errors():
            return [self._target.put(array) for array in arrays]

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
        events = np.concatenate(self._launches(seed, first_path, n_paths, kept))
        return tally(plan, first_path, n_paths, _defaults(events), kept if prices else None)

    def _launches(self, seed: int, first_path: int, n_paths: int, prices: F32) -> list[I64]:
        """The defaults of a chunk, a launch after another. One whose defaults or memory found no place is done again."""
        parts: list[I64] = []
        row = 0
        while row < n_paths:
            n = min(self._most_paths, n_paths - row)
            found = _fitting(lambda: self._launch(seed, first_path + row, n, prices[row : row + n]))  # noqa: B023
            if found is None:
                if n <= FLOOR:
                    raise self._too_small(f"{n:,} paths", self._launch_bytes(n, prices))
                self._most_paths, self._capacity = max(FLOOR, n // 2), max(_FIRST_EVENTS, self._capacity // 2)
                continue
            n_events, events = found
            if n_events > len(events):
                if n_events <= _EVENT_BYTES // (8 * _EVENT_FIELDS) or n == 1:
                    self._capacity = n_events
                else:
                    self._most_paths = n // 2
                continue
            events = events[:n_events]
            events[:, 0] += row
            parts.append(events)
            row += n
        return parts

    def _launch_bytes(self, n_paths: int, prices: F32) -> int:
        """Memory of a launch's results."""
        return 8 * _EVENT_FIELDS * self._capacity + (n_paths * prices[:1].nbytes if len(prices) else 0)

    def _launch(self, seed: int, first_path: int, n_paths: int, prices: F32) -> tuple[int, I64]:
        """Number of defaults, and those that found a place; prices are filled in."""
        from .numba_cuda_memory import Results

        places = np.zeros((self._capacity, _EVENT_FIELDS), np.int64), np.zeros(1, np.int64), np.zeros_like(prices)
        results = Results(*self._put(places))
        n_blocks = min(self._n_blocks, n_paths // PATHS_AT_ONCE + 2)
        numbers = np.uint64(seed), np.uint64(first_path), np.int64(n_paths)
        get = self._target.get
        with self._errors():
            self._start(n_blocks, self._book, self._work, results, *numbers)
            prices[:] = get(results.prices)
            return int(get(results.n_events)[0]), get(results.events)

    def _start(self, n_blocks: int, *arguments: Any) -> None:
        """Start the kernel; the first time it is compiled."""
        try:
            self._kernel[n_blocks, self._threads](*arguments)
        except Exception as error:  # compilers fail in many ways
            if self._compiled or self._target.simulated or _is_of_cuda(error):
                raise
            why = (str(error).strip().split("\n")[0] or "no reason given")[:300]
            package = self._target.package
            raise EnvironmentProblem(
                f"engine numba-cuda: {package} {installed_version(package)} can't compile the kernel "
                f"({type(error).__name__}: {why}). Repair it with: {INSTALL}. {WAY_OUT}"
            ) from error
        self._compiled = True

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """CUDA's errors become sentences, and memory that is not there `OutOfDeviceMemory`."""
        try:
            yield
        except Exception as error:
            if not _is_of_cuda(error):
                raise
            status, text = int(error.code), str(error).split("\n")[0]  # type: ignore[attr-defined]
            if status == _NO_MEMORY:
                raise OutOfDeviceMemory(text) from error
            cache = f"the folder of code that {self._target.package} keeps"
            problem = while_running(status, text, self.device, cache, "made for another", engine=self.name)
            if problem is None:
                raise
            raise problem from error

    def _too_small(self, what: str, needed: int) -> EnvironmentProblem:
        cuda = self._target.cuda
        name = cuda.get_current_device().name
        free = int(cuda.current_context().get_memory_info().free)
        return no_room(self.name, self.device, name.decode() if isinstance(name, bytes) else str(name), what, needed, free)


def _fitting(work: Callable[[], T]) -> T | None:
    """What the work gives, or None where the device has no room: whatever it had put there by then is gone."""
    try:
        return work()
    except OutOfDeviceMemory:
        return None


def _is_of_cuda(error: Exception) -> bool:
    """Whether CUDA gave the error; each package has a class of this name, and a code in it."""
    return type(error).__name__ == "CudaAPIError"


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
