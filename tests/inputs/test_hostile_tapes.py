"""Hostile files: each is refused by a named rule, at its line, with what was found and a way out; or accepted as documented."""

import os
import re
import time

import numpy as np
import pytest

from gpuloan_mc.errors import InputRejected
from gpuloan_mc.example import write_example
from gpuloan_mc.inputs import csv_tape, limits
from gpuloan_mc.inputs.rules import RULES
from gpuloan_mc.market import Market
from gpuloan_mc.portfolio import Portfolio

MARKET = """
start_date = 2024-11-30
horizon_months = 24
[[hazard_classes]]
name = "safe"
hazard = 0.01
[gpu]
value = {buyers_yield = 0.1}
contracts = {renewal = [0.5]}
[[gpu.generations]]
name = "H100"
launch_month = 0
price_usd_per_hour = 2.0
depth_chips = 1e6
cost_when_new_usd = 4e4
life_end_month = 60
"""
HEAD = "loan_id,borrower_id,balance_usd,rate,term_months,lgd,desk"
LOANS = f"{HEAD}\nA,P,1000000,0.1,24,,x\nB,P,2000000,0.1,24,0.5,y\n"
OBLIGORS = "obligor_id,hazard_class,name\nP,safe,Parent\nT,safe,Tenant\n"
CHIPS = (
    "deployment_id,loan_id,gpu,units,tenant_id,price_usd_per_hour,contract_months\n"
    "D,A,H100,8,T,2.0,24\nE,A,H100,8,,,\n"
)
TWO = LOANS.replace("2000000", "{}")
SCHEDULED = LOANS.replace("lgd,desk", "lgd,amortisation").replace(",,x", ",,schedule").replace(",y", ",bullet")


@pytest.fixture
def folder(tmp_path):
    def write(**files):
        texts = {"market.toml": MARKET, "loans.csv": LOANS, "obligors.csv": OBLIGORS, "deployments.csv": CHIPS}
        for name, data in (texts | {k.replace("__", "."): v for k, v in files.items()}).items():
            if data is not None:
                (tmp_path / name).write_bytes(data if isinstance(data, bytes) else data.encode())
        return tmp_path

    return write


def problems(book, **how):
    with pytest.raises(InputRejected) as caught:
        Portfolio.read(book, **how)
    return caught.value.problems


def loans(old, new):
    assert old in LOANS
    return {"loans__csv": LOANS.replace(old, new, 1)}


def chips(old, new):
    assert old in CHIPS
    return {"deployments__csv": CHIPS.replace(old, new, 1)}


def parties(old, new):
    assert old in OBLIGORS
    return {"obligors__csv": OBLIGORS.replace(old, new, 1)}


def number(text):
    return loans("2000000", text)


