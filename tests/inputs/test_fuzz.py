"""Generated books, by cells and by bytes: a located error or a sound portfolio, never anything else."""

import io
import tempfile
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuloan_mc.errors import InputRejected
from gpuloan_mc.inputs.columns import TAPES
from gpuloan_mc.inputs.rules import RULES
from gpuloan_mc.market import Market
from gpuloan_mc.portfolio import Portfolio

MARKET = Market.read("neocloud-2024")
ODD_IDS = ["a", "Ａ", "A\u200b", "007", "1e5", "", " A ", "\x1b[2J", "\ud800", "Ω", "x" * 200]
IDS = st.integers(0, 25).flatmap(lambda i: st.sampled_from(ODD_IDS if i == 13 else "ABC"))
WORDS = st.sampled_from(
    ["", "nan", "inf", "-0.0", "1e308", "70", "0.5", "8", "12", "24.5", "1,000", "5%", "#N/A", "true", "2024-11-30", "=1+1", "\0"]
)
ODD_NUMBERS = st.sampled_from([1e6, 1e308, -0.0, float("nan"), float("inf"), None, 2**63, True, -2, 60])
LINKS = {"gpu": ["H100", "B200"], "hazard_class": ["neocloud", "ai-lab"], "amortisation": ["annuity", "linear"]}
USUAL = {"units": st.integers(1, 100), "balance_usd": st.integers(1, 10**6), "rate": st.just(0.1), "lgd": st.just(0.5)}


def cells(column):
    """Mostly what the column is for, now and then anything (13: values at the ends are drawn more often)."""
    if column.name in LINKS:
        usual, odd = st.sampled_from(LINKS[column.name]), IDS
    elif column.kind in ("id", "text"):
        usual, odd = IDS, IDS
    elif column.kind == "choice" or column.high is None:
        usual, odd = st.just(column.default), WORDS
    else:
        usual, odd = USUAL.get(column.name, st.just(column.low)), st.one_of(ODD_NUMBERS, WORDS)
    return st.integers(0, 25).flatmap(lambda i: odd if i == 13 else usual)


ALWAYS = ("rate", "lgd")  # one of which a loan needs


@st.composite
def tape(draw, name):
    n = draw(st.integers(0 if name != "loans" else 1, 5))
    rows = {}
    for column in TAPES[name]:
        wanted = draw(st.integers(0, 100)) != 57 if column.required else column.name in ALWAYS or draw(st.integers(0, 3)) == 2
        if not wanted:
            continue
        if column.name == f"{name[:-1]}_id":
            odd = draw(st.lists(IDS, min_size=n, max_size=n))
            rows[column.name] = odd if draw(st.integers(0, 5)) == 3 else list("ABCDE"[:n])
        else:
            rows[column.name] = draw(st.lists(cells(column), min_size=n, max_size=n))
    if draw(st.integers(0, 20)) == 11:
        rows[draw(st.text(max_size=8))] = ["x"] * n
    return rows


BOOKS = st.fixed_dictionaries(
    {"loans": tape("loans"), "obligors": tape("obligors")},
    optional={"deployments": tape("deployments"), "schedules": tape("schedules")},
)


def judged(read):
    """Whatever comes in, what comes out is documented."""
    for how in ("refuse", "reject"):
        try:
            book = read(how)
        except InputRejected as error:
            assert error.problems
            for problem in error.problems:
                assert problem.where
                assert problem.rule in RULES
                assert str(problem).isprintable()
        else:
            found = book.reconciliation
            assert found.cents_in == found.cents_accepted + found.cents_rejected
            assert book.n_loans > 0
            assert set(book.deployments["loan_id"]) <= set(book.loans["loan_id"])
            assert set(book.loans["borrower_id"]) <= set(book.obligors["obligor_id"])
            assert how == "reject" or not book.rejected


def check_frames(tables):
    frames = {}
    for name, table in tables.items():
        frames[name] = pd.DataFrame({c: pd.Series(v, dtype=object) for c, v in table.items()})
    judged(lambda how: Portfolio.from_frames(market=MARKET, on_bad_row=how, **frames))


def check_files(tables):
    with tempfile.TemporaryDirectory() as folder:
        for name, table in tables.items():
            texts = {c: pd.Series(["" if x is None else str(x) for x in v], dtype=object) for c, v in table.items()}
            data = pd.DataFrame(texts).to_csv(index=False).encode("utf-8", "surrogatepass")
            (Path(folder) / f"{name}.csv").write_bytes(data)
        judged(lambda how: Portfolio.read(folder, MARKET, on_bad_row=how))


HEAD = b"loan_id,borrower_id,balance_usd,rate,term_months,lgd\nA,P,10,0.1,12,0.5\nB,P,20,0.1,12,0.5\n"
PARTIES = b"obligor_id,hazard_class\nP,neocloud\n"
SOUND = io.BytesIO()
pq.write_table(
    pa.table({"loan_id": ["A", "B"], "borrower_id": ["P", "P"], "balance_usd": [1.0, 2.0], "rate": [0.1, 0.1],
              "term_months": [12, 12], "lgd": [0.5, 0.5]}),
    SOUND,
)  # fmt: skip
WAYS = st.sampled_from(["set", "cut", "insert", "end"])
EDITS = st.lists(st.tuples(st.integers(0, 10_000), WAYS, st.binary(min_size=1, max_size=4)), min_size=1, max_size=4)


def mangled(data, edits):
    for place, what, extra in edits:
        i = place % (len(data) + 1)
        data = {"set": data[:i] + extra + data[i + len(extra):], "cut": data[:i] + data[i + len(extra):],
                "insert": data[:i] + extra + data[i:], "end": data[:i]}[what]  # fmt: skip
    return data


def check_bytes(edits, name):
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "obligors.csv").write_bytes(PARTIES)
        data = SOUND.getvalue() if name.endswith("parquet") else HEAD
        (Path(folder) / name).write_bytes(mangled(data, edits))
        judged(lambda how: Portfolio.read(folder, MARKET, on_bad_row=how))


PLAIN = b'start_date = 2024-11-30\nhorizon_months = 12\nhazard_classes = [{name = "a", hazard = 0.1}]\n'


def check_market(edits):
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "market.toml").write_bytes(mangled(PLAIN, edits))
        try:
            Market.read(folder)
        except InputRejected as error:
            assert all(p.rule in RULES and str(p).isprintable() for p in error.problems)


def few(n):
    return settings(
        max_examples=n, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None
    )


@few(100)
@given(BOOKS)
def test_generated_frames(tables):
    check_frames(tables)


@few(60)
@given(BOOKS)
def test_generated_files(tables):
    check_files(tables)


@few(60)
@given(EDITS, st.sampled_from(["loans.csv", "loans.parquet"]))
def test_mangled_files(edits, name):
    check_bytes(edits, name)


@few(100)
@given(EDITS)
def test_mangled_markets(edits):
    check_market(edits)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@few(2000)
@given(BOOKS, EDITS, st.sampled_from(["loans.csv", "loans.parquet"]))
def test_two_thousand_books(tables, edits, name):
    check_frames(tables)
    check_files(tables)
    check_bytes(edits, name)
    check_market(edits)
