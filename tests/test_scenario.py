"""Scenarios: what overlays mean, what they refuse, and the bundled ones on every engine."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import gpuloan_mc
from gpuloan_mc import scenario as scenario_module
from gpuloan_mc.errors import InputRejected
from gpuloan_mc.market import Market
from gpuloan_mc.planning import build_plan
from gpuloan_mc.portfolio import Portfolio
from gpuloan_mc.run_folder import MANIFEST
from gpuloan_mc.scenario import Scenario, hold_hazards, scenarios, stressed
from gpuloan_mc.simulation import simulate

BUNDLED = [
    "base", "capex_cut", "expiry_cliff", "fast_cadence", "lab_failure", "no_feedback", "overlong_debt",
    "price_replay_8_to_2", "rival_chips", "v_shape",
]  # fmt: skip


@pytest.fixture(scope="module")
def neocloud():
    return Portfolio.read("neocloud-2024")


def test_the_bundled_scenarios_are_these_ten():
    assert gpuloan_mc.scenarios() == scenarios() == BUNDLED


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_scenario_says_what_it_is_and_runs_alike_on_both_engines(neocloud, name):
    scenario = Scenario.read(name)
    assert scenario.content.about
    assert scenario.content.source
    runs = [
        simulate(neocloud, neocloud.market, n_paths=48, seed=3, engine=engine, scenarios=[name])
        for engine in ("numpy", "numba")
    ]
    assert runs[0].digest == runs[1].digest
    assert runs[0].plan_digest == runs[1].plan_digest
    assert runs[0].scenarios == ((name, scenario.digest),)
    unchanged = build_plan(neocloud, neocloud.market).digest
    assert (runs[0].plan_digest == unchanged) == (name == "base")


def test_no_feedback_is_alpha_and_d_of_0_bit_for_bit(busy_book):
    world, portfolio = busy_book(0.8)
    calm, _ = busy_book(0.0)
    assert any(c.overhang_sensitivity for c in world.hazard_classes)
    assert not any(c.overhang_sensitivity for c in calm.hazard_classes)
    stress = simulate(portfolio, world, n_paths=200, seed=2, scenarios=["no_feedback"])
    other = simulate(portfolio, calm, n_paths=200, seed=2)
    assert (stress.plan_digest, stress.digest) == (other.plan_digest, other.digest)
    assert stress.digest != simulate(portfolio, world, n_paths=200, seed=2).digest


# --- what an overlay means --------------------------------------------------------------------------------------------


def changed(market, **tables):
    """The market's tree after a change of keys."""
    _, after = Scenario.of("s", market=tables).overlay(the_book(market), market)
    return after


def the_book(market):
    return Portfolio.read("neocloud-2024", market)


def test_set_then_scale_then_shift_by_dotted_name(neocloud):
    after = changed(
        neocloud.market,
        set={"gpu": {"overhang": {"impact": 1.0}}, "gpu.generations.H100.decline": 0.1},
        scale={"gpu.overhang.impact": 2.0, "gpu.contracts.renewal": 0.5, "horizon_months": 0.51},
        shift={"gpu.overhang.impact": 0.25, "regimes.means": 0.1},
    )
    assert after.gpu.overhang.impact == 2.25
    assert [g.decline for g in after.gpu.generations] == [0.06, 0.1, 0.06, 0.06]
    assert after.gpu.contracts.renewal == [0.425, 0.325, 0.175]
    assert after.horizon_months == 31
    assert after.regimes.means == pytest.approx([0.4, 0.1, -0.4])


def test_names_places_and_stars_lead_into_lists(neocloud):
    after = changed(
        neocloud.market,
        set={"gpu.contracts.renewal.glut": 0.1, "regimes.transitions.2.3": 0.5, "hazard_classes.ai-lab.hazard": 0.2,
             "gpu.generations.*.volatility": 0.3},
        scale={"gpu.generations.1.decline": 2.0},
    )  # fmt: skip
    assert after.gpu.contracts.renewal == [0.85, 0.65, 0.1]
    assert after.regimes.transitions[1] == [0.35, 0.0, 0.5]
    assert [c.hazard for c in after.hazard_classes] == [0.0015, 0.2, 0.08, 0.05]
    assert {g.volatility for g in after.gpu.generations} == {0.3}
    assert after.gpu.generations[0].decline == 0.12


def test_a_table_that_was_not_there_is_made(neocloud):
    after = changed(neocloud.market, set={"gpu.rival_launches": {"first_month": 6, "lag_mean_months": 9, "impact": 1.0,
                                                                 "gain_mean": 0.05}})  # fmt: skip
    assert after.gpu.rival_launches.lag_mean_months == 9


