"""The command line: `gpuloan-mc`. Only click is imported before a command runs, so --help is quick."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from . import __version__, cli_exports, cli_pool, cli_questions, cli_report, cli_runs, cli_stress
from .cli_options import PATHS, SEED, WORKERS, AskedCluster, cluster_options
from .cli_options import read_book as _read_book
from .cli_runs import asked_target, end_by_target, leave_compiling, progress_option, shown_progress, terminable
from .errors import EXIT_BUG, EXIT_ENVIRONMENT, EXIT_INTERRUPTED, GpuLoanError, InputRejected
from .terminal import count as _count
from .terminal import few_paths as _few_paths
from .terminal import plus_minus as _plus_minus
from .terminal import show as _show
from .terminal import table as _table

if TYPE_CHECKING:
    from .portfolio import Portfolio
    from .prices import PricePoint, Prices
    from .result import Result

    _ListOfNumbers = click.ParamType[tuple[int, ...]]
else:
    _ListOfNumbers = click.ParamType  # older versions of click have no type argument

ENGINE = click.Choice(["auto", "cuda", "numba-cuda", "numba", "numpy"])
_scenarios = click.option(
    "--scenario", "chain", multiple=True, metavar="NAME|FILE", help="Apply a scenario first; may be given again."
)
DEBUG = "GPULOAN_MC_DEBUG"
_OBJECTS_BETWEEN_COLLECTIONS = 500_000  # more than a short run makes; a run leaves a few hundred in cycles, whatever its length


class Devices(_ListOfNumbers):
    """Numbers of devices, separated by commas."""

    name = "devices"

    def convert(self, value: Any, parameter: Any, context: Any) -> tuple[int, ...]:
        """The numbers."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(int(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is no list of device numbers, such as 0,1", parameter, context)


def main() -> None:
    """Run the command line; errors become sentences and exit codes."""
    # Packages make hundreds of thousands of objects that stay to the end: to look for cycles among them time and again, and
    # once more at the end, took a fifth of a short run. The system takes the memory of a process that ends, cycles or not.
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    atexit.register(gc.freeze)
    _run_command()


def _run_command() -> None:
    try:
        # not cli.main: it ends with code 1 when the reader of our output has gone
        with cli.make_context("gpuloan-mc", sys.argv[1:]) as context:
            cli.invoke(context)
            leave_compiling(lambda line: click.echo(line, err=True))
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except GpuLoanError as error:
        _stop(str(error), error.exit_code)
    except (KeyboardInterrupt, click.exceptions.Abort) as stop:
        _stop(str(stop) or "stopped", EXIT_INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except ImportError as error:
        _stop(f"a package is missing or broken: {error}. `gpuloan-mc doctor` says what to install.", EXIT_ENVIRONMENT)
    except MemoryError as error:
        _stop(f"not enough memory: {error}. Ask for fewer --paths or a smaller --chunk.", EXIT_ENVIRONMENT)
    except Exception as error:
        if os.environ.get(DEBUG) == "1":
            raise
        _stop(
            f"a bug in gpuloan-mc: {type(error).__name__}: {error}\n"
            f"Please report it with the command and the output of {DEBUG}=1.",
            EXIT_BUG,
        )
    else:
        sys.exit(0)


def _stop(message: str, code: int) -> None:
    click.echo(message, err=True)
    sys.exit(code)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="gpuloan-mc")
def cli() -> None:
    """Loss distributions of loans secured by GPUs.

    BOOK is a folder with loans, obligors, deployments and market.toml, or the name of a bundled book:
    neocloud-2024, vasicek-100.
    """


for _topic in (cli_questions, cli_stress, cli_pool, cli_exports, cli_report, cli_runs):
    for _command in _topic.COMMANDS:
        cli.add_command(_command)


@cli.command()
@click.argument("folder", type=click.Path(file_okay=False), metavar="DIR")
@click.option("--loans", type=click.IntRange(1, 100_000), help="Write a synthetic book of so many loans.")
@click.option("--seed", type=SEED, default=1, show_default=True, help="Of the synthetic book.")
def example(folder: str, loans: int | None, seed: int) -> None:
    """Write an example book into DIR: the bundled GPU book, or a synthetic one."""
    from .example import write_example

    write_example(folder, n_loans=loans, seed=seed)
    click.echo(f"wrote {folder}; run it with: gpuloan-mc run {folder}")


