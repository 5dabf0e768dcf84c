"""A thread's memory: what the compiled loops write, and where in it a loan or deployment stands."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from ..paths.philox import LOW32
from ..paths.tally import EVENT_FIELDS
from ..reference.market import MAX_LAUNCHES
from .numba_abreast import AHEAD_ROWS, DRIVER_ROWS, LANES, MONTH_ROWS, PATHS_AT_ONCE
from .numba_abreast import STATE_ROWS as HAZARD_ROWS
from .numba_layout import (
    BALANCE,
    BREACHES,
    CONTRACT_COLUMNS,
    D_LET_PLACE,
    L_PLACE,
    RESERVE,
    SCRATCH,
    SHARED_ROWS,
    STATE_ROWS,
    SUPPORT,
    TILE,
    aligned,
)
from .numba_pool import new_pool
from .numba_record import new_record
from .numba_structs import Struct

f32, i32, i64, u64 = np.float32, np.int32, np.int64, np.uint64

NEVER = i32(2**30)
NOBODY = i32(-1)
INFINITE = f32(np.inf)
WORKOUT_COLUMNS = 8
# Offsets of rows in a tile. Unsigned: a signed index brings a select for negative ones, and the loop stays scalar.
AT_BALANCE, AT_RESERVE, AT_SUPPORT, AT_BREACHES = (u64(row * TILE) for row in (BALANCE, RESERVE, SUPPORT, BREACHES))
AT_TILE, AT_SCRATCH = u64(TILE), u64(SCRATCH)


def compiled_loop(function: Any) -> Any:
    """Compile a function that iterates; like path functions, without Python's branch for division by zero."""
    return njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)


def inlined_loop(function: Any) -> Any:
    """A compiled loop, or the body of one, that becomes part of its caller: a call costs as much as what it does."""
    return njit(error_model="numpy", forceinline=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)


def compiled_sum(function: Any) -> Any:
    """Compile a loop that adds whole numbers below 2^53 up in float64: in any order, for each sum is exact."""
    return njit(error_model="numpy", fastmath={"reassoc", "nsz"}, no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)


class Work(NamedTuple):
    """A thread's memory, fixed for a book. The first dimension of most is the path among four."""

    arena: Any  # float32, rows of tiles; see numba_layout
    rows: Any  # the same memory by three more names, for what a path, all paths and nobody else reads: a loop that
    terms: Any  # writes to one and reads another is then tested for three overlaps at its start, not for each pair of rows
    scratch: Any
    flags: Any  # (TILE,) int32 events of a tile's lanes, and the same two at a time
    flags_by_2: Any
    words: Any  # (4 * TILE,) uint32 words of a tile of obligors, their bounds, and who lies below
    bounds: Any
    below: Any  # uint8
    below_by_8: Any
    group: Any  # (4,) the group at hand, -1: none
    group_months: Any  # (4, H + 1) its thresholds, int64, -1: not known yet
    month_words: Any  # (4 * width,) uint32 words of a draw, all months of four paths: rows of months, see numba_abreast
    far: Any  # (at least width,) uint8 normals to be made one by one, and the same bytes eight at a time
    far_by_8: Any
    normals: Any  # (at least 2 and G, width), up to four more to fill the last draw
    regime: Any  # (width,) int32
    regime_mean: Any  # (width,) m_z
    jump: Any
    demand: Any
    premium: Any  # s_0 + χ
    used: Any
    factor: Any  # (width,) χ, then a generation's X and the sums of other chains
    mixed: Any  # (width,) (2.4) (L n)_g
    launch_words: Any  # (16 * MAX_LAUNCHES,) uint32 words of a family's launches, and normals of their lags and sizes
    launch_normals: Any
    launch_month: Any  # (families, MAX_LAUNCHES, 4)
    launch_size: Any
    n_launches: Any  # (families,) the most of four paths
    launch_months: Any  # (width,) a launch's, for all months
    launch_sizes: Any
    ramp: Any
    theta: Any  # (G, width) Θ
    ahead: Any  # ((T + 1) * blocks * AHEAD_ROWS * LANES,) what no feedback reaches
    month: Any  # (blocks * MONTH_ROWS * LANES,) the month at hand
    released: Any  # (blocks * LANES,) float64 chips, whole numbers
    factors: Any  # (4, K)
    mixing: Any  # (4, 2) W, 1/W
    log_hazard: Any  # (C, width) the running maximum of ln H
    cumulative: Any  # (width,) H of the class at hand
    shift: Any  # (width,) its a
    drivers: Any  # ((H + 1) * fed blocks * DRIVER_ROWS * LANES,) what moves the classes that the book's chips move
    hazard_state: Any  # (fed blocks * HAZARD_ROWS * LANES,)
    months: Any  # (4, parties) default months
    hit_head: Any  # (4, H + 2) parties by default month, as linked lists
    hit_next: Any
    party_normals: Any  # (TILE,) of a tile of watched obligors on one path
    threshold: Any  # (4, watched) θ
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
    record: Any  # what is kept of paths that are replayed
    pool: Any  # what is kept of the loans' cash


