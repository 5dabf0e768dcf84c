"""The straight line: portfolio and market to plan, plan through an engine, integers to a result."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .digest import LossDigest
from .engines.base import PathTable
from .engines.numpy_reference import NumpyReference, paths_at_once
from .errors import UsageError
from .market import Market
from .plan import CAUSES, Plan
from .planning import build_market, build_plan, generation_order
from .reference import market as reference_market
from .reference.arithmetic import F32, I32
from .result import Result
from .risk import Moments

if TYPE_CHECKING:
    from .portfolio import Portfolio

Progress = Callable[[int, int], None]

ENGINES = ("auto", "numpy")
MAX_SEED = 2**64 - 1
MAX_PATHS = 2**40
DEFAULT_PATHS = {"numpy": 10_000}


def simulate(
    portfolio: Portfolio,
    market: Market,
    *,
    n_paths: int | None = None,
    seed: int = 1,
    engine: str = "auto",
    chunk: int | None = None,
    progress: Progress | None = None,
) -> Result:
    """The loss distribution of a book.

    Args:
        portfolio: the loans and the parties behind them.
        market: the world they live in.
        n_paths: futures to simulate, 1 … 2^40; None: the engine's default (10,000 on numpy).
        seed: 0 … 2^64 - 1. Same book, market and seed: same integers, path by path.
        engine: auto or numpy.
        chunk: paths at a time; changes memory and speed, never a result.
        progress: called with (paths done, paths in all) after each chunk.

    Raises:
        UsageError: an argument is out of range.
        InputRejected: the book cannot be planned.
    """
    name, reason = choose_engine(engine)
    n_paths = DEFAULT_PATHS[name] if n_paths is None else n_paths
    _check("n_paths", n_paths, 1, MAX_PATHS)
    _check("seed", seed, 0, MAX_SEED)
    if chunk is not None:
        _check("chunk", chunk, 1, MAX_PATHS)
    plan = build_plan(portfolio, market)
    runner = NumpyReference()
    start = time.perf_counter()
    ledger = _Ledger(plan, n_paths)
    for first, count in chunks(n_paths, chunk or paths_at_once(plan)):
        ledger.add(runner.run(plan, seed, first, count))
        if progress is not None:
            progress(first + count, n_paths)
    seconds = time.perf_counter() - start
    steps = n_paths * plan.n_loans * int(plan.market.horizon)
    return Result(
        n_paths=n_paths,
        seed=seed,
        engine=name,
        engine_reason=reason,
        seconds=seconds,
        loan_steps_per_second=steps / seconds,
        digest=ledger.digest.hexdigest(),
        plan_digest=plan.digest,
        commitment_usd=portfolio.commitment_usd,
        balance_usd=portfolio.balance_usd,
        losses=ledger.losses,
        discounted_losses=ledger.discounted,
        defaulted_balance=ledger.defaulted_balance,
        largest_loss=ledger.largest,
        defaults=ledger.defaults,
        n_loans=plan.n_loans,
        horizon_months=int(plan.market.horizon),
        loss_by_year=ledger.by_year,
        loss_by_cause=dict(zip(CAUSES, ledger.by_cause, strict=True)),
        loan_totals=ledger.loan_totals(np.array(portfolio.loans["loan_id"], dtype=object)),
        plan=plan,
    )


def choose_engine(engine: str) -> tuple[str, str]:
    """Name of the engine that runs, and why that one.

    Raises:
        UsageError: no such engine.
    """
    if engine not in ENGINES:
        raise UsageError(f"engine is {engine!r}; it must be one of {', '.join(ENGINES)}")
    if engine == "auto":
        return "numpy", "auto: numpy, the reference engine, is the only one in this version"
    return engine, "asked for"


def chunks(n_paths: int, size: int) -> Iterator[tuple[int, int]]:
    """(first path, number of paths) of each chunk."""
    for first in range(0, n_paths, size):
        yield first, min(size, n_paths - first)


def _check(name: str, value: int, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not low <= value <= high:
        raise UsageError(f"{name} is {value!r}; it must be a whole number from {low} to {high}")


class _Ledger:
    """Path tables added up as chunks arrive."""

    def __init__(self, plan: Plan, n_paths: int) -> None:
        self.losses = np.zeros(n_paths, dtype=np.int64)
        self.discounted, self.defaulted_balance, self.largest = (np.zeros(n_paths, dtype=np.int64) for _ in range(3))
        self.defaults = np.zeros(n_paths, dtype=np.int32)
        self.digest = LossDigest()
        years = -(-int(plan.market.horizon) // 12)
        self.by_year = tuple(Moments(0, 0, 0) for _ in range(years))
        self.by_cause = tuple(Moments(0, 0, 0) for _ in CAUSES)
        self._loan = {name: np.zeros(plan.n_loans, dtype=np.int64) for name in ("defaults", "ead", "loss")}

    def add(self, table: PathTable) -> None:
        rows = slice(table.first_path, table.first_path + len(table.loss))
        self.losses[rows], self.discounted[rows] = table.loss, table.discounted_loss
        self.defaulted_balance[rows], self.largest[rows] = table.defaulted_balance, table.largest_loss
        self.defaults[rows] = table.defaults
        self.digest.add(table.first_path, table.loss)
        self.by_year = _merged(self.by_year, Moments.columns(table.loss_by_year))
        self.by_cause = _merged(self.by_cause, Moments.columns(table.loss_by_cause))
        for name, values in (("defaults", table.loan_defaults), ("ead", table.loan_ead), ("loss", table.loan_loss)):
            self._loan[name] += values

    def loan_totals(self, loan_ids: NDArray[Any]) -> dict[str, NDArray[Any]]:
        return {"loan_ids": loan_ids, **self._loan}


def _merged(ours: tuple[Moments, ...], theirs: tuple[Moments, ...]) -> tuple[Moments, ...]:
    return tuple(a + b for a, b in zip(ours, theirs, strict=True))


@dataclass(frozen=True, slots=True)
class Prices:
    """Simulated market without a book: float32 dollars by path and month 0 … n_months - 1.

    contract, spot: (n_paths, n_months, n_generations) a chip's hour; chip_values: the same shape, of a chip put in
    service in its generation's launch month; regimes: (n_paths, n_months) positions in `regime_names`.
    """

    contract: F32
    spot: F32
    chip_values: F32
    regimes: I32
    generations: tuple[str, ...]
    regime_names: tuple[str, ...]


def simulate_prices(market: Market, *, n_paths: int = 1000, seed: int = 1) -> Prices:
    """Prices, chip values and regimes of the market alone: only the outside calendar releases chips.

    Month 0 is the start: the market's states are given there, so all paths agree on it.

    Raises:
        UsageError: the market has no GPU part, or an argument is out of range.
    """
    _check("n_paths", n_paths, 1, MAX_PATHS)
    _check("seed", seed, 0, MAX_SEED)
    if market.gpu is None:
        raise UsageError("the market has no [gpu] part, so there are no prices to simulate; add it to market.toml")
    generations = [market.gpu.generations[i] for i in generation_order(market.gpu)]
    plan = build_market(market, [(g.name, g.launch_month) for g in generations], sells_chips=False)
    n_months = int(plan.n_months)
    shape = (n_paths, n_months + 1, len(generations))
    contract, spot, values = (np.empty(shape, dtype=np.float32) for _ in range(3))
    paths = reference_market.path_numbers(0, n_paths)
    demand = reference_market.demand_path(plan, seed, paths)
    launched = reference_market.launches(plan, seed, paths)
    state = reference_market.initial_state(plan, n_paths)
    nothing = np.zeros((n_paths, len(generations)), dtype=np.int64)
    for t in range(n_months + 1):
        if t > 0:
            state = reference_market.next_state(plan, seed, paths, t, state, nothing)
        now = reference_market.prices(plan, t, demand.demand[t], state, launched)
        contract[:, t], spot[:, t], values[:, t] = now.contract, now.spot, now.values
    return Prices(
        contract=contract,
        spot=spot,
        chip_values=values,
        regimes=np.ascontiguousarray(demand.regimes.T),
        generations=tuple(g.name for g in generations),
        regime_names=tuple(market.regimes.names),
    )
