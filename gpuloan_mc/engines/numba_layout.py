"""A plan laid out for the numba engine: obligors and loans sorted into runs and tiles, what happens when as lists.

Sorting moves rows, never a draw: draws belong to ids (docs/model.md 1.6).
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple

import numpy as np

from ..paths.tally import Groups
from ..plan import DeploymentPlan, LoanPlan, MarketPlan, Plan, RecoveryPlan
from ..reference.arithmetic import F32, F64, I32, I64
from .numba_abreast import PATHS_AT_ONCE, Abreast, abreast, read_only
from .numba_structs import Struct

f32, i32 = np.float32, np.int32

TILE = 128  # lanes: a tile's rows of one path stay in the first-level cache
CACHE_LINE = 64  # bytes
VECTOR = 8  # lanes of a turn of a loop, on AVX2 and in 256 bits of AVX-512
LANES_APART = 16  # a tile's used lanes are a multiple: no scalar rest in its loops


def _tuple_of(kind: Any) -> Any:
    return namedtuple(kind.__name__.replace("Plan", "Tuple"), [f.name for f in fields(kind)])


MarketTuple = _tuple_of(MarketPlan)
LoanTuple = _tuple_of(LoanPlan)
DeploymentTuple = _tuple_of(DeploymentPlan)
RecoveryTuple = _tuple_of(RecoveryPlan)
for _kind in (MarketTuple, LoanTuple, DeploymentTuple, RecoveryTuple):
    _kind.__module__ = __name__  # compiled code is stored with the place of its argument types


class Hazards(NamedTuple):
    """Hazard classes (3.1) and the tables and loadings of (3.3)-(3.6)."""

    hazard: F32  # (H + 1, C)
    regime_shift: F32  # (C, Z)
    demand_sensitivity: F32
    overhang_sensitivity: F32
    fed_back: I32  # (C,) 1: the book's own chips move the hazard
    n_fed_back: np.int32
    is_t_copula: np.int32
    mixing_table: F32
    inverse_mixing_table: F32
    log_hazard_table: F32
    latent_table: F32
    n_factors: np.int32


class Obligors(NamedTuple):
    """Obligors sorted by phase, class and quality. Phase 0 is decided before month 1, phase 1 after H, the rest watched.

    A run is a piece of a tile whose obligors share one bound on the rank of a word: a group, or own obligors of a class.
    """

    key_low: Any  # (P,) uint64, 32 bits each
    key_high: Any
    facts: I32  # (P, 4) index among parties of GPU loans (-1: none), first plain loan, end of plain loans, place in the plan
    log_scale: F32  # (P,)
    residual: F32
    inverse_residual: F32
    loadings: F32  # (P, K)
    phase_first: I64  # (4,) first position of phases 0, 1 and of the watched; the end
    phase_tile: I64  # (3,) first tile of phases 0 and 1; the end
    tile_first: I64  # (tiles + 1,)
    tile_run: I64  # (tiles + 1,) first run of a tile
    run_first: I64  # (runs + 1,)
    run_class: I32
    run_group: I32  # -1: own obligors
    run_log_scale: F32  # (runs,) the largest
    run_low: F32  # (runs, K) range of loadings
    run_high: F32
    run_residual_low: F32
    run_residual_high: F32
    watched_class: I64  # (C + 1,) watched obligors by class, from phase_first[2] on
    n_active: np.int64


class Plain(NamedTuple):
    """Plain loans in the order of their obligors. What a default reads lies together: it is rare, so it misses the cache."""

    amounts: F64  # (N, 3 + H + 1) commitment in cents, LGD, kept share, then the opening balance of each month
    facts: I32  # (N, 4) position among all loans, term, LGD table or -1
    lgd_loading: F32
    lgd_residual: F32
    key: Any  # (N,) uint64
    lgd_tables: F32


COMMITMENT, LGD, KEPT_SHARE, OPENING = range(4)
INDEX, TERM, LGD_TABLE = range(3)
PARTY, FIRST_LOAN, END_LOAN, COLUMN = range(4)


class Lanes(NamedTuple):
    """GPU loans as lanes of tiles, and lists of what happens in month t: rows first[t] … first[t + 1]."""

    n_slots: np.int64  # most deployments a loan
    n_loans: np.int64
    loan_facts: I32  # (L, FACTS) columns L_…
    deployment_facts: I32  # (D, FACTS) columns D_…
    contracts: I32  # (D * 4, CONTRACT_COLUMNS) contracts of four paths at month 0
    tile_lanes: I64  # (tiles,) lanes in use
    tile_capped: I32  # (tiles,) 1: a loan has an LTV cap
    template: F32  # (tiles * stride,) a thread's arena at month 0
    principal: F32  # (H + 1, tiles * TILE)
    pass_slot: I64  # (tiles * slots + 1,) passes over a tile's slot: up to four generations each
    pass_generation: I32  # (passes, 4)
    pass_is_uniform: I32  # (passes,) 1: all of a slot's chips, of one generation, in most of the lanes
    pass_first: I64  # (passes,) first lane and end of the lanes that have such a deployment, in whole vectors
    pass_end: I64
    pass_code: F32  # (passes * TILE,) which of them a lane's deployment is of; OTHER: none of them
    due_first: I64  # deployments: first month in which a contract may end
    due: I32
    start_first: I64  # deployments put in service after month 1
    start: I32
    draw_first: I64  # loans that draw
    draw: I32
    begin_first: I64  # loans whose service begins after month 1
    begin: I32
    waiting: I32  # (W,) those loans, the last to begin first
    mature_first: I64
    mature: I32
    tenant_first: I64  # (A + 1,) deployments let to a party
    tenant_deployment: I32
    parent_first: I64  # (A + 1,) loans of a party
    parent_loan: I32


# What an event reads of a loan or deployment lies in one cache line; floats by their bits. Places in the arena are those
# of path 0: a loan's state, the let rate of a deployment. A key is two columns, low bits first.
FACTS = 16
L_INDEX, L_TILE, L_PLACE, L_FIRST, L_END, L_DRAW_MONTH, L_PULLED_IN, L_KEY = range(8)
L_FLOATING, L_MARGIN, L_REFINANCE, L_KEPT_SHARE = range(9, 13)
D_LOAN, D_START, D_IN_SERVICE, D_TENANT, D_GENERATION, D_VINTAGE, D_UNITS, D_LET_PLACE, D_KEY = range(9)
D_HOURS, D_OPEX, D_HOURLY_OPEX, D_UNIT_SHARE, D_PRESSURE, D_CLAIM_RECOVERY = range(10, 16)
END_OF, RATE_OF, NEXT_DUE, STATE_OF = range(4)  # columns of a contract
CONTRACT_COLUMNS = 4
LET, CLAIM, RELEASED = i32(1), i32(2), i32(4)  # its state

# Rows of a tile in the arena: what its paths share, …
RATE, PRINCIPAL, COST, RESERVE_MONTHS, LOCKUP, COVENANT, ALLOWED, SWEEP, FLOATING, MARGIN = range(10)
SHARED_ROWS = 10  # then hours and hourly opex of each slot
# … and a path's own, then the rate of each slot's contract, negative where none is live
BALANCE, RESERVE, SUPPORT, BREACHES = range(4)
STATE_ROWS = 4
DEAD, WAITING, MATURING = f32(-1), f32(-2), f32(-3)  # in the place of breaches: lanes that the vector loop passes over
NOT_LET = f32(-1)
GENERATIONS_A_PASS, OTHER = 4, f32(4)
SCRATCH = 3 * TILE  # before the first tile: revenue, no limit on the balance, the limit that LTV caps set


def shared_rows(n_slots: int) -> int:
    """Rows that a tile's paths share."""
    return SHARED_ROWS + 2 * n_slots


