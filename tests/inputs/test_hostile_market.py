"""Hostile market files: each refused by a named rule at its place."""

import os
import time

import pytest

from gpuloan_mc.errors import InputRejected
from gpuloan_mc.inputs.books import book_folder
from gpuloan_mc.inputs.rules import RULES
from gpuloan_mc.market import Market

GOOD = (book_folder("neocloud-2024") / "market.toml").read_text()
SMALL = 'start_date = 2024-11-30\nhorizon_months = 12\nhazard_classes = [{name = "safe", hazard = 0.0}]\n'
THREE = 'factors = ["demand", "a", "b"]'

CASES = [
    ("wrong-type", ("horizon_months = 60", 'horizon_months = "60"'), "horizon_months", "found '60'"),
    ("wrong-type", ("horizon_months = 60", "horizon_months = true"), "horizon_months", "found True"),
    ("wrong-type", ("horizon_months = 60", "horizon_months = [60]"), "horizon_months", "found a list"),
    ("wrong-type", ("horizon_months = 60", "horizon_months = {a = 1}"), "horizon_months", "found a table"),
    ("wrong-type", ("volatility = 0.20", 'volatility = "0,20"'), "demand.volatility", "without quotes"),
    ("wrong-type", ("start_date = 2024-11-30", 'start_date = "30.11.2024"'), "start_date", "2024-11-30"),
    ("market-range", ("horizon_months = 60", "horizon_months = 601"), "horizon_months", "less than or equal to 600"),
    ("market-range", ("horizon_months = 60", f"horizon_months = {'9' * 400}"), "horizon_months", "…"),
    ("market-range", ("volatility = 0.20", "volatility = 1e308"), "demand.volatility", "found 1e+308"),
    ("market-range", ("haircut_mean = 0.20", "haircut_mean = 20"), "gpu.recovery.haircut_mean", "found 20"),
    ("not-finite", ("volatility = 0.20", "volatility = nan"), "demand.volatility", "finite"),
    ("not-finite", ("volatility = 0.20", "volatility = -inf"), "demand.volatility", "finite"),
    ("unknown-key", ("horizon_months", "horizon_month"), "horizon_month", "Did you mean horizon_months?"),
    ("unknown-key", ("haircut_sd", "haircut_std"), "gpu.recovery.haircut_std", "Did you mean haircut_sd"),
    ("unknown-key", ("depth_chips = 500_000", "depth_chip = 500_000"), "gpu.generations[1].depth_chip", "depth_chips"),
    ("unknown-key", ("hazard = 0.045", "hazzard = 0.045"), "hazard_classes[2].hazzard", "Did you mean hazard?"),
    ("missing-key", ("depth_chips = 500_000", ""), "gpu.generations[1].depth_chips", "no default"),
    ("missing-key", ("horizon_months = 60", ""), "horizon_months", "Add it"),
    ("market-choice", ('copula = "gaussian"', 'copula = "clayton"'), "dependence.copula", "'clayton'"),
    ("market-choice", ('factors = ["demand", "credit"]', 'factors = ["credit"]'), "dependence.factors[1]", "'demand'"),
    ("list-length", ('factors = ["demand", "credit"]', "factors = []"), "dependence.factors", "at least 1"),
    ("lists-differ", ("renewal = [0.85, 0.65, 0.35]", "renewal = [0.5]"), "gpu.contracts.renewal", "3 regimes"),
    ("lists-differ", ("means = [0.30, 0.0, -0.50]", "means = []"), "regimes.means", "0 entries"),
    ("lists-differ", ("rates = [0.046]", "rates = [0.046, 0.05]"), "base_rate.rates", "one rate a month"),
    ("curve", ("months = [0]\nrates = [0.046]", "months = [0, 12, 12]\nrates = [0.04, 0.05, 0.05]"), "base_rate.months",
     "increase"),
    ("curve", ("hazard = 0.045", "pd_by_month = [0.1, 0.05]"), "hazard_classes[2].pd_by_month", "must not fall"),
    ("correlation", ('factors = ["demand", "credit"]', f"{THREE}\ncorrelation = [[1, 0.9, -0.9], [0.9, 1, 0.9], [-0.9, 0.9, 1]]"),
     "dependence.correlation", "lowest eigenvalue is -0.8"),
    ("correlation", ('factors = ["demand", "credit"]', f"{THREE}\ncorrelation = [[1, 0.1, 0.2], [0.1, 1, 0.9], [0.2, 0.8, 1]]"),
     "dependence.correlation[2][3]", "symmetric"),
    ("correlation", ('factors = ["demand", "credit"]', 'factors = ["demand", "credit"]\ncorrelation = [[1, 0], [0, 0.5]]'),
     "dependence.correlation[2][2]", "diagonal"),
    ("correlation", ("correlation_decay = 0.65", "correlation = [[1, 1], [1, 1]]"),
     "gpu.generation_factors.correlation", "4 rows of 4"),
    ("correlation", ("correlation_decay = 0.65", f"correlation = {[[1.0] * 4] * 4}"),
     "gpu.generation_factors.correlation", "positive definite"),
    ("one-of", ("correlation_decay = 0.65", "correlation_decay = 0.65\ncorrelation = [[1]]"),
     "gpu.generation_factors.correlation", "not both"),
    ("one-of", ("hazard = 0.045", ""), "hazard_classes[2].hazard", "found none"),
    ("transitions", ("transitions = [[0.0", "transitions = [[1.0"), "regimes.transitions", "diagonal"),
    ("doubled-name", ('name = "B200"', 'name = "H200"'), "gpu.generations[4].name", "twice"),
    ("doubled-name", ('"boom", "normal"', '"normal", "normal"'), "regimes.names", "differ"),
    ("unknown-name", ('initial = "normal"', 'initial = "calm"'), "regimes.initial", "boom, normal, glut"),
    ("unknown-name", ("calendar = []", 'calendar = [{gpu = "X", month = 3, units = 5}]'), "gpu.overhang.calendar[1].gpu", "'X'"),
    ("odd-name", ('name = "B200"', 'name = "B\\u001b[31m"'), "gpu.generations[4].name", "'B\\x1b[31m'"),
    ("odd-name", ('name = "B200"', 'name = "B\\u202e200"'), "gpu.generations[4].name", "\\u202e"),
    ("beta", ("haircut_sd = 0.10", "haircut_sd = 0.45"), "gpu.recovery.haircut_sd", "below sqrt"),
    ("order", ("low = 0.40", "low = 0.99"), "gpu.utilisation.low", "exceeds high"),
    ("standstill", ("cadence_months = 12", "cadence_months = 0\nlag_mean_months = 0 #"), "gpu.launches.cadence_months", "both 0"),
]  # fmt: skip


