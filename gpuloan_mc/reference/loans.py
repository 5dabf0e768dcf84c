"""Loans with deployments, month by month (docs/model.md 5): contracts, cash, covenants, default.

Arrays are (n_paths, n_loans) or (n_paths, n_deployments); amounts are fractions of the loan's commitment.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from ..plan import REPAID_BELOW, DeploymentPlan, LoanPlan, Plan
from .arithmetic import F32, I32, I64, Bool, f32, fma
from .market import Prices
from .philox import U64, Purpose, event_word, word, words


class Cause(IntEnum):
    """Why a loan defaulted, the first that holds (6.5); a plain loan defaults with its borrower: PARENT."""

    PARENT = 0
    MATURITY = 1
    TENANT = 2
    PAYMENT = 3
    COVENANT = 4


@dataclass(slots=True)
class LoanState:
    """What GPU loans and their deployments carry from month to month."""

    balance: F32
    reserve: F32
    support: F32
    breaches: I32  # months running below dscr_default
    alive: Bool
    tenant_lost: Bool  # a tenant's default has ended one of the loan's contracts
    pulled_in: Bool  # drawn once: the SPV falls with its parent
    let: Bool  # (n_paths, D) the contract is live
    contract_end: I32  # last month paid
    contract_rate: F32  # dollars an hour actually paid
    claim: Bool  # the contract was ended by its tenant's default
    released: Bool  # the chips have come back


def initial_loans(plan: Plan, seed: int, paths: U64) -> LoanState:
    """State at month 0."""
    loans, deployments = plan.loans, plan.deployments
    n, n_loans, n_deployments = len(paths), len(loans.key), len(deployments.key)

    def rows(values: F32) -> F32:
        return np.tile(values, (n, 1))

    drawn = event_word(words(seed, paths[:, None], Purpose.LOAN, 0, loans.key)[0])
    return LoanState(
        balance=rows(loans.balance),
        reserve=rows(loans.reserve),
        support=rows(loans.support),
        breaches=np.zeros((n, n_loans), dtype=np.int32),
        alive=np.ones((n, n_loans), dtype=np.bool_),
        tenant_lost=np.zeros((n, n_loans), dtype=np.bool_),
        pulled_in=drawn < loans.pulled_in,
        let=np.tile(deployments.tenant >= 0, (n, 1)),
        contract_end=np.tile(deployments.contract_end, (n, 1)),
        contract_rate=rows(deployments.contract_rate),
        claim=np.zeros((n, n_deployments), dtype=np.bool_),
        released=np.zeros((n, n_deployments), dtype=np.bool_),
    )


def step_deployments(
    plan: Plan, seed: int, paths: U64, t: int, state: LoanState, months: I32, regime: I32, prices: Prices, released: I64
) -> None:
    """(5.1), (5.2): contracts that a tenant's default or their term ends; chips handed back go into `released`."""
    deployments = plan.deployments
    live = state.let & (deployments.start <= t)
    lost = live & (np.take(months, deployments.tenant, axis=1) <= t)
    p, d = np.nonzero(lost)
    state.claim[p, d] = True
    state.tenant_lost[p, deployments.loan[d]] = True
    _end_contracts(deployments, state, p, d, released)
    p, d = np.nonzero(live & ~lost & (state.contract_end < t))
    drawn = event_word(word(seed, paths[p], Purpose.RENEWAL, t, deployments.key[d]))
    renewed = drawn < plan.recovery.renewal[regime[p]]
    _end_contracts(deployments, state, p[~renewed], d[~renewed], released)
    p, d = p[renewed], d[renewed]
    price = prices.contract[p, deployments.generation[d]] * plan.recovery.renewal_keep
    state.contract_rate[p, d] = price * plan.recovery.paid_share
    state.contract_end[p, d] = t - 1 + plan.recovery.renewal_term


def _end_contracts(deployments: DeploymentPlan, state: LoanState, p: I64, d: I64, released: I64) -> None:
    state.let[p, d] = False
    release(deployments, state, p, d, released)


def release(deployments: DeploymentPlan, state: LoanState, p: I64, d: I64, released: I64) -> None:
    """Count the chips of pairs (path, deployment) as handed back this month, unless they were before (2.7)."""
    first = ~state.released[p, d]
    p, d = p[first], d[first]
    state.released[p, d] = True
    np.add.at(released, (p, deployments.generation[d]), deployments.units[d])


