"""The workers of a Dask cluster that run a book: Dask carries integers and bytes, and decides nothing.

Paths are cut into chunks, each a task of a few numbers for one worker. The plan travels once to each worker. Answers come with
a digest; some chunks are run twice, on two workers, and must be the same integers. docs/cluster.md shows what holds.
"""

from __future__ import annotations

import importlib
import math
import queue
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import __version__, cluster_worker
from .chunks import BadChunk, Chunk, RunKey, chunk_parts, parse_chunk
from .engines.base import PathTable
from .engines.choice import event_engine
from .errors import EnvironmentProblem
from .ledger import PRICE_PATHS, Ledger
from .run_folder import RNG_SCHEME, Job

if TYPE_CHECKING:
    from .plan import Plan
    from .receipts import Pool

MOST_TRIES = 5  # of a chunk
_MOST_FAILURES = 3  # of a worker, one after another
LEAST_DEADLINE = 60.0  # seconds
_DEADLINE_CHUNKS = 10  # chunks of median time
_AT_ONCE = 2  # tasks of a worker: one that runs, one that waits
_CHUNK_SECONDS = 2.0
_GROWTH = 4
_CHECK_EVERY = 200  # chunks of which one is run twice
_CHECKED_FIRST = 2
_LOOK_EVERY = 0.5  # seconds, for workers that come and go
_WAIT_FOR_WORKERS = 60.0  # until the first is there
_WAIT_FOR_GREETING = 600.0  # until it has compiled
_WAIT_FOR_OTHERS = 5.0  # beside three times what the first took
_RESULT_SECONDS = 10.0  # for the bytes of a task that is done

Tell = Callable[[str], None]


