"""Panel of convergence: how the figures settle as futures are added."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from .charts import Chart, framed
from .figures import LEVEL, Figures
from .panel import Drawing, Money, Panel, Table, bounds, rows_of, share

_NAMES = {"expected_loss": "EL", "value_at_risk": "VaR 99%", "expected_shortfall": "ES 99%"}
_TARGET = 0.01
_LEAST = 512  # futures from which the chart begins: before, bands fill it


def convergence(figures: Figures) -> Panel:
    """EL, VaR and ES against the number of futures."""
    if not figures.losses[-1]:
        return Panel("convergence", "How sure", "Without any loss there is no figure to be unsure of")
    frame = figures.run.convergence([LEVEL], target=_TARGET)
    last = frame[frame["paths"] == figures.run.n_paths].set_index("measure")
    es: Any = last.loc["expected_shortfall"]
    relative = float(es["standard_error_usd"]) / float(es["value_usd"])
    needed = float(es["paths_needed"])
    title = f"ES 99% is known to {share(relative, relative)}"
    if math.isfinite(needed):
        title += (
            f"; for 1% run {math.ceil(needed / 1000) * 1000:,} futures" if relative > _TARGET else ": enough for 1%"
        )
    money = Money.of(float(last["value_usd"].max()))
    rows = [
        (_NAMES[str(r.measure)], f"{r.paths:,}", money.with_error(float(r.value_usd), float(r.standard_error_usd)),
         bounds(float(r.low_usd), float(r.high_usd), lambda v, e=float(r.standard_error_usd): money.figure(v, e)),  # type: ignore[misc]
         f"{r.tail_paths:,}{' (few)' if r.few else ''}")
        for r in rows_of(frame)
    ]  # fmt: skip
    text = "Expected loss, VaR and ES of the first 2^k futures with 95 % bands, on a logarithmic axis of futures."
    head = ("figure", "futures", money.unit, "95 %", "futures behind it")
    return Panel(
        "convergence", "How sure", title,
        (Drawing.of("convergence", title, text, lambda w: _chart(w, frame, money)),),
        (Table("Figures by number of futures", head, rows),),
        note="Bands are 95 % intervals. Four times as many futures halve them.",
    )  # fmt: skip


def _chart(width: int, frame: pd.DataFrame, money: Money) -> Chart:
    n = int(frame["paths"].max())
    rows = frame[frame["paths"] >= min(_LEAST, n // 2)]
    items = [("EL", "s0", "line"), ("VaR 99%", "s1 dash", "line"), ("ES 99%", "s3", "line")]
    chart = framed(width, 235, legend=[i[0] for i in items])
    tops = [v for v in (*rows["high_usd"], *rows["value_usd"]) if math.isfinite(v)]
    x = chart.x_scale(float(rows["paths"].min()), float(n), log=True)
    y = chart.y_scale(0, 1.05 * money(max(tops)))
    chart.y_axis(y, money.unit)
    for measure, css in (("expected_loss", "s0"), ("value_at_risk", "s1 dash"), ("expected_shortfall", "s3")):
        mine = rows[rows["measure"] == measure]
        known = mine[mine["low_usd"].notna() & mine["high_usd"].notna()]
        lines = [
            [(x(float(p)), y(money(float(v)))) for p, v in zip(known["paths"], known[c], strict=True)]
            for c in ("low_usd", "high_usd")
        ]
        chart.band(lines[0], lines[1], css.replace("s", "c", 1).split()[0])
        chart.line(
            [(x(float(p)), y(money(float(v)))) for p, v in zip(mine["paths"], mine["value_usd"], strict=True)], css
        )
    chart.x_axis(x, "futures (log scale)")
    chart.legend(items)  # type: ignore[arg-type]
    return chart
