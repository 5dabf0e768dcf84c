"""The kernel of the engine numba-cuda: what is iterated over what, on a GPU. Formulas are path functions, as twins.

A block walks four neighbouring paths, for one Philox call serves four where a draw needs one word. Its threads share out
(path, month), (path, class), (path, run), obligors and (path, loan); a thread keeps its loan's cash, contracts and sale, so
paths meet only at the chips released in a month: integers, added atomically. Between stages the block waits.
"""

from __future__ import annotations

from typing import Any

from ..paths.arithmetic import ZERO
from .numba_cuda_layout import (
    BALANCE,
    CONTRACT_END,
    CONTRACT_RATE,
    END,
    END_DEPLOYMENT,
    FIRST_DEPLOYMENT,
    FIRST_MONTH,
    FLAGS,
    HORIZON,
    MOST_GENERATIONS,
    N_FED_BACK,
    N_LOANS,
    N_MONTHS,
    NEVER,
    PATHS_AT_ONCE,
    RESERVE,
    SALE_MONTH,
    STATUS,
    SUPPORT,
    TENANT,
    TENANT_LOST,
)
from .numba_cuda_loans import keep, sell_due, step_loans
from .numba_cuda_market import (
    draw_demand_words,
    settle_outside,
    start_hazards,
    step_fed_back,
    step_overhang,
    step_prices,
    walk_demand,
    walk_generations,
)
from .numba_cuda_memory import (
    FOUR_BITS,
    GENERATION_SHAPE,
    LET,
    NO_MONTH,
    OVERHANG,
    QUAD_SHIFT,
    RELEASED_SHAPE,
    WAITING,
    Here,
    Shared,
    cuda,
    f32,
    i32,
    i64,
    u64,
)
from .numba_cuda_obligors import decide, draw_watched, set_bounds, watch


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
