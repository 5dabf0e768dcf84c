"""The market that no feedback reaches, compiled: all months of four paths at once, in rows of months (`numba_abreast`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..paths.arithmetic import ONE, ZERO, at_score
from ..paths.market import decayed, launch_ramp, launch_size, next_demand, outside_log_price, utilisation
from ..paths.philox import FACTOR, GENERATION, LAUNCH, MARKET, MIXING, SPOT, chosen, draw, draw_four, event_word, normal
from ..paths.primitives import fma
from ..plan import FREE
from ..reference.market import MAX_LAUNCHES
from .numba_abreast import AHEAD_ROWS, LANES, OUTSIDE, PATHS_AT_ONCE, PREMIUM, USED
from .numba_draws import draw_months, draw_shared_months, make_normals
from .numba_memory import compiled_loop, is_recorded, month_lane

f32, i32, u64 = np.float32, np.int32, np.uint64

FIRST_LAUNCHES = 8  # of a family, drawn together; the others where they are needed
AT_SIZES = u64(PATHS_AT_ONCE * MAX_LAUNCHES)
BEFORE = u64(PATHS_AT_ONCE)  # lanes from a path's month to the one before


@compiled_loop
def draw_demand(market: Any, work: Any, seed: Any, quad: Any) -> None:
    """(2.1), (2.2) regimes and demand of all months, F_0."""
    width = u64(work.demand.shape[0])
    draw_months(work.month_words, width, seed, u64(quad), MARKET, u64(0))
    make_normals(work, work.month_words, width, work.normals[0], u64(0), width)
    for q in range(PATHS_AT_ONCE):
        work.regime[q], work.demand[q], work.factor[q] = market.initial_regime, market.initial_demand, ZERO
    draw_regimes(market, work, width)
    end = PATHS_AT_ONCE * (market.n_months + 1)
    first = PATHS_AT_ONCE
    for t in range(1, market.n_months + 1):
        if market.forced_demand[t] != FREE:
            chain_demand(market, work, first, PATHS_AT_ONCE * t)
            for q in range(PATHS_AT_ONCE):
                work.demand[month_lane(t, q)] = market.forced_demand[t]
            first = PATHS_AT_ONCE * (t + 1)
    chain_demand(market, work, first, end)
    chain_sums(work.factor, work.normals[0], PATHS_AT_ONCE * (market.horizon + 1))
    for q in range(PATHS_AT_ONCE):
        work.factors[q, 0] = work.factor[month_lane(market.horizon, q)] * market.factor_scale


@compiled_loop
def draw_regimes(market: Any, work: Any, width: Any) -> None:
    """(2.1) regimes, their means and the jumps of (2.2)."""
    words, thresholds = work.month_words, market.regime_thresholds
    for i in range(PATHS_AT_ONCE, PATHS_AT_ONCE * (market.n_months + 1)):
        lane = u64(i)
        u, before, passed = event_word(u64(words[lane])), work.regime[lane - BEFORE], i32(0)
        for k in range(thresholds.shape[1]):
            passed += i32(u >= thresholds[before, k])
        regime, jump = i32(passed), ZERO
        u = event_word(u64(words[width + width + lane]))
        if u < market.jump_any:
            size = at_score(market.jump_table, normal(u64(words[width + width + width + lane])))
            jump = -size if u < market.jump_down else size
        work.regime[lane], work.regime_mean[lane], work.jump[lane] = regime, market.regime_means[regime], jump


@compiled_loop
def chain_demand(market: Any, work: Any, first: int, end: int) -> None:
    """(2.2) of some months."""
    chain_demand_rows(
        work.demand, work.regime_mean, work.normals[0], work.jump, first, end, market.demand_pull, market.demand_shock
    )


@compiled_loop
def chain_demand_rows(
    demand: Any, means: Any, normals: Any, jumps: Any, first: int, end: int, pull: Any, shock: Any
) -> None:
    """(2.2) month after month, four paths at once. Vectorises."""
    for i in range(first, end):
        lane = u64(i)
        demand[lane] = next_demand(demand[lane - BEFORE], means[lane], pull, shock, normals[lane], jumps[lane])


@compiled_loop
def chain_sums(sums: Any, values: Any, end: int) -> None:
    """Running sums over the months. Vectorises."""
    for i in range(PATHS_AT_ONCE, end):
        lane = u64(i)
        sums[lane] = sums[lane - BEFORE] + values[lane]


@compiled_loop
def chain_decay(states: Any, normals: Any, end: int, decay: Any, shock: Any) -> None:
    """(2.3), (2.4) month after month, four paths at once. Vectorises."""
    for i in range(PATHS_AT_ONCE, end):
        lane = u64(i)
        states[lane] = decayed(states[lane - BEFORE], decay, shock, normals[lane])


@compiled_loop
def repeat_four(row: Any, end: int) -> None:
    """The first four lanes in every month. Vectorises."""
    for i in range(PATHS_AT_ONCE, end):
        lane = u64(i)
        row[lane] = row[lane - BEFORE]


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
def draw_launches(market: Any, work: Any, seed: Any, quad: Any) -> None:
    """(2.6) launches up to the last month; those after it have no effect."""
    last = f32(market.n_months)
    for family in range(market.launch_first.shape[0]):
        known, count = FIRST_LAUNCHES, 0
        draw_some_launches(work, seed, quad, family, known)
        for j in range(MAX_LAUNCHES):
            if j == known:
                known = MAX_LAUNCHES
                draw_some_launches(work, seed, quad, family, known)
            more = False
            for q in range(PATHS_AT_ONCE):
                if j == 0 or work.launch_month[family, j - 1, q] < last:
                    place_launch(market, work, family, j, q)
                else:
                    work.launch_month[family, j, q], work.launch_size[family, j, q] = last, ZERO
                more |= work.launch_month[family, j, q] < last
            count = j + 1
            if not more:
                break
        work.n_launches[family] = count


@compiled_loop
def draw_some_launches(work: Any, seed: Any, quad: Any, family: int, count: int) -> None:
    """Normals of the first launches of a family: of their lags, then of their sizes."""
    n = u64(PATHS_AT_ONCE * count)
    draw_months(work.launch_words, n, seed, u64(quad), LAUNCH, u64(family))
    make_normals(work, work.launch_words, u64(0), work.launch_normals, u64(0), n)
    make_normals(work, work.launch_words, n, work.launch_normals, AT_SIZES, n)


@compiled_loop
def place_launch(market: Any, work: Any, family: int, j: int, q: int) -> None:
    """(2.6) month and size of one launch."""
    lane, month = month_lane(j, q), market.launch_first[family]
    if j > 0:
        lag = at_score(market.launch_lag_tables[family], work.launch_normals[lane])
        month = (work.launch_month[family, j - 1, q] + market.launch_cadence[family]) + lag
    work.launch_month[family, j, q] = month
    work.launch_size[family, j, q] = launch_size(
        market.launch_impact[family],
        market.launch_gain_mean[family],
        market.launch_gain_sd[family],
        work.launch_normals[AT_SIZES + lane],
    )


@compiled_loop
def add_launches(market: Any, work: Any, end: int) -> None:
    """(2.5) Θ of all months, a chain over the launches."""
    for g in range(market.demand_beta.shape[0]):
        clear_row(work.theta[g], end)
    months, sizes, ramp = work.launch_months, work.launch_sizes, work.ramp
    for family in range(market.launch_first.shape[0]):
        for j in range(work.n_launches[family]):
            for q in range(PATHS_AT_ONCE):
                months[q], sizes[q] = work.launch_month[family, j, q], work.launch_size[family, j, q]
            repeat_four(months, end)
            repeat_four(sizes, end)
            ramp_up(ramp, months, end, market.launch_ramp_inverse[family])
            for g in range(market.demand_beta.shape[0]):
                hit = market.hit_by_first[family, g] if j == 0 else ONE
                if hit != ZERO:
                    add_ramp(work.theta[g], sizes, ramp, end, hit)


@compiled_loop
def clear_row(row: Any, end: int) -> None:
    for i in range(end):
        row[u64(i)] = ZERO


@compiled_loop
def ramp_up(ramp: Any, months: Any, end: int, inverse: Any) -> None:
    """(2.5) how far a launch has come by each month. Vectorises."""
    for i in range(end):
        lane = u64(i)
        ramp[lane] = launch_ramp(f32(i32(lane >> u64(2))), months[lane], inverse)


@compiled_loop
def add_ramp(theta: Any, sizes: Any, ramp: Any, end: int, hit: Any) -> None:
    """(2.5) one launch joins. Vectorises."""
    for i in range(end):
        lane = u64(i)
        theta[lane] = fma(sizes[lane] * hit, ramp[lane], theta[lane])


@compiled_loop
def use_months(used: Any, demand: Any, end: int, level: Any, slope: Any, low: Any, high: Any) -> None:
    """(2.10) of all months. Vectorises."""
    for i in range(end):
        lane = u64(i)
        used[lane] = utilisation(demand[lane], level, slope, low, high)


@compiled_loop
def add_premium(premium: Any, states: Any, end: int, level: Any) -> None:
    """(2.9) s_0 + χ. Vectorises."""
    for i in range(end):
        lane = u64(i)
        premium[lane] = level + states[lane]


@compiled_loop
def mix(mixed: Any, normals: Any, end: int, weight: Any) -> None:
    """(2.4) one generation's normals join. Vectorises."""
    for i in range(end):
        lane = u64(i)
        mixed[lane] = fma(weight, normals[lane], mixed[lane])


