"""What an engine is and what it returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..plan import CAUSES, Plan
from ..reference.arithmetic import I32, I64
from ..reference.path import Defaults

# Losses fit int64 when summed over this many paths of the largest book that is let in (10^14 cents).
BLOCK = 65_536


@dataclass(frozen=True, slots=True)
class PathTable:
    """Integers of a run of paths (n_paths,), and their totals by loan and month (docs/model.md 7). Money in cents."""

    first_path: int
    loss: I64
    discounted_loss: I64
    defaulted_balance: I64
    largest_loss: I64
    defaults: I32
    loss_by_year: I64  # (n_paths, years)
    loss_by_cause: I64  # (n_paths, causes)
    loan_defaults: I64  # (n_loans,)
    loan_ead: I64
    loan_loss: I64
    month_defaults: I64  # (H + 1,)
    month_loss: I64


class Engine(Protocol):
    """A way to run paths. Engines differ in speed, never in a single integer."""

    name: str

    def run(self, plan: Plan, seed: int, first_path: int, n_paths: int) -> PathTable:
        """The integers of paths first_path … first_path + n_paths - 1."""


def tally(plan: Plan, first_path: int, n_paths: int, defaults: Defaults) -> PathTable:
    """Sum a chunk's defaults; only integers are added, so order cannot matter."""
    horizon = int(plan.market.horizon)
    discounted = np.rint(defaults.loss * plan.discount[defaults.month]).astype(np.int64)
    largest = np.zeros(n_paths, dtype=np.int64)
    np.maximum.at(largest, defaults.path, defaults.loss)

    def by_path(values: I64) -> I64:
        return _sums((n_paths,), (defaults.path,), values)

    def by_loan(values: I64) -> I64:
        return _sums((plan.n_loans,), (defaults.loan,), values)

    def by_month(values: I64) -> I64:
        return _sums((horizon + 1,), (defaults.month,), values)

    one = np.ones_like(defaults.loss)
    year = (defaults.month - 1) // 12
    return PathTable(
        first_path=first_path,
        loss=by_path(defaults.loss),
        discounted_loss=by_path(discounted),
        defaulted_balance=by_path(defaults.ead),
        largest_loss=largest,
        defaults=by_path(one).astype(np.int32),
        loss_by_year=_sums((n_paths, -(-horizon // 12)), (defaults.path, year), defaults.loss),
        loss_by_cause=_sums((n_paths, len(CAUSES)), (defaults.path, defaults.cause), defaults.loss),
        loan_defaults=by_loan(one),
        loan_ead=by_loan(defaults.ead),
        loan_loss=by_loan(defaults.loss),
        month_defaults=by_month(one),
        month_loss=by_month(defaults.loss),
    )


def _sums(shape: tuple[int, ...], place: tuple[I64 | I32, ...], values: I64) -> I64:
    total = np.zeros(shape, dtype=np.int64)
    np.add.at(total, place, values)
    return total
