"""The page: panels in the order in which a committee reads them, put into one file without scripts or links."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from .. import __version__
from ..errors import UsageError
from ..files import write_whole
from ..questions import Questions
from ..text import printable
from . import book, layers, losses, parts, prices, sureness, timing, worlds
from .charts import chart_css
from .figures import Figures
from .panel import Panel, Table

MAX_CELL = 48  # characters of a cell; the whole text, up to MAX_TITLE, is in its title
MAX_TITLE = 300

PANELS: tuple[Callable[[Figures], Panel], ...] = (
    losses.headline,
    losses.density,
    losses.exceedance,
    timing.timing,
    parts.contributions,
    layers.tranches,
    layers.pool,
    prices.prices,
    prices.typical_tail,
    book.wall,
    worlds.scenarios,
    worlds.tornado,
    sureness.convergence,
    book.limits,
    book.manifest,
)


def report(
    run: Questions, path: str | Path, stress: str | Path | Sequence[str | Path] = (), pool: str | Path | None = None
) -> Path:
    """Write the page of a run; arguments and errors are those of `Questions.report`."""
    target = Path(path)
    if target.is_dir():
        raise UsageError(f"{target} is a folder; name a file, such as {target / 'report.html'}")
    if not target.parent.is_dir():
        raise UsageError(f"{target.parent} is no folder; make it, or name another file")
    folders = [stress] if isinstance(stress, (str, Path)) else stress
    write_whole(target, page(Figures.of(run, folders, pool)).encode())
    return target


def page(figures: Figures) -> str:
    """The page as HTML: the same bytes for the same figures."""
    style = f"{_file('style.css')}{chart_css()}"
    template = _environment().from_string(_file("page.html"))
    portfolio = figures.run.portfolio
    return template.render(
        panels=[panel(figures) for panel in PANELS],
        style=Markup(style),
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        version=__version__,
        n_loans=f"{figures.run.n_loans:,}",
        commitment=f"{portfolio.commitment_usd:,.0f}",
        start=portfolio.market.start_date.isoformat(),
        horizon=figures.run.horizon_months,
        n_paths=f"{figures.run.n_paths:,}",
    )


def table_html(table: Table) -> Markup:
    """A table as HTML."""
    return Markup(_environment().from_string(_file("table.html")).render(table=table))


@cache
def _environment() -> Environment:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"cell": _cell, "table": table_html}
    return environment


def _file(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _cell(text: str) -> Markup:
    """A cell: harmless and short, what was cut in its title."""
    shown = printable(text)
    if len(shown) <= MAX_CELL or (" " not in shown and len(shown) == 64):  # a digest is shown whole
        return Markup("{}").format(shown)
    full = shown if len(shown) <= MAX_TITLE else f"{shown[:MAX_TITLE]}…"
    return Markup('<span title="{}">{}…</span>').format(full, shown[: MAX_CELL - 1])
