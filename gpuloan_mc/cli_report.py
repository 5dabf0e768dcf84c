"""The command that makes a page of a run. Only click is imported before it runs."""

from __future__ import annotations

import click


@click.command()
@click.argument("run", metavar="RUN", type=click.Path())
@click.option(
    "--stress", type=click.Path(), metavar="DIR", help="Scenarios or sensitivities of the same book: their --out folder."
)
@click.option("-o", "--out", default="report.html", type=click.Path(), metavar="FILE", show_default=True)
def report(run: str, stress: str | None, out: str) -> None:
    """Make a page of RUN, a run's folder, for people: one HTML file without scripts or links."""
    from .saved_run import SavedRun

    path = SavedRun.read(run).report(out, stress=stress)
    click.echo(f"wrote {path}: {path.stat().st_size / 1e3:,.0f} kB")


COMMANDS = (report,)
