"""The commands that run a book more than once on the same random numbers. Only click is imported before a command runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from .cli_options import PATHS, SEED, WORKERS, progress_bar, read_book
from .errors import UsageError
from .terminal import count, few_paths, show, table
from .text import figure_and_error, printable, shortened, with_error

if TYPE_CHECKING:
    from .breakeven import BreakEven, Reading, Target
    from .comparison import Stress
    from .grid import Axis, Grid
    from .marginal import Marginal
    from .sensitivity import Range, Sensitivities

LEVEL = click.Choice(["0.95", "0.99", "0.999", "0.9997"])
MAX_NAME = 40
MAX_IDS = 12

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _options(paths: int) -> Callable[[_Command], _Command]:
    """The book and how it is run, alike for every command here."""
    options = (
        click.argument("book", metavar="BOOK"),
        click.option("--paths", "n_paths", type=PATHS, default=paths, show_default=True, help="Futures of each run."),
        click.option("--seed", type=SEED, default=1, show_default=True, help="The same for every run."),
        click.option(
            "--engine",
            type=click.Choice(["auto", "numba", "numpy"]),
            default="auto",
            show_default=True,
            help="No engine changes a figure.",
        ),
        click.option("--workers", type=WORKERS, help="Threads of numba; changes no figure.  [default: all cores]"),
        click.option("--out", type=click.Path(file_okay=False), metavar="DIR", help="Write the tables into DIR."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables."),
    )

    def decorated(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorated


_level = click.option("--level", type=LEVEL, default="0.99", show_default=True, help="Of the VaR and ES shown.")


def _hand_over(found: Any, out: str | None, as_json: bool, page: Callable[[], None]) -> None:
    """Write what was found, and print it."""
    if out is not None:
        found.write(out)
    if as_json:
        click.echo(json.dumps(found.to_json_dict(), indent=2, allow_nan=False))
    else:
        page()


def _check_folder(out: str | None, mark: str) -> None:
    """A folder that can't be used is refused before the runs rather than after."""
    from .files import empty_folder

    if out is not None:
        empty_folder(Path(out), marks=(mark,))


# --- kinds of options -------------------------------------------------------------------------------------------------


def _numbers(text: str, separator: str) -> tuple[Literal["set", "scale"], tuple[float, ...]]:
    """Numbers, and whether an x before them makes them factors.

    Raises:
        ValueError: one is no finite number.
    """
    how: Literal["set", "scale"] = "scale" if text.lower().startswith(("x", "×")) else "set"
    values = tuple(float(part) for part in text.lower().lstrip("x×").split(separator))
    if any(value != value or abs(value) == float("inf") for value in values):
        raise ValueError(text)
    return how, values


class _Bump(click.ParamType):  # type: ignore[type-arg]  # generic in newer click only
    """KEY=LOW:HIGH, with × or x before the ends for factors."""

    name = "bump"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        key, _, ends = value.partition("=")
        try:
            how, (low, high) = _numbers(ends, ":")
        except ValueError:
            self.fail(
                f"{value!r} is no KEY=LOW:HIGH, such as gpu.overhang.impact=0.3:2.5 or loans.balance_usd=x0.9:1.1"
            )
        from .sensitivity import Range

        return Range(key, low, high, how)


class _Axis(click.ParamType):  # type: ignore[type-arg]
    """KEY=V1,V2,…, with × or x before the first for factors."""

    name = "axis"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        key, _, listed = value.partition("=")
        try:
            how, values = _numbers(listed, ",")
        except ValueError:
            self.fail(f"{value!r} is no KEY=V1,V2, such as roll_off=0.2,0.5,0.8 or gpu.contracts.renewal=x0.7,1,1.15")
        from .grid import Axis

        return Axis(key, values, how)


class _End(click.ParamType):  # type: ignore[type-arg]
    """A number, with × or x before it for a factor."""

    name = "end"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        try:
            how, (number,) = _numbers(value, ",")
        except ValueError:
            self.fail(f"{value!r} is no number; write it as 0.5, or as x0.5 for a factor")
        return how, number


class _Shortfall(click.ParamType):  # type: ignore[type-arg]
    """LEVEL=LIMIT."""

    name = "limit"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        level, _, limit = value.partition("=")
        try:
            numbers = float(level), float(limit)
        except ValueError:
            self.fail(f"{value!r} is no LEVEL=LIMIT, such as 0.99=0.15 (a share of the book) or 0.99=2e9 (dollars)")
        from .breakeven import ShortfallLimit

        return ShortfallLimit(*numbers)


