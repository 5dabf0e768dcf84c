"""Two runs side by side: what changed, by how much, and whether that is beyond its error."""

import json
import math
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from gpuloan_mc import SavedRun, compare, run_comparison, schemas
from gpuloan_mc.cli import cli
from gpuloan_mc.cli_exports import _first_difference
from gpuloan_mc.errors import UsageError
from gpuloan_mc.input_changes import FEW, market_changes, tape_changes
from gpuloan_mc.simulation import simulate

N = 300


@pytest.fixture(scope="module")
def runs(tmp_path_factory, busy_run):
    """A function that runs a changed copy of the busy book and gives its folder; equal requests share a run."""
    place, made = tmp_path_factory.mktemp("runs"), {}

    def made_by(name, change=lambda book: book, **options):
        if name not in made:
            book = change(busy_run.portfolio)
            simulate(book, book.market, **{"n_paths": N, "seed": 5, "out": place / name} | options)
            made[name] = place / name
        return made[name]

    return made_by


def with_loans(book, loans, deployments=None):
    return book.replace(loans=loans, deployments=book.deployments if deployments is None else deployments)


def three_more(book):
    more = book.loans[book.loans["loan_id"].isin(["P0", "P1", "P2"])].assign(
        loan_id=["Q0", "Q1", "Q2"], balance_usd=9e6
    )
    return with_loans(book, pd.concat([book.loans, more]))


def without_two(book):
    return with_loans(book, book.loans[~book.loans["loan_id"].isin(["P0", "P1"])])


def dearer(book):
    loans = book.loans.copy()
    loans.loc[loans["loan_id"].isin(["L00", "L01"]), "spread"] += 0.01
    loans.loc[loans["loan_id"] == "L01", "reserve_usd"] = 1e5
    return with_loans(book, loans)


def other_market(book, **changes):
    tree = book.market.model_dump()
    tree["gpu"]["overhang"]["impact"] = 1.2
    tree["gpu"]["generations"][1]["price_usd_per_hour"] = 2.5
    return book.replace(market=type(book.market).model_validate(tree | changes))


def figure(found, name, item=""):
    rows = found.figures[(found.figures["figure"] == name) & (found.figures["item"] == item)]
    assert len(rows) == 1
    return rows.iloc[0]


# --- sentences --------------------------------------------------------------------------------------------------------


def test_a_run_beside_itself_has_the_same_integers(runs):
    found = compare(runs("base"), runs("base"))
    assert found.sentence() == "Same integers: all 300 paths lose the same cents, from the same inputs."
    assert found.same_integers and found.paired and not found.facts and not found.tapes and not found.market
    assert (found.figures["difference"] == 0).all()
    assert not found.figures["beyond"].any()


def test_engines_give_the_same_integers(runs):
    found = compare(runs("base"), runs("numpy", engine="numpy"))
    assert found.sentence() == "Same integers: all 300 paths lose the same cents; engine numba → numpy."


def test_a_new_segment_moves_no_cent(runs):
    found = compare(runs("base"), runs("region", lambda b: with_loans(b, b.loans.assign(region="north"))))
    assert found.sentence() == "Same integers: all 300 paths lose the same cents; loans: column region added."


def test_added_loans_and_changed_keys_are_counted(runs):
    found = compare(runs("base"), runs("more", lambda b: other_market(three_more(b))))
    assert re.fullmatch(
        r"EL rose by [\d.]+ ± [\d.]+ million dollars, beyond its error; 3 loans added, market\.toml: 2 keys changed\.",
        found.sentence(),
    )
    assert [(c.key, c.old, c.new) for c in found.market] == [
        ("gpu.generations.B200.price_usd_per_hour", 3.0, 2.5),
        ("gpu.overhang.impact", 0.8, 1.2),
    ]
    (change,) = found.tapes
    assert (change.tape, change.added, change.removed, change.n_changed) == ("loans", ("Q0", "Q1", "Q2"), (), 0)


def test_the_way_back_is_the_way_there_reversed(runs):
    there, back = (
        compare(*pair) for pair in (("base", "more"), ("more", "base")) for pair in [[runs(n) for n in pair]]
    )
    assert re.match(r"EL fell by .* beyond its error; 3 loans removed, market\.toml: 2 keys changed\.", back.sentence())
    assert np.array_equal(there.figures["difference"], -back.figures["difference"])
    assert np.allclose(there.figures["difference_se"], back.figures["difference_se"], rtol=1e-12, equal_nan=True)
    assert [(c.key, c.new, c.old) for c in back.market] == [(c.key, c.old, c.new) for c in there.market]