# rule, files changed, where, part of the message
CASES = [
    # numbers
    ("not-a-number", number("nan"), "loans.csv:3", "balance_usd is 'nan'"),
    ("not-a-number", number("inf"), "loans.csv:3", "not a finite number"),
    ("not-a-number", number("-Infinity"), "loans.csv:3", "Give a number"),
    ("not-a-number", number("1e999"), "loans.csv:3", "1e999"),
    ("not-a-number", number('"2,000,000"'), "loans.csv:3", "without separators: 2000000"),
    ("not-a-number", number("2_000_000"), "loans.csv:3", "without separators: 2000000"),
    ("not-a-number", number("2 000 000"), "loans.csv:3", "without separators: 2000000"),
    ("not-a-number", number("$2000000"), "loans.csv:3", "without the currency: 2000000"),
    ("not-a-number", number("2000000 €"), "loans.csv:3", "without the currency: 2000000"),
    ("not-a-number", number("#N/A"), "loans.csv:3", "an error of a spreadsheet"),
    ("not-a-number", number("#REF!"), "loans.csv:3", "mend its formula"),
    ("not-a-number", number("TRUE"), "loans.csv:3", "Yes or no"),
    ("not-a-number", number("0x10"), "loans.csv:3", "0x10"),
    ("not-a-number", number("٢٠٠"), "loans.csv:3", "Write it as 1234.5"),
    ("not-a-number", number("=1+1"), "loans.csv:3", "=1+1"),
    ("not-a-number", loans("0.1,24,0.5", '"0,1",24,0.5'), "loans.csv:3", "a point for the comma: 0.1"),
    ("not-a-number", loans("0.1,24,0.5", "10%,24,0.5"), "loans.csv:3", "as a fraction: 0.1"),
    ("not-a-number", loans(",24,0.5", ",2026-11-30,0.5"), "loans.csv:3", "whole months from the market's start_date"),
    ("not-a-number", loans(",24,0.5", ",30/11/2026,0.5"), "loans.csv:3", "This is a date"),
    ("not-whole", loans(",24,0.5", ",24.5,0.5"), "loans.csv:3", "term_months is 24.5"),
    ("not-whole", chips("H100,8,T", "H100,8.5,T"), "deployments.csv:2", "whole number"),
    ("out-of-range", number("-5"), "loans.csv:3", "It can't be negative"),
    ("out-of-range", number("1e308"), "loans.csv:3", "balance_usd is 1e308"),
    ("out-of-range", number("1" + "0" * 200), "loans.csv:3", "must lie in [0, 1e+12]"),
    ("out-of-range", loans("0.1,24,0.5", "10,24,0.5"), "loans.csv:3", "as a fraction: 0.1, not 10"),
    ("out-of-range", loans("24,0.5", "24,50"), "loans.csv:3", "lgd is 50; it must lie in [0, 1]"),
    ("out-of-range", loans(",24,0.5", ",0,0.5"), "loans.csv:3", "term_months is 0"),
    ("out-of-range", chips("H100,8,T", "H100,99999999999999999999,T"), "deployments.csv:2", "units"),
    ("blank", number(""), "loans.csv:3", "balance_usd is blank"),
    ("blank", number("  "), "loans.csv:3", "balance_usd is blank"),
    # ids
    ("duplicate-id", loans("\nB,", "\nA,"), "loans.csv:3", "'A' stands there before"),
    ("duplicate-id", loans("\nB,", "\n A ,"), "loans.csv:3", "'A' stands there before"),
    ("duplicate-id", chips("\nE,", "\nD,"), "deployments.csv:3", "Rename or drop one"),
    ("similar-id", loans("\nB,", "\na,"), "loans.csv:3", "'a' looks like 'A' of row 2"),
    ("similar-id", loans("\nB,", "\nＡ,"), "loans.csv:3", "looks like 'A'"),
    ("similar-id", loans("\nB,", "\nA\u200b,"), "loans.csv:3", "'A\\u200b' looks like 'A'"),
    ("similar-id", loans("\nB,", "\nA\ufeff,"), "loans.csv:3", "\\ufeff"),
    ("similar-id", {"obligors__csv": OBLIGORS + "Stra\u00dfe,safe,\nSTRASSE,safe,\n"}, "obligors.csv:5", "row 4"),
    ("similar-id", {"obligors__csv": OBLIGORS + "caf\u00e9,safe,\ncafe\u0301,safe,\n"}, "obligors.csv:5", "row 4"),
    ("unknown-borrower", loans("B,P", "B,p"), "loans.csv:3", "Did you mean 'P'?"),
    ("unknown-borrower", loans("B,P", "B,Parent"), "loans.csv:3", "not in the obligors tape"),
    ("unknown-tenant", chips("8,T", "8,T\u200b"), "deployments.csv:2", "Did you mean 'T'?"),
    ("unknown-loan", chips("E,A", "E,AA"), "deployments.csv:3", "not in the loans tape"),
    ("unknown-gpu", chips("E,A,H100", "E,A,h100"), "deployments.csv:3", "Did you mean 'H100'?"),
    ("unknown-class", parties("T,safe", "T,save"), "obligors.csv:3", "Did you mean safe?"),
    # characters
    ("control-character", loans("\nB,", "\nB\x1b[31m,"), "loans.csv:3", "'B\\x1b[31m'"),
    ("control-character", loans("\nB,", "\nB\u202egnp,"), "loans.csv:3", "\\u202e"),
    ("control-character", loans("\nB,", '\n"B\nC",'), "loans.csv:3", "'B\\nC'"),
    ("control-character", parties("Tenant", "Ten\x07ant"), "obligors.csv:3", "name is 'Ten\\x07ant'"),
    ("control-character", loans(",y", ",\x9by"), "loans.csv:3", "desk is"),
    ("long-cell", loans(",y", "," + "y" * 10_001), "loans.csv:3", "10,001 characters"),
    # the file
    ("encoding", {"loans__csv": LOANS.encode("utf-16")}, "loans.csv", "UTF-16"),
    ("encoding", {"loans__csv": LOANS.encode("utf-16-le")}, "loans.csv", "UTF-16"),
    ("encoding", {"loans__csv": LOANS.replace(",y", ",ü").encode("latin-1")}, "loans.csv:3", "Latin-1"),
    ("separator", {"loans__csv": LOANS.replace(",", ";")}, "loans.csv:1", "semicolons"),
    ("separator", {"loans__csv": LOANS.replace(",", "\t")}, "loans.csv:1", "tabs"),
    ("separator", {"loans__csv": LOANS.replace(",", "|")}, "loans.csv:1", "bars"),
    ("separator", {"loans__csv": LOANS.replace(".", ",").replace(",", ";")}, "loans.csv:1", "decimal marks"),
    ("nul-byte", loans("\nB,", "\nB\0,"), "loans.csv:3", "NUL byte"),
    ("quoting", loans("\nB,", '\n"B,'), "loans.csv:3", "can't be cut into cells"),
    ("quoting", loans("\nB,", '\n"B"C,'), "loans.csv:3", "standard quoting"),
    ("ragged-row", loans("B,P", "B,P,P"), "loans.csv:3", "the row has 8 cells, the header 7"),
    ("ragged-row", loans(",24,0.5", ""), "loans.csv:3", "the row has 5 cells, the header 7"),
    ("ragged-row", {"loans__csv": LOANS + '"C\nC",P\n'}, "loans.csv:4", "the row has 2 cells"),
    ("cut-file", {"loans__csv": LOANS[:-12]}, "loans.csv:3", "no end of line. The file was cut"),
    ("empty-file", {"loans__csv": b""}, "loans.csv", "the file is empty"),
    ("empty-file", {"loans__csv": b"\xef\xbb\xbf\n\n"}, "loans.csv", "the file is empty"),
    ("no-loans", {"loans__csv": HEAD + "\n"}, "loans.csv", "there is no loan in it"),
    ("missing-column", loans("balance_usd", "saldo"), "loans.csv", "balance_usd is missing"),
    ("missing-column", {"obligors__csv": "name\nP\n"}, "obligors.csv", "obligor_id"),
    ("unknown-column", loans("desk", "Rate"), "loans.csv", "Did you mean rate?"),
    ("unknown-column", loans("desk", "remotenes"), "loans.csv", "Did you mean remoteness?"),
    ("unknown-column", chips("units", "Units"), "deployments.csv", "unknown column 'Units'"),
    ("unknown-column", parties("name", "x\x1b[2J"), "obligors.csv", "can't be shown"),
    ("doubled-column", loans("desk", "rate"), "loans.csv", "'rate' stands there twice"),
    ("doubled-column", {"loans__csv": LOANS.replace("lgd,desk", "lgd, lgd ")}, "loans.csv", "Keep one"),
    ("blank-header", loans(",desk", ","), "loans.csv", "column 7 has no name"),
    ("no-tape", {"loans__csv": None, "loans__xlsx": b"PK"}, "loans.csv", "is it loans.xlsx?"),
    ("no-tape", {"obligors__csv": None}, "obligors.csv", "missing in"),
    ("two-tapes", {"loans__parquet": b"PAR1"}, "loans.csv", "loans.parquet is there too. Keep one of them."),
    # the book
    ("no-gpu-market", {"market__toml": MARKET[: MARKET.index("[gpu]")]}, "deployments.csv", "no [gpu] part"),
    ("rate-or-spread", loans("P,2000000,0.1", "P,2000000,"), "loans.csv:3", "neither is given"),
    ("no-balance", number("-0.0"), "loans.csv:3", "are both 0"),
    ("lgd-missing", loans("24,0.5", "24,"), "loans.csv:3", "Give it, or its chips"),
    ("contract", chips("8,T,2.0,24", "8,T,2.0,"), "deployments.csv:2", "contract_months"),
    ("no-schedule", {"loans__csv": SCHEDULED}, "loans.csv:2", "no row for it"),
    ("after-term", {"loans__csv": SCHEDULED, "schedules__csv": "loan_id,month,principal_usd\nA,25,5\n"},
     "schedules.csv:2", "after the term of loan 'A'"),
    ("unknown-loan", {"schedules__csv": "loan_id,month,principal_usd\nZ,25,5\n"}, "schedules.csv:2", "'Z'"),
    ("not-scheduled", {"schedules__csv": "loan_id,month,principal_usd\nA,2,5\n"}, "schedules.csv:2", "is not schedule"),
    ("too-many-vintages", {"deployments__csv": "deployment_id,loan_id,gpu,units,in_service_month\n" + "".join(
        f"D{i},L{i},H100,8,{-i}\n" for i in range(65)), "loans__csv": HEAD + "\n" + "".join(
        f"L{i},P,1000,0.1,24,,\n" for i in range(65))}, "deployments.csv", "65 vintages"),
]  # fmt: skip


