"""Loans with deployments, one month of one loan (docs/model.md 5). Amounts are fractions of the commitment."""

from __future__ import annotations

import numpy as np

from ..plan import REPAID_BELOW
from ..reference.loans import Cause
from .arithmetic import ZERO, maximum, minimum
from .primitives import fma, lane_function, path_function

f32, i32 = np.float32, np.int32

PARENT, MATURITY, TENANT, PAYMENT, COVENANT = (i32(int(c)) for c in Cause)


@path_function
def monthly_rate(floating: np.float32, base: np.float32, margin: np.float32) -> np.float32:
    """(5.3) interest of a month."""
    return fma(floating, base, margin)


@lane_function
def spot_rate(spot: np.float32, utilisation: np.float32, keep: np.float32) -> np.float32:
    """(5.3) dollars an hour of chips that are not let."""
    return (spot * utilisation) * keep


@path_function
def renewed_rate(contract: np.float32, keep: np.float32, paid_share: np.float32) -> np.float32:
    """(5.2) dollars an hour after a renewal."""
    return (contract * keep) * paid_share


@path_function
def add_revenue(revenue: np.float32, hours: np.float32, let_rate: np.float32, spot: np.float32) -> np.float32:
    """(5.3) one deployment's revenue joins; `let_rate` is negative where no contract is live."""
    return fma(hours, spot if let_rate < ZERO else let_rate, revenue)


@path_function
def debt_service(balance: np.float32, rate: np.float32, principal: np.float32) -> np.float32:
    """(5.3) DS."""
    return fma(balance, rate, principal)


@path_function
def shortfall(service: np.float32, income: np.float32) -> np.float32:
    """(5.4) need."""
    return maximum(service - income, ZERO)


@path_function
def is_short(need: np.float32, reserve: np.float32, support: np.float32) -> np.bool_:
    """(5.5) need beyond reserve and support."""
    return need > (reserve + support) + REPAID_BELOW


@path_function
def is_refinanced(balance: np.float32, limit: np.float32, value: np.float32) -> np.bool_:
    """(5.5) at maturity: a balance of at most refinance_ltv × value."""
    return (limit > ZERO) & (balance <= limit * value)


@path_function
def cause_of(short: bool, matures: bool, tenant_lost: bool) -> np.int32:
    """(6.5) the first cause that holds, the parent's default apart."""
    if short and matures:
        return MATURITY
    if tenant_lost:
        return TENANT
    return PAYMENT if short else COVENANT


@path_function
def pay(
    balance: np.float32,
    reserve: np.float32,
    support: np.float32,
    principal: np.float32,
    service: np.float32,
    income: np.float32,
    reserve_months: np.float32,
    sweep: np.float32,
) -> tuple[np.float32, np.float32, np.float32]:
    """(5.4) the waterfall: balance, reserve and support after a month that is paid.

    `sweep` is the share of the rest that prepays: 1 under lock-up. At maturity reserve_months is 0: nothing tops it up.
    """
    need = shortfall(service, income)
    surplus = maximum(income - service, ZERO)
    from_reserve = minimum(need, reserve)
    from_support = minimum(need - from_reserve, support)
    reserve = reserve - from_reserve
    topped = minimum(surplus, maximum(fma(reserve_months, service, -reserve), ZERO))
    rest = surplus - topped
    after = balance - principal
    swept = minimum(rest * sweep, after)
    return after - swept, reserve + topped, support - from_support
