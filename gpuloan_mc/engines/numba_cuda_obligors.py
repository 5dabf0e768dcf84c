"""Obligors of the engine numba-cuda: bounds, default months ahead of the walk, and those watched month by month."""

from __future__ import annotations

from typing import Any

from ..paths.arithmetic import ONE, ZERO, at_score, clip
from ..paths.loans import PARENT as BY_PARENT
from ..paths.obligors import group_threshold, highest_quality, least_loading, rank_bound, threshold, with_slack
from ..paths.philox import LOAN, OBLIGOR, chosen, draw, draw_four, normal, rank
from ..paths.primitives import fma, nearest
from .numba_cuda_layout import (
    CLASS,
    END_PLAIN,
    FIRST_PLAIN,
    GROUP,
    HORIZON,
    INVERSE_RESIDUAL,
    IS_T,
    LAUNCH_LAGS,
    LOG_SCALE,
    N_FAMILIES,
    NEVER,
    PARTY,
    RESIDUAL,
    RESIDUAL_HIGH,
    RESIDUAL_LOW,
    RUN,
    RUN_CLASS,
    RUN_FIRST,
    RUN_GROUP,
    RUN_LOG_SCALE,
)
from .numba_cuda_memory import emit, f64, i32, i64, path_of, u32, u64
from .numba_layout import COMMITMENT, LGD, LGD_TABLE, OPENING
from .numba_layout import INDEX as PLAIN_INDEX
from .numba_layout import KEPT_SHARE as PLAIN_KEPT
from .numba_layout import TERM as PLAIN_TERM


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
