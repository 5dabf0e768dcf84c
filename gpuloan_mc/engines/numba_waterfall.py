"""The waterfall of a pool (docs/waterfall.md), compiled: paths over SIMD lanes, month by month, the integers of `waterfall.py`.

Cents are whole numbers in float64, of which sums are exact below 2^53; a path that comes near says so (`Payments.beyond`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..paths.primitives import lane_function, nearest
from ..payments import NEWTON_STEPS, SAME
from .numba_layout import aligned
from .numba_memory import compiled_loop, compiled_sum

i64, u64, f64 = np.int64, np.uint64, np.float64

LANES = 64  # paths side by side: a row of the desk
BEYOND = 2.0**53 / LANES  # cents of a path that may not be exact, or whose sum over lanes may not be
NEVER, BREACH, ALWAYS = i64(0), i64(1), i64(2)  # turbo
MONTHS_A_YEAR = 12
_LOW_BITS, _HALF = i64(0xFFFFFFFF), i64(32)

# Rows of a thread's desk, which is an array of float64; then those of each tranche, then its payments by month. Unsigned, as the
# places in the arena.
N_ROWS = 26
(
    # an account each
    INCOME, CAPITAL, LIVING, OPENING, RESERVE, PREFUNDED, RECEIVED, PAID, FEES_OWED, FEES, TRAPPED, FAILED,
    # within a month
    COVER, DUE, FAILING, AMOUNT,
    # what comes in
    INTEREST_IN, PRINCIPAL_IN, DRAWN_IN, BALANCE_IN, RECOVERY_IN,
    # of a yield
    TOTAL, DISCOUNT, VALUE, SLOPE, STEP,
) = (u64(row * LANES) for row in range(N_ROWS))  # fmt: skip
TRANCHE_ROWS = 5
OWED_OF, DUE_OF, INTEREST_OF, PRINCIPAL_OF, MONTHS_OF = (u64(row * LANES) for row in range(TRANCHE_ROWS))


class Terms(NamedTuple):
    """A `Structure` as compiled code reads it; K tranches, the residual last, T months. Cents."""

    sizes: Any  # (K,) float64
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
    beyond: Any  # whether sums may not be exact
    sums: Any  # (2, 2, T + 1, K) int64 interest and principal: multiples of 2^32, and the rest


def new_desk(n_tranches: int, width: int) -> Any:
    """A thread's memory: the paths at hand."""
    return aligned((N_ROWS + (TRANCHE_ROWS + width) * n_tranches, LANES), f64).reshape(-1)


def new_payments(n_paths: int, n_tranches: int, width: int) -> Payments:
    """Room for so many paths."""
    owed, deferred = (np.zeros((n_paths, n_tranches), i64) for _ in range(2))
    lives, yields = (np.zeros((n_paths, n_tranches), f64) for _ in range(2))
    failed, trapped, fees, missing, beyond = (np.zeros(n_paths, i64) for _ in range(5))
    sums = np.zeros((2, 2, width, n_tranches), i64)
    return Payments(owed, deferred, lives, yields, failed, trapped, fees, missing, beyond, sums)


def pay_paths(terms: Any, receipts: Any, desk: Any, out: Any, first: int, end: int, row: int) -> None:
    """The waterfall of rows first … end - 1 of the receipts, into rows `row` … of what comes of it."""
    last = receipts.interest.shape[1] - 1
    for start in range(first, end, LANES):
        n = min(LANES, end - start)
        open_desk(terms, desk)
        for t in range(1, last + 1):
            receive(receipts, desk, start, n, t)
            if t <= terms.horizon or t == last or not is_idle(desk, len(terms.sizes)):
                pay_month(terms, desk, t, t == last)
                close_month(desk, out.sums, n, t)
        close_desk(terms, desk, out, row, n)
        for k in range(len(terms.sizes)):
            close_tranche(terms, desk, out, row, n, k, last)
        row += n


@lane_function
def maximum(a: Any, b: Any) -> Any:
    return a if a > b else b


