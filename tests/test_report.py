"""The report: one harmless page whose figures are those of the run."""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import gpuloan_mc
from gpuloan_mc import SavedRun, simulate
from gpuloan_mc.errors import InputRejected, UsageError
from gpuloan_mc.report import layers
from gpuloan_mc.report.charts import Scale, ticks
from gpuloan_mc.report.figures import Figures
from gpuloan_mc.report.losses import exceedance_chart
from gpuloan_mc.report.page import PANELS, page, table_html
from gpuloan_mc.report.panel import Money, Table, dollars, number, share

KEYS = (
    "headline density exceedance timing parts tranches pool prices tail wall scenarios tornado convergence limits manifest"
).split()
VOID = {"meta", "br", "hr", "link", "img", "input"}
ELEMENTS = set(
    "html head meta title style body header h1 p nav ul li a main section h2 div table caption thead tr th tbody td span "
    "figure svg desc path rect circle text details summary code footer b".split()
)
ATTRIBUTES = set(
    "lang charset http-equiv content name aria-label aria-labelledby href id class role tabindex scope title viewbox xmlns d x "
    "y width height cx cy r text-anchor".split()
)


class Page(HTMLParser):
    """Elements, attributes and text of a page; open elements must be closed in order."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.attributes, self.titles, self.text, self._open = [], [], [], [], []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def saved(tmp_path_factory, busy_run):
    folder = tmp_path_factory.mktemp("report") / "run"
    simulate(busy_run.portfolio, busy_run.portfolio.market, n_paths=400, seed=5, out=folder, host=False)
    return folder


@pytest.fixture(scope="module")
def worlds(tmp_path_factory, busy_run):
    """Folders of a stress and of sensitivities of the busy book."""
    folder, book = tmp_path_factory.mktemp("worlds"), busy_run.portfolio
    gpuloan_mc.stress(book, book.market, ["no_feedback", "rival_chips"], n_paths=100).write(folder / "stress")
    ranges = [gpuloan_mc.sensitivity.Range("gpu.overhang.impact", 0.3, 2.5)]
    gpuloan_mc.sensitivities(book, book.market, ranges, n_paths=100).write(folder / "bumps")
    return folder


@pytest.fixture(scope="module")
def whole(saved, worlds):
    """A page in which no panel is left out."""
    return page(Figures.of(SavedRun.read(saved), [worlds / "stress", worlds / "bumps"], "neocloud-2024"))


def test_every_panel_is_there_and_drawn(whole):
    assert re.findall(r'<section id="([a-z]+)"', whole) == KEYS
    assert len(PANELS) == len(KEYS)
    assert "Made by:" not in whole
    drawn = set(re.findall(r'<title id="([a-z]+)', whole))
    assert drawn == (set(KEYS) - {"headline", "limits", "manifest", "prices"}) | {"price"}


def test_the_waterfall_is_that_of_the_run(saved):
    run = SavedRun.read(saved)
    found, panel = run.waterfall("neocloud-2024").table, layers.pool(Figures.of(run, (), "neocloud-2024"))
    (table,) = panel.tables
    assert [row[0] for row in table.rows] == list(found["tranche"])
    for row, (_, note) in zip(table.rows, found.iterrows(), strict=True):
        assert float(row[5].split(" ± ")[0]) == pytest.approx(100 * note["yield"], rel=0.02)
        assert row[6] == share(note["yield_low"])
        assert row[3] == f"{share(note['probability_of_loss_low'])} to {share(note['probability_of_loss_high'])}"
    senior = int(found["paths_with_loss"].iloc[0])
    assert (f"loses principal in {senior}" if senior else "is repaid in all 400 futures") in panel.title


def test_the_page_stands_alone_and_is_the_same_twice(whole, saved, worlds):
    again = page(Figures.of(SavedRun.read(saved), [worlds / "stress", worlds / "bumps"], "neocloud-2024"))
    assert again == whole
    assert len(whole.encode()) < 1.5e6
    found = Page(whole)
    assert set(found.elements) <= ELEMENTS
    assert {name for name, _ in found.attributes} <= ATTRIBUTES
    assert all(value.startswith("#") for name, value in found.attributes if name == "href")
    style = re.search(r"<style>(.*?)</style>", whole, re.S)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert (
        f"default-src &#39;none&#39;; style-src &#39;sha256-{digest}" in whole
        or f"style-src 'sha256-{digest}'" in whole
    )
    assert "url(" not in style
    assert "@import" not in style


def test_charts_have_titles_descriptions_and_tables_behind_them(whole):
    ids = re.findall(r' id="([^"]+)"', whole)
    assert len(ids) == len(set(ids))
    for svg in re.findall(r"<svg.*?</svg>", whole, re.S):
        (labels,) = re.findall(r'aria-labelledby="([^"]+)"', svg)
        assert all(f'id="{name}"' in svg for name in labels.split())
        assert not re.search(r"\b(nan|inf)\b", svg, re.I)
        assert len(re.search(r"<desc[^>]*>(.*?)</desc>", svg, re.S)[1]) > 30
    for section in re.findall(r"<section.*?</section>", whole, re.S):
        if "<svg" in section:
            assert "<table" in section


def test_the_figures_are_those_of_the_files(whole, saved):
    summary = json.loads((saved / "summary.json").read_text())
    money = Money.of(summary["expected_shortfall"]["0.999"])
    for key, error in (("expected_loss", "expected_loss_se"), ("loss_std", "loss_std_se")):
        assert f'<td class="n">{money.figure(summary[key], summary[error])}</td>' in whole
        assert f'<td class="n">± {money.error(summary[error])}</td>' in whole
    for level in ("0.95", "0.99", "0.999"):
        value, error = summary["expected_shortfall"][level], summary["expected_shortfall_se"][level]
        cells = "".join(
            f'<td class="n">{text}</td>' for text in (money.figure(value, error), f"± {money.error(error)}")
        )
        row = f"ES {100 * float(level):g}%</th>{cells}"
        assert row in whole
    manifest = json.loads((saved / "manifest.json").read_text())
    for fact in (manifest["digest"], manifest["plan_digest"], *(f["sha256"] for f in manifest["files"].values())):
        assert fact in whole


def test_a_result_makes_the_same_charts_as_its_folder(saved, tmp_path, busy_run):
    result = simulate(busy_run.portfolio, busy_run.portfolio.market, n_paths=400, seed=5)
    charts = [re.findall(r"<svg.*?</svg>", page(Figures.of(run)), re.S) for run in (result, SavedRun.read(saved))]
    assert charts[0] == charts[1]
    assert len(charts[0]) > 20
    path = result.report(tmp_path / "r.html")
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_a_panel_without_data_names_the_command(saved):
    text = page(Figures.of(SavedRun.read(saved)))
    assert text.count("Made by:") == 3
    assert "gpuloan-mc stress RUN/inputs" in text
    assert "gpuloan-mc sensitivities RUN/inputs" in text
    assert "gpuloan-mc report RUN --pool pool.toml" in text
    assert str(saved) not in text


def test_notebooks_show_the_headline_and_charts(busy_run):
    text = busy_run._repr_html_()
    assert "VaR 99%" in text
    assert "<svg" in text
    for plot in (
        busy_run.plot.loss(),
        busy_run.plot.exceedance(),
        busy_run.plot.prices(),
        busy_run.plot.prices("B200"),
    ):
        assert plot.svg.startswith("<svg")
        assert "<style>" in plot.svg
        assert plot.svg in plot._repr_html_()
        Page(plot.svg)
    with pytest.raises(UsageError, match="no generation V100"):
        busy_run.plot.prices("V100")


# --- books at the edges -----------------------------------------------------------------------------------------------


def test_a_book_without_losses(market, pool):
    book = pool(market(), 3, "safe")
    text = page(Figures.of(simulate(book, book.market, n_paths=50)))
    assert "No loss in any of 50 futures" in text
    assert re.findall(r'<section id="([a-z]+)"', text) == KEYS
    result = simulate(book, book.market, n_paths=50)
    assert "No loss" in result._repr_html_()
    with pytest.raises(UsageError, match="no path of this run loses"):
        result.plot.loss()


def test_a_book_of_one_loan_and_few_paths(market, pool):
    world = market(hazard_classes=[{"name": "pool", "hazard": 0.5}])
    book = pool(world, 1)
    for n_paths in (2, 3, 40):
        text = page(Figures.of(simulate(book, world, n_paths=n_paths, seed=3)))
        Page(text)
    assert "L0000" in text
    with pytest.raises(UsageError, match="at least 2 paths"):
        Figures.of(simulate(book, world, n_paths=1))
    assert "<p>" in simulate(book, world, n_paths=1)._repr_html_()


def test_one_scenario_is_enough(busy_run, tmp_path):
    book = busy_run.portfolio
    gpuloan_mc.stress(book, book.market, ["rival_chips"], n_paths=50).write(tmp_path / "s")
    text = page(Figures.of(busy_run, [tmp_path / "s"]))
    assert "rival_chips" in text


@pytest.mark.slow
def test_a_hundred_thousand_loans(tmp_path):
    import time

    from gpuloan_mc.example import write_example

    write_example(tmp_path / "book", n_loans=100_000)
    book = gpuloan_mc.Portfolio.read(tmp_path / "book")
    result = simulate(book, book.market, n_paths=200, out=tmp_path / "run")
    assert result.n_loans == 100_000
    first = time.process_time()
    path = SavedRun.read(tmp_path / "run").report(tmp_path / "r.html")
    seconds = time.process_time() - first
    assert path.stat().st_size < 1.5e6
    print(f"report of 100,000 loans in {seconds:.1f} s of a core")
    assert seconds < 60  # 15 on a slow machine; what grows with the square of the loans would take hours


# --- bad input --------------------------------------------------------------------------------------------------------


def test_stresses_that_do_not_fit(saved, tmp_path, market, pool):
    run = SavedRun.read(saved)
    with pytest.raises(UsageError, match="is no folder"):
        Figures.of(run, [tmp_path / "none"])
    world = market(hazard_classes=[{"name": "pool", "hazard": 0.5}])
    gpuloan_mc.stress(pool(world, 2), world, [gpuloan_mc.Scenario.of("x")], n_paths=20).write(tmp_path / "other")
    with pytest.raises(UsageError, match="book"):
        Figures.of(run, [tmp_path / "other"])


def test_sensitivities_that_are_damaged(saved, worlds, tmp_path):
    shutil.copytree(worlds / "bumps", tmp_path / "bumps")
    (tmp_path / "bumps" / "sensitivities.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(UsageError, match=r"sensitivities.parquet is damaged"):
        Figures.of(SavedRun.read(saved), [tmp_path / "bumps"])


def test_pages_go_where_they_can(busy_run, tmp_path):
    with pytest.raises(UsageError, match="is a folder; name a file"):
        busy_run.report(tmp_path)
    with pytest.raises(UsageError, match="is no folder; make it"):
        busy_run.report(tmp_path / "none" / "r.html")


def command(*arguments):
    environment = os.environ | {"PYTHONPATH": str(Path(gpuloan_mc.__file__).parent.parent)}
    words = [sys.executable, "-P", "-W", "error", "-m", "gpuloan_mc.cli", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, env=environment)


def test_the_command(saved, tmp_path):
    done = command("report", saved, "-o", tmp_path / "r.html")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "r.html").read_text(encoding="utf-8") == page(Figures.of(SavedRun.read(saved)))
    shutil.copytree(saved, tmp_path / "copy")
    (tmp_path / "copy" / "timeline.parquet").write_bytes(b"")
    done = command("report", tmp_path / "copy", "-o", tmp_path / "r2.html")
    assert done.returncode == 2
    assert "timeline.parquet was changed or damaged" in done.stderr
    assert not (tmp_path / "r2.html").exists()


def test_names_are_shown_and_never_obeyed(hostile_names, hostile_book, monkeypatch):
    import gpuloan_mc.report.parts as parts

    assert len(set(hostile_names)) >= 60
    monkeypatch.setattr(parts, "MAX_ROWS", 100)
    monkeypatch.setattr(parts, "_SHOWN", 100)
    texts = ""
    for first in (0, 20, 40, 55):
        chosen = [*hostile_names[first:], *hostile_names[:first]]
        world, portfolio = hostile_book(chosen)
        text = page(Figures.of(simulate(portfolio, world, n_paths=60)))
        found = Page(text)
        assert set(found.elements) <= ELEMENTS
        assert {name for name, _ in found.attributes} <= ATTRIBUTES
        assert all(value.startswith("#") for name, value in found.attributes if name == "href")
        assert text.count("<style>") == 1
        texts += " ".join(found.text)
    assert sum(name[:30] in texts for name in hostile_names) >= 60


@pytest.mark.parametrize(
    "text",
    ["\x1b[31mred", "a\u202eb", "\u2066x", "\x00", "zero\u200bwidth", "\ud800", "tab\tbed", "\x7f", "\ufeff", "\x9b1m"],
)
def test_control_and_direction_characters_become_escapes(text):
    shown = table_html(Table("t", ("a",), [(text,)]))
    assert shown.isascii() or text not in shown
    assert all(c.isprintable() or c == "\n" for c in shown)


def test_long_names_are_cut_with_a_title():
    shown = table_html(Table("t", ("a",), [("<" * 10_000,)]))
    assert len(shown) < 3000
    assert 'title="&lt;&lt;' in shown


# --- prices.csv -------------------------------------------------------------------------------------------------------


def test_observed_prices_are_drawn_and_change_no_loss(busy_run):
    rows = pd.DataFrame({"month": [-2, -1, 0], "gpu": "H100", "price_usd_per_hour": [2.5, 2.3, 2.2]})
    book = busy_run.portfolio.replace(prices=rows)
    result = simulate(book, book.market, n_paths=400, seed=5)
    assert result.digest == busy_run.digest
    text = page(Figures.of(result))
    assert text.count(">observed<") == 2  # on one generation's charts, wide and narrow
    assert ">observed<" not in page(Figures.of(busy_run))


def test_observed_prices_stay_with_the_run(busy_run, tmp_path):
    rows = pd.DataFrame({"month": [0, -1], "gpu": "H100", "price_usd_per_hour": [2.2, 2.3]})
    book = busy_run.portfolio.replace(prices=rows)
    simulate(book, book.market, n_paths=10, out=tmp_path / "run")
    assert SavedRun.read(tmp_path / "run").portfolio.prices["month"].tolist() == [-1, 0]


@pytest.mark.parametrize(
    "change, rule",
    [
        ({"gpu": "H999"}, "unknown-gpu"),
        ({"price_usd_per_hour": 0.0}, "out-of-range"),
        ({"price_usd_per_hour": None}, "blank"),
        ({"month": 601}, "out-of-range"),
        ({"month": 0.5}, "not-whole"),
        ({"month": -1}, "duplicate-price"),
    ],
)
def test_observed_prices_are_judged(busy_run, change, rule):
    rows = [{"month": -1, "gpu": "H100", "price_usd_per_hour": 2.0}]
    rows.append({"month": 0, "gpu": "H100", "price_usd_per_hour": 2.0} | change)
    with pytest.raises(InputRejected) as refused:
        busy_run.portfolio.replace(prices=pd.DataFrame(rows))
    assert [p.rule for p in refused.value.problems] == [rule]


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_figures_have_the_digits_of_their_errors():
    assert dollars(1.3461e9) == "$1.35bn"
    assert dollars(1.3461e9, 2e8) == "$1.35bn"
    assert dollars(1.3461e9, 2e9) == "$1.3bn"
    assert dollars(152_000_000) == "$152m"
    assert dollars(0) == "$0"
    assert share(0.10296) == "10.3%"
    assert share(0.10296, 0.02) == "10.3%"
    assert share(0.5313, 0.005) == "53.1%"
    assert number(153.31, 2.0) == "153.3"
    assert Money.of(2e9).figure(1.7276e9, 3.7e7) == "1.728"


def test_ticks_are_round_and_inside():
    for low, high in ((0, 1), (0, 0.07), (-350, 1200), (0, 3e-5)):
        found = ticks(low, high, 5)
        assert 2 <= len(found) <= 8
        assert all(low - 1e-9 <= t <= high * (1 + 1e-9) for t in found)
    assert Scale(1e-4, 1, 0, 100, log=True).ticks(5) == pytest.approx([1e-4, 1e-3, 1e-2, 0.1, 1])
    assert Scale(0, 10, 100, 0)(5) == 50
    assert np.isclose(Scale(1, 100, 0, 1, log=True)(10), 0.5)


@pytest.mark.parametrize("n", [1000, 200_000, 3_000_000])
def test_rare_probabilities_have_room_beside_the_axis(n):
    chart = exceedance_chart(SimpleNamespace(losses=np.arange(n, dtype=np.float64)), 720)
    labels = re.findall(r">([\d.]+%)<", chart.svg("t", "title", "text"))
    assert len(labels) > 3
    assert chart.plot[0] - 6 >= 6.6 * max(map(len, labels))
