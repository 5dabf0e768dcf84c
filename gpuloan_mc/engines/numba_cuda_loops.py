"""The kernel of the engine numba-cuda: what is iterated over what, on a GPU. Formulas are path functions, as twins.

A block walks four neighbouring paths, for one Philox call serves four where a draw needs one word. Its threads share out
(path, month), (path, class), (path, run), obligors and (path, loan); a thread keeps its loan's cash, contracts and sale, so
paths meet only at the chips released in a month: integers, added atomically. Between stages the block waits.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..paths.arithmetic import ONE, ZERO, at_score, clip, exp, log
from ..paths.loans import PARENT as BY_PARENT
from ..paths.loans import (
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
    least_loading,
    log_accumulated,
    rank_bound,
    threshold,
    with_slack,
)
from ..paths.path import to_cents
from ..paths.philox import (
    FACTOR,
    LAUNCH,
    LOAN,
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
    rank,
)
from ..paths.philox import GENERATION as OF_GENERATION
from ..paths.primitives import fma, nearest
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
from ..plan import FREE, REPAID_BELOW
from ..reference.market import MAX_LAUNCHES
from .numba_cuda_layout import (
    ALLOWED,
    BALANCE,
    BALANCE_LEFT,
    BASE_LOG_PRICE,
    BASE_RATE,
    CADENCE,
    CHIP_DISCOUNT,
    CLAIM_RECOVERY,
    CLASS,
    CONTRACT_ANNUITY,
    CONTRACT_END,
    CONTRACT_RATE,
    COST_GROWTH,
    COVENANT,
    DEFAULT_CAUSE,
    DEFAULT_MONTH,
    DEMAND,
    DEMAND_BETA,
    DEMAND_PULL,
    DEMAND_SENSITIVITY,
    DEMAND_SHOCK,
    DEPTH_WEIGHT,
    DRAW_MONTH,
    EAD_OF,
    END,
    END_DEPLOYMENT,
    END_PLAIN,
    FACTOR_SCALE,
    FIRST_DEMAND,
    FIRST_DEPLOYMENT,
    FIRST_MONTH,
    FIRST_PLAIN,
    FIRST_REGIME,
    FLAGS,
    FLOATING,
    FORCED_DEMAND,
    GAIN_MEAN,
    GAIN_SD,
    GENERATION,
    GENERATION_DECAY,
    GENERATION_SHOCK,
    GROUP,
    HAIRCUT_OF,
    HAIRCUTS,
    HITS,
    HORIZON,
    HOURLY_COST,
    HOURLY_OPEX,
    HOURS,
    IN_SERVICE,
    INDEX,
    INVERSE_ANNUITY,
    INVERSE_DEPTH,
    INVERSE_MIXING_OF,
    INVERSE_RESIDUAL,
    IS_T,
    JUMP_ANY,
    JUMP_DOWN,
    JUMPS,
    KEPT_SHARE,
    LAG_MAX,
    LAUNCH_FIRST,
    LAUNCH_IMPACT,
    LAUNCH_LAGS,
    LENDER_DISCOUNT,
    LOCKUP,
    LOG_SCALE,
    LTV_CAP,
    MARGIN,
    MIXING_OF,
    MOST_GENERATIONS,
    N_FACTORS,
    N_FAMILIES,
    N_FED_BACK,
    N_GENERATIONS,
    N_LOANS,
    N_MONTHS,
    NEVER,
    OPEX,
    OPEX_STRESS,
    OVERHANG_DECAY,
    OVERHANG_IMPACT,
    OVERHANG_SENSITIVITY,
    OWN_WEIGHT,
    PAID_SHARE,
    PARENT,
    PARTY,
    PATHS_AT_ONCE,
    PERFORMANCE,
    PREMIUM,
    PRICE_FLOOR,
    PULLED_IN,
    RAMP_INVERSE,
    REFINANCE,
    RENEWAL_KEEP,
    RENEWAL_TERM,
    RESERVE,
    RESERVE_LEFT,
    RESERVE_MONTHS,
    RESIDUAL,
    RESIDUAL_HIGH,
    RESIDUAL_LOW,
    REST_OF,
    RUN,
    RUN_CLASS,
    RUN_FIRST,
    RUN_GROUP,
    RUN_LOG_SCALE,
    SALE_KEEP,
    SALE_LAGS,
    SALE_MONTH,
    SALE_PRESSURE,
    SCRAP,
    SOLD,
    SPOT_DECAY,
    SPOT_KEEP,
    SPOT_PREMIUM,
    SPOT_SHOCK,
    START,
    STATUS,
    STEP_IN,
    STORAGE_SHARE,
    SUPPORT,
    SUPPORT_LEFT,
    SWEEP,
    TENANT,
    TENANT_LOST,
    TERM,
    UNDRAWN,
    UNIT_SHARE,
    UNITS,
    USED,
    USED_HIGH,
    USED_LEVEL,
    USED_LOW,
    USED_SLOPE,
    VINTAGE,
)
from .numba_layout import COMMITMENT, LGD, LGD_TABLE, OPENING
from .numba_layout import INDEX as PLAIN_INDEX
from .numba_layout import KEPT_SHARE as PLAIN_KEPT
from .numba_layout import TERM as PLAIN_TERM
from .twins import DEVICE

cuda: Any = DEVICE  # the target's module in the twins

f32, f64, i32, i64, u32, u64 = np.float32, np.float64, np.int32, np.int64, np.uint32, np.uint64

DEAD, WAITING = i32(-1), i32(-2)  # in the place of a loan's breaches
LET, CLAIM, RELEASED = i32(1), i32(2), i32(4)
NO_MONTH, ONE_MORE, ONE_LESS = i32(0), i32(1), i32(-1)
FOUR_BITS = u64(3)
QUAD_SHIFT = u64(2)
ALL_QUALITIES = f32(1e6)

# rows of a path's generations in shared memory
OVERHANG, CONTRACT, RENT, SPOT_INCOME, SPOT_PRICE = range(5)
GENERATION_SHAPE = (PATHS_AT_ONCE, 5, MOST_GENERATIONS)
RELEASED_SHAPE = (PATHS_AT_ONCE, MOST_GENERATIONS)


class Here(NamedTuple):
    """Where a thread is: its block's paths 4·quad + low … 4·quad + high - 1, their slots, and its part of the work."""

    seed: Any
    quad: Any  # uint64
    low: Any
    high: Any
    slot: Any  # of path 4·quad
    row: Any  # of path 4·quad in the results, maybe negative
    thread: Any
    n_threads: Any