def state_rows(n_slots: int) -> int:
    """Rows of one path in a tile."""
    return STATE_ROWS + n_slots


def tile_stride(n_slots: int) -> int:
    """Floats of a tile in the arena."""
    return (shared_rows(n_slots) + PATHS_AT_ONCE * state_rows(n_slots)) * TILE


class Book(NamedTuple):
    """All that the compiled code reads."""

    market: Any
    hazards: Hazards
    obligors: Obligors
    plain: Plain
    loans: Any
    deployments: Any
    recovery: Any
    lanes: Lanes
    groups: Groups
    abreast: Abreast


def lay_out(plan: Plan) -> Book:
    """The plan as the compiled code reads it."""
    plan = _in_lane_order(plan)
    active = active_columns(plan)
    obligors, plain = obligors_and_plain(plan, active)
    return Book(
        market=_copied(MarketTuple, plan.market),
        hazards=_hazards(plan),
        obligors=obligors,
        plain=plain,
        loans=_copied(LoanTuple, plan.loans),
        deployments=_copied(DeploymentTuple, plan.deployments),
        recovery=_copied(RecoveryTuple, plan.recovery),
        lanes=_lanes(plan, active),
        groups=group_places(plan),
        abreast=abreast(plan, fed_back_classes(plan)),
    )


