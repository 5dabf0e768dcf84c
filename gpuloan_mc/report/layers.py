"""Panel of tranches: how likely each layer of the loss is hit, and what it loses."""

from __future__ import annotations

from .charts import Row, percent, rows_chart
from .figures import Figures
from .panel import Drawing, Money, Panel, Table, rows_of, share

LAYERS = ("0:0.02", "0.02:0.05", "0.05:0.1", "0.1:0.2", "0.2:1")


def tranches(figures: Figures) -> Panel:
    """The usual layers of the commitment."""
    frame = figures.run.tranches(LAYERS).table
    rows, cells = [], []
    money = Money.of(float(frame["expected_shortfall_usd"].max()) or 1)
    for layer in rows_of(frame):
        name = f"{100 * float(layer.attachment_share):.3g}% to {100 * float(layer.detachment_share):.3g}%"
        hit, low, high = (
            float(x) for x in (layer.probability_of_loss, layer.probability_of_loss_low, layer.probability_of_loss_high)
        )
        gone = float(layer.probability_of_wipe_out)
        rows.append(Row(name, hit, low, high, share(hit, (high - low) / 4)))
        cells.append(
            (name, money.with_error(float(layer.expected_loss_usd), float(layer.expected_loss_se_usd)),
             share(float(layer.expected_loss_share), float(layer.expected_loss_share_se)),
             share(hit, (high - low) / 4), f"{share(low)} to {share(high)}", share(gone),
             money.with_error(float(layer.expected_shortfall_usd), float(layer.expected_shortfall_se_usd)))
        )  # fmt: skip
    at = frame[(frame["attachment_share"] - 0.1).abs() < 1e-6].iloc[0]
    hits = int(at["paths_with_loss"])
    likely = (
        f"in {share(float(at['probability_of_loss']), 0.0005)} of futures"
        if hits
        else f"in none of {figures.run.n_paths:,} futures"
    )
    title = f"A layer that begins at 10% of the book is reached {likely}"
    text = "Probability that each layer loses anything, with its 95 % interval."
    head = ("layer", f"EL, {money.unit}", "EL of layer", "P(loss)", "95 %", "P(all lost)", f"ES 99%, {money.unit}")
    return Panel(
        "tranches", "Tranches", title,
        (Drawing.of("tranches", title, text, lambda w: rows_chart(w, rows, "probability of any loss", shown=percent)),),
        (Table("Layers of the loss, by share of the commitment", head, cells, shown=True),),
        note="Other layers: gpuloan-mc tranches RUN --tranche 0.1:0.3",
    )  # fmt: skip
