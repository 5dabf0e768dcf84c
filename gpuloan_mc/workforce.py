"""What runs the paths of a run: an engine of this process, or the workers of a cluster (`crew.Crew`)."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from . import news
from .chunks import Chunk
from .engines.base import Engine, PathTable
from .engines.pace import Pace
from .ledger import PRICE_PATHS, Ledger
from .plan import Plan
from .receipts import Pool
from .run_folder import Job

Tell = Callable[[str], None]


class Workforce(Protocol):
    """Runs paths, within `with`. `engine`: its name, and `reason` why it is that one."""

    engine: str
    reason: str

    def __enter__(self) -> Workforce: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None: ...

    def prepare(self, plan: Plan, pool: Pool | None) -> None:
        """Whatever comes before the first path."""

    def tables(self, job: Job, ledger: Ledger, end: int) -> Iterator[Chunk]:
        """The paths below `end` that a ledger lacks, chunk by chunk."""


class LocalWork:
    """An engine of this process, a chunk after another.

    Args:
        runner: the engine.
        reason: why it is that one.
        chunk: paths at a time; None: about a second's worth.
        tell: called with a line where the engine must be compiled first.
        pace: what chooses the sizes of chunks.
    """

    def __init__(
        self, runner: Engine, reason: str, chunk: int | None, tell: Tell | None = None, pace: type[Pace] = Pace
    ) -> None:
        self.engine, self.reason = runner.name, reason
        self._runner, self._chunk, self._tell = runner, chunk, tell or (lambda line: None)
        self._run: Callable[..., PathTable] = runner.run
        self._pace_of = pace

    def __enter__(self) -> LocalWork:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is to be ended."""

    def prepare(self, plan: Plan, pool: Pool | None) -> None:
        """Lay the plan out and compile. With a pool the engine must be one of the CPU's."""
        with told_of_compiling(self.engine, self._tell):
            self._runner.prepare(plan)
        if pool is not None:
            self._run = functools.partial(self._runner.run, pool=pool)  # type: ignore[call-arg]
            self._run(plan, 1, 0, 1)
        first = self._chunk or self._runner.first_chunk(plan)
        self._pace = self._pace_of(first, self._chunk or self._runner.longest_chunk(plan))

    def tables(self, job: Job, ledger: Ledger, end: int) -> Iterator[Chunk]:
        """The paths below `end` that a ledger lacks, chunk by chunk."""
        for first, stop in ledger.gaps(end):
            while first < stop:
                # the paths whose prices are kept are chunks of their own
                last = min(first + self._pace.size, PRICE_PATHS if first < PRICE_PATHS else stop, stop)
                start = time.perf_counter()
                table = self._pace.timed(lambda: self._piece(job, first, last))  # noqa: B023
                yield Chunk(table, time.perf_counter() - start, self.engine)
                first = last

    def _piece(self, job: Job, first: int, end: int) -> PathTable:
        return self._run(job.plan, job.seed, first, end - first, prices=first < PRICE_PATHS)


@contextmanager
def told_of_compiling(engine: str, tell: Tell) -> Iterator[None]:
    """Tell that the engine is compiled, and when it is, if that is `numba` and this machine has not compiled it yet."""
    if engine != "numba":
        yield
        return
    from .engines.cores import idle_cores
    from .engines.numba_halves import is_cold

    cold, start = is_cold(), time.perf_counter()
    if cold:
        tell(news.compiling(processes=min(1 + idle_cores(), 2)))
    yield
    if cold:
        tell(news.compiled(time.perf_counter() - start))
