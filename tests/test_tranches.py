"""Tranches: by hand on few paths, and sums that equal the loss on every path."""

import math

import numpy as np
import pytest

from gpuloan_mc import risk
from gpuloan_mc.errors import UsageError
from gpuloan_mc.reference.market import path_numbers
from gpuloan_mc.reference.path import run_paths
from gpuloan_mc.tranches import (
    Layer,
    Tranches,
    attachment_for_expected_loss,
    attachment_for_probability,
    layer,
    rating_stress,
    thickness_sweep,
)

STACK = ["0:0.02", "0.02:0.1", "0.1:0.3", "0.3:"]


def test_a_full_stack_loses_what_the_book_loses_on_every_path(busy_run):
    found = busy_run.tranches(STACK)
    parts = [x.losses(busy_run.losses) for x in found.layers]
    assert all(np.all(p >= 0) for p in parts)
    assert np.array_equal(sum(parts), busy_run.losses)
    assert sum(found.table["loss_cents"]) == int(busy_run.losses.sum())


def test_the_years_of_a_layer_add_up_to_it_in_integers(busy_run):
    found = busy_run.tranches(STACK[::-1])
    table = found.by_year.groupby("attachment_usd", sort=False)["loss_cents"].sum()
    assert table.tolist() == found.table["loss_cents"].tolist()
    by_year = found.by_year.groupby("year")["loss_cents"].sum()
    assert by_year.tolist() == [m.total for m in busy_run.loss_by_year]
    whole = busy_run.tranches(["0:"]).by_year
    assert whole["expected_loss_se_usd"].tolist() == pytest.approx(
        [m.standard_error / 100 for m in busy_run.loss_by_year], rel=1e-12
    )


def test_figures_of_a_layer_are_those_of_its_losses(busy_run):
    row = busy_run.tranches([(0.05, 0.1)], level=0.9).table.iloc[0]
    low, high = (round(x * busy_run.commitment_usd * 100) for x in (0.05, 0.1))
    own = np.clip(busy_run.losses, low, high) - low
    assert row["expected_loss_usd"] == pytest.approx(own.mean() / 100)
    assert row["expected_loss_se_usd"] == pytest.approx(own.std(ddof=1) / 20 / 100)
    assert row["expected_loss_share"] == pytest.approx(own.mean() / (high - low))
    assert row["probability_of_loss"] == (own > 0).mean()
    assert row["probability_of_wipe_out"] == (own == high - low).mean()
    assert row["expected_shortfall_usd"] == risk.expected_shortfall(np.sort(own), 0.9) / 100
    assert (row["probability_of_loss_low"], row["probability_of_loss_high"]) == risk.wilson_interval(
        (own > 0).sum(), 400
    )


def test_a_layer_by_hand():
    losses = np.array([0, 99, 100, 101, 250, 300, 301, 10**15])
    assert Layer(100, 300).losses(losses).tolist() == [0, 0, 0, 1, 150, 200, 200, 200]
    assert Layer(300, None).losses(losses).tolist() == [0, 0, 0, 0, 0, 0, 1, 10**15 - 300]


def test_shares_and_dollars_are_told_apart():
    assert layer("0.1:0.3", 1e6) == layer((100_000, 300_000), 1e6) == Layer(10_000_000, 30_000_000)
    assert layer("0:1", 2e6) == Layer(0, 200_000_000)
    assert layer("0.9:", 1e6) == Layer(90_000_000, None)
    assert layer("5e5:", 1e6) == Layer(50_000_000, None)