def slots(plan: LoanPlan) -> list[tuple[I64, I64]]:
    """For j = 0, 1, …: the loans with more than j deployments and their deployment j; sums over them are fma chains."""
    first, counts = plan.first_deployment[:-1].astype(np.int64), np.diff(plan.first_deployment)
    result = []
    for j in range(int(counts.max(initial=0))):
        loans = np.nonzero(counts > j)[0]
        result.append((loans, first[loans] + j))
    return result


def net_income(plan: Plan, t: int, state: LoanState, prices: Prices, chains: list[tuple[I64, I64]]) -> F32:
    """(5.3) NOI a loan: contract or spot revenue less cash cost, of the chips in service."""
    deployments, recovery = plan.deployments, plan.recovery
    spot = (prices.spot * prices.utilisation[:, None]) * recovery.spot_keep
    rate = np.where(state.let, state.contract_rate, np.take(spot, deployments.generation, axis=1))
    serving = deployments.start <= t
    hours = np.where(serving, deployments.hours, f32(0))
    opex = np.where(serving, deployments.hourly_opex, f32(0))
    revenue = np.zeros_like(state.balance)
    cost = np.zeros(state.balance.shape[1], dtype=np.float32)
    for loans, d in chains:
        revenue[:, loans] = fma(hours[d], rate[:, d], revenue[:, loans])
        cost[loans] = fma(opex[d], recovery.cost_growth[t], cost[loans])
    return revenue - cost


def collateral(plan: Plan, t: int, prices: Prices, chains: list[tuple[I64, I64]], n_loans: int) -> F32:
    """(5.6) value of a loan's chips in service, of its commitment."""
    deployments = plan.deployments
    share = np.where(deployments.start <= t, deployments.unit_share, f32(0))
    value = np.zeros((prices.values.shape[0], n_loans), dtype=np.float32)
    for loans, d in chains:
        value[:, loans] = fma(share[d], prices.values[:, deployments.vintage[d]], value[:, loans])
    return value


def monthly_rates(plan: Plan, t: int) -> F32:
    """Interest a month of each loan: margin, with the base curve where it floats."""
    return fma(plan.loans.floating, plan.recovery.base_rate[t], plan.loans.margin)


@dataclass(slots=True)
class Cash:
    """One month's waterfall (5.4), of the commitment: income + from_reserve + from_support = service + topped + swept +
    distributed for the loans that are `paying`; under a refinancing the new lender repays the balance."""

    paying: Bool
    income: F32
    service: F32
    from_reserve: F32
    from_support: F32
    topped: F32
    swept: F32
    distributed: F32
    closing: F32  # balance after the month


@dataclass(slots=True)
class Debt:
    """One month of what the loans owe, of the commitment."""

    drawn: Bool  # the undrawn part joined the balance
    opening: F32  # with it
    interest: F32  # of the month; of loans that are not due it joins the balance
    paying: Bool
    lives: Bool  # owes something after the month
    closing: F32


