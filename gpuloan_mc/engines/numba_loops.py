"""The compiled loops of the numba engine: four neighbouring paths at a time, loans and obligors over lanes.

Every formula is a path function of gpuloan_mc/paths; here is only what is iterated over what. Rare events (defaults,
contract ends, sales) are scalar code reached through lists and flags, never a branch in a lane loop.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from ..paths.arithmetic import ONE, ZERO, at_score, clip, exp, log
from ..paths.loans import (
    PARENT,
    add_revenue,
    cause_of,
    debt_service,
    is_refinanced,
    is_short,
    monthly_rate,
    pay,
    renewed_rate,
    shortfall,
    spot_rate,
)
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
from ..paths.obligors import (
    H_0,
    accumulated,
    group_threshold,
    highest_quality,
    least_product,
    log_accumulated,
    rank_bound,
    threshold,
    with_slack,
)
from ..paths.path import to_cents
from ..paths.philox import (
    FACTOR,
    GENERATION,
    LAUNCH,
    LOAN,
    LOW32,
    MARKET,
    MIXING,
    OBLIGOR,
    RENEWAL,
    SPOT,
    chosen,
    draw,
    draw_four,
    event_word,
    normal,
    philox,
    rank,
)
from ..paths.primitives import bits_float, float_bits, fma, lowest_byte, prefetch
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
from ..paths.tally import add_defaults, close_paths
from ..plan import FREE, REPAID_BELOW
from ..reference.market import MAX_LAUNCHES
from .numba_layout import (
    ALLOWED,
    BALANCE,
    BREACHES,
    CLAIM,
    COMMITMENT,
    COST,
    COVENANT,
    D_CLAIM_RECOVERY,
    D_GENERATION,
    D_HOURLY_OPEX,
    D_HOURS,
    D_IN_SERVICE,
    D_KEY,
    D_LET_PLACE,
    D_LOAN,
    D_OPEX,
    D_PRESSURE,
    D_START,
    D_TENANT,
    D_UNIT_SHARE,
    D_UNITS,
    D_VINTAGE,
    DEAD,
    END_LOAN,
    END_OF,
    FIRST_LOAN,
    FLOATING,
    INDEX,
    KEPT_SHARE,
    L_DRAW_MONTH,
    L_END,
    L_FIRST,
    L_FLOATING,
    L_INDEX,
    L_KEPT_SHARE,
    L_KEY,
    L_MARGIN,
    L_PLACE,
    L_PULLED_IN,
    L_REFINANCE,
    L_TILE,
    LET,
    LGD,
    LGD_TABLE,
    LOCKUP,
    MARGIN,
    MATURING,
    NEXT_DUE,
    NOT_LET,
    OPENING,
    PARTY,
    PATHS_AT_ONCE,
    PRINCIPAL,
    RATE,
    RATE_OF,
    RELEASED,
    RESERVE,
    RESERVE_MONTHS,
    SCRATCH,
    SHARED_ROWS,
    STATE_OF,
    STATE_ROWS,
    SUPPORT,
    SWEEP,
    TERM,
    TILE,
    WAITING,
)

f32, i32, i64, u8, u32, u64 = np.float32, np.int32, np.int64, np.uint8, np.uint32, np.uint64

AHEAD = 8
NEVER = i32(2**30)
NOBODY = i32(-1)
REPAID = REPAID_BELOW
REPAID_FLAG, BROKEN_FLAG, SHORT_FLAG = u8(1), u8(2), u8(4)
INFINITE = f32(np.inf)
OBLIGOR_PLACE = OBLIGOR << u64(8)
PATHS_APART = u64(2)
MONTH_OF, CAUSE_OF, LAG_OF, SOLD_OF, EAD_OF, REST_OF, HAIRCUT_OF, NEXT_SALE = range(8)
WORKOUT_COLUMNS = 8

# Offsets of rows in a tile. Unsigned: a signed index brings a select for negative ones, and the loop stays scalar.
_RATE, _PRINCIPAL, _COST, _RESERVE_MONTHS, _LOCKUP, _COVENANT, _ALLOWED, _SWEEP, _FLOATING, _MARGIN = (
    u64(row * TILE)
    for row in (RATE, PRINCIPAL, COST, RESERVE_MONTHS, LOCKUP, COVENANT, ALLOWED, SWEEP, FLOATING, MARGIN)
)
_BALANCE, _RESERVE, _SUPPORT, _BREACHES = (u64(row * TILE) for row in (BALANCE, RESERVE, SUPPORT, BREACHES))
_HOURS, _LET_RATE = u64(SHARED_ROWS * TILE), u64(STATE_ROWS * TILE)
_TILE, _SCRATCH = u64(TILE), u64(SCRATCH)
_REVENUE, _UNLIMITED, _LIMIT = u64(0), u64(TILE), u64(2 * TILE)


class Work(NamedTuple):
    """A thread's memory, fixed for a book. The first dimension of most is the path among four."""

    arena: Any  # float32, rows of tiles; see numba_layout
    flags: Any  # (TILE,) uint8 events of a tile's lanes, and the same bytes eight at a time
    flags_by_8: Any
    words: Any  # (4 * TILE,) uint32 words of a tile of obligors, their bounds, and who lies below
    bounds: Any
    below: Any  # uint8
    below_by_8: Any
    group: Any  # (4,) the group at hand, -1: none
    group_months: Any  # (4, H + 1) its thresholds, int64, -1: not known yet
    regime: Any  # (4, T + 1)
    demand: Any
    premium: Any  # s_0 + χ
    used: Any
    outside: Any  # (4, T + 1, G) log prices before the overhang
    launch_month: Any  # (families, MAX_LAUNCHES)
    launch_size: Any
    factors: Any  # (4, K)
    mixing: Any  # (4, 2) W, 1/W
    cumulative: Any  # (4, C)
    log_hazard: Any  # (4, C, H + 1)
    overhang: Any  # (4, G)
    released: Any  # int64
    price: Any  # contract price
    rent: Any
    spot: Any  # what an uncontracted chip earns an hour
    spot_price: Any
    mean_overhang: Any  # (4,)
    months: Any  # (4, parties) default months
    hit_head: Any  # (4, H + 2) parties by default month, as linked lists
    hit_next: Any
    theta: Any  # (4, watched)
    contract: Any  # (D * 4, CONTRACT_COLUMNS) int32, a deployment's four paths in one cache line; a rate by its bits
    due_head: Any  # (4, H + 2) deployments by the month in which their contract may end
    tenant_lost: Any  # (4, L)
    sale_head: Any  # (4, T + 2) loans by month of sale
    workout: Any  # (4 * L, WORKOUT_COLUMNS) int32; shares by their bits
    open_sales: Any  # (4,)
    living: Any  # (4, tiles) loans alive
    events: Any  # (capacity, EVENT_FIELDS)
    n_events: Any  # (1,)
    row: Any  # (1,) row of the first of the four paths


