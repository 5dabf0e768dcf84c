"""Scenarios: a stress is a function from a portfolio and a market to a portfolio and a market, written as a TOML overlay."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from .errors import InputRejected, Problem
from .inputs import overlay
from .inputs.market_file import problems_of_market
from .inputs.scenario_file import ScenarioFile, bundled_scenarios, checked, read_scenario
from .market import HazardClass, Market
from .pilot import has_multipliers, matched_hazards
from .planning import build_market
from .portfolio import Portfolio
from .reference.arithmetic import F64

_ROWS = ("loans", "deployments", "obligors")


@dataclass(frozen=True)
class Scenario:
    """A named overlay. `content` holds what it changes and forces (docs/scenarios.md)."""

    name: str
    content: ScenarioFile
    file: str = ""

    @classmethod
    def read(cls, scenario: str | Path) -> Scenario:
        """The scenario of a TOML file, or a bundled one by its name.

        Raises:
            InputRejected: no such scenario, or unknown or wrong keys; every problem is in the error.
        """
        name, file, content = read_scenario(scenario)
        return cls(name, content, file)

    @classmethod
    def of(cls, name: str, **tables: Any) -> Scenario:
        """A scenario of Python's dicts and lists, with the keys of a scenario's TOML.

        Raises:
            InputRejected: unknown or wrong keys.
        """
        return cls(name, checked(name, tables), name)

    @property
    def digest(self) -> str:
        """sha256 of what it does as canonical JSON; about and source are left out."""
        content = self.content.model_dump(mode="json", exclude={"about", "source"})
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def __call__(self, portfolio: Portfolio, market: Market) -> tuple[Portfolio, Market]:
        """The stressed book and market.

        Raises:
            InputRejected: it names what the book does not have, or makes the book or market invalid; every problem is
                in the error.
        """
        return stressed(portfolio, market, [self])

    def overlay(self, portfolio: Portfolio, market: Market) -> tuple[Portfolio, Market]:
        """The book and market with the changes made, hazards still to be matched (`hold_hazards`).

        Raises:
            InputRejected: as when called.
        """
        tree = market.model_dump()
        problems = self._change_market(tree)
        frames, of_rows = self._change_rows(portfolio)
        problems += of_rows
        try:
            changed = Market.model_validate(tree)
        except ValidationError as error:
            raise InputRejected([*problems, *self._broken(problems_of_market(self.file, tree, error))]) from None
        if problems:
            raise InputRejected(problems)
        if changed == market and all(frames[name] is getattr(portfolio, name) for name in _ROWS):
            return portfolio, market
        try:
            book = portfolio.replace(market=changed, **frames)
        except InputRejected as refused:
            raise InputRejected(self._broken(refused.problems)) from None
        read = {name: getattr(portfolio, name) for name in ("sources", "rejected", "reconciliation")}
        return dataclasses.replace(book, **read), changed

    def _change_market(self, tree: dict[str, Any]) -> list[Problem]:
        content, force = self.content, self.content.force
        problems = overlay.change_market(self.file, tree, content.market)
        problems += overlay.add_supply(self.file, tree, content.outside_supply)
        problems += overlay.force_prices(self.file, tree, [path.model_dump() for path in force.price])
        if force.demand is not None:
            tree["demand"]["forced"] = force.demand.model_dump()
        return problems

    def _change_rows(self, portfolio: Portfolio) -> tuple[dict[str, Any], list[Problem]]:
        frames: dict[str, Any] = {}
        problems: list[Problem] = []
        for name in _ROWS:
            frames[name], changes = getattr(portfolio, name), getattr(self.content, name)
            if changes:
                frames[name], wrong = overlay.change_rows(self.file, name, frames[name], changes)
                problems += wrong
        if self.content.force.default:
            frames["obligors"], wrong = overlay.force_defaults(
                self.file, frames["obligors"], self.content.force.default
            )
            problems += wrong
        return frames, problems

    def _broken(self, problems: Sequence[Problem]) -> list[Problem]:
        """Problems of what the scenario makes of a book, told as the scenario's."""
        found = []
        for p in problems:
            where = p.where.removesuffix(f":{p.column}") if p.row is None else p.where
            place = p.column if where == self.file else f"{where}, {p.column}" if p.column else where
            found.append(Problem(self.file, f"this makes {place} wrong: {p.message}", p.rule, None, p.column, p.value))
        return found


def scenarios() -> list[str]:
    """Names of the bundled scenarios."""
    return bundled_scenarios()


def as_scenario(scenario: Scenario | str | Path) -> Scenario:
    """The scenario itself, or the one of that name or file."""
    return scenario if isinstance(scenario, Scenario) else Scenario.read(scenario)


def stressed(portfolio: Portfolio, market: Market, chain: Sequence[Scenario | str | Path]) -> tuple[Portfolio, Market]:
    """The book and market after scenarios, applied in order; each must leave a valid book.

    Hazards are matched to the PDs given (docs/model.md 3.2) in the market before all of them, unless one says otherwise.

    Raises:
        InputRejected: a scenario is unknown, names what the book does not have, or makes it invalid.
    """
    found = [as_scenario(s) for s in chain]
    book, changed = portfolio, market
    for scenario in found:
        book, changed = scenario.overlay(book, changed)
    if any(s.content.pd_match == "scenario" for s in found):
        return book, changed
    held = hold_hazards(market, changed)
    return (book, changed) if held is changed else (dataclasses.replace(book, market=held), held)


def hold_hazards(base: Market, changed: Market) -> Market:
    """The changed market with hazards as the pilot of (3.2) matches them in the base market.

    Without this a stress of demand or regimes would leave every mean default probability where it was. The hazards
    become curves by month, `pd` becomes as-given. A market whose pilot sees no difference is returned as it is.
    """
    if changed.dependence.pd == "as-given" or _same_pilot(base, changed):
        return changed
    world = changed.replace(regimes=base.regimes, demand=base.demand, gpu=_gpu_of_pilot(base, changed))
    hazards = matched_hazards(world, build_market(world, [], sells_chips=False))
    classes = [
        _given_by_month(item, hazards[1:, i]) if has_multipliers(item) else item
        for i, item in enumerate(changed.hazard_classes)
    ]
    return changed.replace(hazard_classes=classes, dependence=changed.dependence.replace(pd="as-given"))


def _gpu_of_pilot(base: Market, changed: Market) -> Any:
    """The pilot reads the calendar's overhang; renewals follow the regimes in number, so they come along."""
    return base.gpu if base.gpu is not None and changed.gpu is not None else None


def _same_pilot(base: Market, changed: Market) -> bool:
    if len(base.regimes.names) != len(changed.regimes.names):
        return True  # multipliers by regime mean nothing in a market with other regimes: matched where they stand
    fed = any(c.overhang_sensitivity != 0 for c in changed.hazard_classes)
    return base.regimes == changed.regimes and base.demand == changed.demand and not (fed and base.gpu != changed.gpu)


def _given_by_month(item: HazardClass, hazards: F64) -> HazardClass:
    """The class with a hazard curve as cumulative PDs by month."""
    pd = np.minimum(-np.expm1(-np.cumsum(hazards)), np.nextafter(1.0, 0.0))
    return item.replace(hazard=None, pd_by_year=None, pd_by_month=pd.tolist())