def test_columns_change_where_the_filter_fits_and_blanks_stay(neocloud):
    scenario = Scenario.of(
        "s",
        loans=[
            {
                "where": {"archetype": ["merchant", "old-a100"]},
                "set": {"remoteness": 0.5},
                "scale": {"balance_usd": 0.9},
            },
            {
                "where": {"loan_id": "CW1-1", "term_months": 38},
                "shift": {"term_months": 3},
                "set": {"amortisation": "linear"},
            },
        ],
        deployments=[{"shift": {"contract_months": 2}, "scale": {"price_usd_per_hour": 1.1}}],
        obligors=[{"where": {"hazard_class": "ai-lab"}, "set": {"pd_scale": 2}}],
    )
    after, _ = scenario(neocloud, neocloud.market)
    few = neocloud.loans["archetype"].isin(["merchant", "old-a100"])
    assert (after.loans.loc[few, "remoteness"] == 0.5).all()
    assert (after.loans.loc[~few, "remoteness"] == 0.65).all()
    assert after.loans["balance_usd"].to_numpy() == pytest.approx(neocloud.loans["balance_usd"] * np.where(few, 0.9, 1))
    row = after.loans.set_index("loan_id").loc["CW1-1"]
    assert (row["term_months"], row["amortisation"]) == (41, "linear")
    let = neocloud.deployments["tenant_id"] != ""
    moved = after.deployments["contract_months"] - neocloud.deployments["contract_months"]
    assert (moved == np.where(let, 2, 0)).all()
    assert (after.deployments["price_usd_per_hour"].isna() == ~let).all()
    assert after.obligors["pd_scale"].sum() == neocloud.obligors["pd_scale"].sum() + 5
    assert after.segment_columns == neocloud.segment_columns
    assert after.sources == neocloud.sources
    pd.testing.assert_frame_equal(Portfolio.read("neocloud-2024").loans, neocloud.loans)


def test_forces_and_supply(neocloud):
    scenario = Scenario.of(
        "s",
        force={
            "default": [{"obligor": "ai-lab-1", "month": 12}],
            "price": [{"gpu": "H100", "months": [6], "usd_per_hour": [1.0]}],
            "demand": {"months": [1], "levels": [-0.2]},
        },
        outside_supply=[{"gpu": "A100", "first_month": 5, "last_month": 7, "units": 10}],
    )
    after, market = scenario(neocloud, neocloud.market)
    assert after.obligors.set_index("obligor_id")["default_month"].to_dict()["ai-lab-1"] == 12
    assert [(e.month, e.units) for e in market.gpu.overhang.calendar] == [(5, 3), (6, 3), (7, 4)]
    assert market.gpu.forced_prices[0].usd_per_hour == [1.0]
    assert market.demand.forced.levels == [-0.2]
    again = Scenario.of("t", force={"price": [{"gpu": "H100", "months": [1], "usd_per_hour": [3.0]}]})
    _, twice = stressed(neocloud, neocloud.market, [scenario, again])
    assert [p.usd_per_hour for p in twice.gpu.forced_prices] == [[3.0]]
    result = simulate(neocloud, neocloud.market, n_paths=30, scenarios=[scenario])
    history = result.replay([0, 7]).history
    assert (history.contract[6:, :, 1] == history.contract[6, 0, 1]).all()
    assert history.contract[6, 0, 1] == pytest.approx(1.0, rel=1e-6)


def test_scenarios_apply_in_order(neocloud):
    one = Scenario.of("one", market={"set": {"gpu.overhang.impact": 1.0}})
    two = Scenario.of("two", market={"scale": {"gpu.overhang.impact": 3.0}})
    assert stressed(neocloud, neocloud.market, [one, two])[1].gpu.overhang.impact == 3.0
    assert stressed(neocloud, neocloud.market, [two, one])[1].gpu.overhang.impact == 1.0


def test_a_digest_is_of_what_is_done(neocloud):
    one = Scenario.of("one", about="x", market={"set": {"horizon_months": 30}})
    assert one.digest == Scenario.of("two", market={"set": {"horizon_months": 30}}).digest
    assert one.digest != Scenario.of("one", market={"set": {"horizon_months": 31}}).digest


# --- hazards ----------------------------------------------------------------------------------------------------------


