"""Charts as SVG: scales, axes, lines, bands and bars. Colours are classes, which chart.css fills for light, dark and print."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Literal

from markupsafe import Markup

from ..text import printable

WIDE, NARROW = 720, 340  # user units: a screen or sheet of paper, a phone
_LETTER = 6.3  # mean width of a letter at the charts' size
_AXIS_LETTER = 6.0
_ROW = 34
Point = tuple[float, float]


@cache
def chart_css() -> str:
    """The style of every chart."""
    return files(__package__).joinpath("chart.css").read_text(encoding="utf-8")


def clean(text: object, length: int = 60) -> str:
    """Text of a book as a chart shows it: harmless and short."""
    shown = printable(str(text))
    return shown if len(shown) <= length else f"{shown[: length - 1]}…"


@dataclass(frozen=True)
class Scale:
    """Values from `low` to `high` as places from `start` to `end`; `log`: their logarithms."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, x = (math.log10(v) if self.log else v for v in (self.low, self.high, max(value, self._least)))
        return self.start + (x - low) / (high - low) * (self.end - self.start)

    @property
    def _least(self) -> float:
        return self.low if self.log else -math.inf

    def ticks(self, n: int) -> list[float]:
        """About n round values."""
        if self.log:
            powers = range(math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9) + 1)
            return [10.0**p for p in powers]
        return ticks(self.low, self.high, n)