@cli.command()
@click.argument("book", metavar="BOOK")
@click.option("--paths", type=PATHS, help="Futures to simulate.  [default: by engine]")
@click.option("--seed", type=SEED, default=1, show_default=True, help="Same book, seed and path: same loss.")
@click.option("--engine", type=ENGINE, default="auto", show_default=True, help="No engine changes a figure.")
@click.option("--workers", type=WORKERS, help="Threads of numba; changes no figure.  [default: all cores]")
@click.option("--devices", type=Devices(), metavar="N,N...", help="GPUs of cuda; changes no figure.  [default: 0]")
@click.option("--chunk", type=PATHS, help="Paths at a time; changes no figure.")
@click.option("--out", type=click.Path(file_okay=False), metavar="DIR", help="Write a run folder.")
@click.option("--no-host", is_flag=True, help="Leave facts about this machine out of the run folder.")
@click.option("--pool", metavar="FILE|BOOK", help="Pay the tranches of a pool.toml on every path: docs/waterfall.md.")
@click.option("--target-error", metavar="SHARE", help="Stop when a measure is so sure, such as 1%: docs/result.md.")
@click.option("--measure", metavar="el|var:L|es:L", help="Which one, such as es:0.999.  [default: es:0.99]")
@click.option("--max-paths", type=click.IntRange(1, 2**40), help="Paths at most with --target-error.  [default: 10,000,000]")
@progress_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@click.option(
    "--on-bad-row",
    type=click.Choice(["refuse", "reject"]),
    default="refuse",
    show_default=True,
    help="reject: go on without bad rows and what depends on them.",
)
@_scenarios
@cluster_options
def run(
    book: str,
    paths: int | None,
    seed: int,
    engine: str,
    workers: int | None,
    devices: tuple[int, ...] | None,
    chunk: int | None,
    out: str | None,
    no_host: bool,
    pool: str | None,
    target_error: str | None,
    measure: str | None,
    max_paths: int | None,
    shown: str,
    as_json: bool,
    on_bad_row: Literal["refuse", "reject"],
    chain: tuple[str, ...],
    cluster: AskedCluster,
) -> None:
    """Simulate BOOK and print its loss distribution."""
    from .run_folder import prepare_run_folder
    from .simulation import simulate

    target = asked_target(target_error, measure, paths, max_paths)
    folder = None if out is None else prepare_run_folder(out)  # refused now rather than after the book has been read
    with _problems_kept(folder):
        portfolio = _read_book(book, on_bad_row)
        with terminable(), cluster.connected() as workforce, shown_progress(shown, hidden=as_json) as told:
            result = simulate(
                portfolio,
                portfolio.market,
                n_paths=paths if target is None else max_paths,
                seed=seed,
                engine=engine,
                workers=workers,
                devices=devices,
                chunk=chunk,
                out=out,
                host=not no_host,
                scenarios=chain,
                target=target,
                pool=pool,
                **told,
                **workforce,
            )
            leave_compiling(told["tell"])
    _warn_of_more(portfolio, result.portfolio)
    if as_json:
        click.echo(result.to_json())
    else:
        print_result(_titled(book, chain), result)
        if result.paid is not None:
            cli_pool.print_waterfall(result.paid)
    end_by_target(result)


def _titled(book: str, chain: tuple[str, ...]) -> str:
    return f"{book} under {', '.join(chain)}" if chain else book


def _warn_of_more(before: Portfolio, after: Portfolio) -> None:
    """What only the book after its scenarios is warned of."""
    for line in after.warnings:
        if line not in before.warnings:
            click.echo(f"warning, under the scenario: {line}", err=True)


@contextmanager
def _problems_kept(folder: Path | None) -> Iterator[None]:
    """Whatever the inputs are refused for is in the run folder too."""
    from .inputs.rejected import write_rejected
    from .lock import FolderLock
    from .manifest import MANIFEST

    try:
        yield
    except InputRejected as refused:
        if folder is not None:
            with FolderLock(folder):
                (folder / MANIFEST).unlink(missing_ok=True)  # an earlier run's: its book was another
                write_rejected(folder, refused.problems)
        raise


