"""Panels of other worlds: scenarios beside the base, and parameters at the ends of their ranges."""

from __future__ import annotations

from typing import Any

import pandas as pd

from .charts import Chart, Row, clean, rows_chart
from .figures import LEVEL, Figures
from .panel import Drawing, Money, Panel, Table, dollars

_SHOWN = 12


def scenarios(figures: Figures) -> Panel:
    """What each scenario adds to ES 99 %."""
    name, found = "Scenarios", figures.stress
    tried = None if found is None else found.figure("expected_shortfall", LEVEL)
    if found is None or tried is None or len(tried) < 2:
        command = "gpuloan-mc stress RUN/inputs --out S && gpuloan-mc report RUN --stress S"
        return Panel("scenarios", name, "No scenarios were given", missing=command)
    others = tried.iloc[1:].sort_values("difference", ascending=False)
    worst = others.iloc[0]
    more = float(worst["difference"])
    sure = more > 2 * float(worst["difference_se"])
    title = (
        f"The worst of {len(others)} scenarios, {clean(others.index[0], 40)}, adds {dollars(more)} to ES 99%"
        if sure
        else f"No scenario of {len(others)} raises ES 99% beyond the error of the difference"
    )
    money = Money.of(float(others["difference"].abs().max()) or 1)
    rows = [
        _row(str(i), float(r["difference"]), float(r["difference_se"]), money)
        for i, r in others.head(_SHOWN).iterrows()
    ]
    text = "Differences of ES 99% from the base with 95 % intervals; the same random numbers in both."
    draw = Drawing.of(
        "scenarios", title, text, lambda w: rows_chart(w, rows, f"ES 99% less the base's, {money.unit}", dots=True)
    )
    note = f"{found.n_paths:,} futures each, seed {found.seed}; base ES 99% {dollars(float(tried.iloc[0]['value']))}."
    return Panel("scenarios", name, title, (draw,), (_scenario_table(figures),), note=note)


def _row(name: str, value: float, error: float, money: Money) -> Row:
    sign = "+" if value > 0 else ""
    css = "c3" if value > 0 else "c0"
    half = 1.96 * error
    return Row(
        name, money(value), money(value - half), money(value + half), f"{sign}{money.with_error(value, error)}", css
    )


def _scenario_table(figures: Figures) -> Table:
    assert figures.stress is not None
    el = figures.stress.figure("expected_loss")
    var, es = (figures.stress.figure(f, LEVEL) for f in ("value_at_risk", "expected_shortfall"))
    money = Money.of(float(es["value"].max()) or 1)
    rows = []
    for name in el.index[: _SHOWN + 8]:
        cells: list[str] = []
        for frame in (el, var, es):
            row: Any = frame.loc[name]
            cells.append(money.with_error(float(row["value"]), float(row["standard_error"])))
        d: Any = es.loc[name]
        cells.append(money.with_error(float(d["difference"]), float(d["difference_se"])))
        rows.append((str(name), *cells))
    return Table(f"Figures by scenario, {money.unit}", ("scenario", "EL", "VaR 99%", "ES 99%", "ES less base"), rows)


def tornado(figures: Figures) -> Panel:
    """Parameters by what their ranges do to ES 99 %."""
    name, table = "Sensitivities", figures.sensitivities
    if table is None:
        command = "gpuloan-mc sensitivities RUN/inputs --out S && gpuloan-mc report RUN --stress S"
        return Panel("tornado", name, "Judgements were not varied", missing=command)
    rows = table[(table["figure"] == "expected_shortfall") & (table["level"] == LEVEL)]
    ends = {end: rows[rows["end"] == end].set_index("parameter") for end in ("low", "high")}
    span = pd.concat([ends["low"]["difference"].abs(), ends["high"]["difference"].abs()], axis=1).max(axis=1)
    order = list(span.sort_values(ascending=False, kind="stable").index)
    money = Money.of(float(span.max()) or 1)
    title = f"Of {len(order)} parameters {clean(order[0], 40)} moves ES 99% most: by up to {dollars(float(span.max()))}"
    text = "Change of ES 99% at the low and the high end of each parameter's range, with 95 % intervals."
    cells = []
    for parameter in order:
        row: list[str] = [str(parameter)]
        for end in ("low", "high"):
            found: Any = ends[end].loc[parameter]
            row += [str(found["setting"]), money.with_error(float(found["difference"]), float(found["difference_se"]))]
        cells.append(tuple(row))
    head = ("parameter", "low", "ES less base", "high", "ES less base")
    draw = Drawing.of("tornado", title, text, lambda w: _tornado_chart(w, order[:_SHOWN], ends, money))
    return Panel("tornado", name, title, (draw,), (Table(f"Differences of ES 99%, {money.unit}", head, cells),),
                 note="Upper bars: the low end of the range, lower bars: the high end; the same random numbers.")  # fmt: skip


def _tornado_chart(width: int, order: list[str], ends: dict[str, Any], money: Money) -> Chart:
    step, both = 36, ("low", "high")
    values = {
        (p, end): tuple(float(ends[end].loc[p][c]) for c in ("difference", "difference_se"))
        for p in order
        for end in both
    }
    reach = [money(v + s * 1.96 * (e if e == e else 0)) for v, e in values.values() for s in (-1, 1)]
    height = step * len(order) + 48
    chart = Chart(width, height, (8.0, 4.0, width - 14.0, float(height - 42)))
    x = chart.x_scale(min([0.0, *reach]), max([0.0, *reach]))
    chart.x_axis(x, f"ES 99% less the base's, {money.unit}", grid=True)
    for i, parameter in enumerate(order):
        y = 4.0 + i * step
        settings = " / ".join(str(ends[end].loc[parameter]["setting"]) for end in both)
        chart.text(12, y + 12, clean(parameter, 34 if chart.narrow else 60), "t")
        chart.text(width - 14, y + 12, clean(settings, 24), "label", "end")
        for k, end in enumerate(both):
            value, error = values[parameter, end]
            top = y + 16 + 8 * k
            chart.bar(x(0), top, x(money(value)), top + 7, "c4" if end == "low" else "c3")
            chart.whisker(x(money(value - 1.96 * error)), top + 3.5, x(money(value + 1.96 * error)), top + 3.5)
    chart.line([(x(0), 4), (x(0), height - 42.0)], "axis")
    return chart