class Shared(NamedTuple):
    """What a block's threads share on the chip."""

    generation: Any  # (4, 5, MOST_GENERATIONS)
    mean_overhang: Any  # (4,)
    released: Any  # (4, MOST_GENERATIONS) int32 chips of this month
    open_sales: Any  # (4,) int32


class Results(NamedTuple):
    """Where defaults and prices go."""

    events: Any  # (capacity, EVENT_FIELDS) int64
    n_events: Any  # (1,) int64 defaults seen, more than the capacity when some found no place
    prices: Any  # (paths, H + 1, 2, G), no rows where they are not asked for


def path_of(here: Any, q: Any) -> Any:
    """Number of a path among the four."""
    return (here.quad << QUAD_SHIFT) + u64(q)


# --- what no feedback reaches -----------------------------------------------------------------------------------------


def draw_demand_words(book: Any, work: Any, here: Any, market: Any) -> None:
    """(2.1)-(2.4) every month's draws. Until the chains are walked, USED holds jumps and `outside` correlated normals."""
    n_months, n_generations = book.whole[N_MONTHS], book.whole[N_GENERATIONS]
    for i in range(here.low * n_months + here.thread, here.high * n_months, here.n_threads):
        q = i // n_months
        t, s, path = i - q * n_months + 1, here.slot + q, path_of(here, q)
        w = draw(here.seed, path, MARKET, u64(t), u64(0))
        work.regime[s, t] = event_word(w[0])
        work.by_month[s, DEMAND, t] = normal(w[1])
        u, jump = event_word(w[2]), ZERO
        if u < book.whole[JUMP_ANY]:
            size = at_score(book.scores[JUMPS], normal(w[3]))
            jump = -size if u < book.whole[JUMP_DOWN] else size
        work.by_month[s, USED, t] = jump
        if market:
            four = draw_four(here.seed, path, SPOT, u64(t), u64(0))
            work.by_month[s, PREMIUM, t] = normal(chosen(four, q))
            draw_generations(book, work, here, path, s, t, n_generations)


