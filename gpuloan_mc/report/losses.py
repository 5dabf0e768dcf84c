"""Panels of the loss distribution: the headline, its density, and how often a loss is exceeded."""

from __future__ import annotations

import math

import numpy as np

from .. import risk
from ..reference.arithmetic import F64
from ..risk import FEW_PATHS
from .charts import WIDE, Chart, framed, percent, plain
from .figures import CENTS, LEVEL, Figures
from .panel import Drawing, Money, Panel, Table, bounds, dollars, level_name, number, share

_BINS = {True: 22, False: 44}  # on a phone, elsewhere
_POINTS = 90
_LEVELS = (0.95, 0.99, 0.999)


def headline(figures: Figures) -> Panel:
    """Expected loss, VaR and ES with their errors."""
    run, found = figures.run, figures.run.figures
    el, el_se = found.expected_loss / CENTS, found.expected_loss_se / CENTS
    lent = run.commitment_usd
    if not figures.losses[-1]:
        title = f"No loss in any of {run.n_paths:,} futures"
    else:
        var, es = found.value_at_risk[LEVEL] / CENTS, found.expected_shortfall[LEVEL] / CENTS
        error = found.expected_shortfall_se[LEVEL] / CENTS
        title = (
            f"Expect to lose {share(el / lent, el_se / lent)} of the book; the worst future in a hundred costs "
            f"{share(var / lent)} or more, {share(es / lent, error / lent)} on average"
        )
    thin = [level for level in _LEVELS if found.tail_paths[level] < FEW_PATHS]
    note = (
        f"Few paths: the tail at {', '.join(map(level_name, thin))} rests on fewer than {FEW_PATHS} futures; do not use it, "
        "run with more --paths. "
        if thin and figures.losses[-1]
        else ""
    )
    return Panel(
        "headline", "Headline", title, tables=(_headline_table(figures),),
        note=f"{note}± is one standard error; intervals hold the model's figure with 95 % confidence. They say how well the "
        "figure is known, not whether the model is right.",
    )  # fmt: skip


def _headline_table(figures: Figures) -> Table:
    run, found = figures.run, figures.run.figures
    lent, money = run.commitment_usd, Money.of(max(found.expected_shortfall[0.999] / CENTS, 1))
    el, el_se = found.expected_loss / CENTS, found.expected_loss_se / CENTS
    sd, sd_se = found.loss_std / CENTS, found.loss_std_se / CENTS
    low, high = found.probability_of_loss_ci
    count = risk.Moments.of(run.defaults)  # type: ignore[attr-defined]
    rows = [
        ("expected loss", money.figure(el, el_se), f"± {money.error(el_se)}", share(el / lent, el_se / lent)),
        ("standard deviation", money.figure(sd, sd_se), f"± {money.error(sd_se)}", share(sd / lent, sd_se / lent)),
    ]
    for level in _LEVELS:
        value, ci = found.value_at_risk[level] / CENTS, found.value_at_risk_ci[level]
        ends = [None if x is None else x / CENTS for x in ci]
        width = math.nan if None in ends else (ends[1] - ends[0]) / 3.92  # type: ignore[operator]
        around = bounds(ends[0], ends[1], lambda x, w=width: money.figure(x, w))  # type: ignore[misc]
        rows.append((f"VaR {level_name(level)}", money.figure(value, width), around, share(value / lent, width / lent)))
    for level in _LEVELS:
        value, error = found.expected_shortfall[level] / CENTS, found.expected_shortfall_se[level] / CENTS
        rows.append(
            (
                f"ES {level_name(level)}",
                money.figure(value, error),
                f"± {money.error(error)}",
                share(value / lent, error / lent),
            )
        )
    rate, rate_se = count.mean / run.n_loans, count.standard_error / run.n_loans
    rows += [
        ("any loss, of futures", share(found.probability_of_loss), f"{share(low)} to {share(high)}", ""),
        ("loans in default", number(count.mean, count.standard_error), f"± {number(count.standard_error, count.standard_error)}",
         f"{share(rate, rate_se)} of loans"),
    ]  # fmt: skip
    return Table("Losses over the horizon", ("figure", money.unit, "error or 95 %", "of book"), rows, shown=True)


