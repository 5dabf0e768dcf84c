"""What runs the paths of a run: an engine of this process, or the workers of a cluster (`crew.Crew`)."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from .engines.base import Engine, PathTable
from .engines.pace import Pace
from .ledger import PRICE_PATHS, Ledger
from .plan import Plan
from .receipts import Pool
from .run_folder import Job


class Workforce(Protocol):
    """Runs paths. `engine`: its name, and `reason` why it is that one."""

    engine: str
    reason: str

    def prepare(self, plan: Plan, pool: Pool | None) -> None:
        """Whatever comes before the first path."""

    def tables(self, job: Job, ledger: Ledger, end: int) -> Iterator[tuple[PathTable, float]]:
        """The paths below `end` that a ledger lacks, chunk by chunk, with the seconds that each took."""


class LocalWork:
    """An engine of this process, a chunk after another. `chunk`: paths at a time; None: about a second's worth."""

    def __init__(self, runner: Engine, reason: str, chunk: int | None) -> None:
        self.engine, self.reason = runner.name, reason
        self._runner, self._chunk = runner, chunk
        self._run: Callable[..., PathTable] = runner.run

    def prepare(self, plan: Plan, pool: Pool | None) -> None:
        """Lay the plan out and compile. With a pool the engine must be one of the CPU's."""
        self._runner.prepare(plan)
        if pool is not None:
            self._run = functools.partial(self._runner.run, pool=pool)  # type: ignore[call-arg]
            self._run(plan, 1, 0, 1)
        first = self._chunk or self._runner.first_chunk(plan)
        self._pace = Pace(first, self._chunk or self._runner.longest_chunk(plan))

    def tables(self, job: Job, ledger: Ledger, end: int) -> Iterator[tuple[PathTable, float]]:
        """The paths below `end` that a ledger lacks, chunk by chunk, with the seconds that each took."""
        for first, stop in ledger.gaps(end):
            while first < stop:
                # the paths whose prices are kept are chunks of their own
                last = min(first + self._pace.size, PRICE_PATHS if first < PRICE_PATHS else stop, stop)
                start = time.perf_counter()
                table = self._pace.timed(lambda: self._piece(job, first, last))  # noqa: B023
                yield table, time.perf_counter() - start
                first = last

    def _piece(self, job: Job, first: int, end: int) -> PathTable:
        return self._run(job.plan, job.seed, first, end - first, prices=first < PRICE_PATHS)
