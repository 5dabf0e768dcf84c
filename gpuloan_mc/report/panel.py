"""What a page is made of: panels of a finding, its charts, and the tables behind them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from ..text import figure_and_error
from .charts import NARROW, WIDE, Chart

if TYPE_CHECKING:
    import pandas as pd

MAX_ROWS = 20  # of a table of items; what lies beyond is said


@dataclass(frozen=True)
class Drawing:
    """A chart as drawn for a screen or a sheet, and for a phone."""

    wide: Markup
    narrow: Markup

    @classmethod
    def of(cls, key: str, title: str, description: str, draw: Callable[[int], Chart]) -> Drawing:
        """Both, by a function of the width."""
        wide, narrow = (draw(width).svg(key, title, description) for width in (WIDE, NARROW))
        return cls(wide, narrow)


@dataclass(frozen=True)
class Table:
    """A table; the first `text_columns` columns are text, the others numbers. `shown`: not folded away."""

    caption: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    text_columns: int = 1
    shown: bool = False


@dataclass(frozen=True)
class Panel:
    """A part of the page. `title` says the finding; `missing` is the command that makes the data which it lacks."""

    key: str
    name: str
    title: str
    drawings: tuple[Drawing, ...] = ()
    tables: tuple[Table, ...] = ()
    lines: tuple[str, ...] = ()
    note: str = ""
    missing: str = ""


@dataclass(frozen=True)
class Money:
    """Dollars in a unit that suits the largest figure shown."""

    unit: str
    dollars: float

    @classmethod
    def of(cls, largest: float) -> Money:
        """Billions, millions, thousands or dollars."""
        for unit, dollars in (("$bn", 1e9), ("$m", 1e6), ("$k", 1e3)):
            if largest >= dollars:
                return cls(unit, dollars)
        return cls("$", 1.0)

    def __call__(self, dollars: float) -> float:
        return dollars / self.dollars

    def figure(self, dollars: float, error: float | None) -> str:
        """The figure to the digits of its error; to four digits without one."""
        return number(dollars / self.dollars, None if error is None else error / self.dollars)

    def with_error(self, dollars: float, error: float | None) -> str:
        """The figure ± its error."""
        return f"{self.figure(dollars, error)} ± {self.error(error)}"

    def error(self, error: float | None) -> str:
        """The error alone."""
        return (
            "…"
            if error is None or error != error
            else "0"
            if error == 0
            else number(error / self.dollars, error / self.dollars)
        )


def number(value: float, error: float | None) -> str:
    """A figure to the second digit of its error; to four digits where there is none."""
    return figure_and_error(value, error)[0]


def rows_of(frame: pd.DataFrame) -> Any:
    """The rows as named tuples."""
    return frame.itertuples()


def dollars(amount: float, error: float | None = None) -> str:
    """An amount for a sentence: $1.35bn, to the digits of its error and three at most."""
    money = Money.of(abs(amount))
    value = money(amount)
    places = 2 - math.floor(math.log10(abs(value))) if value else 0
    if error is not None and error == error and error > 0:
        places = min(places, 1 - math.floor(math.log10(error / money.dollars)))
    rounded = round(value, places)
    return f"${rounded:,.{max(places, 0)}f}{money.unit[1:]}"


def share(value: float, error: float | None = None) -> str:
    """A share in per cent, to the digits of its error and three at most."""
    if value != value:
        return "…"
    if value == 0:
        return "0%"
    places = 2 - math.floor(math.log10(abs(100 * value)))
    if error is not None and error == error and error > 0:
        places = min(places, 1 - math.floor(math.log10(100 * error)))
    rounded = round(100 * value, places)
    return f"{rounded:,.{min(max(places, 0), 4)}f}%"


def level_name(level: float) -> str:
    """99.9 %, as a heading has it."""
    return f"{100 * level:.10g}%"


def bounds(low: float | None, high: float | None, shown: Callable[[float], str]) -> str:
    """low to high; dots for a bound that is not known."""
    return " to ".join("…" if x is None or x != x else shown(x) for x in (low, high))
