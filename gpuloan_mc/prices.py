"""Rental prices and chip values of a market alone, without a book."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from . import risk
from .arguments import MAX_PATHS, MAX_SEED, whole_number
from .errors import UsageError
from .market import Market
from .plan import MarketPlan
from .planning import build_market, generation_order
from .reference import market as reference_market
from .reference.arithmetic import F32, I32
from .reference.philox import U64

POINTS = (0.05, 0.5, 0.95)
_PATHS_AT_ONCE = 4096


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

    @property
    def n_paths(self) -> int:
        """Number of paths."""
        return len(self.regimes)

    def year_ends(self) -> list[int]:
        """Months 12, 24, …; the last month where there is no whole year."""
        n_months = self.regimes.shape[1]
        return list(range(12, n_months, 12)) or [n_months - 1]

    def points(self) -> list[PricePoint]:
        """Points of prices and values at year ends, by kind (contract, spot, chip_value), generation and month."""
        kinds = {"contract": self.contract, "spot": self.spot, "chip_value": self.chip_values}
        return [
            PricePoint(kind, gpu, month, *point)
            for kind, values in kinds.items()
            for g, gpu in enumerate(self.generations)
            for month in self.year_ends()
            for point in _points(values[:, month, g])
        ]

    def regime_shares(self) -> list[RegimeShare]:
        """Share of the paths in each regime at year ends."""
        found = []
        for month in self.year_ends():
            for i, name in enumerate(self.regime_names):
                share = float((self.regimes[:, month] == i).mean())
                found.append(RegimeShare(month, name, share, (share * (1 - share) / self.n_paths) ** 0.5))
        return found


class PricePoint(NamedTuple):
    """A quantile of a simulated price and its distribution-free 95 % interval; None: the paths are too few."""

    kind: str
    gpu: str
    month: int
    level: float
    value: float
    low: float | None
    high: float | None


class RegimeShare(NamedTuple):
    """How many of the paths are in a regime."""

    month: int
    regime: str
    share: float
    standard_error: float


def _points(values: F32) -> Iterator[tuple[float, float, float | None, float | None]]:
    """(level, lower quantile, low, high) of a sample."""
    ordered, n = np.sort(values), len(values)
    for level in POINTS:
        low, high = risk.quantile_ranks(n, level)
        yield (
            level,
            float(ordered[risk.quantile_rank(n, level) - 1]),
            None if low is None else float(ordered[low - 1]),
            None if high is None else float(ordered[high - 1]),
        )


def simulate_prices(market: Market, n_paths: int = 1000, *, seed: int = 1) -> Prices:
    """Prices, chip values and regimes of the market alone: only the outside calendar releases chips.

    Month 0 is the start: the market's states are given there, so all paths agree on it.

    Raises:
        UsageError: the market has no GPU part, or an argument is out of range.
    """
    n_paths = whole_number("n_paths", n_paths, 1, MAX_PATHS)
    seed = whole_number("seed", seed, 0, MAX_SEED)
    if market.gpu is None:
        raise UsageError("the market has no [gpu] part, so there are no prices to simulate; add it to market.toml")
    generations = [market.gpu.generations[i] for i in generation_order(market.gpu)]
    plan = build_market(market, [(g.name, g.launch_month) for g in generations], sells_chips=False)
    n_months = int(plan.n_months) + 1
    shape = (n_paths, n_months, len(generations))
    contract, spot, values = (np.empty(shape, dtype=np.float32) for _ in range(3))
    regimes = np.empty(shape[:2], dtype=np.int32)
    for first in range(0, n_paths, _PATHS_AT_ONCE):
        rows = slice(first, min(first + _PATHS_AT_ONCE, n_paths))
        paths = reference_market.path_numbers(first, rows.stop - first)
        _fill(plan, seed, paths, contract[rows], spot[rows], values[rows], regimes[rows])
    return Prices(
        contract=contract,
        spot=spot,
        chip_values=values,
        regimes=regimes,
        generations=tuple(g.name for g in generations),
        regime_names=tuple(market.regimes.names),
    )


def _fill(plan: MarketPlan, seed: int, paths: U64, contract: F32, spot: F32, values: F32, regimes: I32) -> None:
    demand = reference_market.demand_path(plan, seed, paths)
    launched = reference_market.launches(plan, seed, paths)
    state = reference_market.initial_state(plan, len(paths))
    nothing = np.zeros((len(paths), contract.shape[2]), dtype=np.int64)
    regimes[:] = demand.regimes.T
    for t in range(contract.shape[1]):
        if t > 0:
            state = reference_market.next_state(plan, seed, paths, t, state, nothing)
        now = reference_market.prices(plan, t, demand.demand[t], state, launched)
        contract[:, t], spot[:, t], values[:, t] = now.contract, now.spot, now.values


def points_dict(simulated: Prices) -> dict[str, Any]:
    """`points` and `regime_shares` as nested objects: kind, gpu, month, p05 … with its interval."""
    found: dict[str, Any] = {"n_paths": simulated.n_paths}
    for point in simulated.points():
        month = found.setdefault(point.kind, {}).setdefault(point.gpu, {}).setdefault(str(point.month), {})
        name = f"p{round(100 * point.level):02}"
        month[name], month[f"{name}_ci"] = point.value, [point.low, point.high]
    regimes = found.setdefault("regimes", {})
    for share in simulated.regime_shares():
        regimes.setdefault(str(share.month), {})[share.regime] = {
            "share": share.share,
            "standard_error": share.standard_error,
        }
    return found
