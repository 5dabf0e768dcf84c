"""The first run on a machine: the reference runs its paths while another process compiles the engine numba."""

from __future__ import annotations

import functools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from . import news
from .chunks import Chunk
from .engines.base import PathTable
from .engines.numpy_reference import NumpyReference
from .engines.pace import Pace, T
from .ledger import Ledger
from .plan import Plan
from .receipts import Pool
from .run_folder import Job
from .workforce import LocalWork, Tell

if TYPE_CHECKING:
    from .engines.numba_child import CompilingChild

_FIRST_CHUNK = 256  # paths: the first answer comes soon
_LONGEST_CHUNK = 2048  # paths: a chunk is over soon after the compiler
_POLITE = 5  # added to the niceness of the thread that runs the reference


class Child(Protocol):
    """A process that compiles (`numba_child.CompilingChild`)."""

    def is_ready(self) -> bool:
        """Whether it has compiled.

        Raises:
            EnvironmentProblem: it can't compile, or was killed.
        """

    def end(self) -> None:
        """End it, if it has not ended."""


class EarlyNumpy(NumpyReference):
    """The reference in short chunks; after the first in a thread that lets the compiler go first."""

    def __init__(self) -> None:
        self._begun = False

    def first_chunk(self, plan: Plan) -> int:
        """Paths of a run's first chunk."""
        return min(_FIRST_CHUNK, super().first_chunk(plan))

    def longest_chunk(self, plan: Plan) -> int:
        """Paths of a chunk at most."""
        return min(_LONGEST_CHUNK, super().longest_chunk(plan))

    def run(
        self,
        plan: Plan,
        seed: int,
        first_path: int,
        n_paths: int,
        *,
        prices: bool = False,
        pool: Pool | None = None,
    ) -> PathTable:
        """As `NumpyReference.run`."""
        chunk = functools.partial(super().run, plan, seed, first_path, n_paths, prices=prices, pool=pool)
        if self._begun:
            return _politely(chunk)
        self._begun = True
        return chunk()


class _ShortThenLong(Pace):
    """A first chunk that is short, then long ones: a chunk of the reference takes some time however few its paths are."""

    def timed(self, chunk: Callable[[], T]) -> T:
        """Run a chunk of `size` paths and choose the next one's size."""
        result = chunk()
        self.size = self._longest
        return result


class FirstRun:
    """Paths on the engine numpy until a child has compiled, then on numba.

    Args:
        child: that compiles. An error ends it; where all paths are done first, whoever keeps it decides.
        numba: makes the work of the engine numba, once the child is ready.
        reason: why it is numba.
        chunk: paths at a time; None: short ones until the switch, then as numba takes them.
        tell: called with a line when the child compiles, and when it has.
    """

    engine = "numba"

    def __init__(
        self,
        child: Child,
        numba: Callable[[], LocalWork],
        reason: str,
        chunk: int | None,
        tell: Tell | None = None,
    ) -> None:
        self.reason = reason
        self._child, self._numba, self._chunk = child, numba, chunk
        self._tell = tell or (lambda line: None)
        self._numpy = EarlyNumpy()
        self._later: LocalWork | None = None
        self._early_paths = 0

    def __enter__(self) -> FirstRun:
        self._start = time.perf_counter()
        self._tell(news.compiling(processes=2, meanwhile="numpy"))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is not None:
            self._child.end()

    def prepare(self, plan: Plan, pool: Pool | None) -> None:
        """Nothing is compiled here before the first path."""
        assert pool is None, "the tranches of a pool wait for numba"
        most = self._numpy.longest_chunk(plan)
        chunk = None if self._chunk is None else min(self._chunk, most)
        self._early = LocalWork(self._numpy, self.reason, chunk, pace=_ShortThenLong)
        self._early.prepare(plan, None)

    def tables(self, job: Job, ledger: Ledger, end: int) -> Iterator[Chunk]:
        """The paths below `end` that a ledger lacks, chunk by chunk.

        Raises:
            EnvironmentProblem: the child can't compile, or was killed.
        """
        if self._later is None:
            early = self._early.tables(job, ledger, end)
            while not self._child.is_ready():
                chunk = next(early, None)
                if chunk is None:
                    return
                self._early_paths += len(chunk.table.loss)
                yield chunk
            self._later = self._switch(job.plan)
        yield from self._later.tables(job, ledger, end)

    def _switch(self, plan: Plan) -> LocalWork:
        self._child.end()
        self._tell(news.compiled(time.perf_counter() - self._start, self._early_paths))
        later = self._numba()
        later.prepare(plan, None)
        return later


def _politely(chunk: Callable[[], PathTable]) -> PathTable:
    """Run a chunk in a thread of lower priority. Ctrl-C does not wait for it, nor does the end of the process."""
    outcome: Future[PathTable] = Future()

    def work() -> None:
        try:
            _give_way()
            outcome.set_result(chunk())
        except BaseException as error:  # whatever it is, it is raised below
            outcome.set_exception(error)

    threading.Thread(target=work, name="gpuloan-mc", daemon=True).start()
    return outcome.result()


def _give_way() -> None:
    """Lower the priority of this thread alone, where the system has one for each thread."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with suppress(OSError):  # a container may forbid it: then both take turns
            os.setpriority(os.PRIO_PROCESS, thread, min(19, os.getpriority(os.PRIO_PROCESS, thread) + _POLITE))


def compiling_child() -> CompilingChild | None:
    """The process that compiles for runs of this one, begun if need be; None: runs wait.

    One is begun where nothing is compiled yet, a folder keeps what is, and a core is idle beside that of this process.

    Raises:
        EnvironmentProblem: numba is missing or broken.
    """
    from .engines.cores import idle_cores
    from .engines.numba_child import shared_child
    from .engines.numba_compile import cache_folder
    from .engines.numba_halves import is_cold

    if not is_cold() or cache_folder() is None:
        return None
    return shared_child(may_begin=idle_cores() > 0)
