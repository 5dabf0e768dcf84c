"""Replayed paths: the same integers, cash that comes from somewhere, chips that come back once."""

import numpy as np
import pytest

from gpuloan_mc.engines.numpy_reference import NumpyReference
from gpuloan_mc.errors import UsageError
from gpuloan_mc.planning import build_plan
from gpuloan_mc.reference.market import path_numbers
from gpuloan_mc.reference.path import Recorder, record_paths
from gpuloan_mc.simulation import simulate

N = 400


def test_the_losses_of_a_replayed_path_are_its_integer(busy_run):
    paths = np.array([7, 0, 399, 120, 7])
    table = busy_run.replay(paths)
    assert np.array_equal(table.paths, paths)
    sums = np.zeros(len(paths), dtype=np.int64)
    np.add.at(sums, table.defaults.path, table.defaults.loss)
    assert np.array_equal(sums, busy_run.losses[paths])
    assert np.array_equal(np.bincount(table.defaults.path, minlength=5), busy_run.defaults[paths])


def test_a_replay_tells_when_and_how(busy_run):
    rows, history = (lambda t: (t.defaults, t.history))(busy_run.replay(np.arange(N)))
    gpu = rows.sale_month > 0
    assert np.all(rows.sale_month[gpu] > rows.month[gpu])
    assert np.all(rows.loss <= rows.ead)
    assert np.all(rows.month <= 30) and rows.month.min() >= 1
    assert 0 < rows.stepped_in[gpu].mean() < 1
    assert not rows.stepped_in[~gpu].any()
    units = busy_run.plan.deployments.units.sum()
    assert np.all(history.released.sum(axis=(0, 2)) <= units)
    assert history.regimes.shape == history.demand.shape == (39, N)
    assert history.default_months.shape == (N, 8)


@pytest.mark.parametrize("paths", [[-1], [N], [], [0.5], [[1]]])
def test_unknown_paths_are_refused(busy_run, paths):
    with pytest.raises(UsageError, match=r"paths|no path"):
        busy_run.replay(paths)


class CashBook(Recorder):
    """Keeps each month's waterfall."""

    def __init__(self, plan, n_paths):
        super().__init__(plan, n_paths)
        self.months = []

    def cash(self, t, cash):
        self.months.append(cash)


def test_sources_are_uses_in_every_month(busy_book):
    """The cash identity of docs/model.md 8.9, to 2^-20 of the commitment."""
    world, portfolio = busy_book()
    plan = build_plan(portfolio, world)
    book = CashBook(plan, N)
    record_paths(plan, 5, path_numbers(0, N), book)
    seen = np.zeros(5, dtype=np.int64)
    for cash in book.months:
        paying = cash.paying
        sources = cash.income.astype(float) + cash.from_reserve + cash.from_support
        uses = cash.service.astype(float) + cash.topped + cash.swept + cash.distributed
        assert np.all(np.abs(sources - uses)[paying] <= 2.0**-20)
        for amount in (cash.from_reserve, cash.from_support, cash.topped, cash.swept, cash.distributed, cash.closing):
            assert np.all(amount[paying] >= 0)
        flows = (cash.from_reserve, cash.from_support, cash.topped, cash.swept, cash.distributed)
        seen += [np.count_nonzero(flow[paying]) for flow in flows]
    assert len(book.months) == 30
    assert np.all(seen > 0)


def test_recovery_never_exceeds_exposure(busy_book):
    world, portfolio = busy_book()
    table = NumpyReference().replay(build_plan(portfolio, world), 5, np.arange(N))
    assert np.all((table.defaults.loss >= 0) & (table.defaults.loss <= table.defaults.ead))


def test_a_market_without_loans_secured_by_it_is_recorded_too(market, gpu, pool):
    world = market(gpu=gpu({"decline": 0.5}), hazard_classes=[{"name": "pool", "hazard": 0.5}])
    result = simulate(pool(world, 4), world, n_paths=60)
    assert np.allclose(result.timeline["contract_H100_p50"], 2 * np.exp(-0.5 * np.arange(1, 13) / 12), rtol=1e-6)
    assert result.defaults.sum() > 0


def test_the_outside_calendar_moves_the_hazards_of_plain_loans(market, gpu, pool):
    """(3.1) d·V̄ counts whether or not the book holds chips."""
    overhang = {"calendar": [{"gpu": "H100", "month": 1, "units": 1_000_000}], "absorption": 0.0}
    classes = [{"name": "pool", "hazard": 0.05, "overhang_sensitivity": 1.0}]
    found = []
    for calendar in ([], overhang["calendar"]):
        part = gpu(overhang=overhang | {"calendar": calendar})
        world = market(gpu=part, hazard_classes=classes, dependence={"pd": "as-given"})
        found.append(simulate(pool(world, 50), world, n_paths=2000).default_rate)
    exact = [1 - np.exp(-0.05), 1 - np.exp(-0.05 * np.e)]
    assert np.allclose(found, exact, atol=0.003)


