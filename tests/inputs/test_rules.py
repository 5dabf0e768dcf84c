"""Bad books: every rule has a case, with the place, what was found and the rule's name."""

import numpy as np
import pandas as pd
import pytest

from gpuloan_mc.errors import InputRejected
from gpuloan_mc.inputs.columns import TAPES
from gpuloan_mc.inputs.reference import column_reference
from gpuloan_mc.portfolio import Portfolio

LOAN = {"loan_id": "L", "borrower_id": "P", "balance_usd": 1e6, "rate": 0.1, "term_months": 24}
PLAIN = {"loan_id": "M", "borrower_id": "P", "balance_usd": 1e6, "rate": 0.1, "term_months": 24, "lgd": 0.5}
CHIPS = {"deployment_id": "D", "loan_id": "L", "gpu": "H100", "units": 8}
LET = CHIPS | {"tenant_id": "T", "price_usd_per_hour": 2.0, "contract_months": 12}
PARTIES = [{"obligor_id": "P", "hazard_class": "safe"}, {"obligor_id": "T", "hazard_class": "safe"}]


def without(row, *names):
    return {k: v for k, v in row.items() if k not in names}


CASES = [
    ("missing-column", {"loans": [without(LOAN, "balance_usd")]}, "column balance_usd is missing"),
    ("missing-column", {"loans": [without(LOAN, "balance_usd") | {"balance": 3}]}, "Is it 'balance'?"),
    ("unknown-column", {"loans": [without(LOAN, "term_months") | {"term_month": 3}]}, "Did you mean term_months"),
    ("unknown-column", {"loans": [LOAN | {"remotenes": 0.5}]}, "Did you mean remoteness"),
    ("unknown-column", {"deployments": [CHIPS | {"colour": "red"}]}, "colour"),
    ("unknown-column", {"obligors": [PARTIES[0] | {"loading_credit": 0.3}]}, "loading_credit"),
    ("blank", {"loans": [LOAN | {"borrower_id": " "}]}, "borrower_id is blank"),
    ("blank", {"loans": [LOAN, LOAN | {"loan_id": "N", "term_months": None}]}, "term_months is blank"),
    ("not-a-number", {"loans": [LOAN | {"rate": "ten"}]}, "rate is 'ten'"),
    ("not-a-number", {"loans": [LOAN | {"balance_usd": np.inf}]}, "balance_usd is inf"),
    ("not-whole", {"deployments": [CHIPS | {"units": 1.5}]}, "units is 1.5"),
    ("out-of-range", {"loans": [LOAN | {"rate": 8.0}]}, "Give it as a fraction: 0.08, not 8.0"),
    ("out-of-range", {"loans": [LOAN | {"balance_usd": -1.0}]}, "must lie in [0, 1e+12]"),
    ("out-of-range", {"deployments": [CHIPS | {"units": 0}]}, "units is 0"),
    ("out-of-range", {"loans": [LOAN | {"balance_usd": 1e308}]}, "1e+308"),
    ("choice", {"loans": [LOAN | {"amortisation": "anuity"}]}, "Did you mean annuity"),
    ("duplicate-id", {"loans": [LOAN, LOAN]}, "'L' stands there before"),
    ("duplicate-id", {"obligors": [*PARTIES, PARTIES[1]]}, "'T' stands there before"),
    ("duplicate-id", {"deployments": [CHIPS, CHIPS | {"deployment_id": " D "}]}, "'D' stands there before"),
    ("no-loans", {"loans": pd.DataFrame(columns=list(LOAN)), "deployments": None}, "there is no loan"),
    ("unknown-borrower", {"loans": [LOAN | {"borrower_id": "Q"}]}, "'Q' is not in the obligors tape"),
    ("unknown-tenant", {"deployments": [LET | {"tenant_id": "TT"}]}, "Did you mean T?"),
    ("unknown-loan", {"deployments": [CHIPS, CHIPS | {"deployment_id": "E", "loan_id": "X"}]}, "'X' is not in"),
    ("unknown-gpu", {"deployments": [CHIPS | {"gpu": "H1000"}]}, "Did you mean H100?"),
    ("unknown-class", {"obligors": [PARTIES[0] | {"hazard_class": "save"}, PARTIES[1]]}, "Did you mean safe?"),
    ("rate-or-spread", {"loans": [LOAN | {"spread": 0.05}]}, "exactly one of rate and spread"),
    ("rate-or-spread", {"loans": [without(LOAN, "rate")]}, "exactly one of rate and spread"),
    ("draw-month", {"loans": [LOAN | {"undrawn_usd": 5.0}]}, "needs a draw_month"),
    ("draw-month", {"loans": [LOAN | {"draw_month": 5}]}, "needs an undrawn_usd"),
    ("draw-month", {"loans": [LOAN | {"undrawn_usd": 5.0, "draw_month": 30}]}, "after the loan's term"),
    ("no-balance", {"loans": [LOAN | {"balance_usd": 0.0}]}, "are both 0"),
    ("book-size", {"loans": [LOAN | {"balance_usd": 9e11}, PLAIN | {"balance_usd": 9e11}]}, "at most 1e+12"),
    ("lgd-missing", {"loans": [LOAN, without(PLAIN, "lgd")]}, "needs lgd"),
    ("lgd-of-gpu-loan", {"loans": [LOAN | {"lgd": 0.4}]}, "here the chips decide"),
    ("lgd-sd", {"loans": [LOAN, PLAIN | {"lgd_sd": 0.5}]}, "must be below 0.5"),
    ("lgd-kinds", {"loans": [LOAN, *(PLAIN | {"loan_id": f"N{i}", "lgd": 0.3 + i / 1000, "lgd_sd": 0.1} for i in range(257))]},
     "257 distinct pairs"),
    ("no-schedule", {"loans": [LOAN | {"amortisation": "schedule"}]}, "has no row for it"),
    ("not-scheduled", {"schedules": [{"loan_id": "L", "month": 3, "principal_usd": 5.0}]}, "is not schedule"),
    ("after-term", {"loans": [LOAN | {"amortisation": "schedule"}],
                    "schedules": [{"loan_id": "L", "month": 30, "principal_usd": 5.0}]}, "after the term"),
    ("over-scheduled", {"loans": [LOAN | {"amortisation": "schedule"}],
                        "schedules": [{"loan_id": "L", "month": 3, "principal_usd": 2e6}]}, "more than the 1000000.00 lent"),
    ("duplicate-month", {"loans": [LOAN | {"amortisation": "schedule"}],
                         "schedules": [{"loan_id": "L", "month": 3, "principal_usd": 5.0}] * 2}, "Add the amounts up"),
    ("loadings", {"obligors": [PARTIES[0] | {"loading_demand": 0.8, "loading_cloud": 0.8}, PARTIES[1]]}, "explain 1.28"),
    ("contract", {"deployments": [without(LET, "price_usd_per_hour")]}, "a tenant needs"),
    ("contract", {"deployments": [without(LET, "tenant_id")]}, "need a tenant_id"),
    ("too-many-deployments", {"deployments": [CHIPS | {"deployment_id": f"D{i}"} for i in range(9)]}, "has 9 deployments"),
    ("service-after-term", {"deployments": [CHIPS | {"in_service_month": 25}]}, "before month 25"),
    ("too-many-chips", {"deployments": [CHIPS | {"deployment_id": f"D{i}", "units": 2**30} for i in range(3)]}, "at most"),
]  # fmt: skip


