"""The cash-flow waterfall of a securitised pool (docs/waterfall.md), on every path, in whole cents: what comes in goes out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .engines.base import PoolCash
from .errors import InputRejected, Problem
from .inputs.pool_file import FILE_NAME, Note, PoolFile
from .inputs.rules import sentence
from .market import Market
from .reference.arithmetic import F64, I64, Bool
from .tables import forward_curve

CENTS = 100
YEAR = 12


@dataclass(frozen=True)
class Structure:
    """A pool's capital structure in cents. Notes are the tranches above the residual, the most senior first."""

    file: PoolFile
    sizes: tuple[int, ...]  # of all tranches, the residual last
    rates: F64  # (notes, T + 1) interest of a month
    horizon: int
    undrawn: int  # prefunded at closing
    opening: int  # balance of the loans at month 0
    last_draw: int

    @classmethod
    def of(
        cls, file: PoolFile, market: Market, *, balance: int, undrawn: int, last_draw: int, months: int
    ) -> Structure:
        """The structure on a pool that owes `balance` and has `undrawn` to draw, cents; `months` is T.

        Raises:
            InputRejected: the tranches above the residual take the whole commitment.
        """
        commitment = balance + undrawn
        notes = [_size(note, commitment) for note in file.tranches[:-1]]
        residual = commitment - sum(notes)
        if residual <= 0:
            found = f"they take {sum(notes) / CENTS:,.0f} dollars of {commitment / CENTS:,.0f}"
            raise InputRejected([Problem(FILE_NAME, sentence("pool-size", found), "pool-size", None, "tranches")])
        curve = forward_curve(market.base_rate.months, market.base_rate.rates, months)
        yearly = [np.full_like(curve, n.coupon) if n.spread is None else n.spread + curve for n in file.tranches[:-1]]
        return cls(
            file=file,
            sizes=(*notes, residual),
            rates=np.stack(yearly) / YEAR,
            horizon=market.horizon_months,
            undrawn=undrawn,
            opening=balance,
            last_draw=last_draw,
        )

    @property
    def names(self) -> list[str]:
        """Of all tranches, the residual last."""
        return [note.name for note in self.file.tranches]

    @property
    def reserve(self) -> int:
        """Paid into the reserve account at closing, by the residual."""
        return round(self.file.reserve.share * sum(self.sizes[:-1]))

    @property
    def fee_rate(self) -> float:
        """Of the living loans, a month."""
        return self.file.fees.rate / YEAR

    @property
    def fee(self) -> int:
        """Fixed, a month."""
        return round(self.file.fees.usd_per_year * CENTS / YEAR)


def _size(note: Note, commitment: int) -> int:
    return round((note.share or 0) * commitment) if note.size_usd is None else round(note.size_usd * CENTS)


@dataclass(frozen=True)
class Flows:
    """What the tranches of some paths get, (tranches, n_paths, T + 1) cents, and what they are left with.

    owed, deferred: principal and interest that were never paid, (tranches, n_paths); the residual is owed its size and no
    interest. fees, drawn: (n_paths,) paid to others. failed: (n_paths,) months in which a test failed. trapped: (n_paths,)
    interest that tests turned into principal.
    """

    interest: I64
    principal: I64
    owed: I64
    deferred: I64
    fees: I64
    drawn: I64
    failed: I64
    trapped: I64


def run_waterfall(structure: Structure, cash: PoolCash) -> Flows:
    """The waterfall of each path, month by month.

    Raises:
        AssertionError: cash in is not cash out on some path (a bug).
    """
    book = _Book(structure, cash)
    for t in range(1, cash.interest.shape[1]):
        book.step(t)
    flows = book.flows()
    paid = flows.interest.sum(axis=(0, 2)) + flows.principal.sum(axis=(0, 2)) + flows.fees + flows.drawn
    check_balance(book.received - paid)
    return flows


def check_balance(missing: I64) -> None:
    """Hold every path to paying out what it got: (n_paths,) cents that did not go out.

    Raises:
        AssertionError: some path does not (a bug).
    """
    if missing.any():
        raise AssertionError(f"{np.count_nonzero(missing)} paths pay out what they did not get")