@pytest.mark.parametrize("rule, files, where, text", CASES, ids=[f"{i}-{c[0]}" for i, c in enumerate(CASES)])
def test_each_hostile_file_is_a_located_sentence(folder, rule, files, where, text):
    found = problems(folder(**files))
    mine = [p for p in found if p.rule == rule]
    assert any(p.where == where and text in p.message for p in mine), found
    for problem in found:
        assert problem.rule in RULES
        assert str(problem).isprintable()
        assert problem.message[-1] in ".?"
    if RULES[rule].scope == "row" and "row" not in rule and not rule.startswith(("children", "parent")):
        assert all(p.column for p in mine), mine


def test_the_plain_book_is_sound(folder):
    book = Portfolio.read(folder())
    assert book.reconciliation.to_dict() == {
        "rows": {
            "loans": {"file": "loans.csv", "in": 2, "accepted": 2, "rejected": 0},
            "deployments": {"file": "deployments.csv", "in": 2, "accepted": 2, "rejected": 0},
            "obligors": {"file": "obligors.csv", "in": 2, "accepted": 2, "rejected": 0},
        },
        "loan_cents": {"in": 300_000_000, "accepted": 300_000_000, "rejected": 0},
        "loans_without_readable_money": 0,
    }


@pytest.mark.parametrize(
    "files",
    [
        {"loans__csv": b"\xef\xbb\xbf" + LOANS.encode()},
        {"loans__csv": LOANS.replace("\n", "\r\n")},
        {"loans__csv": LOANS.replace("\n", "\r")},
        {"loans__csv": LOANS.replace("\n", "\n\n")},
        {"loans__csv": LOANS.rstrip("\n")},
        {"loans__csv": LOANS.replace("0.1,", '" 0.10",')},
        {"loans__csv": LOANS.replace("2000000", "+2.0e6")},
        {"loans__csv": LOANS.replace("A,P", '"A",P')},
        {"loans__csv": LOANS.replace("loan_id", " loan_id ")},
    ],
    ids=["bom", "crlf", "cr", "blank lines", "no last newline", "quoted", "exponent", "quoted id", "spaces in header"],
)
def test_what_is_harmless_gives_the_same_portfolio(folder, files):
    changed = Portfolio.read(folder(**files))
    plain = Portfolio.read(folder(loans__csv=LOANS))
    assert changed.loans.equals(plain.loans)