def density(figures: Figures) -> Panel:
    """How the losses lie, with EL, VaR and ES."""
    losses, found = figures.losses, figures.run.figures
    if not losses[-1]:
        return Panel("density", "Losses", "Every future repays in full: there is no distribution of losses to draw")
    el = found.expected_loss / CENTS
    below = float((losses <= el).mean())
    title = f"{share(below, 0.005)} of futures lose no more than the average {dollars(el)}; the rest pull it up"
    if below < 0.5:
        title = f"Losses centre on {dollars(el)}: {share(below, 0.005)} of futures lie at or below it"
    text = (
        f"Histogram of {len(losses):,} losses with lines at the expected loss, VaR 99% and ES 99%; whiskers are 95 % "
        "intervals of the bars."
    )
    edges, counts, beyond = _bins(losses, _BINS[False])
    money, n = Money.of(losses[-1]), len(losses)
    rows = []
    for i, count in enumerate(counts):
        low, high = risk.wilson_interval(int(count), n)
        rows.append(
            (f"{number(money(edges[i]), None)} to {number(money(edges[i + 1]), None)}", f"{count:,}", share(count / n),
             f"{share(low)} to {share(high)}")
        )  # fmt: skip
    note = f"{beyond:,} larger losses, up to {dollars(losses[-1])}, lie to the right of the chart." if beyond else ""
    none = int((losses == 0).sum())
    note = f"{share(none / n)} of futures lose nothing: they are in the first bar. {note}" if none else note
    return Panel(
        "density", "Losses", title,
        (Drawing.of("density", title, text, lambda width: density_chart(figures, width)),),
        (Table("Losses by size", (f"loss, {money.unit}", "futures", "share", "95 %"), rows),), note=note,
    )  # fmt: skip


def _bins(losses: F64, n_bins: int) -> tuple[F64, np.ndarray[tuple[int], np.dtype[np.int64]], int]:
    """Edges and counts up to a little beyond the 99.9 % quantile, and the losses beyond."""
    top = max(float(np.quantile(losses, 0.999)) * 1.02, float(losses[-1]) * 1e-3)
    edges = np.linspace(0, top, n_bins + 1)
    counts = np.histogram(losses, edges)[0].astype(np.int64)
    return edges, counts, len(losses) - int(counts.sum())


def density_chart(figures: Figures, width: int = WIDE) -> Chart:
    """The histogram."""
    found, n, money = figures.run.figures, len(figures.losses), Money.of(figures.losses[-1])
    marks = [
        ("EL", found.expected_loss / CENTS, ""),
        ("VaR 99%", found.value_at_risk[LEVEL] / CENTS, "dash"),
        ("ES 99%", found.expected_shortfall[LEVEL] / CENTS, "dots"),
    ]
    chart = framed(width, 250)
    edges, counts, _ = _bins(figures.losses, _BINS[chart.narrow])
    intervals = [risk.wilson_interval(int(c), n) for c in counts]
    x = chart.x_scale(0, money(max(edges[-1], marks[2][1] * 1.05)))
    y = chart.y_scale(0, 1.18 * max(high for _, high in intervals))
    chart.y_axis(y, "share of futures", percent)
    for i, count in enumerate(counts):
        left, right = x(money(edges[i])), x(money(edges[i + 1]))
        tail = edges[i] >= marks[1][1]
        chart.bar(left, y(0), right, y(count / n), "c3" if tail else "c0")
        low, high = intervals[i]
        chart.whisker((left + right) / 2, y(low), (left + right) / 2, y(high))
    chart.x_axis(x, f"loss over the horizon, {money.unit}")
    for place, (name, value, css) in enumerate(reversed(marks)):  # the tallest line rightmost: no label crosses another
        at, top, label = x(money(value)), chart.plot[1] + 2 + 17 * place, f"{name} {dollars(value)}"
        chart.line([(at, chart.plot[3]), (at, top)], f"mark {css}")
        if at - chart.plot[0] > 8 * len(label):
            chart.text(at - 5, top + 10, label, "strong", "end")
        else:
            chart.text(at + 5, top + 10, label, "strong")
    return chart