@lane_function
def minimum(a: Any, b: Any) -> Any:
    return a if a < b else b


@lane_function
def tranche(k: int) -> Any:
    """Where a tranche's rows begin."""
    return u64((N_ROWS + TRANCHE_ROWS * k) * LANES)


@lane_function
def flow(n_tranches: int, k: int, t: int) -> Any:
    """Where a tranche's payments of month t lie."""
    return u64((N_ROWS + TRANCHE_ROWS * n_tranches + t * n_tranches + k) * LANES)


@lane_function
def fill(desk: Any, row: Any, value: Any) -> None:
    for i in range(LANES):
        desk[row + u64(i)] = value


@lane_function
def copy(desk: Any, row: Any, source: Any) -> None:
    for i in range(LANES):
        desk[row + u64(i)] = desk[source + u64(i)]


@lane_function
def add(desk: Any, row: Any, more: Any) -> None:
    for i in range(LANES):
        desk[row + u64(i)] += desk[more + u64(i)]


@compiled_loop
def add_owed(desk: Any, row: Any, n_tranches: int) -> None:
    """What the first so many tranches are owed."""
    fill(desk, row, 0.0)
    for k in range(n_tranches):
        add(desk, row, tranche(k) + OWED_OF)


@compiled_loop
def open_desk(terms: Any, desk: Any) -> None:
    """Closing of the transaction: the reserve and the prefunding account are filled."""
    desk[:] = 0.0
    for k in range(len(terms.sizes)):
        fill(desk, tranche(k) + OWED_OF, terms.sizes[k])
    fill(desk, OPENING, terms.opening)
    fill(desk, RESERVE, terms.reserve)
    fill(desk, PREFUNDED, terms.undrawn)
    fill(desk, RECEIVED, terms.reserve + terms.undrawn)


@compiled_loop
def receive(receipts: Any, desk: Any, first: int, n: int, t: int) -> None:
    """What comes in in month t, from a row a path to a lane a path."""
    for i in range(n):
        lane, row = u64(i), first + i
        desk[INTEREST_IN + lane] = f64(receipts.interest[row, t])
        desk[PRINCIPAL_IN + lane] = f64(receipts.principal[row, t])
        desk[DRAWN_IN + lane] = f64(receipts.drawn[row, t])
        desk[BALANCE_IN + lane] = f64(receipts.balance[row, t])
        desk[RECOVERY_IN + lane] = f64(receipts.recovery[row, t])


@compiled_loop
def is_idle(desk: Any, n_tranches: int) -> Any:
    """Whether a month after the horizon moves nothing: nothing comes in, and nothing is held or owed above the residual."""
    moved = any_of(desk, INTEREST_IN) | any_of(desk, PRINCIPAL_IN) | any_of(desk, DRAWN_IN) | any_of(desk, RECOVERY_IN)
    moved |= any_of(desk, RESERVE) | any_of(desk, FEES_OWED) | any_of(desk, PREFUNDED)
    for k in range(n_tranches - 1):
        moved |= any_of(desk, tranche(k) + OWED_OF) | any_of(desk, tranche(k) + DUE_OF)
    return not moved


@lane_function
def any_of(desk: Any, row: Any) -> Any:
    """Whether a lane is not 0."""
    found = 0
    for i in range(LANES):
        found += desk[row + u64(i)] != 0.0
    return found > 0