def memory(book: Any) -> Any:
    """A thread's memory for a book: it does not grow with the paths."""

    n_months, horizon = int(book.market.n_months), int(book.market.horizon)
    n_generations, n_classes = len(book.market.demand_beta), book.hazards.hazard.shape[1]
    n_loans, n_deployments, n_active = len(book.loans.key), len(book.deployments.key), int(book.obligors.n_active)
    watched = int(book.obligors.phase_first[3] - book.obligors.phase_first[2])
    flags, below = np.zeros(TILE, np.int32), np.zeros(PATHS_AT_ONCE * TILE, np.uint8)
    arena = np.zeros(SCRATCH + len(book.lanes.template), np.float32)
    arena[TILE : 2 * TILE] = np.inf
    width, n_families = int(book.abreast.width), len(book.market.launch_first)
    n_blocks, n_fed_blocks = int(book.abreast.n_blocks), int(book.abreast.n_fed_blocks)
    far = np.zeros(max(width, PATHS_AT_ONCE * MAX_LAUNCHES, TILE), np.uint8)

    def of_path(*shape: int, dtype: Any = np.float32) -> Any:
        return np.zeros((PATHS_AT_ONCE, *shape), dtype)

    def of_months(*shape: int) -> Any:
        return np.zeros((*shape, width), np.float32)

    i32, i64 = np.int32, np.int64
    return Work(
        arena=arena,
        rows=arena,
        terms=arena,
        scratch=arena,
        flags=flags,
        flags_by_2=flags.view(np.uint64),
        words=np.zeros(PATHS_AT_ONCE * TILE, np.uint32),
        bounds=np.zeros(PATHS_AT_ONCE * TILE, np.uint32),
        below=below,
        below_by_8=below.view(np.uint64),
        group=of_path(dtype=i32),
        group_months=of_path(horizon + 1, dtype=i64),
        month_words=np.zeros(4 * width, np.uint32),
        far=far,
        far_by_8=far.view(np.uint64),
        normals=of_months(max(2, -(-n_generations // 4) * 4)),
        regime=np.zeros(width, i32),
        regime_mean=of_months(),
        jump=of_months(),
        demand=of_months(),
        premium=of_months(),
        used=of_months(),
        factor=of_months(),
        mixed=of_months(),
        launch_words=np.zeros(4 * PATHS_AT_ONCE * MAX_LAUNCHES, np.uint32),
        launch_normals=np.zeros(2 * PATHS_AT_ONCE * MAX_LAUNCHES, np.float32),
        launch_month=np.zeros((n_families, MAX_LAUNCHES, PATHS_AT_ONCE), np.float32),
        launch_size=np.zeros((n_families, MAX_LAUNCHES, PATHS_AT_ONCE), np.float32),
        n_launches=np.zeros(n_families, i64),
        launch_months=of_months(),
        launch_sizes=of_months(),
        ramp=of_months(),
        theta=of_months(n_generations),
        ahead=np.zeros((n_months + 1) * n_blocks * AHEAD_ROWS * LANES, np.float32),
        month=np.zeros(n_blocks * MONTH_ROWS * LANES, np.float32),
        released=np.zeros(n_blocks * LANES, np.float64),
        factors=of_path(max(int(book.hazards.n_factors), 1)),
        mixing=of_path(2),
        log_hazard=of_months(n_classes),
        cumulative=of_months(),
        shift=of_months(),
        drivers=np.zeros((horizon + 1) * n_fed_blocks * DRIVER_ROWS * LANES, np.float32),
        hazard_state=np.zeros(n_fed_blocks * HAZARD_ROWS * LANES, np.float32),
        months=of_path(n_active, dtype=i32),
        hit_head=np.full((PATHS_AT_ONCE, horizon + 2), -1, i32),
        hit_next=of_path(n_active, dtype=i32),
        party_normals=np.zeros(TILE, np.float32),
        threshold=of_path(watched),
        contract=aligned((PATHS_AT_ONCE * n_deployments, CONTRACT_COLUMNS), i32),
        due_head=of_path(horizon + 2, dtype=i32),
        tenant_lost=of_path(n_loans, dtype=np.uint8),
        sale_head=of_path(n_months + 2, dtype=i32),
        workout=aligned((PATHS_AT_ONCE * n_loans, WORKOUT_COLUMNS), i32),
        open_sales=of_path(dtype=i64),
        living=of_path(len(book.lanes.tile_lanes), dtype=i64),
        events=np.zeros((PATHS_AT_ONCE * (n_loans + len(book.plain.facts)), EVENT_FIELDS), i64),
        n_events=np.zeros(1, i64),
        row=np.zeros(1, i64),
        record=Struct(new_record(book, 0)),
        pool=Struct(new_pool(book, 0)),
    )


@compiled_loop
def is_recorded(work: Any) -> Any:
    """Whether the paths at hand are replayed."""
    return work.record.default_months.shape[0] > 0


@compiled_loop
def is_pooled(work: Any) -> Any:
    """Whether the cash of the paths at hand is kept."""
    return work.pool.balance.shape[0] > 0


@compiled_loop
def tile_base(lanes: Any, tile: Any) -> Any:
    """First float of a tile."""
    rows = SHARED_ROWS + 2 * lanes.n_slots + PATHS_AT_ONCE * (STATE_ROWS + lanes.n_slots)
    return AT_SCRATCH + u64(tile * rows * TILE)


@compiled_loop
def state_base(lanes: Any, tile: Any, q: int) -> Any:
    """First float of a path's rows in a tile."""
    rows = SHARED_ROWS + 2 * lanes.n_slots + q * (STATE_ROWS + lanes.n_slots)
    return tile_base(lanes, tile) + u64(rows * TILE)


@compiled_loop
def state_stride(lanes: Any) -> Any:
    """Floats between the rows of one path and the next in a tile."""
    return u64((STATE_ROWS + lanes.n_slots) * TILE)


@compiled_loop
def lane_place(lanes: Any, loan: Any, q: int) -> Any:
    """Where a path's rows of a loan begin in the arena."""
    return u64(lanes.loan_facts[loan, L_PLACE]) + u64(q) * state_stride(lanes)


@compiled_loop
def shared_place(lanes: Any, loan_facts: Any) -> Any:
    """Where the rows that a loan's paths share begin in the arena."""
    return u64(loan_facts[L_PLACE]) - u64((SHARED_ROWS + 2 * lanes.n_slots) * TILE)


@compiled_loop
def hours_place(lanes: Any, facts: Any) -> Any:
    """Where the arena keeps a deployment's hours."""
    return u64(facts[D_LET_PLACE]) - u64((STATE_ROWS + 2 * lanes.n_slots) * TILE)


@compiled_loop
def month_lane(t: Any, q: int) -> Any:
    """Where a row of months keeps month t of path q."""
    return u64(PATHS_AT_ONCE) * u64(t) + u64(q)


@compiled_loop
def month_place(row: Any, g: Any, q: int) -> Any:
    """Where `Work.month` keeps a row of the month at hand for a generation on path q."""
    k = u64(g)
    return ((k >> u64(2)) * u64(MONTH_ROWS) + u64(row)) * u64(LANES) + (k & u64(3)) * u64(PATHS_AT_ONCE) + u64(q)


@compiled_loop
def contract_row(d: Any, q: int) -> Any:
    """Where a deployment's contract stands on path q."""
    return PATHS_AT_ONCE * i64(d) + q


@compiled_loop
def workout_row(lanes: Any, loan: Any, q: int) -> Any:
    """Where a defaulted loan stands on path q."""
    return q * lanes.n_loans + i64(loan)


@compiled_loop
def entity(facts: Any, low: int) -> Any:
    """The 64-bit hash of an id, kept in two columns."""
    return (u64(facts[low]) & LOW32) | (u64(facts[low + 1]) << u64(32))


@compiled_loop
def emit(work: Any, q: int, loan: Any, month: Any, cause: Any, ead: Any, lost: Any) -> None:
    """One default for the tally; the path's place among four stands for its row until the four are done."""
    k = work.n_events[0]
    event = work.events[k]
    event[0], event[1], event[2], event[3], event[4], event[5] = q, loan, month, cause, ead, lost
    work.n_events[0] = k + 1
