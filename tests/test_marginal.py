"""Loans removed and added: nothing else changes but what passes through prices and parties."""

import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from gpuloan_mc import risk, schemas
from gpuloan_mc.errors import InputRejected, UsageError
from gpuloan_mc.example import write_example
from gpuloan_mc.marginal import MANIFEST, TABLE
from gpuloan_mc.saved_run import SavedRun
from gpuloan_mc.simulation import simulate

GONE = ["L03", "L07", "P1"]


@pytest.fixture(scope="module")
def quiet(busy_book):
    """A run in which no loan presses on another, and what each of some loans loses on each path."""
    world, portfolio = busy_book(overhang=0.0)
    return simulate(portfolio, world, n_paths=400, seed=5)


def part(portfolio, keep):
    """A book with some loans of another."""
    frames = {name: getattr(portfolio, name) for name in ("loans", "deployments", "schedules")}
    return portfolio.replace(**{name: frame[frame["loan_id"].isin(keep)] for name, frame in frames.items()})


def test_without_feedback_every_other_draw_stays_on_every_path(quiet):
    found = quiet.marginal(GONE)
    assert found.own_before.any()
    assert np.array_equal(found.after.losses, quiet.losses - found.own_before)
    assert (found.others.total, found.others.total_of_squares) == (0, 0)
    alone = part(quiet.portfolio, GONE)
    assert np.array_equal(found.own_before, simulate(alone, alone.market, n_paths=400, seed=5).losses)


def test_a_loan_presses_on_the_others(busy_run):
    found = busy_run.marginal(["L03"])
    assert found.others.total < 0  # its chips no longer press on what the others recover
    by_hand = part(busy_run.portfolio, set(busy_run.names.loans) - {"L03"})
    assert found.after.digest == simulate(by_hand, by_hand.market, n_paths=400, seed=5).digest
    paired = (found.after.losses - busy_run.losses) / 100
    row = found.table.iloc[0]
    assert row["difference"] == pytest.approx(paired.mean())
    assert row["difference_se"] == pytest.approx(paired.std(ddof=1) / 20)
    assert row["difference"] == pytest.approx(found.others.mean / 100 - row["removed_contribution"])


def test_contributions_are_those_of_the_loans(busy_run):
    table = busy_run.marginal(GONE).table
    own = {name: total / 400 / 100 for name, total in zip(busy_run.names.loans, risk_totals(busy_run), strict=True)}
    assert table["removed_contribution"].iloc[0] == pytest.approx(sum(own[i] for i in GONE))
    for level in risk.LEVELS:
        each = busy_run.contributions(level).table.set_index("item").loc[GONE]
        rows = table[table["level"] == level].set_index("figure")
        for figure in ("value_at_risk", "expected_shortfall"):
            assert rows.loc[figure, "removed_contribution"] == pytest.approx(each[f"{figure}_usd"].sum())
    one = busy_run.marginal(["L03"]).table
    each = busy_run.contributions(0.95).table.set_index("item").loc["L03"]
    row = one[(one["figure"] == "expected_shortfall") & (one["level"] == 0.95)].iloc[0]
    assert row["removed_contribution_se"] == pytest.approx(each["expected_shortfall_se_usd"])


def risk_totals(run):
    from gpuloan_mc.totals import whole

    return whole(run.by_loan.loss)


def test_adding_is_removing_the_other_way_round(busy_run):
    whole_book = busy_run.portfolio
    less = part(whole_book, set(busy_run.names.loans) - set(GONE))
    before = simulate(less, less.market, n_paths=400, seed=5)
    added = before.marginal(add=part(whole_book, GONE))
    removed = busy_run.marginal(GONE)
    assert added.after.digest == busy_run.digest
    assert added.others.total == -removed.others.total
    assert np.array_equal(added.own_after, removed.own_before)
    assert added.table["difference"].to_numpy() == pytest.approx(-removed.table["difference"].to_numpy())
    columns = ["contribution", "contribution_se"]
    pd.testing.assert_frame_equal(
        added.table[[f"added_{c}" for c in columns]].set_axis(columns, axis=1),
        removed.table[[f"removed_{c}" for c in columns]].set_axis(columns, axis=1),
    )
    both = busy_run.marginal(GONE, part(whole_book, GONE))
    assert both.after.digest == busy_run.digest
    assert (both.table["difference"] == 0).all() and (both.table["difference_se"].fillna(0) < 1e-3).all()


def test_a_saved_run_answers_as_its_result(tmp_path, pool, market):
    world = market(hazard_classes=[{"name": "pool", "hazard": 0.3}])
    result = simulate(pool(world, 6, loading=0.4), world, n_paths=100, seed=2, out=tmp_path / "R")
    found = SavedRun.read(tmp_path / "R").marginal(["L0002"])
    pd.testing.assert_frame_equal(found.table, result.marginal(["L0002"]).table)
    folder = found.write(found.write(tmp_path / "M"))
    assert pq.read_table(folder / TABLE).column_names == [f.name for f in schemas.COMPARISONS[TABLE].fields]
    written = json.loads((folder / MANIFEST).read_text())
    assert list(written) == list(schemas.MARGINAL_KEYS)
    assert written == found.to_json_dict()


def test_wrong_loans_are_sentences(busy_run, tmp_path):
    mine = busy_run.portfolio
    other = part(mine, ["L03"])
    for arguments, text in (
        ({}, "name loans to remove, or a book to add"),
        ({"remove": ["L3"]}, "no loan 'L3' in this book. Did you mean"),
        ({"remove": busy_run.names.loans}, "no loan is left"),
        ({"add": other}, "loans: both books have 'L03'"),
    ):
        with pytest.raises(UsageError, match=text):
            busy_run.marginal(**arguments)
    changed = other.obligors.copy()
    changed["pd_scale"] = changed["pd_scale"].where(changed["obligor_id"] != "p3", 2.0)
    with pytest.raises(UsageError, match=r"obligor 'p3': pd_scale is '1\.0' and '2\.0' in the two books"):
        busy_run.marginal(["L03"], other.replace(obligors=changed))
    with pytest.raises(InputRejected):
        busy_run.marginal(add=tmp_path / "none")


def test_a_folder_is_added_under_the_books_own_market(tmp_path):
    from gpuloan_mc.portfolio import Portfolio

    write_example(tmp_path / "B")
    for name, column in (("loans", "loan_id"), ("deployments", "loan_id")):
        frame = pd.read_csv(tmp_path / "B" / f"{name}.csv", dtype=str)
        frame = frame[frame[column] == "CW2-4"].copy()
        frame[column] = "NEW"
        if name == "deployments":
            frame["deployment_id"] = "NEW-" + frame["deployment_id"]
        frame.to_csv(tmp_path / "B" / f"{name}.csv", index=False)
    (tmp_path / "B" / "schedules.csv").unlink(missing_ok=True)
    book = Portfolio.read("neocloud-2024")
    run = simulate(book, book.market, n_paths=500)
    found = run.marginal(add=tmp_path / "B")
    assert found.added == ("NEW",) and found.after.n_loans == run.n_loans + 1
    assert found.table["removed_contribution"].isna().all() and found.own_after.any()
