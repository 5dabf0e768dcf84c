"""The commands that ask a finished run. Only click is imported before a command runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from .cli_options import progress_bar
from .errors import UsageError
from .terminal import count, few_paths, show, table
from .text import figure_and_error, printable, shortened

if TYPE_CHECKING:
    import pandas as pd

    from .answers import Format
    from .contributions import Contributions
    from .replay import Replay
    from .saved_run import SavedRun

MAX_ROWS = 12
MAX_NAME = 40

_run = click.argument("run", metavar="RUN", type=click.Path())
_out = click.option("--out", type=click.Path(file_okay=False), metavar="DIR", help="Write the tables into DIR too.")
_format = click.option("--format", "kind", type=click.Choice(["parquet", "csv"]), default="parquet", show_default=True)
_level = click.option(
    "--level", type=float, default=0.99, show_default=True, help="Of the loss distribution, in (0, 1)."
)


@click.command()
@_run
@click.option("--path", "paths", type=int, multiple=True, metavar="N", help="A path's number; may be repeated.")
@click.option("--worst", type=click.IntRange(1), metavar="K", help="The K paths that lose most.")
@click.option("--explain", is_flag=True, help="Tell each path as a story of a dozen lines.")
@_out
@_format
def replay(run: str, paths: tuple[int, ...], worst: int | None, explain: bool, out: str | None, kind: Format) -> None:
    """Replay paths of RUN, a run's folder: prices, parties and loans, month by month."""
    from .saved_run import SavedRun

    if bool(paths) == (worst is not None):
        raise UsageError("name paths with --path N (any number of times), or the worst with --worst K")
    saved = SavedRun.read(run)
    found = saved.replay(list(paths) if worst is None else saved.worst(worst))
    for place in range(len(found.paths)):
        if explain:
            show(*found.story(int(found.paths[place])), "")
        else:
            _print_path(found, place)
    _write(out, found.tables(), kind)


@click.command()
@_run
@_level
@click.option(
    "--by", default="loan", show_default=True, help="loan, borrower, tenant, generation, cause, year, or a column."
)
@click.option("--tail-paths", is_flag=True, help="Also the average tail path beside the average path.")
@_out
@_format
def contributions(run: str, level: float, by: str, tail_paths: bool, out: str | None, kind: Format) -> None:
    """Who and what makes the tail of RUN: contributions to ES and VaR, which add up to them."""
    from .saved_run import SavedRun

    saved = SavedRun.read(run)
    found = saved.contributions(level, by)
    tables = {"contributions": found.table}
    _print_contributions(saved, found)
    if tail_paths:
        tables["tail_paths"] = saved.tail_paths(level)
        _print_tail_paths(tables["tail_paths"], level)
    _write(out, tables, kind)


@click.command()
@_run
@click.option("--tranche", "layers", multiple=True, metavar="A:D", help="Shares (0.1:0.3) or dollars; may be repeated.")
@_level
@click.option("--pro-rata", is_flag=True, help="Each bears its share of every loss, not the lowest first.")
@click.option("--by-year", is_flag=True, help="Also expected loss by year; runs paths again.")
@click.option("--target-pd", type=float, multiple=True, metavar="P", help="Attachment for a probability of loss.")
@click.option(
    "--target-el", type=float, multiple=True, metavar="S", help="Attachment for an expected loss of thickness."
)
@click.option(
    "--stress", type=float, multiple=True, metavar="LEVEL", help="Default, recovery and loss rate at a level."
)
@_out
@_format
def tranches(
    run: str,
    layers: tuple[str, ...],
    level: float,
    pro_rata: bool,
    by_year: bool,
    target_pd: tuple[float, ...],
    target_el: tuple[float, ...],
    stress: tuple[float, ...],
    out: str | None,
    kind: Format,
) -> None:
    """Layers of RUN's loss: expected loss, probability of loss and of wipe-out, ES; where protection must begin."""
    from .saved_run import SavedRun
    from .tranches import rating_stress

    if not (layers or target_pd or target_el or stress):
        raise UsageError("ask for something: --tranche 0.1:0.3, --target-pd 0.01, --target-el 0.001 or --stress 0.99")
    saved = SavedRun.read(run)
    tables = {}
    if layers:
        found = saved.tranches(layers, level=level, allocation="pro-rata" if pro_rata else "sequential")
        tables["tranches"] = found.table
        _print_tranches(saved, found.table, level)
        if by_year:
            tables["tranche_years"] = found.by_year
            _print_years(found.by_year)
    _print_attachments(saved, target_pd, target_el)
    if stress:
        tables["rating_stress"] = rating_stress(saved, stress)
        _print_stress(tables["rating_stress"])
    _write(out, tables, kind)