def test_removed_loans(runs):
    found = compare(runs("base"), runs("fewer", without_two))
    assert re.match(
        r"EL fell by [\d.]+ ± [\d.]+ million dollars, beyond its error; 2 loans removed\.", found.sentence()
    )


def test_changed_cells_are_named(runs):
    found = compare(runs("base"), runs("dearer", dearer))
    assert found.sentence().endswith("; 2 loans changed.")
    (change,) = found.tapes
    assert change.by_column == {"spread": 2, "reserve_usd": 1}
    cells = list(change.cells.itertuples(index=False, name=None))
    assert [c[:2] for c in cells] == [("L00", "spread"), ("L01", "spread"), ("L01", "reserve_usd")]
    assert cells[0][2:] == (0.06, pytest.approx(0.07)) and cells[2][2:] == (5e5, 1e5)


def test_another_seed_shares_no_futures(runs):
    found = compare(runs("base"), runs("seed", seed=6))
    assert re.match(
        r"EL (rose|fell) by [\d.]+ ± [\d.]+ million dollars, (within|beyond) its error; seed 5 → 6\.", found.sentence()
    )
    assert not found.paired and found.paired_paths == 0
    for row in found.figures.itertuples():
        if not math.isnan(row.difference_se):
            assert row.difference_se == math.hypot(row.standard_error_a, row.standard_error_b)


def test_more_paths(runs):
    found = compare(runs("base"), runs("paths", n_paths=400))
    assert found.sentence().endswith("; paths 300 → 400.")
    assert not found.paired


def test_another_horizon_has_other_years(runs):
    found = compare(
        runs("base"), runs("short", lambda b: b.replace(market=b.market.model_copy(update={"horizon_months": 24})))
    )
    assert "market.toml: 1 key changed, months 30 → 24." in found.sentence()
    last = figure(found, "expected_loss_by_year", "3")
    assert math.isnan(last["value_b"]) and math.isnan(last["difference"]) and last["beyond"] is pd.NA
    assert found.to_json_dict()["figures"][-1]["beyond"] is None


def test_a_scenario_is_named(runs, busy_run, tmp_path):
    from gpuloan_mc.scenario import Scenario

    glut = Scenario.of("more glut", market={"scale": {"gpu.overhang.impact": 1.5}})
    simulate(busy_run.portfolio, busy_run.portfolio.market, n_paths=N, seed=5, out=tmp_path / "R", scenarios=[glut])
    found = compare(runs("base"), tmp_path / "R")
    assert found.sentence().endswith(f" keys changed, scenarios none → more glut ({glut.digest[:8]}).")
    assert ("gpu.overhang.impact", 0.8) in [(c.key, c.old) for c in found.market]


def test_one_path_cannot_judge(runs):
    found = compare(runs("one", n_paths=1, seed=6), runs("one more", three_more, n_paths=1, seed=6))
    assert re.match(
        r"EL rose by [\d.]+ ± … million dollars, which one path can't judge; 3 loans added\.", found.sentence()
    )
    assert found.figures["beyond"].isna().all()
    assert {row["difference_se"] for row in found.to_json_dict()["figures"]} == {None}


# --- figures ----------------------------------------------------------------------------------------------------------


def test_errors_are_those_of_the_difference_by_path(runs):
    one, other = (SavedRun.read(runs(name)) for name in ("base", "dearer"))
    found = compare(one, other)
    assert found.paired
    moved = (other.losses - one.losses) / 100
    row = figure(found, "expected_loss")
    assert row["difference"] == pytest.approx(moved.mean(), rel=1e-9)
    assert row["difference_se"] == pytest.approx(moved.std(ddof=1) / math.sqrt(N), rel=1e-9)
    assert row["difference_se"] < 0.5 * math.hypot(row["standard_error_a"], row["standard_error_b"])
    rates = other.defaults / other.n_loans - one.defaults / one.n_loans
    row = figure(found, "default_rate")
    assert row["difference"] == pytest.approx(rates.mean(), abs=1e-15)
    assert row["difference_se"] == pytest.approx(rates.std(ddof=1) / math.sqrt(N), rel=1e-9)


def test_rates_of_books_of_different_sizes_are_paired(runs):
    one, other = (SavedRun.read(runs(name)) for name in ("base", "fewer"))
    rates = other.defaults / other.n_loans - one.defaults / one.n_loans
    row = figure(compare(one, other), "default_rate")
    assert row["difference"] == pytest.approx(rates.mean(), rel=1e-9)
    assert row["difference_se"] == pytest.approx(rates.std(ddof=1) / math.sqrt(N), rel=1e-9)


