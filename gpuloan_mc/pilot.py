"""The pilot of (3.2): monthly hazards scaled so that the mean survival over a market without feedback is the PD curve's."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from . import tables
from .kept_numbers import kept
from .market import HazardClass, Market
from .plan import MarketPlan
from .reference.arithmetic import F64
from .reference.market import DemandPath, demand_path, path_numbers

N_PATHS = 16_384
SEED = 0
_NEWTON_STEPS = 60


def matched_hazards(market: Market, plan: MarketPlan) -> F64:
    """h_c(t), (H + 1, C) float64, as given or matched (docs/model.md 3.2).

    Classes without multipliers need no pilot: their mean survival is exact as it stands.
    """
    horizon = market.horizon_months
    given = [tables.monthly_hazards(c.pd_by_year, c.pd_by_month, c.hazard, horizon) for c in market.hazard_classes]
    hazards = np.column_stack(given)
    moved = [i for i, c in enumerate(market.hazard_classes) if has_multipliers(c)]
    if market.dependence.pd == "as-given" or not moved:
        return hazards
    pilot = _pilot(market, plan)
    overhang = calendar_overhang(plan)
    for i in moved:
        hazards[:, i] = _matched(market.hazard_classes[i], hazards[:, i], pilot, overhang)
    return hazards


_MANY_CURVES = 1024


@dataclass(frozen=True)
class _Pilot:
    """Regimes and demand of the pilot's paths, and the hazards matched in them, by what they depend on."""

    key: str
    plan: MarketPlan
    horizon: int
    curves: dict[tuple[str, bytes, bytes], F64] = field(default_factory=dict)

    @cached_property
    def path(self) -> DemandPath:
        """Made when a curve is not known: it takes most of a pilot's time."""
        return demand_path(self.plan, SEED, path_numbers(0, N_PATHS), self.horizon)


_kept: dict[str, _Pilot] = {}


def _pilot(market: Market, plan: MarketPlan) -> _Pilot:
    """The pilot of a market. The last is kept: it takes longer than a small run, and the runs of a stress
    mostly share it, for nothing but the market's regimes, demand and horizon decides it."""
    key = f"{market.regimes.model_dump_json()} {market.demand.model_dump_json()} {market.horizon_months}"
    found = _kept.get(key)
    if found is None:
        found = _Pilot(key, plan, market.horizon_months)
        _kept.clear()
        _kept[key] = found
    return found


def has_multipliers(item: HazardClass) -> bool:
    """Whether the market moves the class's hazard."""
    shifted = any(m != 1 for m in item.regime_multipliers or [])
    return shifted or item.demand_sensitivity != 0 or item.overhang_sensitivity != 0


def calendar_overhang(plan: MarketPlan) -> F64:
    """V̄ by month, (H + 1,), when only the outside calendar releases chips."""
    horizon = int(plan.horizon)
    mean, overhang = np.zeros(horizon + 1), np.zeros(plan.calendar.shape[1])
    for t in range(1, horizon + 1):
        overhang = float(plan.overhang_decay) * overhang + plan.calendar[t] * plan.inverse_depth[t].astype(np.float64)
        mean[t] = (plan.depth_weights[t].astype(np.float64) * overhang).sum()
    return mean


def _matched(item: HazardClass, given: F64, pilot: _Pilot, overhang: F64) -> F64:
    """The class's curve, found once: most scenarios of a stress leave most classes as they are, and so do most runs."""
    fed = item.overhang_sensitivity * overhang
    key = (item.model_dump_json(), given.tobytes(), fed.tobytes())
    found = pilot.curves.get(key)
    if found is None:
        found = kept(
            "matched hazards",
            (pilot.key, N_PATHS, SEED, *key),
            given.shape,
            np.float64,
            lambda: _match(item, given, pilot.path, fed),
        )
        if len(pilot.curves) < _MANY_CURVES:
            pilot.curves[key] = found
    return found


def _match(item: HazardClass, given: F64, pilot: DemandPath, fed: F64) -> F64:
    """Newton's method month by month; mean(e^(-H - x·m)) falls and is convex in x, so it converges from the left."""
    shift = np.log(np.array(item.regime_multipliers or [1.0] * (int(pilot.regimes.max()) + 1)))
    target = np.exp(-np.cumsum(given))
    cumulative = np.zeros(pilot.demand.shape[1])
    matched = np.zeros_like(given)
    for t in range(1, len(given)):
        exponent = shift[pilot.regimes[t]] - item.demand_sensitivity * pilot.demand[t].astype(np.float64)
        multiplier = np.exp(np.clip(exponent + fed[t], -40, 40))
        x = 0.0
        for _ in range(_NEWTON_STEPS):
            survival = np.exp(-cumulative - x * multiplier)
            excess = survival.mean() - target[t]
            if abs(excess) <= 1e-15:
                break
            x = max(x + excess / (survival * multiplier).mean(), 0.0)
        matched[t] = x
        cumulative += x * multiplier
    return matched
