"""Panel of who and what makes the tail: contributions to expected shortfall by tenant, borrower, generation and loan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..apportion import NO_CHIPS, SPOT
from .charts import Row, clean, rows_chart
from .figures import CENTS, LEVEL, Figures
from .panel import MAX_ROWS, Drawing, Money, Panel, Table, rows_of, share

if TYPE_CHECKING:
    import pandas as pd

_KINDS = ("tenant", "borrower", "generation", "loan")
_NAMED = ("tenant", "borrower", "loan")  # of which few may make half of the tail
_FEW = 5
_SHOWN = 8
_LOAN_MONTHS = 1e9  # of the tail, run again for each kind: seconds
_MOST = 10_000  # items of a kind; beyond, exact sums take longer than a page may


def contributions(figures: Figures) -> Panel:
    """Contributions to ES 99 %."""
    name = "Who makes the tail"
    command = "gpuloan-mc contributions RUN --by tenant"
    if not figures.losses[-1]:
        return Panel("parts", name, "Nobody: no future loses anything")
    again = int((figures.run.losses >= figures.run.figures.value_at_risk[LEVEL]).sum())
    few = again * figures.run.n_loans * figures.run.horizon_months <= _LOAN_MONTHS
    kinds = [by for by in _KINDS if few and _items(figures, by) <= _MOST]
    frames = {by: figures.run.contributions(LEVEL, by).table for by in kinds}
    frames = {by: frame[frame["expected_shortfall_usd"] > 0] for by, frame in frames.items()}
    if not kinds:
        return Panel(
            "parts", name, f"{figures.run.n_loans:,} loans are too many to be taken apart here", missing=command
        )
    money = Money.of(figures.run.figures.expected_shortfall[LEVEL] / CENTS)
    shown = [by for by in kinds if len(frames[by]) > 1 or by == "loan"]
    return Panel(
        "parts", name, _title(frames), tuple(_drawing(frames[by], by, money) for by in shown),
        tuple(_table(frames[by], by, money) for by in shown),
        note="Mean losses over the worst hundredth of futures; they add up to ES 99% exactly.",
        missing=command if len(kinds) < len(_KINDS) else "",
    )  # fmt: skip


def _drawing(frame: pd.DataFrame, by: str, money: Money) -> Drawing:
    title = f"Contributions to ES 99% by {by}"
    rows = [_row(item, money) for item in rows_of(frame.head(_SHOWN))]
    text = f"The largest {len(rows)} with 95 % intervals; together with the rest they add up to ES 99%."
    return Drawing.of(f"parts-{by}", title, text, lambda width: rows_chart(width, rows, f"by {by}, {money.unit}"))


def _row(item: Any, money: Money) -> Row:
    value, error = float(item.expected_shortfall_usd), float(item.expected_shortfall_se_usd)
    low, high = money(max(value - 1.96 * error, 0)), money(value + 1.96 * error)
    return Row(
        str(item.item),
        money(value),
        low,
        high,
        f"{money.with_error(value, error)}  ({share(float(item.share), 0.005)})",
    )


def _items(figures: Figures, by: str) -> int:
    """How many items of a kind the book has."""
    names = figures.run.names
    return len(
        set({"tenant": names.tenants, "borrower": names.borrowers, "loan": names.loans}.get(by, names.generations))
    )


def _title(frames: dict[str, pd.DataFrame]) -> str:
    """How few tenants, borrowers or loans make half of the tail."""
    known = [by for by in _NAMED if by in frames] or list(frames)
    for by in known:
        shares, items = frames[by]["share"].to_numpy(), [str(i) for i in frames[by]["item"]]
        few = int(np.searchsorted(shares.cumsum(), 0.5)) + 1
        parties = not {SPOT, NO_CHIPS} & set(items[:few])
        if by == known[-1] or (parties and few <= _FEW):
            break
    top = share(float(shares[:few].sum()), 0.005)
    return (
        f"{top} of the tail loss comes from {clean(items[0], 30)}"
        if few == 1
        else f"{few:,} {by}s make {top} of the tail loss"
    )


def _table(frame: pd.DataFrame, by: str, money: Money) -> Table:
    rows = []
    for row in rows_of(frame.head(MAX_ROWS)):
        es, var = (
            money.with_error(float(v), float(e))
            for v, e in (
                (row.expected_shortfall_usd, row.expected_shortfall_se_usd),
                (row.value_at_risk_usd, row.value_at_risk_se_usd),
            )
        )
        rows.append((str(row.item), es, var, share(float(row.share), 0.0005)))
    more = f" (the largest {MAX_ROWS} of {len(frame):,})" if len(frame) > MAX_ROWS else ""
    return Table(f"By {by}, {money.unit}{more}", (by, "to ES 99%", "to VaR 99%", "of ES"), rows)
