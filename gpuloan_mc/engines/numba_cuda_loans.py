"""Loans of the engine numba-cuda: a month of cash, maturity, default, and the sale of chips."""

from __future__ import annotations

from typing import Any

from ..paths.arithmetic import ONE, ZERO
from ..paths.loans import PARENT as BY_PARENT
from ..paths.loans import add_revenue, cause_of, debt_service, is_refinanced, is_short, monthly_rate, pay, shortfall
from ..paths.path import to_cents
from ..paths.philox import LOAN, draw, event_word
from ..paths.primitives import fma
from ..paths.recovery import (
    add_proceeds,
    after_claim,
    contract_value,
    exposure,
    kept_value,
    loss,
    months_left,
    sale_lag,
    sale_price,
    share_of_table,
)
from ..plan import REPAID_BELOW
from .numba_cuda_contracts import release, step_deployments
from .numba_cuda_layout import (
    ALLOWED,
    BALANCE_LEFT,
    BASE_RATE,
    CHIP_DISCOUNT,
    CLAIM_RECOVERY,
    CONTRACT_ANNUITY,
    COST_GROWTH,
    COVENANT,
    DEFAULT_CAUSE,
    DEFAULT_MONTH,
    DRAW_MONTH,
    EAD_OF,
    END,
    END_DEPLOYMENT,
    FIRST_DEPLOYMENT,
    FIRST_MONTH,
    FLAGS,
    FLOATING,
    GENERATION,
    HAIRCUT_OF,
    HAIRCUTS,
    HOURLY_OPEX,
    HOURS,
    IN_SERVICE,
    INDEX,
    INVERSE_ANNUITY,
    INVERSE_DEPTH,
    KEPT_SHARE,
    LAG_MAX,
    LENDER_DISCOUNT,
    LOCKUP,
    LTV_CAP,
    MARGIN,
    N_LOANS,
    OPEX,
    OPEX_STRESS,
    PARENT,
    PERFORMANCE,
    PULLED_IN,
    REFINANCE,
    RESERVE_LEFT,
    RESERVE_MONTHS,
    REST_OF,
    SALE_KEEP,
    SALE_LAGS,
    SALE_MONTH,
    SALE_PRESSURE,
    SOLD,
    START,
    STATUS,
    STEP_IN,
    STORAGE_SHARE,
    SUPPORT_LEFT,
    SWEEP,
    TENANT_LOST,
    TERM,
    UNDRAWN,
    UNIT_SHARE,
)
from .numba_cuda_market import value_of
from .numba_cuda_memory import (
    CLAIM,
    DEAD,
    LET,
    NO_MONTH,
    ONE_LESS,
    ONE_MORE,
    SPOT_INCOME,
    WAITING,
    cuda,
    emit,
    f32,
    i32,
    path_of,
    u64,
)

# --- months -----------------------------------------------------------------------------------------------------------


def rate_of(book: Any, t: Any, loan: Any) -> Any:
    """Interest of this month."""
    return monthly_rate(book.loan_reals[FLOATING, loan], book.by_month[BASE_RATE, t], book.loan_reals[MARGIN, loan])


def income_of(book: Any, work: Any, shared: Any, s: Any, q: Any, t: Any, loan: Any) -> Any:
    """(5.3) NOI."""
    revenue, cost = ZERO, ZERO
    for d in range(book.loans[FIRST_DEPLOYMENT, loan], book.loans[END_DEPLOYMENT, loan]):
        if book.deployments[START, d] <= t:
            let = work.rate[s, d] if work.deployment[s, FLAGS, d] & LET != 0 else -ONE
            spot = shared.generation[q, SPOT_INCOME, book.deployments[GENERATION, d]]
            revenue = add_revenue(revenue, book.deployment_reals[HOURS, d], let, spot)
            cost = fma(book.deployment_reals[HOURLY_OPEX, d], book.by_month[COST_GROWTH, t], cost)
    return revenue - cost


