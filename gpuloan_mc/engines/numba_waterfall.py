"""The waterfall of a pool (docs/waterfall.md), compiled: path by path, month by month, the integers of `waterfall.py`."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .numba_memory import compiled_loop

i64, f64 = np.int64, np.float64

NEVER, BREACH, ALWAYS = i64(0), i64(1), i64(2)  # turbo
N_ACCOUNTS = 10  # of a path
INCOME, CAPITAL, LIVING, RESERVE, PREFUNDED, RECEIVED, FEES_OWED, FEES, TRAPPED, FAILED = range(N_ACCOUNTS)
NEWTON_STEPS = 60
SAME = 1e-13  # of a discount factor
MONTHS_A_YEAR = 12
_LOW_BITS, _HALF = i64(0xFFFFFFFF), i64(32)


class Terms(NamedTuple):
    """A `Structure` as compiled code reads it; K tranches, the residual last, T months. Cents."""

    sizes: Any  # (K,) int64
    price: Any  # (K,) float64 what the yield is on
    rates: Any  # (T + 1, K - 1) float64 of a month
    overcollateralisation: Any  # (K - 1,) float64, 0: no test
    interest_cover: Any
    fee_rate: Any  # of a month
    fee: Any  # of a month
    reserve_share: Any
    reserve: Any
    undrawn: Any
    opening: Any
    horizon: Any
    lapse: Any  # from this month on what is not drawn is given back
    is_pro_rata: Any
    turbo: Any


class Receipts(NamedTuple):
    """Columns of `PoolCash`, (n_paths, T + 1)."""

    interest: Any
    principal: Any
    drawn: Any
    balance: Any
    recovery: Any


class Desk(NamedTuple):
    """A thread's own memory: the path at hand."""

    accounts: Any  # (N_ACCOUNTS,) int64
    owed: Any  # (K,) int64
    due: Any  # (K,) int64 interest of the month; what is left of it is deferred
    interest: Any  # (T + 1, K) int64
    principal: Any
    flow: Any  # (T + 1, K) float64 both
    discount: Any  # (4, K) float64 total, discount factor, value and slope


class Payments(NamedTuple):
    """What comes of it: a row a path, and sums over a thread's paths."""

    owed: Any  # (n_paths, K) int64
    deferred: Any
    lives: Any  # (n_paths, K) float64
    yields: Any
    failed: Any  # (n_paths,) int64
    trapped: Any
    fees: Any
    missing: Any  # what came in and did not go out
    sums: Any  # (2, 2, T + 1, K) int64 interest and principal: multiples of 2^32, and the rest


def new_desk(n_tranches: int, width: int) -> Desk:
    """Memory for one path."""
    shape = (width, n_tranches)
    owed, due = np.zeros(n_tranches, i64), np.zeros(n_tranches, i64)
    interest, principal = np.zeros(shape, i64), np.zeros(shape, i64)
    discount = np.zeros((4, n_tranches), f64)
    return Desk(np.zeros(N_ACCOUNTS, i64), owed, due, interest, principal, np.zeros(shape, f64), discount)


def new_payments(n_paths: int, n_tranches: int, width: int) -> Payments:
    """Room for so many paths."""
    owed, deferred = (np.zeros((n_paths, n_tranches), i64) for _ in range(2))
    lives, yields = (np.zeros((n_paths, n_tranches), f64) for _ in range(2))
    failed, trapped, fees, missing = (np.zeros(n_paths, i64) for _ in range(4))
    sums = np.zeros((2, 2, width, n_tranches), i64)
    return Payments(owed, deferred, lives, yields, failed, trapped, fees, missing, sums)


def pay_paths(terms: Any, receipts: Any, desk: Any, out: Any, first: int, end: int) -> None:
    """The waterfall of some rows of the receipts."""
    width = receipts.interest.shape[1]
    for row in range(first, end):
        open_desk(terms, desk)
        for t in range(1, width):
            if t <= terms.horizon or t == width - 1 or not is_idle(receipts, desk, row, t):
                pay_month(terms, receipts, desk, row, t)
        close_desk(receipts, desk, out, row)
        discount_path(terms, desk, out, row)