@click.command()
@_run
@click.option("--level", "levels", type=float, multiple=True, default=(0.99,), help="May be repeated.  [default: 0.99]")
@click.option(
    "--target", type=float, default=0.01, show_default=True, help="Relative standard error to plan paths for."
)
@click.option(
    "--seeds", type=click.IntRange(2, 1000), metavar="N", help="Also run the book with N seeds: are the errors right?"
)
@_out
@_format
def convergence(
    run: str, levels: tuple[float, ...], target: float, seeds: int | None, out: str | None, kind: Format
) -> None:
    """How sure RUN's figures are: measures against 2^k paths, and the paths that an error needs."""
    from .saved_run import SavedRun

    saved = SavedRun.read(run)
    tables = {"convergence": saved.convergence(levels, target=target)}
    _print_convergence(tables["convergence"], target)
    if seeds is not None:
        from .stability import stability

        with progress_bar() as progress:
            tables["stability"] = stability(saved, seeds, levels, progress=progress)
        _print_stability(tables["stability"])
    _write(out, tables, kind)


def _write(out: str | None, tables: Mapping[str, pd.DataFrame], kind: Format) -> None:
    from .answers import write_answers

    if out is not None:
        for path in write_answers(out, tables, kind):
            show(f"wrote {path}")


def _rows(frame: pd.DataFrame) -> Any:
    """The rows as named tuples."""
    return frame.itertuples()


def _millions(dollars: float, error: float) -> tuple[str, str]:
    """A figure and ± its error in millions, with the digits that the error supports."""
    figure, error_text = figure_and_error(dollars / 1e6, error / 1e6)
    return figure, f"± {error_text}"


def _name(text: object) -> str:
    return shortened(printable(str(text)), MAX_NAME)


def _print_path(found: Replay, place: int) -> None:
    number, loss = int(found.paths[place]), int(found.losses[place])
    loans, parties, market = (f[f["path"] == number] for f in (found.loans, found.parties, found.market))
    page = table(
        f"path {number}: {loss / 100:,.2f} dollars lost, {count(len(loans), 'default')}",
        *("loan", "month", "cause", "owed", "recovered by", "sold in", "proceeds", "lost"),
    )
    for row in _rows(loans.drop_duplicates()):
        sold = "–" if str(row.sale_month) == "<NA>" else str(row.sale_month)
        amounts = [f"{int(x) / 100:,.0f}" for x in (row.ead_cents, row.proceeds_cents, row.loss_cents)]
        page.add_row(_name(row.loan_id), str(row.month), row.cause, amounts[0], row.mode, sold, amounts[1], amounts[2])
    lines = [f"{_name(p.obligor_id)} in month {p.month}" for p in _rows(parties.drop_duplicates())]
    items: list[Any] = [page, f"parties in default: {', '.join(lines) or 'none'}"]
    show(*items, _market_table(market, number))


def _market_table(market: pd.DataFrame, number: int) -> Any:
    """The market at the start and at year ends."""
    prices = [c for c in market.columns if c.startswith(("contract_", "spot_"))]
    heads = [_name(c.removeprefix("contract_")) if c.startswith("contract_") else "spot" for c in prices]
    title = f"path {number}: the market, dollars an hour by the year and on the spot"
    page = table(title, "month", "regime", "demand", *heads)
    for _, row in market[market["month"] % 12 == 0].drop_duplicates().iterrows():
        page.add_row(
            str(row["month"]), _name(row["regime"]), f"{row['demand']:+.2f}", *(f"{row[c]:.2f}" for c in prices)
        )
    return page