def step_loans(
    plan: Plan, t: int, state: LoanState, months: I32, prices: Prices, chains: list[tuple[I64, I64]]
) -> tuple[Bool, I32, Cash, Debt]:
    """(5.3)-(5.6) of month t: who defaults and why; the survivors pay, sweep and are repaid.

    Returns:
        defaulted (n_paths, n_loans), cause, the month's cash and debt; balance, reserve and support of defaulted loans
        stay as they opened.
    """
    loans = plan.loans
    drawn = state.alive & (loans.draw_month == t)
    state.balance = np.where(drawn, state.balance + loans.undrawn, state.balance)
    opening = state.balance
    rates = monthly_rates(plan, t)
    due, matures = loans.first_month <= t, loans.term == t
    parent_month = np.take(months, loans.parent, axis=1)
    state.support = np.where(state.alive & (parent_month <= t), f32(0), state.support)
    income = net_income(plan, t, state, prices, chains)
    value = collateral(plan, t, prices, chains, len(loans.key)) if needs_value(loans, t) else None

    principal = np.minimum(state.balance, loans.principal[:, min(t, loans.principal.shape[1] - 1)])
    principal = np.where(matures, state.balance, principal)
    refinanced = matures & _refinanceable(loans, state.balance, value)
    principal = np.where(refinanced, f32(0), principal)
    service = fma(state.balance, rates, principal)
    need = np.maximum(service - income, f32(0))

    low = income < loans.dscr_default * service
    state.breaches = np.where(due & ~matures & low, state.breaches + np.int32(1), np.int32(0))
    parent = (parent_month == t) & state.pulled_in
    short = due & (need > (state.reserve + state.support) + REPAID_BELOW)
    broken = due & ~matures & (loans.dscr_default > 0) & (state.breaches >= loans.dscr_default_months)
    defaulted = state.alive & (parent | short | broken)
    cause = _causes(parent, matures, short, state.tenant_lost)

    paying = state.alive & ~defaulted
    _accrue(state, paying & ~due, rates)
    after = np.where(refinanced, f32(0), state.balance - principal)
    cash = _waterfall(loans, t, state, paying & due, service, income, after, value)
    _pay(loans, t, state, cash)
    debt = Debt(drawn, opening, opening * rates, cash.paying, state.alive & ~defaulted, state.balance)
    return defaulted, cause, cash, debt


def needs_value(loans: LoanPlan, t: int) -> bool:
    """Whether a rule of month t reads the chips' value: an LTV cap or a refinancing."""
    return bool((loans.ltv_cap > 0).any() or ((loans.term == t) & (loans.refinance_ltv > 0)).any())


def _refinanceable(loans: LoanPlan, balance: F32, value: F32 | None) -> Bool:
    if value is None:
        return np.zeros_like(balance, dtype=np.bool_)
    return (loans.refinance_ltv > 0) & (balance <= loans.refinance_ltv * value)


def _causes(parent: Bool, matures: Bool, short: Bool, tenant_lost: Bool) -> I32:
    """(6.5) the first cause that holds."""
    cause = np.where(short, Cause.PAYMENT, Cause.COVENANT)
    cause = np.where(tenant_lost, Cause.TENANT, cause)
    cause = np.where(short & matures, Cause.MATURITY, cause)
    return np.where(parent, Cause.PARENT, cause).astype(np.int32)


def _accrue(state: LoanState, waiting: Bool, rates: F32) -> None:
    """(5.3) before the first month in service, interest joins the balance."""
    state.balance = np.where(waiting, fma(state.balance, rates, state.balance), state.balance)


def _waterfall(
    loans: LoanPlan, t: int, state: LoanState, paying: Bool, service: F32, income: F32, after: F32, value: F32 | None
) -> Cash:
    """(5.4) where a month's cash comes from and goes to; `after` is the balance once principal is paid."""
    need = np.maximum(service - income, f32(0))
    surplus = np.maximum(income - service, f32(0))
    from_reserve = np.minimum(need, state.reserve)
    from_support = np.minimum(need - from_reserve, state.support)
    room = np.maximum(fma(loans.reserve_months, service, -(state.reserve - from_reserve)), f32(0))
    topped = np.where(loans.term == t, f32(0), np.minimum(surplus, room))
    rest = surplus - topped
    locked = (loans.dscr_lockup > 0) & (income < loans.dscr_lockup * service)
    if value is not None:
        locked = locked | ((loans.ltv_cap > 0) & (state.balance > loans.ltv_cap * value))
    swept = np.minimum(np.where(locked, rest, rest * loans.sweep_share), after)
    return Cash(paying, income, service, from_reserve, from_support, topped, swept, rest - swept, after - swept)


def _pay(loans: LoanPlan, t: int, state: LoanState, cash: Cash) -> None:
    """(5.4) the loans that pay move on; those that owe nothing more are repaid."""
    paying = cash.paying
    repaid = (cash.closing <= REPAID_BELOW) & (loans.draw_month <= t)
    state.balance = np.where(paying, cash.closing, state.balance)
    state.reserve = np.where(paying, (state.reserve - cash.from_reserve) + cash.topped, state.reserve)
    state.support = np.where(paying, state.support - cash.from_support, state.support)
    state.alive = state.alive & ~(paying & repaid)
