"""One path, month by month, for a chunk of paths at once (docs/model.md: order inside a month)."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from ..plan import Plan
from . import loans as gpu_loans
from . import market, obligors, plain, recovery
from .arithmetic import F32, F64, I32, I64, Bool
from .philox import U64


@dataclass(slots=True)
class Defaults:
    """The defaults of a chunk, one row a (path, loan), all (n,); loans are positions among all loans by id."""

    path: I64  # row in the chunk
    loan: I32
    month: I32
    cause: I32
    ead: I64  # cents
    loss: I64  # cents, dated `month`
    stepped_in: Bool
    sale_month: I32  # 0: a plain loan
    proceeds: I64  # cents as of the sale month

    @classmethod
    def join(cls, parts: list[Defaults]) -> Defaults:
        """All rows, by path, then loan."""
        columns = {f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)}
        order = np.lexsort((columns["loan"], columns["path"]))
        return cls(**{name: values[order] for name, values in columns.items()})


@dataclass(slots=True)
class History:
    """The market and the parties of each path, when asked for: (T + 1, n_paths, …)."""

    regimes: I32
    demand: F32
    contract: F32
    spot: F32
    values: F32
    overhang: F32
    default_months: I32  # (n_paths, n_obligors)


def run_paths(plan: Plan, seed: int, paths: U64) -> Defaults:
    """Every default of the given paths."""
    demand = market.demand_path(plan.market, seed, paths)
    state = obligors.draw_obligors(plan.obligors, seed, paths, demand.factor)
    parts = []
    if len(plan.loans.key):
        parts += _run_gpu_loans(plan, seed, paths, demand, state)
    else:
        _run_obligors(plan, demand, state)
    parts.append(plain.plain_defaults(plan.plain, seed, paths, state.months, demand.factor, int(plan.market.horizon)))
    return Defaults.join(parts)


def _run_obligors(plan: Plan, demand: market.DemandPath, state: obligors.ObligorState) -> None:
    """(3) alone: without chips nothing is fed back."""
    none = np.zeros(demand.demand.shape[1], dtype=np.float32)
    for t in range(1, int(plan.market.horizon) + 1):
        obligors.accumulate_hazards(plan.obligors, t, state, demand.regimes[t], demand.demand[t], none)
        obligors.defaults(plan.obligors, t, state)


def _run_gpu_loans(
    plan: Plan, seed: int, paths: U64, demand: market.DemandPath, parties: obligors.ObligorState
) -> list[Defaults]:
    """(a) market, (b) obligors, (c) deployments, (d) loans, (e) sales; after H only (a) and (e)."""
    horizon, last = int(plan.market.horizon), int(plan.market.n_months)
    n_generations = len(plan.market.demand_beta)
    launched = market.launches(plan.market, seed, paths)
    world = market.initial_state(plan.market, len(paths))
    state = gpu_loans.initial_loans(plan, seed, paths)
    chains = gpu_loans.slots(plan.loans)
    open_: list[recovery.Workout] = []
    closed: list[Defaults] = []
    released = np.zeros((len(paths), n_generations), dtype=np.int64)
    for t in range(1, last + 1):
        if t > horizon and not open_:
            break
        world = market.next_state(plan.market, seed, paths, t, world, released)
        prices = market.prices(plan.market, t, demand.demand[t], world, launched)
        released = np.zeros_like(released)
        if t <= horizon:
            regime = demand.regimes[t]
            obligors.accumulate_hazards(plan.obligors, t, parties, regime, demand.demand[t], prices.mean_overhang)
            obligors.defaults(plan.obligors, t, parties)
            gpu_loans.step_deployments(plan, seed, paths, t, state, parties.months, regime, prices, released)
            defaulted, causes = gpu_loans.step_loans(plan, t, state, parties.months, prices, chains)
            if defaulted.any():
                open_.append(recovery.open_workouts(plan, seed, paths, t, state, defaulted, causes, prices))
        open_, done = _sell_due(plan, t, state, open_, prices, released)
        closed += done
    return closed


def _sell_due(
    plan: Plan,
    t: int,
    state: gpu_loans.LoanState,
    open_: list[recovery.Workout],
    prices: market.Prices,
    released: I64,
) -> tuple[list[recovery.Workout], list[Defaults]]:
    """(e) the workouts whose sale falls in month t; the others stay open."""
    still, done = [], []
    for workout in open_:
        due = workout.sale_month == t
        if not due.any():
            still.append(workout)
            continue
        sold = workout.select(due)
        recovery.sell(plan, t, state, sold, prices, released)
        done.append(_settle(plan, sold))
        if not due.all():
            still.append(workout.select(~due))
    return still, done


def _settle(plan: Plan, sold: recovery.Workout) -> Defaults:
    commitment = plan.loans.commitment_cents[sold.loan]
    return Defaults(
        path=sold.path,
        loan=plan.loans.index[sold.loan],
        month=sold.month,
        cause=sold.cause,
        ead=to_cents(commitment, sold.ead),
        loss=to_cents(commitment, recovery.loss(plan, sold)),
        stepped_in=sold.stepped_in,
        sale_month=sold.sale_month,
        proceeds=to_cents(commitment, sold.proceeds),
    )


def to_cents(commitment: F64, fraction: F32) -> I64:
    """(1.4) commitment × fraction in float64, rounded once to the nearest cent, ties to even."""
    return np.rint(commitment * fraction.astype(np.float64)).astype(np.int64)