@compiled_loop
def open_desk(terms: Any, desk: Any) -> None:
    """Closing of the transaction: the reserve and the prefunding account are filled."""
    desk.accounts[:] = 0
    desk.interest[:] = 0
    desk.principal[:] = 0
    desk.owed[:] = terms.sizes
    desk.due[:] = 0
    desk.accounts[RESERVE] = terms.reserve
    desk.accounts[PREFUNDED] = terms.undrawn
    desk.accounts[RECEIVED] = terms.reserve + terms.undrawn


@compiled_loop
def is_idle(receipts: Any, desk: Any, row: int, t: int) -> Any:
    """Whether a month after the horizon moves nothing: nothing comes in, and nothing is held or owed above the residual."""
    moved = receipts.interest[row, t] | receipts.principal[row, t] | receipts.recovery[row, t] | receipts.drawn[row, t]
    moved |= desk.accounts[RESERVE] | desk.accounts[FEES_OWED] | desk.accounts[PREFUNDED]
    for k in range(len(desk.owed) - 1):
        moved |= desk.owed[k] | desk.due[k]
    return moved == 0


@compiled_loop
def pay_month(terms: Any, receipts: Any, desk: Any, row: int, t: int) -> None:
    """Month t: fees, interest and tests from the top down, the reserve, then principal."""
    accounts, n_notes, is_last = desk.accounts, len(desk.owed) - 1, t == receipts.interest.shape[1] - 1
    collect(terms, receipts, accounts, row, t, is_last)
    for k in range(n_notes):
        desk.due[k] += i64(np.rint(desk.owed[k] * terms.rates[t, k]))
    pay_fees(terms, receipts, accounts, row, t)
    cover, due, is_failing = accounts[INCOME], i64(0), False
    for k in range(n_notes):
        due += desk.due[k]
        pay_interest(desk, k, t)
        if t <= terms.horizon and is_broken(terms, desk, cover, due, k, t):
            is_failing = True
    accounts[FAILED] += is_failing
    if not is_last:
        fill_reserve(terms, desk)
    if terms.turbo == ALWAYS or (terms.turbo == BREACH and is_failing):
        accounts[TRAPPED] += trap(desk, accounts[INCOME], t)
    pay_principal(terms, desk, is_failing or t >= terms.horizon, t)
    if is_last:
        trap(desk, accounts[INCOME], t)
    desk.interest[t, n_notes] += accounts[INCOME]


@compiled_loop
def collect(terms: Any, receipts: Any, accounts: Any, row: int, t: int, is_last: bool) -> None:
    """Interest, principal, and the loans and money that still stand behind the notes."""
    income, capital = receipts.interest[row, t], receipts.principal[row, t] + receipts.recovery[row, t]
    living, prefunded = receipts.balance[row, t], accounts[PREFUNDED] - receipts.drawn[row, t]
    accounts[RECEIVED] += income + capital
    if t >= terms.lapse:
        capital, prefunded = capital + prefunded, i64(0)
    if is_last:
        income += accounts[RESERVE]
        accounts[RESERVE] = 0
    if t == terms.horizon:  # what is owed after the horizon counts as repaid at par
        accounts[RECEIVED] += living
        capital, living = capital + living, i64(0)
    accounts[INCOME], accounts[CAPITAL], accounts[LIVING], accounts[PREFUNDED] = income, capital, living, prefunded


@compiled_loop
def pay_fees(terms: Any, receipts: Any, accounts: Any, row: int, t: int) -> None:
    """Those of the month and those still owed."""
    if t <= terms.horizon:
        opening = terms.opening if t == 1 else receipts.balance[row, t - 1]
        accounts[FEES_OWED] += i64(np.rint(opening * terms.fee_rate)) + terms.fee
    paid = from_all(accounts, accounts[FEES_OWED])
    accounts[FEES_OWED] -= paid
    accounts[FEES] += paid


