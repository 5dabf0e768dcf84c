"""Panels of prices: a fan by generation with its history, and a typical future of the tail beside them."""

from __future__ import annotations

import numpy as np

from ..reference.arithmetic import F64
from ..replay import Replay
from .charts import WIDE, Chart, clean, framed
from .figures import LEVEL, Figures
from .panel import Drawing, Panel, Table, dollars

_EVERY = 12  # months between rows of the tables
_KINDS = ("contract", "spot")


def prices(figures: Figures) -> Panel:
    """A fan of contract prices for each generation, the middle of the spot, and what was observed."""
    if not figures.generations:
        return Panel("prices", "Prices", "The book has no chips: its market has no prices")
    main = _main(figures)
    start, middle, low, high = _ends(figures, main)
    title = (
        f"{clean(main, 30)} contracts start at ${start:.2f} an hour; after {figures.run.horizon_months} months half of "
        f"futures are below ${middle:.2f}, nine in ten between ${low:.2f} and ${high:.2f}"
    )
    drawings: list[Drawing] = []
    rows: list[tuple[str, ...]] = []
    for g, gpu in enumerate(figures.generations):
        text = (
            f"Price of an hour of {clean(gpu)}: contracts, the middle of the futures with bands that hold 50 and 90 % of "
            "them; spot, the middle, dashed; dots: observed."
        )
        head = f"{clean(gpu)}: dollars an hour"
        drawings.append(Drawing.of(f"price-{g}", head, text, lambda width, gpu=gpu: price_chart(figures, gpu, width)))  # type: ignore[misc]
        fan, spot = figures.prices("contract", gpu), figures.prices("spot", gpu)
        for month in range(_EVERY, figures.run.horizon_months + 1, _EVERY):
            points = [f"{fan[p][month - 1]:.2f}" for p in (5, 25, 50, 75, 95)]
            rows.append((clean(gpu), str(month), *points, f"{spot[50][month - 1]:.2f}"))
    paths = int(figures.timeline["price_paths"].iloc[0])
    note = f"From {paths:,} futures. Bands hold 90 % and 50 % of them."
    if figures.run.portfolio.prices.empty:
        note += " A prices.csv in the book (month, gpu, price_usd_per_hour) puts the history before month 0."
    columns = ("chip", "month", "5 %", "25 %", "middle", "75 %", "95 %", "spot, middle")
    return Panel(
        "prices", "Prices", title, tuple(drawings), (Table("Contract prices, $ an hour", columns, rows, 1),), note=note
    )


def _main(figures: Figures) -> str:
    """The generation that the book rests on."""
    main = figures.main_generation
    return figures.generations[0 if main is None else main]


def _ends(figures: Figures, gpu: str) -> tuple[float, float, float, float]:
    """Price at month 0 as the market gives it; middle, 5 and 95 % points at the horizon."""
    part = figures.run.portfolio.market.gpu
    assert part is not None  # it has generations
    start = next(g.price_usd_per_hour for g in part.generations if g.name == gpu)
    fan = figures.prices("contract", gpu)
    return float(start), float(fan[50][-1]), float(fan[5][-1]), float(fan[95][-1])


def _history(figures: Figures, gpu: str) -> tuple[F64, F64]:
    """Months and prices observed of a generation."""
    tape = figures.run.portfolio.prices
    mine = tape[tape["gpu"] == gpu].sort_values("month")
    return mine["month"].to_numpy(np.float64), mine["price_usd_per_hour"].to_numpy(np.float64)


def price_chart(figures: Figures, gpu: str, width: int = WIDE) -> Chart:
    """The fan of one generation."""
    fan, spot = figures.prices("contract", gpu), figures.prices("spot", gpu)[50]
    months = np.arange(1, len(spot) + 1, dtype=np.float64)
    then, seen = _history(figures, gpu)
    has = np.isfinite(fan[50])
    items = [("contract: middle, 50 %, 90 %", "s0", "line"), ("spot: middle", "s3 dash", "line")]
    items += [("observed", "s5", "line")] if len(seen) else []
    chart = framed(width, 215, legend=[i[0] for i in items])
    tops = [float(v[np.isfinite(v)].max()) for v in (fan[95], spot, seen) if np.isfinite(v).any()]
    x = chart.x_scale(min(0.0, float(then.min()) if len(then) else 0.0), months[-1])
    y = chart.y_scale(0, 1.05 * max(tops, default=1.0))
    chart.y_axis(y, f"{clean(gpu, 24)}, $ an hour")
    for low, high, css in ((5, 95, "c0"), (25, 75, "c0 inner")):
        chart.band(
            [(x(m), y(v)) for m, v in zip(months[has], fan[low][has], strict=True)],
            [(x(m), y(v)) for m, v in zip(months[has], fan[high][has], strict=True)],
            css,
        )
    chart.line([(x(m), y(v)) for m, v in zip(months, fan[50], strict=True)], "s0")
    chart.line([(x(m), y(v)) for m, v in zip(months, spot, strict=True)], "s3 dash")
    chart.line([(x(m), y(v)) for m, v in zip(then, seen, strict=True)], "s5")
    for m, v in zip(then, seen, strict=True):
        chart.dot(x(m), y(v), "c5")
    chart.x_axis(x, "month from the start date")
    chart.legend(items)  # type: ignore[arg-type]
    return chart


