"""Contributions to the tail: exact on books small enough to enumerate, right within their errors on the others."""

import math
from fractions import Fraction

import numpy as np
import pytest

from gpuloan_mc import closed_form, risk
from gpuloan_mc.apportion import KINDS, NO_CHIPS, SPOT, items
from gpuloan_mc.contributions import Tail, contributions
from gpuloan_mc.engines.numba_cpu import NumbaCpu
from gpuloan_mc.engines.numpy_reference import NumpyReference
from gpuloan_mc.errors import UsageError
from gpuloan_mc.reference.market import path_numbers
from gpuloan_mc.reference.path import run_paths
from gpuloan_mc.simulation import simulate

N = 400
EVERY_KIND = (*KINDS, "desk", "rating")


def by_hand(run, level, of_event):
    """Contributions {item: cents} as fractions, path by path: the worst in full, ties in equal parts."""
    rows = run_paths(run.plan, run.seed, path_numbers(0, run.n_paths))
    exact, n = Fraction(str(level)), run.n_paths
    quantile = sorted(run.losses.tolist())[math.ceil(exact * n) - 1]
    above, equal = (run.losses > quantile), (run.losses == quantile)
    part = ((1 - exact) * n - int(above.sum())) / int(equal.sum())
    found = {}
    for i in range(len(rows.path)):
        p = rows.path[i]
        weight = Fraction(1) if above[p] else part if equal[p] else Fraction(0)
        item = of_event(rows, i)
        found[item] = found.get(item, Fraction(0)) + weight * int(rows.loss[i]) / ((1 - exact) * n)
    return {item: value for item, value in found.items() if value}