# --- commands ---------------------------------------------------------------------------------------------------------


@click.command()
@_options(50_000)
@click.option(
    "--scenario",
    "chosen",
    multiple=True,
    metavar="NAME|FILE",
    help="One of them; may be given again.  [default: all bundled ones that fit]",
)
@_level
def stress(book: str, chosen: tuple[str, ...], level: str, out: str | None, as_json: bool, **how: Any) -> None:
    """Run BOOK as it is and under each scenario on the same random numbers: figures, and differences with their errors."""
    from . import comparison

    _check_folder(out, comparison.MANIFEST)
    portfolio = read_book(book)
    with progress_bar(hidden=as_json) as progress:
        found = comparison.stress(portfolio, portfolio.market, chosen or None, progress=progress, **how)
    _hand_over(found, out, as_json, lambda: _print_stress(book, found, float(level)))


@click.command()
@_options(20_000)
@click.option(
    "--bump",
    "ranges",
    type=_Bump(),
    multiple=True,
    metavar="KEY=LOW:HIGH",
    help="A parameter and its range; may be given again.  [default: what is judgement]",
)
@_level
def sensitivities(book: str, ranges: tuple[Range, ...], level: str, out: str | None, as_json: bool, **how: Any) -> None:
    """Run BOOK with one parameter after another at the ends of its range: which judgement moves the tail most."""
    from . import sensitivity
    from .comparison import MANIFEST

    _check_folder(out, MANIFEST)
    portfolio = read_book(book)
    with progress_bar(hidden=as_json) as progress:
        found = sensitivity.sensitivities(portfolio, portfolio.market, ranges or None, progress=progress, **how)
    _hand_over(found, out, as_json, lambda: _print_tornado(book, found, float(level)))


@click.command()
@_options(20_000)
@click.option(
    "--parameter", required=True, metavar="KEY", help="Key of market.toml, column, roll_off, force.price.H100.12."
)
@click.option("--from", "low", type=_End(), required=True, metavar="A", help="A level of it, x before it for a factor.")
@click.option("--to", "high", type=_End(), required=True, metavar="B", help="A higher one, beyond the limit.")
@click.option(
    "--es", type=_Shortfall(), metavar="LEVEL=LIMIT", help="Until ES reaches a limit: share up to 1, else dollars."
)
@click.option("--tranche", metavar="A:D", help="Until a tranche begins to lose.")
@click.option(
    "--probability", type=float, metavar="P", help="It does when its probability of loss is P.  [default: 0.01]"
)
@click.option("--steps", type=click.IntRange(1, 50), default=10, show_default=True, help="Halvings of the range.")
def breakeven(
    book: str,
    parameter: str,
    low: tuple[Literal["set", "scale"], float],
    high: tuple[Literal["set", "scale"], float],
    es: Target | None,
    tranche: str | None,
    probability: float | None,
    steps: int,
    out: str | None,
    as_json: bool,
    **how: Any,
) -> None:
    """Find the level of a parameter at which BOOK's ES reaches a limit, or a tranche begins to lose."""
    from .breakeven import FIRST_LOSS, MANIFEST, TrancheLoss, break_even
    from .sensitivity import Range

    if (es is None) == (tranche is None):
        raise UsageError("name one goal: --es 0.99=0.15, or --tranche 0.1:0.2")
    if probability is not None and tranche is None:
        raise UsageError("--probability is a tranche's; name the tranche, or leave it away")
    if low[0] != high[0]:
        raise UsageError("one end of the range is a factor and the other is not; put x before both or none")
    target = es or TrancheLoss(str(tranche), FIRST_LOSS if probability is None else probability)
    _check_folder(out, MANIFEST)
    portfolio, between = read_book(book), Range(parameter, low[1], high[1], low[0])
    with progress_bar(hidden=as_json) as progress:
        found = break_even(portfolio, portfolio.market, between, target, steps=steps, progress=progress, **how)
    _hand_over(found, out, as_json, lambda: _print_break_even(book, found))


