"""Names with formulas, HTML, terminal escapes and turned directions: whole in Parquet, harmless in text and on a terminal."""

import csv
import io
import unicodedata
from dataclasses import replace

import pandas as pd
import pytest

from gpuloan_mc import compare, run_comparison
from gpuloan_mc.answers import table_bytes
from gpuloan_mc.cli_exports import _print_comparison, _tape_items
from gpuloan_mc.input_changes import KeyChange, TapeChange
from gpuloan_mc.portfolio import Portfolio
from gpuloan_mc.simulation import simulate
from gpuloan_mc.terminal import show

PAYLOADS = [
    *(f"{sign}{rest}" for sign in "=+-@" for rest in ("1+1", "HYPERLINK(\"http://x\")", "cmd|' /C calc'!A0", "SUM(A1:A9)")),
    *("＝1+1", "＋1", "－1", "＠SUM(A1)", " =1+1", "\t=1+1", "\r=1+1", "\n=1+1", "a;=1+1", "a; @SUM(A1)", "\u00a0=1", "\u2003=1"),
    *("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "\"><svg onload=alert(1)>", "&lt;b&gt;", "javascript:1"),
    *("\x1b[2J", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x1b]8;;http://x\x1b\\link", "\x9b2J", "\x07", "\x08\x08", "a\rb"),
    *("\u202egnp.exe", "\u202dabc", "\u2066abc\u2069", "\u200f", "\u200e", "\u061c", "a\u200bb", "a\u2060b", "\ufeff", "\u200d"),
    *("a,b", 'a"b', "a\nb", "a\r\nb", "'", "''", '"', ",", ";", "|", "[red]bold[/red]", ":smile:", "%s%n", "{0}", "${x}", "`id`"),
    *("../../etc/passwd", "C:\\con", "\x00", "a\x00b", "\ufff9", "\U0001f600", "אבג", "ﷺ" * 30, "Z͑ͫ̓ͪ̂ͫ", "x" * 10_000, "=" * 10_000),
]  # fmt: skip
FORMULA = "=+-@＝＋－＠"


def harmless(text):
    """No character that moves a cursor, hides, or turns the direction."""
    return all(unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in text)


def test_there_are_sixty_payloads():
    assert len(set(PAYLOADS)) == len(PAYLOADS) >= 60


def test_no_name_is_a_formula_or_an_escape_in_text_files():
    frame = pd.DataFrame({"path": range(len(PAYLOADS)), "obligor_id": PAYLOADS, "month": -1})
    text = table_bytes("replay_parties", frame, "csv").decode()
    assert harmless(text.replace("\n", ""))
    found = list(csv.reader(io.StringIO(text)))
    assert found[0] == ["path", "obligor_id", "month"]
    assert [(row[0], row[2]) for row in found[1:]] == [(str(i), "-1") for i in range(len(PAYLOADS))]
    for row, payload in zip(found[1:], PAYLOADS, strict=True):
        for cell in row[1].split(";"):  # as a spreadsheet that cuts at semicolons sees it
            assert not cell.strip().startswith(tuple(FORMULA)), payload
    assert found[1 + PAYLOADS.index("a,b")][1] == "a,b"
    assert found[1 + PAYLOADS.index("x" * 10_000)][1] == "x" * 10_000


def test_names_that_a_book_may_have_are_whole_in_parquet_and_harmless_in_text(market, tmp_path):
    world = market(hazard_classes=[{"name": "weak", "hazard": 0.5}])
    terms = {"balance_usd": 1e6, "rate": 0.05, "term_months": 12, "lgd": 0.5}
    loans = pd.DataFrame([{"loan_id": p, "borrower_id": f"B{i}"} | terms for i, p in enumerate(PAYLOADS)])
    obligors = pd.DataFrame([{"obligor_id": f"B{i}", "hazard_class": "weak"} for i in range(len(PAYLOADS))])

    book = Portfolio.from_frames(market=world, loans=loans, obligors=obligors, on_bad_row="reject")
    ids = set(book.loans["loan_id"])
    assert len(ids) >= 40
    result = simulate(book, world, n_paths=50)
    table = pd.read_parquet(result.export(tmp_path / "X") / "contributions.parquet")
    assert set(table[table["by"] == "loan"]["item"]) == ids
    text = (result.export(tmp_path / "Y", kind="csv") / "contributions.csv").read_text(encoding="utf-8")
    assert harmless(text.replace("\n", ""))
    items = [row[2] for row in csv.reader(io.StringIO(text)) if row[1] == "loan"]
    assert len(items) == len(ids)
    assert not [item for item in items if item.startswith(tuple(FORMULA))]


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
def test_names_are_shown_harmlessly(capsys, payload):
    cells = pd.DataFrame({"row": [payload], "column": [payload], "old": [payload], "new": ["b"]})
    change = TapeChange("loans", (payload,), (payload,), (payload,), (), cells)
    words = list(run_comparison._tape_words(change))
    show(*_tape_items(change), *words)
    shown = capsys.readouterr().out
    assert harmless(shown.replace("\n", ""))
    assert max(map(len, shown.splitlines())) <= 100
    assert len(shown) < 2000


def test_keys_of_a_market_are_shown_harmlessly(market, pool, tmp_path, capsys):
    world = market()
    simulate(pool(world, 2, "safe"), world, n_paths=3, out=tmp_path / "R")
    found = compare(tmp_path / "R", tmp_path / "R")
    for start in range(0, len(PAYLOADS), 12):
        part = PAYLOADS[start : start + 12]
        _print_comparison(replace(found, market=tuple(KeyChange(p, p, [p]) for p in part)))
    assert harmless(capsys.readouterr().out.replace("\n", ""))
