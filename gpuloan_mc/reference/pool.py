"""What GPU loans pay and owe month by month (docs/model.md 9), in cents."""

from __future__ import annotations

import numpy as np

from ..plan import Plan
from .arithmetic import F32, I64, Bool
from .loans import Debt
from .path import Recorder, record_paths, to_cents
from .philox import U64


class PoolBook(Recorder):
    """Sums of a month's debt over the loans of each path; (n_paths, T + 1) cents."""

    def __init__(self, plan: Plan, n_paths: int) -> None:
        super().__init__(plan, n_paths)
        self._loans = plan.loans
        shape = (n_paths, int(plan.market.n_months) + 1)
        self.interest, self.principal, self.drawn, self.balance = (np.zeros(shape, np.int64) for _ in range(4))

    def debt(self, t: int, debt: Debt) -> None:
        """The debt of month t."""
        closing = np.where(debt.lives, debt.closing, np.float32(0))
        paid = self._cents(debt.opening) - self._cents(closing)
        self.interest[:, t] = _sum(self._cents(debt.interest), debt.paying)
        self.principal[:, t] = _sum(paid, debt.paying)
        self.drawn[:, t] = _sum(self._cents(np.broadcast_to(self._loans.undrawn, closing.shape)), debt.drawn)
        self.balance[:, t] = self._cents(closing).sum(axis=1)

    def _cents(self, fraction: F32) -> I64:
        return to_cents(self._loans.commitment_cents, fraction)


def _sum(cents: I64, where: Bool) -> I64:
    total: I64 = np.where(where, cents, 0).sum(axis=1)
    return total


def pool_cash(plan: Plan, seed: int, paths: U64) -> tuple[I64, ...]:
    """Interest, principal, drawn, balance, defaulted and recovery of the GPU loans, (n_paths, T + 1) cents each."""
    book = PoolBook(plan, len(paths))
    defaults, _ = record_paths(plan, seed, paths, book)
    secured = defaults.sale_month > 0  # plain loans are no part of it
    path, month, sold = defaults.path[secured], defaults.month[secured], defaults.sale_month[secured]
    ead, loss = defaults.ead[secured], defaults.loss[secured]
    defaulted, recovery = np.zeros_like(book.balance), np.zeros_like(book.balance)
    np.add.at(defaulted, (path, month), ead)
    np.add.at(recovery, (path, sold), ead - loss)
    return book.interest, book.principal, book.drawn, book.balance, defaulted, recovery
