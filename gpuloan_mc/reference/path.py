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
    stepped_in: Bool  # the lender keeps at least one contract
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
    """What the market and the parties of some paths did. Month 0 is the start; chips released are the book's own."""

    regimes: I32  # (T + 1, n_paths)
    demand: F32  # (T + 1, n_paths)
    contract: F32  # (T + 1, n_paths, G) dollars an hour
    spot: F32  # (T + 1, n_paths, G)
    overhang: F32  # (T + 1, n_paths, G)
    values: F32  # (T + 1, n_paths, V) dollars a chip
    utilisation: F32  # (T + 1, n_paths)
    released: I64  # (T + 1, n_paths, G) chips that the book handed back or sold
    launch_months: F32  # (F, launches, n_paths) infinite: not before the market ends
    default_months: I32  # (n_paths, obligors) NEVER: none


class Recorder:
    """Keeps what a replay wants to see; `cash` is called with each month's waterfall before the state moves on."""

    def __init__(self, plan: Plan, n_paths: int) -> None:
        n_months, n_generations = int(plan.market.n_months) + 1, len(plan.market.demand_beta)
        by_generation = (n_months, n_paths, n_generations)
        self.contract, self.spot, self.overhang = (np.zeros(by_generation, dtype=np.float32) for _ in range(3))
        self.values = np.zeros((n_months, n_paths, len(plan.market.vintage_generation)), dtype=np.float32)
        self.utilisation = np.zeros((n_months, n_paths), dtype=np.float32)
        self.released = np.zeros(by_generation, dtype=np.int64)
        n_families = len(plan.market.launch_first)
        self.launch_months = np.full((n_families, market.MAX_LAUNCHES, n_paths), np.inf, dtype=np.float32)

    def launches(self, plan: Plan, launched: market.Launched) -> None:
        """The launches that come before the market ends."""
        width = launched.months.shape[1]
        inside = launched.months < plan.market.n_months
        self.launch_months[:, :width] = np.where(inside, launched.months, np.float32(np.inf))

    def prices(self, t: int, now: market.Prices, released: I64) -> None:
        """The market of month t, and the chips that came back in it."""
        self.released[t] = released
        self.contract[t], self.spot[t], self.overhang[t] = now.contract, now.spot, now.overhang
        self.values[t], self.utilisation[t] = now.values, now.utilisation

    def cash(self, t: int, cash: gpu_loans.Cash) -> None:
        """The waterfall of month t."""

    def debt(self, t: int, debt: gpu_loans.Debt) -> None:
        """What the loans owe in month t."""

    def history(self, demand: market.DemandPath, default_months: I32) -> History:
        """Everything kept."""
        return History(
            regimes=demand.regimes,
            demand=demand.demand,
            contract=self.contract,
            spot=self.spot,
            overhang=self.overhang,
            values=self.values,
            utilisation=self.utilisation,
            released=self.released,
            launch_months=self.launch_months,
            default_months=default_months,
        )


def run_paths(plan: Plan, seed: int, paths: U64) -> Defaults:
    """Every default of the given paths."""
    return _simulate(plan, seed, paths, None)[0]


def record_paths(plan: Plan, seed: int, paths: U64, recorder: Recorder) -> tuple[Defaults, History]:
    """Every default of the given paths, and their history."""
    defaults, demand, months = _simulate(plan, seed, paths, recorder)
    return defaults, recorder.history(demand, months)


def _simulate(
    plan: Plan, seed: int, paths: U64, recorder: Recorder | None
) -> tuple[Defaults, market.DemandPath, I32]:
    """(a) market, (b) obligors, (c) deployments, (d) loans, (e) sales; after H only (a) and (e)."""
    horizon, last = int(plan.market.horizon), int(plan.market.n_months)
    demand = market.demand_path(plan.market, seed, paths)
    parties = obligors.draw_obligors(plan.obligors, seed, paths, demand.factor)
    launched = market.launches(plan.market, seed, paths)
    world = market.initial_state(plan.market, len(paths))
    book = _GpuBook(plan, seed, paths) if len(plan.loans.key) else None
    released = np.zeros((len(paths), len(plan.market.demand_beta)), dtype=np.int64)
    if recorder is not None:
        recorder.launches(plan, launched)
        recorder.prices(0, market.prices(plan.market, 0, demand.demand[0], world, launched), released)
    for t in range(1, last + 1):
        if t > horizon and recorder is None and book is not None and not book.open:
            break
        world = market.next_state(plan.market, seed, paths, t, world, released)
        prices = market.prices(plan.market, t, demand.demand[t], world, launched)
        released = np.zeros_like(released)
        if t <= horizon:
            regime = demand.regimes[t]
            obligors.accumulate_hazards(plan.obligors, t, parties, regime, demand.demand[t], prices.mean_overhang)
            obligors.defaults(plan.obligors, t, parties)
            if book is not None:
                book.step(t, parties.months, regime, prices, released, recorder)
        if book is not None:
            book.sell(t, prices, released)
        if recorder is not None:
            recorder.prices(t, prices, released)
    parts = [] if book is None else book.closed
    parts.append(plain.plain_defaults(plan.plain, seed, paths, parties.months, demand.factor, horizon))
    return Defaults.join(parts), demand, parties.months


class _GpuBook:
    """The loans with deployments of a chunk of paths, and their workouts."""

    def __init__(self, plan: Plan, seed: int, paths: U64) -> None:
        self.plan, self.seed, self.paths = plan, seed, paths
        self.state = gpu_loans.initial_loans(plan, seed, paths)
        self.chains = gpu_loans.slots(plan.loans)
        self.open: list[recovery.Workout] = []
        self.closed: list[Defaults] = []

    def step(
        self, t: int, months: I32, regime: I32, prices: market.Prices, released: I64, recorder: Recorder | None
    ) -> None:
        """(c), (d): contracts, cash and defaults of month t."""
        plan, seed, paths, state = self.plan, self.seed, self.paths, self.state
        gpu_loans.step_deployments(plan, seed, paths, t, state, months, regime, prices, released)
        defaulted, causes, cash, debt = gpu_loans.step_loans(plan, t, state, months, prices, self.chains)
        if recorder is not None:
            recorder.cash(t, cash)
            recorder.debt(t, debt)
        if defaulted.any():
            self.open.append(recovery.open_workouts(plan, seed, paths, t, state, defaulted, causes, prices))

    def sell(self, t: int, prices: market.Prices, released: I64) -> None:
        """(e): the workouts whose sale falls in month t are settled; the others stay open."""
        still = []
        for workout in self.open:
            due = workout.sale_month == t
            if not due.any():
                still.append(workout)
                continue
            sold = workout.select(due)
            recovery.sell(self.plan, t, self.state, sold, prices, released)
            self.closed.append(_settle(self.plan, sold))
            if not due.all():
                still.append(workout.select(~due))
        self.open = still


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