def typical_tail(figures: Figures) -> Panel:
    """The story of the future whose loss is nearest the expected shortfall, and its prices."""
    run, shortfall = figures.run, figures.run.figures.expected_shortfall[LEVEL]
    if not figures.losses[-1]:
        return Panel("tail", "A typical bad future", "No future loses anything, so there is no bad one to tell")
    path = int(np.abs(run.losses - shortfall).argmin())  # of equal ones the first
    replay = run.replay([path])
    loss = float(run.losses[path]) / 100
    story = tuple(replay.story(path))
    title = f"A typical future of the worst hundredth loses {dollars(loss)}: how it happens"
    note = f"Path {path}: of all paths its loss is nearest ES 99%. It is one future, not an average."
    if figures.main_generation is None:
        return Panel("tail", "A typical bad future", title, lines=story, note=note)
    gpu = figures.generations[figures.main_generation]
    text = f"Contract and spot price of {clean(gpu)} on this path beside the mean and the 90 % band of all futures."
    drawing = Drawing.of("tail", title, text, lambda width: _tail_chart(figures, replay, gpu, width))
    market, (mean, error) = replay.market, figures.mean_price("contract", gpu)
    rows = [
        (str(m), f"{market[f'contract_{gpu}'].iloc[m]:.2f}", f"{mean[m - 1]:.2f} ± {error[m - 1]:.2f}",
         f"{market[f'spot_{gpu}'].iloc[m]:.2f}", clean(market["regime"].iloc[m]))
        for m in range(_EVERY, run.horizon_months + 1, _EVERY)
    ]  # fmt: skip
    head = ("month", "contract, $ an hour", "mean of all", "spot", "regime")
    return Panel(
        "tail",
        "A typical bad future",
        title,
        (drawing,),
        (Table(f"{clean(gpu)} on the path", head, rows),),
        story,
        note,
    )


def _tail_chart(figures: Figures, replay: Replay, gpu: str, width: int) -> Chart:
    horizon = figures.run.horizon_months
    market = replay.market.iloc[: horizon + 1]
    fan, months = figures.prices("contract", gpu), np.arange(1, horizon + 1, dtype=np.float64)
    items = [("this path: contract", "s3", "line"), ("spot", "s1 dash", "line"), ("all: mean and 90 %", "s0", "line")]
    chart = framed(width, 225, legend=[i[0] for i in items])
    contract, spot = (market[f"{kind}_{gpu}"].to_numpy(np.float64) for kind in _KINDS)
    x = chart.x_scale(0, horizon)
    y = chart.y_scale(0, 1.05 * max(np.nanmax(fan[95]), np.nanmax(spot), np.nanmax(contract)))
    chart.y_axis(y, f"{clean(gpu, 24)}, $ an hour")
    has = np.isfinite(fan[5])
    chart.band(
        [(x(m), y(v)) for m, v in zip(months[has], fan[5][has], strict=True)],
        [(x(m), y(v)) for m, v in zip(months[has], fan[95][has], strict=True)],
        "c0",
    )
    mean, _ = figures.mean_price("contract", gpu)
    chart.line([(x(m), y(v)) for m, v in zip(months, mean, strict=True)], "s0")
    chart.line([(x(float(m)), y(v)) for m, v in enumerate(spot)], "s1 dash")
    chart.line([(x(float(m)), y(v)) for m, v in enumerate(contract)], "s3")
    chart.x_axis(x, "month from the start date")
    chart.legend(items)  # type: ignore[arg-type]
    return chart