@pytest.mark.parametrize(
    "tranches, text",
    [
        (["0.3:0.1"], "is inverted"),
        (["0.3:0.3"], "is inverted"),
        (["0.1:0.3", "0.2:0.5"], "overlaps one from"),
        (["0.1:", "0.2:0.5"], "to the top dollars overlaps"),
        (["0.1:3000000"], "mixes a share with dollars"),
        (["-0.1:0.3"], "begins at 0 or above"),
        (["nan:0.3"], "begins at 0 or above"),
        (["0:inf"], "ends at a finite number"),
        (["0:1e300"], "beyond any book"),
        (["0.1"], "is no tranche"),
        (["a:b"], "is no tranche"),
        ([7], "is no tranche"),
        ([], "no tranche is named"),
        (["0.1:0.10000000001"], "thinner than a cent"),
    ],
)
def test_what_is_no_tranche_is_refused_with_a_way_out(busy_run, tranches, text):
    with pytest.raises(UsageError, match=text):
        busy_run.tranches(tranches)


def test_a_level_outside_is_refused(busy_run):
    with pytest.raises(UsageError, match="between 0 and 1"):
        busy_run.tranches(["0:1"], level=1)


def test_thickness_sweep(busy_run):
    frame = thickness_sweep(busy_run, 0.05, [0.01, 0.05, 0.2])
    assert frame["expected_loss_usd"].is_monotonic_increasing
    assert frame["expected_loss_share"].is_monotonic_decreasing
    assert frame["probability_of_loss"].nunique() == 1
    assert frame.iloc[1].to_dict() == Tranches.of(busy_run, [(0.05, 0.1)]).table.iloc[0].to_dict()


def test_the_attachment_for_a_probability_is_the_lowest_that_holds_it(busy_run):
    found = attachment_for_probability(busy_run, 0.1)
    cents = round(found.attachment_usd * 100)
    assert (busy_run.losses > cents).mean() <= 0.1 < (busy_run.losses > cents - 1).mean()
    assert found.low_usd < found.attachment_usd < found.high_usd
    assert attachment_for_probability(busy_run, 0.0001).high_usd is None


def test_the_attachment_for_an_expected_loss_is_the_lowest_that_holds_it(busy_run):
    found = attachment_for_expected_loss(busy_run, 0.02)
    top = round(busy_run.commitment_usd * 100)

    def share(attachment):
        return Layer(attachment, top).losses(busy_run.losses).mean() / (top - attachment)

    cents = round(found.attachment_usd * 100)
    assert share(cents) <= 0.02 < share(cents - 1000)
    assert found.low_usd < found.attachment_usd < found.high_usd
    with pytest.raises(UsageError, match="Name a higher detachment or a higher target"):
        attachment_for_expected_loss(busy_run, 0.0001, detachment=0.01)


@pytest.mark.parametrize("target", [0, 1, -1, "x", float("inf")])
def test_targets_outside_are_refused(busy_run, target):
    for ask in (attachment_for_probability, attachment_for_expected_loss):
        with pytest.raises(UsageError, match=r"between 0 and 1, such as 0\.001"):
            ask(busy_run, target)


def test_rating_stress_is_that_of_the_paths_around_the_quantile(busy_run):
    frame = rating_stress(busy_run, [0.95, 0.5])
    assert frame["level"].tolist() == [0.5, 0.95]
    lent = busy_run.commitment_usd * 100
    rows = run_paths(busy_run.plan, 5, path_numbers(0, 400))
    ead = np.bincount(rows.path, rows.ead, 400)
    ordered = np.sort(busy_run.losses)
    low, high = risk.value_at_risk_interval(ordered, 0.5)
    inside = (busy_run.losses >= low) & (busy_run.losses <= high)
    row = frame.iloc[0]
    assert row["loss_rate"] == risk.value_at_risk(ordered, 0.5) / lent
    assert row["default_rate"] == pytest.approx(ead[inside].mean() / lent)
    severity = busy_run.losses[inside].sum() / ead[inside].sum()
    assert row["recovery_rate"] == pytest.approx(1 - severity)
    n = inside.sum()
    residual = busy_run.losses[inside] - severity * ead[inside]
    error = math.sqrt((residual**2).sum() / (n - 1) / n) / ead[inside].mean()
    assert row["recovery_rate_se"] == pytest.approx(error, rel=1e-6)
