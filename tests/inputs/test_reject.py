"""--on-bad-row reject: families go together, rows and money add up; rejected.parquet; the warnings."""

import json
import sys

import pandas as pd
import pytest

from gpuloan_mc import cli
from gpuloan_mc.errors import InputRejected, UsageError
from gpuloan_mc.portfolio import Portfolio

LOAN = {"loan_id": "L", "borrower_id": "P", "balance_usd": 1e6, "rate": 0.1, "term_months": 24}
PLAIN = {"loan_id": "M", "borrower_id": "P", "balance_usd": 0.1, "rate": 0.1, "term_months": 24, "lgd": 0.5}
CHIPS = {"deployment_id": "D", "loan_id": "L", "gpu": "H100", "units": 8}
LET = CHIPS | {"deployment_id": "E", "tenant_id": "T", "price_usd_per_hour": 2.0, "contract_months": 24}
PARTIES = [{"obligor_id": o, "hazard_class": "safe"} for o in "PQT"]


@pytest.fixture
def read(market, gpu):
    def rejecting(loans, obligors=PARTIES, deployments=None, schedules=None, on_bad_row="reject", **generation):
        frames = {"loans": loans, "obligors": obligors, "deployments": deployments, "schedules": schedules}
        tables = {k: pd.DataFrame(v) for k, v in frames.items() if v is not None}
        return Portfolio.from_frames(market=market(gpu=gpu(generation)), on_bad_row=on_bad_row, **tables)

    return rejecting


def rules(portfolio):
    return [(p.where, p.rule) for p in portfolio.rejected]


def test_a_sound_book_loses_nothing(read):
    book = read([LOAN, PLAIN], deployments=[CHIPS])
    assert book.rejected == ()
    assert book.reconciliation.cents_in == book.reconciliation.cents_accepted == 100_000_010


def test_loans_go_with_their_obligor_and_chips_with_their_loan(read):
    parties = [PARTIES[0] | {"pd_scale": -1}, *PARTIES[1:]]
    keep = PLAIN | {"loan_id": "K", "borrower_id": "Q"}
    book = read([LOAN, PLAIN, keep], parties, [CHIPS, LET])
    assert list(book.loans["loan_id"]) == ["K"]
    assert not len(book.deployments)
    assert rules(book) == [
        ("obligors: row 1", "out-of-range"), ("loans: row 1", "parent-rejected"), ("loans: row 2", "parent-rejected"),
        ("deployments: row 1", "parent-rejected"), ("deployments: row 2", "parent-rejected"),
    ]  # fmt: skip
    assert [(t.tape, t.rows_in, t.accepted, t.rejected) for t in book.reconciliation.tapes] == [
        ("loans", 3, 1, 2), ("deployments", 2, 0, 2), ("obligors", 3, 2, 1)
    ]  # fmt: skip


def test_a_loan_goes_when_all_its_chips_do_and_stays_with_fewer(read):
    tenant = [*PARTIES[:2], PARTIES[2] | {"hazard_class": "?"}]
    gone = read([LOAN, PLAIN], tenant, [LET])
    assert ("loans: row 1", "children-rejected") in rules(gone)
    fewer = read([LOAN, PLAIN], tenant, [CHIPS, LET])
    assert list(fewer.loans["loan_id"]) == ["L", "M"]
    assert any("[fewer-children]" in line and "'L'" in line for line in fewer.warnings)


def test_what_only_the_rest_breaks_is_found(read):
    """The only chips in service before the loan's term are rejected: the loan then breaks a rule, and takes the others."""
    late = CHIPS | {"deployment_id": "F", "in_service_month": 30}
    book = read([LOAN, PLAIN], PARTIES, [CHIPS | {"units": 0}, late])
    assert rules(book) == [
        ("deployments: row 1", "out-of-range"), ("loans: row 1", "service-after-term"), ("deployments: row 2", "parent-rejected")
    ]  # fmt: skip
    assert list(book.loans["loan_id"]) == ["M"]


def test_schedule_rows_go_with_their_loan(read):
    loan = PLAIN | {"amortisation": "schedule", "balance_usd": 100.0}
    rows = [{"loan_id": "M", "month": m, "principal_usd": 10.0} for m in (3, 30)]
    book = read([loan], schedules=rows)
    assert rules(book) == [("schedules: row 2", "after-term")]
    bad = read([loan | {"rate": 70}, PLAIN | {"loan_id": "N"}], schedules=rows[:1])
    assert rules(bad) == [("loans: row 1", "out-of-range"), ("schedules: row 1", "parent-rejected")]


def test_money_that_is_no_number_is_counted(read):
    loans = [PLAIN, PLAIN | {"loan_id": "N", "balance_usd": "much"}, PLAIN | {"loan_id": "O", "balance_usd": 1e308}]
    loans += [PLAIN | {"loan_id": "R", "balance_usd": 2.5, "rate": 8}, PLAIN | {"loan_id": "S", "balance_usd": -1.25}]
    found = read(loans).reconciliation
    assert (found.cents_in, found.cents_accepted, found.cents_rejected) == (135, 10, 125)
    assert found.loans_without_readable_money == 2
    assert found.lines()[-1].endswith("not in these sums: 2")
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    "change", [{"balance_usd": None}, {"rate": 70}], ids=["every row bad", "every loan bad"]
)
def test_a_book_without_a_loan_left_is_refused(read, change):
    with pytest.raises(InputRejected, match="no loan is left"):
        read([PLAIN | change])