@compiled_loop
def pay_month(terms: Any, desk: Any, t: int, is_last: bool) -> None:
    """Month t: fees, interest and tests from the top down, the reserve, then principal."""
    n_notes = len(terms.sizes) - 1
    for k in range(n_notes + 1):
        fill(desk, tranche(k) + PRINCIPAL_OF, 0.0)
    fill(desk, tranche(n_notes) + INTEREST_OF, 0.0)
    collect(desk, f64(t >= terms.lapse), f64(t == terms.horizon), f64(is_last))
    for k in range(n_notes):
        accrue(desk, tranche(k), terms.rates[t, k])
    pay_fees(terms, desk, f64(t <= terms.horizon))
    copy(desk, COVER, INCOME)
    fill(desk, DUE, 0.0)
    fill(desk, FAILING, 0.0)
    for k in range(n_notes):
        add(desk, DUE, tranche(k) + DUE_OF)
        pay_interest(desk, k)
        if t <= terms.horizon:
            hold_tests(terms, desk, k, n_notes)
    add(desk, FAILED, FAILING)
    if not is_last:
        fill_reserve(terms, desk, n_notes)
    if terms.turbo == ALWAYS:
        trap_income(desk, n_notes)
    elif terms.turbo == BREACH:
        choose_income(desk, FAILING)
        trap(desk, n_notes)
    if terms.is_pro_rata and t < terms.horizon:
        share_out(desk, n_notes + 1)
    for k in range(n_notes + 1):
        repay(desk, tranche(k), CAPITAL)
    add(desk, tranche(n_notes) + INTEREST_OF, CAPITAL)  # the residual has its principal: this is what it earns
    if is_last:
        copy(desk, VALUE, TRAPPED)  # the end of the transaction is no trap
        trap_income(desk, n_notes)
        copy(desk, TRAPPED, VALUE)
    add(desk, tranche(n_notes) + INTEREST_OF, INCOME)


@lane_function
def collect(desk: Any, lapses: Any, repays: Any, releases: Any) -> None:
    """Interest, principal, and the loans and money that still stand behind the notes; the flags are 1 or 0.

    What is owed after the horizon counts as repaid at par.
    """
    for i in range(LANES):
        lane = u64(i)
        income, capital = desk[INTEREST_IN + lane], desk[PRINCIPAL_IN + lane] + desk[RECOVERY_IN + lane]
        living, reserve = desk[BALANCE_IN + lane], desk[RESERVE + lane]
        prefunded = desk[PREFUNDED + lane] - desk[DRAWN_IN + lane]
        desk[RECEIVED + lane] += (income + capital) + living * repays
        desk[PAID + lane] += desk[DRAWN_IN + lane]
        desk[INCOME + lane] = income + reserve * releases
        desk[CAPITAL + lane] = (capital + prefunded * lapses) + living * repays
        desk[LIVING + lane] = living - living * repays
        desk[PREFUNDED + lane] = prefunded - prefunded * lapses
        desk[RESERVE + lane] = reserve - reserve * releases


@lane_function
def accrue(desk: Any, place: Any, rate: Any) -> None:
    """A month's interest of a tranche joins what is due."""
    for i in range(LANES):
        lane = u64(i)
        desk[place + DUE_OF + lane] += nearest(desk[place + OWED_OF + lane] * rate)


@compiled_loop
def pay_fees(terms: Any, desk: Any, runs: Any) -> None:
    """Those of the month, if the loans still run, and those still owed."""
    owe_fees(desk, terms.fee_rate * runs, terms.fee * runs)
    pay_from_all(desk, FEES_OWED, AMOUNT)
    add(desk, FEES, AMOUNT)
    add(desk, PAID, AMOUNT)


@lane_function
def owe_fees(desk: Any, rate: Any, fixed: Any) -> None:
    for i in range(LANES):
        lane = u64(i)
        desk[FEES_OWED + lane] += nearest(desk[OPENING + lane] * rate) + fixed


@compiled_loop
def pay_interest(desk: Any, k: int) -> None:
    """What tranche k is due."""
    if k == 0:
        pay_from_all(desk, tranche(k) + DUE_OF, tranche(k) + INTEREST_OF)
    else:
        pay_from_income(desk, tranche(k) + DUE_OF, tranche(k) + INTEREST_OF)


