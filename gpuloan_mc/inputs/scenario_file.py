"""A scenario's TOML: its keys, and reading it with every problem at its place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from ..errors import BrokenRule, InputRejected, Problem
from ..market import ForcedDemand, ForcedPrice, Name, Table
from ..text import shortened
from .books import suggest
from .limits import MAX_CHIPS, MAX_TOML_BYTES
from .market_file import problems_of_table
from .rules import sentence
from .tapes import Unreadable, read_bytes
from .toml_text import parse_toml

_BUNDLED = Path(__file__).parent.parent / "scenarios"

Amount = Annotated[float, Field(ge=-1e12, le=1e12)]
Cell = str | int | float


class MarketChange(Table):
    """Changes of market.toml, by dotted key: set first, then scale, then shift.

    A table of a list is named by its name (gpu.generations.H100.decline), an entry of a list of numbers by its place from
    1; * stands for all of them.
    """

    set: dict[str, Any] = Field(default={}, description="new values")
    scale: dict[str, Any] = Field(default={}, description="factors")
    shift: dict[str, Any] = Field(default={}, description="amounts added")


class RowChange(Table):
    """Changes of columns of a tape, in the rows where every column named in `where` has the value; blank cells stay blank
    under scale and shift."""

    where: dict[str, Cell | list[Cell]] = Field(
        default={}, description="column = value, or a list of values; not given: every row"
    )
    set: dict[str, Cell] = Field(default={}, description="new values by column")
    scale: dict[str, Amount] = Field(
        default={}, description="factors by column; months and counts are rounded to whole ones"
    )
    shift: dict[str, Amount] = Field(default={}, description="amounts added by column")


class ForcedDefault(Table):
    """A party that defaults in a month in every path."""

    obligor: str = Field(min_length=1, description="obligor_id")
    month: Annotated[int, Field(ge=1, le=600)] = Field(description="month of the default")


class Force(Table):
    """What is no longer left to chance; the draws stay as they were (docs/model.md 1.6)."""

    default: list[ForcedDefault] = Field(default=[], description="default months of parties")
    price: list[ForcedPrice] = Field(default=[], description="price paths of generations, as in gpu.forced_prices")
    demand: ForcedDemand | None = Field(default=None, description="a path of log demand, as in demand.forced")


class OutsideSupply(Table):
    """Chips that come off contracts outside the book, spread evenly over months; added to gpu.overhang.calendar (2.7)."""

    gpu: Name = Field(description="name of the generation")
    first_month: Annotated[int, Field(ge=1, le=1200)] = Field(description="first month in which chips come")
    last_month: Annotated[int, Field(ge=1, le=1200)] = Field(description="last month in which chips come")
    units: Annotated[int, Field(ge=0, le=MAX_CHIPS)] = Field(description="chips in all")

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.last_month < self.first_month:
            raise BrokenRule(
                "order", "last_month", f"last_month ({self.last_month}) is before first_month ({self.first_month})"
            )
        return self


class ScenarioFile(Table):
    """The whole of a scenario's TOML."""

    about: str = Field(default="", description="what the scenario is, a sentence")
    source: str = Field(default="", description="where its numbers come from; whose judgement")
    pd_match: Literal["base", "scenario"] = Field(
        default="base",
        description="where hazards are matched to the PDs given (3.2): in the market before all scenarios, so that a stress "
        "moves default rates, or in the stressed one",
    )
    market: MarketChange = Field(default=MarketChange(), description="changes of the market")
    loans: list[RowChange] = Field(default=[], description="changes of the loan tape")
    deployments: list[RowChange] = Field(default=[], description="changes of the deployments")
    obligors: list[RowChange] = Field(default=[], description="changes of the obligors")
    force: Force = Field(default=Force(), description="what is forced")
    outside_supply: list[OutsideSupply] = Field(default=[], description="chips from outside the book")


def bundled_scenarios() -> list[str]:
    """Names of the scenarios in the package: base first, the others by name."""
    return sorted((p.stem for p in _BUNDLED.glob("*.toml")), key=lambda name: (name != "base", name))


def read_scenario(scenario: str | Path) -> tuple[str, str, ScenarioFile]:
    """Name, file and content of a scenario: a TOML file, or the name of a bundled one (a file comes first).

    Raises:
        InputRejected: no such scenario, no TOML, or unknown or wrong keys; every problem is in the error.
    """
    path = _path(scenario)
    try:
        data = parse_toml(read_bytes(path, MAX_TOML_BYTES))
    except Unreadable as error:
        raise InputRejected([error.problem(path.name)]) from None
    return path.stem, path.name, checked(path.name, data)


def checked(file: str, data: dict[str, Any]) -> ScenarioFile:
    """The content of a parsed file.

    Raises:
        InputRejected: with every unknown or wrong key.
    """
    try:
        return ScenarioFile.model_validate(data)
    except ValidationError as error:
        raise InputRejected(problems_of_table(file, error, ScenarioFile)) from None


def _path(scenario: str | Path) -> Path:
    text = str(scenario)
    try:
        if text.endswith(".toml") and os.path.lexists(text):
            return Path(text)
    except ValueError:  # no path at all
        pass
    if text in bundled_scenarios():
        return _BUNDLED / f"{text}.toml"
    near = suggest(text, bundled_scenarios()).strip()
    message = sentence("no-scenario", "no such scenario file, nor a bundled scenario", near)
    raise InputRejected([Problem(shortened(text) or "''", message, "no-scenario")])