def collateral(book: Any, shared: Any, q: Any, t: Any, loan: Any) -> Any:
    """(5.6) value of the loan's chips in service."""
    value = ZERO
    for d in range(book.loans[FIRST_DEPLOYMENT, loan], book.loans[END_DEPLOYMENT, loan]):
        if book.deployments[START, d] <= t:
            value = fma(book.deployment_reals[UNIT_SHARE, d], value_of(book, shared, q, t, d), value)
    return value


def step_loans(book: Any, work: Any, shared: Any, results: Any, here: Any, t: Any) -> None:
    """(5), (6) month t: contracts, cash and sale of every loan."""
    n = book.whole[N_LOANS]
    for i in range(here.low * n + here.thread, here.high * n, here.n_threads):
        q = i // n
        loan, s = i - q * n, here.slot + q
        step_deployments(book, work, shared, here, q, t, loan)
        if work.loan[s, STATUS, loan] != DEAD:
            step_loan(book, work, shared, here, q, t, loan)
        if work.loan[s, SALE_MONTH, loan] == t:
            sell(book, work, shared, results, here, q, t, loan)


def step_loan(book: Any, work: Any, shared: Any, here: Any, q: Any, t: Any, loan: Any) -> None:
    """(5.3)-(5.5) a living loan: draw, parent's default, maturity or an ordinary month."""
    s = here.slot + q
    if book.loans[DRAW_MONTH, loan] == t:
        work.loan_reals[s, BALANCE_LEFT, loan] += book.loan_reals[UNDRAWN, loan]
    if work.loan[s, STATUS, loan] == WAITING and book.loans[FIRST_MONTH, loan] <= t:
        work.loan[s, STATUS, loan] = NO_MONTH
    if work.months[s, book.loans[PARENT, loan]] == t:
        work.loan_reals[s, SUPPORT_LEFT, loan] = ZERO
        if event_word(loan_words(book, here, q, loan)[0]) < book.loans[PULLED_IN, loan]:
            default(book, work, shared, here, q, t, loan, BY_PARENT)
            return
    if work.loan[s, STATUS, loan] == WAITING:
        balance = work.loan_reals[s, BALANCE_LEFT, loan]
        work.loan_reals[s, BALANCE_LEFT, loan] = exposure(balance, rate_of(book, t, loan))
    elif book.loans[TERM, loan] == t:
        mature(book, work, shared, here, q, t, loan)
    else:
        pay_month(book, work, shared, here, q, t, loan)


def loan_words(book: Any, here: Any, q: Any, loan: Any) -> Any:
    """The draw of a loan: pulled in, step-in, lag, haircut."""
    first = book.keys.shape[0] - book.deployments.shape[1] - book.loans.shape[1]
    return draw(here.seed, path_of(here, q), LOAN, u64(0), book.keys[first + loan])


def pay_month(book: Any, work: Any, shared: Any, here: Any, q: Any, t: Any, loan: Any) -> None:
    """(5.3)-(5.5) before maturity."""
    s = here.slot + q
    balance = work.loan_reals[s, BALANCE_LEFT, loan]
    reserve, support = work.loan_reals[s, RESERVE_LEFT, loan], work.loan_reals[s, SUPPORT_LEFT, loan]
    scheduled = book.principal[t, loan]
    principal = balance if balance < scheduled else scheduled
    income = income_of(book, work, shared, s, q, t, loan)
    service = debt_service(balance, rate_of(book, t, loan), principal)
    breaches = NO_MONTH
    if income < book.loan_reals[COVENANT, loan] * service:
        breaches = i32(work.loan[s, STATUS, loan] + ONE_MORE)
    short: Any = is_short(shortfall(service, income), reserve, support)
    if short or breaches >= book.loans[ALLOWED, loan]:
        default(book, work, shared, here, q, t, loan, cause_of(short, False, work.loan[s, TENANT_LOST, loan] != 0))
        return
    level, cap = book.loan_reals[LOCKUP, loan], book.loan_reals[LTV_CAP, loan]
    locked = level > ZERO and income < level * service
    if not locked and cap > ZERO:
        locked = balance > cap * collateral(book, shared, q, t, loan)
    sweep = ONE if locked else book.loan_reals[SWEEP, loan]
    after, reserve, support = pay(
        balance, reserve, support, principal, service, income, book.loan_reals[RESERVE_MONTHS, loan], sweep
    )
    keep(work, s, loan, after, reserve, support)
    work.loan[s, STATUS, loan] = breaches
    if after <= REPAID_BELOW and book.loans[DRAW_MONTH, loan] <= t:
        work.loan[s, STATUS, loan] = DEAD