def test_hazards_are_matched_in_the_market_before_the_scenario(neocloud):
    base = build_plan(neocloud, neocloud.market).obligors.hazard
    glut = {"set": {"regimes.initial": "glut"}}
    held, moved = Scenario.of("s", market=glut), Scenario.of("s", market=glut, pd_match="scenario")
    book, market = held(neocloud, neocloud.market)
    assert market.dependence.pd == "as-given"
    assert build_plan(book, market).obligors.hazard == pytest.approx(base, rel=1e-6)
    other = build_plan(*moved(neocloud, neocloud.market)).obligors.hazard
    assert (other[1:13, 1:] < 0.8 * base[1:13, 1:]).all()
    both = Scenario.of("s", market=glut | {"scale": {"hazard_classes.*.hazard": 2.0}})
    doubled = build_plan(*both(neocloud, neocloud.market)).obligors.hazard
    assert doubled[1:13] == pytest.approx(2 * base[1:13], rel=0.1)


def test_a_market_whose_pilot_sees_no_difference_is_left_alone(neocloud):
    market = neocloud.market
    other = market.replace(gpu=market.gpu.replace(spot={"premium": 2.0}))
    assert hold_hazards(market, other) is other
    given = market.replace(dependence=market.dependence.replace(pd="as-given"), demand={"initial": 1.0})
    assert hold_hazards(market, given) is given


# --- runs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lab_failure", "v_shape", "price_replay_8_to_2", "overlong_debt"])
def test_a_run_folder_says_which_and_its_inputs_run_again(neocloud, tmp_path, name):
    result = simulate(neocloud, neocloud.market, n_paths=20, scenarios=[name], out=tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text())
    assert manifest["scenarios"] == [{"name": name, "digest": Scenario.read(name).digest}]
    assert manifest["inputs"]["loans"]["file"] == "loans.csv"
    again = Portfolio.read(tmp_path / "out" / "inputs")
    assert simulate(again, again.market, n_paths=20).digest == result.digest
    assert Market.read(tmp_path / "out" / "inputs") == result.portfolio.market


# --- bad input --------------------------------------------------------------------------------------------------------

BAD = [
    ("[market.set]\ngpu.overhang.impct = 1.0", "no-target", "x.toml:market.set.gpu.overhang.impct", "Did you mean impact?"),
    ("[market.set]\ngpu.generations.H10.decline = 1.0", "no-target", "x.toml:market.set.gpu.generations.H10.decline", "H100"),
    ("[market.scale]\nregimes.initial = 2.0", "not-to-scale", "x.toml:market.scale.regimes.initial", "can't be scaled"),
    ("[market.scale]\ngpu.overhang.impact = \"2\"", "not-to-scale", "x.toml:market.scale.gpu.overhang.impact", "finite number"),
    ("[market.scale]\nhazard_classes.ai-lab.pd_by_year = 2.0", "not-to-scale",
     "x.toml:market.scale.hazard_classes.ai-lab.pd_by_year", "does not give"),
    ("[market.set]\ngpu.overhang.impact = 99.0", "market-range", "x.toml:gpu.overhang.impact", "found 99"),
    ("[market.set]\ngpu.rival_launches.first_month = 9.0", "missing-key", "x.toml:gpu.rival_launches.impact", "missing"),
    ("[market.set]\ngpu.overhang.impact.deep = 9.0", "no-target", "x.toml:market.set.gpu.overhang.impact.deep", "nothing inside"),
    ("[market.set]\nregimes.initial = \"slump\"", "unknown-name", "x.toml:regimes.initial", "must be one of"),
    ("[market.sett]\nhorizon_months = 3", "unknown-key", "x.toml:market.sett", "Did you mean set?"),
    ("[[loan]]\nset = {lgd = 1}", "unknown-key", "x.toml:loan", "Did you mean loans?"),
    ("[[loans]]\nset = {remotness = 0.5}", "no-target", "x.toml:loans[1].set.remotness", "Did you mean remoteness?"),
    ("[[loans]]\nwhere = {archetype = \"nobody\"}\nset = {remoteness = 0.5}", "no-row",
     "x.toml:loans[1].where", "archetype = 'nobody'"),
    ("[[loans]]\nwhere = {archetyp = \"a\"}\nset = {remoteness = 0.5}", "no-target", "x.toml:loans[1].where", "archetype"),
    ("[[loans]]\nset = {remoteness = \"high\"}", "not-to-scale", "x.toml:loans[1].set.remoteness", "finite number"),
    ("[[loans]]\nscale = {borrower_id = 2.0}", "not-to-scale", "x.toml:loans[1].scale.borrower_id", "is text"),
    ("[[loans]]\nset = {remoteness = 65}", "out-of-range", "x.toml:remoteness", "0.65, not 65"),
    ("[[loans]]\nset = {term_months = 6.5}", "not-whole", "x.toml:term_months", "6.5"),
    ("[[deployments]]\nset = {tenant_id = \"nobody\"}", "unknown-tenant", "x.toml:tenant_id", "nobody"),
    ("[[force.default]]\nobligor = \"ai-lab-9\"\nmonth = 3", "no-target",
     "x.toml:force.default[1].obligor", "Did you mean ai-lab-"),
    ("[[force.default]]\nobligor = \"ai-lab-1\"\nmonth = 0", "market-range", "x.toml:force.default[1].month", "found 0"),
    ("[[force.price]]\ngpu = \"H10\"\nmonths = [1]\nusd_per_hour = [1.0]", "unknown-name",
     "x.toml:gpu.forced_prices[1].gpu", "H100"),
    ("[[force.price]]\ngpu = \"H100\"\nmonths = [1, 2]\nusd_per_hour = [1.0]", "lists-differ",
     "x.toml:force.price[1].usd_per_hour", "each month"),
    ("[[outside_supply]]\ngpu = \"H100\"\nfirst_month = 9\nlast_month = 3\nunits = 5", "order",
     "x.toml:outside_supply[1].last_month", "before"),
    ("[[outside_supply]]\ngpu = \"X\"\nfirst_month = 1\nlast_month = 1\nunits = 5", "unknown-name",
     "x.toml:gpu.overhang.calendar[1].gpu", "X"),
    ("about = 3", "wrong-type", "x.toml:about", "found 3"),
    ("about = = 3", "toml-syntax", "x.toml", "line 1"),
]  # fmt: skip