@dataclass
class _Book:
    """Accounts of all paths while the months go by; arrays are (n_paths,) cents."""

    structure: Structure
    cash: PoolCash
    received: I64 = field(init=False)

    def __post_init__(self) -> None:
        n, width = self.cash.interest.shape
        s = self.structure
        self.owed = [np.full(n, size, dtype=np.int64) for size in s.sizes]
        self.deferred = [np.zeros(n, dtype=np.int64) for _ in s.sizes]
        self.reserve = np.full(n, s.reserve, dtype=np.int64)
        self.prefunded = np.full(n, s.undrawn, dtype=np.int64)
        self.received = self.reserve + self.prefunded
        self.fees_owed, self.fees, self.failed, self.trapped = (np.zeros(n, dtype=np.int64) for _ in range(4))
        self.interest, self.principal = (np.zeros((len(s.sizes), n, width), dtype=np.int64) for _ in range(2))

    def step(self, t: int) -> None:
        """Month t: fees, interest and tests from the top down, the reserve, then principal."""
        s = self.structure
        self.t, is_last = t, t == self.cash.interest.shape[1] - 1
        self.income, self.capital, living = self._collect(t)
        due = [
            np.rint(o * r[t]).astype(np.int64) + d for o, r, d in zip(self.owed, s.rates, self.deferred, strict=False)
        ]
        self._pay_fees(t)
        cover = self.income.copy()
        failing = np.zeros(len(cover), dtype=np.bool_)
        for k, note in enumerate(s.file.tranches[:-1]):
            self._pay_interest(k, due[k])
            if note.has_tests and t <= s.horizon:
                failing |= self._test(k, note, cover, sum(due[: k + 1]), living)
        self.failed += failing
        if not is_last:
            self._fill_reserve()
        if s.file.turbo != "never":
            self.trapped += self._trap(self.income if s.file.turbo == "always" else np.where(failing, self.income, 0))
        self._pay_principal(failing | (t >= s.horizon))  # what is left at the end goes from the top down
        if is_last:
            self._trap(self.income)
        self._give(self.interest, -1, self.income)

    def _collect(self, t: int) -> tuple[I64, I64, I64]:
        """Interest, principal, and the loans and money that still stand behind the notes."""
        cash, s = self.cash, self.structure
        income, capital = cash.interest[:, t].copy(), cash.principal[:, t] + cash.recovery[:, t]
        self.prefunded = self.prefunded - cash.drawn[:, t]
        living = cash.balance[:, t]
        self.received = self.received + income + capital
        if t >= min(s.last_draw, s.horizon):  # what lapsed is given back
            capital, self.prefunded = capital + self.prefunded, np.zeros_like(self.prefunded)
        if t == cash.interest.shape[1] - 1:
            income, self.reserve = income + self.reserve, np.zeros_like(self.reserve)
        if t == s.horizon:  # what is owed after the horizon counts as repaid at par
            self.received = self.received + living
            capital, living = capital + living, np.zeros_like(living)
        return income, capital, living

    def _pay_fees(self, t: int) -> None:
        s = self.structure
        opening = np.full_like(self.fees, s.opening) if t == 1 else self.cash.balance[:, t - 1]
        fixed = s.fee if t <= s.horizon else 0
        running = opening if t <= s.horizon else np.zeros_like(opening)
        self.fees_owed = self.fees_owed + np.rint(running * s.fee_rate).astype(np.int64) + fixed
        paid = self._from_all(self.fees_owed)
        self.fees_owed = self.fees_owed - paid
        self.fees = self.fees + paid

    def _from_all(self, due: I64) -> I64:
        """Paid from interest, then from the reserve, then from principal."""
        first = np.minimum(due, np.maximum(self.income, 0))
        second = np.minimum(due - first, self.reserve)
        third = np.minimum(due - first - second, self.capital)
        self.income, self.reserve, self.capital = self.income - first, self.reserve - second, self.capital - third
        return first + second + third

    def _pay_interest(self, k: int, due: I64) -> None:
        if k == 0:
            paid = self._from_all(due)
        else:
            paid = np.minimum(due, np.maximum(self.income, 0))
            self.income = self.income - paid
        self.interest[k, :, self.t] = paid
        self.deferred[k] = due - paid

    def _test(self, k: int, note: Note, cover: I64, due: Any, living: I64) -> Bool:
        """The ratios of tranche k; what fails them turns interest into principal of the notes, the most senior first."""
        failing = np.zeros(len(cover), dtype=np.bool_)
        if note.overcollateralisation is not None:
            owed = sum(self.owed[: k + 1])
            behind = living + self.prefunded + self.capital
            short = owed - np.floor(behind / note.overcollateralisation).astype(np.int64)
            failing |= short > 0
            self.trapped += self._trap(np.minimum(short, self.income))
        if note.interest_cover is not None:
            low = (due > 0) & (cover < note.interest_cover * due)
            failing |= low
            self.trapped += self._trap(np.where(low, self.income, 0))
        return failing

    def _trap(self, amount: I64) -> I64:
        """Interest that pays the notes' principal, the most senior first, as far as it is owed; how much that is."""
        before = self.income
        left = np.maximum(amount, 0)
        for k in range(len(self.owed) - 1):
            paid = np.minimum(left, self.owed[k])
            self._repay(k, paid)
            left, self.income = left - paid, self.income - paid
        return before - self.income

    def _fill_reserve(self) -> None:
        """Up to its target from interest; what is above it is interest again."""
        target = np.rint(sum(self.owed[:-1]) * self.structure.file.reserve.share).astype(np.int64)
        change = np.minimum(target - self.reserve, np.maximum(self.income, 0))
        self.reserve, self.income = self.reserve + change, self.income - change

    def _pay_principal(self, failing: Bool) -> None:
        if self.structure.file.allocation == "pro-rata":
            self._share_out(np.where(failing, 0, self.capital))
        for k in range(len(self.owed)):
            paid = np.minimum(self.capital, self.owed[k])
            self._repay(k, paid)
            self.capital = self.capital - paid
        self._give(self.interest, -1, self.capital)  # the residual has its principal: the rest is what it earns
        self.capital = np.zeros_like(self.capital)

    def _share_out(self, amount: I64) -> None:
        """Principal by what each tranche is owed; rounding is left to the most senior."""
        owed = np.stack(self.owed)
        shares = amount / np.maximum(owed.sum(axis=0), 1)
        for k in range(len(self.owed)):
            paid = np.minimum(np.floor(owed[k] * np.minimum(shares, 1)).astype(np.int64), self.capital)
            self._repay(k, paid)
            self.capital = self.capital - paid

    def _repay(self, k: int, amount: I64) -> None:
        self.owed[k] = self.owed[k] - amount
        self._give(self.principal, k, amount)

    def _give(self, what: I64, k: int, amount: I64) -> None:
        what[k, :, self.t] += amount

    def flows(self) -> Flows:
        """What came of it."""
        return Flows(
            interest=self.interest,
            principal=self.principal,
            owed=np.stack(self.owed),
            deferred=np.stack(self.deferred),
            fees=self.fees,
            drawn=self.cash.drawn.sum(axis=1),
            failed=self.failed,
            trapped=self.trapped,
        )