def keep(work: Any, s: Any, loan: Any, balance: Any, reserve: Any, support: Any) -> None:
    """The state of a loan that has paid."""
    work.loan_reals[s, BALANCE_LEFT, loan] = balance
    work.loan_reals[s, RESERVE_LEFT, loan] = reserve
    work.loan_reals[s, SUPPORT_LEFT, loan] = support


def mature(book: Any, work: Any, shared: Any, here: Any, q: Any, t: Any, loan: Any) -> None:
    """(5.3)-(5.5) the whole balance is due, unless a new lender takes it over."""
    s = here.slot + q
    balance = work.loan_reals[s, BALANCE_LEFT, loan]
    reserve, support = work.loan_reals[s, RESERVE_LEFT, loan], work.loan_reals[s, SUPPORT_LEFT, loan]
    income, principal = income_of(book, work, shared, s, q, t, loan), balance
    limit = book.loan_reals[REFINANCE, loan]
    if limit > ZERO and is_refinanced(balance, limit, collateral(book, shared, q, t, loan)):
        principal = ZERO
    service = debt_service(balance, rate_of(book, t, loan), principal)
    if is_short(shortfall(service, income), reserve, support):
        default(book, work, shared, here, q, t, loan, cause_of(True, True, work.loan[s, TENANT_LOST, loan] != 0))
        return
    _, reserve, support = pay(balance, reserve, support, balance, service, income, ZERO, ONE)
    keep(work, s, loan, ZERO, reserve, support)
    work.loan[s, STATUS, loan] = DEAD if book.loans[DRAW_MONTH, loan] <= t else NO_MONTH


# --- default and recovery ---------------------------------------------------------------------------------------------


def default(book: Any, work: Any, shared: Any, here: Any, q: Any, t: Any, loan: Any, cause: Any) -> None:
    """(6.1), (6.2) and the month of the sale."""
    s, w = here.slot + q, loan_words(book, here, q, loan)
    stepped_in = event_word(w[1]) < book.whole[STEP_IN]
    lag = sale_lag(book.scores[SALE_LAGS], w[2], book.whole[LAG_MAX])
    haircut = share_of_table(book.scores[HAIRCUTS], w[3])
    ead = exposure(work.loan_reals[s, BALANCE_LEFT, loan], rate_of(book, t, loan))
    rest = ead - work.loan_reals[s, RESERVE_LEFT, loan]
    draw_month, sold, bit = book.loans[DRAW_MONTH, loan], i32(0), i32(1)
    for d in range(book.loans[FIRST_DEPLOYMENT, loan], book.loans[END_DEPLOYMENT, loan]):
        flags = work.deployment[s, FLAGS, d]
        kept = stepped_in and flags & LET != 0 and book.deployments[START, d] <= t
        if kept or flags & CLAIM != 0:
            rest = after_contract(book, work, shared, s, q, t, d, kept, haircut, rest)
        lapsed = draw_month > t and book.deployments[IN_SERVICE, d] >= draw_month
        if not kept and not lapsed:
            sold = i32(sold | bit)
        bit = i32(bit << ONE_MORE)
        work.deployment[s, FLAGS, d] = flags & ~LET
    work.loan[s, STATUS, loan] = DEAD
    work.loan[s, SALE_MONTH, loan] = i32(t + lag)
    work.loan[s, DEFAULT_MONTH, loan] = t
    work.loan[s, DEFAULT_CAUSE, loan] = cause
    work.loan[s, SOLD, loan] = sold
    work.loan_reals[s, EAD_OF, loan] = ead
    work.loan_reals[s, REST_OF, loan] = rest
    work.loan_reals[s, HAIRCUT_OF, loan] = haircut
    cuda.atomic.add(shared.open_sales, q, ONE_MORE)