@pytest.mark.parametrize("level", [0.5, 0.95, 0.99, 0.9997])
def test_contributions_are_those_of_every_default_by_hand(busy_run, level):
    ids = busy_run.names.loans
    found = busy_run.contributions(level)
    exact = by_hand(busy_run, level, lambda rows, i: ids[rows.loan[i]])
    assert {n: c for n, c in zip(found.names, found.shortfall, strict=True) if c} == exact
    found = busy_run.contributions(level, by="year")
    exact = by_hand(busy_run, level, lambda rows, i: str((rows.month[i] - 1) // 12 + 1))
    assert {n: c for n, c in zip(found.names, found.shortfall, strict=True) if c} == exact


@pytest.mark.parametrize("by", EVERY_KIND)
@pytest.mark.parametrize("level", [0.3, 0.975, 0.999])
def test_every_kind_adds_up_to_the_portfolio_in_integers(busy_run, by, level):
    found, losses = busy_run.contributions(level, by), busy_run.losses
    tail, ordered = found.tail, np.sort(losses)
    assert sum(found.losses_beyond) == int(losses[tail.beyond].sum())
    assert sum(found.losses_tied) == int(losses[tail.tied].sum())
    assert sum(found.losses_window) == int(losses[tail.window].sum())
    assert float(found.expected_shortfall) == risk.expected_shortfall(ordered, level)
    assert sum(found.value_at_risk) == tail.value_at_risk == risk.value_at_risk(ordered, level)
    assert tail.paths == risk.tail_paths(N, level)
    assert found.table["share"].sum() == pytest.approx(1)
    assert found.table["expected_shortfall_usd"].is_monotonic_decreasing


def test_one_item_has_the_error_of_the_shortfall(market, pool):
    world = market(hazard_classes=[{"name": "pool", "hazard": 0.3}])
    run = simulate(pool(world, 6, loading=0.5, lgd_sd=0.2), world, n_paths=3000, engine="numpy")
    for level in (0.9, 0.99):
        found = run.contributions(level, by="year")
        assert len(found.names) == 1
        tail = risk.tails(np.sort(run.losses), [level])[0]
        assert found.shortfall_se == pytest.approx([tail.shortfall_se], rel=1e-12)


def test_ties_share_what_is_left_of_the_tail():
    """0, 0, 0, 5, 5, 5, 5, 9: the worst three of eight are the 9 and half of each tied pair of places."""
    losses = np.array([5, 0, 5, 9, 0, 5, 5, 0])
    tail = Tail.of(losses, np.sort(losses), 0.625)
    assert (tail.value_at_risk, tail.beyond.tolist(), tail.tied.tolist()) == (5, [3], [0, 2, 5, 6])
    assert (tail.mass, tail.tie_weight) == (3, Fraction(2, 4))
    assert Tail.of(losses, np.sort(losses), 0.7).tie_weight == Fraction(14, 40)
    nothing = Tail.of(losses, np.sort(losses), 0.1)
    assert nothing.value_at_risk == 0 and nothing.tie_weight == Fraction(22, 30)


def test_two_names_that_tie_are_equal(market, pool):
    """Two loans of one size: at a level where one default is the quantile, each gets half of what fills the tail."""
    world = market(hazard_classes=[{"name": "pool", "hazard": 0.1}])
    run = simulate(pool(world, 2), world, n_paths=5000, engine="numpy")
    found, counts = run.contributions(0.9), run.defaults
    rows = run_paths(run.plan, run.seed, path_numbers(0, 5000))
    single = [int(((counts == 1)[rows.path] & (rows.loan == i)).sum()) for i in range(2)]
    both = int((counts == 2).sum())
    loss = 45_000_000
    weight = Fraction(500 - both, sum(single))
    assert found.shortfall == [(both * loss + weight * s * loss) / 500 for s in single]
    assert sum(found.shortfall) == Fraction(loss * (500 + both), 500)


@pytest.mark.parametrize("n_loans, level", [(2, 0.95), (10, 0.99)])
def test_books_of_few_names_agree_with_quadrature(market, pool, n_loans, level):
    """Loans alike: each contributes 1/n of the exact shortfall, within three and a half of its errors."""
    world, loading = market(horizon_months=1, hazard_classes=[{"name": "pool", "hazard": 1.2}]), 0.6
    run = simulate(pool(world, n_loans, loading=loading), world, n_paths=200_000, seed=11)
    exact = closed_form.one_factor_mixture(n_loans, 1 - math.exp(-0.1), loading)
    each = closed_form.distribution_expected_shortfall(exact, level) * 45_000_000 / n_loans
    found = run.contributions(level)
    for value, error in zip(found.shortfall, found.shortfall_se, strict=True):
        assert abs(float(value) - each) < 3.5 * error
        assert error < 0.03 * each
    assert float(found.expected_shortfall) == pytest.approx(each * n_loans, rel=0.02)


def test_names_of_unlike_size_agree_with_enumeration(market, book):
    """Two independent loans: at 97 % only the large one's defaults fill the tail, its share is exact in the limit."""
    world = market(horizon_months=1, hazard_classes=[{"name": "pool", "hazard": 1.2}])
    loans = [
        {"loan_id": i, "borrower_id": i, "balance_usd": size, "rate": 0.0, "term_months": 1, "lgd": 1.0}
        for i, size in (("a", 1e6), ("b", 3e6))
    ]
    portfolio = book(world, loans, [{"obligor_id": i, "hazard_class": "pool"} for i in "ab"])
    run = simulate(portfolio, world, n_paths=200_000, seed=3)
    p = 1 - math.exp(-0.1)
    exact = p * p * 1e8 / 0.03, (p * p * 3e8 + (0.03 - p * p) * 3e8) / 0.03
    found = run.contributions(0.97)
    for value, error, true in zip(found.shortfall, found.shortfall_se, exact, strict=True):
        assert abs(float(value) - true) <= 3.5 * error + 1e-6


def test_errors_match_the_spread_over_many_runs(market, pool):
    world = market(hazard_classes=[{"name": "pool", "hazard": 0.2}])
    portfolio = pool(world, 5, loading=0.4, lgd_sd=0.25)
    values, errors = [], []
    for seed in range(150):
        found = simulate(portfolio, world, n_paths=1000, seed=seed, workers=1).contributions(0.95)
        values.append([float(c) for c in found.shortfall])
        errors.append(found.shortfall_se)
    spread = np.std(values, axis=0, ddof=1).mean()
    assert np.mean(errors) == pytest.approx(spread, rel=0.12)  # five spreads of 150 runs: about 4 %


def test_engines_give_the_same_defaults(busy_run):
    paths = np.array([399, 3, 3, 77, 200, 201, 202, 203])
    both = [engine.events(busy_run.plan, 5, paths) for engine in (NumpyReference(), NumbaCpu(2))]
    rows = [np.stack([e.path, e.loan, e.month, e.cause, e.ead, e.loss]) for e in both]
    one, other = (r[:, np.lexsort(r[::-1])] for r in rows)
    assert np.array_equal(one, other)


def test_chips_split_a_loss_to_the_last_cent(busy_run):
    kind = items(busy_run, "tenant")
    assert kind.names == [SPOT, "t0", "t1", "t2", "t3", NO_CHIPS]
    events = NumpyReference().events(busy_run.plan, 5, np.arange(N))
    path, item, ead, loss = kind.split(events)
    for split, whole in ((ead, events.ead), (loss, events.loss)):
        assert split.min() >= 0
        assert np.array_equal(np.bincount(path, split, N), np.bincount(events.path, whole, N))
    plain = set(busy_run.plan.plain.index.tolist())
    of_plain = sum(int(x) for x, loan in zip(events.loss, events.loan, strict=True) if int(loan) in plain)
    assert int(loss[item == 5].sum()) == of_plain


def test_concentration(busy_run):
    found = busy_run.contributions(0.95, by="borrower")
    shares = found.table["share"]
    assert found.herfindahl == pytest.approx((shares**2).sum())
    assert 1 / len(shares) <= found.herfindahl <= 1


@pytest.mark.parametrize("level", [0, 1, 99, -0.1, "x", float("nan")])
def test_levels_outside_are_refused(busy_run, level):
    with pytest.raises(UsageError, match=r"between 0 and 1, such as 0\.99"):
        busy_run.contributions(level)


def test_an_unknown_kind_is_refused(busy_run):
    with pytest.raises(UsageError, match=r"by is 'region'; it must be one of loan, borrower, .*, desk, rating"):
        contributions(busy_run, 0.9, "region")


def test_a_book_without_losses_has_contributions_of_nothing(market, pool):
    world = market()
    found = simulate(pool(world, 3, hazard_class="safe"), world, n_paths=50, engine="numpy").contributions(0.9)
    assert set(found.shortfall) == set(found.value_at_risk) == {0}
    assert math.isnan(found.herfindahl)
    assert found.table["share"].isna().all()


def test_the_average_tail_path_lies_beside_the_average_path(busy_run):
    frame = busy_run.tail_paths(0.9)
    tail = busy_run.losses >= np.sort(busy_run.losses)[359]
    history = busy_run.replay(np.arange(N)).history
    row = frame[(frame["quantity"] == "contract H100") & (frame["month"] == 12)].iloc[0]
    prices = history.contract[12, :, 0].astype(np.float64)
    assert row["mean"] == pytest.approx(prices.mean())
    assert row["tail_mean"] == pytest.approx(prices[tail].mean())
    assert row["tail_se"] == pytest.approx(prices[tail].std(ddof=1) / np.sqrt(tail.sum()), rel=1e-6)
    regimes = frame[frame["quantity"].str.startswith("regime ")].groupby("month")["tail_mean"].sum()
    assert np.allclose(regimes, 1)
    last = frame[(frame["quantity"] == "loans in default") & (frame["month"] == 30)].iloc[0]
    assert last["mean"] == pytest.approx(busy_run.expected_defaults)
