"""Panels of the book itself: the wall of expiries, what is judgement, and the manifest."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..reference.arithmetic import F64
from ..sensitivity import JUDGEMENT
from .charts import Chart, framed, percent
from .figures import Figures
from .panel import Drawing, Money, Panel, Table, dollars, number, share

_LIMITS = (
    "Only default losses count: no mark-to-market, no income, no funding cost, no tax.",
    "Interest rates are certain; borrowers and lenders do not waive, extend, restructure or refinance early.",
    "A tenant pays its contract or has defaulted; it does not renegotiate.",
    "Errors are those of the simulation. They say nothing of parameters that nobody has measured.",
)


def wall(figures: Figures) -> Panel:
    """Contracts that run off against debt that is still owed."""
    outlook, name = figures.outlook, "The wall of expiries"
    end, units = outlook.contract_end, outlook.plan.deployments.units
    months = np.arange(0, min(12 * outlook.n_years, 120) + 1)
    debt = np.array([outlook.owed(int(m)).sum() for m in months])
    if not len(units):
        return Panel("wall", name, "The book has no chips, so no contract runs off before its debt")
    let = np.array([units[end > m].sum() / units.sum() for m in months])
    off = _off_contract(figures, months)
    worst, half = int(off.argmax()), int((let <= let[0] / 2).argmax())
    title = (
        f"By month {half} half of the contracts have ended, with {dollars(float(debt[half]))} still owed; "
        f"at most {dollars(float(off[worst]))} rests on chips without one (month {worst})"
        if let[0] and let[half] <= let[0] / 2
        else f"{dollars(float(off[worst]))} of debt rests on chips without a contract in month {worst}"
    )
    text = (
        "Scheduled debt by month, split by whether the chips under it are on contract; below, the share of chips let."
    )
    money = Money.of(float(debt.max()) or 1)
    rows = [
        (str(m), number(money(float(debt[m])), None), number(money(float(off[m])), None), share(let[m], 0.0005))
        for m in months[::6]
    ]
    head = ("month", f"debt, {money.unit}", "on chips without a contract", "chips let")
    return Panel(
        "wall", name, title,
        (Drawing.of("wall", title, text, lambda w: _wall_chart(w, months, debt, off, let, money)),),
        (Table("Debt and contracts as signed", head, rows),),
        note="As signed at month 0: nothing is renewed, nobody defaults, debt is paid on schedule.",
    )  # fmt: skip


def _off_contract(figures: Figures, months: Any) -> F64:
    """Debt on chips whose contract has ended or never was, by month; a loan's debt is spread over its chips."""
    outlook, plan = figures.outlook, figures.outlook.plan
    deployments, n = plan.deployments, len(plan.loans.index)
    chips = np.bincount(deployments.loan, deployments.units, n)
    found = []
    for m in months:
        idle = np.where(outlook.contract_end <= m, deployments.units, 0)
        found.append(float(outlook.owed(int(m))[plan.loans.index] @ (np.bincount(deployments.loan, idle, n) / chips)))
    return np.array(found)


def _wall_chart(width: int, months: Any, debt: F64, off: F64, let: F64, money: Money) -> Chart:
    items = [
        ("debt on contract", "c0 solid", "box"),
        ("debt on chips without one", "c3 solid", "box"),
        ("chips let", "s2 dash", "line"),
    ]
    chart = framed(width, 235, legend=[i[0] for i in items])
    chart.plot = (chart.plot[0], chart.plot[1], chart.plot[2] - 30, chart.plot[3])
    x, y = chart.x_scale(0, float(months[-1])), chart.y_scale(0, 1.05 * money(float(debt.max())))
    chart.y_axis(y, f"debt owed, {money.unit}; right: share of chips let")
    at = [x(float(m)) for m in months]
    ground, lower, upper = (
        [(a, y(money(float(v)))) for a, v in zip(at, values, strict=True)]
        for values in (0 * debt, off, np.maximum(debt, off))
    )
    chart.band(ground, lower, "c3 solid")
    chart.band(lower, upper, "c0 solid")
    right = chart.y_scale(0, 1.05)
    chart.line([(a, right(float(v))) for a, v in zip(at, let, strict=True)], "s2 dash")
    for tick in (0, 0.5, 1):
        chart.text(chart.plot[2] + 5, right(tick) + 4, percent(tick), "tick")
    chart.x_axis(x, "month from the start date")
    chart.legend(items)  # type: ignore[arg-type]
    return chart


def limits(figures: Figures) -> Panel:
    """Which parameters are judgement, and what the model leaves out."""
    rows = []
    market = figures.run.portfolio.market.model_dump(exclude_none=True)
    for item in JUDGEMENT:
        values = _values(figures, market, item.parameter)
        if values:
            low, high = item.setting(item.low), item.setting(item.high)
            rows.append(
                (
                    item.parameter,
                    values,
                    f"{low} to {high}",
                    item.source.partition(":")[0].replace("docs/limits.md", "the documentation of limits"),
                )
            )
    title = f"{len(rows)} parameters of this book are judgement: no public record of a default on a GPU loan exists"
    if not rows:
        title = "What the model leaves out"
    table = Table(
        "Judgement in this book", ("parameter", "in this book", "what others might choose", "range from"), rows, 4
    )
    return Panel("limits", "Limits and assumptions", title, tables=(table,) if rows else (), lines=_LIMITS)


def _values(figures: Figures, market: dict[str, Any], parameter: str) -> str:
    """The parameter's values in the book, "" where it has none."""
    tape, _, column = parameter.partition(".")
    if tape == "loans":
        loans = figures.run.portfolio.loans
        found = loans[column].to_numpy(np.float64)[figures.run.plan.loans.index]
    else:
        found = np.array(_leaves(market, parameter.split(".")), dtype=np.float64)
    if not len(found):
        return ""
    low, high = f"{found.min():.4g}", f"{found.max():.4g}"
    return low if low == high else f"{low} to {high}"


def _leaves(node: Any, keys: list[str]) -> list[float]:
    """Numbers under a dotted key; * stands for every entry of a list."""
    if not keys:
        return [float(v) for v in node] if isinstance(node, list) else [float(node)]
    if keys[0] == "*":
        return [v for item in node for v in _leaves(item, keys[1:])] if isinstance(node, list) else []
    return _leaves(node[keys[0]], keys[1:]) if isinstance(node, dict) and keys[0] in node else []


def manifest(figures: Figures) -> Panel:
    """What ran, and the digests by which two people know that they have the same result."""
    title = f"{figures.run.n_paths:,} futures, seed {figures.run.seed}, digest {figures.run.digest[:16]}"
    table = Table("What ran, and on what", ("what", "value"), list(figures.facts), 2)
    return Panel("manifest", "Manifest", title, tables=(table,),
                 note="Same book, market, seed and number of paths: the same digest, on any machine.")  # fmt: skip
