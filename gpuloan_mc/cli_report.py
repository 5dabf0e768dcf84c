"""The command that makes a page of a run. Only click is imported before it runs."""

from __future__ import annotations

import click


@click.command()
@click.argument("run", metavar="RUN", type=click.Path())
@click.option(
    "--stress",
    "folders",
    multiple=True,
    type=click.Path(),
    metavar="DIR",
    help="Folder of `stress --out` or `sensitivities --out` of the same book; may be repeated.",
)
@click.option("--pool", metavar="FILE|BOOK", help="A pool.toml, or a book whose folder has one: the waterfall's panel.")
@click.option("-o", "--out", default="report.html", type=click.Path(), metavar="FILE", show_default=True)
def report(run: str, folders: tuple[str, ...], pool: str | None, out: str) -> None:
    """Make a page of RUN, a run's folder, for people: one HTML file without scripts or links."""
    from .saved_run import SavedRun

    path = SavedRun.read(run).report(out, stress=folders, pool=pool)
    click.echo(f"wrote {path}: {path.stat().st_size / 1e3:,.0f} kB")


COMMANDS = (report,)