@pytest.fixture
def world(market, gpu):
    return market(horizon_months=24, gpu=gpu(), dependence={"factors": ["demand", "cloud"]})


@pytest.mark.parametrize("rule, change, text", CASES, ids=[f"{i}-{c[0]}" for i, c in enumerate(CASES)])
def test_each_rule_names_place_finding_and_way_out(world, book, rule, change, text):
    rows = {"loans": [LOAN], "obligors": PARTIES, "deployments": [CHIPS], "schedules": None} | change
    with pytest.raises(InputRejected) as caught:
        book(world, rows["loans"], rows["obligors"], rows["deployments"], rows["schedules"])
    mine = [p for p in caught.value.problems if p.rule == rule]
    assert mine, caught.value
    assert any(text in p.message for p in mine), mine
    assert all(p.where for p in mine)


def test_a_sound_book_passes(world, book):
    portfolio = book(world, [LOAN, PLAIN], PARTIES, [LET])
    assert portfolio.n_loans == 2
    assert portfolio.commitment_usd == 2e6


def test_all_problems_come_at_once(world, book):
    with pytest.raises(InputRejected) as caught:
        book(world, [LOAN | {"rate": 9.0}, PLAIN | {"borrower_id": "Q", "lgd": -1}], PARTIES, [CHIPS | {"gpu": "X"}])
    assert {p.rule for p in caught.value.problems} == {"out-of-range", "unknown-borrower", "unknown-gpu"}
    assert str(caught.value).startswith("4 problems in the inputs:")