def after_contract(
    book: Any, work: Any, shared: Any, s: Any, q: Any, t: Any, d: Any, kept: Any, haircut: Any, rest: Any
) -> Any:
    """(6.2) what is left after a kept deployment, or after the claim that its tenant's default left."""
    left = months_left(work.deployment[s, END, d], i32(t))
    contract = contract_value(
        book.deployment_reals[HOURS, d],
        work.rate[s, d],
        book.deployment_reals[OPEX, d],
        book.by_month[COST_GROWTH, t],
        book.real[OPEX_STRESS],
        book.by_lag[CONTRACT_ANNUITY, left],
    )
    if not kept:
        return after_claim(rest, book.deployment_reals[CLAIM_RECOVERY, d], contract)
    g = book.deployments[GENERATION, d]
    return rest - kept_value(
        contract,
        book.real[PERFORMANCE],
        book.deployment_reals[UNIT_SHARE, d] * value_of(book, shared, q, t, d),
        book.annuity[t + left, g] * book.curves[INVERSE_ANNUITY, t, g],
        book.by_lag[CHIP_DISCOUNT, left],
        haircut,
        book.real[SALE_KEEP],
    )


def sell_due(book: Any, work: Any, shared: Any, results: Any, here: Any, t: Any) -> None:
    """(6.3), (6.4) the sales of a month after the horizon."""
    n = book.whole[N_LOANS]
    for i in range(here.low * n + here.thread, here.high * n, here.n_threads):
        q = i // n
        loan = i - q * n
        if work.loan[here.slot + q, SALE_MONTH, loan] == t:
            sell(book, work, shared, results, here, q, t, loan)


def sell(book: Any, work: Any, shared: Any, results: Any, here: Any, q: Any, t: Any, loan: Any) -> None:
    """(6.3) proceeds, (6.4) loss."""
    s = here.slot + q
    month, sold = work.loan[s, DEFAULT_MONTH, loan], work.loan[s, SOLD, loan]
    lag, haircut = i32(t - month), work.loan_reals[s, HAIRCUT_OF, loan]
    total, bit = ZERO, i32(1)
    for d in range(book.loans[FIRST_DEPLOYMENT, loan], book.loans[END_DEPLOYMENT, loan]):
        if sold & bit != 0:
            depth = book.curves[INVERSE_DEPTH, t, book.deployments[GENERATION, d]]
            pressure, keep_share = book.deployment_reals[SALE_PRESSURE, d], book.real[SALE_KEEP]
            price = sale_price(value_of(book, shared, q, t, d), haircut, pressure, depth, keep_share)
            opex = book.deployment_reals[HOURLY_OPEX, d] * book.by_month[COST_GROWTH, t]
            storage = book.real[STORAGE_SHARE] * opex
            total = add_proceeds(total, book.deployment_reals[UNIT_SHARE, d], price, storage, f32(lag))
            release(book, work, shared, s, q, d)
        bit = i32(bit << ONE_MORE)
    proceeds = total if total > ZERO else ZERO
    discount = book.by_lag[LENDER_DISCOUNT, lag]
    fraction = loss(book.loan_reals[KEPT_SHARE, loan], work.loan_reals[s, REST_OF, loan], discount, proceeds)
    commitment = book.commitment[loan]
    ead, lost = to_cents(commitment, work.loan_reals[s, EAD_OF, loan]), to_cents(commitment, fraction)
    emit(results, here.row + q, book.loans[INDEX, loan], month, work.loan[s, DEFAULT_CAUSE, loan], ead, lost)
    work.loan[s, SALE_MONTH, loan] = NO_MONTH
    cuda.atomic.add(shared.open_sales, q, ONE_LESS)
