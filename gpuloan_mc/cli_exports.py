"""The commands that hand a run on and compare runs. Only click is imported before a command runs."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import click

from .terminal import count, show, table
from .text import printable, shortened, shown, with_error

if TYPE_CHECKING:
    from .answers import Format
    from .input_changes import TapeChange
    from .run_comparison import RunComparison

MAX_NAME = 40
MAX_KEYS = 12
MILLION = 1e6


@click.command()
@click.argument("run", metavar="RUN", type=click.Path())
@click.option(
    "--out", type=click.Path(file_okay=False), required=True, metavar="DIR", help="Write the tables into DIR."
)
@click.option(
    "--level",
    type=float,
    default=0.99,
    show_default=True,
    help="Of contributions, tranches and convergence, in (0, 1).",
)
@click.option(
    "--tranche", "tranches", multiple=True, metavar="A:D", help="Shares (0.1:0.3) or dollars; may be repeated."
)
@click.option("--stress", type=click.Path(), metavar="DIR", help="Scenarios too: a folder of `stress --out`.")
@click.option("--format", "kind", type=click.Choice(["parquet", "csv"]), default="parquet", show_default=True)
@click.option("--ord", "open_results", is_flag=True, help="Also tables with the names of Oasis' open results data.")
def export(
    run: str, out: str, level: float, tranches: tuple[str, ...], stress: str | None, kind: Format, open_results: bool
) -> None:
    """Write RUN, a run's folder, as tables for other systems, and export.json, which names each file."""
    import json

    from .exports import MANIFEST
    from .saved_run import SavedRun

    place = SavedRun.read(run).export(
        out, level=level, tranches=tranches, stress=stress, kind=kind, open_results=open_results
    )
    files = json.loads((place / MANIFEST).read_bytes())["files"]
    for name, fact in files.items():
        click.echo(f"wrote {place / name}: {count(fact['rows'], 'row')}")
    click.echo(f"wrote {place / MANIFEST}")


@click.command()
@click.argument("run_a", metavar="RUN_A", type=click.Path())
@click.argument("run_b", metavar="RUN_B", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def compare(run_a: str, run_b: str, as_json: bool) -> None:
    """What changed from RUN_A to RUN_B, two runs' folders: inputs, and figures beyond their errors."""
    from .run_comparison import compare as compare_runs

    found = compare_runs(run_a, run_b)
    if as_json:
        import json

        click.echo(json.dumps(found.to_json_dict(), indent=2, allow_nan=False))
    else:
        _print_comparison(found)


def _print_comparison(found: RunComparison) -> None:
    items: list[Any] = [found.sentence()]
    if found.facts:
        page = table("how the runs were made", "what", "A", "B")
        for row in found.facts:
            page.add_row(*row)
        items.append(page)
    for change in found.tapes:
        items += _tape_items(change)
    if found.market:
        items.append(_market_table(found))
    if not found.same_integers:
        items += [_figures_table(found), _errors_line(found), *_few(found)]
    show(*items)


def _tape_items(change: TapeChange) -> list[Any]:
    """Counts, names of the first few rows, and the first few cells."""
    from .input_changes import FEW

    items: list[Any] = []
    for what, names in (("added", change.added), ("removed", change.removed)):
        if names:
            items.append(f"{change.tape}, {what}: {_names(names, FEW)}")
    if len(change.cells):
        columns = ", ".join(f"{_name(column)} {n:,}" for column, n in change.by_column.items())
        items.append(f"{change.tape}, changed cells by column: {columns}")
        page = table(f"{change.tape}: {min(FEW, len(change.cells))} of {len(change.cells):,} changed cells", "row", "column",
                     "A", "B")  # fmt: skip
        for cell in change.cells.head(FEW).itertuples():
            page.add_row(_name(cell.row), _name(cell.column), _value(cell.old), _value(cell.new))
        items.append(page)
    return items


def _market_table(found: RunComparison) -> Any:
    n = len(found.market)
    page = table(
        f"market.toml: {min(MAX_KEYS, n)} of {n:,} changed keys" if n > MAX_KEYS else "market.toml", "key", "A", "B"
    )
    for change in found.market[:MAX_KEYS]:
        key, old, new = _first_difference(change.key, change.old, change.new)
        page.add_row(_name(key), _value(old), _value(new))
    return page


def _first_difference(key: str, old: Any, new: Any) -> tuple[str, Any, Any]:
    """Where two lists first differ, as a scenario names the place; other values as they are."""
    while isinstance(old, list) and isinstance(new, list):
        place = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
        old, new = (x[place] if place < len(x) else None for x in (old, new))
        key = f"{key}.{place + 1}"
    return key, old, new


_SHORT = {
    "expected_loss": "EL",
    "default_rate": "default rate, %",
    "value_at_risk": "VaR",
    "expected_shortfall": "ES",
    "expected_loss_by_cause": "EL,",
    "expected_loss_by_year": "EL, year",
}


def _figures_table(found: RunComparison) -> Any:
    page = table("figures in millions of dollars, ± standard error", "figure", "A", "B", "B less A", "beyond its error")
    rows: Any = found.figures.itertuples()
    for row in rows:
        unit = 100.0 if row.figure == "default_rate" else 1 / MILLION
        item = f"{100 * float(row.item):g} %" if row.figure in ("value_at_risk", "expected_shortfall") else row.item
        pairs: list[tuple[Any, Any]] = [(row.value_a, row.standard_error_a), (row.value_b, row.standard_error_b)]
        cells = [with_error(float(value) * unit, float(error) * unit) for value, error in pairs]
        moved = with_error(float(row.difference) * unit, float(row.difference_se) * unit, signed=True)
        beyond = "…" if str(row.beyond) == "<NA>" else "yes" if row.beyond else "no"
        page.add_row(f"{_SHORT[str(row.figure)]} {item}".strip(), *cells, moved, beyond)
    return page


def _errors_line(found: RunComparison) -> str:
    if not found.paired:
        return "seed or paths differ: the runs share no futures that could be paired, and their errors add up"
    if not found.paired_paths:
        return "paths paired; by cause and year the errors add up, since another version made one of the runs"
    return f"paths paired; by cause and year with the spread of the first {found.paired_paths:,}, run again"


def _few(found: RunComparison) -> list[str]:
    from .convergence import FEW_PATHS

    levels = found.a.figures.tail_paths
    thin = [f"{100 * x:g} %" for x in levels if min(r.figures.tail_paths[x] for r in (found.a, found.b)) < FEW_PATHS]
    return [f"few paths: the tail at {', '.join(thin)} rests on fewer than {FEW_PATHS}; raise --paths"] if thin else []


def _names(names: tuple[str, ...], few: int) -> str:
    more = f" and {len(names) - few:,} more" if len(names) > few else ""
    return f"{', '.join(_name(n) for n in names[:few])}{more}"


def _name(text: object) -> str:
    return shortened(printable(str(text)), MAX_NAME)


def _value(value: object) -> str:
    """A cell or key as the tables show it; dots for one that is not given."""
    if value is None or value != value or value == "":
        return "–"
    if isinstance(value, (str, date)):
        return _name(value)
    return f"{value:,.12g}" if isinstance(value, float) else shortened(shown(value), MAX_NAME)


COMMANDS = (export, compare)