@compiled_loop
def from_all(accounts: Any, due: Any) -> Any:
    """Paid from interest, then from the reserve, then from principal."""
    first = min(due, max(accounts[INCOME], i64(0)))
    second = min(due - first, accounts[RESERVE])
    third = min(due - first - second, accounts[CAPITAL])
    accounts[INCOME] -= first
    accounts[RESERVE] -= second
    accounts[CAPITAL] -= third
    return first + second + third


@compiled_loop
def pay_interest(desk: Any, k: int, t: int) -> None:
    """What tranche k is due."""
    if k == 0:
        paid = from_all(desk.accounts, desk.due[k])
    else:
        paid = min(desk.due[k], max(desk.accounts[INCOME], i64(0)))
        desk.accounts[INCOME] -= paid
    desk.interest[t, k] = paid
    desk.due[k] -= paid


@compiled_loop
def is_broken(terms: Any, desk: Any, cover: Any, due: Any, k: int, t: int) -> Any:
    """The tests of tranche k; what fails them turns interest into principal of the notes, the most senior first."""
    accounts: Any = desk.accounts
    broken: Any = False
    if terms.overcollateralisation[k] > 0.0:
        owed = i64(0)
        for j in range(k + 1):
            owed += desk.owed[j]
        behind = accounts[LIVING] + accounts[PREFUNDED] + accounts[CAPITAL]
        short = owed - i64(np.floor(behind / terms.overcollateralisation[k]))
        broken = short > 0
        accounts[TRAPPED] += trap(desk, min(short, accounts[INCOME]), t)
    if terms.interest_cover[k] > 0.0 and due > 0 and cover < terms.interest_cover[k] * due:
        broken = True
        accounts[TRAPPED] += trap(desk, accounts[INCOME], t)
    return broken


@compiled_loop
def trap(desk: Any, amount: Any, t: int) -> Any:
    """Interest that pays the notes' principal, the most senior first, as far as it is owed; how much that is."""
    left = start = max(amount, i64(0))
    for k in range(len(desk.owed) - 1):
        paid = min(left, desk.owed[k])
        repay(desk, k, t, paid)
        left -= paid
    desk.accounts[INCOME] -= start - left
    return start - left


@compiled_loop
def repay(desk: Any, k: int, t: int, amount: Any) -> None:
    """Principal of tranche k."""
    desk.owed[k] -= amount
    desk.principal[t, k] += amount


@compiled_loop
def fill_reserve(terms: Any, desk: Any) -> None:
    """Up to its target from interest; what is above it is interest again."""
    owed = i64(0)
    for k in range(len(desk.owed) - 1):
        owed += desk.owed[k]
    target = i64(np.rint(owed * terms.reserve_share))
    change = min(target - desk.accounts[RESERVE], max(desk.accounts[INCOME], i64(0)))
    desk.accounts[RESERVE] += change
    desk.accounts[INCOME] -= change


@compiled_loop
def pay_principal(terms: Any, desk: Any, from_the_top: bool, t: int) -> None:
    """By what each tranche is owed where the structure says so; the rest from the top down, and to the residual."""
    accounts, n_tranches = desk.accounts, len(desk.owed)
    if terms.is_pro_rata and not from_the_top:
        share_out(desk, t)
    for k in range(n_tranches):
        paid = min(accounts[CAPITAL], desk.owed[k])
        repay(desk, k, t, paid)
        accounts[CAPITAL] -= paid
    desk.interest[t, n_tranches - 1] += accounts[CAPITAL]  # the residual has its principal: this is what it earns
    accounts[CAPITAL] = 0


@compiled_loop
def share_out(desk: Any, t: int) -> None:
    """Principal by what each tranche is owed; rounding is left to the most senior."""
    amount, owed = desk.accounts[CAPITAL], i64(0)
    for k in range(len(desk.owed)):
        owed += desk.owed[k]
    share = min(amount / max(owed, i64(1)), 1.0)
    for k in range(len(desk.owed)):
        paid = min(i64(np.floor(desk.owed[k] * share)), desk.accounts[CAPITAL])
        repay(desk, k, t, paid)
        desk.accounts[CAPITAL] -= paid