@pytest.mark.parametrize("text, rule, where, says", BAD, ids=[f"{i}-{b[1]}" for i, b in enumerate(BAD)])
def test_each_problem_is_at_its_place(neocloud, tmp_path, text, rule, where, says):
    (tmp_path / "x.toml").write_text(text)
    with pytest.raises(InputRejected) as caught:
        stressed(neocloud, neocloud.market, [tmp_path / "x.toml"])
    found = [(p.rule, p.where) for p in caught.value.problems]
    assert (rule, where) in found, caught.value
    assert any(says in p.message for p in caught.value.problems), caught.value


def test_all_problems_at_once(neocloud, tmp_path):
    (tmp_path / "x.toml").write_text(
        "[market.set]\ngpu.overhang.impct = 1.0\nhorizon_months = 0\n[[loans]]\nset = {lgdd = 1}\n"
        '[[force.default]]\nobligor = "nobody"\nmonth = 3\n'
    )
    with pytest.raises(InputRejected, match="4 problems"):
        stressed(neocloud, neocloud.market, [tmp_path / "x.toml"])


@pytest.mark.parametrize("name", ["lab_failur", "", "no/such.toml", "a\0b.toml"])
def test_an_unknown_scenario_is_a_sentence(name):
    with pytest.raises(InputRejected) as caught:
        Scenario.read(name)
    (problem,) = caught.value.problems
    assert problem.rule == "no-scenario"
    assert name != "lab_failur" or "Did you mean lab_failure?" in problem.message


def test_a_market_without_chips_has_nothing_to_force(pool, market):
    world = market(hazard_classes=[{"name": "pool", "hazard": 0.01}])
    portfolio = pool(world, 3)
    for tables in (
        {"force": {"price": [{"gpu": "H100", "months": [1], "usd_per_hour": [1.0]}]}},
        {"outside_supply": [{"gpu": "H100", "first_month": 1, "last_month": 2, "units": 5}]},
        {"market": {"scale": {"gpu.overhang.impact": 2.0}}},
    ):
        with pytest.raises(InputRejected) as caught:
            Scenario.of("s", **tables)(portfolio, world)
        assert {p.rule for p in caught.value.problems} == {"no-target"}


def test_files_lie_in_the_package():
    folder = Path(scenario_module.__file__).parent / "scenarios"
    assert sorted(p.stem for p in folder.iterdir()) == sorted(BUNDLED)


def test_the_pilot_that_is_kept_is_that_of_the_market(busy_book):
    """Matched hazards are those of a first pilot, whatever markets came between."""
    from gpuloan_mc import pilot
    from gpuloan_mc.planning import build_plan

    world, portfolio = busy_book()
    pilot._kept.clear()
    first = build_plan(portfolio, world).digest
    for other in (
        world.replace(demand=world.demand.replace(volatility=0.5)),
        world.replace(regimes=world.regimes.replace(means=[0.2, -0.4])),
        world.replace(horizon_months=24),
        world,
    ):
        kept = build_plan(portfolio.replace(market=other), other).digest
        pilot._kept.clear()
        assert kept == build_plan(portfolio.replace(market=other), other).digest
        assert (kept == first) == (other is world)
