"""The table of rules: every id that the code names is in it, each has a case, and the page is written from it."""

import ast
import re
from pathlib import Path

import pytest

import gpuloan_mc
from gpuloan_mc.errors import InputRejected
from gpuloan_mc.inputs.rule_reference import rule_reference
from gpuloan_mc.inputs.rules import RULES
from gpuloan_mc.planning import build_plan, hash_ids

CODE = Path(gpuloan_mc.__file__).parent
TESTS = Path(__file__).parents[1]


def strings(path):
    return {n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant) and isinstance(n.value, str)}


def test_the_page_is_written_from_the_table():
    page = Path(__file__).parents[2] / "docs" / "input-rules.md"
    assert page.read_text() == rule_reference()


def test_every_rule_is_used_and_has_a_case():
    files = [p for p in (CODE / "inputs").glob("*.py") if p.name not in ("rules.py", "rule_reference.py")]
    used = set().union(*(strings(p) for p in [*files, CODE / "market.py", CODE / "planning.py"]))
    assert set(RULES) <= used
    cases = set().union(*(re.findall(r"[a-z]+(?:-[a-z]+)+", p.read_text()) for p in TESTS.rglob("test_*.py"))) | {
        s for p in TESTS.rglob("test_*.py") for s in strings(p)
    }
    assert set(RULES) <= cases


LOAN = {"loan_id": "L", "borrower_id": "P", "balance_usd": 1e6, "rate": 2.0, "term_months": 600}
CHIPS = {"deployment_id": "D", "loan_id": "L", "gpu": "H100", "units": 10}


@pytest.mark.parametrize(
    "rule, chips", [("balance-growth", {"in_service_month": 590}), ("chips-worth", {"units": 2**31 - 1})]
)
def test_rules_of_the_plan(market, gpu, book, rule, chips):
    world = market(gpu=gpu(), horizon_months=600)
    portfolio = book(world, [LOAN], [{"obligor_id": "P", "hazard_class": "safe"}], [CHIPS | chips])
    with pytest.raises(InputRejected) as caught:
        build_plan(portfolio, world)
    assert {p.rule for p in caught.value.problems} == {rule}


def test_equal_hashes_are_refused():
    with pytest.raises(InputRejected) as caught:
        hash_ids("loan", ["A", "A"])
    assert [p.rule for p in caught.value.problems] == ["id-hash"]


def test_rules_are_sentences():
    for rule in RULES.values():
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", rule.id)
        assert rule.states[-1] not in ".?"
        assert rule.way_out[-1] not in ".?"
