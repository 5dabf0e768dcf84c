"""A month of the GPU loans, compiled: cash over the lanes of a tile, then the events that it flagged."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..paths.arithmetic import ONE, TWO, ZERO
from ..paths.loans import (
    PARENT,
    add_revenue,
    cause_of,
    debt_service,
    is_refinanced,
    is_short,
    monthly_rate,
    pay,
    shortfall,
)
from ..paths.philox import LOAN, draw, event_word
from ..paths.primitives import bits_float, fma, lowest_byte, prefetch
from ..paths.recovery import exposure
from ..plan import REPAID_BELOW
from .numba_abreast import SPOT
from .numba_cash import add_draw, add_due
from .numba_layout import (
    ALLOWED,
    COST,
    COVENANT,
    D_GENERATION,
    D_HOURLY_OPEX,
    D_HOURS,
    D_LET_PLACE,
    D_START,
    D_UNIT_SHARE,
    D_VINTAGE,
    DEAD,
    FLOATING,
    L_DRAW_MONTH,
    L_END,
    L_FIRST,
    L_KEY,
    L_PULLED_IN,
    L_REFINANCE,
    LOCKUP,
    MARGIN,
    MATURING,
    OTHER,
    PRINCIPAL,
    RATE,
    RESERVE_MONTHS,
    SHARED_ROWS,
    STATE_ROWS,
    SWEEP,
    TILE,
    WAITING,
)
from .numba_memory import (
    AT_BALANCE,
    AT_BREACHES,
    AT_RESERVE,
    AT_SUPPORT,
    INFINITE,
    NOBODY,
    compiled_loop,
    entity,
    hours_place,
    is_pooled,
    lane_place,
    month_place,
    shared_place,
    state_base,
    state_stride,
    tile_base,
)
from .numba_prices import value_of
from .numba_recovery import bury, default, rate_of

i32, i64, u8, u64 = np.int32, np.int64, np.uint8, np.uint64
THREE = np.float32(3)

REPAID = REPAID_BELOW
NO_FLAG, REPAID_FLAG, BROKEN_FLAG, SHORT_FLAG = i32(0), i32(1), i32(2), i32(4)
(
    AT_RATE,
    AT_PRINCIPAL,
    AT_COST,
    AT_RESERVE_MONTHS,
    AT_LOCKUP,
    AT_COVENANT,
    AT_ALLOWED,
    AT_SWEEP,
    AT_FLOATING,
    AT_MARGIN,
) = (
    u64(row * TILE)
    for row in (RATE, PRINCIPAL, COST, RESERVE_MONTHS, LOCKUP, COVENANT, ALLOWED, SWEEP, FLOATING, MARGIN)
)
AT_HOURS, AT_LET_RATE = u64(SHARED_ROWS * TILE), u64(STATE_ROWS * TILE)
AT_REVENUE, AT_UNLIMITED, AT_LIMIT = u64(0), u64(TILE), u64(2 * TILE)


@compiled_loop
def put_in_service(book: Any, work: Any, t: int) -> None:
    """Chips whose service begins in month t earn and cost from here on."""
    lanes, arena = book.lanes, work.arena
    for k in range(lanes.start_first[t], lanes.start_first[t + 1]):
        facts = lanes.deployment_facts[lanes.start[k]]
        place = hours_place(lanes, facts)
        arena[place] = bits_float(facts[D_HOURS])
        arena[place + u64(lanes.n_slots * TILE)] = bits_float(facts[D_HOURLY_OPEX])


@compiled_loop
def share_tile(book: Any, work: Any, t: int, tile: int) -> None:
    """What a month's paths share of a tile: rates, scheduled principal, cash cost. While it is in the cache anyway."""
    lanes, recovery, arena = book.lanes, book.recovery, work.arena
    base, n = tile_base(lanes, tile), lanes.tile_lanes[tile]
    share_rates(arena, lanes.principal, base, t, u64(tile * TILE), n, recovery.base_rate[t])
    for j in range(lanes.n_slots):
        share_cost(arena, base, base + u64((SHARED_ROWS + lanes.n_slots + j) * TILE), n, recovery.cost_growth[t])


@compiled_loop
def share_rates(arena: Any, principal: Any, base: Any, t: int, first: Any, n: int, base_rate: Any) -> None:
    """A month's rates and principal of a tile; its cost starts at 0."""
    row = principal[t]
    for i in range(n):
        lane = u64(i)
        arena[base + AT_RATE + lane] = monthly_rate(
            arena[base + AT_FLOATING + lane], base_rate, arena[base + AT_MARGIN + lane]
        )
        arena[base + AT_PRINCIPAL + lane] = row[first + lane]
        arena[base + AT_COST + lane] = ZERO


