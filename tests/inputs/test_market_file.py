"""market.toml: every problem at its place."""

import pytest

from gpuloan_mc.errors import InputRejected
from gpuloan_mc.inputs.books import book_folder
from gpuloan_mc.market import Market

GOOD = (book_folder("neocloud-2024") / "market.toml").read_text()

CASES = [
    ("horizon_months = 60", "horizon_months = 0", "market.toml:horizon_months", "found 0"),
    ("horizon_months = 60", "horizon_months = 6.5", "market.toml:horizon_months", "found 6.5"),
    ("horizon_months = 60", "", "market.toml:horizon_months", "missing"),
    ("mean_reversion = 2.0", "mean_revertion = 2.0", "market.toml:demand.mean_revertion", "Did you mean mean_reversion?"),
    ("volatility = 0.20", "volatility = nan", "market.toml:demand.volatility", "finite"),
    ("volatility = 0.20", "volatility = -0.2", "market.toml:demand.volatility", "found -0.2"),
    ("depth_chips = 500_000", "depth_chips = 0", "market.toml:gpu.generations[1].depth_chips", "found 0"),
    ('name = "B200"', 'name = "H200"', "market.toml:gpu.generations", "same name"),
    ('initial = "normal"', 'initial = "quiet"', "market.toml:regimes.initial", "must be one of boom, normal, glut"),
    ("means = [0.30, 0.0, -0.50]", "means = [0.30, 0.0]", "market.toml:regimes.means", "one for each of the 3"),
    ("[[0.0, 0.60, 0.20]", "[[-0.8, 0.60, 0.20]", "market.toml:regimes.transitions[1][1]", "found -0.8"),
    ("hazard = 0.045", "hazard = 0.045\npd_by_year = [0.1]", "market.toml:hazard_classes[2].pd_by_year", "exactly one of"),
    ("hazard = 0.045", "pd_by_year = [0.1, 0.05]", "market.toml:hazard_classes[2].pd_by_year", "must not fall"),
    ('copula = "gaussian"', 'copula = "t"', "market.toml:dependence.degrees_of_freedom", "degrees_of_freedom"),
    ('factors = ["demand", "credit"]', 'factors = ["credit", "demand"]', "market.toml:dependence.factors[1]", "must be 'demand'"),
    ('factors = ["demand", "credit"]', 'factors = ["demand", "credit"]\ncorrelation = [[1, 1], [1, 1]]',
     "market.toml:dependence.correlation", "positive definite"),
    ("haircut_sd = 0.10", "haircut_sd = 0.45", "market.toml:gpu.recovery.haircut_sd", "haircut_sd is 0.45"),
    ("renewal = [0.85, 0.65, 0.35]", "renewal = [0.85]", "market.toml:gpu.contracts.renewal", "each of the 3 regimes"),
    ("calendar = []", 'calendar = [{gpu = "X", month = 3, units = 5}]', "market.toml:gpu.overhang.calendar", "known are A100"),
    ("low = 0.40", "low = 0.99", "market.toml:gpu.utilisation.low", "exceeds high"),
    ("rates = [0.046]", "rates = [0.046, 0.05]", "market.toml:base_rate.rates", "one rate a month"),
    ("start_date = 2024-11-30", 'start_date = "soon"', "market.toml:start_date", "found 'soon'"),
]  # fmt: skip


@pytest.mark.parametrize("old, new, where, text", CASES, ids=[f"{i}-{c[2]}" for i, c in enumerate(CASES)])
def test_each_problem_is_at_its_place(tmp_path, old, new, where, text):
    assert old in GOOD
    (tmp_path / "market.toml").write_text(GOOD.replace(old, new, 1))
    with pytest.raises(InputRejected) as caught:
        Market.read(tmp_path)
    assert any(p.where == where and text in p.message for p in caught.value.problems), caught.value


def test_all_problems_at_once(tmp_path):
    text = GOOD.replace("horizon_months = 60", "horizon_months = 0").replace("low = 0.40", "low = 4")
    (tmp_path / "market.toml").write_text(text)
    with pytest.raises(InputRejected, match="2 problems"):
        Market.read(tmp_path)


def test_broken_toml_names_the_line(tmp_path):
    (tmp_path / "market.toml").write_text("start_date = 2024-11-30\nhorizon_months = = 3\n")
    with pytest.raises(InputRejected, match="line 2"):
        Market.read(tmp_path)


def test_other_encodings_are_named(tmp_path):
    (tmp_path / "market.toml").write_bytes("start_date = 2024-11-30 # é".encode("latin-1"))
    with pytest.raises(InputRejected, match="not UTF-8"):
        Market.read(tmp_path)


def test_a_market_is_frozen_and_replaced_with_its_rules():
    market = Market.read("vasicek-100")
    with pytest.raises(ValueError, match="frozen"):
        market.horizon_months = 3
    assert market.replace(horizon_months=24).horizon_months == 24
    with pytest.raises(ValueError, match="horizon_months"):
        market.replace(horizon_months=0)


def test_a_missing_book_suggests_a_name():
    with pytest.raises(InputRejected, match="Did you mean vasicek-100"):
        Market.read("vasicek100")