def draw_generations(book: Any, work: Any, here: Any, path: Any, s: Any, t: Any, n_generations: Any) -> None:
    """(2.4) a month's normals, correlated in place from the last generation on: each needs those before it."""
    for first in range(0, n_generations, 4):
        w = draw(here.seed, path, OF_GENERATION, u64(t), u64(first // 4))
        for g in range(first, min(first + 4, n_generations)):
            work.outside[s, t, g] = normal(chosen(w, g - first))
    for g in range(n_generations - 1, -1, -1):
        n = ZERO
        for h in range(g + 1):
            n = fma(book.cholesky[g, h], work.outside[s, t, h], n)
        work.outside[s, t, g] = n


def walk_demand(book: Any, work: Any, here: Any) -> None:
    """(2.1), (2.2) regimes and demand, F_0: a chain a path."""
    for q in range(here.low + here.thread, here.high, here.n_threads):
        s = here.slot + q
        regime, demand, total = book.whole[FIRST_REGIME], book.real[FIRST_DEMAND], ZERO
        work.regime[s, 0], work.by_month[s, DEMAND, 0] = regime, demand
        for t in range(1, book.whole[N_MONTHS] + 1):
            u, passed = work.regime[s, t], i32(0)
            for k in range(book.regimes.shape[1] - 1):
                passed += i32(u >= book.regimes[regime, k])
            regime = i32(passed)
            n, jump = work.by_month[s, DEMAND, t], work.by_month[s, USED, t]
            demand = next_demand(
                demand, book.regime_means[regime], book.real[DEMAND_PULL], book.real[DEMAND_SHOCK], n, jump
            )
            if book.by_month[FORCED_DEMAND, t] != FREE:
                demand = book.by_month[FORCED_DEMAND, t]
            work.regime[s, t], work.by_month[s, DEMAND, t] = regime, demand
            if t <= book.whole[HORIZON]:
                total = total + n
        work.factors[s, 0] = total * book.real[FACTOR_SCALE]
        draw_factors(book, work, here, s, q)


def draw_factors(book: Any, work: Any, here: Any, s: Any, q: Any) -> None:
    """(3.3) the other credit factors and the mixing variable."""
    n_factors, place = book.whole[N_FACTORS], work.factors.shape[1] - 2
    for first in range(0, n_factors, 4):
        if n_factors > 1:
            w = draw(here.seed, path_of(here, q), FACTOR, u64(0), u64(first // 4))
            for k in range(max(first, 1), min(first + 4, n_factors)):
                work.factors[s, k] = normal(chosen(w, k - first))
    mixing, inverse = ONE, ONE
    if book.whole[IS_T] != 0:
        n = normal(chosen(draw_four(here.seed, path_of(here, q), MIXING, u64(0), u64(0)), q))
        mixing, inverse = at_score(book.scores[MIXING_OF], n), at_score(book.scores[INVERSE_MIXING_OF], n)
    work.factors[s, place], work.factors[s, place + 1] = mixing, inverse


def walk_generations(book: Any, work: Any, here: Any) -> None:
    """(2.3), (2.4) χ and X_g, a chain each; (2.6) launches. After the last generation come χ and the families."""
    n_generations, n_families = book.whole[N_GENERATIONS], book.whole[N_FAMILIES]
    n = n_generations + 1 + n_families
    for i in range(here.low * n + here.thread, here.high * n, here.n_threads):
        q = i // n
        g, s = i - q * n, here.slot + q
        if g < n_generations:
            x = ZERO
            work.outside[s, 0, g] = x
            for t in range(1, book.whole[N_MONTHS] + 1):
                x = decayed(
                    x, book.real[GENERATION_DECAY], book.of_generation[GENERATION_SHOCK, g], work.outside[s, t, g]
                )
                work.outside[s, t, g] = x
        elif g == n_generations:
            walk_premium(book, work, s)
        else:
            draw_launches(book, work, here, s, q, g - n_generations - 1)


def walk_premium(book: Any, work: Any, s: Any) -> None:
    """(2.3) s_0 + χ."""
    chi, premium = ZERO, book.real[SPOT_PREMIUM]
    work.by_month[s, PREMIUM, 0] = premium + chi
    for t in range(1, book.whole[N_MONTHS] + 1):
        chi = decayed(chi, book.real[SPOT_DECAY], book.real[SPOT_SHOCK], work.by_month[s, PREMIUM, t])
        work.by_month[s, PREMIUM, t] = premium + chi


def draw_launches(book: Any, work: Any, here: Any, s: Any, q: Any, family: Any) -> None:
    """(2.6) launches up to the last month; those after it have no effect."""
    month, last = book.of_family[LAUNCH_FIRST, family], f32(book.whole[N_MONTHS])
    for j in range(MAX_LAUNCHES):
        w = draw(here.seed, path_of(here, q), LAUNCH, u64(j), u64(family))
        if j > 0:
            lag = at_score(book.scores[LAUNCH_LAGS + family], normal(w[0]))
            month = (month + book.of_family[CADENCE, family]) + lag
        work.launches[s, 0, family, j] = month
        work.launches[s, 1, family, j] = launch_size(
            book.of_family[LAUNCH_IMPACT, family],
            book.of_family[GAIN_MEAN, family],
            book.of_family[GAIN_SD, family],
            normal(w[1]),
        )
        if month >= last:
            break


def obsolescence(book: Any, work: Any, s: Any, g: Any, t: Any) -> Any:
    """(2.5) Θ_g(t), a chain over the launches."""
    theta, last = ZERO, f32(book.whole[N_MONTHS])
    for family in range(book.whole[N_FAMILIES]):
        for j in range(MAX_LAUNCHES):
            month = work.launches[s, 0, family, j]
            ramp = launch_ramp(f32(t), month, book.of_family[RAMP_INVERSE, family])
            hit = book.of_generation[HITS + family, g] if j == 0 else ONE
            theta = fma(work.launches[s, 1, family, j] * hit, ramp, theta)
            if month >= last:
                break
    return theta


def settle_outside(book: Any, work: Any, here: Any) -> None:
    """(2.9) ln P before the overhang and (2.10), every month."""
    n = book.whole[N_MONTHS] + 1
    for i in range(here.low * n + here.thread, here.high * n, here.n_threads):
        q = i // n
        t, s = i - q * n, here.slot + q
        demand = work.by_month[s, DEMAND, t]
        work.by_month[s, USED, t] = utilisation(
            demand, book.real[USED_LEVEL], book.real[USED_SLOPE], book.real[USED_LOW], book.real[USED_HIGH]
        )
        for g in range(book.whole[N_GENERATIONS]):
            theta = ZERO
            if t > 0:
                theta = obsolescence(book, work, s, g, t)
            beta, base = book.of_generation[DEMAND_BETA, g], book.curves[BASE_LOG_PRICE, t, g]
            work.outside[s, t, g] = outside_log_price(demand, beta, base, work.outside[s, t, g], theta)


def step_hazard(book: Any, work: Any, s: Any, c: Any, t: Any, mean_overhang: Any) -> None:
    """(3.1) one class, one month."""
    cumulative = accumulated(
        work.cumulative[s, c],
        book.hazard[t, c],
        book.regime_shift[c, work.regime[s, t]],
        book.of_class[DEMAND_SENSITIVITY, c],
        work.by_month[s, DEMAND, t],
        book.of_class[OVERHANG_SENSITIVITY, c],
        mean_overhang,
    )
    work.cumulative[s, c] = cumulative
    work.log_hazard[s, c, t] = log_accumulated(cumulative, work.log_hazard[s, c, t - 1])


def start_hazards(book: Any, work: Any, here: Any) -> None:
    """(3.1) all months of the classes that the book's chips do not move; month 0 of the others."""
    n = book.fed_back.shape[0]
    for i in range(here.low * n + here.thread, here.high * n, here.n_threads):
        q = i // n
        c, s = i - q * n, here.slot + q
        work.cumulative[s, c] = H_0
        work.log_hazard[s, c, 0] = log(H_0)
        if book.fed_back[c] == 0:
            for t in range(1, book.whole[HORIZON] + 1):
                step_hazard(book, work, s, c, t, ZERO)


# --- obligors ---------------------------------------------------------------------------------------------------------


def common_part(loadings: Any, p: Any, factors: Any, s: Any) -> Any:
    """(3.3) ã·n."""
    total = ZERO
    for k in range(loadings.shape[1]):
        total = fma(loadings[p, k], factors[s, k], total)
    return total


def group_level(book: Any, work: Any, s: Any, p: Any, c: Any, t: Any) -> Any:
    """(3.6) threshold in month t of the group to which position p belongs."""
    return group_threshold(
        book.latent_table,
        work.log_hazard[s, c, t],
        book.obligor_reals[LOG_SCALE, p],
        work.factors[s, work.factors.shape[1] - 1],
        common_part(book.loadings, p, work.factors, s),
        book.obligor_reals[INVERSE_RESIDUAL, p],
    )


def own_level(book: Any, work: Any, s: Any, p: Any, w: Any) -> Any:
    """(3.3), (3.4) θ of an obligor decided by its own normal."""
    return threshold(
        book.log_hazard_table,
        book.whole[IS_T],
        work.factors[s, work.factors.shape[1] - 2],
        book.obligor_reals[RESIDUAL, p],
        normal(w),
        common_part(book.loadings, p, work.factors, s),
        book.obligor_reals[LOG_SCALE, p],
    )


def bound_of_run(book: Any, work: Any, s: Any, run: Any) -> Any:
    """A rank that nobody of the run who defaults by the horizon exceeds."""
    c, horizon = book.runs[RUN_CLASS, run], book.whole[HORIZON]
    if book.runs[RUN_GROUP, run] >= 0:
        return with_slack(group_level(book, work, s, book.runs[RUN_FIRST, run], c, horizon))
    level = work.log_hazard[s, c, horizon] + book.run_reals[RUN_LOG_SCALE, run]
    quality = highest_quality(book.log_hazard_table, book.whole[IS_T], level)
    common = ZERO
    for k in range(book.loadings.shape[1]):
        n = work.factors[s, k]
        common = fma(least_loading(book.run_low[run, k], book.run_high[run, k], n), n, common)
    mixing = work.factors[s, work.factors.shape[1] - 2]
    return rank_bound(quality, mixing, common, book.run_reals[RESIDUAL_LOW, run], book.run_reals[RESIDUAL_HIGH, run])


def set_bounds(book: Any, work: Any, here: Any) -> None:
    """The bound of every run; those of classes not yet known come out too low and are set again after the horizon."""
    n = book.runs.shape[1]
    for i in range(here.low * n + here.thread, here.high * n, here.n_threads):
        q = i // n
        run, s = i - q * n, here.slot + q
        work.bounds[s, run] = u32(bound_of_run(book, work, s, run))


def own_month(book: Any, work: Any, s: Any, p: Any, c: Any, w: Any) -> Any:
    """(3.5) first month with ln H ≥ θ, by search: ln H never falls."""
    theta, horizon = own_level(book, work, s, p, w), book.whole[HORIZON]
    below, above = i32(1), i32(horizon + 1)
    while below < above:
        middle = i32((below + above) // 2)
        if work.log_hazard[s, c, middle] >= theta:
            above = middle
        else:
            below = i32(middle + 1)
    return below if below <= horizon else NEVER


def grouped_month(book: Any, work: Any, s: Any, p: Any, c: Any, w: Any) -> Any:
    """(3.6) first month with rank < threshold.

    Thresholds rise but for rounding, so the month that the search finds may not be the first: the months before it
    follow as long as their thresholds lie within the slack of the rank.
    """
    place, horizon = rank(w), book.whole[HORIZON]
    below, above = i32(1), i32(horizon + 1)
    while below < above:
        middle = i32((below + above) // 2)
        if place < group_level(book, work, s, p, c, middle):
            above = middle
        else:
            below = i32(middle + 1)
    month = below
    for t in range(below - 1, 0, -1):
        bound = group_level(book, work, s, p, c, t)
        if place > with_slack(bound):
            break
        if place < bound:
            month = i32(t)
    return month if month <= horizon else NEVER


def decide(book: Any, work: Any, results: Any, here: Any, phase: int) -> None:
    """(3.5), (3.6) default months of a phase's obligors, whose hazards are known to the horizon."""
    for p in range(book.phase_first[phase] + here.thread, book.phase_first[phase + 1], here.n_threads):
        four = draw_four(here.seed, path_of(here, 0), OBLIGOR, u64(0), book.keys[p])
        run, c = book.obligors[RUN, p], book.obligors[CLASS, p]
        for q in range(here.low, here.high):
            w, s = chosen(four, q), here.slot + q
            if rank(w) <= u64(work.bounds[s, run]):
                if book.obligors[GROUP, p] >= 0:
                    month = grouped_month(book, work, s, p, c, w)
                else:
                    month = own_month(book, work, s, p, c, w)
                if month != NEVER:
                    obligor_defaults(book, work, results, here, q, p, month)


def obligor_defaults(book: Any, work: Any, results: Any, here: Any, q: Any, p: Any, month: Any) -> None:
    """An obligor's default: a party of GPU loans is noted with its month, its plain loans default."""
    party = book.obligors[PARTY, p]
    if party >= 0:
        work.months[here.slot + q, party] = month
    for loan in range(book.obligors[FIRST_PLAIN, p], book.obligors[END_PLAIN, p]):
        if month <= min(book.plain_facts[loan, PLAIN_TERM], book.whole[HORIZON]):
            plain_default(book, work, results, here, q, loan, month)


def plain_default(book: Any, work: Any, results: Any, here: Any, q: Any, loan: Any, month: Any) -> None:
    """(4) EAD is the scheduled balance, loss EAD × LGD; both float64 until they are cents."""
    table = book.plain_facts[loan, LGD_TABLE]
    ead = book.plain_amounts[loan, COMMITMENT] * book.plain_amounts[loan, OPENING + month]
    lgd = book.plain_amounts[loan, LGD]
    if table >= 0:
        w = draw(here.seed, path_of(here, q), LOAN, u64(0), book.keys[book.obligors.shape[1] + loan])
        systematic = book.plain_reals[0, loan] * work.factors[here.slot + q, 0]
        score = fma(book.plain_reals[1, loan], normal(w[0]), -systematic)
        lgds = book.scores[LAUNCH_LAGS + book.whole[N_FAMILIES] + table]
        lgd = f64(clip(at_score(lgds, score), ZERO, ONE))
    lost = nearest((ead * lgd) * book.plain_amounts[loan, PLAIN_KEPT])
    index = book.plain_facts[loan, PLAIN_INDEX]
    emit(results, here.row + q, index, month, BY_PARENT, i64(nearest(ead)), i64(lost))


def emit(results: Any, row: Any, loan: Any, month: Any, cause: Any, ead: Any, lost: Any) -> None:
    """One default; where no place is left it is counted, and the host asks again with more."""
    k = cuda.atomic.add(results.n_events, 0, i64(1))
    if k < results.events.shape[0]:
        results.events[k, 0] = i64(row)
        results.events[k, 1] = i64(loan)
        results.events[k, 2] = i64(month)
        results.events[k, 3] = i64(cause)
        results.events[k, 4] = i64(ead)
        results.events[k, 5] = i64(lost)


def draw_watched(book: Any, work: Any, here: Any) -> None:
    """θ of parties whose hazards the book's own chips move."""
    start = book.phase_first[2]
    for p in range(start + here.thread, book.phase_first[3], here.n_threads):
        four = draw_four(here.seed, path_of(here, 0), OBLIGOR, u64(0), book.keys[p])
        for q in range(here.low, here.high):
            work.theta[here.slot + q, p - start] = own_level(book, work, here.slot + q, p, chosen(four, q))


def watch(book: Any, work: Any, results: Any, here: Any, t: Any) -> None:
    """(3.5) watched parties that default in month t: ln H passes θ in it."""
    start = book.phase_first[2]
    n = book.phase_first[3] - start
    for i in range(here.low * n + here.thread, here.high * n, here.n_threads):
        q = i // n
        p, s = start + i - q * n, here.slot + q
        c, theta = book.obligors[CLASS, p], work.theta[s, p - start]
        if work.log_hazard[s, c, t] >= theta and (t == 1 or work.log_hazard[s, c, t - 1] < theta):
            obligor_defaults(book, work, results, here, q, p, i32(t))


# --- market by month --------------------------------------------------------------------------------------------------


def step_overhang(book: Any, shared: Any, here: Any, t: Any) -> None:
    """(2.7) of month t from the chips released in t-1."""
    n = book.whole[N_GENERATIONS]
    for i in range(here.low * n + here.thread, here.high * n, here.n_threads):
        q = i // n
        g = i - q * n
        chips = f32(i64(shared.released[q, g]) + book.calendar[t, g])
        shared.released[q, g] = 0
        shared.generation[q, OVERHANG, g] = next_overhang(
            shared.generation[q, OVERHANG, g], book.real[OVERHANG_DECAY], chips, book.curves[INVERSE_DEPTH, t, g]
        )


def step_prices(book: Any, work: Any, shared: Any, results: Any, here: Any, t: Any) -> None:
    """(2.8)-(2.11) of month t. Every thread adds up the mean overhang, in the order of generations. Month 0 has none."""
    n = book.whole[N_GENERATIONS]
    for i in range(here.low * n + here.thread, here.high * n, here.n_threads):
        q = i // n
        g, s, mean = i - q * n, here.slot + q, ZERO
        for h in range(n):
            mean = fma(book.curves[DEPTH_WEIGHT, t, h], shared.generation[q, OVERHANG, h], mean)
        if g == 0:
            shared.mean_overhang[q] = mean
        used = work.by_month[s, USED, t]
        logarithm = log_price(
            work.outside[s, t, g],
            shared.generation[q, OVERHANG, g],
            mean,
            book.real[OWN_WEIGHT],
            book.real[OVERHANG_IMPACT],
            book.curves[PRICE_FLOOR, t, g],
        )
        contract = exp(logarithm)
        spot = spot_price(logarithm, work.by_month[s, PREMIUM, t])
        shared.generation[q, CONTRACT, g] = contract
        shared.generation[q, RENT, g] = yearly_rent(contract, used, book.curves[HOURLY_COST, t, g], book.annuity[t, g])
        shared.generation[q, SPOT_INCOME, g] = spot_rate(spot, used, book.real[SPOT_KEEP])
        if results.prices.shape[0] > 0 and t <= book.whole[HORIZON]:
            results.prices[here.row + q, t, 0, g] = contract
            results.prices[here.row + q, t, 1, g] = spot


def step_fed_back(book: Any, work: Any, shared: Any, here: Any, t: Any) -> None:
    """(3.1) of the classes that the book's chips move."""
    n = book.fed_back.shape[0]
    for i in range(here.low * n + here.thread, here.high * n, here.n_threads):
        q = i // n
        c = i - q * n
        if book.fed_back[c] != 0:
            step_hazard(book, work, here.slot + q, c, t, shared.mean_overhang[q])


def value_of(book: Any, shared: Any, q: Any, t: Any, d: Any) -> Any:
    """(2.11) C_v of a deployment's chips."""
    g = book.deployments[GENERATION, d]
    cap = book.value_cap[t, book.deployments[VINTAGE, d]]
    return chip_value(shared.generation[q, RENT, g], cap, book.of_generation[SCRAP, g])


# --- deployments ------------------------------------------------------------------------------------------------------


def release(book: Any, work: Any, shared: Any, s: Any, q: Any, d: Any) -> None:
    """(2.7) chips count once a path. Blocks' threads add whole numbers, in any order."""
    if work.deployment[s, FLAGS, d] & RELEASED == 0:
        work.deployment[s, FLAGS, d] |= RELEASED
        cuda.atomic.add(shared.released, (q, book.deployments[GENERATION, d]), book.deployments[UNITS, d])


def end_contract(book: Any, work: Any, shared: Any, s: Any, q: Any, d: Any) -> None:
    """The contract is over and its chips come back."""
    work.deployment[s, FLAGS, d] &= ~LET
    release(book, work, shared, s, q, d)


def step_deployments(book: Any, work: Any, shared: Any, here: Any, q: Any, t: Any, loan: Any) -> None:
    """(5.1), (5.2) of a loan's deployments."""
    s = here.slot + q
    for d in range(book.loans[FIRST_DEPLOYMENT, loan], book.loans[END_DEPLOYMENT, loan]):
        if work.deployment[s, FLAGS, d] & LET != 0 and book.deployments[START, d] <= t:
            if work.months[s, book.deployments[TENANT, d]] <= t:
                work.deployment[s, FLAGS, d] |= CLAIM
                work.loan[s, TENANT_LOST, loan] = 1
                end_contract(book, work, shared, s, q, d)
            elif work.deployment[s, END, d] < t:
                renew(book, work, shared, here, q, t, d)


def renew(book: Any, work: Any, shared: Any, here: Any, q: Any, t: Any, d: Any) -> None:
    """(5.2) at the end of a contract."""
    s = here.slot + q
    key = book.keys[book.keys.shape[0] - book.deployments.shape[1] + d]
    w = chosen(draw_four(here.seed, path_of(here, q), RENEWAL, u64(t), key), q)
    if event_word(w) >= book.regimes[work.regime[s, t], book.regimes.shape[1] - 1]:
        end_contract(book, work, shared, s, q, d)
        return
    price = shared.generation[q, CONTRACT, book.deployments[GENERATION, d]]
    work.rate[s, d] = renewed_rate(price, book.real[RENEWAL_KEEP], book.real[PAID_SHARE])
    work.deployment[s, END, d] = i32(t - 1 + book.whole[RENEWAL_TERM])


# --- loans ------------------------------------------------------------------------------------------------------------


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


# --- paths ------------------------------------------------------------------------------------------------------------


def reset(book: Any, work: Any, shared: Any, here: Any) -> None:
    """Month 0."""
    n, n_parties = book.whole[N_LOANS], work.months.shape[1]
    for i in range(here.low * n_parties + here.thread, here.high * n_parties, here.n_threads):
        q = i // n_parties
        work.months[here.slot + q, i - q * n_parties] = NEVER
    for i in range(here.low * n + here.thread, here.high * n, here.n_threads):
        q = i // n
        reset_loan(book, work, here.slot + q, i - q * n)
    for i in range(here.thread, PATHS_AT_ONCE * MOST_GENERATIONS, here.n_threads):
        q = i // MOST_GENERATIONS
        shared.released[q, i - q * MOST_GENERATIONS] = 0
        shared.generation[q, OVERHANG, i - q * MOST_GENERATIONS] = ZERO
        shared.open_sales[q] = 0


def reset_loan(book: Any, work: Any, s: Any, loan: Any) -> None:
    """A loan and its deployments as the plan has them."""
    keep(work, s, loan, book.loan_reals[BALANCE, loan], book.loan_reals[RESERVE, loan], book.loan_reals[SUPPORT, loan])
    work.loan[s, STATUS, loan] = WAITING if book.loans[FIRST_MONTH, loan] > 1 else NO_MONTH
    work.loan[s, SALE_MONTH, loan] = NO_MONTH
    work.loan[s, TENANT_LOST, loan] = 0
    for d in range(book.loans[FIRST_DEPLOYMENT, loan], book.loans[END_DEPLOYMENT, loan]):
        work.deployment[s, FLAGS, d] = LET if book.deployments[TENANT, d] >= 0 else NO_MONTH
        work.deployment[s, END, d] = book.deployments[CONTRACT_END, d]
        work.rate[s, d] = book.deployment_reals[CONTRACT_RATE, d]


def run_months(book: Any, work: Any, shared: Any, results: Any, here: Any) -> None:
    """Months 1 … T of four paths: (a) market, (b) obligors, (c) deployments, (d) loans, (e) sales."""
    for t in range(1, book.whole[HORIZON] + 1):
        step_overhang(book, shared, here, t)
        cuda.syncthreads()
        step_prices(book, work, shared, results, here, t)
        cuda.syncthreads()
        if book.whole[N_FED_BACK] > 0:
            step_fed_back(book, work, shared, here, t)
            cuda.syncthreads()
            watch(book, work, results, here, t)
            cuda.syncthreads()
        step_loans(book, work, shared, results, here, t)
        cuda.syncthreads()
    for t in range(book.whole[HORIZON] + 1, book.whole[N_MONTHS] + 1):
        still_open = i32(0)
        for q in range(here.low, here.high):
            still_open += shared.open_sales[q]
        if still_open == 0:  # the same for all threads: nobody changes it before two more barriers
            break
        step_overhang(book, shared, here, t)
        cuda.syncthreads()
        step_prices(book, work, shared, results, here, t)
        cuda.syncthreads()
        sell_due(book, work, shared, results, here, t)
        cuda.syncthreads()


def run_four(book: Any, work: Any, shared: Any, results: Any, here: Any) -> None:
    """Every default of up to four neighbouring paths."""
    market = book.whole[N_LOANS] > 0 or book.whole[N_FED_BACK] > 0 or results.prices.shape[0] > 0
    draw_demand_words(book, work, here, market)
    reset(book, work, shared, here)
    cuda.syncthreads()
    walk_demand(book, work, here)
    if market:
        walk_generations(book, work, here)
    cuda.syncthreads()
    start_hazards(book, work, here)
    if market:
        settle_outside(book, work, here)
    cuda.syncthreads()
    set_bounds(book, work, here)
    cuda.syncthreads()
    if market and results.prices.shape[0] > 0:
        step_prices(book, work, shared, results, here, 0)
    if book.whole[N_FED_BACK] > 0:
        draw_watched(book, work, here)
    decide(book, work, results, here, 0)
    cuda.syncthreads()
    if market:
        run_months(book, work, shared, results, here)
    if book.phase_first[2] > book.phase_first[1]:  # their hazards are known only now
        set_bounds(book, work, here)
        cuda.syncthreads()
        decide(book, work, results, here, 1)
    cuda.syncthreads()


def run_paths(book: Any, work: Any, results: Any, seed: Any, first_path: Any, n_paths: Any) -> None:
    """Kernel: blocks take turns at the quads of paths first_path … first_path + n_paths - 1."""
    shared = Shared(
        cuda.shared.array(GENERATION_SHAPE, f32),
        cuda.shared.array(PATHS_AT_ONCE, f32),
        cuda.shared.array(RELEASED_SHAPE, i32),
        cuda.shared.array(PATHS_AT_ONCE, i32),
    )
    skipped = i64(first_path & FOUR_BITS)
    n_quads = (skipped + n_paths + PATHS_AT_ONCE - 1) // PATHS_AT_ONCE
    for k in range(i64(cuda.blockIdx.x), n_quads, i64(cuda.gridDim.x)):
        row = i64(PATHS_AT_ONCE * k - skipped)
        here = Here(
            seed,
            (first_path >> QUAD_SHIFT) + u64(k),
            max(i64(0), -row),
            min(i64(PATHS_AT_ONCE), n_paths - row),
            i64(PATHS_AT_ONCE * cuda.blockIdx.x),
            row,
            i64(cuda.threadIdx.x),
            i64(cuda.blockDim.x),
        )
        run_four(book, work, shared, results, here)