@lane_function
def pay_from_all(desk: Any, due: Any, paid: Any) -> None:
    """Paid from interest, then from the reserve, then from principal."""
    for i in range(LANES):
        lane = u64(i)
        income, reserve, capital, owed = (
            desk[INCOME + lane],
            desk[RESERVE + lane],
            desk[CAPITAL + lane],
            desk[due + lane],
        )
        first = minimum(owed, maximum(income, 0.0))
        second = minimum(owed - first, reserve)
        third = minimum((owed - first) - second, capital)
        desk[INCOME + lane] = income - first
        desk[RESERVE + lane] = reserve - second
        desk[CAPITAL + lane] = capital - third
        desk[paid + lane] = (first + second) + third
        desk[due + lane] = owed - ((first + second) + third)


@lane_function
def pay_from_income(desk: Any, due: Any, paid: Any) -> None:
    for i in range(LANES):
        lane = u64(i)
        owed, income = desk[due + lane], desk[INCOME + lane]
        amount = minimum(owed, maximum(income, 0.0))
        desk[INCOME + lane] = income - amount
        desk[due + lane] = owed - amount
        desk[paid + lane] = amount


@compiled_loop
def hold_tests(terms: Any, desk: Any, k: int, n_notes: int) -> None:
    """The tests of tranche k; what fails them turns interest into principal of the notes, the most senior first."""
    if terms.overcollateralisation[k] > 0.0:
        add_owed(desk, AMOUNT, k + 1)
        measure_shortage(desk, terms.overcollateralisation[k])
        trap(desk, n_notes)
    if terms.interest_cover[k] > 0.0:
        measure_cover(desk, terms.interest_cover[k])
        trap(desk, n_notes)


@lane_function
def measure_shortage(desk: Any, ratio: Any) -> None:
    """From what is owed down to a tranche to the interest that is short of what has to stand behind it."""
    for i in range(LANES):
        lane = u64(i)
        behind = (desk[LIVING + lane] + desk[PREFUNDED + lane]) + desk[CAPITAL + lane]
        short = desk[AMOUNT + lane] - np.floor(behind / ratio)
        desk[FAILING + lane] = 1.0 if short > 0.0 else desk[FAILING + lane]
        desk[AMOUNT + lane] = minimum(short, desk[INCOME + lane])


@lane_function
def measure_cover(desk: Any, ratio: Any) -> None:
    """All that is left of interest, where it did not cover what was due down to a tranche."""
    for i in range(LANES):
        lane = u64(i)
        due = desk[DUE + lane]
        is_low = (due > 0.0) & (desk[COVER + lane] < ratio * due)
        desk[FAILING + lane] = 1.0 if is_low else desk[FAILING + lane]
        desk[AMOUNT + lane] = desk[INCOME + lane] if is_low else 0.0


@compiled_loop
def trap_income(desk: Any, n_notes: int) -> None:
    """All that is left of interest repays the notes."""
    copy(desk, AMOUNT, INCOME)
    trap(desk, n_notes)


@lane_function
def choose_income(desk: Any, chosen: Any) -> None:
    """What is left of interest, on the lanes that are chosen."""
    for i in range(LANES):
        lane = u64(i)
        desk[AMOUNT + lane] = desk[INCOME + lane] if desk[chosen + lane] > 0.0 else 0.0


@compiled_loop
def trap(desk: Any, n_notes: int) -> None:
    """An amount of interest pays the notes' principal, the most senior first, as far as it is owed."""
    set_aside(desk)
    for k in range(n_notes):
        repay(desk, tranche(k), AMOUNT)
    put_back(desk)


@lane_function
def set_aside(desk: Any) -> None:
    for i in range(LANES):
        lane = u64(i)
        amount = maximum(desk[AMOUNT + lane], 0.0)
        desk[AMOUNT + lane] = amount
        desk[INCOME + lane] -= amount
        desk[TRAPPED + lane] += amount


@lane_function
def put_back(desk: Any) -> None:
    for i in range(LANES):
        lane = u64(i)
        amount = desk[AMOUNT + lane]
        desk[INCOME + lane] += amount
        desk[TRAPPED + lane] -= amount


