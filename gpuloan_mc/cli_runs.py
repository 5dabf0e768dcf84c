"""The commands for runs in folders: going on with one, and running it again. Only click is imported before a command runs."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from .cli_options import AskedCluster, cluster_options
from .errors import EXIT_INTERRUPTED, EXIT_NOT_CONVERGED, EnvironmentProblem, GpuLoanError
from .news import News
from .terminal import count

if TYPE_CHECKING:
    from .result import Result
    from .target import Target

MAX_SHOWN = 5

_folder = click.argument("folder", metavar="DIR", type=click.Path())
_engine = click.option("--engine", type=click.Choice(["auto", "cuda", "numba-cuda", "numba", "numpy"]))
_workers = click.option("--workers", type=click.IntRange(1, 1024), help="Threads of numba.  [default: all cores]")
progress_option = click.option(
    "--progress",
    "shown",
    type=click.Choice(["bar", "json", "none"]),
    default="bar",
    show_default=True,
    help="json: an object an event on stderr, such as a finished chunk: docs/reliability.md.",
)


@click.command()
@_folder
@click.option("--extend-paths", type=click.IntRange(1, 2**40), metavar="N", help="Add paths: N in all.")
@_engine
@_workers
@progress_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@cluster_options
def resume(
    folder: str,
    extend_paths: int | None,
    engine: str | None,
    workers: int | None,
    shown: str,
    as_json: bool,
    cluster: AskedCluster,
) -> None:
    """Go on with the run in DIR that was stopped or killed, or add paths to it."""
    from .cli import print_result
    from .cli_pool import print_waterfall
    from .simulation import resume as go_on

    with terminable(), cluster.connected() as workforce, shown_progress(shown, hidden=as_json) as told:
        result = go_on(
            folder,
            extend_paths=extend_paths,
            engine=engine,
            workers=workers,
            **told,
            **workforce,
        )
        leave_compiling(told["tell"])
    if as_json:
        click.echo(result.to_json())
    else:
        print_result(folder, result)
        if result.paid is not None:
            print_waterfall(result.paid)
    end_by_target(result)


@click.command()
@_folder
@_engine
@_workers
@click.option("--sample", type=click.IntRange(1), default=16, show_default=True, help="Blocks of up to 1,024 paths.")
def verify(folder: str, engine: str | None, workers: int | None, sample: int) -> None:
    """Run some paths of the run in DIR again and compare every integer."""
    from .verification import verify as run_again

    found = run_again(folder, sample=sample, engine=engine or "auto", workers=workers, tell=tell_on_screen)
    for line in found.unreadable:
        click.echo(line, err=True)
    if found.different:
        paths = ", ".join(map(str, found.different[:MAX_SHOWN]))
        more = "" if len(found.different) <= MAX_SHOWN else f" and {len(found.different) - MAX_SHOWN:,} more"
        raise EnvironmentProblem(
            f"{folder}: engine {found.engine} computes other integers for paths {paths}{more}; one of the machines is at fault"
        )
    if found.unreadable:
        raise EnvironmentProblem(f"{folder}: damaged; gpuloan-mc resume {folder} runs just these paths again")
    paid = ", those of the pool's tranches too" if found.has_payments else ""
    click.echo(
        f"{count(found.compared, 'path')} of {found.n_paths:,} run again by engine {found.engine}: every integer agrees{paid}"
    )


def asked_target(error: str | None, measure: str | None, paths: int | None, max_paths: int | None) -> Target | None:
    """The target of `run`'s options, or None.

    Raises:
        UsageError: options that do not go together, or no such target.
    """
    from .errors import UsageError
    from .target import Target

    if error is None:
        if measure is not None or max_paths is not None:
            raise UsageError("--measure and --max-paths go with --target-error, such as --target-error 1%")
        return None
    if paths is not None:
        raise UsageError("--target-error decides the number of paths; give --max-paths instead of --paths")
    share = error.strip().endswith("%")
    try:
        value = float(error.strip().rstrip("%"))
    except ValueError:
        raise UsageError(f"--target-error is {error!r:.40}; it must be a share such as 1% or 0.01") from None
    return Target(measure or "es:0.99", value / 100 if share else value)


def end_by_target(result: Result) -> None:
    """Exit 6 where a run did not reach its target."""
    if result.target is None:
        return
    found = result.target.error_of(result.losses)
    what = f"{result.target.measure}: error {found:.3%} of the figure (half its 95 % interval)"
    if found <= result.target.error:
        click.echo(f"{what} after {result.n_paths:,} paths; {result.target.error:.3%} was asked for", err=True)
        return
    click.echo(f"{what} after all {result.n_paths:,} paths; {result.target.error:.3%} needs more --max-paths", err=True)
    sys.exit(EXIT_NOT_CONVERGED)


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM stops a run as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def shown_progress(kind: str, *, hidden: bool) -> Iterator[dict[str, Any]]:
    """`progress` and `tell` of a run as they were asked for; `hidden` hides the bar."""
    if kind == "json":
        with _events() as arguments:
            yield arguments
        return
    from .cli_options import progress_bar

    def tell(line: str) -> None:
        if kind != "none" or not isinstance(line, News):
            tell_on_screen(line)

    with progress_bar(hidden=hidden or kind == "none") as bar:
        yield {"progress": bar, "tell": tell}


def tell_on_screen(line: str) -> None:
    """Print a line on stderr; without a terminal not that numba is compiled, for what was said before is enough."""
    if sys.stderr.isatty() or not isinstance(line, News) or line.event != "compiled":
        click.echo(line, err=True)


def leave_compiling(tell: Callable[[str], None]) -> None:
    """At the end of a command: a compiler that still runs for it goes on alone on a terminal, and ends elsewhere.

    A process that outlives its command is no surprise where somebody reads that it does; in scripts and containers it would be.
    """
    child = sys.modules.get("gpuloan_mc.engines.numba_child")  # not imported: it was not begun
    line = "" if child is None else child.finish_shared(stay=sys.stderr.isatty())
    if line:
        tell(line)


@contextmanager
def _events() -> Iterator[dict[str, Any]]:
    """Events of a run as objects, a line each, on stderr (docs/reliability.md)."""
    start = time.perf_counter()

    def event(name: str, **facts: Any) -> None:
        seconds = round(time.perf_counter() - start, 3)
        click.echo(json.dumps({"event": name, **facts, "seconds": seconds}), err=True)

    def paths(done: int, total: int) -> None:
        event("paths", paths=done, of=total)

    def tell(line: str) -> None:
        if isinstance(line, News):
            event(line.event, text=line, **line.facts)
        else:
            event("note", text=line)

    try:
        yield {"progress": paths, "tell": tell}
    except (GpuLoanError, KeyboardInterrupt) as error:
        code = error.exit_code if isinstance(error, GpuLoanError) else EXIT_INTERRUPTED
        event("stopped", text=str(error), exit_code=code)
        raise
    event("done")


COMMANDS: tuple[Any, ...] = (resume, verify)
