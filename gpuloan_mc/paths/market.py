"""The market block (docs/model.md 2): one path, one month, one generation at a time."""

from __future__ import annotations

import numpy as np

from ..reference.market import HOURS_A_YEAR
from .arithmetic import ONE, ZERO, clip, exp, flush, maximum, minimum
from .primitives import fma, lane_function

f32 = np.float32


@lane_function
def next_demand(
    demand: np.float32, mean: np.float32, pull: np.float32, shock: np.float32, n: np.float32, jump: np.float32
) -> np.float32:
    """(2.2) M_t of M_{t-1}; `mean` is the regime's."""
    return flush(fma(shock, n, fma(pull, mean - demand, demand)) + jump)


@lane_function
def decayed(state: np.float32, decay: np.float32, shock: np.float32, n: np.float32) -> np.float32:
    """(2.3), (2.4) a state that returns to 0: χ_t, X_{g,t}."""
    return flush(fma(shock, n, decay * state))


@lane_function
def next_overhang(overhang: np.float32, decay: np.float32, chips: np.float32, inverse_depth: np.float32) -> np.float32:
    """(2.7) V_{g,t} of V_{g,t-1} and the chips that came back."""
    return flush(fma(chips, inverse_depth, decay * overhang))


@lane_function
def launch_size(impact: np.float32, mean: np.float32, sd: np.float32, n: np.float32) -> np.float32:
    """(2.6) ξ_j."""
    return impact * maximum(fma(sd, n, mean), ZERO)


@lane_function
def launch_ramp(t: np.float32, month: np.float32, inverse: np.float32) -> np.float32:
    """(2.5) ramp_j(t) - ramp_j(0)."""
    return clip((t - month) * inverse, ZERO, ONE) - clip(-month * inverse, ZERO, ONE)


@lane_function
def outside_log_price(
    demand: np.float32, beta: np.float32, base: np.float32, factor: np.float32, theta: np.float32
) -> np.float32:
    """(2.9) ln P_g before the overhang and the floor: what no feedback reaches."""
    return (fma(beta, demand, base) + factor) - theta


@lane_function
def log_price(
    outside: np.float32,
    overhang: np.float32,
    mean: np.float32,
    own_weight: np.float32,
    impact: np.float32,
    floor: np.float32,
) -> np.float32:
    """(2.8), (2.9) ln P_g."""
    pressure = fma(own_weight, overhang - mean, mean)
    return maximum(fma(-impact, pressure, outside), floor)


@lane_function
def spot_price(log_contract: np.float32, premium: np.float32) -> np.float32:
    """(2.9) S_g; `premium` is s_0 + χ."""
    return exp(log_contract + premium)


@lane_function
def utilisation(
    demand: np.float32, level: np.float32, slope: np.float32, low: np.float32, high: np.float32
) -> np.float32:
    """(2.10) u."""
    return clip(fma(slope, demand, level), low, high)


@lane_function
def yearly_rent(contract: np.float32, used: np.float32, hourly_cost: np.float32, annuity: np.float32) -> np.float32:
    """(2.11) what a chip earns to the end of its generation's life, discounted."""
    return (HOURS_A_YEAR * maximum(fma(contract, used, -hourly_cost), ZERO)) * annuity


@lane_function
def chip_value(earned: np.float32, cap: np.float32, scrap: np.float32) -> np.float32:
    """(2.11) C_v."""
    return maximum(scrap, minimum(cap, earned))
