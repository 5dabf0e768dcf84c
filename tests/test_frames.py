"""The tables of a result: exact sums, and errors that equal those computed from every path's own numbers."""

import numpy as np
import pandas as pd
import pytest

from gpuloan_mc.engines.numpy_reference import NumpyReference
from gpuloan_mc.errors import UsageError
from gpuloan_mc.plan import CAUSES
from gpuloan_mc.reference.market import path_numbers
from gpuloan_mc.reference.path import run_paths
from gpuloan_mc.simulation import simulate

N = 400


@pytest.fixture(scope="module")
def events(busy_run):
    """Every default of the run, a row each."""
    rows = run_paths(busy_run.plan, 5, path_numbers(0, N))
    names = ("path", "loan", "month", "cause", "ead", "loss")
    return pd.DataFrame({name: getattr(rows, name).astype(np.int64) for name in names})


def per_path(events, chosen, column):
    """A path's sum over the chosen events, (N,)."""
    return events[chosen].groupby("path")[column].sum().reindex(range(N), fill_value=0).to_numpy(np.float64)


def standard_error(values):
    return values.std(ddof=1) / np.sqrt(len(values))


def test_every_table_adds_up_to_the_book(busy_run):
    total, defaults = int(busy_run.losses.sum()), int(busy_run.defaults.sum())
    ead = busy_run.defaulted_balance.total
    loans, months = busy_run.loans, busy_run.timeline
    tables = [loans, months, *(part for _, part in busy_run.segments().groupby("column"))]
    assert len(tables) == 4
    for table in tables:
        assert int(table["loss_cents"].sum()) == total
        assert int(table["ead_cents"].sum()) == ead
        assert int(table["defaults"].sum()) == defaults
        assert table["expected_loss_usd"].sum() == pytest.approx(busy_run.expected_loss)
    for table in (loans, months):
        for name, whole in (("loss_cents", "loss_cents"), ("defaults", "defaults")):
            parts = sum(table[f"{name}_{cause}"] for cause in CAUSES)
            assert np.array_equal(parts, table[whole])
    for i, cause in enumerate(CAUSES):
        assert int(loans[f"loss_cents_{cause}"].sum()) == busy_run.loss_by_cause[CAUSES[i]].total
    assert sum(m.total for m in busy_run.loss_by_year) == total


def test_a_loans_errors_are_those_of_its_paths(busy_run, events):
    for i, row in busy_run.loans.iterrows():
        mine = events["loan"] == i
        loss, ead = per_path(events, mine, "loss"), per_path(events, mine, "ead")
        hit = np.isin(np.arange(N), events["path"][mine]).astype(float)
        assert row["defaults"] == hit.sum()
        assert row["pd_se"] == pytest.approx(standard_error(hit))
        assert row["expected_loss_usd"] == pytest.approx(loss.mean() / 100)
        assert row["expected_loss_se_usd"] == pytest.approx(standard_error(loss) / 100)
        assert row["mean_ead_usd"] == pytest.approx(ead[hit > 0].mean() / 100)
        assert row["lgd"] == pytest.approx(loss.sum() / ead.sum())
        residual = loss - row["lgd"] * ead
        assert row["lgd_se"] == pytest.approx(standard_error(residual) / ead.mean(), rel=1e-6)


def test_the_errors_of_months_and_segments_know_that_defaults_come_together(busy_run, events):
    table = busy_run.timeline
    for month in (1, 9, 30):
        row, mine = table[table["month"] == month].iloc[0], events["month"] == month
        loss = per_path(events, mine, "loss")
        count = events[mine].groupby("path").size().reindex(range(N), fill_value=0).to_numpy() / busy_run.n_loans
        assert row["expected_loss_se_usd"] == pytest.approx(standard_error(loss) / 100)
        assert row["default_rate"] == pytest.approx(count.mean())
        assert row["default_rate_se"] == pytest.approx(standard_error(count))
    desks = busy_run.portfolio.loans["desk"].to_numpy()
    for _, row in busy_run.segments("desk").iterrows():
        mine = events["loan"].map(lambda i, value=row["value"]: desks[i] == value)
        loss, ead = per_path(events, mine, "loss"), per_path(events, mine, "ead")
        assert row["loans"] == (desks == row["value"]).sum()
        assert row["expected_loss_se_usd"] == pytest.approx(standard_error(loss) / 100)
        assert row["lgd_se"] == pytest.approx(standard_error(loss - row["lgd"] * ead) / ead.mean(), rel=1e-6)


def test_price_points_are_those_of_the_paths(busy_run):
    history = NumpyReference().replay(busy_run.plan, 5, np.arange(N)).history
    table = busy_run.timeline
    assert set(table["price_paths"]) == {N}
    for g, gpu in enumerate(("H100", "B200")):
        for kind, values in (("contract", history.contract), ("spot", history.spot)):
            exact = np.quantile(values[1:31, :, g].astype(np.float64), [0.05, 0.5], axis=1)
            assert np.allclose(table[f"{kind}_{gpu}_p05"], exact[0])
            assert np.allclose(table[f"{kind}_{gpu}_p50"], exact[1])
            sample = values[1:31, :, g].astype(np.float64)
            assert np.allclose(table[f"{kind}_{gpu}_mean"], sample.mean(axis=1))
            assert np.allclose(table[f"{kind}_{gpu}_mean_se"], sample.std(axis=1, ddof=1) / np.sqrt(N))


def test_blank_segment_values_are_a_value_of_their_own(busy_run):
    table = busy_run.segments("desk")
    assert table["value"].tolist() == ["", "east", "west"]
    assert table["loans"].tolist() == [3, 6, 6]


def test_an_unknown_segment_column_is_refused(busy_run):
    with pytest.raises(UsageError, match="'region' is not a segment column of this book; it has desk, rating"):
        busy_run.segments("region")


def test_the_distribution_rises_and_holds_the_headline_figures(busy_run):
    table = busy_run.loss_distribution
    assert table["level"].is_monotonic_increasing and table["level"].is_unique
    assert table["value_at_risk_cents"].is_monotonic_increasing
    assert table["expected_shortfall_usd"].is_monotonic_increasing
    for level in (0.95, 0.99, 0.999, 0.9997):
        row = table[table["level"] == level].iloc[0]
        assert row["value_at_risk_cents"] / 100 == busy_run.value_at_risk[level]
        assert row["expected_shortfall_usd"] == pytest.approx(busy_run.expected_shortfall[level], rel=1e-15)


def test_chunks_change_no_table(busy_run):
    whole = simulate(busy_run.portfolio, busy_run.portfolio.market, n_paths=N, seed=5)
    for name in ("loans", "timeline", "loss_distribution"):
        pd.testing.assert_frame_equal(getattr(whole, name), getattr(busy_run, name), check_exact=True)
    pd.testing.assert_frame_equal(whole.segments(), busy_run.segments(), check_exact=True)


def test_a_book_without_segments_or_losses_has_its_tables(market, pool):
    world = market()
    result = simulate(pool(world, 3, hazard_class="safe"), world, n_paths=50)
    assert len(result.segments()) == 0
    assert result.loans["lgd"].isna().all()
    assert set(result.loans["pd_se"]) == {0.0}
    assert result.timeline.shape[0] == 12
    assert set(result.loss_distribution["value_at_risk_cents"]) == {0}
