"""The command that securitises a run's book. Only click is imported before it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .cli_questions import _format, _millions, _out, _rows, _run, _write
from .terminal import count, show, table
from .text import printable, shortened

if TYPE_CHECKING:
    from .answers import Format
    from .tranche_cash import TrancheCash

MAX_NAME = 30


@click.command()
@_run
@click.option("--pool", required=True, metavar="FILE|BOOK", help="A pool.toml, or a book whose folder has one.")
@click.option("--paths", type=click.IntRange(1), metavar="N", help="The run's first N paths.  [default: all]")
@_out
@_format
def waterfall(run: str, pool: str, paths: int | None, out: str | None, kind: Format) -> None:
    """The loans of RUN as a securitised pool: what each tranche gets on every path, its loss, life and yield."""
    from .saved_run import SavedRun

    found = SavedRun.read(run).waterfall(pool, paths)
    print_waterfall(found)
    _write(out, {"waterfall": found.table, "waterfall_months": found.months}, kind)


def print_waterfall(found: TrancheCash) -> None:
    """What each tranche loses, how long it lives and what it yields."""
    from .risk import FEW_PATHS

    losses = table(
        "principal that is never paid, millions of dollars",
        *("tranche", "size", "EL", "± error", "of it", "P(loss)", "95 %"),
    )
    returns = table(
        "weighted average life and yield a year", "tranche", "life, years", "± error", "yield", "± error", "yield, 5 %"
    )
    for row in _rows(found.table.rename(columns={"yield": "yearly"})):
        name = shortened(printable(row.tranche), MAX_NAME)
        losses.add_row(
            name,
            f"{row.size_usd / 1e6:,.1f}",
            *_millions(row.expected_loss_usd, row.expected_loss_se_usd),
            f"{row.expected_loss_share:.2%}",
            f"{row.probability_of_loss:.2%}",
            f"{100 * row.probability_of_loss_low:.2f}-{100 * row.probability_of_loss_high:.2f} %",
        )
        returns.add_row(
            name,
            *(_known(x, ".2f") for x in (row.life_years, row.life_se_years)),
            *(_known(x, ".2%") for x in (row.yearly, row.yield_se, row.yield_low)),
        )
    failing = int((found.failed > 0).sum())
    trapped, fees = (x.mean() / 1e8 for x in (found.trapped, found.fees))
    lines = [
        f"{count(found.n_paths, 'path')}; a test fails on {failing / found.n_paths:.1%} of them; on average "
        f"{trapped:,.2f} million dollars of interest become principal, fees are {fees:,.2f} million"
    ]
    few = [shortened(printable(r.tranche), MAX_NAME) for r in _rows(found.table) if r.paths_with_loss < FEW_PATHS]
    if few:
        lines.append(f"few paths: fewer than {FEW_PATHS} reach {', '.join(few)}; run with more --paths")
    show(losses, returns, *lines)


def _known(value: float, style: str) -> str:
    return "…" if value != value else f"{value:{style}}"


COMMANDS = (waterfall,)
