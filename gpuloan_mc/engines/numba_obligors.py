"""Who defaults when, compiled: a tile of obligors over lanes, then those below their bound one by one."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..paths.arithmetic import ONE, ZERO, at_score, clip
from ..paths.loans import PARENT
from ..paths.obligors import (
    group_threshold,
    highest_quality,
    least_loading,
    rank_bound,
    threshold,
    with_slack,
)
from ..paths.philox import LOAN, LOW32, OBLIGOR, draw, normal, philox, rank
from ..paths.primitives import fma, lowest_byte, prefetch
from .numba_abreast import PATHS_AT_ONCE
from .numba_cash import stop_plain
from .numba_draws import make_normals
from .numba_layout import (
    COLUMN,
    COMMITMENT,
    END_LOAN,
    FIRST_LOAN,
    INDEX,
    KEPT_SHARE,
    LGD,
    LGD_TABLE,
    OPENING,
    PARTY,
    TERM,
    TILE,
)
from .numba_memory import AT_TILE, INFINITE, NEVER, compiled_loop, emit, is_pooled, is_recorded, month_lane

i32, i64, u8, u32, u64 = np.int32, np.int64, np.uint8, np.uint32, np.uint64

OBLIGOR_PLACE = OBLIGOR << u64(8)


@compiled_loop
def tile_words(key_low: Any, key_high: Any, words: Any, first: Any, n: int, seed: Any, quad: Any) -> None:
    """(1.6) the words of a tile of obligors for four paths: words[q * TILE + lane]. Vectorises."""
    low, high = seed & LOW32, seed >> u64(32)
    counter, place = u64(quad) & LOW32, (u64(quad) >> u64(32)) | OBLIGOR_PLACE
    for i in range(n):
        lane = u64(i)
        w = philox(counter, place, key_low[first + lane], key_high[first + lane], low, high)
        words[lane] = u32(w[0])
        words[AT_TILE + lane] = u32(w[1])
        words[AT_TILE + AT_TILE + lane] = u32(w[2])
        words[AT_TILE + AT_TILE + AT_TILE + lane] = u32(w[3])


@compiled_loop
def compare_words(words: Any, bounds: Any, below: Any) -> None:
    """Whose rank does not exceed its bound, all lanes of four paths. Vectorises."""
    for i in range(PATHS_AT_ONCE * TILE):
        lane = u64(i)
        w = words[lane]
        flip = u32(0x80000000) if w >= u32(0x80000000) else u32(0xFFFFFFFF)
        below[lane] = u8(1) if (w ^ flip) <= bounds[lane] else u8(0)


@compiled_loop
def common_part(loadings: Any, row: int, factors: Any, q: int) -> Any:
    """(3.3) ã·n."""
    total = ZERO
    for k in range(loadings.shape[1]):
        total = fma(loadings[row, k], factors[q, k], total)
    return total


@compiled_loop
def threshold_of_group(hazards: Any, obligors: Any, work: Any, p: int, c: int, q: int, t: int) -> Any:
    """(3.6) of the group to which position p belongs, in month t."""
    return group_threshold(
        hazards.latent_table,
        work.log_hazard[c, month_lane(t, q)],
        obligors.log_scale[p],
        work.mixing[q, 1],
        common_part(obligors.loadings, p, work.factors, q),
        obligors.inverse_residual[p],
    )


@compiled_loop
def bound_of_run(hazards: Any, obligors: Any, work: Any, run: int, q: int, horizon: int) -> Any:
    """A rank that nobody of the run who defaults by the horizon exceeds."""
    c = obligors.run_class[run]
    if obligors.run_group[run] >= 0:
        take_group(work, q, obligors.run_group[run])
        return with_slack(group_month_threshold(hazards, obligors, work, obligors.run_first[run], c, q, horizon))
    quality = highest_quality(
        hazards.log_hazard_table, hazards.is_t_copula, work.log_hazard[c, month_lane(horizon, q)] + obligors.run_log_scale[run]
    )
    common = ZERO
    for k in range(hazards.n_factors):
        n = work.factors[q, k]
        common = fma(least_loading(obligors.run_low[run, k], obligors.run_high[run, k], n), n, common)
    return rank_bound(
        quality, work.mixing[q, 0], common, obligors.run_residual_low[run], obligors.run_residual_high[run]
    )


@compiled_loop
def own_threshold(hazards: Any, obligors: Any, work: Any, p: int, q: int, n: Any) -> Any:
    """(3.3), (3.4) θ of an obligor decided by its own normal."""
    return threshold(
        hazards.log_hazard_table,
        hazards.is_t_copula,
        work.mixing[q, 0],
        obligors.residual[p],
        n,
        common_part(obligors.loadings, p, work.factors, q),
        obligors.log_scale[p],
    )


@compiled_loop
def own_month(hazards: Any, obligors: Any, work: Any, p: int, c: int, q: int, w: Any, horizon: int) -> Any:
    """(3.5) first month with ln H ≥ θ, by search: ln H never falls."""
    theta = own_threshold(hazards, obligors, work, p, q, normal(w))
    below, above = 1, horizon + 1
    while below < above:
        middle = (below + above) // 2
        if work.log_hazard[c, month_lane(middle, q)] >= theta:
            above = middle
        else:
            below = middle + 1
    return i32(below) if below <= horizon else NEVER


@compiled_loop
def group_month_threshold(hazards: Any, obligors: Any, work: Any, p: int, c: int, q: int, t: int) -> Any:
    """The threshold of month t of the group at hand, computed once."""
    known = work.group_months[q, t]
    if known < 0:
        known = i64(threshold_of_group(hazards, obligors, work, p, c, q, t))
        work.group_months[q, t] = known
    return u64(known)


@compiled_loop
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


@compiled_loop
def take_group(work: Any, q: int, group: Any) -> None:
    """The group whose thresholds are kept; its obligors lie together."""
    if work.group[q] != group:
        work.group[q] = group
        for t in range(work.group_months.shape[1]):
            work.group_months[q, t] = -1


@compiled_loop
def fill(values: Any, first: int, end: int, value: Any) -> None:
    for i in range(first, end):
        values[u64(i)] = value


@compiled_loop
def set_bounds(hazards: Any, obligors: Any, work: Any, tile: int, low: int, high: int, horizon: int) -> None:
    """The bound of every lane of a tile and of the paths at hand."""
    first = obligors.tile_first[tile]
    for q in range(low, high):
        for run in range(obligors.tile_run[tile], obligors.tile_run[tile + 1]):
            bound = u32(bound_of_run(hazards, obligors, work, run, q, horizon))
            start = q * TILE - first
            fill(work.bounds, start + obligors.run_first[run], start + obligors.run_first[run + 1], bound)


@compiled_loop
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


@compiled_loop
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


@compiled_loop
def obligor_defaults(book: Any, work: Any, seed: Any, quad: Any, q: int, p: int, month: Any) -> None:
    """An obligor's default: a party of GPU loans is noted for its month, its plain loans default."""
    plain, facts = book.plain, book.obligors.facts
    if is_recorded(work):
        work.record.default_months[work.row[0] + q, facts[p, COLUMN]] = month
    party = facts[p, PARTY]
    if party >= 0:
        work.months[q, party] = month
        work.hit_next[q, party] = work.hit_head[q, month]
        work.hit_head[q, month] = party
    for loan in range(facts[p, FIRST_LOAN], facts[p, END_LOAN]):
        if month <= min(plain.facts[loan, TERM], book.market.horizon):
            plain_default(plain, work, seed, quad, q, loan, month)