@compiled_loop
def share_cost(arena: Any, base: Any, opex: Any, n: int, growth: Any) -> None:
    """(5.3) one slot's cash cost joins."""
    for i in range(n):
        lane = u64(i)
        arena[base + AT_COST + lane] = fma(arena[opex + lane], growth, arena[base + AT_COST + lane])


@compiled_loop
def clear_revenue(arena: Any, n: int) -> None:
    for i in range(n):
        arena[AT_REVENUE + u64(i)] = ZERO


@compiled_loop
def add_slot(work: Any, hours: Any, let: Any, n: int, spot: Any) -> None:
    """(5.3) revenue of a tile's slot whose chips are of one generation. Vectorises."""
    scratch, terms, rows = work.scratch, work.terms, work.rows
    for i in range(n):
        lane = u64(i)
        scratch[AT_REVENUE + lane] = add_revenue(scratch[AT_REVENUE + lane], terms[hours + lane], rows[let + lane], spot)


@compiled_loop
def add_mixed_slot(work: Any, lanes: Any, k: int, hours: Any, let: Any, q: int) -> None:
    """(5.3) revenue of a tile's slot whose chips are of up to four generations, or of four among more. Vectorises."""
    scratch, terms, rows, codes, spots = work.scratch, work.terms, work.rows, lanes.pass_code, work.month
    g, at = lanes.pass_generation[u64(k)], u64(k * TILE)
    first, second = spots[month_place(SPOT, g[0], q)], spots[month_place(SPOT, g[1], q)]
    third, fourth = spots[month_place(SPOT, g[2], q)], spots[month_place(SPOT, g[3], q)]
    for i in range(lanes.pass_first[u64(k)], lanes.pass_end[u64(k)]):
        lane = u64(i)
        code = codes[at + lane]
        spot = (first if code < ONE else second) if code < TWO else (third if code < THREE else fourth)
        mine = terms[hours + lane] if code < OTHER else ZERO
        scratch[AT_REVENUE + lane] = add_revenue(scratch[AT_REVENUE + lane], mine, rows[let + lane], spot)


@compiled_loop
def pay_tile(work: Any, shared: Any, state: Any, limit: Any, n: int) -> Any:
    """(5.3)-(5.5) one month of a tile's loans on one path. Vectorises: selects, no branches, no integers but flags.

    A loan that defaults keeps what it opened with. Flags: 1 repaid, 2 covenant broken, 4 short of cash; all of them
    together are returned.
    """
    rows, terms, scratch, flags = work.rows, work.terms, work.scratch, work.flags
    seen = NO_FLAG
    for i in range(n):
        lane = u64(i)
        balance = rows[state + AT_BALANCE + lane]
        reserve = rows[state + AT_RESERVE + lane]
        support = rows[state + AT_SUPPORT + lane]
        breaches = rows[state + AT_BREACHES + lane]
        scheduled = terms[shared + AT_PRINCIPAL + lane]
        principal = balance if balance < scheduled else scheduled
        income = scratch[AT_REVENUE + lane] - terms[shared + AT_COST + lane]
        service = debt_service(balance, terms[shared + AT_RATE + lane], principal)
        on = breaches >= ZERO
        count = breaches + ONE if income < terms[shared + AT_COVENANT + lane] * service else ZERO
        short = is_short(shortfall(service, income), reserve, support)
        broken = count >= terms[shared + AT_ALLOWED + lane]
        locked = (income < terms[shared + AT_LOCKUP + lane] * service) | (balance > scratch[limit + lane])
        sweep = ONE if locked else terms[shared + AT_SWEEP + lane]
        new_balance, new_reserve, new_support = pay(
            balance, reserve, support, principal, service, income, terms[shared + AT_RESERVE_MONTHS + lane], sweep
        )
        fallen = short | broken
        pays = on & (not fallen)
        rows[state + AT_BALANCE + lane] = new_balance if pays else balance
        rows[state + AT_RESERVE + lane] = new_reserve if pays else reserve
        rows[state + AT_SUPPORT + lane] = new_support if pays else support
        rows[state + AT_BREACHES + lane] = count if on else breaches
        repaid = REPAID_FLAG if new_balance <= REPAID else NO_FLAG
        flag = (SHORT_FLAG if short else BROKEN_FLAG) if fallen else repaid
        flag = flag if on else NO_FLAG
        flags[lane] = flag
        seen = i32(seen | flag)
    return seen