@pytest.mark.parametrize("kind", ["cause", "year"])
def test_causes_and_years_add_up_and_are_paired(runs, kind):
    one, other = (SavedRun.read(runs(name)) for name in ("base", "dearer"))
    found = compare(one, other)
    assert found.paired_paths == N
    rows = found.figures[found.figures["figure"] == f"expected_loss_by_{kind}"]
    assert rows["difference"].sum() == pytest.approx(figure(found, "expected_loss")["difference"], rel=1e-9)
    tables = [run.replay(list(range(N))).loans for run in (one, other)]
    for row in rows.itertuples():
        sums = []
        for table in tables:
            of = table["cause"] if kind == "cause" else ((table["month"] - 1) // 12 + 1).astype(str)
            sums.append(table[of == row.item].groupby("path")["loss_cents"].sum().reindex(range(N), fill_value=0) / 100)
        moved = (sums[1] - sums[0]).to_numpy()
        assert row.difference == pytest.approx(moved.mean(), rel=1e-6, abs=1e-6)
        assert row.difference_se == pytest.approx(moved.std(ddof=1) / math.sqrt(N), rel=1e-6, abs=1e-9)


def test_a_spread_of_some_paths_is_nearly_that_of_all(runs, monkeypatch):
    full = compare(runs("base"), runs("more"))
    monkeypatch.setattr(run_comparison, "LOAN_MONTHS_AGAIN", 0)
    monkeypatch.setattr(run_comparison, "LEAST_PATHS_AGAIN", 200)
    part = compare(runs("base"), runs("more"))
    assert (full.paired_paths, part.paired_paths) == (N, 200)
    pd.testing.assert_series_equal(part.figures["difference"], full.figures["difference"])
    for year in ("1", "2"):
        one, other = (figure(found, "expected_loss_by_year", year)["difference_se"] for found in (full, part))
        assert one != other and other == pytest.approx(one, rel=0.35)


def test_beyond_means_1_96_errors(runs):
    found = compare(runs("base"), runs("seed"))
    for row in found.figures.itertuples():
        if row.beyond is not pd.NA:
            assert row.beyond == (abs(row.difference) > 1.959964 * row.difference_se)
        else:
            assert math.isnan(row.difference_se)


# --- inputs -----------------------------------------------------------------------------------------------------------


def test_every_kind_of_change_to_a_tape(busy_run):
    book = busy_run.portfolio
    assert tape_changes(book, book) == ()
    loans = book.loans.drop(columns="desk").assign(loan_id=book.loans["loan_id"].replace("P2", "P9"), rating="A")
    other = book.replace(loans=loans, deployments=book.deployments.assign(units=book.deployments["units"] + 1))
    first, second = tape_changes(book, other)
    assert (first.tape, first.added, first.removed) == ("loans", ("P9",), ("P2",))
    assert first.columns_removed == ("desk",)
    assert set(first.by_column) == {"rating"}
    assert (second.tape, second.n_changed, second.by_column) == (
        "deployments",
        len(book.deployments),
        {"units": len(book.deployments)},
    )
    told = second.to_json_dict()
    assert told["changed"] == len(book.deployments) and len(told["first_changed_cells"]) == FEW


def test_blank_cells_are_equal_and_schedules_go_by_month(market, book):
    world = market()
    loans = [{"loan_id": "A", "borrower_id": "B", "balance_usd": 100.0, "rate": 0.1, "term_months": 3, "lgd": 0.5,
              "amortisation": "schedule"}]  # fmt: skip
    obligors = [{"obligor_id": "B", "hazard_class": "safe"}]

    def scheduled(*months):
        rows = [{"loan_id": "A", "month": m, "principal_usd": p} for m, p in months]
        return book(world, loans, obligors, schedules=rows)

    one = scheduled((1, 10.0), (2, 20.0), (3, 70.0))
    assert tape_changes(one, scheduled((1, 10.0), (2, 20.0), (3, 70.0))) == ()
    (change,) = tape_changes(one, scheduled((1, 30.0), (3, 70.0)))
    assert (change.tape, change.removed, change.added) == ("schedules", ("A, month 2",), ())
    assert list(change.cells.itertuples(index=False, name=None)) == [("A, month 1", "principal_usd", 10.0, 30.0)]


def test_keys_that_come_and_go(busy_run, market):
    world = busy_run.portfolio.market
    tree = world.model_dump()
    tree["gpu"]["rival_launches"] = None
    tree["hazard_classes"].append({"name": "new", "hazard": 0.01})
    changes = {c.key: (c.old, c.new) for c in market_changes(world, type(world).model_validate(tree))}
    assert changes["hazard_classes.new.hazard"] == (None, 0.01)
    assert changes["gpu.rival_launches.impact"] == (1.0, None)
    assert "hazard_classes.parent.hazard" not in changes
    assert market_changes(world, world) == ()


def test_lists_are_shown_where_they_first_differ():
    assert _first_difference("a", [1, 2, 3], [1, 5, 6]) == ("a.2", 2, 5)
    assert _first_difference("a", [[0, 1], [2, 3]], [[0, 1], [2, 4]]) == ("a.2.2", 3, 4)
    assert _first_difference("a", [1], [1, 2]) == ("a.2", None, 2)
    assert _first_difference("a", None, [1]) == ("a", None, [1])


# --- the command, and what is refused ---------------------------------------------------------------------------------


def invoke(*arguments):
    return CliRunner().invoke(cli, ["compare", *map(str, arguments)])


def test_the_command_prints_the_sentence_first_and_every_table(runs):
    done = invoke(runs("base"), runs("more"))
    assert done.exit_code == 0
    assert " ".join(done.output.split()).startswith(compare(runs("base"), runs("more")).sentence())
    for part in ("loans, added: Q0, Q1, Q2", "gpu.overhang.impact", "VaR 99 %", "EL, parent", "EL, year 1", "beyond its error",
                 "paths paired; by cause and year with the spread of the first 300, run again"):  # fmt: skip
        assert part in done.output
    done = invoke(runs("base"), runs("dearer"))
    assert "loans, changed cells by column: spread 2, reserve_usd 1" in done.output
    assert "the runs share no futures" in invoke(runs("base"), runs("seed", seed=6)).output
    assert "figures in millions" not in invoke(runs("base"), runs("base")).output


def test_json_is_one_object_with_the_keys_that_the_page_describes(runs):
    done = invoke(runs("base"), runs("more"), "--json")
    found = json.loads(done.output)
    assert list(found) == list(schemas.COMPARISON_KEYS)
    assert found["inputs"]["loans"]["first_added"] == ["Q0", "Q1", "Q2"]
    assert set(found["a"]) == {
        "folder", "version", "seed", "rng_scheme", "n_paths", "horizon_months", "engine", "scenarios", "digest",
        "plan_digest",
    }  # fmt: skip
    assert {row["figure"] for row in found["figures"]} == {
        "expected_loss", "default_rate", "value_at_risk", "expected_shortfall", "expected_loss_by_cause",
        "expected_loss_by_year",
    }  # fmt: skip


def test_no_run_a_damaged_one_and_one_of_another_version_are_sentences(runs, tmp_path):
    with pytest.raises(UsageError, match="is no folder; name a folder written by gpuloan-mc run"):
        compare(runs("base"), tmp_path / "none")
    shutil.copytree(runs("base"), tmp_path / "R")
    (tmp_path / "R" / "summary.json").write_text("{}")
    with pytest.raises(UsageError, match=r"summary\.json was changed or damaged since the run. Run the book again"):
        compare(runs("base"), tmp_path / "R")
    manifest = json.loads((tmp_path / "R" / "manifest.json").read_text())
    for changes, text in (
        ({"rng_scheme": "other"}, "its rng_scheme is 'other'"),
        ({"complete": False}, "was not finished"),
    ):
        (tmp_path / "R" / "manifest.json").write_text(json.dumps(manifest | changes))
        with pytest.raises(UsageError, match=text):
            compare(runs("base"), tmp_path / "R")


def test_another_versions_paths_are_not_run_again(runs, tmp_path):
    shutil.copytree(runs("dearer", dearer), tmp_path / "R")
    manifest = json.loads((tmp_path / "R" / "manifest.json").read_text())
    (tmp_path / "R" / "manifest.json").write_text(json.dumps(manifest | {"version": "0.0.9"}))
    found = compare(runs("base"), tmp_path / "R")
    assert found.paired and found.paired_paths == 0
    assert "version 0.1.0 → 0.0.9" in found.sentence()
    row = figure(found, "expected_loss_by_year", "1")
    assert row["difference_se"] == math.hypot(row["standard_error_a"], row["standard_error_b"])
