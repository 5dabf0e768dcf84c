"""Panel of who and what makes the tail: contributions to expected shortfall by tenant, borrower, generation and loan."""

from __future__ import annotations

import numpy as np

from ..apportion import SPOT
from .charts import Row, clean, rows_chart
from .figures import CENTS, LEVEL, Figures
from .panel import MAX_ROWS, Drawing, Money, Panel, Table, share

_KINDS = ("tenant", "borrower", "generation", "loan")
_SHOWN = 8
_MOST = 3e9  # loan-months that are run again for this page: seconds


def contributions(figures: Figures) -> Panel:
    """Contributions to ES 99 %."""
    name = "Who makes the tail"
    command = "gpuloan-mc contributions RUN --by tenant"
    if not figures.losses[-1]:
        return Panel("parts", name, "Nobody: no future loses anything")
    again = int((figures.run.losses >= figures.run.figures.value_at_risk[LEVEL]).sum())
    if len(_KINDS) * again * figures.run.n_loans * figures.run.horizon_months > _MOST:
        return Panel("parts", name, f"{again:,} futures of {figures.run.n_loans:,} loans are many to run again here", missing=command)
    drawings, tables, heads = [], [], {}
    for by in _KINDS:
        frame = figures.run.contributions(LEVEL, by).table
        frame = frame[frame["expected_shortfall_usd"] > 0]
        heads[by] = frame
        if len(frame) < 2 and by != "loan":
            continue
        title = f"Contributions to ES 99% by {by}"
        rows = _rows(frame, figures)
        unit = Money.of(figures.run.figures.expected_shortfall[LEVEL] / CENTS).unit
        text = f"The largest {len(rows)} with 95 % intervals; together with the rest they add up to ES 99%."
        drawings.append(Drawing.of(f"parts-{by}", title, text, lambda w, rows=rows, by=by: rows_chart(w, rows, f"by {by}, {unit}")))  # type: ignore[misc]
        tables.append(_table(frame, by, figures))
    return Panel("parts", name, _title(heads), tuple(drawings), tuple(tables),
                 note="Mean losses over the worst hundredth of futures; they add up to ES 99% exactly.")  # fmt: skip


def _title(heads: dict[str, object]) -> str:
    """How few tenants, or borrowers, make half of the tail."""
    import pandas as pd

    for by in ("tenant", "borrower", "loan"):
        frame = heads[by]
        assert isinstance(frame, pd.DataFrame)
        few = int(np.searchsorted(frame["share"].cumsum().to_numpy(), 0.5)) + 1
        known = not (by == "tenant" and frame["item"].iloc[0] == SPOT)
        if known and (few <= 5 or by == "loan"):
            top = float(frame["share"].iloc[:few].sum())
            who = clean(frame["item"].iloc[0], 30) if few == 1 else f"{few:,} {by}s"
            verb = "comes" if few == 1 else "come"
            return f"{share(top, 0.005)} of the tail loss {verb} from {who}" if few == 1 else f"{who} make {share(top, 0.005)} of the tail loss"
    raise AssertionError("loans always make a title")


def _rows(frame: object, figures: Figures) -> list[Row]:
    import pandas as pd

    assert isinstance(frame, pd.DataFrame)
    money = Money.of(figures.run.figures.expected_shortfall[LEVEL] / CENTS)
    rows = []
    for item in frame.head(_SHOWN).itertuples():
        value, error = float(item.expected_shortfall_usd), float(item.expected_shortfall_se_usd)
        rows.append(
            Row(str(item.item), money(value), money(max(value - 1.96 * error, 0)), money(value + 1.96 * error),
                f"{money.with_error(value, error)}  ({share(float(item.share), 0.005)})")
        )  # fmt: skip
    return rows


def _table(frame: object, by: str, figures: Figures) -> Table:
    import pandas as pd

    assert isinstance(frame, pd.DataFrame)
    money = Money.of(figures.run.figures.expected_shortfall[LEVEL] / CENTS)
    rows = [
        (str(i.item), *(money.with_error(float(v), float(e)) for v, e in (
            (i.expected_shortfall_usd, i.expected_shortfall_se_usd), (i.value_at_risk_usd, i.value_at_risk_se_usd))),
         share(float(i.share), 0.0005))
        for i in frame.head(MAX_ROWS).itertuples()
    ]  # fmt: skip
    rest = len(frame) - MAX_ROWS
    more = f" (the largest {MAX_ROWS} of {len(frame):,})" if rest > 0 else ""
    return Table(f"By {by}, {money.unit}{more}", (by, "to ES 99%", "to VaR 99%", "of ES"), rows)
