"""Panel of when and why: expected loss and defaults by month and cause."""

from __future__ import annotations

import numpy as np

from ..plan import CAUSES
from ..reference.arithmetic import F64
from .charts import Chart, Scale, framed
from .figures import CENTS, Figures
from .panel import Drawing, Money, Panel, Table, number, share

_WORDS = {
    "parent": "borrower's parent falls",
    "maturity": "not repaid at maturity",
    "tenant": "a tenant's default",
    "payment": "debt service not covered",
    "covenant": "covenant broken",
}


def timing(figures: Figures) -> Panel:
    """Expected loss and defaults by month, stacked by cause."""
    frame, n = figures.timeline, figures.run.n_paths
    loss = {cause: frame[f"loss_cents_{cause}"].astype(np.float64).to_numpy() / CENTS / n for cause in CAUSES}
    count = {cause: frame[f"defaults_{cause}"].to_numpy(np.float64) / n for cause in CAUSES}
    total = sum(loss.values(), np.zeros(len(frame)))
    if not total.sum():
        defaults = sum(float(c.sum()) for c in count.values())
        return Panel("timing", "When and why", "No month has a loss" if defaults else "No month has a default")
    first = np.searchsorted(np.cumsum(total), total.sum() / 2) + 1
    cause = max(CAUSES, key=lambda c: loss[c].sum())
    weight = loss[cause].sum() / total.sum()
    title = f"Half of the expected loss falls by month {first}; {share(weight, 0.005)} of it when {_sentence(cause)}"
    errors = frame["expected_loss_se_usd"].to_numpy(np.float64)
    rate_errors = frame["default_rate_se"].to_numpy(np.float64) * figures.run.n_loans
    money = Money.of(total.max())
    text = "Stacked bars by month, one colour a cause, with whiskers of 95 % about each month's total."
    drawings = (
        Drawing.of("timing-loss", title, f"Expected loss. {text}",
                   lambda w: _stack(w, {c: money_values(v, money) for c, v in loss.items()}, money_values(errors, money),
                                    f"expected loss a month, {money.unit}")),
        Drawing.of("timing-defaults", "Defaults by month and cause", f"Mean number of defaults. {text}",
                   lambda w: _stack(w, count, rate_errors, "loans defaulting a month, mean")),
    )  # fmt: skip
    note = "Causes are stacked in the legend's order, the first at the bottom. Whiskers: 95 % about the month's total."
    return Panel("timing", "When and why", title, drawings, (_by_year(loss, count, money),), note=note)


def money_values(values: F64, money: Money) -> F64:
    """An array in the unit."""
    return values / money.dollars


def _sentence(cause: str) -> str:
    return {
        "parent": "a borrower's parent falls",
        "maturity": "a loan can't be repaid at maturity",
        "tenant": "a tenant has defaulted",
        "payment": "earnings don't cover debt service",
        "covenant": "a covenant is broken",
    }[cause]


def _used(parts: dict[str, F64]) -> list[str]:
    return [cause for cause in CAUSES if parts[cause].any()]


def _stack(width: int, parts: dict[str, F64], errors: F64, axis: str) -> Chart:
    used = _used(parts)
    chart = framed(width, 205, legend=[_WORDS[c] for c in used])
    months = len(errors)
    total = np.sum([parts[c] for c in used], axis=0) if used else np.zeros(months)
    x: Scale = chart.x_scale(0.5, months + 0.5)
    reach = np.where(np.isfinite(errors), total + 1.96 * errors, total)
    y = chart.y_scale(0, 1.05 * float(reach.max()) or 1.0)
    chart.y_axis(y, axis)
    for month in range(months):
        left, right, below = x(month + 0.6), x(month + 1.4), 0.0
        for cause in used:
            above = below + float(parts[cause][month])
            if above > below:
                chart.bar(left, y(below), right, y(above), f"c{CAUSES.index(cause)}")
            below = above
        if total[month] and (not chart.narrow or month % 3 == 0):
            low, high = total[month] - 1.96 * errors[month], reach[month]
            chart.whisker(x(month + 1.0), y(max(low, 0)), x(month + 1.0), y(high))
    chart.x_axis(x, "month of default")
    chart.legend([(_WORDS[c], f"c{CAUSES.index(c)}", "box") for c in used])
    return chart


def _by_year(loss: dict[str, F64], count: dict[str, F64], money: Money) -> Table:
    used = _used(count)
    rows = []
    for first in range(0, len(loss["parent"]), 12):
        cells = [number(money(float(loss[c][first : first + 12].sum())), None) for c in used]
        year = slice(first, first + 12)
        everything = sum(float(v[year].sum()) for v in loss.values())
        defaults = sum(float(v[year].sum()) for v in count.values())
        rows.append((f"year {first // 12 + 1}", *cells, number(money(everything), None), number(defaults, None)))
    return Table(
        f"Expected loss by year and cause, {money.unit}; mean defaults", ("year", *used, "all", "defaults"), rows
    )