def _print_contributions(saved: SavedRun, found: Contributions) -> None:
    level, rows = f"{100 * float(found.tail.level):g} %", found.table
    page = table(
        f"contributions at {level} by {_name(found.by)}, millions of dollars",
        *("item", f"to ES {level}", "± error", "of ES", f"to VaR {level}", "± error"),
    )
    for row in _rows(rows.head(MAX_ROWS)):
        share = "…" if row.share != row.share else f"{row.share:.1%}"
        es = _millions(row.expected_shortfall_usd, row.expected_shortfall_se_usd)
        page.add_row(_name(row.item), *es, share, *_millions(row.value_at_risk_usd, row.value_at_risk_se_usd))
    rest = rows.iloc[MAX_ROWS:]
    if len(rest):
        sums = [rest[c].sum() for c in ("expected_shortfall_usd", "share", "value_at_risk_usd")]
        page.add_row(f"{len(rest)} more", f"{sums[0] / 1e6:,.2f}", "", f"{sums[1]:.1%}", f"{sums[2] / 1e6:,.2f}", "")
    page.add_section()
    total = float(found.expected_shortfall) / 100
    var = found.tail.value_at_risk / 100
    page.add_row("all", f"{total / 1e6:,.2f}", "", "100.0%" if total else "…", f"{var / 1e6:,.2f}", "")
    h = found.herfindahl
    lines = [
        f"{count(found.tail.paths, 'path')} of {saved.n_paths:,} make ES, {len(found.tail.window):,} the VaR's proportions"
    ]
    if h == h:
        lines.append(f"Herfindahl index {h:.3f}: as concentrated as {1 / h:.1f} of equal size")
    show(page, *lines, *few_paths({level: found.tail.paths}))


def _print_tail_paths(frame: pd.DataFrame, level: float) -> None:
    page = table(f"the average path that loses at least VaR {100 * level:g} % beside the average path", "quantity", "month",
                 "tail", "±", "all", "±")  # fmt: skip
    for row in _rows(frame[(frame["month"] % 12 == 0) & (frame["month"] > 0)]):
        if not str(row.quantity).startswith(("overhang", "released")):
            page.add_row(
                _name(row.quantity),
                str(row.month),
                *(f"{x:.3f}" for x in (row.tail_mean, row.tail_se, row.mean, row.se)),
            )
    show(
        page,
        f"{count(int(frame['tail_paths'].iloc[0]), 'path')} of the tail, {count(int(frame['paths'].iloc[0]), 'path')} of all",
        *few_paths({f"{100 * level:g} %": int(frame["tail_paths"].iloc[0])}),
    )


def _print_tranches(saved: SavedRun, frame: pd.DataFrame, level: float) -> None:
    from .risk import FEW_PATHS, tail_paths

    page = table(
        f"tranches of the loss: expected loss and ES {100 * level:g} % in millions of dollars",
        *("tranche", "EL", "± error", "of it", "P(loss)", "95 %", "P(all)", "ES", "± error"),
    )
    for row in _rows(frame):
        low, high = (f"{100 * x:.3g}" for x in (row.attachment_share, row.detachment_share))
        share, gone = row.expected_loss_share, row.probability_of_wipe_out
        page.add_row(
            f"above {low} %" if high == "nan" else f"{low}-{high} %",
            *_millions(row.expected_loss_usd, row.expected_loss_se_usd),
            "…" if share != share else f"{share:.2%}",
            f"{row.probability_of_loss:.2%}",
            f"{100 * row.probability_of_loss_low:.2f}-{100 * row.probability_of_loss_high:.2f} %",
            "…" if gone != gone else f"{gone:.2%}",
            *_millions(row.expected_shortfall_usd, row.expected_shortfall_se_usd),
        )
    few = [f"{row.attachment_share:.2%}" for row in _rows(frame) if row.paths_with_loss < FEW_PATHS]
    lines = [f"{count(saved.n_paths, 'path')}, commitment {saved.commitment_usd:,.0f} dollars"]
    if few:
        lines.append(f"few paths: fewer than {FEW_PATHS} reach the tranche from {', '.join(few)}; raise --paths")
    show(page, *lines, *few_paths({f"{100 * level:g} %": tail_paths(saved.n_paths, level)}))