def exceedance(figures: Figures) -> Panel:
    """How often a loss is exceeded."""
    losses, found, n = figures.losses, figures.run.figures, figures.run.n_paths
    if not losses[-1]:
        return Panel("exceedance", "Exceedance", "No future loses anything: no loss is ever exceeded")
    var, low, high = (
        None if x is None else x / CENTS for x in (found.value_at_risk[LEVEL], *found.value_at_risk_ci[LEVEL])
    )
    title = f"One future in 100 costs {dollars(var or 0)} or more"
    if n >= 100_000:
        title += f", one in 1,000 {dollars(found.value_at_risk[0.999] / CENTS)}"
    text = "Probability of losing more than an amount, on a logarithmic scale, with its 95 % band. The curve falls to the right."
    points = _exceeded(losses, 24)
    money = Money.of(losses[-1])
    rows = [
        (number(money(x), None), share(p, (hi - lo) / 4), f"{share(lo)} to {share(hi)}", f"{1 / p:,.3g}" if p else "…")
        for x, p, lo, hi in points
    ]
    note = f"VaR 99% lies between {bounds(low, high, dollars)} with 95 % confidence." if low and high else ""
    return Panel(
        "exceedance", "Exceedance", title,
        (Drawing.of("exceedance", title, text, lambda width: exceedance_chart(figures, width)),),
        (Table("Probability of a larger loss", (f"loss, {money.unit}", "probability", "95 %", "one future in"), rows),),
        note=note,
    )  # fmt: skip


def _exceeded(losses: F64, n_points: int) -> list[tuple[float, float, float, float]]:
    """(loss, share of futures that lose more, its 95 % interval) from 0 up, evenly spaced in loss."""
    n, found = len(losses), []
    for value in np.linspace(0, losses[-1], n_points):
        count = n - int(np.searchsorted(losses, value, side="right"))
        if count:
            found.append((float(value), count / n, *risk.wilson_interval(count, n)))
    return found


def exceedance_chart(figures: Figures, width: int = WIDE) -> Chart:
    """The curve, its band, and the levels that a committee asks for."""
    losses, n = figures.losses, len(figures.losses)
    money, points = Money.of(losses[-1]), _exceeded(losses, _POINTS)
    rarest = 10.0 ** math.floor(math.log10(1 / n))
    chart = framed(width, 270, left=max(52.0, 12 + 7.0 * len(percent(rarest))))  # room for 0.0000001%
    x = chart.x_scale(0, money(losses[-1]) or 1)
    y = chart.y_scale(rarest, 1, log=True)
    chart.y_axis(y, "probability of losing more (log scale)", percent)
    at = [(x(money(v)), p, low, high) for v, p, low, high in points]
    chart.band([(a, y(low)) for a, _, low, _ in at], [(a, y(high)) for a, _, _, high in at], "c0")
    chart.line([(a, y(p)) for a, p, _, _ in at], "s0")
    for level in (0.9, 0.99, 0.999):
        value, beyond = float(np.quantile(losses, level, method="inverted_cdf")), n * (1 - level)
        if beyond >= FEW_PATHS and value:
            spot = x(money(value)), y(1 - level)
            chart.dot(*spot, "c3")
            text = f"1 in {1 / (1 - level):,.0f}: {dollars(value)}"
            anchor = "end" if spot[0] > width - 130 else "start"
            chart.text(spot[0] + (-9 if anchor == "end" else 9), spot[1] - 5, text, "strong", anchor)  # type: ignore[arg-type]
    chart.x_axis(x, f"loss over the horizon, {money.unit}", plain)
    return chart