def test_a_rule_broken_often_shows_twenty_and_counts_the_rest(world, book):
    loans = [LOAN] + [PLAIN | {"loan_id": f"N{i}", "lgd": 2.0} for i in range(50)]
    with pytest.raises(InputRejected) as caught:
        book(world, loans, PARTIES, [CHIPS])
    assert len(caught.value.problems) == 50
    assert "... and 30 more of [out-of-range]" in str(caught.value)


def test_deployments_need_a_gpu_market(market, book):
    with pytest.raises(InputRejected, match=r"no \[gpu\] part"):
        book(market(), [LOAN], PARTIES, [CHIPS])


def test_ids_stay_text(world, book):
    portfolio = book(world, [LOAN | {"loan_id": "007"}, LOAN | {"loan_id": "1e5"}], PARTIES, [
        CHIPS | {"deployment_id": "007", "loan_id": "007"}, CHIPS | {"deployment_id": "1", "loan_id": "1e5"}
    ])  # fmt: skip
    assert list(portfolio.loans["loan_id"]) == ["007", "1e5"]


def test_gpu_terms_of_plain_loans_are_warned_of(world, book):
    portfolio = book(world, [LOAN, PLAIN | {"support_usd": 5.0}], PARTIES, [CHIPS])
    first, *_ = portfolio.warnings
    assert first == (
        "support_usd has no effect on loans without deployments: 1 loan, first 'M'. Leave them blank. [no-effect]"
    )


def test_csv_and_parquet_give_the_same_portfolio(world, tmp_path):
    frames = {"loans": [LOAN, PLAIN], "obligors": PARTIES, "deployments": [LET]}
    for kind in ("csv", "parquet"):
        folder = tmp_path / kind
        folder.mkdir()
        for name, rows in frames.items():
            frame = pd.DataFrame(rows)
            frame.to_csv(folder / f"{name}.csv", index=False) if kind == "csv" else frame.to_parquet(
                folder / f"{name}.parquet"
            )
    one, other = (Portfolio.read(tmp_path / kind, world) for kind in ("csv", "parquet"))
    for name in TAPES:
        pd.testing.assert_frame_equal(getattr(one, name), getattr(other, name))
    (tmp_path / "csv" / "loans.parquet").write_bytes((tmp_path / "parquet" / "loans.parquet").read_bytes())
    with pytest.raises(InputRejected, match="Keep one of them"):
        Portfolio.read(tmp_path / "csv", world)


@pytest.mark.parametrize(
    "file, data, text",
    [
        ("loans.csv", b"", "empty"),
        ("loans.csv", "loan_id\né".encode("latin-1"), "not UTF-8"),
        ("loans.parquet", b"PAR1 cut", "can't be read as Parquet"),
        ("loans.csv", b"loan_id,rate\na,b,c\n", "the row has 3 cells, the header 2"),
    ],
)
def test_unreadable_tapes_are_named(world, tmp_path, file, data, text):
    (tmp_path / "obligors.csv").write_text("obligor_id,hazard_class\nP,safe\n")
    (tmp_path / file).write_bytes(data)
    with pytest.raises(InputRejected, match=text):
        Portfolio.read(tmp_path, world)


def test_missing_tapes_are_named(world, tmp_path):
    with pytest.raises(InputRejected) as caught:
        Portfolio.read(tmp_path, world)
    assert [p.where for p in caught.value.problems] == ["loans.csv", "obligors.csv"]


def test_a_csv_row_is_named_by_its_line(world, tmp_path):
    (tmp_path / "obligors.csv").write_text("obligor_id,hazard_class\nP,safe\nQ,unsafe\n")
    (tmp_path / "loans.csv").write_text("loan_id,borrower_id,balance_usd,rate,term_months,lgd\nA,P,1,0.1,12,0.5\n")
    with pytest.raises(InputRejected, match=r"obligors.csv:3: hazard_class 'unsafe'"):
        Portfolio.read(tmp_path, world)


def test_a_portfolio_can_be_changed_only_into_a_sound_one(world, book):
    portfolio = book(world, [LOAN, PLAIN], PARTIES, [LET])
    loans = portfolio.loans.copy()
    loans["rate"] = 0.2
    assert set(portfolio.replace(loans=loans).loans["rate"]) == {0.2}
    loans["rate"] = 20.0
    with pytest.raises(InputRejected):
        portfolio.replace(loans=loans)


def test_the_column_reference_is_written_from_the_code():
    from pathlib import Path

    page = Path(__file__).parents[2] / "docs" / "columns.md"
    assert page.read_text() == column_reference()
