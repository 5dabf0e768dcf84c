"""The market block (docs/model.md 2): regimes, demand, spot premium, launches, overhang, prices, chip values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..plan import FREE, MarketPlan
from .arithmetic import F32, I32, I64, at_score, clip, exp, f32, flush, fma
from .philox import U64, Purpose, event_word, normal, word, words

MAX_LAUNCHES = 32
HOURS_A_YEAR = f32(8760)


@dataclass(slots=True)
class DemandPath:
    """What no feedback reaches: regimes and demand of months 0 … T, (T + 1, n_paths), and F_0, (n_paths,)."""

    regimes: I32
    demand: F32
    factor: F32


def demand_path(plan: MarketPlan, seed: int, paths: U64, n_months: int | None = None) -> DemandPath:
    """Regimes (2.1), demand (2.2) and the demand factor F_0 of (3.3)."""
    last = int(plan.n_months) if n_months is None else n_months
    regimes = np.empty((last + 1, len(paths)), dtype=np.int32)
    demand = np.empty((last + 1, len(paths)), dtype=np.float32)
    regimes[0], demand[0] = plan.initial_regime, plan.initial_demand
    total = np.zeros(len(paths), dtype=np.float32)
    for t in range(1, last + 1):
        w = words(seed, paths, Purpose.MARKET, t)
        regimes[t] = next_regime(plan, regimes[t - 1], event_word(w[0]))
        n = normal(w[1])
        move = fma(plan.demand_pull, plan.regime_means[regimes[t]] - demand[t - 1], demand[t - 1])
        demand[t] = flush(fma(plan.demand_shock, n, move) + jump(plan, event_word(w[2]), normal(w[3])))
        if plan.forced_demand[t] != FREE:
            demand[t] = plan.forced_demand[t]
        if t <= plan.horizon:
            total = total + n
    return DemandPath(regimes, demand, total * plan.factor_scale)


def next_regime(plan: MarketPlan, regime: I32, u: I32) -> I32:
    """(2.1) the first regime whose cumulative threshold exceeds the word."""
    passed = u[:, None] >= plan.regime_thresholds[regime]
    return np.asarray(passed.sum(axis=1), dtype=np.int32)


def jump(plan: MarketPlan, u: I32, n: F32) -> F32:
    """(2.2) at most one jump a month: down, up or none."""
    size = at_score(plan.jump_table, n)
    return np.where(u < plan.jump_down, -size, np.where(u < plan.jump_any, size, f32(0)))


@dataclass(slots=True)
class Launched:
    """Launch months and sizes ξ of (2.6), (n_families, n_launches, n_paths)."""

    months: F32
    sizes: F32


def launches(plan: MarketPlan, seed: int, paths: U64) -> Launched:
    """(2.6) T_j = T_{j-1} + cadence + lag; ξ_j = ψ·max(0, μ_R + σ_R·n)."""
    n_families = len(plan.launch_first)
    months = np.empty((n_families, MAX_LAUNCHES, len(paths)), dtype=np.float32)
    sizes = np.empty_like(months)
    used = 0
    for family in range(n_families):
        for j in range(MAX_LAUNCHES):
            w = words(seed, paths, Purpose.LAUNCH, j, family)
            gain = np.maximum(fma(plan.launch_gain_sd[family], normal(w[1]), plan.launch_gain_mean[family]), f32(0))
            sizes[family, j] = plan.launch_impact[family] * gain
            if j == 0:
                months[family, j] = plan.launch_first[family]
            else:
                lag = at_score(plan.launch_lag_tables[family], normal(w[0]))
                months[family, j] = (months[family, j - 1] + plan.launch_cadence[family]) + lag
            used = max(used, j + 1)
            if months[family, j].min() >= plan.n_months:  # launches after the last month have no effect
                months[family, j + 1 :] = months[family, j]
                sizes[family, j + 1 :] = 0
                break
    return Launched(months[:, :used], sizes[:, :used])


def obsolescence(plan: MarketPlan, launched: Launched, t: int) -> F32:
    """(2.5) Θ_g(t), (n_paths, G): newer chips' launches, ramped in."""
    n_families, n_launches, n_paths = launched.months.shape
    theta = np.zeros((n_paths, len(plan.demand_beta)), dtype=np.float32)
    for family in range(n_families):
        for j in range(n_launches):
            month, inverse = launched.months[family, j], plan.launch_ramp_inverse[family]
            ramp = clip((f32(t) - month) * inverse, f32(0), f32(1)) - clip(-month * inverse, f32(0), f32(1))
            hit = plan.hit_by_first[family] if j == 0 else np.ones(theta.shape[1], dtype=np.float32)
            theta = fma(launched.sizes[family, j][:, None] * hit, ramp[:, None], theta)
    return theta