@click.command()
@_options(20_000)
@click.option("--x", type=_Axis(), required=True, metavar="KEY=V1,V2", help="A parameter and its values, by row.")
@click.option("--y", type=_Axis(), required=True, metavar="KEY=V1,V2", help="Another one, by column.")
@_level
def grid(book: str, x: Axis, y: Axis, level: str, out: str | None, as_json: bool, **how: Any) -> None:
    """Run BOOK at every pair of values of two parameters: ES, and its difference from the base."""
    from . import grid as grids
    from .comparison import MANIFEST

    _check_folder(out, MANIFEST)
    portfolio = read_book(book)
    with progress_bar(hidden=as_json) as progress:
        found = grids.grid(portfolio, portfolio.market, x, y, progress=progress, **how)
    _hand_over(found, out, as_json, lambda: _print_grid(book, found, float(level)))


@click.command()
@_options(50_000)
@click.option("--remove", multiple=True, metavar="ID", help="A loan that goes; may be given again.")
@click.option("--add", type=click.Path(), metavar="FOLDER", help="A book whose loans join.")
def marginal(book: str, remove: tuple[str, ...], add: str | None, out: str | None, as_json: bool, **how: Any) -> None:
    """Run BOOK with and without loans on the same random numbers: what they add, and what they contribute."""
    from . import marginal as marginals
    from .simulation import simulate

    _check_folder(out, marginals.MANIFEST)
    portfolio = read_book(book)
    marginals.changed_book(portfolio, remove, add)  # what is refused is refused before the runs
    with progress_bar(hidden=as_json) as progress:
        run = simulate(portfolio, portfolio.market, progress=progress, **how)
    found = marginals.marginal(run, remove, add, workers=how["workers"])
    _hand_over(found, out, as_json, lambda: _print_marginal(book, found))


# --- pages ------------------------------------------------------------------------------------------------------------

_COLUMNS: tuple[tuple[str, str, float], ...] = (
    ("expected loss, $m", "expected_loss", 1e-6),
    ("VaR {level:g} %, $m", "value_at_risk", 1e-6),
    ("ES {level:g} %, $m", "expected_shortfall", 1e-6),
    ("default rate, %", "default_rate", 100.0),
)


def _thin(n_paths: int, *levels: float) -> list[str]:
    from .risk import tail_paths

    return few_paths({f"{100 * level:g} %": tail_paths(n_paths, level) for level in levels})


def _left_out(pairs: tuple[tuple[str, str], ...]) -> list[str]:
    return [f"left out: {name}: {why}" for name, why in pairs]


def _print_stress(book: str, found: Stress, level: float) -> None:
    columns = [name.format(level=100 * level) for name, _, _ in _COLUMNS]
    figures = table(f"{book}: {found.n_paths:,} paths each, seed {found.seed}; ± standard error", "scenario", *columns)
    moved = table("less the base, paths paired; ± standard error of the difference", "scenario", *columns)
    for run in found.runs:
        figures.add_row(run.scenario, *_stress_cells(found, run.scenario, level, "value", "standard_error"))
        if run is not found.runs[0]:
            moved.add_row(run.scenario, *_stress_cells(found, run.scenario, level, "difference", "difference_se"))
    show(figures, moved, *_left_out(found.left_out), *_thin(found.n_paths, level))


def _stress_cells(found: Stress, scenario: str, level: float, value: str, error: str) -> list[str]:
    cells = []
    for _, figure, unit in _COLUMNS:
        rows = found.figure(figure, level if figure in ("value_at_risk", "expected_shortfall") else None)
        row: Any = rows.loc[scenario]
        cells.append(with_error(float(row[value]) * unit, float(row[error]) * unit, signed=value == "difference"))
    return cells


def _print_tornado(book: str, found: Sensitivities, level: float) -> None:
    title = (
        f"{book}: ES {100 * level:g} % less the base, $m; {found.stress.n_paths:,} paths each, seed {found.stress.seed}"
    )
    page = table(title, "parameter", "low", "± standard error", "high", "± standard error")
    for row in found.tornado(level=level).to_dict("records"):
        low, high = (
            with_error(row[f"difference_{end}"] / 1e6, row[f"se_{end}"] / 1e6, signed=True) for end in ("low", "high")
        )
        page.add_row(row["parameter"], row["low"], low, row["high"], high)
    show(page, *_left_out(found.left_out), *_thin(found.stress.n_paths, level))


