"""A plan laid out for the CUDA kernels: arrays to upload, and the struct of their addresses (kernels/gpuloan/plan.cuh).

GPU loans stand in lane order, deployments as a matrix (slot, lane) so that neighbouring threads read neighbouring words.
Sorting moves rows, never a draw: draws belong to ids (docs/model.md 1.6).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..plan import CAUSES, Plan
from ..reference.arithmetic import F32, I64
from .numba_layout import (
    END_LOAN,
    FIRST_LOAN,
    PARTY,
    Obligors,
    active_columns,
    fed_back_classes,
    group_places,
    lane_order,
    lists_by_place,
    obligors_and_plain,
)

f32, i32 = np.float32, np.int32
Part = dict[str, Any]  # a struct's fields, in the order of plan.cuh: arrays and scalars
NO_MONTH = 0xFFFF  # after all months
TILE = 32  # loans whose rows lie together: a warp's
STATE_ROWS = 4  # floats of a loan's state, before the rates of its contracts
SMALL_BOOK = 128  # GPU loans: up to here eight lanes a path, then sixteen
EIGHT = 8  # watched parties that a thread looks at at once
DEPLOYMENT = np.dtype(  # struct Deployment of kernels/gpuloan/memory.cuh
    [(name, i32) for name in "generation vintage start in_service units tenant let_place contract_end".split()]
    + [(name, f32) for name in "contract_rate hours opex hourly_opex unit_share sale_pressure claim_recovery none".split()]
)
DRAWS, BEGINS, MATURES, OPENING_BITS = 0, 1, 2, 2  # what begins for a loan, in the low bits of `opening`


@dataclass(frozen=True, slots=True)
class Layout:
    """The plan as the kernels read it."""

    plan: Plan
    parts: dict[str, Part]
    needs_market: bool  # months must be walked even when no prices are asked for
    plain_runs: int  # runs of obligors that `simulate_plain` decides
    hot_bytes: int  # memory of a path: what every month touches
    cold_bytes: int  # what events touch

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """What to upload: C-contiguous arrays by name; an empty one needs no address."""
        return {
            f"{part}.{name}": value
            for part, values in self.parts.items()
            for name, value in values.items()
            if isinstance(value, np.ndarray)
        }

    @property
    def size(self) -> dict[str, int]:
        """Counts of what there is."""
        return {name: int(value) for name, value in self.parts["size"].items()}

    @property
    def bytes_before_state(self) -> int:
        """Of a path's hot memory, what lies before the state of its loans."""
        return int(self.parts["memory"]["state"])

    def struct(self, addresses: dict[str, int]) -> bytes:
        """The bytes of `gpuloan::Plan`, a kernel's first argument, given where each array lies; 0 where none is given."""
        record = np.zeros((), plan_type(self.parts))
        for part, values in self.parts.items():
            for name, value in values.items():
                record[part][name] = addresses.get(f"{part}.{name}", 0) if isinstance(value, np.ndarray) else value
        return record.tobytes()


def plan_type(parts: dict[str, Part]) -> np.dtype[Any]:
    """The layout of `gpuloan::Plan`: structs of pointers and scalars, aligned as C++ does."""

    def kind(value: Any) -> Any:
        return np.uint64 if isinstance(value, np.ndarray) else value.dtype

    return np.dtype(
        [(part, np.dtype([(n, kind(v)) for n, v in values.items()], align=True)) for part, values in parts.items()],
        align=True,
    )


def lay_out(plan: Plan) -> Layout:
    """The plan as the kernels read it."""
    active = active_columns(plan)
    obligors, plain = obligors_and_plain(plan, active)
    classes, klass = _classes(plan)
    order = _lanes(plan, len(classes), klass)
    early = np.nonzero(obligors.facts[: obligors.phase_first[1], PARTY] >= 0)[0]
    size = _size(plan, obligors, len(early))
    memory, hot, cold = _memory(size)
    parts = {
        "size": {name: i32(value) for name, value in size.items()},
        "market": _fields(plan.market, ("horizon", "n_months")),
        "hazards": _hazards(plan),
        "obligors": _obligors(obligors, early),
        "plain": {name: _ready(value) for name, value in plain._asdict().items()},
        "loans": _loans(plan, order) | {"classes": classes, "slots": _slot_quads(plan, order, klass)},
        "deployments": _deployments(plan, order, active),
        "lists": _lists(plan, order, active, obligors),
        "recovery": _recovery(plan),
        "groups": _groups(plan),
        "memory": memory,
    }
    return Layout(
        plan=plan,
        parts=parts,
        needs_market=size["n_loans"] > 0 or size["n_fed_back"] > 0,
        plain_runs=size["n_plain_runs"],
        hot_bytes=hot,
        cold_bytes=cold,
    )


