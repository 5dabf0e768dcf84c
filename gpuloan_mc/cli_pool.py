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
    _print(found)
    _write(out, {"waterfall": found.table, "waterfall_months": found.months}, kind)


def _print(found: TrancheCash) -> None:
    from .convergence import FEW_PATHS

    page = table(
        "tranches of the pool, millions of dollars",
        *("tranche", "size", "EL", "± error", "of it", "P(loss)", "95 %", "life, years", "yield", "± error", "5 %"),
    )
    for row in _rows(found.table.rename(columns={"yield": "yearly"})):
        page.add_row(
            shortened(printable(row.tranche), MAX_NAME),
            f"{row.size_usd / 1e6:,.1f}",
            *_millions(row.expected_loss_usd, row.expected_loss_se_usd),
            f"{row.expected_loss_share:.2%}",
            f"{row.probability_of_loss:.2%}",
            f"{100 * row.probability_of_loss_low:.2f}-{100 * row.probability_of_loss_high:.2f} %",
            "…" if row.life_years != row.life_years else f"{row.life_years:.2f}",
            f"{row.yearly:.2%}",
            "…" if row.yield_se != row.yield_se else f"{row.yield_se:.2%}",
            f"{row.yield_low:.2%}",
        )
    failing = int((found.failed > 0).sum())
    lines = [
        f"{count(found.n_paths, 'path')}; a test fails on {failing / found.n_paths:.1%} of them; "
        f"mean interest turned into principal {found.trapped.mean() / 1e8:,.2f}, fees {found.fees.mean() / 1e8:,.2f} million dollars"
    ]
    few = [shortened(printable(r.tranche), MAX_NAME) for r in _rows(found.table) if r.paths_with_loss < FEW_PATHS]
    if few:
        lines.append(f"few paths: fewer than {FEW_PATHS} reach {', '.join(few)}; run with more --paths")
    show(page, *lines)


COMMANDS = (waterfall,)