@cli.command()
@click.argument("book", metavar="BOOK")
@click.option("--paths", type=PATHS, help="Futures that the run would simulate.  [default: by engine]")
@click.option("--engine", type=ENGINE, default="auto", show_default=True)
@click.option("--workers", type=WORKERS, help="Threads of numba.  [default: all cores]")
@click.option("--devices", type=Devices(), metavar="N,N...", help="GPUs of cuda.  [default: 0]")
@click.option("--chunk", type=PATHS, help="Paths at a time.")
@click.option("--pool", metavar="FILE|BOOK", help="A pool.toml whose tranches the run would pay.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
def plan(
    book: str,
    paths: int | None,
    engine: str,
    workers: int | None,
    devices: tuple[int, ...] | None,
    chunk: int | None,
    pool: str | None,
    as_json: bool,
) -> None:
    """Say what `run` with the same options will take: chunks, memory, time from a pilot of a second."""
    import json

    from .forecast import forecast

    portfolio = _read_book(book, "refuse")
    options: dict[str, Any] = {
        "n_paths": paths,
        "engine": engine,
        "workers": workers,
        "devices": devices,
        "chunk": chunk,
        "pool": pool,
    }
    found = forecast(portfolio, portfolio.market, **options)
    if as_json:
        click.echo(json.dumps(found.to_json_dict(), indent=2, allow_nan=False))
    else:
        for line in found.lines():
            click.echo(line)


@cli.command()
@click.argument("book", metavar="BOOK")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a page.")
@_scenarios
def check(book: str, as_json: bool, chain: tuple[str, ...]) -> None:
    """Check BOOK and print its profile: debt, chips, contracts, ratios, parties. Nothing is simulated."""
    from .portfolio import Portfolio
    from .profile import Profile
    from .scenario import stressed

    portfolio = Portfolio.read(book)
    portfolio, market = stressed(portfolio, portfolio.market, chain)
    profile = Profile.of(portfolio, market)
    book = _titled(book, chain)
    if as_json:
        import json

        click.echo(json.dumps(profile.to_json_dict(), indent=2, allow_nan=False))
    else:
        from .profile_page import page

        _show(*page(book, profile))


@cli.command()
@click.argument("book", metavar="BOOK")
@click.option("--paths", type=click.IntRange(1, 100_000), default=2000, show_default=True)
@click.option("--seed", type=SEED, default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def prices(book: str, paths: int, seed: int, as_json: bool) -> None:
    """Simulate BOOK's rental prices alone: 5, 50 and 95 % points by generation and year."""
    from .market import Market
    from .prices import points_dict, simulate_prices

    simulated = simulate_prices(Market.read(book), paths, seed=seed)
    if as_json:
        import json

        click.echo(json.dumps(points_dict(simulated), indent=2, allow_nan=False))
    else:
        _print_prices(simulated)


@cli.command()
@click.option("--out", type=click.Path(file_okay=False), metavar="DIR", help="Write schema and references as files.")
def schema(out: str | None) -> None:
    """Print the JSON Schema of market.toml, or write it and the column reference into DIR."""
    import json

    from .inputs.schema import market_schema, write_schema

    if out is None:
        click.echo(json.dumps(market_schema(), indent=2, ensure_ascii=False))
        return
    for path in write_schema(out):
        click.echo(f"wrote {path}")


@cli.command()
@click.option("--engine", type=click.Choice(["numba", "cuda"]), default="numba", show_default=True)
@click.option("--devices", type=Devices(), metavar="N,N...", help="GPUs of cuda.  [default: 0]")
def warmup(engine: str, devices: tuple[int, ...] | None) -> None:
    """Compile an engine now, so that the first run need not; later runs load it from its cache."""
    if engine == "cuda":
        _warm_cuda(devices)
        return
    from .cli_runs import tell_on_screen
    from .engines import numba_payments
    from .engines.numba_cpu import warm_up
    from .workforce import told_of_compiling

    with told_of_compiling("numba", tell_on_screen):
        done, folder = warm_up()
    how = "loaded from" if done.was_cached else "compiled into"
    click.echo(f"engine numba: {how} {folder or 'memory: no folder can be written'} in {done.seconds:.1f} s")
    click.echo(f"waterfall: ready in {numba_payments.warm_up():.1f} s")


def _warm_cuda(devices: tuple[int, ...] | None) -> None:
    from .arguments import device_numbers
    from .engines import cuda_setup
    from .engines.cuda_sources import cubin

    numbers, machine = device_numbers(devices), cuda_setup.look()
    problem = cuda_setup.problem(machine, numbers)
    if problem is not None:
        raise problem
    for target in cuda_setup.targets(machine, numbers):
        done = cubin(target)
        how = "is there" if done.was_cached else "compiled"
        click.echo(f"engine cuda: {done.path} {how} after {done.seconds:.1f} s")


@cli.command()
@click.option("--engine", type=ENGINE, default="auto", help="The engine that must run here; its absence is a problem.")
def doctor(engine: str) -> None:
    """Check this installation: packages, engines, GPUs, bundled books."""
    from .doctor import findings, report

    for line in report():
        click.echo(line)
    problems = findings(engine)
    for line in problems:
        click.echo(f"problem: {line}", err=True)
    if problems:
        sys.exit(EXIT_ENVIRONMENT)
    click.echo("all is well")


def print_result(book: str, result: Result) -> None:
    """The page of a run."""
    from .engine_paths import other_engines

    share = 100 / result.commitment_usd

    def row(name: str, value: float, error: str) -> tuple[str, str, str, str]:
        if value != value:  # one path has no standard deviation
            return name, "…", "…", error
        return name, f"{value:,.0f}", f"{value * share:.3f} %", error

    table = _table(
        f"{book}: loss to month {result.horizon_months}", "figure", "dollars", "of book", "± standard error, or 95 %"
    )
    table.add_row(*row("expected loss", result.expected_loss, _plus_minus(result.expected_loss_se)))
    table.add_row(*row("standard deviation", result.loss_std, _plus_minus(result.figures.loss_std_se / 100)))
    for level, value in result.value_at_risk.items():
        bounds = ["…" if x is None else f"{x:,.0f}" for x in result.value_at_risk_ci[level]]
        table.add_row(*row(f"VaR {100 * level:g} %", value, " to ".join(bounds)))
    for level, value in result.expected_shortfall.items():
        table.add_row(*row(f"ES {100 * level:g} %", value, _plus_minus(result.expected_shortfall_se[level])))
    table.add_section()
    for year, moments in enumerate(result.loss_by_year, start=1):
        table.add_row(
            *row(f"expected loss, year {year}", moments.mean / 100, _plus_minus(moments.standard_error / 100))
        )
    for cause, moments in result.loss_by_cause.items():
        table.add_row(*row(f"expected loss, {cause}", moments.mean / 100, _plus_minus(moments.standard_error / 100)))
    low, high = result.figures.probability_of_loss_ci
    lines = [
        f"{_count(result.n_loans, 'loan')}, {result.commitment_usd:,.0f} dollars lent or committed, "
        f"{_count(result.n_paths, 'path')}, seed {result.seed}",
        f"any loss: {result.probability_of_loss:.2%} of paths ({low:.2%} … {high:.2%}); "
        f"defaults {result.expected_defaults:.2f} {_plus_minus(result.expected_defaults_se, '.2f')} a path, "
        f"{result.default_rate:.3%} {_plus_minus(result.default_rate_se, '.3%')} of the loans",
        f"engine {result.engine} ({result.engine_reason}){other_engines(result.engine, result.engine_paths)}",
        f"{result.seconds:.2f} s ({result.compile_seconds:.2f} s more to compile or load), "
        f"{result.loan_steps_per_second:,.0f} loan-steps a second",
        f"digest {result.digest}",
    ]
    _show(table, *lines, *_few_paths({f"{100 * level:g} %": n for level, n in result.figures.tail_paths.items()}))


def _print_prices(simulated: Prices) -> None:
    table = _table(
        f"dollars, {simulated.n_paths:,} paths, no book: 5 / 50 / 95 % points, and the median's 95 % interval",
        "chip",
        "month",
        "one-year contract, an hour",
        "spot, an hour",
        "chip value",
    )
    points: dict[tuple[str, int, str], list[PricePoint]] = {}
    for point in simulated.points():
        points.setdefault((point.gpu, point.month, point.kind), []).append(point)
    for gpu in simulated.generations:
        for month in simulated.year_ends():
            cells = [_points_cell(points[gpu, month, kind]) for kind in ("contract", "spot", "chip_value")]
            table.add_row(gpu, str(month), *cells)
    lines: dict[int, list[str]] = {}
    for share in simulated.regime_shares():
        lines.setdefault(share.month, []).append(f"{share.regime} {share.share:.1%}")
    error = 50 / simulated.n_paths**0.5
    _show(
        table,
        f"share of paths in each regime, a standard error of at most {error:.1f} points:",
        *(f"month {month}: {', '.join(names)}" for month, names in lines.items()),
        *_few_paths({"5 and 95 %": simulated.n_paths // 20}),
    )


def _points_cell(points: list[PricePoint]) -> str:
    digits = ",.0f" if points[0].kind == "chip_value" else ".2f"
    middle = next(p for p in points if p.level == 0.5)
    bounds = "…" if middle.low is None or middle.high is None else f"{middle.low:{digits}}-{middle.high:{digits}}"
    return f"{' / '.join(f'{p.value:{digits}}' for p in points)} ({bounds})"


if __name__ == "__main__":
    main()