@dataclass(eq=False)
class _Task:
    """Paths of a chunk, and what became of them. `wanted`: answers, two where a chunk is checked."""

    first: int
    n: int
    prices: bool
    wanted: int
    had_by: set[str] = field(default_factory=set)  # workers that run or ran it
    answers: list[tuple[str, Chunk]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"paths {self.first:,} to {self.first + self.n - 1:,}"


@dataclass(eq=False)
class _Worker:
    """A worker that was accepted. `heard`: when it last answered, or was given a task after it had none."""

    address: str
    threads: int
    facts: dict[str, Any]
    tasks: dict[Any, _Task] = field(default_factory=dict)  # by future
    heard: float = 0.0
    failures: int = 0  # answers in a row that were none
    has_plan: bool = False
    plan_on_its_way: Any = None  # a future


class Crew:
    """The workers of a cluster that take part in a run.

    Args:
        client: of `distributed`.
        engine: as for `simulate`, chosen by each worker for itself.
        deadline: seconds without an answer after which a worker's chunks go to others; None: ten times a chunk's median
            time, and 60 s at least.
        chunk: paths at a time; None: about two seconds' worth.
        tell: called with a line for each worker that is refused or lost.

    Raises:
        EnvironmentProblem: no worker can take part; says why not.
    """

    def __init__(
        self,
        client: Any,
        engine: str = "auto",
        *,
        deadline: float | None = None,
        chunk: int | None = None,
        tell: Tell | None = None,
    ) -> None:
        self._client, self._asked, self._deadline, self._chunk = client, engine, deadline, chunk
        self._tell = tell or (lambda line: None)
        self._workers: dict[str, _Worker] = {}
        self._greeting: dict[Any, str] = {}  # addresses of workers that were asked what they are, by future
        self._importing: set[Any] = set()  # those of them that were asked whether gpuloan_mc is there
        self._strangers: dict[str, str] = {}  # addresses that take no part, and why
        self._done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._self_test: str | None = None
        self._open: set[_Task] = set()
        self._seconds: list[float] = []  # of chunks
        self._looked = -math.inf
        self._wait_for_one()
        first = next(iter(self._workers.values()))
        names = sorted({str(w.facts["engine"]) for w in self._workers.values()})
        self.engine = str(first.facts["engine"])
        count = len(self._workers)
        self.reason = f"{first.facts['reason']}; on {count} Dask worker{'s' if count > 1 else ''} ({', '.join(names)})"

    # --- workers ------------------------------------------------------------------------------------------------------

    def _wait_for_one(self) -> None:
        """Until a worker is accepted, and the others that are there were heard or take several times as long."""
        start, first = time.monotonic(), math.inf
        while not self._workers or self._greeting:
            self._look()
            self._take(0.1)
            waited = time.monotonic() - start
            first = min(first, waited) if self._workers else first
            if waited > min(_WAIT_FOR_GREETING if self._greeting else _WAIT_FOR_WORKERS, 3 * first + _WAIT_FOR_OTHERS):
                break
            if self._strangers and not self._greeting and not self._workers:
                break
        if not self._workers:
            why = "; ".join(f"{address}: {why}" for address, why in self._strangers.items())
            raise EnvironmentProblem(f"no worker of the cluster can take part. {why or 'There is none'}")

    def _look(self) -> None:
        """Meet workers that have come, and give up those that have gone."""
        if time.monotonic() - self._looked < _LOOK_EVERY:
            return
        self._looked = time.monotonic()
        here = self._here()
        for address in [a for a in self._workers if a not in here]:
            self._lose(address, "it has gone")
        for future in [f for f, address in self._greeting.items() if address not in here]:
            del self._greeting[future]  # it would never come back
            self._importing.discard(future)
            future.cancel()
        for address in here:
            known = address in self._workers or address in self._strangers or address in self._greeting.values()
            if not known:
                # first by name: a worker that can't import the function of a task dies of it
                future = self._submit(address, importlib.import_module, cluster_worker.__name__)
                self._greeting[future] = address
                self._importing.add(future)

    def _here(self) -> dict[str, int]:
        """Addresses and threads of the workers that the scheduler knows.

        Raises:
            EnvironmentProblem: the scheduler has gone.
        """
        if self._client.status not in ("running", "newly-created"):
            raise EnvironmentProblem("the Dask scheduler has gone")
        try:
            found = self._client.scheduler_info(n_workers=-1)["workers"]
        except (OSError, TypeError, RuntimeError) as error:
            raise EnvironmentProblem(f"the Dask scheduler has gone ({error})") from error
        return {address: int(facts["nthreads"]) for address, facts in found.items()}

    def _submit(self, address: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """A task for one worker and no other; its future comes back by `_take`."""
        options = {"workers": [address], "allow_other_workers": False, "pure": False, "retries": 0}
        try:
            future = self._client.submit(function, *arguments, **options)
        except (OSError, RuntimeError, ValueError) as error:
            raise EnvironmentProblem(f"the Dask scheduler has gone ({error})") from error
        future.add_done_callback(self._done.put)
        return future

    def _meet(self, address: str, future: Any) -> None:
        """Accept a worker that has said what it is, or refuse it by name."""
        if future in self._importing:
            self._importing.remove(future)
            threads = self._here().get(address)
            if future.status == "error":
                self._refuse(address, f"it can't import gpuloan_mc: {future.exception(timeout=_RESULT_SECONDS)}")
            elif threads is not None:
                self._greeting[self._submit(address, cluster_worker.hello, self._asked, threads)] = address
            return
        facts = _result_of(future)
        why = facts if isinstance(facts, str) else self._stranger(facts)
        if why:
            self._refuse(address, why)
            return
        threads = self._here().get(address)
        if threads is not None:
            self._workers[address] = _Worker(address, threads, facts)

    def _refuse(self, address: str, why: str) -> None:
        self._strangers[address] = why
        self._tell(f"worker {address} is refused: {why}")

    def _stranger(self, facts: dict[str, Any]) -> str:
        """Why a worker can't take part; nothing where it can."""
        if "failed" in facts:
            return str(facts["failed"])
        for name, mine in (("gpuloan_mc", __version__), ("rng_scheme", RNG_SCHEME)):
            if facts[name] != mine:
                return f"its {name} is {facts[name]}, and here it is {mine}"
        if self._self_test is None:
            self._self_test = cluster_worker.self_test(event_engine("numba"))
        if facts["self_test"] != self._self_test:
            versions = ", ".join(f"{name} {facts[name]}" for name in ("python", "numpy", "numba", "cupy"))
            return (
                f"its engine {facts['engine']} computes other integers than this machine: digest {facts['self_test'][:16]}, "
                f"not {self._self_test[:16]} ({versions})"
            )
        others = [w.address for w in self._workers.values() if w.facts["device"] == facts["device"] != ""]
        if others:
            return f"its GPU {facts['device']} is that of worker {others[0]}; give each worker one ($CUDA_VISIBLE_DEVICES)"
        return ""

    def _lose(self, address: str, why: str, for_good: bool = False) -> None:
        """Give a worker up; its chunks are for others."""
        worker = self._workers.pop(address)
        if for_good:
            self._strangers[address] = why
        self._tell(f"worker {address} is given up: {why}")
        tasks, worker.tasks = worker.tasks, {}
        for future, task in tasks.items():
            future.cancel()
            self._failed(task, address, why)

    def _take(self, timeout: float) -> None:
        """Take what has come back within a time, and all that came with it."""
        try:
            future = self._done.get(timeout=timeout)
            while True:
                self._take_one(future)
                future = self._done.get_nowait()
        except queue.Empty:
            return

    def _take_one(self, future: Any) -> None:
        if future in self._greeting:
            self._meet(self._greeting.pop(future), future)
            return
        for worker in self._workers.values():
            if future is worker.plan_on_its_way:
                self._took_plan(worker, _result_of(future))
                return
        owner = next((w for w in self._workers.values() if future in w.tasks), None)
        if owner is None:
            return  # of a worker that was given up
        task = owner.tasks.pop(future)
        owner.heard = time.monotonic()
        why = self._answered(owner, task, _result_of(future))
        owner.failures = owner.failures + 1 if why else 0
        if why:
            self._failed(task, owner.address, why)
            if owner.failures >= _MOST_FAILURES:
                self._lose(owner.address, why, for_good=True)

    # --- chunks -------------------------------------------------------------------------------------------------------

    def prepare(self, plan: Plan, pool: Pool | None = None) -> None:
        """Keep the plan's bytes; each worker gets them before its first chunk."""
        assert pool is None, "workers of a cluster have no pool"
        self._plan, self._digest, self._bytes = plan, plan.digest, plan.to_bytes()

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is to be ended: workers belong to their cluster."""

    def tables(self, job: Job, ledger: Ledger, end: int) -> Iterator[Chunk]:
        """The paths below `end` that a ledger lacks, chunks as they come.

        Raises:
            EnvironmentProblem: a chunk fails again and again, workers disagree, or none is left.
        """
        self._seed, self._key = job.seed, RunKey(__version__, RNG_SCHEME, self._digest, job.seed)
        self._size = self._chunk or min(int(w.facts["first_chunk"]) for w in self._workers.values())
        self._new, self._given = self._cut(ledger.gaps(end)), 0
        self._all_given = False
        self._todo: deque[_Task] = deque()  # chunks to be given out once more
        self._ready: deque[Chunk] = deque()
        alone_since = time.monotonic()
        while True:
            self._look()
            self._give_out()
            while self._ready:
                yield self._ready.popleft()
            if not self._open and self._all_given:
                return
            if self._workers:
                alone_since = time.monotonic()
            elif time.monotonic() - alone_since > self._limit():
                raise EnvironmentProblem(f"no worker of the cluster has been there for {self._limit():.0f} s")
            self._take(0.2)
            self._give_up_the_late()

    def _cut(self, gaps: list[tuple[int, int]]) -> Iterator[_Task]:
        """Chunks, each of the size that is right when it is given out."""
        for first, end in gaps:
            while first < end:
                stop = min(first + self._size, PRICE_PATHS if first < PRICE_PATHS else end, end)
                checked = len(self._workers) > 1 and (self._given < _CHECKED_FIRST or self._given % _CHECK_EVERY == 0)
                self._given += 1
                yield _Task(first, stop - first, first < PRICE_PATHS, 2 if checked else 1)
                first = stop

    def _give_out(self) -> None:
        """Chunks for all workers that have room, those with least to do first."""
        for worker in sorted(self._workers.values(), key=lambda w: len(w.tasks)):
            if not worker.has_plan:
                self._send_plan(worker)
                continue
            while len(worker.tasks) < _AT_ONCE and (task := self._next(worker.address)) is not None:
                self._give(worker, task)

    def _send_plan(self, worker: _Worker) -> None:
        if worker.plan_on_its_way is None:
            worker.heard = time.monotonic()
            worker.plan_on_its_way = self._submit(
                worker.address, cluster_worker.take_plan, self._bytes, self._digest
            )

    def _took_plan(self, worker: _Worker, why: Any) -> None:
        """Give chunks to a worker from now on, or give it up: nothing is wrong where it says nothing."""
        worker.plan_on_its_way = None
        worker.has_plan = why == ""
        if why:
            self._lose(worker.address, str(why), for_good=True)

    def _next(self, address: str) -> _Task | None:
        """A chunk for a worker: one to be run again or twice, then a new one."""
        for task in self._todo:
            if self._may_have(task, address):
                self._todo.remove(task)
                return task
        if len(self._workers) == 1:  # nobody is left to check it
            for task in self._todo:
                task.wanted = 1
                self._finish_if_answered(task)
            self._todo.clear()
        new = next(self._new, None)
        self._all_given = new is None
        if new is not None:
            self._open.add(new)
            if new.wanted > 1:
                self._todo.append(new)
        return new

    def _may_have(self, task: _Task, address: str) -> bool:
        """Whether a worker may run a chunk that failed or is to be checked: one that had it, where nobody else is left."""
        if address not in task.had_by:
            return True
        others = set(self._workers) - task.had_by
        runs = any(task in w.tasks.values() for w in self._workers.values())
        return not others and not runs and address not in (a for a, _ in task.answers)

    def _give(self, worker: _Worker, task: _Task) -> None:
        numbers = (self._digest, self._seed, task.first, task.n, task.prices, worker.facts["engine"], worker.threads)
        future = self._submit(worker.address, cluster_worker.run_chunk, *numbers)
        if not worker.tasks:
            worker.heard = time.monotonic()
        worker.tasks[future] = task
        task.had_by.add(worker.address)

    def _answered(self, worker: _Worker, task: _Task, answer: Any) -> str:
        """Take a chunk in bytes; nothing, or what is wrong with the answer."""
        if answer is None:
            worker.has_plan = False  # the process behind the address is a new one
            return "it had lost the plan"
        if isinstance(answer, str):
            return answer
        try:
            chunk = parse_chunk(answer, self._key)
        except BadChunk as bad:
            return f"its answer is {bad}"
        if (chunk.table.first_path, len(chunk.table.loss)) != (task.first, task.n):
            return "its answer is of other paths"
        self._seconds.append(chunk.seconds)
        if self._chunk is None:
            longest = min(int(w.facts["longest_chunk"]) for w in self._workers.values())
            growth = min(_CHUNK_SECONDS / max(chunk.seconds, 1e-3), _GROWTH)
            self._size = max(1, min(int(task.n * growth), longest))
        task.answers.append((worker.address, chunk))
        self._finish_if_answered(task)
        return ""

    def _finish_if_answered(self, task: _Task) -> None:
        """A chunk with all its answers counts, once, if they are the same integers."""
        if len(task.answers) < task.wanted or task not in self._open:
            return
        prints = {address: _print(self._key, chunk.table) for address, chunk in task.answers}
        if len(set(prints.values())) > 1:
            raise EnvironmentProblem(self._who_is_wrong(task, prints))
        self._open.remove(task)
        self._ready.append(task.answers[0][1])
        task.answers = []

    def _who_is_wrong(self, task: _Task, prints: dict[str, bytes]) -> str:
        engine = event_engine("numba")
        engine.prepare(self._plan)
        mine = _print(self._key, engine.run(self._plan, self._seed, task.first, task.n, prices=task.prices))
        wrong = [address for address, found in prints.items() if found != mine]
        right = [address for address in prints if address not in wrong]
        others = f"worker {right[0]} and this machine" if right else "this machine"
        return (
            f"worker {' and worker '.join(wrong)} computes other integers than {others} for {task}; take it out of the cluster. "
            "What it gave before is not to be trusted either: run the book again"
        )

    def _failed(self, task: _Task, address: str, why: str) -> None:
        """Try elsewhere, or say that there is no use in it."""
        if task not in self._open:
            return
        task.failures.append(f"worker {address}: {why}")
        if len(task.failures) >= MOST_TRIES:
            last = "\n".join(dict.fromkeys(task.failures))
            raise EnvironmentProblem(f"{task} failed {MOST_TRIES} times:\n{last}")
        self._todo.append(task)

    def _limit(self) -> float:
        """Seconds that a worker has for an answer."""
        if self._deadline is not None:
            return self._deadline
        middle = statistics.median(self._seconds) if self._seconds else 0.0
        return max(LEAST_DEADLINE, _DEADLINE_CHUNKS * middle)

    def _give_up_the_late(self) -> None:
        now, limit = time.monotonic(), self._limit()
        for worker in list(self._workers.values()):
            if (worker.tasks or worker.plan_on_its_way is not None) and now - worker.heard > limit:
                self._lose(worker.address, f"no answer in {limit:.0f} s", for_good=True)


def _print(key: RunKey, table: PathTable) -> bytes:
    """The digest of a chunk's integers, without the time that they took."""
    return bytes(chunk_parts(key, Chunk(table, 0.0))[0])


def _result_of(future: Any) -> Any:
    """What a task answered; a text where it has none."""
    try:
        return future.result(timeout=_RESULT_SECONDS)
    except Exception as error:  # Dask has many for a worker that dies
        return f"{type(error).__name__}: {error}"