@compiled_loop
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
    if is_pooled(work):
        stop_plain(work, q, loan, month, i64(np.rint(ead)), i64(lost))


@compiled_loop
def draw_watched(book: Any, work: Any, seed: Any, quad: Any, low: int, high: int) -> None:
    """θ of parties whose hazards the book's own chips move."""
    hazards, obligors = book.hazards, book.obligors
    start, end = obligors.phase_first[2], obligors.phase_first[3]
    for first in range(start, end, TILE):
        n = min(end - first, TILE)
        tile_words(obligors.key_low, obligors.key_high, work.words, u64(first), n, seed, quad)
        for q in range(low, high):
            make_normals(work, work.words, u64(q * TILE), work.party_normals, u64(0), u64((n + 7) // 8 * 8))
            for i in range(n):
                p, normal_of_party = first + i, work.party_normals[u64(i)]
                work.threshold[q, p - start] = own_threshold(hazards, obligors, work, p, q, normal_of_party)


@compiled_loop
def watch(book: Any, work: Any, seed: Any, quad: Any, q: int, t: int) -> None:
    """(3.5) watched parties that default in month t."""
    hazards, obligors = book.hazards, book.obligors
    start = obligors.phase_first[2]
    for c in range(hazards.hazard.shape[1]):
        if not hazards.fed_back[c]:
            continue
        level = work.log_hazard[c, month_lane(t, q)]
        for p in range(obligors.watched_class[c], obligors.watched_class[c + 1]):
            if level >= work.threshold[q, p - start]:
                work.threshold[q, p - start] = INFINITE
                obligor_defaults(book, work, seed, quad, q, p, i32(t))
