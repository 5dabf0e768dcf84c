"""All loans of a book as one pool with its tranches, and what its plain loans pay and owe (docs/model.md 9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from . import tables
from .engines.base import Events, PoolCash
from .inputs.pool_file import PoolFile
from .plan import Plan
from .planning import loan_terms
from .reference.arithmetic import F64, I64
from .reference.path import to_cents
from .waterfall import Structure

if TYPE_CHECKING:
    from .portfolio import Portfolio

DEFAULTS_AT_ONCE = 20_000


@dataclass(frozen=True, slots=True)
class PlainSchedule:
    """What each plain loan pays and owes until it defaults, (n_plain, T + 1) cents; `place`: among all loans, rising."""

    place: I64
    interest: I64
    principal: I64
    drawn: I64
    balance: I64

    @classmethod
    def of(cls, plan: Plan, portfolio: Portfolio) -> PlainSchedule:
        """From the tape: the plan has no use for a plain loan's interest."""
        loans = portfolio.loans.iloc[plan.plain.index]
        horizon, width = int(plan.market.horizon), int(plan.market.n_months) + 1
        terms = loan_terms(loans, portfolio, np.ones(len(loans), dtype=np.int64), portfolio.market)
        opening, principal = tables.schedule(terms, horizon)
        closing = opening - principal
        drawn = np.where(np.arange(horizon + 1) == terms.draw_month[:, None], terms.undrawn[:, None], 0.0)

        def cents(share: F64) -> I64:
            found = np.zeros((len(loans), width), dtype=np.int64)
            found[:, : horizon + 1] = np.rint(plan.plain.commitment_cents[:, None] * share)
            return found

        return cls(
            place=plan.plain.index.astype(np.int64),
            interest=cents(opening * terms.rates[:, : horizon + 1]),
            principal=cents(opening) - cents(closing),
            drawn=cents(drawn),
            balance=cents(closing),
        )

    @property
    def n_bytes(self) -> int:
        """Bytes of the schedules."""
        return sum(a.nbytes for a in (self.interest, self.principal, self.drawn, self.balance))

    def join(self, cash: PoolCash, events: Events) -> None:
        """Add what all would pay, less what those pay no more that have defaulted."""
        columns = (
            (cash.interest, self.interest, 0), (cash.principal, self.principal, 0), (cash.balance, self.balance, 0),
            (cash.drawn, self.drawn, 1),  # what is drawn at the opening of the month of default is part of the exposure
        )  # fmt: skip
        for total, rows, _ in columns:
            total += rows.sum(axis=0)
        of_plain = np.nonzero(np.isin(events.loan, self.place))[0]
        months = np.arange(self.interest.shape[1])
        for first in range(0, len(of_plain), DEFAULTS_AT_ONCE):
            some = of_plain[first : first + DEFAULTS_AT_ONCE]
            path, loan, month = events.path[some], np.searchsorted(self.place, events.loan[some]), events.month[some]
            for total, rows, later in columns:
                gone = np.where(months >= month[:, None] + later, rows[loan], 0)
                np.subtract.at(total, path, gone)
            np.add.at(cash.defaulted, (path, month), events.ead[some])
            np.add.at(cash.recovery, (path, month), events.ead[some] - events.loss[some])


@dataclass(frozen=True)
class Pool:
    """All loans of a book as one pool. Amounts in cents, each loan's rounded by itself."""

    structure: Structure
    plain: PlainSchedule

    @classmethod
    def of(cls, plan: Plan, portfolio: Portfolio, file: PoolFile) -> Pool:
        """The pool of a book with the tranches of a pool.toml.

        Raises:
            InputRejected: the tranches above the residual take the whole commitment.
        """
        plain, loans, tape = PlainSchedule.of(plan, portfolio), plan.loans, portfolio.loans
        gpu_balance, gpu_undrawn = (to_cents(loans.commitment_cents, x) for x in (loans.balance, loans.undrawn))
        draws = tape["draw_month"].to_numpy(np.int64)[tape["undrawn_usd"].to_numpy(np.float64) > 0]
        plain_balance = np.rint(tape["balance_usd"].to_numpy(np.float64)[plan.plain.index] * 100).astype(np.int64)
        structure = Structure.of(
            file,
            portfolio.market,
            balance=int(gpu_balance.sum()) + int(plain_balance.sum()),
            undrawn=int(gpu_undrawn.sum()) + int(plain.drawn.sum()),
            last_draw=int(draws.max(initial=0)),
            months=int(plan.market.n_months),
        )
        return cls(structure, plain)

    @property
    def file(self) -> PoolFile:
        """Its tranches, fees and tests."""
        return self.structure.file
