"""What an engine is and what it returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..plan import CAUSES, Plan
from ..reference.arithmetic import F32, I32, I64
from ..reference.path import Defaults, History
from ..totals import N_DIGITS, Totals, carry, digit_sums

if TYPE_CHECKING:
    from ..payments import Payments
    from ..receipts import PlainSchedule, Pool


@dataclass(frozen=True, slots=True)
class PathTable:
    """Integers of a run of paths (n_paths,), and their totals (docs/model.md 7). Money in cents."""

    first_path: int
    loss: I64
    discounted_loss: I64
    defaulted_balance: I64
    largest_loss: I64
    defaults: I32
    by_loan: Totals  # all loans by id
    by_group: Totals  # the groups of `Plan.groups`
    loan_cause_defaults: I64  # (n_loans, causes)
    loan_cause_loss: I64  # (N_DIGITS, n_loans, causes) cents
    prices: F32 | None = None  # (n_paths, H + 1, 2, G) contract and spot price, when asked for
    payments: Payments | None = None  # of the tranches of a pool, when asked for


def joined(tables: Sequence[PathTable]) -> PathTable:
    """Tables of neighbouring paths, in path order, as one."""
    first = tables[0]
    if len(tables) == 1:
        return first
    columns = ("loss", "discounted_loss", "defaulted_balance", "largest_loss", "defaults")
    cause_loss = np.sum([t.loan_cause_loss for t in tables], axis=0)
    carry(cause_loss)
    payments = [t.payments for t in tables if t.payments is not None]
    return PathTable(
        first_path=first.first_path,
        by_loan=sum((t.by_loan for t in tables[1:]), first.by_loan),
        by_group=sum((t.by_group for t in tables[1:]), first.by_group),
        loan_cause_defaults=np.sum([t.loan_cause_defaults for t in tables], axis=0),
        loan_cause_loss=cause_loss,
        prices=None if first.prices is None else np.concatenate([t.prices for t in tables if t.prices is not None]),
        payments=payments[0].joined(payments) if payments else None,
        **{name: np.concatenate([getattr(t, name) for t in tables]) for name in columns},
    )


@dataclass(frozen=True, slots=True)
class LoanTable:
    """Some paths in full: every default, and what the market and the parties did (docs/model.md 7)."""

    paths: I64  # (n_paths,) path numbers
    defaults: Defaults  # `path` counts in `paths`
    history: History


@dataclass(frozen=True, slots=True)
class Footprint:
    """Memory of an engine while it runs chunks of a size, bytes; None: not known before it has run."""

    host: int | None
    devices: tuple[int, ...] = ()  # of each device


@dataclass(frozen=True, slots=True)
class Events:
    """The defaults of some paths, a row each (n,), in any order. Money in cents."""

    path: I64  # place among the paths asked for
    loan: I64  # position among all loans by id
    month: I64
    cause: I64  # position in `plan.CAUSES`
    ead: I64
    loss: I64


@dataclass(frozen=True, slots=True)
class PoolCash:
    """What loans pay and owe, by path and month: (n_paths, T + 1) cents, column t is month t; nothing is in column 0.

    Each loan's amount is rounded to the cent by itself before it is added (docs/model.md 9).
    """

    interest: I64  # paid; what joins the balance of a loan that is not due is none
    principal: I64  # scheduled, swept, refinanced or repaid: opening less closing balance of the loans that pay
    drawn: I64  # undrawn parts that joined the balance
    balance: I64  # of the loans that live, after the month
    defaulted: I64  # exposure of the loans that default in the month
    recovery: I64  # exposure less loss, in the month of the sale, as of the month of default


def check_cash(cash: PoolCash, losses: I64) -> None:
    """Hold the cash of a pool on some paths to their (n_paths,) losses, cents.

    Raises:
        AssertionError: exposure less recovery is not the loss on some path (a bug).
    """
    wrong = np.count_nonzero(cash.defaulted.sum(axis=1) - cash.recovery.sum(axis=1) - losses)
    if wrong:
        raise AssertionError(f"the cash of {wrong} paths is not that of their losses")


class Engine(Protocol):
    """A way to run paths. Engines differ in speed, never in a single integer."""

    name: str

    def prepare(self, plan: Plan) -> object:
        """Whatever comes before the first path: layout, compiling."""

    def first_chunk(self, plan: Plan) -> int:
        """Paths of a run's first chunk."""

    def longest_chunk(self, plan: Plan) -> int:
        """Paths of a chunk at most: what bounds memory."""

    def footprint(self, plan: Plan, chunk: int) -> Footprint:
        """Memory that chunks of so many paths take, beside the plan."""

    def run(self, plan: Plan, seed: int, first_path: int, n_paths: int, *, prices: bool = False) -> PathTable:
        """The integers of paths first_path … first_path + n_paths - 1, with their prices when asked for."""