@compiled_loop
def ask_for(arena: Any, first: Any, end: Any) -> None:
    """Ask for floats of the arena ahead of their use, a cache line at a time."""
    for line in range(first, end, u64(16)):
        prefetch(arena, 0, line)


@compiled_loop
def step_tile(book: Any, work: Any, seed: Any, path: Any, q: int, t: int, tile: int) -> None:
    """A month of a tile's loans on one path, then its events."""
    lanes, arena = book.lanes, work.arena
    n, shared, state = lanes.tile_lanes[tile], tile_base(lanes, tile), state_base(lanes, tile, q)
    if tile + 1 < lanes.tile_lanes.shape[0]:
        ask_for(arena, state_base(lanes, tile + 1, q), state_base(lanes, tile + 1, q + 1))
    clear_revenue(arena, n)
    for j in range(lanes.n_slots):
        hours, let = shared + AT_HOURS + u64(j * TILE), state + AT_LET_RATE + u64(j * TILE)
        place = u64(tile * lanes.n_slots + j)
        first, end = lanes.pass_slot[place], lanes.pass_slot[place + u64(1)]
        for k in range(first, end):
            if lanes.pass_is_uniform[u64(k)]:
                add_slot(work, hours, let, n, work.month[month_place(SPOT, lanes.pass_generation[u64(k), 0], q)])
            else:
                add_mixed_slot(work, lanes, k, hours, let, q)
    if is_pooled(work):
        add_due(book, work, q, t, tile)
    limit = AT_UNLIMITED
    if lanes.tile_capped[tile]:
        set_limits(book, work, q, t, tile)
        limit = AT_LIMIT
    if pay_tile(work, shared, state, limit, n) != NO_FLAG:
        settle_flags(book, work, seed, path, q, t, tile, n)