def ticks(low: float, high: float, n: int) -> list[float]:
    """Round values from low to high, about n of them."""
    raw = (high - low) / max(n, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def plain(value: float) -> str:
    """A tick's number."""
    return "0" if abs(value) < 1e-12 else f"{value:,.10g}"


def percent(value: float) -> str:
    """A tick's share."""
    return f"{100 * value:.10g}%"


@dataclass
class Chart:
    """A drawing of `width` by `height` units; `plot` is the part inside the axes: left, top, right, bottom.

    Args of its methods are places, not values: scales turn the one into the other.
    """

    width: int
    height: int
    plot: tuple[float, float, float, float]
    parts: list[Markup] = field(default_factory=list)

    @property
    def narrow(self) -> bool:
        """Whether it is a phone's."""
        return self.width < 500

    def x_scale(self, low: float, high: float, *, log: bool = False) -> Scale:
        """A scale across the plot."""
        return Scale(low, high if high > low else low + 1, self.plot[0], self.plot[2], log)

    def y_scale(self, low: float, high: float, *, log: bool = False) -> Scale:
        """A scale up the plot."""
        return Scale(low, high if high > low else low + 1, self.plot[3], self.plot[1], log)

    def add(self, template: str, **values: object) -> None:
        """Markup with escaped values; numbers to a tenth of a unit."""
        shown = {k: _number(v) if isinstance(v, float) else v for k, v in values.items()}
        self.parts.append(Markup(template).format(**shown))

    def text(
        self, x: float, y: float, text: object, css: str = "t", anchor: Literal["start", "middle", "end"] = "start"
    ) -> None:
        """A line of text."""
        self.add('<text class="{c}" x="{x}" y="{y}" text-anchor="{a}">{t}</text>', c=css, x=x, y=y, a=anchor, t=text)

    def line(self, points: Iterable[Point], css: str) -> None:
        """A line through points; those that are not finite break it."""
        pieces: list[list[str]] = [[]]
        for x, y in points:
            if math.isfinite(x) and math.isfinite(y):
                pieces[-1].append(f"{_number(x)} {_number(y)}")
            elif pieces[-1]:
                pieces.append([])
        path = " ".join(f"M{'L'.join(piece)}" for piece in pieces if piece)
        if path:
            self.add('<path class="{c}" d="{d}"/>', c=f"line {css}", d=path)

    def band(self, lower: Sequence[Point], upper: Sequence[Point], css: str) -> None:
        """The area between two lines."""
        around = [*lower, *reversed(upper)]
        if len(lower) > 1 and all(math.isfinite(v) for p in around for v in p):
            path = "L".join(f"{_number(x)} {_number(y)}" for x, y in around)
            self.add('<path class="{c}" d="M{d}Z"/>', c=f"band {css}", d=path)

    def bar(self, x0: float, y0: float, x1: float, y1: float, css: str) -> None:
        """A rectangle between two corners."""
        box = {"x": min(x0, x1), "y": min(y0, y1), "w": abs(x1 - x0), "h": abs(y1 - y0)}
        self.add('<rect class="{c}" x="{x}" y="{y}" width="{w}" height="{h}"/>', c=css, **box)

    def dot(self, x: float, y: float, css: str) -> None:
        """A mark."""
        self.add('<circle class="{c}" cx="{x}" cy="{y}" r="4"/>', c=css, x=x, y=y)

    def whisker(self, x0: float, y0: float, x1: float, y1: float) -> None:
        """An error bar."""
        if all(map(math.isfinite, (x0, y0, x1, y1))):
            self.line([(x0, y0), (x1, y1)], "whisker")

    def x_axis(self, scale: Scale, title: str, shown: Callable[[float], str] = plain, grid: bool = False) -> None:
        """Ticks and a title below the plot."""
        left, top, right, bottom = self.plot
        self.line([(left, bottom), (right, bottom)], "axis")
        for value in scale.ticks(4 if self.narrow else 8):
            x = scale(value)
            if grid:
                self.line([(x, top), (x, bottom)], "grid")
            text = shown(value)
            half = _LETTER / 2 * len(text) + 4  # a tick at the edge moves inwards
            self.text(min(max(x, half), self.width - half), bottom + 16, text, "tick", "middle")
        self.text((left + right) / 2, bottom + 34, title, "label", "middle")

    def y_axis(self, scale: Scale, title: str, shown: Callable[[float], str] = plain) -> None:
        """Grid lines, ticks and a title above the plot."""
        left, top, right, _ = self.plot
        for value in scale.ticks(4 if self.narrow else 5):
            y = scale(value)
            self.line([(left, y), (right, y)], "grid")
            self.text(left - 6, y + 4, shown(value), "tick", "end")
        self.text(2, top - 12, title, "label")

    def legend(self, items: Sequence[tuple[str, str, Literal["box", "line"]]], y: float = 12) -> None:
        """(text, class, kind) in a row, in further rows where it is full."""
        x = 2.0
        for text, css, kind in items:
            length = 24 + _AXIS_LETTER * len(text) + 14
            if x > 2 and x + length > self.width:
                x, y = 2.0, y + 17
            if kind == "box":
                self.bar(x, y - 9, x + 16, y + 1, css)
            else:
                self.line([(x, y - 4), (x + 18, y - 4)], css)
            self.text(x + 23, y, text, "label")
            x += length

    def svg(self, key: str, title: str, description: str) -> Markup:
        """The whole drawing. `key` makes the ids of its title and description."""
        name = f"{key}-{self.width}"
        head = Markup(
            '<svg class="gl" viewBox="0 0 {w} {h}" role="img" aria-labelledby="{k}-t {k}-d" xmlns="http://www.w3.org/2000/svg">'
            '<title id="{k}-t">{t}</title><desc id="{k}-d">{d}</desc>'
        ).format(w=self.width, h=self.height, k=name, t=title, d=description)
        return head + Markup("").join(self.parts) + Markup("</svg>")


def legend_rows(width: int, texts: Sequence[str]) -> int:
    """Rows that a legend takes."""
    rows, x = 1, 2.0
    for text in texts:
        length = 24 + _AXIS_LETTER * len(text) + 14
        if x > 2 and x + length > width:
            rows, x = rows + 1, 2.0
        x += length
    return rows


def framed(width: int, height: int, *, left: float = 52, legend: Sequence[str] = ()) -> Chart:
    """A chart with room for axes and a legend on top."""
    top = 30 + (17 * legend_rows(width, legend) if legend else 0)
    return Chart(width, int(height + top), (left, float(top), width - 12.0, float(height + top - 42)))


@dataclass(frozen=True)
class Row:
    """A row of a chart of rows: a value, its 95 % interval, and what is written beside it."""

    name: str
    value: float
    low: float
    high: float
    text: str
    css: str = "c0"


def rows_chart(
    width: int, rows: Sequence[Row], axis: str, *, dots: bool = False, shown: Callable[[float], str] = plain
) -> Chart:
    """Names above bars (or dots) from 0, each with its interval: names of any length fit a phone."""
    finite = [v for r in rows for v in (r.value, r.low, r.high) if math.isfinite(v)]
    low, high = min([0.0, *finite]), max([0.0, *finite])
    height = _ROW * len(rows) + 48
    chart = Chart(width, height, (8.0, 4.0, width - 14.0, float(height - 42)))
    x = chart.x_scale(low, high if high > low else low + 1)
    chart.x_axis(x, axis, shown, grid=True)
    most = int((width - 16) / _LETTER)
    for i, row in enumerate(rows):
        y = 4.0 + i * _ROW
        name = clean(row.name, max(most - len(row.text) - 5, 8))
        chart.text(12, y + 12, name, "t")
        chart.text(width - 14, y + 12, row.text, "label", "end")
        if dots:
            chart.line([(x(0), y + 22), (x(row.value), y + 22)], "stem")
            chart.whisker(x(row.low), y + 22, x(row.high), y + 22)
            chart.dot(x(row.value), y + 22, row.css)
        else:
            chart.bar(x(0), y + 17, x(row.value), y + 27, row.css)
            chart.whisker(x(row.low), y + 22, x(row.high), y + 22)
    chart.line([(x(0), 4), (x(0), height - 42.0)], "axis")
    return chart


def _number(value: float) -> str:
    text = f"{value:.1f}"
    return text[:-2] if text.endswith(".0") else text