def _ready(array: Any, dtype: Any = None) -> NDArray[Any]:
    """Contiguous; whole numbers in 32 bits unless they are keys."""
    array = np.asarray(array, dtype)
    return np.ascontiguousarray(array, i32 if dtype is None and array.dtype == np.int64 else array.dtype)


def _fields(part: Any, without: tuple[str, ...]) -> Part:
    values = {f.name: getattr(part, f.name) for f in fields(part) if f.name not in without}
    return {n: np.ascontiguousarray(v) if isinstance(v, np.ndarray) else v for n, v in values.items()}


def _slots(plan: Plan) -> I64:
    """(D,) a deployment's place within its loan."""
    first = plan.loans.first_deployment[:-1].astype(np.int64)
    return np.asarray(np.arange(len(plan.deployments.key)) - first[plan.deployments.loan])


def _n_slots(plan: Plan) -> int:
    return max(int(np.diff(plan.loans.first_deployment).max(initial=0)), 1)


def _size(plan: Plan, obligors: Obligors, n_early: int) -> dict[str, int]:
    """Counts; `gpuloan::Size`."""
    market, n_loans = plan.market, len(plan.loans.key)
    n_causes = len(CAUSES) if n_loans else 1  # plain loans default with their borrowers
    segments = int(plan.segment_sizes.sum())
    horizon = int(market.horizon)
    facts = obligors.facts[: obligors.phase_first[1]]
    only_plain = (facts[:, PARTY] < 0) & (facts[:, FIRST_LOAN] < facts[:, END_LOAN])
    return {
        "horizon": horizon,
        "n_months": int(market.n_months),
        "n_generations": len(market.demand_beta),
        "n_vintages": len(market.vintage_generation),
        "n_regimes": len(market.regime_means),
        "n_families": len(market.launch_first),
        "n_classes": plan.obligors.hazard.shape[1],
        "n_factors": int(plan.obligors.n_factors),
        "n_loans": n_loans,
        "n_lanes": -(-n_loans // TILE) * TILE,
        "n_slots": _n_slots(plan),
        "n_parties": int(obligors.n_active),
        "n_early": n_early,
        "first_late": int(obligors.phase_first[1]),
        "first_watched": int(obligors.phase_first[2]),
        "n_eights": len(_watched(obligors)[1]),
        "n_fed_back": int(fed_back_classes(plan).sum()),
        "n_plain_runs": int(obligors.tile_run[obligors.phase_tile[1]]) if only_plain.any() else 0,
        "steady_from": _steady_from(plan),
        "n_causes": n_causes,
        "release_rows": _power_of_two(int(plan.recovery.lag_max) + 1),
        "ring": _power_of_two(2 * n_loans * _n_slots(plan)),
        "n_cells": horizon * n_causes + segments,
        "n_columns": len(plan.segments),
        "n_all_loans": plan.n_loans,
        "n_plain": len(plan.plain.key),
        "n_groups": plan.n_groups,
    }


def _steady_from(plan: Plan) -> int:
    """The month from which loans differ in their numbers alone (kernels/gpuloan/plan.cuh)."""
    if (plan.loans.ltv_cap > 0).any() or _n_slots(plan) > 2:
        return NO_MONTH
    return int(max(plan.deployments.start.max(initial=0), plan.loans.draw_month.max(initial=0)))


def _power_of_two(n: int) -> int:
    """The least that is not below n: a remainder is a mask."""
    return 1 << max(n - 1, 0).bit_length()


def _hazards(plan: Plan) -> Part:
    part = _fields(plan.obligors, ("own_class", "own_log_scale", "own_loadings", "own_residual", "own_key"))
    part = {name: value for name, value in part.items() if "group" not in name and name != "n_factors"}
    return part | {"fed_back": _ready(fed_back_classes(plan), i32)}


def _watched(obligors: Obligors) -> tuple[I64, I64]:
    """Positions of watched obligors, (2, eights, 4), the last eight of a class filled with -1; and the class of each eight."""
    n = np.diff(obligors.watched_class)
    eights = -(-n // EIGHT)
    klass = np.repeat(np.arange(len(n)), n)
    before = np.concatenate([[0], np.cumsum(EIGHT * eights - n)])  # places that classes before are filled with
    places = np.full(EIGHT * int(eights.sum()), -1, np.int64)
    places[np.arange(len(klass)) + before[klass]] = int(obligors.phase_first[2]) + np.arange(len(klass))
    return places.reshape(-1, 2, EIGHT // 2).transpose(1, 0, 2).reshape(-1), np.repeat(np.arange(len(n)), eights)


def _obligors(obligors: Obligors, early: I64) -> Part:
    run = np.zeros(len(obligors.facts), np.int64)  # of the watched: none
    decided = int(obligors.run_first[-1])
    run[:decided] = np.repeat(np.arange(len(obligors.run_class)), np.diff(obligors.run_first))
    klass = np.zeros(len(obligors.facts), i32)
    klass[:decided] = obligors.run_class[run[:decided]]
    n_classes = len(obligors.watched_class) - 1
    klass[decided:] = np.repeat(np.arange(n_classes), np.diff(obligors.watched_class))
    group = np.full(len(obligors.facts), -1, i32)
    group[:decided] = obligors.run_group[run[:decided]]
    watched, watched_class = _watched(obligors)
    return {
        "key": np.ascontiguousarray(obligors.key_low | (obligors.key_high << np.uint64(32))),
        "klass": klass,
        "group": group,
        "facts": _ready(obligors.facts),
        "log_scale": _ready(obligors.log_scale),
        "residual": _ready(obligors.residual),
        "inverse_residual": _ready(obligors.inverse_residual),
        "loadings": _ready(obligors.loadings),
        "early": _ready(early),
        "watched": _ready(watched),
        "watched_party": _ready(np.where(watched >= 0, obligors.facts[watched, PARTY], -1)),
        "watched_class": _ready(watched_class),
        "run_first": _ready(obligors.run_first),
        "run_class": _ready(obligors.run_class),
        "run_group": _ready(obligors.run_group),
        "run_log_scale": _ready(obligors.run_log_scale),
        "run_low": _ready(obligors.run_low),
        "run_high": _ready(obligors.run_high),
        "run_residual_low": _ready(obligors.run_residual_low),
        "run_residual_high": _ready(obligors.run_residual_high),
    }


def _loans(plan: Plan, order: I64) -> Part:
    loans = plan.loans
    columns: Part = {
        "key": loans.key,
        "index": loans.index,
        "commitment_cents": loans.commitment_cents,
        "balance": loans.balance,
        "reserve": loans.reserve,
        "support": loans.support,
        "undrawn": loans.undrawn,
        "draw_month": loans.draw_month,
        "first_month": loans.first_month,
        "refinance_ltv": loans.refinance_ltv,
        "kept_share": loans.kept_share,
        "pulled_in": loans.pulled_in,
        "n_deployments": np.diff(loans.first_deployment).astype(i32),
    }
    part = {name: np.ascontiguousarray(values[order]) for name, values in columns.items()}
    return part | {"principal": np.ascontiguousarray(loans.principal[order].T)}


def _classes(plan: Plan) -> tuple[F32, I64]:
    """Terms that many loans share, (classes, 8) float32 as two quads of kernels/gpuloan/memory.cuh, and each loan's class."""
    loans = plan.loans
    columns = (
        loans.floating,
        loans.dscr_default,
        np.where(loans.dscr_default > 0, loans.dscr_default_months, f32(np.inf)),
        np.where(loans.dscr_lockup > 0, loans.dscr_lockup, f32(-np.inf)),  # never below
        loans.reserve_months,
        loans.sweep_share,
        loans.draw_month.astype(i32).view(f32),  # bits, never a number
        loans.ltv_cap,
    )
    rows = np.stack([column.astype(f32) for column in columns], axis=1)
    bits, klass = np.unique(rows.view(i32), axis=0, return_inverse=True)
    return np.ascontiguousarray(bits).view(f32), klass.reshape(-1)


def _lanes(plan: Plan, n_classes: int, klass: I64) -> I64:
    """Loans in the order of lanes: where classes are few by class first, so that the lanes of a warp read one address."""
    order = lane_order(plan, _slots(plan), _n_slots(plan))
    return order[np.argsort(klass[order], kind="stable")] if n_classes * TILE <= len(order) else order


def _slot_quads(plan: Plan, order: I64, klass: I64) -> F32:
    """(tiles, quads, TILE, 4) float32, a quad a slot and two at least, as in kernels/gpuloan/memory.cuh."""
    loans, deployments, n = plan.loans, plan.deployments, len(order)
    quads = np.zeros((max(_n_slots(plan), 2), 4, -(-n // TILE) * TILE), f32)
    slot, lane = np.divmod(_matrix_place(plan, order), max(n, 1))
    quads[slot, 0, lane] = deployments.hours
    quads[slot, 1, lane] = deployments.hourly_opex
    quads[slot, 2, lane] = (4 * deployments.generation).astype(i32).view(f32)
    quads[0, 3, :n] = loans.margin[order]
    quads[1, 3, :n] = klass[order].astype(i32).view(f32)
    tiles = quads.reshape(len(quads), 4, -1, TILE)
    return np.ascontiguousarray(tiles.transpose(2, 0, 3, 1))


def _matrix_place(plan: Plan, order: I64) -> I64:
    """(D,) place of a deployment in the matrix (slot, lane)."""
    lane = np.empty(len(order), np.int64)
    lane[order] = np.arange(len(order))
    return np.asarray(_slots(plan) * len(order) + lane[plan.deployments.loan])


def _deployments(plan: Plan, order: I64, active: I64) -> Part:
    deployments, place = plan.deployments, _matrix_place(plan, order)
    tenant = deployments.tenant
    if len(active):
        tenant = np.where(tenant >= 0, active[np.maximum(tenant, 0)], -1)
    rows = np.zeros(_n_slots(plan) * len(order), DEPLOYMENT)
    rows["start"], rows["tenant"], rows["let_place"] = NO_MONTH, -1, _let_place(plan, len(order))
    rows["tenant"][place] = tenant
    for name in set(rows.dtype.names or ()) - {"tenant", "let_place", "none"}:
        rows[name][place] = getattr(deployments, name)
    key = np.zeros(len(rows), np.uint64)
    key[place] = deployments.key
    return {"key": key, "start": _ready(rows["start"]), "rows": rows.view(i32)}


def _let_place(plan: Plan, n_loans: int) -> NDArray[Any]:
    """Where a path's state has the rate of each contract of the matrix."""
    n_slots = _n_slots(plan)
    slot, lane = np.divmod(np.arange(n_slots * n_loans), max(n_loans, 1))
    row = (lane // TILE) * (STATE_ROWS + n_slots) + STATE_ROWS
    return np.asarray(row * TILE + lane % TILE * n_slots + slot, i32)


def _lists(plan: Plan, order: I64, active: I64, obligors: Obligors) -> Part:
    """What happens in a month, and what a party has a hand in: lists, and rows of where in them (memory.cuh)."""
    loans, deployments, months = plan.loans, plan.deployments, int(plan.market.horizon) + 1
    place, lanes = _matrix_place(plan, order), np.arange(len(order))
    n_parties = int((active >= 0).sum())
    let = deployments.tenant >= 0
    tenant = np.where(let, active[np.maximum(deployments.tenant, 0)], -1) if len(active) else deployments.tenant
    # a contract is looked at when its chips are put in service, for its tenant may have fallen before, and at its end
    late = let & (deployments.start > 1)
    ends = np.maximum(deployments.contract_end + 1, 1)
    again = let & (~late | (ends > deployments.start))
    due_month = np.concatenate([np.where(late, deployments.start, -1), np.where(again, ends, -1)])
    first_month, term = loans.first_month[order], loans.term[order]
    begins = (first_month > 1) & (first_month != term)  # one that matures at once goes on from there
    draws = np.where(loans.draw_month > 0, loans.draw_month, -1)[order]
    matures = np.where(first_month <= term, term, -1)
    opens = np.concatenate([draws, np.where(begins, first_month, -1), matures])
    what = np.repeat([DRAWS, BEGINS, MATURES], len(order)) | np.tile(lanes, 3) << OPENING_BITS
    by_month = {
        "opening": lists_by_place(opens, what, months),
        "due": lists_by_place(due_month, np.concatenate([place, place]), months),
        "maturing": lists_by_place(matures, lanes, months),
    }
    by_party = {
        "tenant": lists_by_place(tenant, place, n_parties),
        "parent": lists_by_place(active[loans.parent[order]], lanes, n_parties),
    }
    is_party = obligors.facts[:, PARTY] >= 0
    plain = np.zeros((n_parties, 2), np.int64)
    plain[obligors.facts[is_party, PARTY]] = obligors.facts[is_party][:, [FIRST_LOAN, END_LOAN]]
    return {
        **{name: items for name, (_, items) in (by_month | by_party).items()},
        "months": _months(plan, _spans(by_month)),
        "hands": _ready(np.pad(np.concatenate([*_spans(by_party), plain], axis=1), ((0, 0), (0, 2)))),
    }


def _months(plan: Plan, spans: list[I64]) -> NDArray[Any]:
    """(T + 1, 8) int32, struct Month of kernels/gpuloan/memory.cuh."""
    recovery, within = plan.recovery, slice(int(plan.market.horizon) + 1)
    rows = np.zeros((len(recovery.cost_growth), 8), i32)
    rows[within, :6] = np.concatenate(spans, axis=1)
    rows[within, 6] = recovery.base_rate.view(i32)
    rows[:, 7] = recovery.cost_growth.view(i32)
    return rows


def _spans(lists: dict[str, tuple[I64, NDArray[Any]]]) -> list[I64]:
    """(n, 2) where the entries of each place begin and end, by list."""
    return [np.stack([first[:-1], first[1:]], axis=1) for first, _ in lists.values()]


def _recovery(plan: Plan) -> Part:
    """Every regime has a threshold of renewals: markets without GPUs too, whose months are walked for prices."""
    part = _fields(plan.recovery, ("cost_growth", "base_rate"))
    thresholds = np.zeros(len(plan.market.regime_means), i32)
    thresholds[: len(plan.recovery.renewal)] = plan.recovery.renewal
    return part | {"renewal": thresholds}


def _groups(plan: Plan) -> Part:
    places = group_places(plan)
    return {
        "discount": _ready(places.discount),
        "month": i32(places.month),
        "year": i32(places.year),
        "cause": i32(places.cause),
        "month_cause": i32(places.month_cause),
        "first_segment": i32(plan.groups["month_cause"].stop),
        "segment_start": _ready(places.segment_start),
        "segment_code": _ready(places.segment_code),
    }


COUNTERS = 5
BANKS = 128  # bytes of a row of shared memory's banks


def _apart(n_bytes: int, n_loans: int) -> int:
    """Bytes from one path's hot memory to the next: as much off a whole row as a path has lanes of a warp, so that paths that
    share one, four or two, meet no bank of another's."""
    own = BANKS // (4 if n_loans <= SMALL_BOOK else 2)
    return n_bytes + (own - n_bytes) % BANKS


def _memory(size: dict[str, int]) -> tuple[Part, int, int]:
    """Byte offsets of a path's rows in its hot and cold memory, and the bytes of both; `gpuloan::Places`."""
    n, g, c, horizon = size["n_loans"], size["n_generations"], size["n_classes"], size["horizon"]
    d = n * size["n_slots"]
    hot = {
        "spot": 4 * g,
        "released": 4 * g * size["release_rows"],
        "overhang": 4 * g,
        "contract": 4 * g,
        "cumulative": 4 * c,
        "level": 4 * c,
        "counters": 4 * COUNTERS,
        "marks": 8 * (size["n_months"] + 1),
        "note": 16,
        "theta": 4 * EIGHT * size["n_eights"],
        "state": 4 * size["n_lanes"] * (STATE_ROWS + size["n_slots"]),
    }
    cold = {
        "log_hazard": 4 * c * (horizon + 1) if size["n_fed_back"] else 0,
        "rents": 4 * g * (size["n_months"] + 1),
        "months": 4 * size["n_parties"],
        "hits": 4 * size["n_parties"],
        "fallen": 4 * (size["n_parties"] + EIGHT * size["n_eights"]),
        "contracts": 16 * d,
        "fates": 8 * n,
        "workouts": 32 * n,
        "renewed": 4 * size["ring"],
    }
    part: Part = {}
    totals = []
    for regions in (hot, cold):
        place = 0
        for name, n_bytes in regions.items():
            part[name] = i32(place)
            place += -(-n_bytes // 16) * 16
        totals.append(place)
    totals[0] = _apart(totals[0], n)
    part |= {"hot_bytes": i32(totals[0]), "cold_bytes": i32(totals[1])}
    return part, totals[0], totals[1]