def _loop(function: Any) -> Any:
    return njit(error_model="numpy")(function)


# --- what no feedback reaches -----------------------------------------------------------------------------------------


@_loop
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


@_loop
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


@_loop
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


@_loop
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


@_loop
def draw_prices(market: Any, work: Any, seed: Any, quad: Any, low: int, high: int) -> None:
    """(2.3)-(2.6), (2.10) and ln P before the overhang, of all months."""
    n_generations = market.demand_beta.shape[0]
    for q in range(low, high):
        path = u64(PATHS_AT_ONCE * quad + q)
        draw_launches(market, work, seed, path)
        for g in range(n_generations):
            work.price[q, g] = ZERO  # X_0, for now
            work.outside[q, 0, g] = outside_log_price(
                work.demand[q, 0], market.demand_beta[g], market.base_log_price[0, g], ZERO, ZERO
            )
        chi = ZERO
        work.premium[q, 0] = market.spot_premium + chi
        for t in range(1, market.n_months + 1):
            four = draw_four(seed, path, SPOT, u64(t), u64(0))
            chi = decayed(chi, market.spot_decay, market.spot_shock, normal(chosen(four, q)))
            work.premium[q, t] = market.spot_premium + chi
            demand = work.demand[q, t]
            work.used[q, t] = utilisation(
                demand,
                market.utilisation_level,
                market.utilisation_slope,
                market.utilisation_low,
                market.utilisation_high,
            )
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


@_loop
def step_hazard(hazards: Any, work: Any, q: int, c: int, t: int, mean_overhang: Any) -> None:
    """(3.1) one class, one month."""
    cumulative = accumulated(
        work.cumulative[q, c],
        hazards.hazard[t, c],
        hazards.regime_shift[c, work.regime[q, t]],
        hazards.demand_sensitivity[c],
        work.demand[q, t],
        hazards.overhang_sensitivity[c],
        mean_overhang,
    )
    work.cumulative[q, c] = cumulative
    work.log_hazard[q, c, t] = log_accumulated(cumulative, work.log_hazard[q, c, t - 1])


@_loop
def start_hazards(hazards: Any, work: Any, horizon: int, low: int, high: int) -> None:
    """(3.1) all months of the classes that the book's chips do not move; month 0 of the others."""
    for q in range(low, high):
        for c in range(hazards.hazard.shape[1]):
            work.cumulative[q, c] = H_0
            work.log_hazard[q, c, 0] = log(H_0)
            if not hazards.fed_back[c]:
                for t in range(1, horizon + 1):
                    step_hazard(hazards, work, q, c, t, ZERO)


# --- obligors ---------------------------------------------------------------------------------------------------------


@_loop
def tile_words(key_low: Any, key_high: Any, words: Any, first: Any, n: int, seed: Any, quad: Any) -> None:
    """(1.6) the words of a tile of obligors for four paths: words[q * TILE + lane]. Vectorises."""
    low, high = seed & LOW32, seed >> u64(32)
    counter, place = u64(quad) & LOW32, (u64(quad) >> u64(32)) | OBLIGOR_PLACE
    for i in range(n):
        lane = u64(i)
        w = philox(counter, place, key_low[first + lane], key_high[first + lane], low, high)
        words[lane] = u32(w[0])
        words[_TILE + lane] = u32(w[1])
        words[_TILE + _TILE + lane] = u32(w[2])
        words[_TILE + _TILE + _TILE + lane] = u32(w[3])


@_loop
def compare_words(words: Any, bounds: Any, below: Any) -> None:
    """Whose rank does not exceed its bound, all lanes of four paths. Vectorises."""
    for i in range(PATHS_AT_ONCE * TILE):
        lane = u64(i)
        w = words[lane]
        flip = u32(0x80000000) if w >= u32(0x80000000) else u32(0xFFFFFFFF)
        below[lane] = u8(1) if (w ^ flip) <= bounds[lane] else u8(0)


@_loop
def common_part(loadings: Any, row: int, factors: Any, q: int) -> Any:
    """(3.3) ã·n."""
    total = ZERO
    for k in range(loadings.shape[1]):
        total = fma(loadings[row, k], factors[q, k], total)
    return total


@_loop
def threshold_of_group(hazards: Any, obligors: Any, work: Any, p: int, c: int, q: int, t: int) -> Any:
    """(3.6) of the group to which position p belongs, in month t."""
    return group_threshold(
        hazards.latent_table,
        work.log_hazard[q, c, t],
        obligors.log_scale[p],
        work.mixing[q, 1],
        common_part(obligors.loadings, p, work.factors, q),
        obligors.inverse_residual[p],
    )


@_loop
def bound_of_run(hazards: Any, obligors: Any, work: Any, run: int, q: int, horizon: int) -> Any:
    """A rank that nobody of the run who defaults by the horizon exceeds."""
    c = obligors.run_class[run]
    if obligors.run_group[run] >= 0:
        take_group(work, q, obligors.run_group[run])
        return with_slack(group_month_threshold(hazards, obligors, work, obligors.run_first[run], c, q, horizon))
    quality = highest_quality(
        hazards.log_hazard_table, hazards.is_t_copula, work.log_hazard[q, c, horizon] + obligors.run_log_scale[run]
    )
    common = ZERO
    for k in range(hazards.n_factors):
        common += least_product(obligors.run_low[run, k], obligors.run_high[run, k], work.factors[q, k])
    return rank_bound(
        quality, work.mixing[q, 0], common, obligors.run_residual_low[run], obligors.run_residual_high[run]
    )


@_loop
def own_threshold(hazards: Any, obligors: Any, work: Any, p: int, q: int, w: Any) -> Any:
    """(3.3), (3.4) θ of an obligor decided by its own normal."""
    return threshold(
        hazards.log_hazard_table,
        hazards.is_t_copula,
        work.mixing[q, 0],
        obligors.residual[p],
        normal(w),
        common_part(obligors.loadings, p, work.factors, q),
        obligors.log_scale[p],
    )