def problems(tmp_path, data):
    (tmp_path / "market.toml").write_bytes(data if isinstance(data, bytes) else data.encode())
    with pytest.raises(InputRejected) as caught:
        Market.read(tmp_path)
    for problem in caught.value.problems:
        assert problem.rule in RULES
        assert str(problem).isprintable()
    return caught.value.problems


@pytest.mark.parametrize("rule, change, place, text", CASES, ids=[f"{i}-{c[0]}" for i, c in enumerate(CASES)])
def test_each_problem_has_its_rule_and_place(tmp_path, rule, change, place, text):
    assert change[0] in GOOD
    data = GOOD.replace(*change, 1)
    if rule == "standstill":
        data = "\n".join(line for line in data.splitlines() if not line.startswith("lag_mean_months = 4"))
    found = problems(tmp_path, data)
    assert any(p.rule == rule and p.where == f"market.toml:{place}" and text in p.message for p in found), found


TEXTS = [
    ("toml-encoding", SMALL.encode("utf-16"), "UTF-16"),
    ("toml-encoding", SMALL.encode() + b"# \xff", "line 4"),
    ("toml-syntax", "horizon_months = = 3", "line 1"),
    ("toml-syntax", "a = 1\na = 2", "Cannot overwrite"),
    ("toml-syntax", "a = " + "9" * 5000, "digits"),
    ("toml-syntax", "a = 2024-13-45", "not valid TOML"),
    ("toml-syntax", 'a = "x', "not valid TOML"),
    ("toml-syntax", "a = 1 \x00", "not valid TOML"),
    ("toml-depth", "a = " + "[" * 100_000, "nest deeper than 16"),
    ("toml-depth", "a = " + "{b = " * 50 + "1" + "}" * 50, "nest deeper"),
    ("toml-depth", ".".join("a" * 1000) + " = 1", "a dotted key of about line 1"),
    ("toml-depth", SMALL + "[" + ".".join(['"x"'] * 40) + "]", "line 4"),
    ("too-large", "#" * (2**20 + 1), "at most 1,048,576"),
    ("missing-key", "", "no default"),
    ("unknown-key", SMALL + "a.b.c.d.e.f.g = 1", "unknown key"),
    ("unknown-key", SMALL + '"\\u001b[2J" = 1', "unknown key"),
    ("unknown-key", SMALL + "x" * 100_000 + " = 1", "unknown key"),
]


@pytest.mark.parametrize("rule, data, text", TEXTS, ids=[f"{i}-{c[0]}" for i, c in enumerate(TEXTS)])
def test_each_hostile_text_is_a_sentence(tmp_path, rule, data, text):
    start = time.process_time()
    found = problems(tmp_path, data)
    assert any(p.rule == rule and text in p.message for p in found), found
    assert all(len(str(p)) < 2000 for p in found)
    assert time.process_time() - start < 5


def test_brackets_in_text_and_comments_are_not_depth(tmp_path):
    (tmp_path / "market.toml").write_text(SMALL.replace("safe", "[" * 40) + "# " + "{" * 60)
    assert Market.read(tmp_path).hazard_classes[0].name == "[" * 40


def test_a_byte_order_mark_is_accepted(tmp_path):
    (tmp_path / "market.toml").write_bytes(b"\xef\xbb\xbf" + SMALL.encode())
    assert Market.read(tmp_path).horizon_months == 12


@pytest.mark.parametrize("kind", ["folder", "dead link", "pipe"])
def test_what_is_no_file_is_not_opened(tmp_path, kind):
    path = tmp_path / "market.toml"
    {"folder": path.mkdir, "dead link": lambda: path.symlink_to("nowhere"), "pipe": lambda: os.mkfifo(path)}[kind]()
    for book in (tmp_path, path) if kind != "folder" else (tmp_path,):
        with pytest.raises(InputRejected) as caught:
            Market.read(book)
        assert [(p.where, p.rule) for p in caught.value.problems] == [("market.toml", "not-a-file")]


def test_a_missing_market_is_named(tmp_path):
    with pytest.raises(InputRejected) as caught:
        Market.read(tmp_path)
    assert [p.rule for p in caught.value.problems] == ["no-market"]
