"""A profile as a page for people: tables and lines that the command line prints."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from .profile import Profile, Spread

if TYPE_CHECKING:
    import pandas as pd

MAX_PARTIES = 10
MAX_NAME = 36


def page(book: str, profile: Profile) -> list[Any]:
    """What to print, top down; what the book does not have is left out. Names are text: print without markup."""
    items: list[Any] = [_totals(book, profile)]
    if profile.n_chips:
        items += [_ratios(profile), _chips(profile)]
    items += [_wall(profile) if profile.n_chips else _debt(profile), _maturities(profile)]
    if len(profile.tenants):
        items.append(_parties("tenants by contracted rent", profile.tenants, "chips", "revenue_usd"))
        items.append(_concentration(profile.tenants, profile.tenant_herfindahl))
    items.append(_parties("borrowers by commitment", profile.borrowers, "loans", "commitment_usd"))
    items += [_concentration(profile.borrowers, profile.borrower_herfindahl), _hazard_classes(profile)]
    return [*items, *(f"warning: {_text(line)}" for line in profile.warnings)]


def _table(title: str, *columns: str, header: bool = True) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_header=header)
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    return table


def _text(text: str) -> str:
    """Text of the book on one line, without control characters."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def _name(text: str) -> str:
    clean = _text(text)
    return clean if len(clean) <= MAX_NAME else f"{clean[: MAX_NAME - 1]}…"


def _millions(dollars: float) -> str:
    """Millions, with the digits that small books need."""
    millions = dollars / 1e6
    digits = 0 if millions >= 1000 or round(millions, 3) == 0 else 1 if millions >= 10 else 3
    return f"{millions:,.{digits}f}"


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _rows(frame: pd.DataFrame) -> list[dict[Any, Any]]:
    return frame.to_dict("records")


def _totals(book: str, profile: Profile) -> Table:
    n_loans, n_gpu = len(profile.terms), len(profile.gpu_loans)
    table = _table(f"{_name(book)}: the book at month 0", "", "", header=False)
    table.add_row("loans", f"{n_loans:,}")
    if 0 < n_gpu < n_loans:
        table.add_row("of them secured by chips", f"{n_gpu:,}")
    table.add_row("balance, $m", _millions(profile.balance_usd))
    if profile.commitment_usd > profile.balance_usd:
        table.add_row("commitment (balance and undrawn), $m", _millions(profile.commitment_usd))
    if profile.n_chips:
        table.add_row("chips", f"{profile.n_chips:,}")
        table.add_row("chips' value, $m", _millions(profile.chip_value_usd))
        table.add_row("chips on the spot market", _percent(profile.spot_share or 0.0))
        table.add_row("contracted rent to come, $m", _millions(profile.contracted_revenue_usd))
    if profile.lgd is not None:
        table.add_row("mean LGD of plain loans", _percent(profile.lgd.mean))
    table.add_row("horizon, months", f"{profile.horizon_months}")
    return table


def _ratios(profile: Profile) -> Table:
    title = "GPU loans in their first month of debt service, at month 0's prices"
    table = _table(title, "", "weighted", "lowest", "highest", "loans")

    def add(name: str, spread: Spread | None, show: Callable[[float], str]) -> None:
        if spread is not None:
            table.add_row(name, show(spread.mean), show(spread.low), show(spread.high), f"{spread.n_loans:,}")

    add("DSCR (NOI / debt service)", profile.dscr, "{:.2f}".format)
    add("LTV (balance / chips' value)", profile.ltv, _percent)
    add("reserve, months of debt service", profile.reserve_months, "{:.1f}".format)
    tests = {
        "below_lockup": "DSCR below lock-up",
        "below_default": "DSCR below default",
        "above_ltv_cap": "LTV above cap",
    }
    for column, name in tests.items():
        table.add_row(name, "", "", "", f"{profile.gpu_loans[column].sum():,}")
    return table


def _chips(profile: Profile) -> Table:
    table = _table(
        "chips by generation and age", "chip", "years in service", "chips", "of chips", "value, $m", "of value"
    )
    for row in _rows(profile.chips):
        age = "to come" if row["age_years"] < 0 else f"{row['age_years']} to {row['age_years'] + 1}"
        value = _millions(row["value_usd"]), _percent(row["value_share"])
        table.add_row(_name(row["gpu"]), age, f"{row['chips']:,}", _percent(row["share"]), *value)
    return table


def _debt(profile: Profile) -> Table:
    table = _table("scheduled debt", "end of year", "debt, $m")
    for row in _rows(profile.years):
        table.add_row(f"{row['year']}", _millions(row["debt_usd"]))
    return table


def _wall(profile: Profile) -> Table:
    title = "the wall of expiries: scheduled debt against contracts as signed, none renewed"
    columns = ("debt, $m", "off contract, $m", "of debt", "chips let", "chips ending", "rent, $m")
    table = _table(title, "end of year", *columns)
    for row in _rows(profile.years):
        debt, off = row["debt_usd"], row["off_contract_usd"]
        share = _percent(off / debt) if debt > 0 else "–"
        flows = (f"{row['ending_chips']:,}", _millions(row["revenue_usd"])) if row["year"] else ("–", "–")
        let = _percent(row["contracted_share"])
        table.add_row(f"{row['year']}", _millions(debt), _millions(off), share, let, *flows)
    return table


def _maturities(profile: Profile) -> Table:
    table = _table("maturities", "in year", "loans", "commitment today, $m", "due at maturity, $m")
    for row in _rows(profile.maturities):
        money = _millions(row["commitment_usd"]), _millions(row["last_payment_usd"])
        table.add_row(f"{row['year']}", f"{row['loans']:,}", *money)
    return table


def _parties(title: str, parties: pd.DataFrame, count: str, size: str) -> Table:
    table = _table(title, "party", "hazard class", count, "$m", "share")

    def add(name: str, hazard_class: str, row: Any) -> None:
        table.add_row(name, hazard_class, f"{row[count]:,}", _millions(row[size]), _percent(row["share"]))

    for row in _rows(parties.head(MAX_PARTIES)):
        add(_name(row["name"] or row["obligor_id"]), _name(row["hazard_class"]), row)
    rest = parties.iloc[MAX_PARTIES:]
    if len(rest):
        add(f"{len(rest):,} others", "", {column: rest[column].sum() for column in (count, size, "share")})
    return table


def _concentration(parties: pd.DataFrame, herfindahl: float | None) -> str:
    line = f"  {len(parties):,} in all; Herfindahl index {herfindahl or 0:.3f}"
    return f"{line}, as concentrated as {1 / herfindahl:.1f} of equal size" if herfindahl else line


def _hazard_classes(profile: Profile) -> Table:
    title = "hazard classes (PD as given, at pd_scale 1)"
    columns = ("PD 1 year", "PD to horizon", "borrowers", "of commitment", "tenants", "of rent")
    table = _table(title, "class", *columns)
    for row in _rows(profile.hazard_classes):
        borrowers = f"{row['borrowers']:,}", _percent(row["commitment_share"])
        tenants = f"{row['tenants']:,}", _percent(row["revenue_share"])
        pds = f"{row['pd_1_year']:.2%}", f"{row['pd_horizon']:.2%}"
        table.add_row(_name(row["hazard_class"]), *pds, *borrowers, *tenants)
    return table