@_loop
def own_month(hazards: Any, obligors: Any, work: Any, p: int, c: int, q: int, w: Any, horizon: int) -> Any:
    """(3.5) first month with ln H ≥ θ, by search: ln H never falls."""
    theta = own_threshold(hazards, obligors, work, p, q, w)
    below, above = 1, horizon + 1
    while below < above:
        middle = (below + above) // 2
        if work.log_hazard[q, c, middle] >= theta:
            above = middle
        else:
            below = middle + 1
    return i32(below) if below <= horizon else NEVER


@_loop
def group_month_threshold(hazards: Any, obligors: Any, work: Any, p: int, c: int, q: int, t: int) -> Any:
    """The threshold of month t of the group at hand, computed once."""
    known = work.group_months[q, t]
    if known < 0:
        known = i64(threshold_of_group(hazards, obligors, work, p, c, q, t))
        work.group_months[q, t] = known
    return u64(known)


@_loop
def grouped_month(hazards: Any, obligors: Any, work: Any, p: int, c: int, q: int, w: Any, horizon: int) -> Any:
    """(3.6) first month with rank < threshold.

    Thresholds rise but for rounding, so the month that the search finds may not be the first: the months before it
    follow as long as their thresholds lie within the slack of the rank.
    """
    place = rank(w)
    below, above = 1, horizon + 1
    while below < above:
        middle = (below + above) // 2
        if place < group_month_threshold(hazards, obligors, work, p, c, q, middle):
            above = middle
        else:
            below = middle + 1
    month = below
    for t in range(below - 1, 0, -1):
        bound = group_month_threshold(hazards, obligors, work, p, c, q, t)
        if place > with_slack(bound):
            break
        if place < bound:
            month = t
    return i32(month) if month <= horizon else NEVER


@_loop
def take_group(work: Any, q: int, group: Any) -> None:
    """The group whose thresholds are kept; its obligors lie together."""
    if work.group[q] != group:
        work.group[q] = group
        work.group_months[q, :] = -1


@_loop
def fill(values: Any, first: int, end: int, value: Any) -> None:
    for i in range(first, end):
        values[u64(i)] = value


@_loop
def set_bounds(hazards: Any, obligors: Any, work: Any, tile: int, low: int, high: int, horizon: int) -> None:
    """The bound of every lane of a tile and of the paths at hand."""
    first = obligors.tile_first[tile]
    for q in range(low, high):
        for run in range(obligors.tile_run[tile], obligors.tile_run[tile + 1]):
            bound = u32(bound_of_run(hazards, obligors, work, run, q, horizon))
            start = q * TILE - first
            fill(work.bounds, start + obligors.run_first[run], start + obligors.run_first[run + 1], bound)


@_loop
def decide(book: Any, work: Any, seed: Any, quad: Any, low: int, high: int, phase: int) -> None:
    """(3.5), (3.6) default months of a phase's obligors whose hazards are known to the horizon."""
    hazards, obligors, horizon = book.hazards, book.obligors, book.market.horizon
    for tile in range(obligors.phase_tile[phase], obligors.phase_tile[phase + 1]):
        first = obligors.tile_first[tile]
        n = obligors.tile_first[tile + 1] - first
        tile_words(obligors.key_low, obligors.key_high, work.words, u64(first), n, seed, quad)
        set_bounds(hazards, obligors, work, tile, low, high, horizon)
        compare_words(work.words, work.bounds, work.below)
        for q in range(low, high):
            settle_tile(book, work, seed, quad, q, tile, n)


