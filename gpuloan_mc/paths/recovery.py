"""What a defaulted GPU loan recovers (docs/model.md 6), one deployment at a time."""

from __future__ import annotations

import numpy as np

from ..reference.arithmetic import F32
from .arithmetic import ONE, ZERO, at_score, clip, exp, maximum
from .philox import normal
from .primitives import fma, path_function, round_up

f32, i32 = np.float32, np.int32


@path_function
def exposure(balance: np.float32, rate: np.float32) -> np.float32:
    """(6.1) EAD: opening balance and a month's interest."""
    return fma(balance, rate, balance)


@path_function
def sale_lag(table: F32, w: np.uint64, longest: np.int32) -> np.int32:
    """(6.3) months from default to sale."""
    lag = i32(round_up(at_score(table, normal(w))))
    return i32(min(max(lag, i32(1)), longest))


@path_function
def share_of_table(table: F32, w: np.uint64) -> np.float32:
    """(6.2), (6.3) a haircut: a Beta draw held to [0, 1]."""
    return clip(at_score(table, normal(w)), ZERO, ONE)


@path_function
def months_left(contract_end: np.int32, t: np.int32) -> np.int32:
    """(6.2) e - τ, held at 0."""
    return i32(max(contract_end - t, i32(0)))


@path_function
def contract_value(
    hours: np.float32,
    rate: np.float32,
    opex: np.float32,
    growth: np.float32,
    stress: np.float32,
    annuity: np.float32,
) -> np.float32:
    """(6.2) k_d·max(0, price × paid share - stress × opex)·ann(e - τ)."""
    return (hours * maximum(fma(-stress, opex * growth, rate), ZERO)) * annuity


@path_function
def kept_value(
    contract: np.float32,
    performance: np.float32,
    chips: np.float32,
    later: np.float32,
    discount: np.float32,
    haircut: np.float32,
    sale_keep: np.float32,
) -> np.float32:
    """(6.2) a kept deployment: its contract and the chips after it; `chips` is u_d·C_v."""
    chips = ((chips * later) * discount) * ((ONE - haircut) * sale_keep)
    return fma(performance, contract, chips)


@path_function
def after_claim(rest: np.float32, claim_recovery: np.float32, contract: np.float32) -> np.float32:
    """(6.2) less the claim on a defaulted tenant."""
    return fma(-claim_recovery, contract, rest)


@path_function
def sale_price(
    value: np.float32, haircut: np.float32, pressure: np.float32, inverse_depth: np.float32, sale_keep: np.float32
) -> np.float32:
    """(6.3) what a chip fetches: C_v less haircut, the sale's own price impact and its cost."""
    impact = exp(-(pressure * inverse_depth))
    return ((value * (ONE - haircut)) * impact) * sale_keep


@path_function
def add_proceeds(
    total: np.float32, unit_share: np.float32, price: np.float32, storage: np.float32, lag: np.float32
) -> np.float32:
    """(6.3) one deployment's proceeds less storage join."""
    return fma(-storage, lag, fma(unit_share, price, total))


@path_function
def loss(kept_share: np.float32, rest: np.float32, lender_discount: np.float32, proceeds: np.float32) -> np.float32:
    """(6.4) the lender's loss as a fraction of the commitment, dated τ."""
    return kept_share * maximum(fma(-lender_discount, proceeds, rest), ZERO)
