"""Panels of tranches: layers of the loss, and the notes of a securitised pool."""

from __future__ import annotations

from ..text import with_error
from .charts import Row, clean, percent, rows_chart
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
    spread = (float(at["probability_of_loss_high"]) - float(at["probability_of_loss_low"])) / 4
    likely = (
        f"in {share(float(at['probability_of_loss']), spread)} of futures"
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


def pool(figures: Figures) -> Panel:
    """What the tranches of a pool.toml lose, how long they live and what they yield."""
    name, found = "Waterfall", figures.pool
    if found is None:
        return Panel("pool", name, "No pool was given", missing="gpuloan-mc report RUN --pool pool.toml")
    frame = found.table
    money = Money.of(float(frame["size_usd"].max()))
    rows, cells = [], []
    for note in rows_of(frame.rename(columns={"yield": "yearly"})):
        hit, low, high = (
            float(x) for x in (note.probability_of_loss, note.probability_of_loss_low, note.probability_of_loss_high)
        )
        rows.append(Row(str(note.tranche), hit, low, high, share(hit, (high - low) / 4)))
        cells.append(
            (str(note.tranche), money.figure(float(note.size_usd), None),
             f"{with_error(100 * float(note.expected_loss_share), 100 * float(note.expected_loss_share_se))} %",
             f"{share(low)} to {share(high)}", "…" if note.life_years != note.life_years else f"{note.life_years:.2f}",
             f"{100 * note.yearly:.2f} ± {100 * note.yield_se:.2f} %", share(float(note.yield_low)))
        )  # fmt: skip
    senior, residual = frame.iloc[0], frame.iloc[-1]
    hits = int(senior["paths_with_loss"])
    loses = f"loses principal in {hits:,} of {found.n_paths:,} futures" if hits else f"is repaid in all {found.n_paths:,} futures"
    earned = share(float(residual["yield"]), float(residual["yield_se"]))
    title = f"{clean(str(senior['tranche']), 30)}, the senior tranche, {loses}; the residual yields {earned} on average"
    text = "Probability that a tranche is not repaid in full, with its 95 % interval."
    head = ("tranche", f"size, {money.unit}", "EL of size", "P(loss), 95 %", "life, years", "yield", "yield, 5 %")
    failing = float((found.failed > 0).mean())
    return Panel(
        "pool", name, title,
        (Drawing.of("pool", title, text, lambda w: rows_chart(w, rows, "probability of any loss", shown=percent)),),
        (Table("Tranches of the pool, the most senior first", head, cells, shown=True),),
        note=f"First {found.n_paths:,} futures; a coverage test fails in {share(failing)} of them. The loans as one static pool.",
    )  # fmt: skip