def structs(book: Book) -> Struct:
    """The book behind one pointer."""
    parts: list[Any] = [Struct(part) for part in book]
    return Struct(Book(*parts))


def group_places(plan: Plan) -> Groups:
    """Where defaults count among the groups of the plan."""
    start = {name: part.start for name, part in plan.groups.items()}
    return Groups(
        discount=read_only(plan.discount),
        month=np.int64(start["month"]),
        year=np.int64(start["year"]),
        cause=np.int64(start["cause"]),
        month_cause=np.int64(start["month_cause"]),
        segment_start=read_only([start[f"segment_{i}"] for i in range(len(plan.segments))], np.int64),
        segment_code=read_only(plan.segments, i32),
    )


def aligned(shape: tuple[int, int], dtype: Any) -> Any:
    """Zeros whose rows begin with a cache line, where a row fills lines."""
    n_bytes = shape[0] * shape[1] * np.dtype(dtype).itemsize
    raw = np.zeros(n_bytes + CACHE_LINE, np.uint8)
    start = -raw.ctypes.data % CACHE_LINE
    return raw[start : start + n_bytes].view(dtype).reshape(shape)


def _copied(kind: Any, part: Any) -> Any:
    values = [getattr(part, f.name) for f in fields(part)]
    return kind(*(read_only(v) if isinstance(v, np.ndarray) else v for v in values))


def lists_by_place(places: Any, items: Any, n_places: int) -> tuple[I64, I32]:
    """CSR: items by place; places outside 0 … n_places - 1 are left out."""
    places, items = np.asarray(places, np.int64), np.asarray(items, np.int64)
    inside = (places >= 0) & (places < n_places)
    places, items = places[inside], items[inside]
    order = np.argsort(places, kind="stable")
    first = np.zeros(n_places + 1, np.int64)
    np.cumsum(np.bincount(places, minlength=n_places), out=first[1:])
    return read_only(first), read_only(items[order], i32)


# --- obligors ---------------------------------------------------------------------------------------------------------


def fed_back_classes(plan: Plan) -> Any:
    """(C,) whether the book's own chips move a class's hazard."""
    return (plan.obligors.overhang_sensitivity != 0) & (len(plan.market.demand_beta) > 0)


def _hazards(plan: Plan) -> Hazards:
    obligors, fed_back = plan.obligors, fed_back_classes(plan)
    return Hazards(
        hazard=read_only(obligors.hazard),
        regime_shift=read_only(obligors.regime_shift),
        demand_sensitivity=read_only(obligors.demand_sensitivity),
        overhang_sensitivity=read_only(obligors.overhang_sensitivity),
        fed_back=read_only(fed_back, i32),
        n_fed_back=i32(fed_back.sum()),
        is_t_copula=obligors.is_t_copula,
        mixing_table=read_only(obligors.mixing_table),
        inverse_mixing_table=read_only(obligors.inverse_mixing_table),
        log_hazard_table=read_only(obligors.log_hazard_table),
        latent_table=read_only(obligors.latent_table),
        n_factors=obligors.n_factors,
    )


def active_columns(plan: Plan) -> I64:
    """Index among parties of GPU loans of each column of default months, -1: no party."""
    n = len(plan.obligors.own_key) + len(plan.obligors.grouped_key)
    tenants = plan.deployments.tenant
    columns = np.unique(np.concatenate([plan.loans.parent, tenants[tenants >= 0]]).astype(np.int64))
    active = np.full(n, -1, np.int64)
    active[columns] = np.arange(len(columns))
    return active