def test_the_quick_and_the_strict_reader_agree(folder):
    for data in (LOANS, CHIPS, OBLIGORS):
        quick, strict = csv_tape._plain_table(data.encode()), csv_tape._strict_table(data)
        assert quick["n_rows"] == strict["n_rows"]
        assert list(quick["lines"]) == list(strict["lines"])
        for (name, one), (other_name, other) in zip(quick["columns"], strict["columns"], strict=True):
            assert name == other_name
            assert one.as_text().to_pylist() == other.as_text().to_pylist()


def test_a_line_break_inside_a_cell_moves_no_line_number(folder):
    text = LOANS.replace(",x", ',"x\nstill x"') + "\nC,Q,1,0.1,24,0.5,z\n"
    assert [p.where for p in problems(folder(loans__csv=text))] == ["loans.csv:6"]


def test_minus_zero_is_zero(folder):
    text = LOANS.replace("P,2000000,0.1", "P,2000000,-0.0")
    assert not np.signbit(Portfolio.read(folder(loans__csv=text)).loans["rate"][1])


def test_ids_are_text(folder):
    text = LOANS.replace("A,P", "007,P").replace("B,P", "1e5,P")
    book = Portfolio.read(folder(loans__csv=text, deployments__csv=CHIPS.replace(",A,", ",007,")))
    assert list(book.loans["loan_id"]) == ["007", "1e5"]


def test_a_formula_in_a_name_is_text(folder):
    assert Portfolio.read(folder(**parties("Tenant", "=HYPERLINK(1)"))).obligors["name"][1] == "=HYPERLINK(1)"


def test_html_and_paths_are_text(folder):
    name = "<script>../../etc"
    assert Portfolio.read(folder(**parties("Tenant", name))).obligors["name"][1] == name