@compiled_loop
def price_outside(prices: Any, demand: Any, beta: Any, base: Any, states: Any, theta: Any, end: int) -> None:
    """(2.9) of all months of a generation. Vectorises."""
    for i in range(end):
        lane = u64(i)
        prices[lane] = outside_log_price(demand[lane], beta, base[lane], states[lane], theta[lane])


@compiled_loop
def put_ahead(ahead: Any, row: Any, n_blocks: int, g: int, values: Any, n_months: int) -> None:
    """Four lanes of each month where the month finds them."""
    for t in range(n_months + 1):
        place = ((t * n_blocks + g // 4) * AHEAD_ROWS + row) * LANES + g % 4 * PATHS_AT_ONCE
        for q in range(PATHS_AT_ONCE):
            ahead[u64(place + q)] = values[month_lane(t, q)]


@compiled_loop
def draw_spot(market: Any, work: Any, seed: Any, quad: Any, end: int) -> None:
    """(2.3) and (2.10) of all months."""
    width = u64(work.premium.shape[0])
    draw_shared_months(work.month_words, width, seed, u64(quad), SPOT)
    make_normals(work, work.month_words, u64(0), work.normals[0], u64(0), width)
    for q in range(PATHS_AT_ONCE):
        work.factor[q] = ZERO
    chain_decay(work.factor, work.normals[0], end, market.spot_decay, market.spot_shock)
    add_premium(work.premium, work.factor, end, market.spot_premium)
    use_months(
        work.used,
        work.demand,
        end,
        market.utilisation_level,
        market.utilisation_slope,
        market.utilisation_low,
        market.utilisation_high,
    )


@compiled_loop
def draw_prices(market: Any, abreast: Any, work: Any, seed: Any, quad: Any, low: int, high: int) -> None:
    """(2.3)-(2.6), (2.10) and ln P before the overhang, of all months."""
    n_generations, end = market.demand_beta.shape[0], PATHS_AT_ONCE * (market.n_months + 1)
    width = u64(work.premium.shape[0])
    draw_launches(market, work, seed, quad)
    if is_recorded(work):
        for q in range(low, high):
            record_launches(market, work, q)
    add_launches(market, work, end)
    draw_spot(market, work, seed, quad, end)
    for first in range(0, n_generations, 4):
        draw_months(work.month_words, width, seed, u64(quad), GENERATION, u64(first // 4))
        for k in range(4):
            make_normals(work, work.month_words, u64(k) * width, work.normals[first + k], u64(0), width)
    for q in range(PATHS_AT_ONCE):
        work.factor[q] = ZERO  # X_0
    for g in range(n_generations):
        clear_row(work.mixed, end)
        for h in range(g + 1):
            mix(work.mixed, work.normals[h], end, market.generation_cholesky[g, h])
        chain_decay(work.factor, work.mixed, end, market.generation_decay, market.generation_shock[g])
        price_outside(
            work.mixed, work.demand, market.demand_beta[g], abreast.base_log_price[g], work.factor, work.theta[g], end
        )
        put_ahead(work.ahead, OUTSIDE, abreast.n_blocks, g, work.mixed, market.n_months)
        put_ahead(work.ahead, PREMIUM, abreast.n_blocks, g, work.premium, market.n_months)
        put_ahead(work.ahead, USED, abreast.n_blocks, g, work.used, market.n_months)


@compiled_loop
def record_launches(market: Any, work: Any, q: int) -> None:
    """The launches that come before the market ends."""
    launch_months, row, last = work.record.launch_months, work.row[0] + q, f32(market.n_months)
    for family in range(market.launch_first.shape[0]):
        for j in range(MAX_LAUNCHES):
            if work.launch_month[family, j, q] >= last:
                break
            launch_months[family, j, row] = work.launch_month[family, j, q]