@_loop
def settle_tile(book: Any, work: Any, seed: Any, quad: Any, q: int, tile: int, n: int) -> None:
    """Those below their bound, exactly."""
    hazards, obligors, horizon = book.hazards, book.obligors, book.market.horizon
    first, run = obligors.tile_first[tile], obligors.tile_run[tile]
    for block in range((n + 7) // 8):
        flags = work.below_by_8[q * (TILE // 8) + block]
        while flags != u64(0):
            lane = 8 * block + lowest_byte(flags)
            flags &= flags - u64(1)
            if lane >= n:
                break
            p = first + lane
            prefetch(book.plain.amounts, obligors.facts[p, FIRST_LOAN], 0)
            while obligors.run_first[run + 1] <= p:
                run += 1
            c, w = obligors.run_class[run], u64(work.words[q * TILE + lane])
            if obligors.run_group[run] < 0:
                month = own_month(hazards, obligors, work, p, c, q, w, horizon)
            else:
                take_group(work, q, obligors.run_group[run])
                month = grouped_month(hazards, obligors, work, p, c, q, w, horizon)
            if month != NEVER:
                obligor_defaults(book, work, seed, quad, q, p, month)


@_loop
def obligor_defaults(book: Any, work: Any, seed: Any, quad: Any, q: int, p: int, month: Any) -> None:
    """An obligor's default: a party of GPU loans is noted for its month, its plain loans default."""
    plain, facts = book.plain, book.obligors.facts
    party = facts[p, PARTY]
    if party >= 0:
        work.months[q, party] = month
        work.hit_next[q, party] = work.hit_head[q, month]
        work.hit_head[q, month] = party
    for loan in range(facts[p, FIRST_LOAN], facts[p, END_LOAN]):
        if month <= min(plain.facts[loan, TERM], book.market.horizon):
            plain_default(plain, work, seed, quad, q, loan, month)


@_loop
def plain_default(plain: Any, work: Any, seed: Any, quad: Any, q: int, loan: Any, month: Any) -> None:
    """(4) EAD is the scheduled balance, loss EAD × LGD; both float64 until they are cents."""
    amounts, row = plain.amounts[loan], plain.facts[loan, LGD_TABLE]
    ead, lgd = amounts[COMMITMENT] * amounts[OPENING + month], amounts[LGD]
    if row >= 0:
        w = draw(seed, u64(PATHS_AT_ONCE * quad + q), LOAN, u64(0), plain.key[loan])
        systematic = plain.lgd_loading[loan] * work.factors[q, 0]
        score = fma(plain.lgd_residual[loan], normal(w[0]), -systematic)
        lgd = np.float64(clip(at_score(plain.lgd_tables[row], score), ZERO, ONE))
    lost = np.rint((ead * lgd) * amounts[KEPT_SHARE])
    emit(work, q, i64(plain.facts[loan, INDEX]), i64(month), i64(PARENT), i64(np.rint(ead)), i64(lost))


@_loop
def emit(work: Any, q: int, loan: Any, month: Any, cause: Any, ead: Any, lost: Any) -> None:
    """One default for the tally; the path's place among four stands for its row until the four are done."""
    k = work.n_events[0]
    event = work.events[k]
    event[0], event[1], event[2], event[3], event[4], event[5] = q, loan, month, cause, ead, lost
    work.n_events[0] = k + 1


@_loop
def draw_watched(book: Any, work: Any, seed: Any, quad: Any, low: int, high: int) -> None:
    """θ of parties whose hazards the book's own chips move."""
    hazards, obligors = book.hazards, book.obligors
    start = obligors.phase_first[2]
    for p in range(start, obligors.phase_first[3]):
        entity = obligors.key_low[p] | (obligors.key_high[p] << u64(32))
        four = draw_four(seed, u64(PATHS_AT_ONCE * quad), OBLIGOR, u64(0), entity)
        for q in range(low, high):
            work.theta[q, p - start] = own_threshold(hazards, obligors, work, p, q, chosen(four, q))


@_loop
def watch(book: Any, work: Any, seed: Any, quad: Any, q: int, t: int) -> None:
    """(3.5) watched parties that default in month t."""
    hazards, obligors = book.hazards, book.obligors
    start = obligors.phase_first[2]
    for c in range(hazards.hazard.shape[1]):
        if not hazards.fed_back[c]:
            continue
        level = work.log_hazard[q, c, t]
        for p in range(obligors.watched_class[c], obligors.watched_class[c + 1]):
            if level >= work.theta[q, p - start]:
                work.theta[q, p - start] = INFINITE
                obligor_defaults(book, work, seed, quad, q, p, i32(t))


# --- market by month --------------------------------------------------------------------------------------------------


@_loop
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
        if t <= market.horizon:
            spot = spot_price(logarithm, work.premium[q, t])
            work.spot_price[q, g] = spot
            work.spot[q, g] = spot_rate(spot, used, recovery.spot_keep)


@_loop
def start_prices(market: Any, work: Any, q: int) -> None:
    """Month 0: no overhang and no launch since."""
    for g in range(market.demand_beta.shape[0]):
        logarithm = log_price(
            work.outside[q, 0, g], ZERO, ZERO, market.own_weight, market.overhang_impact, market.price_floor[0, g]
        )
        work.price[q, g] = exp(logarithm)
        work.spot_price[q, g] = spot_price(logarithm, work.premium[q, 0])


@_loop
def keep_prices(work: Any, paths: Any, q: int, t: int) -> None:
    """Contract and spot prices of a month, where they are asked for."""
    if paths.prices.shape[0] > 0:
        for g in range(work.price.shape[1]):
            paths.prices[work.row[0] + q, t, 0, g] = work.price[q, g]
            paths.prices[work.row[0] + q, t, 1, g] = work.spot_price[q, g]


@_loop
def value_of(market: Any, work: Any, q: int, t: int, vintage: Any) -> Any:
    """(2.11) C_v, computed where it is asked for."""
    g = market.vintage_generation[vintage]
    return chip_value(work.rent[q, g], market.value_cap[t, vintage], market.scrap_value[g])


# --- deployments ------------------------------------------------------------------------------------------------------


@_loop
def entity(facts: Any, low: int) -> Any:
    """The 64-bit hash of an id, kept in two columns."""
    return (u64(facts[low]) & LOW32) | (u64(facts[low + 1]) << u64(32))


@_loop
def state_stride(lanes: Any) -> Any:
    """Floats between the rows of one path and the next in a tile."""
    return u64((STATE_ROWS + lanes.n_slots) * TILE)


@_loop
def contract_row(d: Any, q: int) -> Any:
    """Where a deployment's contract stands on path q."""
    return PATHS_AT_ONCE * i64(d) + q


@_loop
def set_let_rate(lanes: Any, work: Any, q: int, facts: Any, rate: Any) -> None:
    """What a deployment's contract pays on path q, or NOT_LET."""
    work.arena[u64(facts[D_LET_PLACE]) + u64(q) * state_stride(lanes)] = rate


@_loop
def end_contract(book: Any, work: Any, q: int, d: Any) -> None:
    """The contract is over and its chips come back."""
    work.contract[contract_row(d, q), STATE_OF] &= ~LET
    facts = book.lanes.deployment_facts[d]
    set_let_rate(book.lanes, work, q, facts, NOT_LET)
    release(work, q, work.contract[contract_row(d, q)], facts)


@_loop
def release(work: Any, q: int, contract: Any, facts: Any) -> None:
    """(2.7) chips count once a path."""
    if not contract[STATE_OF] & RELEASED:
        contract[STATE_OF] |= RELEASED
        work.released[q, facts[D_GENERATION]] += facts[D_UNITS]


@_loop
def lose_tenant(book: Any, work: Any, q: int, d: Any) -> None:
    """(5.1) the tenant has defaulted."""
    work.contract[contract_row(d, q), STATE_OF] |= CLAIM
    work.tenant_lost[q, book.lanes.deployment_facts[d, D_LOAN]] = u8(1)
    end_contract(book, work, q, d)


@_loop
def step_deployments(book: Any, work: Any, seed: Any, path: Any, q: int, t: int) -> None:
    """(5.1), (5.2) of month t."""
    lanes, facts = book.lanes, book.lanes.deployment_facts
    party = work.hit_head[q, t]
    while party != NOBODY:
        for k in range(lanes.tenant_first[party], lanes.tenant_first[party + 1]):
            d = lanes.tenant_deployment[k]
            if work.contract[contract_row(d, q), STATE_OF] & LET and facts[d, D_START] <= t:
                lose_tenant(book, work, q, d)
        party = work.hit_next[q, party]
    end = lanes.due_first[t + 1]
    for k in range(lanes.due_first[t], end):
        if k + 2 * AHEAD < end:
            prefetch(facts, lanes.due[k + 2 * AHEAD], 0)
            prefetch(work.contract, contract_row(lanes.due[k + 2 * AHEAD], q), 0)
        if k + AHEAD < end:
            place = u64(facts[lanes.due[k + AHEAD], D_LET_PLACE]) + u64(q) * state_stride(lanes)
            prefetch(work.arena, 0, place)
        contract_due(book, work, seed, path, q, t, lanes.due[k])
    d = work.due_head[q, t]
    while d != NOBODY:
        following = work.contract[contract_row(d, q), NEXT_DUE]  # a renewal puts it on another list
        contract_due(book, work, seed, path, q, t, d)
        d = following


@_loop
def contract_due(book: Any, work: Any, seed: Any, path: Any, q: int, t: int, d: Any) -> None:
    """A contract begins or may end: its tenant has fallen before, or it renews, or its chips come back."""
    contract, facts, recovery = work.contract[contract_row(d, q)], book.lanes.deployment_facts[d], book.recovery
    if not contract[STATE_OF] & LET:
        return
    if work.months[q, facts[D_TENANT]] <= t:
        lose_tenant(book, work, q, d)
        return
    if contract[END_OF] < t:
        w = chosen(draw_four(seed, path, RENEWAL, u64(t), entity(facts, D_KEY)), q)
        if event_word(w) >= recovery.renewal[work.regime[q, t]]:
            end_contract(book, work, q, d)
            return
        price = work.price[q, facts[D_GENERATION]]
        rate = renewed_rate(price, recovery.renewal_keep, recovery.paid_share)
        contract[RATE_OF] = float_bits(rate)
        set_let_rate(book.lanes, work, q, facts, rate)
        contract[END_OF] = t - 1 + recovery.renewal_term
    month = contract[END_OF] + 1
    if month <= book.market.horizon:
        contract[NEXT_DUE] = work.due_head[q, month]
        work.due_head[q, month] = d


# --- loans ------------------------------------------------------------------------------------------------------------


@_loop
def tile_base(lanes: Any, tile: Any) -> Any:
    """First float of a tile."""
    rows = SHARED_ROWS + 2 * lanes.n_slots + PATHS_AT_ONCE * (STATE_ROWS + lanes.n_slots)
    return _SCRATCH + u64(tile * rows * TILE)


@_loop
def state_base(lanes: Any, tile: Any, q: int) -> Any:
    """First float of a path's rows in a tile."""
    rows = SHARED_ROWS + 2 * lanes.n_slots + q * (STATE_ROWS + lanes.n_slots)
    return tile_base(lanes, tile) + u64(rows * TILE)


@_loop
def put_in_service(book: Any, work: Any, t: int) -> None:
    """Chips whose service begins in month t earn and cost from here on."""
    lanes, arena = book.lanes, work.arena
    for k in range(lanes.start_first[t], lanes.start_first[t + 1]):
        facts = lanes.deployment_facts[lanes.start[k]]
        place = hours_place(lanes, facts)
        arena[place] = bits_float(facts[D_HOURS])
        arena[place + u64(lanes.n_slots * TILE)] = bits_float(facts[D_HOURLY_OPEX])


@_loop
def share_tile(book: Any, work: Any, t: int, tile: int) -> None:
    """What a month's paths share of a tile: rates, scheduled principal, cash cost. While it is in the cache anyway."""
    lanes, recovery, arena = book.lanes, book.recovery, work.arena
    base, n = tile_base(lanes, tile), lanes.tile_lanes[tile]
    share_rates(arena, lanes.principal, base, t, u64(tile * TILE), n, recovery.base_rate[t])
    for j in range(lanes.n_slots):
        share_cost(arena, base, base + u64((SHARED_ROWS + lanes.n_slots + j) * TILE), n, recovery.cost_growth[t])


@_loop
def share_rates(arena: Any, principal: Any, base: Any, t: int, first: Any, n: int, base_rate: Any) -> None:
    """A month's rates and principal of a tile; its cost starts at 0."""
    row = principal[t]
    for i in range(n):
        lane = u64(i)
        arena[base + _RATE + lane] = monthly_rate(
            arena[base + _FLOATING + lane], base_rate, arena[base + _MARGIN + lane]
        )
        arena[base + _PRINCIPAL + lane] = row[first + lane]
        arena[base + _COST + lane] = ZERO


@_loop
def share_cost(arena: Any, base: Any, opex: Any, n: int, growth: Any) -> None:
    """(5.3) one slot's cash cost joins."""
    for i in range(n):
        lane = u64(i)
        arena[base + _COST + lane] = fma(arena[opex + lane], growth, arena[base + _COST + lane])


@_loop
def clear_revenue(arena: Any, n: int) -> None:
    for i in range(n):
        arena[_REVENUE + u64(i)] = ZERO


@_loop
def add_slot(arena: Any, hours: Any, let: Any, first: int, end: int, spot: Any) -> None:
    """(5.3) revenue of a run of lanes whose chips are of one generation. Vectorises."""
    for i in range(first, end):
        lane = u64(i)
        arena[_REVENUE + lane] = add_revenue(arena[_REVENUE + lane], arena[hours + lane], arena[let + lane], spot)


@_loop
def pay_tile(arena: Any, flags: Any, shared: Any, state: Any, limit: Any, n: int) -> None:
    """(5.3)-(5.5) one month of a tile's loans on one path. Vectorises: selects, no branches, no integers but flags.

    A loan that defaults keeps what it opened with. Flags: 1 repaid, 2 covenant broken, 4 short of cash.
    """
    for i in range(n):
        lane = u64(i)
        balance = arena[state + _BALANCE + lane]
        reserve = arena[state + _RESERVE + lane]
        support = arena[state + _SUPPORT + lane]
        breaches = arena[state + _BREACHES + lane]
        scheduled = arena[shared + _PRINCIPAL + lane]
        principal = balance if balance < scheduled else scheduled
        income = arena[_REVENUE + lane] - arena[shared + _COST + lane]
        service = debt_service(balance, arena[shared + _RATE + lane], principal)
        on = breaches >= ZERO
        count = breaches + ONE if income < arena[shared + _COVENANT + lane] * service else ZERO
        short = is_short(shortfall(service, income), reserve, support)
        broken = count >= arena[shared + _ALLOWED + lane]
        locked = (income < arena[shared + _LOCKUP + lane] * service) | (balance > arena[limit + lane])
        sweep = ONE if locked else arena[shared + _SWEEP + lane]
        new_balance, new_reserve, new_support = pay(
            balance, reserve, support, principal, service, income, arena[shared + _RESERVE_MONTHS + lane], sweep
        )
        fallen = short | broken
        pays = on & (not fallen)
        arena[state + _BALANCE + lane] = new_balance if pays else balance
        arena[state + _RESERVE + lane] = new_reserve if pays else reserve
        arena[state + _SUPPORT + lane] = new_support if pays else support
        arena[state + _BREACHES + lane] = count if on else breaches
        repaid = REPAID_FLAG if new_balance <= REPAID else u8(0)
        flag = (SHORT_FLAG if short else BROKEN_FLAG) if fallen else repaid
        flags[lane] = flag if on else u8(0)


@_loop
def ask_for(arena: Any, first: Any, end: Any) -> None:
    """Ask for floats of the arena ahead of their use, a cache line at a time."""
    for line in range(first, end, u64(16)):
        prefetch(arena, 0, line)


@_loop
def step_tile(book: Any, work: Any, seed: Any, path: Any, q: int, t: int, tile: int) -> None:
    """A month of a tile's loans on one path, then its events."""
    lanes, arena = book.lanes, work.arena
    n, shared, state = lanes.tile_lanes[tile], tile_base(lanes, tile), state_base(lanes, tile, q)
    if tile + 1 < lanes.tile_lanes.shape[0]:
        ask_for(arena, state_base(lanes, tile + 1, q), state_base(lanes, tile + 1, q + 1))
    clear_revenue(arena, n)
    for j in range(lanes.n_slots):
        hours, let = shared + _HOURS + u64(j * TILE), state + _LET_RATE + u64(j * TILE)
        place = tile * lanes.n_slots + j
        for run in range(lanes.run_slot[place], lanes.run_slot[place + 1]):
            spot = work.spot[q, lanes.run_generation[run]]
            add_slot(arena, hours, let, lanes.run_first[run], lanes.run_end[run], spot)
    limit = _UNLIMITED
    if lanes.tile_capped[tile]:
        set_limits(book, work, q, t, tile)
        limit = _LIMIT
    pay_tile(arena, work.flags, shared, state, limit, n)
    for block in range(n // 8):
        flags = work.flags_by_8[block]
        while flags != u64(0):  # each flag is one bit
            i = 8 * block + lowest_byte(flags)
            flags &= flags - u64(1)
            loan, flag = tile * TILE + i, work.flags[i]
            if flag == REPAID_FLAG:
                if lanes.loan_facts[loan, L_DRAW_MONTH] <= t:
                    bury(lanes, work, q, loan)
            else:
                cause = cause_of(flag == SHORT_FLAG, False, work.tenant_lost[q, loan] != u8(0))
                default(book, work, seed, path, q, t, loan, cause)


@_loop
def set_limits(book: Any, work: Any, q: int, t: int, tile: int) -> None:
    """(5.4) the balance above which an LTV cap locks the loan up."""
    lanes, loans = book.lanes, book.loans
    for i in range(TILE):
        loan = tile * TILE + i
        limit = INFINITE
        if loan < lanes.n_loans and loans.ltv_cap[loan] > ZERO:
            limit = loans.ltv_cap[loan] * collateral(book, work, q, t, loan)
        work.arena[_LIMIT + u64(i)] = limit


@_loop
def collateral(book: Any, work: Any, q: int, t: int, loan: Any) -> Any:
    """(5.6) value of the loan's chips in service."""
    loan_facts, value = book.lanes.loan_facts[loan], ZERO
    for d in range(loan_facts[L_FIRST], loan_facts[L_END]):
        facts = book.lanes.deployment_facts[d]
        if facts[D_START] <= t:
            chip = value_of(book.market, work, q, t, facts[D_VINTAGE])
            value = fma(bits_float(facts[D_UNIT_SHARE]), chip, value)
    return value


@_loop
def bury(lanes: Any, work: Any, q: int, loan: Any) -> None:
    """The loan is repaid or has defaulted: lane loops pass over it."""
    work.arena[lane_place(lanes, loan, q) + _BREACHES] = DEAD
    work.living[q, lanes.loan_facts[loan, L_TILE]] -= 1


@_loop
def open_month(book: Any, work: Any, seed: Any, path: Any, q: int, t: int) -> None:
    """Draws, loans whose service begins, parents' defaults, loans that mature, interest of those that wait."""
    lanes, arena = book.lanes, work.arena
    for k in range(lanes.draw_first[t], lanes.draw_first[t + 1]):
        loan = lanes.draw[k]
        place = lane_place(lanes, loan, q)
        if arena[place + _BREACHES] != DEAD:
            arena[place + _BALANCE] = arena[place + _BALANCE] + book.loans.undrawn[loan]
    for k in range(lanes.begin_first[t], lanes.begin_first[t + 1]):
        place = lane_place(lanes, lanes.begin[k], q)
        if arena[place + _BREACHES] == WAITING:
            arena[place + _BREACHES] = ZERO
    party = work.hit_head[q, t]
    while party != NOBODY:
        for k in range(lanes.parent_first[party], lanes.parent_first[party + 1]):
            parent_defaults(book, work, seed, path, q, t, lanes.parent_loan[k])
        party = work.hit_next[q, party]
    for k in range(lanes.mature_first[t], lanes.mature_first[t + 1]):
        place = lane_place(lanes, lanes.mature[k], q)
        if arena[place + _BREACHES] >= ZERO:
            arena[place + _BREACHES] = MATURING
    for k in range(lanes.waiting.shape[0]):
        loan = lanes.waiting[k]
        if book.loans.first_month[loan] <= t:
            break
        place = lane_place(lanes, loan, q)
        if arena[place + _BREACHES] == WAITING:
            arena[place + _BALANCE] = exposure(arena[place + _BALANCE], rate_of(book, loan, t))


@_loop
def lane_place(lanes: Any, loan: Any, q: int) -> Any:
    """Where a path's rows of a loan begin in the arena."""
    return u64(lanes.loan_facts[loan, L_PLACE]) + u64(q) * state_stride(lanes)


@_loop
def shared_place(lanes: Any, loan_facts: Any) -> Any:
    """Where the rows that a loan's paths share begin in the arena."""
    return u64(loan_facts[L_PLACE]) - u64((SHARED_ROWS + 2 * lanes.n_slots) * TILE)


@_loop
def hours_place(lanes: Any, facts: Any) -> Any:
    """Where the arena keeps a deployment's hours."""
    return u64(facts[D_LET_PLACE]) - u64((STATE_ROWS + 2 * lanes.n_slots) * TILE)


@_loop
def rate_of(book: Any, loan: Any, t: int) -> Any:
    """(5.3) interest of month t."""
    facts = book.lanes.loan_facts[loan]
    return monthly_rate(bits_float(facts[L_FLOATING]), book.recovery.base_rate[t], bits_float(facts[L_MARGIN]))


@_loop
def parent_defaults(book: Any, work: Any, seed: Any, path: Any, q: int, t: int, loan: Any) -> None:
    """(5.4), (5.5) support is gone; the SPV may be pulled in."""
    place, facts = lane_place(book.lanes, loan, q), book.lanes.loan_facts[loan]
    work.arena[place + _SUPPORT] = ZERO
    if work.arena[place + _BREACHES] == DEAD:
        return
    w = draw(seed, path, LOAN, u64(0), entity(facts, L_KEY))
    if event_word(w[0]) < facts[L_PULLED_IN]:
        default(book, work, seed, path, q, t, loan, PARENT)


@_loop
def mature(book: Any, work: Any, seed: Any, path: Any, q: int, t: int) -> None:
    """(5.3)-(5.5) of the loans that mature in month t."""
    lanes = book.lanes
    for k in range(lanes.mature_first[t], lanes.mature_first[t + 1]):
        loan = lanes.mature[k]
        if work.arena[lane_place(lanes, loan, q) + _BREACHES] == MATURING:
            mature_loan(book, work, seed, path, q, t, loan)


@_loop
def mature_loan(book: Any, work: Any, seed: Any, path: Any, q: int, t: int, loan: Any) -> None:
    """The whole balance is due, unless a new lender takes it over."""
    lanes, arena, loan_facts = book.lanes, work.arena, book.lanes.loan_facts[loan]
    place, shared = lane_place(lanes, loan, q), shared_place(lanes, loan_facts)
    balance, reserve, support = arena[place + _BALANCE], arena[place + _RESERVE], arena[place + _SUPPORT]
    revenue = ZERO
    for d in range(loan_facts[L_FIRST], loan_facts[L_END]):
        facts = lanes.deployment_facts[d]
        let = arena[u64(facts[D_LET_PLACE]) + u64(q) * state_stride(lanes)]
        revenue = add_revenue(revenue, arena[hours_place(lanes, facts)], let, work.spot[q, facts[D_GENERATION]])
    income = revenue - arena[shared + _COST]
    principal, limit = balance, bits_float(loan_facts[L_REFINANCE])
    if limit > ZERO and is_refinanced(balance, limit, collateral(book, work, q, t, loan)):
        principal = ZERO
    service = debt_service(balance, arena[shared + _RATE], principal)
    if is_short(shortfall(service, income), reserve, support):
        cause = cause_of(True, True, work.tenant_lost[q, loan] != u8(0))
        default(book, work, seed, path, q, t, loan, cause)
        return
    _, reserve, support = pay(balance, reserve, support, balance, service, income, ZERO, ONE)
    arena[place + _BALANCE], arena[place + _RESERVE], arena[place + _SUPPORT] = ZERO, reserve, support
    arena[place + _BREACHES] = ZERO
    if loan_facts[L_DRAW_MONTH] <= t:
        bury(lanes, work, q, loan)


# --- default and recovery ---------------------------------------------------------------------------------------------


@_loop
def default(book: Any, work: Any, seed: Any, path: Any, q: int, t: int, loan: Any, cause: Any) -> None:
    """(6.1), (6.2) and the month of the sale."""
    lanes, recovery, loan_facts = book.lanes, book.recovery, book.lanes.loan_facts[loan]
    place = lane_place(lanes, loan, q)
    w = draw(seed, path, LOAN, u64(0), entity(loan_facts, L_KEY))
    stepped_in = event_word(w[1]) < recovery.step_in
    lag = sale_lag(recovery.lag_table, w[2], recovery.lag_max)
    haircut = share_of_table(recovery.haircut_table, w[3])
    ead = exposure(work.arena[place + _BALANCE], rate_of(book, loan, t))
    rest = ead - work.arena[place + _RESERVE]
    sold, bit, draw_month = i32(0), i32(1), loan_facts[L_DRAW_MONTH]
    for d in range(loan_facts[L_FIRST], loan_facts[L_END]):
        contract, facts = work.contract[contract_row(d, q)], lanes.deployment_facts[d]
        state = contract[STATE_OF]
        kept = stepped_in and state & LET and facts[D_START] <= t
        if kept or state & CLAIM:
            rest = after_contract(book, work, q, t, contract, facts, kept, haircut, rest)
        lapsed = draw_month > t and facts[D_IN_SERVICE] >= draw_month
        if not kept and not lapsed:
            sold = i32(sold | bit)
        bit = i32(bit << 1)
        contract[STATE_OF] = state & ~LET
    bury(lanes, work, q, loan)
    workout = work.workout[workout_row(lanes, loan, q)]
    workout[MONTH_OF], workout[CAUSE_OF], workout[LAG_OF], workout[SOLD_OF] = t, cause, lag, sold
    workout[EAD_OF], workout[REST_OF] = float_bits(ead), float_bits(rest)
    workout[HAIRCUT_OF], workout[NEXT_SALE] = float_bits(haircut), work.sale_head[q, t + lag]
    work.sale_head[q, t + lag] = loan
    work.open_sales[q] += 1


@_loop
def after_contract(
    book: Any, work: Any, q: int, t: int, contract: Any, facts: Any, kept: Any, haircut: Any, rest: Any
) -> Any:
    """(6.2) what is left after a kept deployment, or after the claim that its tenant's default left."""
    market, recovery = book.market, book.recovery
    left = months_left(contract[END_OF], i32(t))
    worth = contract_value(
        bits_float(facts[D_HOURS]),
        bits_float(contract[RATE_OF]),
        bits_float(facts[D_OPEX]),
        recovery.cost_growth[t],
        recovery.opex_stress,
        recovery.contract_annuity[left],
    )
    if not kept:
        return after_claim(rest, bits_float(facts[D_CLAIM_RECOVERY]), worth)
    g = facts[D_GENERATION]
    return rest - kept_value(
        worth,
        recovery.performance,
        bits_float(facts[D_UNIT_SHARE]) * value_of(market, work, q, t, facts[D_VINTAGE]),
        market.annuity[t + left, g] * recovery.inverse_annuity[t, g],
        recovery.chip_discount[left],
        haircut,
        recovery.sale_keep,
    )


@_loop
def workout_row(lanes: Any, loan: Any, q: int) -> Any:
    """Where a defaulted loan stands on path q."""
    return q * lanes.n_loans + i64(loan)


@_loop
def sell_due(book: Any, work: Any, q: int, t: int) -> None:
    """(6.3), (6.4) the sales of month t: the losses are known."""
    loan, lanes = work.sale_head[q, t], book.lanes
    while loan != NOBODY:
        following = work.workout[workout_row(lanes, loan, q), NEXT_SALE]
        if following != NOBODY:
            prefetch(work.workout, workout_row(lanes, following, q), 0)
            prefetch(lanes.loan_facts, following, 0)
            d = lanes.loan_facts[following, L_FIRST]
            prefetch(lanes.deployment_facts, d, 0)
            prefetch(work.contract, contract_row(d, q), 0)
        sell(book, work, q, t, loan)
        loan = following


@_loop
def sell(book: Any, work: Any, q: int, t: int, loan: Any) -> None:
    """(6.3) proceeds, (6.4) loss."""
    lanes, recovery, market = book.lanes, book.recovery, book.market
    workout, loan_facts = work.workout[workout_row(lanes, loan, q)], lanes.loan_facts[loan]
    haircut, lag, total, bit = bits_float(workout[HAIRCUT_OF]), f32(workout[LAG_OF]), ZERO, i32(1)
    for d in range(loan_facts[L_FIRST], loan_facts[L_END]):
        if workout[SOLD_OF] & bit:
            facts = lanes.deployment_facts[d]
            value = value_of(market, work, q, t, facts[D_VINTAGE])
            depth = market.inverse_depth[t, facts[D_GENERATION]]
            price = sale_price(value, haircut, bits_float(facts[D_PRESSURE]), depth, recovery.sale_keep)
            storage = recovery.storage_share * (bits_float(facts[D_HOURLY_OPEX]) * recovery.cost_growth[t])
            total = add_proceeds(total, bits_float(facts[D_UNIT_SHARE]), price, storage, lag)
            release(work, q, work.contract[contract_row(d, q)], facts)
        bit = i32(bit << 1)
    proceeds = total if total > ZERO else ZERO
    rest, kept_share = bits_float(workout[REST_OF]), bits_float(loan_facts[L_KEPT_SHARE])
    fraction = loss(kept_share, rest, recovery.lender_discount[workout[LAG_OF]], proceeds)
    commitment = book.loans.commitment_cents[loan]
    ead, lost = to_cents(commitment, bits_float(workout[EAD_OF])), to_cents(commitment, fraction)
    emit(work, q, i64(loan_facts[L_INDEX]), i64(workout[MONTH_OF]), i64(workout[CAUSE_OF]), ead, lost)
    work.open_sales[q] -= 1


# --- paths ------------------------------------------------------------------------------------------------------------


@_loop
def reset(book: Any, work: Any, low: int, high: int) -> None:
    """Month 0 of GPU loans."""
    lanes = book.lanes
    work.arena[SCRATCH:] = lanes.template
    work.contract[:] = lanes.contracts
    for q in range(low, high):
        work.months[q, :] = NEVER
        work.hit_head[q, :] = NOBODY
        work.due_head[q, :] = NOBODY
        work.sale_head[q, :] = NOBODY
        work.tenant_lost[q, :] = u8(0)
        work.overhang[q, :] = ZERO
        work.released[q, :] = 0
        work.open_sales[q] = 0
        for tile in range(lanes.tile_lanes.shape[0]):
            work.living[q, tile] = min(TILE, lanes.n_loans - tile * TILE)


@_loop
def run_months(book: Any, work: Any, paths: Any, seed: Any, quad: Any, low: int, high: int) -> None:
    """Months 1 … T of four paths: (a) market, (b) obligors, (c) deployments, (d) loans, (e) sales."""
    market, hazards, lanes = book.market, book.hazards, book.lanes
    if paths.prices.shape[0] > 0:
        for q in range(low, high):
            start_prices(market, work, q)
            keep_prices(work, paths, q, 0)
    for t in range(1, market.horizon + 1):
        put_in_service(book, work, t)
        for q in range(low, high):
            path = u64(PATHS_AT_ONCE * quad + q)
            step_market(market, book.recovery, work, q, t)
            keep_prices(work, paths, q, t)
            if hazards.n_fed_back > 0:
                for c in range(hazards.hazard.shape[1]):
                    if hazards.fed_back[c]:
                        step_hazard(hazards, work, q, c, t, work.mean_overhang[q])
                watch(book, work, seed, quad, q, t)
            step_deployments(book, work, seed, path, q, t)
            open_month(book, work, seed, path, q, t)
        for tile in range(lanes.tile_lanes.shape[0]):
            share_tile(book, work, t, tile)
            for q in range(low, high):
                if work.living[q, tile] > 0:
                    step_tile(book, work, seed, u64(PATHS_AT_ONCE * quad + q), q, t, tile)
        for q in range(low, high):
            mature(book, work, seed, u64(PATHS_AT_ONCE * quad + q), q, t)
            sell_due(book, work, q, t)
    for q in range(low, high):
        for t in range(market.horizon + 1, market.n_months + 1):
            if work.open_sales[q] == 0:
                break
            step_market(market, book.recovery, work, q, t)
            sell_due(book, work, q, t)


@_loop
def run_four(book: Any, work: Any, paths: Any, seed: Any, quad: Any, low: int, high: int) -> None:
    """Every default of up to four neighbouring paths."""
    market, hazards = book.market, book.hazards
    work.group[:] = -1
    draw_demand(market, work, seed, quad, low, high)
    draw_factors(hazards, work, seed, quad, low, high)
    start_hazards(hazards, work, market.horizon, low, high)
    needs_market = book.loans.key.shape[0] > 0 or hazards.n_fed_back > 0 or paths.prices.shape[0] > 0
    if needs_market:
        draw_prices(market, work, seed, quad, low, high)
        reset(book, work, low, high)
    decide(book, work, seed, quad, low, high, 0)
    if needs_market:
        draw_watched(book, work, seed, quad, low, high)
        run_months(book, work, paths, seed, quad, low, high)
        decide(book, work, seed, quad, low, high, 1)


def run_paths(
    book: Any, work: Any, paths: Any, sums: Any, seed: Any, first_path: Any, n_paths: int, row: int, stop: Any
) -> int:
    """Paths first_path … into rows row … of the columns; how many were done before `stop` was set."""
    done = 0
    while done < n_paths and stop[0] == 0:
        path = first_path + u64(done)
        low = int(path & u64(3))
        count = min(PATHS_AT_ONCE - low, n_paths - done)
        work.n_events[0] = 0
        work.row[0] = row + done - low
        run_four(book, work, paths, seed, i64(path >> PATHS_APART), low, low + count)
        add_defaults(work.events, work.n_events[0], work.row[0], paths, book.groups, sums)
        close_paths(sums)
        done += count
    return done