@lane_function
def repay(desk: Any, place: Any, money: Any) -> None:
    """A tranche's principal, as far as it is owed and there is money."""
    for i in range(LANES):
        lane = u64(i)
        owed, there = desk[place + OWED_OF + lane], desk[money + lane]
        paid = minimum(there, owed)
        desk[place + OWED_OF + lane] = owed - paid
        desk[place + PRINCIPAL_OF + lane] += paid
        desk[money + lane] = there - paid


@compiled_loop
def fill_reserve(terms: Any, desk: Any, n_notes: int) -> None:
    """Up to its target from interest; what is above it is interest again."""
    add_owed(desk, AMOUNT, n_notes)
    move_to_reserve(desk, terms.reserve_share)


@lane_function
def move_to_reserve(desk: Any, share: Any) -> None:
    for i in range(LANES):
        lane = u64(i)
        income, reserve = desk[INCOME + lane], desk[RESERVE + lane]
        change = minimum(nearest(desk[AMOUNT + lane] * share) - reserve, maximum(income, 0.0))
        desk[RESERVE + lane] = reserve + change
        desk[INCOME + lane] = income - change


@compiled_loop
def share_out(desk: Any, n_tranches: int) -> None:
    """Where no test fails, principal by what each tranche is owed; rounding is left to the most senior."""
    add_owed(desk, AMOUNT, n_tranches)
    find_share(desk)
    for k in range(n_tranches):
        repay_share(desk, tranche(k))


@lane_function
def find_share(desk: Any) -> None:
    for i in range(LANES):
        lane = u64(i)
        share = minimum(desk[CAPITAL + lane] / maximum(desk[AMOUNT + lane], 1.0), 1.0)
        desk[AMOUNT + lane] = 0.0 if desk[FAILING + lane] > 0.0 else share


@lane_function
def repay_share(desk: Any, place: Any) -> None:
    for i in range(LANES):
        lane = u64(i)
        owed, capital = desk[place + OWED_OF + lane], desk[CAPITAL + lane]
        paid = minimum(np.floor(owed * desk[AMOUNT + lane]), capital)
        desk[place + OWED_OF + lane] = owed - paid
        desk[place + PRINCIPAL_OF + lane] += paid
        desk[CAPITAL + lane] = capital - paid


@compiled_loop
def close_month(desk: Any, sums: Any, n: int, t: int) -> None:
    """The month's payments join what is kept of the paths."""
    n_tranches = sums.shape[3]
    copy(desk, OPENING, BALANCE_IN)
    for k in range(n_tranches):
        place = tranche(k)
        join(desk, place, flow(n_tranches, k, t), f64(t))
        add_to(sums, 0, t, k, i64(total(desk, place + INTEREST_OF, n)))
        add_to(sums, 1, t, k, i64(total(desk, place + PRINCIPAL_OF, n)))


@lane_function
def join(desk: Any, place: Any, to: Any, t: Any) -> None:
    for i in range(LANES):
        lane = u64(i)
        principal = desk[place + PRINCIPAL_OF + lane]
        both = desk[place + INTEREST_OF + lane] + principal
        desk[to + lane] = both
        desk[PAID + lane] += both
        desk[place + MONTHS_OF + lane] += principal * t


@compiled_sum
def total(desk: Any, row: Any, n: int) -> Any:
    """Of the lanes that are paths."""
    found = 0.0
    for i in range(n):
        found += desk[row + u64(i)]
    return found


@compiled_loop
def add_to(sums: Any, which: int, t: int, k: int, cents: Any) -> None:
    """An amount joins a sum that may outgrow 64 bits."""
    sums[which, 0, t, k] += cents >> _HALF
    sums[which, 1, t, k] += cents & _LOW_BITS