def obligors_and_plain(plan: Plan, active: I64) -> tuple[Obligors, Plain]:
    """Obligors sorted, and plain loans in their order."""
    ob, n_own = plan.obligors, len(plan.obligors.own_key)
    group = ob.grouped_group
    klass = np.concatenate([ob.own_class, ob.group_class[group]]).astype(np.int64)
    log_scale = np.concatenate([ob.own_log_scale, ob.group_log_scale[group]])
    loadings = np.concatenate([ob.own_loadings, ob.group_loadings[group]])
    inverse = np.concatenate([np.ones(n_own, f32), ob.group_inverse_residual[group]])
    residual = np.concatenate([ob.own_residual, np.ones(len(group), f32)])
    grouped = np.arange(len(klass)) >= n_own
    back = fed_back_classes(plan)[klass] if len(klass) else np.zeros(0, np.bool_)
    phase = np.where(back, np.where(active >= 0, 2, 1), 0)
    keys = [loadings[:, k] for k in range(loadings.shape[1])][::-1]
    group_of = np.append(np.full(n_own, -1), group)
    order = np.lexsort([*keys, log_scale, group_of, grouped, klass, phase])
    key = np.concatenate([ob.own_key, ob.grouped_key])[order]
    phase_first = np.searchsorted(phase[order], np.arange(4)).astype(np.int64)
    tile_first, phase_tile = _tiles(phase_first)
    # a run ends where the tile, the class or the group does
    kind = np.column_stack([klass, group_of])[order][: phase_first[2]]
    cut = np.any(kind[1:] != kind[:-1], axis=1).nonzero()[0] + 1
    run_first = np.unique(np.concatenate([tile_first, cut])).astype(np.int64)
    firsts = run_first[:-1]

    def over(reduce: Any, values: Any) -> Any:
        chosen = values[order][: phase_first[2]]
        return reduce.reduceat(chosen, firsts, axis=0) if len(firsts) else chosen[:0]

    position = np.empty(len(order), np.int64)
    position[order] = np.arange(len(order))
    plain_first, plain_loan = lists_by_place(position[plan.plain.obligor], np.arange(len(plan.plain.key)), len(order))
    watched = klass[order][phase_first[2] :]
    facts = np.stack([active[order], plain_first[:-1], plain_first[1:], order], axis=1)
    obligors = Obligors(
        key_low=read_only(key & np.uint64(0xFFFFFFFF)),
        key_high=read_only(key >> np.uint64(32)),
        facts=read_only(facts, i32),
        log_scale=read_only(log_scale[order], f32),
        residual=read_only(residual[order], f32),
        inverse_residual=read_only(inverse[order], f32),
        loadings=read_only(loadings[order], f32),
        phase_first=read_only(phase_first),
        phase_tile=read_only(phase_tile),
        tile_first=read_only(tile_first),
        tile_run=read_only(np.searchsorted(run_first, tile_first), np.int64),
        run_first=read_only(run_first),
        run_class=read_only(klass[order][firsts], i32),
        run_group=read_only(group_of[order][firsts], i32),
        run_log_scale=read_only(over(np.maximum, log_scale), f32),
        run_low=read_only(over(np.minimum, loadings), f32),
        run_high=read_only(over(np.maximum, loadings), f32),
        run_residual_low=read_only(over(np.minimum, residual), f32),
        run_residual_high=read_only(over(np.maximum, residual), f32),
        watched_class=read_only(
            phase_first[2] + np.searchsorted(watched, np.arange(ob.hazard.shape[1] + 1)), np.int64
        ),
        n_active=np.int64((active >= 0).sum()),
    )
    return obligors, _plain(plan, plain_loan)


def _plain(plan: Plan, order: I32) -> Plain:
    loans = plan.plain
    head = [loans.commitment_cents, loans.lgd, loans.kept_share]
    facts = np.stack([loans.index, loans.term, loans.lgd_table_row, np.zeros_like(loans.term)], axis=1)
    return Plain(
        amounts=read_only(np.column_stack([*head, loans.opening])[order], np.float64),
        facts=read_only(facts[order], i32),
        lgd_loading=read_only(loans.lgd_loading[order]),
        lgd_residual=read_only(loans.lgd_residual[order]),
        key=read_only(loans.key[order]),
        lgd_tables=read_only(loans.lgd_tables),
    )