def _print_break_even(book: str, found: BreakEven) -> None:
    between, goal = found.between, _goal(found.reading)
    title = f"{book}: {found.target.figure}; {found.n_paths:,} paths each, seed {found.seed}"
    page = table(title, between.parameter, "figure", "95 %", "paths behind it")
    # digits as the interval supports them, where one is known
    ends = [x for x in (found.low, found.high) if x is not None]
    error = max([found.step, *(abs(x - found.value) / 1.96 for x in ends)])
    value, low, high = (
        "…" if x is None else figure_and_error(x, error)[0] for x in (found.value, found.low, found.high)
    )
    factor = "× " if between.how == "scale" else ""
    rows = found.table.set_index("level")
    names = {
        between.low: between.setting(between.low),
        found.value: factor + value,
        between.high: between.setting(between.high),
    }
    for level, name in names.items():
        row: Any = rows.loc[level]
        bounds = " to ".join(_amount(x, row.goal) for x in (row.low, row.high))
        page.add_row(name, _amount(row.value, row.goal), bounds, f"{int(row.tail_paths):,}")
    lines = [f"{found.target.figure} reaches {goal} at {between.parameter} {factor}{value} (95 %: {low} to {high})"]
    if len(ends) < 2:
        lines.append("…: the interval goes beyond the range that was searched, or the paths are too few for one")
    show(page, *lines, *few_paths({f"{between.parameter} {factor}{value}": found.reading.tail_paths}))


def _goal(reading: Reading) -> str:
    return f"{reading.goal:.2%}" if reading.goal < 1 else f"{reading.goal / 1e6:,.4g} million dollars"


def _amount(value: float, goal: float) -> str:
    """A probability where the goal is one, else millions of dollars."""
    if value != value:
        return "…"
    return f"{value:.2%}" if goal < 1 else f"{value / 1e6:,.0f} $m"


def _print_grid(book: str, found: Grid, level: float) -> None:
    title = f"{book}: ES {100 * level:g} %, $m; {found.stress.n_paths:,} paths each, seed {found.stress.seed}; ± standard error"
    figures = _crossed(found, level, title, "value", "standard_error")
    moved = "less the base, paths paired; ± standard error of the difference"
    show(figures, _crossed(found, level, moved, "difference", "difference_se"), *_thin(found.stress.n_paths, level))


def _crossed(found: Grid, level: float, title: str, value: str, error: str) -> Any:
    """A table with a row a value of x and a column a value of y."""
    x, y = found.x, found.y
    page = table(title, f"{x.parameter} ↓ {y.parameter} →", *(y.of.setting(w) for w in y.values))
    values, errors = (found.crossed(column, level=level) for column in (value, error))
    for i, v in enumerate(x.values):
        pairs = zip(values.iloc[i], errors.iloc[i], strict=True)
        page.add_row(x.of.setting(v), *(with_error(a / 1e6, b / 1e6, signed=value == "difference") for a, b in pairs))
    return page


_NAMES: Mapping[str, str] = {"expected_loss": "expected loss", "value_at_risk": "VaR", "expected_shortfall": "ES"}


def _print_marginal(book: str, found: Marginal) -> None:
    run, others = found.before, found.others
    loans = {name: ids for name, ids in (("removed", found.removed), ("added", found.added)) if ids}
    what = " and ".join(f"{count(len(ids), 'loan')} {name}" for name, ids in loans.items())
    page = table(
        f"{book}, $m: {what}; {run.n_paths:,} paths, seed {run.seed}; ± standard error",
        *("figure", "before", "after", "difference", *(f"contribution of the {name}" for name in loans)),
    )
    for row in found.table.to_dict("records"):
        level = "" if row["level"] != row["level"] else f" {100 * row['level']:g} %"
        keys = ["before", "after", "difference", *(f"{name}_contribution" for name in loans)]
        cells = [with_error(row[k] / 1e6, row[f"{k}_se"] / 1e6, signed=k == "difference") for k in keys]
        page.add_row(f"{_NAMES[str(row['figure'])]}{level}", *cells)
    moved = with_error(others.mean / 1e8, others.standard_error / 1e8, signed=True)
    lines = [f"{name}: {_listed(ids)}" for name, ids in loans.items()]
    lines.append(f"expected loss of the other loans, after less before: {moved} million dollars")
    show(page, *lines, *_thin(run.n_paths, *run.value_at_risk))


def _listed(ids: tuple[str, ...]) -> str:
    names = [shortened(printable(i), MAX_NAME) for i in ids[:MAX_IDS]]
    return ", ".join([*names, f"and {len(ids) - MAX_IDS} more"] if len(ids) > MAX_IDS else names)


COMMANDS = (stress, sensitivities, breakeven, grid, marginal)