@compiled_loop
def close_desk(terms: Any, desk: Any, out: Any, first: int, n: int) -> None:
    """What the paths leave: balances, and whether what came in has gone out."""
    for i in range(n):
        row, lane = first + i, u64(i)
        largest = desk[RECEIVED + lane] + desk[FEES_OWED + lane]
        for k in range(len(terms.sizes)):
            owed, due = desk[tranche(k) + OWED_OF + lane], desk[tranche(k) + DUE_OF + lane]
            out.owed[row, k], out.deferred[row, k] = i64(owed), i64(due)
            largest += due
        out.failed[row], out.trapped[row] = i64(desk[FAILED + lane]), i64(desk[TRAPPED + lane])
        out.fees[row], out.missing[row] = i64(desk[FEES + lane]), i64(desk[RECEIVED + lane] - desk[PAID + lane])
        out.beyond[row] = largest >= BEYOND


@compiled_loop
def close_tranche(terms: Any, desk: Any, out: Any, first: int, n: int, k: int, last: int) -> None:
    """Mean time to principal in years, nan where there is none; the yield a year, -1 where nothing is paid."""
    find_discount(desk, terms.price[k], len(terms.sizes), k, last)
    for i in range(n):
        row, lane = first + i, u64(i)
        principal, months = terms.sizes[k] - desk[tranche(k) + OWED_OF + lane], desk[tranche(k) + MONTHS_OF + lane]
        out.lives[row, k] = months / (MONTHS_A_YEAR * principal) if principal > 0.0 else np.nan
        out.yields[row, k] = desk[DISCOUNT + lane] ** -MONTHS_A_YEAR - 1.0 if desk[TOTAL + lane] > 0.0 else -1.0


@compiled_loop
def find_discount(desk: Any, price: Any, n_tranches: int, k: int, last: int) -> None:
    """Discount factors of a month at which a tranche is worth its price, by Newton's steps (`payments.internal_rate`)."""
    fill(desk, TOTAL, 0.0)
    fill(desk, VALUE, 0.0)
    while last > 0 and not any_of(desk, flow(n_tranches, k, last)):
        last -= 1
    for t in range(1, last + 1):
        weigh(desk, flow(n_tranches, k, t), f64(t))
    start_discount(desk, price)
    for _ in range(NEWTON_STEPS):
        fill(desk, VALUE, 0.0)
        fill(desk, SLOPE, 0.0)
        for t in range(last, -1, -1):
            horner(desk, flow(n_tranches, k, t))
        step_discount(desk, price)
        if not any_of(desk, STEP):
            break


@lane_function
def weigh(desk: Any, paid: Any, t: Any) -> None:
    """Σ c and Σ t·c."""
    for i in range(LANES):
        lane = u64(i)
        desk[TOTAL + lane] += desk[paid + lane]
        desk[VALUE + lane] += desk[paid + lane] * t


@compiled_loop
def start_discount(desk: Any, price: Any) -> None:
    """Where Newton's steps begin; a lane whose step is 0 is done."""
    for i in range(LANES):
        lane = u64(i)
        paid, months = desk[TOTAL + lane], desk[VALUE + lane]
        desk[STEP + lane] = f64(paid > 0.0)
        desk[DISCOUNT + lane] = (price / paid) ** (1.0 / maximum(months / paid, 1.0)) if paid > 0.0 else 1.0


@lane_function
def horner(desk: Any, paid: Any) -> None:
    """Σ c_t·v^t and its slope, a month on."""
    for i in range(LANES):
        lane = u64(i)
        v, value = desk[DISCOUNT + lane], desk[VALUE + lane]
        desk[SLOPE + lane] = desk[SLOPE + lane] * v + value
        desk[VALUE + lane] = value * v + desk[paid + lane]


@lane_function
def step_discount(desk: Any, price: Any) -> None:
    """A step of the lanes that are not done."""
    for i in range(LANES):
        lane = u64(i)
        slope, v = desk[SLOPE + lane], desk[DISCOUNT + lane]
        step = (desk[VALUE + lane] - price) / slope if (desk[STEP + lane] != 0.0) & (slope > 0.0) else 0.0
        desk[DISCOUNT + lane] = v - step
        desk[STEP + lane] = step if abs(step) > SAME * (v - step) else 0.0