def _tiles(phase_first: I64) -> tuple[I64, I64]:
    """First positions of tiles, which no phase boundary crosses, and the first tile of each phase."""
    firsts: list[int] = []
    phase_tile = [0]
    for phase in range(2):
        firsts += range(int(phase_first[phase]), int(phase_first[phase + 1]), TILE)
        phase_tile.append(len(firsts))
    return np.array([*firsts, int(phase_first[2])], np.int64), np.array(phase_tile, np.int64)


# --- GPU loans --------------------------------------------------------------------------------------------------------


def _in_lane_order(plan: Plan) -> Plan:
    """GPU loans and their deployments in the order of lanes: what happens in a month runs through memory in order.

    Draws go by keys, sums by `index`: nothing else moves.
    """
    loans, deployments = plan.loans, plan.deployments
    order = lane_order(plan, *_slots(plan))
    lane = np.empty(len(order), np.int64)
    lane[order] = np.arange(len(order))
    of_deployment = np.argsort(lane[deployments.loan], kind="stable")
    first = np.zeros(len(order) + 1, i32)
    np.cumsum(np.diff(loans.first_deployment)[order], out=first[1:])
    moved = {f.name: getattr(deployments, f.name)[of_deployment] for f in fields(deployments)}
    moved["loan"] = lane[moved["loan"]].astype(i32)
    sorted_loans = {f.name: getattr(loans, f.name)[order] for f in fields(loans) if f.name != "first_deployment"}
    return replace(
        plan,
        loans=LoanPlan(**sorted_loans, first_deployment=first),
        deployments=DeploymentPlan(**moved),
    )


def lane_order(plan: Plan, slot: I64, n_slots: int) -> I64:
    """Loans by LTV cap, the generations of their deployments, then term: long runs, and tiles that end together."""
    loans, deployments = plan.loans, plan.deployments
    generation = np.full((n_slots, len(loans.key)), -1, np.int64)
    generation[slot, deployments.loan] = deployments.generation
    keys: Sequence[Any] = [loans.term, *generation[::-1], loans.ltv_cap > 0]
    return np.asarray(np.lexsort(keys))


def _slots(plan: Plan) -> tuple[I64, int]:
    """Place of each deployment among its loan's, and the most deployments a loan."""
    first = plan.loans.first_deployment.astype(np.int64)
    slot = np.arange(len(plan.deployments.key)) - first[:-1][plan.deployments.loan]
    return slot, max(int(np.diff(first).max(initial=0)), 1)


