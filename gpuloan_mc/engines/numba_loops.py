"""The compiled loops of the numba engine: four neighbouring paths at a time, loans and obligors over lanes.

Every formula is a path function of gpuloan_mc/paths; here and in the files of its topics is only what is iterated over
what. Rare events (defaults, contract ends, sales) are scalar code reached through lists and flags, never a branch in a
lane loop.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..paths.tally import add_defaults, close_paths
from .numba_abreast import PATHS_AT_ONCE
from .numba_call import call_months
from .numba_cash import add_balances, loans_in, start_cash
from .numba_contracts import first_ends, later_ends, lose_tenants
from .numba_hazards import start_hazards, step_hazards
from .numba_layout import SCRATCH
from .numba_loans import mature, open_month, put_in_service, share_tile, step_tile
from .numba_market import draw_demand, draw_factors, draw_prices
from .numba_memory import NEVER, NOBODY, compiled_loop, is_pooled, is_recorded
from .numba_obligors import decide, draw_watched, watch
from .numba_prices import keep_prices, record_market, start_prices, step_market
from .numba_recovery import sell_due

i64, u8, u64 = np.int64, np.uint8, np.uint64

PATHS_APART = u64(2)


@compiled_loop
def copy_from(to: Any, at: Any, source: Any) -> None:
    for i in range(source.shape[0]):
        to[at + u64(i)] = source[u64(i)]


@compiled_loop
def copy_rows(to: Any, source: Any) -> None:
    for i in range(source.shape[0]):
        for k in range(source.shape[1]):
            to[u64(i), u64(k)] = source[u64(i), u64(k)]


@compiled_loop
def fill_row(rows: Any, row: int, value: Any) -> None:
    for k in range(rows.shape[1]):
        rows[row, u64(k)] = value


@compiled_loop
def clear(row: Any) -> None:
    for i in range(row.shape[0]):
        row[u64(i)] = 0


@compiled_loop
def reset(book: Any, work: Any, low: int, high: int) -> None:
    """Month 0 of GPU loans."""
    lanes = book.lanes
    copy_from(work.arena, u64(SCRATCH), lanes.template)
    copy_rows(work.contract, lanes.contracts)
    clear(work.month)
    clear(work.released)
    for q in range(low, high):
        fill_row(work.months, q, NEVER)
        fill_row(work.hit_head, q, NOBODY)
        fill_row(work.due_head, q, NOBODY)
        fill_row(work.sale_head, q, NOBODY)
        fill_row(work.tenant_lost, q, u8(0))
        work.open_sales[q] = 0
        for tile in range(lanes.tile_lanes.shape[0]):
            work.living[q, tile] = loans_in(lanes, tile)


def run_months(book: Any, work: Any, paths: Any, seed: Any, quad: Any, low: int, high: int) -> None:
    """Months 1 … T of four paths: (a) market, (b) obligors, (c) deployments, (d) loans, (e) sales.

    One of two halves that are compiled apart (`numba_halves`); the other calls it by its address.
    """
    market, hazards, lanes, abreast = book.market, book.hazards, book.lanes, book.abreast
    recorded, pooled = is_recorded(work), is_pooled(work)
    if paths.prices.shape[0] > 0 or recorded:
        start_prices(market, abreast, book.recovery, work)
        for q in range(low, high):
            keep_prices(market, work, paths, q, 0)
            if recorded:
                record_market(market, work, q, 0)
    for t in range(1, market.horizon + 1):
        put_in_service(book, work, t)
        step_market(market, abreast, book.recovery, work, t)
        step_hazards(abreast, work, t)
        for q in range(low, high):
            keep_prices(market, work, paths, q, t)
            if hazards.n_fed_back > 0:
                watch(book, work, seed, quad, q, t)
            lose_tenants(book, work, q, t)
        first_ends(book, work, seed, quad, low, high, t)
        for q in range(low, high):
            path = u64(PATHS_AT_ONCE * quad + q)
            later_ends(book, work, seed, quad, q, t)
            open_month(book, work, seed, path, q, t)
        for tile in range(lanes.tile_lanes.shape[0]):
            share_tile(book, work, t, tile)
            for q in range(low, high):
                if work.living[q, tile] > 0:
                    step_tile(book, work, seed, u64(PATHS_AT_ONCE * quad + q), q, t, tile)
        for q in range(low, high):
            mature(book, work, seed, u64(PATHS_AT_ONCE * quad + q), q, t)
            if pooled:
                add_balances(book, work, q, t)
            sell_due(book, work, q, t)
            if recorded:
                record_market(market, work, q, t)
    for t in range(market.horizon + 1, market.n_months + 1):
        if not recorded and not any_open(work, low, high):
            break
        step_market(market, abreast, book.recovery, work, t)
        for q in range(low, high):
            sell_due(book, work, q, t)
            if recorded:
                record_market(market, work, q, t)


@compiled_loop
def any_open(work: Any, low: int, high: int) -> Any:
    """Whether a sale is still to come on one of the paths."""
    count = 0
    for q in range(low, high):
        count += work.open_sales[q]
    return count > 0


@compiled_loop
def run_four(months: Any, book: Any, work: Any, paths: Any, seed: Any, quad: Any, low: int, high: int) -> None:
    """Every default of up to four neighbouring paths. `months`: where `run_months` lies."""
    market, hazards = book.market, book.hazards
    for q in range(PATHS_AT_ONCE):
        work.group[q] = -1
    start_cash(work, low, high)
    draw_demand(market, work, seed, quad)
    draw_factors(hazards, work, seed, quad, low, high)
    start_hazards(hazards, book.abreast, work, market.horizon)
    asked_for = paths.prices.shape[0] > 0 or is_recorded(work)
    needs_market = book.loans.key.shape[0] > 0 or hazards.n_fed_back > 0 or asked_for
    if needs_market:
        draw_prices(market, book.abreast, work, seed, quad, low, high)
        reset(book, work, low, high)
    decide(book, work, seed, quad, low, high, 0)
    if needs_market:
        draw_watched(book, work, seed, quad, low, high)
        call_months(months, book, work, paths, seed, quad, low, high)
        decide(book, work, seed, quad, low, high, 1)


def run_paths(
    months: Any, book: Any, work: Any, paths: Any, sums: Any, seed: Any, first_path: Any, n_paths: int, row: int, stop: Any
) -> int:
    """Paths first_path … into rows row … of the columns; how many were done before `stop` was set. `months`: as above."""
    done = 0
    while done < n_paths and stop[0] == 0:
        path = first_path + u64(done)
        low: Any = i64(path & u64(3))
        count = min(PATHS_AT_ONCE - low, n_paths - done)
        work.n_events[0] = 0
        work.row[0] = row + done - low
        run_four(months, book, work, paths, seed, i64(path >> PATHS_APART), low, low + count)
        add_defaults(work.events, work.n_events[0], work.row[0], paths, book.groups, sums)
        close_paths(sums)
        done += count
    return done