def test_frames_name_what_the_arrays_hold(busy_run):
    found = busy_run.replay([120, 7])
    loans, rows = found.loans, found.defaults
    assert loans["loss_cents"].groupby(loans["path"]).sum().to_dict() == {p: busy_run.losses[p] for p in (120, 7)}
    ids = busy_run.portfolio.loans["loan_id"].tolist()
    assert loans["loan_id"].tolist() == [ids[i] for i in rows.loan]
    assert set(loans["mode"]) <= {"fixed or drawn LGD", "sale", "step-in", "step-in and sale"}
    assert loans["sale_month"].isna().tolist() == (loans["mode"] == "fixed or drawn LGD").tolist()
    market = found.market
    assert len(market) == 2 * 39
    cell = market[(market["path"] == 7) & (market["month"] == 5)].iloc[0]
    assert cell["spot_B200"] == found.history.spot[5, 1, 1]
    assert cell["regime"] == ["calm", "glut"][found.history.regimes[5, 1]]
    values = found.chip_values
    last = values[(values["path"] == 7) & (values["month"] == 38) & (values["gpu"] == "B200")].iloc[0]
    assert last["in_service_month"] == 4
    assert last["value_usd"] == found.history.values[38, 1, 0]  # vintages stand by name: B200 first
    assert set(found.launches["family"]) == {"launches", "rival launches"}


def test_parties_are_named_by_their_own_months(busy_run):
    """A tenant alone in its class of trouble: loans of cause parent fall in the month of their borrower."""
    found = busy_run.replay(np.arange(N))
    when = {(p, o): m for p, o, m in found.parties.itertuples(index=False)}
    parent = found.loans[found.loans["cause"] == "parent"]
    assert len(parent) > 20
    assert all(when[row.path, row.borrower_id] == row.month for row in parent.itertuples())


def test_a_replay_in_pieces_is_the_replay(busy_run):
    from gpuloan_mc.replay import join

    engine, paths = NumpyReference(), np.array([5, 300, 41, 41, 2])
    whole = engine.replay(busy_run.plan, 5, paths)
    parts = join([engine.replay(busy_run.plan, 5, piece) for piece in (paths[:1], paths[1:4], paths[4:])])
    for name in ("defaults", "history"):
        one, other = getattr(whole, name), getattr(parts, name)
        for field in one.__slots__:
            assert np.array_equal(getattr(one, field), getattr(other, field)), field
    assert np.array_equal(parts.paths, paths)


def test_a_story_is_a_dozen_lines_in_order(busy_run):
    worst = int(busy_run.worst(1)[0])
    lines = busy_run.replay([worst, 3]).story(worst)
    assert 5 <= len(lines) <= 12
    assert lines[0].startswith(f"path {worst} loses ")
    months = [int(line.split(":")[0].removeprefix("month ")) for line in lines[1:-1]]
    assert months == sorted(months)
    assert lines[-1].startswith("in all: ")
    text = "\n".join(lines)
    for part in ("loan L", "H100 spot ", "come back to the market", "contracts reach their low"):
        assert part in text
    with pytest.raises(UsageError, match="path 4 was not replayed"):
        busy_run.replay([3]).story(4)


def test_a_quiet_path_has_a_story_too(market, pool):
    world = market()
    assert simulate(pool(world, 2, "safe"), world, n_paths=3, engine="numpy").replay([1]).story(1) == [
        "path 1 loses 0 dollars, 0.0% of what is lent or committed; 0 of 2 loans default",
        "no loan defaults",
    ]


def test_hostile_names_are_harmless_in_a_story(market, book):
    world = market(hazard_classes=[{"name": "pool", "hazard": 20.0}])
    terms = {"balance_usd": 1e6, "rate": 0.05, "term_months": 12, "lgd": 0.45}
    name = "[red]<script>" + "x" * 60
    loans = [{"loan_id": "L" * 64, "borrower_id": "b"} | terms]
    portfolio = book(world, loans, [{"obligor_id": "b", "name": name, "hazard_class": "pool"}])
    lines = simulate(portfolio, world, n_paths=1, engine="numpy").replay([0]).story(0)
    assert all(line.isprintable() and len(line) < 300 for line in lines)
    assert "L" * 31 + "…" in "\n".join(lines)
