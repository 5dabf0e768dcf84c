"""Who a default belongs to: its loan, borrower, tenants, generations, cause, year or segment; cents are never lost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .engines.base import Events
from .errors import UsageError
from .plan import CAUSES
from .questions import Questions
from .reference.arithmetic import I64

KINDS = ("loan", "borrower", "tenant", "generation", "cause", "year")
NO_CHIPS = "(no chips)"
SPOT = "(spot market)"
_WEIGHT_BITS = 30  # a share's numerator and denominator times a rest stay inside 63 bits


@dataclass(frozen=True, slots=True)
class Items:
    """The names of what a loss is laid to, and each loan's shares.

    Loan l belongs to items item[first[l] : first[l + 1]]; `until` are the running sums of its whole weights. For causes and
    years, which belong to the default rather than to the loan, `of_default` names the kind and the other arrays are empty.
    """

    names: list[str]
    first: I64
    item: I64
    until: I64
    of_default: str = ""

    def split(self, events: Events) -> tuple[I64, I64, I64, I64]:
        """Rows (path, item, EAD, loss) of the defaults: a default's cents split by weight, to the last cent.

        The k-th item gets what the running sum of weights up to k claims of the amount, rounded down, less what was
        given before: the last takes the rest.
        """
        if self.of_default:
            item = events.cause if self.of_default == "cause" else (events.month - 1) // 12
            return events.path, item, events.ead, events.loss
        first, end = self.first[events.loan], self.first[events.loan + 1]
        row = np.repeat(np.arange(len(first)), end - first)
        place = np.arange(len(row)) - np.repeat(np.cumsum(end - first) - (end - first), end - first) + first[row]
        total = self.until[end[row] - 1]
        before = np.where(place == first[row], 0, self.until[place - 1])
        ead, loss = (
            _claim(amount[row], self.until[place], total) - _claim(amount[row], before, total)
            for amount in (events.ead, events.loss)
        )
        return events.path[row], self.item[place], ead, loss


def _claim(amount: I64, weight: I64, total: I64) -> I64:
    """amount × weight / total, rounded down; weights up to 2^30."""
    whole, rest = amount // total, amount % total
    claim: I64 = whole * weight + rest * weight // total
    return claim


def items(run: Questions, by: str) -> Items:
    """The items of a kind.

    A loan's loss is split among tenants, and among generations, by chips: those of contracts signed and those on the
    spot market at month 0. Loans without chips are an item of their own.

    Raises:
        UsageError: no such kind.
    """
    portfolio, names = run.portfolio, run.names
    if by == "loan":
        return _one_each(names.loans, names.loans)
    if by == "borrower":
        return _one_each(names.borrowers, sorted(set(names.borrowers)))
    if by == "cause":
        return _of_default(list(CAUSES), by)
    if by == "year":
        return _of_default([str(y + 1) for y in range(-(-run.horizon_months // 12))], by)
    deployments = run.plan.deployments
    if by == "tenant":
        return _by_chips(run, [t or SPOT for t in names.tenants])
    if by == "generation":
        return _by_chips(run, [names.generations[g] for g in deployments.generation])
    if by in portfolio.segment_columns:
        return _one_each([str(v) for v in portfolio.loans[by]], portfolio.segment_values(by))
    known = ", ".join((*KINDS, *portfolio.segment_columns))
    raise UsageError(f"by is {by!r:.60}; it must be one of {known}. A column of your own on the loan tape is one more")


def _one_each(of_loan: list[str], names: list[str]) -> Items:
    place = {name: i for i, name in enumerate(names)}
    n = len(of_loan)
    return Items(names, np.arange(n + 1), np.array([place[v] for v in of_loan], dtype=np.int64), np.ones(n, np.int64))


def _of_default(names: list[str], kind: str) -> Items:
    empty = np.zeros(0, dtype=np.int64)
    return Items(names, empty, empty, empty, kind)


def _by_chips(run: Questions, of_deployment: list[str]) -> Items:
    """Items of the deployments' names, weighted by chips."""
    plan = run.plan
    secured = set(plan.loans.index.tolist())
    names = sorted(set(of_deployment)) + ([NO_CHIPS] if len(secured) < run.n_loans else [])
    place = {name: i for i, name in enumerate(names)}
    shares: list[dict[int, int]] = [{} for _ in range(run.n_loans)]
    for d, name in enumerate(of_deployment):
        mine = shares[int(plan.loans.index[plan.deployments.loan[d]])]
        mine[place[name]] = mine.get(place[name], 0) + int(plan.deployments.units[d])
    for mine in shares:
        if not mine:
            mine[place[NO_CHIPS]] = 1
    first = np.cumsum([0, *(len(mine) for mine in shares)])
    item = [i for mine in shares for i in sorted(mine)]
    until = [u for mine in shares for u in _running(mine)]
    return Items(names, first, np.array(item, dtype=np.int64), np.array(until, dtype=np.int64))


def _running(weights: dict[int, int]) -> list[int]:
    """Running sums of the weights by item, the last below 2^30."""
    shift = max(0, sum(weights.values()).bit_length() - _WEIGHT_BITS)
    sums, total = [], 0
    for i in sorted(weights):
        total += weights[i]
        sums.append(max(total >> shift, 1))
    return sums
