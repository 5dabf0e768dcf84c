"""The market of the engine numba-cuda: what no feedback reaches, for all months at once, then prices month by month."""

from __future__ import annotations

from typing import Any

from ..paths.arithmetic import ONE, ZERO, at_score, exp, log
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
from ..paths.obligors import H_0, accumulated, log_accumulated
from ..paths.philox import FACTOR, LAUNCH, MARKET, MIXING, SPOT, chosen, draw, draw_four, event_word, normal
from ..paths.philox import GENERATION as OF_GENERATION
from ..paths.primitives import fma
from ..plan import FREE
from ..reference.market import MAX_LAUNCHES
from .numba_cuda_layout import (
    BASE_LOG_PRICE,
    CADENCE,
    DEMAND,
    DEMAND_BETA,
    DEMAND_PULL,
    DEMAND_SENSITIVITY,
    DEMAND_SHOCK,
    DEPTH_WEIGHT,
    FACTOR_SCALE,
    FIRST_DEMAND,
    FIRST_REGIME,
    FORCED_DEMAND,
    GAIN_MEAN,
    GAIN_SD,
    GENERATION,
    GENERATION_DECAY,
    GENERATION_SHOCK,
    HITS,
    HORIZON,
    HOURLY_COST,
    INVERSE_DEPTH,
    INVERSE_MIXING_OF,
    IS_T,
    JUMP_ANY,
    JUMP_DOWN,
    JUMPS,
    LAUNCH_FIRST,
    LAUNCH_IMPACT,
    LAUNCH_LAGS,
    MIXING_OF,
    N_FACTORS,
    N_FAMILIES,
    N_GENERATIONS,
    N_MONTHS,
    OVERHANG_DECAY,
    OVERHANG_IMPACT,
    OVERHANG_SENSITIVITY,
    OWN_WEIGHT,
    PREMIUM,
    PRICE_FLOOR,
    RAMP_INVERSE,
    SCRAP,
    SPOT_DECAY,
    SPOT_KEEP,
    SPOT_PREMIUM,
    SPOT_SHOCK,
    USED,
    USED_HIGH,
    USED_LEVEL,
    USED_LOW,
    USED_SLOPE,
    VINTAGE,
)
from .numba_cuda_memory import CONTRACT, OVERHANG, RENT, SPOT_INCOME, f32, i32, i64, path_of, u64

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
