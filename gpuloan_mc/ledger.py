"""What a run has found so far: path tables added up as chunks arrive, in any order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from . import path_columns
from .digest import LossDigest
from .engine_paths import EnginePaths
from .engines.base import PathTable, table_bytes
from .errors import EnvironmentProblem
from .path_columns import Column, check_room
from .payments import Payments, payments_bytes
from .plan import CAUSES, Plan
from .reference.arithmetic import F32, I32, I64
from .risk import Moments
from .totals import N_DIGITS, Totals, carry

if TYPE_CHECKING:
    from .receipts import Pool

PRICE_PATHS = 10_000  # paths whose prices are kept
_MEMORY_A_PATH = 28  # bytes: two losses, the defaults, and the losses sorted
_FILES_A_PATH = 36  # the same, and the losses once more while they are sorted


def ledger_bytes(plan: Plan, n_paths: int, pool: Pool | None = None) -> int:
    """Bytes of memory of a ledger of so many paths, their losses sorted once."""
    n_prices = min(n_paths, PRICE_PATHS) * (int(plan.market.horizon) + 1) * 2 * len(plan.market.demand_beta)
    columns = _MEMORY_A_PATH * n_paths if n_paths <= path_columns.IN_MEMORY else 0
    return columns + 4 * n_prices + table_bytes(plan, 0) + pool_bytes(pool, n_paths)


def pool_bytes(pool: Pool | None, n_paths: int) -> int:
    """Bytes of what the tranches of a pool get on so many paths."""
    return 0 if pool is None else payments_bytes(len(pool.structure.sizes), n_paths)


def ledger_file_bytes(n_paths: int) -> int:
    """Bytes of temporary files of a ledger of so many paths, and of what sorts their losses; 0 where memory holds it."""
    return 0 if n_paths <= path_columns.IN_MEMORY else _FILES_A_PATH * n_paths


class Ledger:
    """Losses of every path, and the totals of all columns.

    Attributes:
        n_paths: paths that it has room for.
        losses, discounted_losses: (n_paths,) cents; defaults: (n_paths,). In files where they are long (`path_columns`).
        defaulted_balance: its moments; largest_loss: the largest single loss of any path, cents.
        by_loan, by_group, loan_cause_defaults, loan_cause_loss: totals as in `PathTable`, the last in digits.
        prices: (min(n_paths, PRICE_PATHS), H + 1, 2, G) contract and spot; G may be 0.
        payments: what the tranches of the pool get, always in memory; None: there is no pool.
        engines: which engine ran which of its paths, where that is known.

    Raises:
        EnvironmentProblem: the columns are for files, and there is no room for them; or memory has none for the payments.
    """

    def __init__(self, plan: Plan, n_paths: int, pool: Pool | None = None) -> None:
        _check_memory(pool_bytes(pool, n_paths))
        check_room(ledger_file_bytes(n_paths))  # of all columns: each alone might find room
        self.n_paths = n_paths
        self.ranges: list[tuple[int, int]] = []  # of paths that are in, from and to, in order and apart
        self._columns = {name: Column(n_paths, np.int64) for name in ("loss", "discounted_loss")}
        self._columns["defaults"] = Column(n_paths, np.int32)
        self.defaulted_balance = Moments(0, 0, 0)
        self.largest_loss = 0
        self.digest = LossDigest()
        self.engines = EnginePaths()
        self.by_loan, self.by_group = Totals.zeros(plan.n_loans), Totals.zeros(plan.n_groups)
        self.loan_cause_defaults: I64 = np.zeros((plan.n_loans, len(CAUSES)), dtype=np.int64)
        self.loan_cause_loss: I64 = np.zeros((N_DIGITS, plan.n_loans, len(CAUSES)), dtype=np.int64)
        shape = (min(n_paths, PRICE_PATHS), int(plan.market.horizon) + 1, 2, len(plan.market.demand_beta))
        self.prices: F32 = np.zeros(shape, dtype=np.float32)
        self.payments: Payments | None = None
        if pool is not None:
            self.payments = Payments.zeros(len(pool.structure.sizes), n_paths, int(plan.market.n_months) + 1)

    @property
    def done(self) -> int:
        """Number of paths that are in."""
        return sum(end - first for first, end in self.ranges)

    @property
    def end(self) -> int:
        """Past the last path that is in."""
        return self.ranges[-1][1] if self.ranges else 0

    def gap(self, end: int) -> tuple[int, int] | None:
        """The first paths below `end` that are not in, from and to; None: all are."""
        return next(iter(self.gaps(end)), None)

    def gaps(self, end: int) -> list[tuple[int, int]]:
        """All paths below `end` that are not in, from and to, in order."""
        starts, ends = [a for a, _ in self.ranges], [0, *(b for _, b in self.ranges)]
        pairs = zip(ends, [*starts, end], strict=True)
        return [(first, min(stop, end)) for first, stop in pairs if first < min(stop, end)]

    @property
    def losses(self) -> I64:
        """Loss of each path, cents."""
        return self._columns["loss"].values[: self.n_paths]

    @property
    def discounted_losses(self) -> I64:
        """Discounted loss of each path, cents."""
        return self._columns["discounted_loss"].values[: self.n_paths]

    @property
    def defaults(self) -> I32:
        """Loans in default, by path."""
        return self._columns["defaults"].values[: self.n_paths]

    def known_losses(self) -> Iterator[I64]:
        """Losses of the paths that are in, a range of paths at a time."""
        return (self.losses[first:end] for first, end in self.ranges)

    def cut(self, n_paths: int) -> None:
        """Leave it at the paths below `n_paths`; none above may be in."""
        self.n_paths, self.prices = n_paths, self.prices[:n_paths]
        self.payments = self.payments and self.payments.rows(0, n_paths)

    def freeze(self) -> None:
        """Make every array read-only: what a result holds can't be changed."""
        columns = [column.values for column in self._columns.values()]
        by_cause = self.loan_cause_defaults, self.loan_cause_loss
        for array in (*columns, *by_cause, *self.by_loan.arrays(), *self.by_group.arrays(), self.prices):
            array.setflags(write=False)
        if self.payments is not None:
            self.payments.freeze()

    def add(self, table: PathTable, engine: str = "") -> None:
        """Take the paths of a table; `engine`: that ran them, where it is known."""
        rows = slice(table.first_path, table.first_path + len(table.loss))
        for name, column in self._columns.items():
            column.write(table.first_path, getattr(table, name))
        self.defaulted_balance += Moments.of(table.defaulted_balance)
        self.largest_loss = max(self.largest_loss, int(table.largest_loss.max()))
        self.digest.add(table.first_path, table.loss)
        self.by_loan += table.by_loan
        self.by_group += table.by_group
        self.loan_cause_defaults += table.loan_cause_defaults
        self.loan_cause_loss += table.loan_cause_loss
        carry(self.loan_cause_loss)
        if table.prices is not None:
            self.prices[rows] = table.prices
        if self.payments is not None:
            assert table.payments is not None
            self.payments.put(table.first_path, table.payments)
        self._note(table.first_path, table.first_path + len(table.loss))
        if engine:
            self.engines.add(engine, table.first_path, table.first_path + len(table.loss))

    def _note(self, first: int, end: int) -> None:
        merged: list[tuple[int, int]] = []
        for a, b in sorted([*self.ranges, (first, end)]):
            if merged and merged[-1][1] == a:
                a = merged.pop()[0]
            merged.append((a, b))
        self.ranges = merged


def _check_memory(n_bytes: int) -> None:
    """Refuse what this machine's memory can't hold, before it is found out at the end.

    Raises:
        EnvironmentProblem: it is more than all of it.
    """
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if n_bytes > there:
        raise EnvironmentProblem(
            f"what the tranches get on every path takes {n_bytes:,} bytes of memory, and this machine has {there:,}. Ask for "
            "fewer --paths, or run without the pool and ask for the waterfall of the run's first paths: gpuloan-mc waterfall "
            "RUN --pool FILE --paths N"
        )