@compiled_loop
def close_desk(receipts: Any, desk: Any, out: Any, row: int) -> None:
    """What the path leaves: balances, sums, and whether what came in has gone out."""
    accounts, width, n_tranches = desk.accounts, desk.interest.shape[0], len(desk.owed)
    paid = accounts[FEES]
    for t in range(width):
        paid += receipts.drawn[row, t]
        for k in range(n_tranches):
            interest, principal = desk.interest[t, k], desk.principal[t, k]
            paid += interest + principal
            desk.flow[t, k] = f64(interest + principal)
            if interest != 0:
                add_to(out.sums, 0, t, k, interest)
            if principal != 0:
                add_to(out.sums, 1, t, k, principal)
    out.missing[row] = accounts[RECEIVED] - paid
    out.failed[row], out.trapped[row], out.fees[row] = accounts[FAILED], accounts[TRAPPED], accounts[FEES]
    for k in range(n_tranches):
        out.owed[row, k], out.deferred[row, k] = desk.owed[k], desk.due[k]
        out.lives[row, k] = life(desk, k)


@compiled_loop
def add_to(sums: Any, which: int, t: int, k: int, cents: Any) -> None:
    """An amount joins a sum that may outgrow 64 bits."""
    sums[which, 0, t, k] += cents >> _HALF
    sums[which, 1, t, k] += cents & _LOW_BITS


@compiled_loop
def life(desk: Any, k: int) -> Any:
    """Mean time to principal, years; nan where there is none."""
    total, months = i64(0), 0.0
    for t in range(desk.principal.shape[0]):
        total += desk.principal[t, k]
        months += f64(desk.principal[t, k]) * f64(t)
    return months / (MONTHS_A_YEAR * f64(total)) if total > 0 else np.nan


@compiled_loop
def discount_path(terms: Any, desk: Any, out: Any, row: int) -> None:
    """Yields of all tranches: Newton's steps in the discount factor of a month (`tranche_cash.internal_rate`)."""
    flow, n_tranches = desk.flow, len(desk.owed)
    total, v, open_ones = desk.discount[0], desk.discount[1], 0
    for k in range(n_tranches):
        months = 0.0
        total[k], v[k] = 0.0, 1.0
        for t in range(flow.shape[0]):
            total[k] += flow[t, k]
            months += flow[t, k] * f64(t)
        if total[k] > 0.0:
            open_ones += 1
            v[k] = (terms.price[k] / total[k]) ** (1.0 / max(months / total[k], 1.0))
    last = flow.shape[0] - 1
    while last > 0 and not np.any(flow[last]):
        last -= 1
    for _ in range(NEWTON_STEPS):
        if open_ones == 0:
            break
        worth(desk, last)
        open_ones = 0
        for k in range(n_tranches):
            value, slope = desk.discount[2, k], desk.discount[3, k]
            if total[k] > 0.0 and slope > 0.0:
                step = (value - terms.price[k]) / slope
                v[k] -= step
                if abs(step) > SAME * v[k]:
                    open_ones += 1
    for k in range(n_tranches):
        out.yields[row, k] = v[k] ** -MONTHS_A_YEAR - 1.0 if total[k] > 0.0 else -1.0


@compiled_loop
def worth(desk: Any, last: int) -> None:
    """Σ c_t·v^t and its slope by Horner's rule, of all tranches side by side."""
    v, value, slope = desk.discount[1], desk.discount[2], desk.discount[3]
    value[:] = 0.0
    slope[:] = 0.0
    for t in range(last, -1, -1):
        for k in range(len(value)):
            slope[k] = slope[k] * v[k] + value[k]
            value[k] = value[k] * v[k] + desk.flow[t, k]
