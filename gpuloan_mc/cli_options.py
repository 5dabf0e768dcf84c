"""What several commands share: kinds of options, reading the book they name, a bar that shows how far they are."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import click

from .errors import problem_lines

if TYPE_CHECKING:
    from .portfolio import Portfolio

SEED = click.IntRange(0, 2**64 - 1)
PATHS = click.IntRange(1, 2**40)
WORKERS = click.IntRange(1, 1024)


def read_book(book: str, on_bad_row: Literal["refuse", "reject"] = "refuse") -> Portfolio:
    """The portfolio; what was warned of or left out is told."""
    from .portfolio import Portfolio

    portfolio = Portfolio.read(book, on_bad_row=on_bad_row)
    for line in portfolio.warnings:
        click.echo(f"warning: {line}", err=True)
    if on_bad_row == "reject" and portfolio.reconciliation is not None:
        for line in [*problem_lines(portfolio.rejected), *portfolio.reconciliation.lines()]:
            click.echo(line, err=True)
    return portfolio


@contextmanager
def progress_bar(hidden: bool = False) -> Iterator[Callable[[int, int], None] | None]:
    """A bar with the time left, on a terminal only."""
    if hidden or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("paths"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("paths", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