@dataclass(slots=True)
class MarketState:
    """What the market carries from month to month: χ (n_paths,), X and V (n_paths, G)."""

    premium: F32
    factor: F32
    overhang: F32


@dataclass(slots=True)
class Prices:
    """A month's market: ln P and P, S, V (n_paths, G), V̄ and utilisation (n_paths,), chip values (n_paths, V)."""

    contract: F32
    spot: F32
    overhang: F32
    mean_overhang: F32
    utilisation: F32
    values: F32


def initial_state(plan: MarketPlan, n_paths: int) -> MarketState:
    """χ_0 = X_0 = V_0 = 0."""
    shape = (n_paths, len(plan.demand_beta))
    return MarketState(np.zeros(n_paths, f32), np.zeros(shape, f32), np.zeros(shape, f32))


def next_state(plan: MarketPlan, seed: int, paths: U64, t: int, state: MarketState, released: I64) -> MarketState:
    """(2.3), (2.4), (2.7): the states of month t, given the chips released in t-1, (n_paths, G)."""
    n = normal(word(seed, paths, Purpose.SPOT, t))
    premium = flush(fma(plan.spot_shock, n, plan.spot_decay * state.premium))
    factor = flush(fma(plan.generation_shock, _correlated(plan, seed, paths, t), plan.generation_decay * state.factor))
    chips = (released + plan.calendar[t]).astype(np.float32)
    overhang = flush(fma(chips, plan.inverse_depth[t], plan.overhang_decay * state.overhang))
    return MarketState(premium, factor, overhang)


def _correlated(plan: MarketPlan, seed: int, paths: U64, t: int) -> F32:
    """(2.4) (L n)_g, an fma chain over the generations."""
    n_generations = len(plan.demand_beta)
    draws = np.empty((len(paths), n_generations), dtype=np.float32)
    for first in range(0, n_generations, 4):
        w = words(seed, paths, Purpose.GENERATION, t, first // 4)
        for g in range(first, min(first + 4, n_generations)):
            draws[:, g] = normal(w[g - first])
    total = np.zeros_like(draws)
    for h in range(n_generations):
        total = fma(plan.generation_cholesky[:, h], draws[:, h, None], total)
    return total


def mean_overhang(plan: MarketPlan, overhang: F32, t: int) -> F32:
    """(2.8) V̄, the depth-weighted mean, an fma chain over the generations."""
    mean = np.zeros(overhang.shape[0], dtype=np.float32)
    for g in range(overhang.shape[1]):
        mean = fma(plan.depth_weights[t, g], overhang[:, g], mean)
    return mean


def prices(plan: MarketPlan, t: int, demand: F32, state: MarketState, launched: Launched) -> Prices:
    """(2.8)-(2.11) from the states of month t."""
    mean = mean_overhang(plan, state.overhang, t)
    impact = fma(plan.own_weight, state.overhang - mean[:, None], mean[:, None])
    log_price = fma(plan.demand_beta, demand[:, None], plan.base_log_price[t])
    log_price = (log_price + state.factor) - obsolescence(plan, launched, t)
    log_price = np.maximum(fma(-plan.overhang_impact, impact, log_price), plan.price_floor[t])
    contract = exp(log_price)
    spot = exp(log_price + (plan.spot_premium + state.premium)[:, None])
    utilisation = clip(
        fma(plan.utilisation_slope, demand, plan.utilisation_level), plan.utilisation_low, plan.utilisation_high
    )
    values = chip_values(plan, t, contract, utilisation)
    return Prices(contract, spot, state.overhang, mean, utilisation, values)


def chip_values(plan: MarketPlan, t: int, contract: F32, utilisation: F32) -> F32:
    """(2.11) value of a chip of each vintage, (n_paths, V), dollars."""
    net = np.maximum(fma(contract, utilisation[:, None], -plan.hourly_cost[t]), f32(0))
    earned = (HOURS_A_YEAR * net) * plan.annuity[t]
    g = plan.vintage_generation
    capped: F32 = np.minimum(plan.value_cap[t], earned[:, g])
    return np.maximum(plan.scrap_value[g], capped)


def path_numbers(first: int, n: int) -> NDArray[np.uint64]:
    """Path numbers first … first + n - 1."""
    return np.arange(first, first + n, dtype=np.uint64)
