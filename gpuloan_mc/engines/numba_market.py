"""The market over months, compiled: draws of the whole path first, then month by month from the chips that came back."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..paths.arithmetic import ONE, ZERO, at_score, exp
from ..paths.loans import spot_rate
from ..paths.market import (
    chip_value,
    decayed,
    launch_ramp,
    launch_size,
    log_price,
    next_demand,
    next_overhang,
    outside_log_price,
    spot_price,
    utilisation,
    yearly_rent,
)
from ..paths.philox import FACTOR, GENERATION, LAUNCH, MARKET, MIXING, SPOT, chosen, draw, draw_four, event_word, normal
from ..paths.primitives import fma
from ..plan import FREE
from ..reference.market import MAX_LAUNCHES
from .numba_layout import PATHS_AT_ONCE
from .numba_memory import compiled_loop, is_recorded

f32, i32, u64 = np.float32, np.int32, np.uint64


@compiled_loop
def draw_demand(market: Any, work: Any, seed: Any, quad: Any, low: int, high: int) -> None:
    """(2.1), (2.2) regimes and demand of all months, F_0."""
    for q in range(low, high):
        path = u64(PATHS_AT_ONCE * quad + q)
        regime, demand, total = market.initial_regime, market.initial_demand, ZERO
        work.regime[q, 0], work.demand[q, 0] = regime, demand
        for t in range(1, market.n_months + 1):
            w = draw(seed, path, MARKET, u64(t), u64(0))
            u, passed = event_word(w[0]), i32(0)
            for k in range(market.regime_thresholds.shape[1]):
                passed += i32(u >= market.regime_thresholds[regime, k])
            regime = i32(passed)
            n, jump = normal(w[1]), ZERO
            u = event_word(w[2])
            if u < market.jump_down:
                jump = -at_score(market.jump_table, normal(w[3]))
            elif u < market.jump_any:
                jump = at_score(market.jump_table, normal(w[3]))
            demand = next_demand(demand, market.regime_means[regime], market.demand_pull, market.demand_shock, n, jump)
            if market.forced_demand[t] != FREE:
                demand = market.forced_demand[t]
            work.regime[q, t], work.demand[q, t] = regime, demand
            if t <= market.horizon:
                total = total + n
        work.factors[q, 0] = total * market.factor_scale


@compiled_loop
def draw_factors(hazards: Any, work: Any, seed: Any, quad: Any, low: int, high: int) -> None:
    """(3.3) credit factors and the mixing variable."""
    four = draw_four(seed, u64(PATHS_AT_ONCE * quad), MIXING, u64(0), u64(0))
    for q in range(low, high):
        path = u64(PATHS_AT_ONCE * quad + q)
        for first in range(0, hazards.n_factors, 4):
            if hazards.n_factors > 1:
                w = draw(seed, path, FACTOR, u64(0), u64(first // 4))
                for k in range(max(first, 1), min(first + 4, hazards.n_factors)):
                    work.factors[q, k] = normal(chosen(w, k - first))
        work.mixing[q, 0], work.mixing[q, 1] = ONE, ONE
        if hazards.is_t_copula:
            n = normal(chosen(four, q))
            work.mixing[q, 0] = at_score(hazards.mixing_table, n)
            work.mixing[q, 1] = at_score(hazards.inverse_mixing_table, n)


@compiled_loop
def draw_launches(market: Any, work: Any, seed: Any, path: Any) -> None:
    """(2.6) launches up to the last month; those after it have no effect."""
    last = f32(market.n_months)
    for family in range(market.launch_first.shape[0]):
        month = ZERO
        for j in range(MAX_LAUNCHES):
            w = draw(seed, path, LAUNCH, u64(j), u64(family))
            if j == 0:
                month = market.launch_first[family]
            else:
                lag = at_score(market.launch_lag_tables[family], normal(w[0]))
                month = (month + market.launch_cadence[family]) + lag
            work.launch_month[family, j] = month
            work.launch_size[family, j] = launch_size(
                market.launch_impact[family],
                market.launch_gain_mean[family],
                market.launch_gain_sd[family],
                normal(w[1]),
            )
            if month >= last:
                break


@compiled_loop
def obsolescence(market: Any, work: Any, g: int, t: int) -> Any:
    """(2.5) Θ_g(t), a chain over the launches."""
    theta, last = ZERO, f32(market.n_months)
    for family in range(market.launch_first.shape[0]):
        for j in range(MAX_LAUNCHES):
            month = work.launch_month[family, j]
            ramp = launch_ramp(f32(t), month, market.launch_ramp_inverse[family])
            hit = market.hit_by_first[family, g] if j == 0 else ONE
            theta = fma(work.launch_size[family, j] * hit, ramp, theta)
            if month >= last:
                break
    return theta


@compiled_loop
def used_share(market: Any, demand: Any) -> Any:
    """(2.10) of a demand."""
    return utilisation(
        demand,
        market.utilisation_level,
        market.utilisation_slope,
        market.utilisation_low,
        market.utilisation_high,
    )


@compiled_loop
def draw_prices(market: Any, work: Any, seed: Any, quad: Any, low: int, high: int) -> None:
    """(2.3)-(2.6), (2.10) and ln P before the overhang, of all months."""
    n_generations = market.demand_beta.shape[0]
    for q in range(low, high):
        path = u64(PATHS_AT_ONCE * quad + q)
        draw_launches(market, work, seed, path)
        if is_recorded(work):
            record_launches(market, work, q)
        for g in range(n_generations):
            work.price[q, g] = ZERO  # X_0, for now
            work.outside[q, 0, g] = outside_log_price(
                work.demand[q, 0], market.demand_beta[g], market.base_log_price[0, g], ZERO, ZERO
            )
        chi = ZERO
        work.premium[q, 0], work.used[q, 0] = market.spot_premium + chi, used_share(market, work.demand[q, 0])
        for t in range(1, market.n_months + 1):
            four = draw_four(seed, path, SPOT, u64(t), u64(0))
            chi = decayed(chi, market.spot_decay, market.spot_shock, normal(chosen(four, q)))
            work.premium[q, t] = market.spot_premium + chi
            demand = work.demand[q, t]
            work.used[q, t] = used_share(market, demand)
            for first in range(0, n_generations, 4):
                w = draw(seed, path, GENERATION, u64(t), u64(first // 4))
                for g in range(first, min(first + 4, n_generations)):
                    work.rent[q, g] = normal(chosen(w, g - first))
            for g in range(n_generations):
                n = ZERO
                for h in range(g + 1):
                    n = fma(market.generation_cholesky[g, h], work.rent[q, h], n)
                x = decayed(work.price[q, g], market.generation_decay, market.generation_shock[g], n)
                work.price[q, g] = x
                theta = obsolescence(market, work, g, t)
                work.outside[q, t, g] = outside_log_price(
                    demand, market.demand_beta[g], market.base_log_price[t, g], x, theta
                )


@compiled_loop
def step_market(market: Any, recovery: Any, work: Any, q: int, t: int) -> None:
    """(2.7)-(2.11) of month t from the chips released in t-1."""
    n_generations, mean = market.demand_beta.shape[0], ZERO
    for g in range(n_generations):
        chips = f32(work.released[q, g] + market.calendar[t, g])
        work.released[q, g] = 0
        work.overhang[q, g] = next_overhang(
            work.overhang[q, g], market.overhang_decay, chips, market.inverse_depth[t, g]
        )
        mean = fma(market.depth_weights[t, g], work.overhang[q, g], mean)
    work.mean_overhang[q] = mean
    used = work.used[q, t]
    for g in range(n_generations):
        logarithm = log_price(
            work.outside[q, t, g],
            work.overhang[q, g],
            mean,
            market.own_weight,
            market.overhang_impact,
            market.price_floor[t, g],
        )
        contract = exp(logarithm)
        work.price[q, g] = contract
        work.rent[q, g] = yearly_rent(contract, used, market.hourly_cost[t, g], market.annuity[t, g])
        if t <= market.horizon or is_recorded(work):
            spot = spot_price(logarithm, work.premium[q, t])
            work.spot_price[q, g] = spot
            work.spot[q, g] = spot_rate(spot, used, recovery.spot_keep)


@compiled_loop
def start_prices(market: Any, work: Any, q: int) -> None:
    """Month 0: no overhang and no launch since."""
    for g in range(market.demand_beta.shape[0]):
        logarithm = log_price(
            work.outside[q, 0, g], ZERO, ZERO, market.own_weight, market.overhang_impact, market.price_floor[0, g]
        )
        contract = exp(logarithm)
        work.price[q, g] = contract
        work.rent[q, g] = yearly_rent(contract, work.used[q, 0], market.hourly_cost[0, g], market.annuity[0, g])
        work.spot_price[q, g] = spot_price(logarithm, work.premium[q, 0])


@compiled_loop
def keep_prices(work: Any, paths: Any, q: int, t: int) -> None:
    """Contract and spot prices of a month, where they are asked for."""
    if paths.prices.shape[0] > 0:
        for g in range(work.price.shape[1]):
            paths.prices[work.row[0] + q, t, 0, g] = work.price[q, g]
            paths.prices[work.row[0] + q, t, 1, g] = work.spot_price[q, g]


@compiled_loop
def record_launches(market: Any, work: Any, q: int) -> None:
    """The launches that come before the market ends."""
    launch_months, row, last = work.record.launch_months, work.row[0] + q, f32(market.n_months)
    for family in range(market.launch_first.shape[0]):
        for j in range(MAX_LAUNCHES):
            if work.launch_month[family, j] >= last:
                break
            launch_months[family, j, row] = work.launch_month[family, j]


@compiled_loop
def record_market(market: Any, work: Any, q: int, t: int) -> None:
    """The market of month t, and the chips that came back in it."""
    record, row = work.record, work.row[0] + q
    record.regimes[t, row], record.demand[t, row] = work.regime[q, t], work.demand[q, t]
    record.utilisation[t, row] = work.used[q, t]
    for g in range(work.price.shape[1]):
        record.contract[t, row, g], record.spot[t, row, g] = work.price[q, g], work.spot_price[q, g]
        record.overhang[t, row, g], record.released[t, row, g] = work.overhang[q, g], work.released[q, g]
    for vintage in range(market.vintage_generation.shape[0]):
        record.values[t, row, vintage] = value_of(market, work, q, t, vintage)


@compiled_loop
def value_of(market: Any, work: Any, q: int, t: int, vintage: Any) -> Any:
    """(2.11) C_v, computed where it is asked for."""
    g = market.vintage_generation[vintage]
    return chip_value(work.rent[q, g], market.value_cap[t, vintage], market.scrap_value[g])
