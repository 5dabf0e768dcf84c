"""What several commands share: kinds of options, reading the book they name, a bar that shows how far they are."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import click

from .errors import UsageError, problem_lines

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


@dataclass(frozen=True, slots=True)
class AskedCluster:
    """The cluster that options ask for; none: the run is this process's."""

    dask: str | None
    deadline: float | None
    insecure_network: bool

    @contextmanager
    def connected(self) -> Iterator[dict[str, Any]]:
        """Arguments of `simulate` or `resume` while the cluster is connected."""
        if self.dask is None:
            if self.deadline is not None or self.insecure_network:
                raise UsageError("--deadline and --insecure-network go with --dask, such as --dask local")
            yield {}
            return
        from .cluster import connected

        with connected(self.dask, insecure_network=self.insecure_network) as client:
            yield {"cluster": client, "deadline": self.deadline}


def cluster_options(command: Callable[..., None]) -> Callable[..., None]:
    """`--dask` and what goes with it, as one argument `cluster`."""

    @functools.wraps(command)
    def with_cluster(
        *, dask: str | None, deadline: float | None, insecure_network: bool, **others: Any
    ) -> None:
        command(cluster=AskedCluster(dask, deadline, insecure_network), **others)

    options = (
        click.option("--insecure-network", is_flag=True, help="Allow tcp:// to another machine, without encryption."),
        click.option("--deadline", type=click.FloatRange(0, min_open=True), metavar="SECONDS",
                     help="Give a worker up that does not answer for so long.  [default: 10 × a chunk, at least 60]"),
        click.option("--dask", metavar="local[:N]|ADDRESS",
                     help="Run on Dask workers: started here, or of a scheduler at tcp:// or tls://HOST:PORT."),
    )  # fmt: skip
    return functools.reduce(lambda function, option: option(function), options, with_cluster)


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