class EventEngine(Engine, Protocol):
    """An engine that can also say what happened on paths that are named."""

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
        """As `Engine.run`, with what the tranches of a pool get when asked for."""

    def events(self, plan: Plan, seed: int, paths: I64) -> Events:
        """Every default of the paths with these numbers."""

    def pool_cash(
        self, plan: Plan, seed: int, first_path: int, n_paths: int, plain: PlainSchedule | None = None
    ) -> PoolCash:
        """What the loans of paths first_path … first_path + n_paths - 1 pay and owe; without `plain` the GPU loans alone."""

    def replay(self, plan: Plan, seed: int, paths: I64) -> LoanTable:
        """The paths with these numbers, in full."""


def tally(plan: Plan, first_path: int, n_paths: int, defaults: Defaults, prices: F32 | None = None) -> PathTable:
    """Sum a chunk's defaults; only integers are added, so order cannot matter."""
    discounted = np.rint(defaults.loss * plan.discount[defaults.month]).astype(np.int64)
    largest = np.zeros(n_paths, dtype=np.int64)
    np.maximum.at(largest, defaults.path, defaults.loss)

    def by_path(values: I64) -> I64:
        return _sums((n_paths,), (defaults.path,), values)

    one = np.ones_like(defaults.loss)
    loan, cause = defaults.loan.astype(np.int64), defaults.cause.astype(np.int64)
    by_cause = (plan.n_loans, len(CAUSES))
    return PathTable(
        first_path=first_path,
        loss=by_path(defaults.loss),
        discounted_loss=by_path(discounted),
        defaulted_balance=by_path(defaults.ead),
        largest_loss=largest,
        defaults=by_path(one).astype(np.int32),
        by_loan=Totals.of(plan.n_loans, loan, one, defaults.ead, defaults.loss),
        by_group=_by_group(plan, defaults),
        loan_cause_defaults=_sums(by_cause, (loan, cause), one),
        loan_cause_loss=digit_sums(by_cause, (loan, cause), defaults.loss),
        prices=prices,
    )


def _by_group(plan: Plan, defaults: Defaults) -> Totals:
    """Totals of every kind of group: defaults are first summed within each path and group."""
    month, cause = defaults.month.astype(np.int64) - 1, defaults.cause.astype(np.int64)
    kinds = {"month": month, "year": month // 12, "cause": cause, "month_cause": month * len(CAUSES) + cause}
    kinds |= {f"segment_{i}": codes[defaults.loan].astype(np.int64) for i, codes in enumerate(plan.segments)}
    n_groups = plan.n_groups
    items, sums = [], []
    for name, part in plan.groups.items():
        place, inverse = np.unique(defaults.path * n_groups + (kinds[name] + part.start), return_inverse=True)
        items.append(place % n_groups)
        values = (np.ones_like(defaults.loss), defaults.ead, defaults.loss)
        sums.append(np.stack([_sums((len(place),), (inverse.reshape(-1),), v) for v in values]))
    defaulted, ead, loss = np.concatenate(sums, axis=1)
    return Totals.of(n_groups, np.concatenate(items), defaulted, ead, loss)


def _sums(shape: tuple[int, ...], place: tuple[I64 | I32, ...], values: I64) -> I64:
    total = np.zeros(shape, dtype=np.int64)
    np.add.at(total, place, values)
    return total


def table_bytes(plan: Plan, n_paths: int) -> int:
    """Bytes of a table of so many paths without prices."""
    totals = 2 + 5 * N_DIGITS
    return 36 * n_paths + 8 * (totals * (plan.n_loans + plan.n_groups) + (1 + N_DIGITS) * len(CAUSES) * plan.n_loans)
