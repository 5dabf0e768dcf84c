"""The command line: `gpuloan-mc`. Only click is imported before a command runs, so --help is quick."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from . import __version__
from .errors import EXIT_BUG, EXIT_ENVIRONMENT, EXIT_INTERRUPTED, GpuLoanError

if TYPE_CHECKING:
    from .result import Result
    from .simulation import Prices

SEED = click.IntRange(0, 2**64 - 1)
DEBUG = "GPULOAN_MC_DEBUG"


def main() -> None:
    """Run the command line; errors become sentences and exit codes."""
    try:
        # not cli.main: it ends with code 1 when the reader of our output has gone
        with cli.make_context("gpuloan-mc", sys.argv[1:]) as context:
            cli.invoke(context)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except GpuLoanError as error:
        _stop(str(error), error.exit_code)
    except (KeyboardInterrupt, click.exceptions.Abort):
        _stop("stopped", EXIT_INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
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
@click.option("--paths", type=click.IntRange(1, 2**40), help="Futures to simulate.  [default: 10000 on numpy]")
@click.option("--seed", type=SEED, default=1, show_default=True, help="Same book, seed and path: same loss.")
@click.option("--engine", type=click.Choice(["auto", "numpy"]), default="auto", show_default=True)
@click.option("--chunk", type=click.IntRange(1, 2**40), help="Paths at a time; changes no figure.")
@click.option("--out", type=click.Path(file_okay=False), metavar="DIR", help="Write a run folder.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def run(
    book: str, paths: int | None, seed: int, engine: str, chunk: int | None, out: str | None, as_json: bool
) -> None:
    """Simulate BOOK and print its loss distribution."""
    from .market import Market
    from .portfolio import Portfolio
    from .result import prepare_run_folder
    from .simulation import simulate

    market = Market.read(book)
    portfolio = Portfolio.read(book, market)
    for line in portfolio.warnings:
        click.echo(f"warning: {line}", err=True)
    if out is not None:
        prepare_run_folder(out)  # refused now rather than after the simulation
    with _progress(hidden=as_json) as progress:
        result = simulate(portfolio, market, n_paths=paths, seed=seed, engine=engine, chunk=chunk, progress=progress)
    if out is not None:
        result.write(out, portfolio, market)
    if as_json:
        click.echo(result.to_json())
    else:
        _print_result(book, result)


@cli.command()
@click.argument("book", metavar="BOOK")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a page.")
def check(book: str, as_json: bool) -> None:
    """Check BOOK and print its profile: debt, chips, contracts, ratios, parties. Nothing is simulated."""
    from .market import Market
    from .portfolio import Portfolio
    from .profile import Profile

    market = Market.read(book)
    profile = Profile.of(Portfolio.read(book, market), market)
    if as_json:
        import json

        click.echo(json.dumps(profile.to_json_dict(), indent=2, allow_nan=False))
    else:
        from .profile_page import page

        _show(*page(book, profile))


@cli.command()
@click.argument("book", metavar="BOOK")
@click.option("--paths", type=click.IntRange(1, 10**6), default=2000, show_default=True)
@click.option("--seed", type=SEED, default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def prices(book: str, paths: int, seed: int, as_json: bool) -> None:
    """Simulate BOOK's rental prices alone: 5, 50 and 95 % points by generation and year."""
    from .market import Market
    from .simulation import simulate_prices

    market = Market.read(book)
    simulated = simulate_prices(market, n_paths=paths, seed=seed)
    if as_json:
        import json

        click.echo(json.dumps(_price_points(simulated), indent=2))
    else:
        _print_prices(simulated, paths)


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
def doctor() -> None:
    """Check this installation: packages, engines, bundled books."""
    from .doctor import findings, report

    for line in report():
        click.echo(line)
    problems = findings()
    for line in problems:
        click.echo(f"problem: {line}", err=True)
    if problems:
        sys.exit(EXIT_ENVIRONMENT)
    click.echo("all is well")


@contextmanager
def _progress(hidden: bool) -> Iterator[Callable[[int, int], None] | None]:
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


def _table(title: str, *columns: str) -> Any:
    from rich.table import Table

    table = Table(title=title, title_justify="left", header_style="bold")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    return table


def _show(*items: Any) -> None:
    from rich.console import Console

    # names come from the book: brackets and colons in them are text, not markup
    console = Console(width=None if sys.stdout.isatty() else 100, markup=False, emoji=False)
    with console.capture() as shown:
        for item in items:
            console.print(item, highlight=False)
    click.echo(shown.get(), nl=False)


def _print_result(book: str, result: Result) -> None:
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
        f"{result.n_loans} loans, {result.commitment_usd:,.0f} dollars lent or committed, {result.n_paths:,} paths, "
        f"seed {result.seed}",
        f"any loss: {result.probability_of_loss:.2%} of paths ({low:.2%} … {high:.2%}); "
        f"default rate {result.default_rate:.3%} {_plus_minus(result.default_rate_se, '.3%')}",
        f"engine {result.engine} ({result.engine_reason}); {result.seconds:.2f} s, "
        f"{result.loan_steps_per_second:,.0f} loan-steps a second",
        f"digest {result.digest}",
    ]
    thin = [f"{100 * level:g} %" for level, n in result.figures.tail_paths.items() if n < 50]
    if thin:
        lines.append(f"few paths: the tail at {', '.join(thin)} rests on fewer than 50 paths; raise --paths")
    _show(table, *lines)


def _plus_minus(error: float | None, style: str = ",.0f") -> str:
    """An error, or dots where the paths are too few for one (None or NaN)."""
    return "± …" if error is None or error != error else f"± {error:{style}}"


POINTS = (0.05, 0.5, 0.95)


def _price_points(simulated: Prices) -> dict[str, Any]:
    """Percentiles at the end of each year: {kind: {generation: {month: [5 %, 50 %, 95 %]}}}."""
    import numpy as np

    months = range(12, simulated.contract.shape[1], 12) or [simulated.contract.shape[1] - 1]
    kinds = {"contract": simulated.contract, "spot": simulated.spot, "chip_value": simulated.chip_values}
    return {
        kind: {
            name: {str(m): [float(q) for q in np.quantile(values[:, m, g].astype(np.float64), POINTS)] for m in months}
            for g, name in enumerate(simulated.generations)
        }
        for kind, values in kinds.items()
    }


def _print_prices(simulated: Prices, paths: int) -> None:
    points = _price_points(simulated)
    table = _table(
        f"dollars an hour, {paths:,} paths, no book: 5 / 50 / 95 %",
        "chip",
        "month",
        "one-year contract",
        "spot",
        "chip value",
    )
    for name, months in points["contract"].items():
        for month, contract in months.items():
            spot, value = points["spot"][name][month], points["chip_value"][name][month]
            table.add_row(
                name,
                month,
                " / ".join(f"{x:.2f}" for x in contract),
                " / ".join(f"{x:.2f}" for x in spot),
                " / ".join(f"{x:,.0f}" for x in value),
            )
    _show(table)


if __name__ == "__main__":
    main()