@compiled_loop
def settle_flags(book: Any, work: Any, seed: Any, path: Any, q: int, t: int, tile: int, n: int) -> None:
    """The loans of a tile that are repaid or default in month t."""
    lanes, pairs = book.lanes, work.flags_by_2
    for pair in range(n // 2):
        flags = pairs[u64(pair)]
        while flags != u64(0):  # each flag is one bit
            i = 2 * pair + (lowest_byte(flags) >> 2)
            flags &= flags - u64(1)
            loan, flag = tile * TILE + i, work.flags[i]
            if flag == REPAID_FLAG:
                if lanes.loan_facts[loan, L_DRAW_MONTH] <= t:
                    bury(lanes, work, q, loan)
            else:
                cause = cause_of(flag == SHORT_FLAG, False, work.tenant_lost[q, loan] != u8(0))
                default(book, work, seed, path, q, t, loan, cause)


@compiled_loop
def set_limits(book: Any, work: Any, q: int, t: int, tile: int) -> None:
    """(5.4) the balance above which an LTV cap locks the loan up."""
    lanes, loans = book.lanes, book.loans
    for i in range(TILE):
        loan = tile * TILE + i
        limit = INFINITE
        if loan < lanes.n_loans and loans.ltv_cap[loan] > ZERO:
            limit = loans.ltv_cap[loan] * collateral(book, work, q, t, loan)
        work.arena[AT_LIMIT + u64(i)] = limit


@compiled_loop
def collateral(book: Any, work: Any, q: int, t: int, loan: Any) -> Any:
    """(5.6) value of the loan's chips in service."""
    loan_facts, value = book.lanes.loan_facts[loan], ZERO
    for d in range(loan_facts[L_FIRST], loan_facts[L_END]):
        facts = book.lanes.deployment_facts[d]
        if facts[D_START] <= t:
            chip = value_of(book.market, work, q, t, facts[D_VINTAGE])
            value = fma(bits_float(facts[D_UNIT_SHARE]), chip, value)
    return value


@compiled_loop
def open_month(book: Any, work: Any, seed: Any, path: Any, q: int, t: int) -> None:
    """Draws, loans whose service begins, parents' defaults, loans that mature, interest of those that wait."""
    lanes, arena = book.lanes, work.arena
    for k in range(lanes.draw_first[t], lanes.draw_first[t + 1]):
        loan = lanes.draw[k]
        place = lane_place(lanes, loan, q)
        if arena[place + AT_BREACHES] != DEAD:
            arena[place + AT_BALANCE] = arena[place + AT_BALANCE] + book.loans.undrawn[loan]
            if is_pooled(work):
                add_draw(book, work, q, t, loan)
    for k in range(lanes.begin_first[t], lanes.begin_first[t + 1]):
        place = lane_place(lanes, lanes.begin[k], q)
        if arena[place + AT_BREACHES] == WAITING:
            arena[place + AT_BREACHES] = ZERO
    party = work.hit_head[q, t]
    while party != NOBODY:
        for k in range(lanes.parent_first[party], lanes.parent_first[party + 1]):
            parent_defaults(book, work, seed, path, q, t, lanes.parent_loan[k])
        party = work.hit_next[q, party]
    for k in range(lanes.mature_first[t], lanes.mature_first[t + 1]):
        place = lane_place(lanes, lanes.mature[k], q)
        if arena[place + AT_BREACHES] >= ZERO:
            arena[place + AT_BREACHES] = MATURING
    for k in range(lanes.waiting.shape[0]):
        loan = lanes.waiting[k]
        if book.loans.first_month[loan] <= t:
            break
        place = lane_place(lanes, loan, q)
        if arena[place + AT_BREACHES] == WAITING:
            arena[place + AT_BALANCE] = exposure(arena[place + AT_BALANCE], rate_of(book, loan, t))


@compiled_loop
def parent_defaults(book: Any, work: Any, seed: Any, path: Any, q: int, t: int, loan: Any) -> None:
    """(5.4), (5.5) support is gone; the SPV may be pulled in."""
    place, facts = lane_place(book.lanes, loan, q), book.lanes.loan_facts[loan]
    work.arena[place + AT_SUPPORT] = ZERO
    if work.arena[place + AT_BREACHES] == DEAD:
        return
    w = draw(seed, path, LOAN, u64(0), entity(facts, L_KEY))
    if event_word(w[0]) < facts[L_PULLED_IN]:
        default(book, work, seed, path, q, t, loan, PARENT)


@compiled_loop
def mature(book: Any, work: Any, seed: Any, path: Any, q: int, t: int) -> None:
    """(5.3)-(5.5) of the loans that mature in month t."""
    lanes = book.lanes
    for k in range(lanes.mature_first[t], lanes.mature_first[t + 1]):
        loan = lanes.mature[k]
        if work.arena[lane_place(lanes, loan, q) + AT_BREACHES] == MATURING:
            mature_loan(book, work, seed, path, q, t, loan)


@compiled_loop
def mature_loan(book: Any, work: Any, seed: Any, path: Any, q: int, t: int, loan: Any) -> None:
    """The whole balance is due, unless a new lender takes it over."""
    lanes, arena, loan_facts = book.lanes, work.arena, book.lanes.loan_facts[loan]
    place, shared = lane_place(lanes, loan, q), shared_place(lanes, loan_facts)
    balance, reserve, support = arena[place + AT_BALANCE], arena[place + AT_RESERVE], arena[place + AT_SUPPORT]
    revenue = ZERO
    for d in range(loan_facts[L_FIRST], loan_facts[L_END]):
        facts = lanes.deployment_facts[d]
        let = arena[u64(facts[D_LET_PLACE]) + u64(q) * state_stride(lanes)]
        spot = work.month[month_place(SPOT, facts[D_GENERATION], q)]
        revenue = add_revenue(revenue, arena[hours_place(lanes, facts)], let, spot)
    income = revenue - arena[shared + AT_COST]
    principal, limit = balance, bits_float(loan_facts[L_REFINANCE])
    if limit > ZERO and is_refinanced(balance, limit, collateral(book, work, q, t, loan)):
        principal = ZERO
    service = debt_service(balance, arena[shared + AT_RATE], principal)
    if is_short(shortfall(service, income), reserve, support):
        cause = cause_of(True, True, work.tenant_lost[q, loan] != u8(0))
        default(book, work, seed, path, q, t, loan, cause)
        return
    _, reserve, support = pay(balance, reserve, support, balance, service, income, ZERO, ONE)
    arena[place + AT_BALANCE], arena[place + AT_RESERVE], arena[place + AT_SUPPORT] = ZERO, reserve, support
    arena[place + AT_BREACHES] = ZERO
    if loan_facts[L_DRAW_MONTH] <= t:
        bury(lanes, work, q, loan)