@pytest.mark.parametrize("kind", ["folder", "dead link", "pipe", "device"])
def test_what_is_no_file_is_not_opened(folder, kind):
    book = folder(loans__csv=None)
    path = book / "loans.csv"
    path.unlink(missing_ok=True)
    if kind == "folder":
        path.mkdir()
    elif kind == "dead link":
        path.symlink_to(book / "nowhere.csv")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    found = problems(book)
    assert [(p.where, p.rule) for p in found] == [("loans.csv", "not-a-file")]


def test_a_file_that_may_not_be_read_is_named(folder):
    book = folder()
    (book / "loans.csv").chmod(0)
    if os.access(book / "loans.csv", os.R_OK):
        pytest.skip("this user may read everything")
    assert [p.rule for p in problems(book)] == ["unreadable"]


def test_a_failing_disk_is_a_sentence(folder, monkeypatch):
    from pathlib import Path

    book, true_open = folder(), Path.open

    def broken(path, *how, **more):
        if path.name == "loans.csv":
            raise OSError(5, "Input/output error")
        return true_open(path, *how, **more)

    monkeypatch.setattr(Path, "open", broken)
    assert [(p.where, p.rule) for p in problems(book)] == [("loans.csv", "unreadable")]


@pytest.mark.parametrize("name", ["", "no\0where", "x" * 5000, "\x1b[2J"])
def test_odd_names_of_books_are_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputRejected) as caught:
        Market.read(name)
    assert str(caught.value).splitlines()[1].isprintable()
    assert [p.rule for p in caught.value.problems] == ["no-market" if name == "" else "no-book"]


@pytest.mark.parametrize(
    "cap, value, data",
    [
        ("MAX_ROWS", 1, LOANS * 3),
        ("MAX_ROWS", 1, LOANS.replace("A", '"A"')),
        ("MAX_COLUMNS", 3, LOANS),
        ("MAX_CELLS", 10, LOANS),
        ("MAX_LINE_CHARACTERS", 40, LOANS.replace("A", '"A"')),
    ],
)
def test_caps_on_csv(folder, monkeypatch, cap, value, data):
    monkeypatch.setattr(csv_tape, cap, value)
    assert {p.rule for p in problems(folder(loans__csv=data))} == {"too-large"}


def test_the_cap_on_bytes_is_looked_at_before_the_file_is_read(folder):
    book = folder()
    with (book / "loans.csv").open("r+b") as stream:
        stream.truncate(limits.MAX_FILE_BYTES + 1)  # a hole: takes no room on disk
    start = time.process_time()
    assert [p.rule for p in problems(book)] == ["too-large"]
    assert time.process_time() - start < 1


def test_a_rule_broken_very_often_is_counted(folder, monkeypatch):
    from gpuloan_mc.inputs import findings

    monkeypatch.setattr(findings, "MAX_LISTED_PER_RULE", 5)
    text = LOANS + "".join(f"L{i},P,x,0.1,24,0.5,\n" for i in range(30))
    found = problems(folder(loans__csv=text))
    assert len(found) == 6
    assert found[-1].message == "25 more rows break this rule; they are not listed one by one"


def test_many_unknown_names_are_quick(folder):
    names = [f"party-{i:05}" for i in range(1500)]
    text = HEAD + "\n" + "".join(f"L{i},{n}x,1,0.1,24,0.5,\n" for i, n in enumerate(names * 4))
    book = folder(loans__csv=text, obligors__csv=OBLIGORS + "".join(f"{n},safe,\n" for n in names), deployments__csv=None)
    (book / "deployments.csv").unlink(missing_ok=True)
    start = time.process_time()
    assert len(problems(book)) == 6000
    assert time.process_time() - start < 10


@pytest.mark.slow
def test_a_hundred_thousand_loans_are_checked_in_seconds(tmp_path):
    book = write_example(tmp_path / "book", n_loans=100_000)
    market = Market.read(book)
    times = []
    for _ in range(3):
        start = time.process_time()
        portfolio = Portfolio.read(book, market)
        times.append(time.process_time() - start)
    rows = len(portfolio.loans) + len(portfolio.deployments) + len(portfolio.obligors)
    print(f"{rows:,} rows in {min(times):.2f} s")
    assert min(times) < 10
    text = (book / "loans.csv").read_text()
    (book / "loans.csv").write_text(re.sub("ig-blackwell", '"ig-blackwell"', text))  # quotes: the strict reader
    start = time.process_time()
    again = Portfolio.read(book, market)
    print(f"with quotes in {time.process_time() - start:.2f} s")
    assert again.loans.equals(portfolio.loans)
