"""Engine `numba`: the path functions compiled for this CPU, paths over threads, loans and obligors over SIMD lanes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..payments import Payments, reference_payments
from ..plan import Plan
from ..reference.arithmetic import I64
from ..reference.path import Defaults, History
from .base import Events, Footprint, LoanTable, PathTable, PoolCash, check_cash, table_bytes
from .cores import available_cores
from .numba_compile import Compiled, cache_folder, import_numba

if TYPE_CHECKING:
    from ..receipts import PlainSchedule, Pool

_BLOCKS_A_WORKER = 16
_LARGEST_BLOCK = 1024  # paths: a worker is asked to stop between four paths, and asks for more between blocks
_PAID_AT_ONCE = 256  # paths: their cash stays in a core's cache
_REFERENCE_AT_ONCE = 4096  # paths whose cash is paid by NumPy
_LONGEST_CHUNK = 262_144
_WAIT = 0.1  # seconds between looks at the workers, so that Ctrl-C is seen


class NumbaCpu:
    """Engine `numba` on some threads. It keeps the layout and the memory of the last plan."""

    name = "numba"

    def __init__(self, workers: int | None = None) -> None:
        import_numba()
        self.workers = available_cores() if workers is None else workers
        self._plan: Plan | None = None
        self._plain: tuple[PlainSchedule, tuple[I64, I64]] | None = None

    def prepare(self, plan: Plan) -> Compiled:
        """Lay the plan out and compile, unless both are done.

        Raises:
            EnvironmentProblem: numba is missing, broken or can't compile here.
        """
        from .numba_halves import compiled_loops

        return compiled_loops(self.signature(plan))

    def signature(self, plan: Plan) -> tuple[Any, ...]:
        """Lay the plan out, unless it is; numba's types of what the loops get, the same for every plan."""
        from numba import typeof

        from .numba_layout import lay_out, structs
        from .numba_memory import memory
        from .numba_structs import Struct

        if self._plan is not plan:
            book = lay_out(plan)
            self._book, self._book_values = structs(book), book
            self._memory = [Struct(memory(book)) for _ in range(self.workers)]
            self._plan, self._plain = plan, None
        columns, sums, stop = Struct(_path_columns(plan, 1, False)), Struct(_sums(plan)), np.zeros(1, np.int64)
        arguments = (self._book, self._memory[0], columns, sums, np.uint64(0), np.uint64(0), 0, 0, stop)
        return tuple(typeof(a) for a in arguments)

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
        """The integers of paths first_path … first_path + n_paths - 1, with prices and a pool's payments when asked for."""
        from .digit_rows import added, path_table

        entry = self.prepare(plan).entry
        columns = _path_columns(plan, n_paths, prices)
        if pool is None:
            sums, payments = self._in_blocks(entry, plan, seed, first_path, columns, self._memory), None
        else:
            sums, payments = self._pooled(entry, plan, seed, first_path, columns, pool)
        return replace(path_table(first_path, columns._asdict(), added(sums), prices), payments=payments)

    def _pooled(
        self, entry: Any, plan: Plan, seed: int, first_path: int, columns: Any, pool: Pool
    ) -> tuple[list[Any], Payments]:
        """Paths as `_in_blocks` runs them; of some at a time each thread gives the cash to the tranches while it is at hand."""
        from .numba_payments import Payer, receipts_of
        from .numba_pool import new_pool
        from .numba_structs import Struct

        n_paths, plain = len(columns.loss), self._plain_rows(pool.plain)
        payer = Payer(pool.structure, n_paths, int(plan.market.n_months) + 1, self.workers)
        kept = [new_pool(self._book_values, min(n_paths, _PAID_AT_ONCE), *plain) for _ in range(self.workers)]
        memories = [Struct(m.values._replace(pool=Struct(k))) for m, k in zip(self._memory, kept, strict=True)]
        receipts = [receipts_of(k) for k in kept]

        def before(worker: int, row: int) -> None:
            kept[worker].first[0] = row

        def after(worker: int, row: int, n: int) -> None:
            some = PoolCash(*(getattr(kept[worker], f.name)[:n] for f in fields(PoolCash)))
            check_cash(some, columns.loss[row : row + n])
            payer.pay(worker, receipts[worker], 0, n, row)

        sums = self._in_blocks(entry, plan, seed, first_path, columns, memories, before, after)
        if payer.is_exact:
            return sums, payer.payments()
        parts = []
        for row in range(0, n_paths, _REFERENCE_AT_ONCE):
            n = min(_REFERENCE_AT_ONCE, n_paths - row)
            cash = self.pool_cash(plan, seed, first_path + row, n, pool.plain)
            check_cash(cash, columns.loss[row : row + n])
            parts.append(reference_payments(pool.structure, cash))
        return sums, Payments.joined(parts)

    def _plain_rows(self, plain: PlainSchedule) -> tuple[I64, I64]:
        """What the plain loans pay and owe in the order of the layout, and all together; kept for the chunks of a run."""
        from .numba_cash import PLAIN_COLUMNS
        from .numba_layout import INDEX

        if self._plain is None or self._plain[0] is not plain:
            order = np.searchsorted(plain.place, self._book_values.plain.facts[:, INDEX])
            rows = np.empty((len(order), len(PLAIN_COLUMNS), plain.interest.shape[1]), np.int64)
            for k, name in enumerate(PLAIN_COLUMNS):
                rows[:, k] = getattr(plain, name)[order]
            self._plain = plain, (rows, rows.sum(axis=0))
        return self._plain[1]

    def _in_blocks(
        self,
        entry: Any,
        plan: Plan,
        seed: int,
        first_path: int,
        columns: Any,
        memories: Sequence[Any],
        before: Callable[[int, int], None] = lambda worker, row: None,
        after: Callable[[int, int, int], None] | None = None,
    ) -> list[Any]:
        """Paths from `first_path` on into the columns, a block after another; each worker's sums.

        With `after`, some paths at a time: it is called with the worker, their first row and how many they are.
        """
        from .numba_structs import Struct

        n_paths = len(columns.loss)
        columns_struct, sums = Struct(columns), [_sums(plan) for _ in range(self.workers)]
        stop = np.zeros(1, np.int64)
        size = None if after is None else _PAID_AT_ONCE
        blocks = iter(_blocks(first_path, n_paths, self.workers, size))

        def work(worker: int, memory: Struct, own: Struct) -> None:
            for first, count in blocks:  # shared: a list iterator gives each block once
                if stop[0]:
                    break
                row = first - first_path
                before(worker, row)
                entry(self._book, memory, columns_struct, own, np.uint64(seed), np.uint64(first), count, row, stop)
                if after is not None:
                    after(worker, row, count)

        tables = [Struct(s) for s in sums]
        with ThreadPoolExecutor(self.workers, thread_name_prefix="gpuloan-mc") as pool:
            futures = [pool.submit(work, k, m, s) for k, (m, s) in enumerate(zip(memories, tables, strict=True))]
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

    def pool_cash(
        self, plan: Plan, seed: int, first_path: int, n_paths: int, plain: PlainSchedule | None = None
    ) -> PoolCash:
        """What the loans of paths first_path … first_path + n_paths - 1 pay and owe; without `plain` the GPU loans alone."""
        from .numba_pool import new_pool
        from .numba_structs import Struct

        entry = self.prepare(plan).entry
        pool = new_pool(self._book_values, n_paths, *(() if plain is None else self._plain_rows(plain)))
        memories = [Struct(m.values._replace(pool=Struct(pool))) for m in self._memory]
        self._in_blocks(entry, plan, seed, first_path, _path_columns(plan, n_paths, False), memories)
        return PoolCash(**{f.name: getattr(pool, f.name) for f in fields(PoolCash)})


def warm_up(processes: int | None = None) -> tuple[Compiled, Path | None]:
    """Compile, or load what was compiled before; and the folder it lies in.

    Args:
        processes: that compile, 1 or 2; None: 2 where a core is idle.

    Raises:
        EnvironmentProblem: numba is missing, broken or can't compile here.
    """
    from .numba_halves import compiled_loops

    return compiled_loops(any_signature(), processes), cache_folder()


def any_signature() -> tuple[Any, ...]:
    """Numba's types of what the loops get, from a bundled book."""
    from ..inputs.books import bundled_books
    from ..planning import build_plan
    from ..portfolio import Portfolio

    portfolio = Portfolio.read(bundled_books()[-1])
    return NumbaCpu(1).signature(build_plan(portfolio, portfolio.market))


def _blocks(first_path: int, n_paths: int, workers: int, most: int | None = None) -> list[tuple[int, int]]:
    """(first path, number of paths) of the pieces that workers take; four neighbours stay together."""
    size = max(4, min(most or _LARGEST_BLOCK, n_paths // (workers * _BLOCKS_A_WORKER)) // 4 * 4)
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