def test_problems_of_a_file_still_stop_the_book(read):
    with pytest.raises(InputRejected, match="unknown-column"):
        read([PLAIN | {"rate": 70}, PLAIN | {"loan_id": "N"}], [p | {"colour": "red"} for p in PARTIES])


def test_the_first_of_two_equal_ids_is_kept(read):
    book = read([PLAIN, PLAIN | {"balance_usd": 7.0}])
    assert list(book.loans["balance_usd"]) == [0.1]
    assert rules(book) == [("loans: row 2", "duplicate-id")]


def test_another_word_is_refused(read):
    with pytest.raises(UsageError, match="must be 'refuse' or 'reject'"):
        read([PLAIN], on_bad_row="ignore")


# --- warnings -----------------------------------------------------------------------------------------------------------

WARNED = [
    ("debt-outlives-contracts", [LOAN], [LET | {"contract_months": 12}], {}, "about 100.0% of 1,000,000 dollars"),
    ("tenant-share", [LOAN], [LET], {}, "tenant 'T' is 100% of the contracted revenue"),
    ("contract-past-life", [LOAN], [LET | {"contract_months": 70}], {}, "1 deployment, first 'E', contract to month 70, life to"),
    ("life-over", [LOAN], [LET], {"life_end_month": -3}, "ended before month 1"),
    ("percent-suspected", [LOAN | {"rate": 1.5}], [LET], {}, "rate is above 0.5 a year: 1 loan, first 'L' with 1.5"),
    ("no-effect", [LOAN, PLAIN | {"remoteness": 0.5}], [LET], {}, "remoteness has no effect"),
]  # fmt: skip


@pytest.mark.parametrize("rule, loans, deployments, generation, text", WARNED, ids=[w[0] for w in WARNED])
def test_each_warning(read, rule, loans, deployments, generation, text):
    warnings = read(loans, deployments=deployments, on_bad_row="refuse", **generation).warnings
    assert any(text in line and line.endswith(f"[{rule}]") for line in warnings), warnings


def test_debt_repaid_under_contract_is_not_warned_of(read):
    for terms in ({"amortisation": "annuity"}, {"amortisation": "linear"}, {}):
        warnings = read([LOAN | terms], deployments=[LET]).warnings
        assert not any("debt-outlives" in line for line in warnings)
    half = read([LOAN | {"amortisation": "linear"}], deployments=[LET | {"contract_months": 12}]).warnings
    assert "about 50.0% of" in half[0]


# --- the command line ---------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    book = tmp_path / "book"
    book.mkdir()
    rows = "".join(f"N{i},P,100.25,70,12,0.5\n" for i in range(30))
    (book / "loans.csv").write_text(f"loan_id,borrower_id,balance_usd,rate,term_months,lgd\nA,P,10,0.1,12,0.5\n{rows}")
    (book / "obligors.csv").write_text("obligor_id,hazard_class\nP,good\n")
    (book / "market.toml").write_text(
        'start_date = 2024-11-30\nhorizon_months = 12\n[[hazard_classes]]\nname = "good"\nhazard = 0.1\n'
    )
    return book


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["gpuloan-mc", "run", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err
    return stop.value.code, shown


def test_a_refused_book_leaves_every_problem_in_the_folder(folder, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    code, shown = run(monkeypatch, capsys, folder, "--out", out)
    assert code == 3
    assert "... and 10 more of [out-of-range]" in shown.err
    table = pd.read_parquet(out / "rejected.parquet")
    assert list(table.columns) == ["file", "row", "column", "value", "rule", "message"]
    assert len(table) == 30
    first = table.iloc[0]
    assert tuple(first)[:5] == ("loans.csv", 3, "rate", "70", "out-of-range")
    assert "0.7, not 70" in first["message"]


def test_a_rejecting_run_tells_what_it_left_out_and_goes_on(folder, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    run(monkeypatch, capsys, folder, "--out", out)  # refused: the folder may be used again
    code, shown = run(monkeypatch, capsys, folder, "--paths", 20, "--out", out, "--on-bad-row", "reject", "--json")
    assert code == 0
    assert json.loads(shown.out)["n_loans"] == 1
    assert "loans.csv: 31 rows = 1 accepted + 30 rejected" in shown.err
    assert "3,017.50 dollars = 10.00 accepted + 3,007.50 rejected" in shown.err
    assert len(pd.read_parquet(out / "rejected.parquet")) == 30
    code, shown = run(monkeypatch, capsys, folder, "--out", out)
    assert code == 3
    assert not (out / "manifest.json").exists()


def test_a_bad_market_is_in_the_table_too(folder, tmp_path, monkeypatch, capsys):
    (folder / "market.toml").write_text("horizon_months = 0\n")
    code, _ = run(monkeypatch, capsys, folder, "--out", tmp_path / "out", "--on-bad-row", "reject")
    assert code == 3
    table = pd.read_parquet(tmp_path / "out" / "rejected.parquet")
    market = table[table["file"] == "market.toml"]
    assert set(market["rule"]) == {"missing-key", "market-range"}
    assert market["row"].isna().all()
    assert "horizon_months" in set(market["column"])
    assert len(market) < len(table)  # what can be said of the tapes is said too