def _lanes(plan: Plan, active: I64) -> Lanes:
    loans, deployments, horizon = plan.loans, plan.deployments, int(plan.market.horizon)
    n_loans = len(loans.key)
    slot, n_slots = _slots(plan)
    n_tiles = -(-n_loans // TILE)
    used = np.minimum(n_loans - TILE * np.arange(n_tiles), TILE)
    capped = np.zeros(n_tiles * TILE, i32)
    capped[:n_loans] = loans.ltv_cap > 0
    let = deployments.tenant >= 0
    due = np.where(deployments.start > 1, deployments.start, np.maximum(deployments.contract_end + 1, 1))
    months = horizon + 1
    due_first, due_list = lists_by_place(np.where(let, due, -1), np.arange(len(let)), months)
    start_first, start = lists_by_place(
        np.where(deployments.start > 1, deployments.start, -1), np.arange(len(let)), months
    )
    every = np.arange(n_loans)
    draw_first, draw = lists_by_place(np.where(loans.draw_month > 0, loans.draw_month, -1), every, months)
    late = loans.first_month > 1
    begin_first, begin = lists_by_place(np.where(late, loans.first_month, -1), every, months)
    waiting = np.nonzero(late)[0]
    waiting = waiting[np.argsort(-loans.first_month[waiting], kind="stable")]
    mature_first, mature = lists_by_place(loans.term, every, months)
    n_active = int((active >= 0).sum())
    tenant = np.where(let, active[np.maximum(deployments.tenant, 0)], -1) if len(active) else deployments.tenant
    tenant_first, tenant_deployment = lists_by_place(tenant, np.arange(len(let)), n_active)
    parent_first, parent_loan = lists_by_place(active[loans.parent], every, n_active)
    passes = _slot_passes(plan, slot, n_slots, n_tiles)
    principal = np.zeros((months, n_tiles * TILE), f32)
    principal[:, :n_loans] = loans.principal.T
    return Lanes(
        n_slots=np.int64(n_slots),
        n_loans=np.int64(n_loans),
        loan_facts=_loan_facts(plan, n_slots),
        deployment_facts=_deployment_facts(plan, slot, n_slots, tenant),
        contracts=_contracts(plan),
        tile_lanes=read_only(-(-used // LANES_APART) * LANES_APART, np.int64),
        tile_capped=read_only(capped.reshape(n_tiles, TILE).max(axis=1, initial=0), i32),
        template=read_only(_template(plan, slot, n_slots, n_tiles)),
        principal=read_only(principal),
        pass_slot=passes[0],
        pass_generation=passes[1],
        pass_is_uniform=passes[2],
        pass_first=passes[3],
        pass_end=passes[4],
        pass_code=passes[5],
        due_first=due_first,
        due=due_list,
        start_first=start_first,
        start=start,
        draw_first=draw_first,
        draw=draw,
        begin_first=begin_first,
        begin=begin,
        waiting=read_only(waiting, i32),
        mature_first=mature_first,
        mature=mature,
        tenant_first=tenant_first,
        tenant_deployment=tenant_deployment,
        parent_first=parent_first,
        parent_loan=parent_loan,
    )


def _bits(values: Any) -> Any:
    return np.ascontiguousarray(values, f32).view(i32)


def _place(lane: I64, row: Any, n_slots: int) -> Any:
    """Where the arena keeps a row of a lane."""
    return SCRATCH + lane // TILE * tile_stride(n_slots) + row * TILE + lane % TILE


def _fact_rows(columns: dict[int, Any], keys: Any, key: int) -> I32:
    """Columns by number, and the two halves of the keys at `key`."""
    rows: I32 = aligned((len(keys), FACTS), i32)
    for column, values in columns.items():
        rows[:, column] = values
    rows[:, key : key + 2] = np.ascontiguousarray(keys, "<u8").view("<i4").reshape(-1, 2)
    rows.setflags(write=False)
    return rows


def _loan_facts(plan: Plan, n_slots: int) -> I32:
    loans, lane = plan.loans, np.arange(len(plan.loans.key))
    columns = {
        L_INDEX: loans.index,
        L_TILE: lane // TILE,
        L_PLACE: _place(lane, shared_rows(n_slots), n_slots),
        L_FIRST: loans.first_deployment[:-1],
        L_END: loans.first_deployment[1:],
        L_DRAW_MONTH: loans.draw_month,
        L_PULLED_IN: loans.pulled_in,
        L_FLOATING: _bits(loans.floating),
        L_MARGIN: _bits(loans.margin),
        L_REFINANCE: _bits(loans.refinance_ltv),
        L_KEPT_SHARE: _bits(loans.kept_share),
    }
    return _fact_rows(columns, loans.key, L_KEY)


def _deployment_facts(plan: Plan, slot: I64, n_slots: int, tenant: Any) -> I32:
    deployments = plan.deployments
    row = shared_rows(n_slots) + STATE_ROWS + slot
    columns = {
        D_LOAN: deployments.loan,
        D_START: deployments.start,
        D_IN_SERVICE: deployments.in_service,
        D_TENANT: tenant,
        D_GENERATION: deployments.generation,
        D_VINTAGE: deployments.vintage,
        D_UNITS: deployments.units,  # at most 2^31 - 1 of a generation in a book
        D_LET_PLACE: _place(deployments.loan.astype(np.int64), row, n_slots),
        D_HOURS: _bits(deployments.hours),
        D_OPEX: _bits(deployments.opex),
        D_HOURLY_OPEX: _bits(deployments.hourly_opex),
        D_UNIT_SHARE: _bits(deployments.unit_share),
        D_PRESSURE: _bits(deployments.sale_pressure),
        D_CLAIM_RECOVERY: _bits(deployments.claim_recovery),
    }
    return _fact_rows(columns, deployments.key, D_KEY)


def _contracts(plan: Plan) -> I32:
    """A path's contracts at month 0: last month paid, bits of the rate, the next on a list, LET or nothing."""
    deployments = plan.deployments
    rows = np.zeros((len(deployments.key), CONTRACT_COLUMNS), i32)
    rows[:, END_OF], rows[:, RATE_OF] = deployments.contract_end, _bits(deployments.contract_rate)
    rows[:, STATE_OF] = np.where(deployments.tenant >= 0, LET, 0)
    four: I32 = read_only(rows.repeat(PATHS_AT_ONCE, axis=0))
    return four


def _template(plan: Plan, slot: I64, n_slots: int, n_tiles: int) -> F32:
    """The arena at month 0: `tile, row, lane`."""
    loans, deployments = plan.loans, plan.deployments
    n, shared, state = len(loans.key), shared_rows(n_slots), state_rows(n_slots)
    rows = np.zeros((shared + PATHS_AT_ONCE * state, n_tiles * TILE), f32)
    covenant = loans.dscr_default > 0
    fixed = {
        RESERVE_MONTHS: loans.reserve_months,
        LOCKUP: np.where(loans.dscr_lockup > 0, loans.dscr_lockup, -np.inf),  # never below
        COVENANT: loans.dscr_default,
        ALLOWED: np.where(covenant, loans.dscr_default_months, np.inf),
        SWEEP: loans.sweep_share,
        FLOATING: loans.floating,
        MARGIN: loans.margin,
    }
    for row, values in fixed.items():
        rows[row, :n] = values
    lane = deployments.loan
    serving = deployments.start <= 1
    rows[SHARED_ROWS + slot, lane] = np.where(serving, deployments.hours, 0)
    rows[SHARED_ROWS + n_slots + slot, lane] = np.where(serving, deployments.hourly_opex, 0)
    for path in range(PATHS_AT_ONCE):
        first = shared + path * state
        rows[first + BALANCE, :n] = loans.balance
        rows[first + RESERVE, :n] = loans.reserve
        rows[first + SUPPORT, :n] = loans.support
        rows[first + BREACHES] = DEAD
        rows[first + BREACHES, :n] = np.where(loans.first_month > 1, WAITING, 0)
        rows[first + STATE_ROWS : first + state] = NOT_LET
        rows[first + STATE_ROWS + slot, lane] = np.where(deployments.tenant >= 0, deployments.contract_rate, NOT_LET)
    return np.ascontiguousarray(rows.reshape(len(rows), n_tiles, TILE).swapaxes(0, 1)).reshape(-1)


def _slot_passes(
    plan: Plan, slot: I64, n_slots: int, n_tiles: int
) -> tuple[I64, I32, I32, I64, I64, F32]:
    """Passes over the slots of tiles: each adds the revenue of up to four generations."""
    deployments = plan.deployments
    lane, generation = deployments.loan.astype(np.int64), deployments.generation
    place = lane // TILE * n_slots + slot
    order = np.argsort(place, kind="stable")
    bounds = np.searchsorted(place[order], np.arange(n_tiles * n_slots + 1))
    first, generations, uniform, starts, ends, codes = [0], [], [], [], [], []
    for here in range(n_tiles * n_slots):
        of_slot = order[bounds[here] : bounds[here + 1]]
        there = np.unique(generation[of_slot])
        for k in range(0, len(there), GENERATIONS_A_PASS):
            some = there[k : k + GENERATIONS_A_PASS]
            mine = of_slot[np.isin(generation[of_slot], some)]
            lanes = lane[mine] % TILE
            code = np.full(TILE, OTHER)
            code[lanes] = np.searchsorted(some, generation[mine])
            generations.append(np.resize(some, GENERATIONS_A_PASS))
            uniform.append(len(there) == 1 and 2 * len(lanes) > min(len(plan.loans.key) - here // n_slots * TILE, TILE))
            starts.append(lanes.min() // VECTOR * VECTOR)
            ends.append(-(-(lanes.max() + 1) // VECTOR) * VECTOR)
            codes.append(code)
        first.append(len(codes))
    return (
        read_only(first, np.int64),
        read_only(np.reshape(generations, (-1, GENERATIONS_A_PASS)), i32),
        read_only(uniform, i32),
        read_only(starts, np.int64),
        read_only(ends, np.int64),
        read_only(np.reshape(codes, -1), f32),
    )