def _print_attachments(saved: SavedRun, target_pd: tuple[float, ...], target_el: tuple[float, ...]) -> None:
    from .tranches import attachment_for_expected_loss, attachment_for_probability

    found = [("probability of loss", attachment_for_probability(saved, p)) for p in target_pd]
    thickness = "expected loss, of thickness up to the commitment"
    found += [(thickness, attachment_for_expected_loss(saved, s)) for s in target_el]
    lent = saved.commitment_usd
    for what, a in found:
        bounds = " to ".join("…" if x is None else f"{x / lent:.2%}" for x in (a.low_usd, a.high_usd))
        show(
            f"{what} at most {a.target:g}: attach at {a.attachment_usd / lent:.2%} ({bounds}), {a.attachment_usd:,.0f} dollars",
            *few_paths({f"{a.attachment_usd / lent:.2%}": a.paths_beyond}),
        )


def _print_years(frame: pd.DataFrame) -> None:
    page = table("expected loss by year of default, millions of dollars", "tranche from", "year", "EL", "± error")
    for row in _rows(frame):
        page.add_row(
            f"{row.attachment_usd / 1e6:,.1f}",
            str(row.year),
            *_millions(row.expected_loss_usd, row.expected_loss_se_usd),
        )
    show(page)


def _print_stress(frame: pd.DataFrame) -> None:
    page = table(
        "losses by confidence level, shares of the commitment",
        *("level", "loss rate", "95 %", "default rate", "±", "recovery rate", "±", "paths beyond"),
    )
    for row in _rows(frame):
        bounds = ["…" if x != x else f"{x:.2%}" for x in (row.loss_rate_low, row.loss_rate_high)]
        rates = (row.default_rate, row.default_rate_se, row.recovery_rate, row.recovery_rate_se)
        cells = ["…" if x != x else f"{x:.2%}" for x in rates]
        page.add_row(
            f"{100 * row.level:g} %", f"{row.loss_rate:.2%}", " to ".join(bounds), *cells, f"{row.tail_paths:,}"
        )
    show(page, *few_paths({f"{100 * row.level:g} %": row.tail_paths for row in _rows(frame)}))


def _print_convergence(frame: pd.DataFrame, target: float) -> None:
    page = table(
        "measures against paths, millions of dollars",
        *("measure", "paths", "value", "± error", "95 % band", "tail paths", f"for {target:.2%}"),
    )
    for row in _rows(frame):
        error = row.standard_error_usd
        bounds = ["…" if x != x else _millions(x, error)[0] for x in (row.low_usd, row.high_usd)]
        page.add_row(
            _measure(row),
            f"{row.paths:,}",
            *_millions(row.value_usd, error),
            " to ".join(bounds),
            f"{row.tail_paths:,}{' (few)' if row.few else ''}",
            "…" if row.paths_needed != row.paths_needed else f"{row.paths_needed:,.0f}",
        )
    show(page, "the last column: paths in all for that relative standard error")


def _measure(row: Any) -> str:
    short = {"expected_loss": "EL", "value_at_risk": "VaR", "expected_shortfall": "ES"}[row.measure]
    return short if row.level != row.level else f"{short} {100 * row.level:g} %"


def _print_stability(frame: pd.DataFrame) -> None:
    first = frame.iloc[0]
    page = table(
        f"{first.seeds} seeds of {first.paths:,} paths, millions of dollars",
        *("measure", "this run", "± error", "mean of seeds", "spread", "errors stated", "ratio"),
    )
    for row in _rows(frame):
        mean, spread = figure_and_error(row.mean_usd / 1e6, row.spread_usd / 1e6)
        stated = figure_and_error(row.stated_error_usd / 1e6, row.stated_error_usd / 1e6)[1]
        ratio = "…" if row.ratio != row.ratio else f"{row.ratio:.2f}"
        page.add_row(_measure(row), *_millions(row.value_usd, row.standard_error_usd), mean, spread, stated, ratio)
    lines = [
        f"ratio: spread over errors stated; with errors that are right {first.ratio_low:.2f} to {first.ratio_high:.2f}, "
        "19 times out of 20"
    ]
    wrong = [_measure(row) for row in _rows(frame) if not row.agrees]
    if wrong:
        lines.append(
            f"errors in doubt: {', '.join(wrong)}: the spread over seeds is not what the runs state; raise --paths"
        )
    tails = {f"{100 * row.level:g} %": row.tail_paths for row in _rows(frame) if row.level == row.level}
    show(page, *lines, *few_paths(tails))


COMMANDS = (replay, contributions, tranches, convergence)
