"""What a pool of all the book's loans pays and owes, by path and month (docs/model.md 9): paths are run again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from . import tables
from .engines.base import Events, PoolCash
from .engines.choice import event_engine
from .plan import Plan
from .planning import loan_terms
from .portfolio import Portfolio
from .questions import Questions, check_sums
from .reference.arithmetic import F64, I64
from .reference.path import to_cents

CELLS_AT_ONCE = 2**18  # paths × months: a column of all months stays in a core's cache
DEFAULTS_AT_ONCE = 20_000


@dataclass(frozen=True, slots=True)
class PlainSchedule:
    """What each plain loan pays and owes until it defaults, (n_plain, H + 1) cents."""

    interest: I64
    principal: I64
    drawn: I64
    closing: I64

    @classmethod
    def of(cls, plan: Plan, portfolio: Portfolio) -> PlainSchedule:
        """From the tape: the plan has no use for a plain loan's interest."""
        loans = portfolio.loans.iloc[plan.plain.index]
        horizon = int(plan.market.horizon)
        terms = loan_terms(loans, portfolio, np.ones(len(loans), dtype=np.int64), portfolio.market)
        opening, principal = tables.schedule(terms, horizon)
        months = np.arange(horizon + 1)
        closing = opening - principal
        drawn = np.where(months == terms.draw_month[:, None], terms.undrawn[:, None], 0.0)

        def cents(share: F64) -> I64:
            return np.rint(plan.plain.commitment_cents[:, None] * share).astype(np.int64)

        return cls(
            interest=cents(opening * terms.rates[:, : horizon + 1]),
            principal=cents(opening) - cents(closing),
            drawn=cents(drawn),
            closing=cents(closing),
        )


@dataclass(frozen=True)
class Pool:
    """All loans of a run as one pool. Amounts in cents, each loan's rounded by itself."""

    run: Questions
    plain: PlainSchedule
    balance: int  # drawn at month 0
    undrawn: int
    last_draw: int  # month of the last draw; 0: none

    @classmethod
    def of(cls, run: Questions) -> Pool:
        """The pool of a run's book."""
        plan, plain = run.plan, PlainSchedule.of(run.plan, run.portfolio)
        loans = plan.loans
        gpu_balance, gpu_undrawn = (to_cents(loans.commitment_cents, x) for x in (loans.balance, loans.undrawn))
        tape = run.portfolio.loans
        drawn = tape["draw_month"].to_numpy(np.int64)[tape["undrawn_usd"].to_numpy(np.float64) > 0]
        plain_balance = np.rint(tape["balance_usd"].to_numpy(np.float64)[plan.plain.index] * 100).astype(np.int64)
        return cls(
            run=run,
            plain=plain,
            balance=int(gpu_balance.sum()) + int(plain_balance.sum()),
            undrawn=int(gpu_undrawn.sum()) + int(plain.drawn.sum()),
            last_draw=int(drawn.max(initial=0)),
        )

    @property
    def commitment(self) -> int:
        """Balance and undrawn, cents."""
        return self.balance + self.undrawn

    def cash(self, n_paths: int) -> Iterator[tuple[I64, PoolCash]]:
        """Cash of all loans on paths 0 … n_paths - 1, a chunk at a time: (path numbers, their cash).

        Raises:
            UsageError: a path does not lose what the run says.
        """
        run, engine = self.run, event_engine(self.run.engine)
        size = max(16, CELLS_AT_ONCE // (int(run.plan.market.n_months) + 1))
        for first in range(0, n_paths, size):
            paths = np.arange(first, min(first + size, n_paths), dtype=np.int64)
            cash = engine.pool_cash(run.plan, run.seed, first, len(paths))
            if len(run.plan.plain.index):
                self._add_plain(cash, engine.events(run.plan, run.seed, paths))
            check_sums(run, paths, cash.defaulted.sum(axis=1) - cash.recovery.sum(axis=1))
            yield paths, cash

    def _add_plain(self, cash: PoolCash, events: Events) -> None:
        """The plain loans join: what all would pay, less what those pay no more that have defaulted."""
        plain, width = self.plain, self.plain.interest.shape[1]
        columns = (
            (cash.interest, plain.interest, 0), (cash.principal, plain.principal, 0), (cash.balance, plain.closing, 0),
            (cash.drawn, plain.drawn, 1),  # what is drawn at the opening of the month of default is part of the exposure
        )  # fmt: skip
        for total, rows, _ in columns:
            total[:, :width] += rows.sum(axis=0)
        place = np.full(self.run.n_loans, -1, dtype=np.int64)
        place[self.run.plan.plain.index] = np.arange(len(self.run.plan.plain.index))
        of_plain = np.nonzero(place[events.loan] >= 0)[0]
        months = np.arange(width)
        for first in range(0, len(of_plain), DEFAULTS_AT_ONCE):
            some = of_plain[first : first + DEFAULTS_AT_ONCE]
            path, loan, month = events.path[some], place[events.loan[some]], events.month[some]
            for total, rows, later in columns:
                gone = np.where(months >= month[:, None] + later, rows[loan], 0)
                np.subtract.at(total[:, :width], path, gone)
            np.add.at(cash.defaulted, (path, month), events.ead[some])
            np.add.at(cash.recovery, (path, month), events.ead[some] - events.loss[some])
