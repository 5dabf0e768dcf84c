"""The waterfall of a pool: cases written out by hand, cash in is cash out, and the pool's cash against the loans' own."""

from __future__ import annotations

import dataclasses
import json
import math
import re

import numpy as np
import pytest
from click.testing import CliRunner

from gpuloan_mc import cli, simulate
from gpuloan_mc.engines import numba_compile
from gpuloan_mc.engines.base import PoolCash
from gpuloan_mc.engines.numba_payments import compiled_payments
from gpuloan_mc.engines.numpy_reference import NumpyReference
from gpuloan_mc.errors import InputRejected, UsageError
from gpuloan_mc.inputs.pool_file import PoolFile, read_pool
from gpuloan_mc.payments import Payments, internal_rate, lives, reference_payments
from gpuloan_mc.portfolio import Portfolio
from gpuloan_mc.receipts import Pool
from gpuloan_mc.tranche_cash import tranche_cash
from gpuloan_mc.waterfall import Structure, check_balance, run_waterfall

NOTES = [
    {"name": "A", "size_usd": 600.0, "coupon": 0.12},
    {"name": "B", "size_usd": 300.0, "coupon": 0.24},
    {"name": "R"},
]


HALVES = PoolFile.model_validate({"tranches": [{"name": "A", "share": 0.5, "coupon": 0.1}, {"name": "R"}]})


def cash(months, **rows):
    """A path's cash of dollars by month from 1."""
    columns = {f.name: np.zeros((1, months + 1), dtype=np.int64) for f in dataclasses.fields(PoolCash)}
    for name, values in rows.items():
        columns[name][0, 1 : len(values) + 1] = np.rint(np.array(values) * 100)
    return PoolCash(**columns)


def structure(market, horizon, months, *, undrawn=0, last_draw=0, **keys):
    file = PoolFile.model_validate({"tranches": NOTES} | keys)
    world = market(horizon_months=horizon)
    return Structure.of(file, world, balance=100_000 - undrawn, undrawn=undrawn, last_draw=last_draw, months=months)


def with_tests(**tests):
    return [NOTES[0], NOTES[1] | tests, NOTES[2]]


def dollars(flows):
    return (flows[:, 0] / 100).tolist()


def test_a_default_and_a_test_that_fails(market):
    """A owes 600 at 1 % a month, B 300 at 2 %; month 2 loses 200 of the pool's 900, of which 70 come back later."""
    s = structure(market, 3, 4, tranches=with_tests(overcollateralisation=0.9))
    flows = run_waterfall(
        s, cash(4, interest=[30, 27, 21], principal=[100, 0, 0], recovery=[0, 0, 50, 20], balance=[900, 700, 700])
    )
    # month 2: 700 / 0.9 = 777.77 stand behind A and B, who are owed 800: 22.23 are wanted, the 16 left of interest are there
    # month 3: 750 repay A's 484 and 266 of B's 300; month 4: 20 of B's 34
    assert dollars(flows.interest) == [
        [0, 6.00, 5.00, 4.84, 0],
        [0, 6.00, 6.00, 6.00, 0],
        [0, 18.00, 0, 10.16, 0],
    ]
    assert dollars(flows.principal) == [[0, 100, 16, 484, 0], [0, 0, 0, 266, 20], [0, 0, 0, 0, 0]]
    assert flows.owed[:, 0].tolist() == [0, 1400, 10_000]
    assert flows.deferred[:, 0].tolist() == [0, 68, 0]  # 2 % of 34, in month 4, in which no interest came in
    assert (flows.failed[0], flows.trapped[0]) == (1, 1600)


def test_fees_reserve_and_shares(market):
    """A reserve of a tenth of 900 covers the fees and A's interest in month 1; B's 6 wait a month."""
    s = structure(market, 3, 3, allocation="pro-rata", reserve={"share": 0.1}, fees={"rate": 0.12})
    assert s.reserve == 9000
    flows = run_waterfall(s, cash(3, interest=[5, 50, 0], principal=[100, 0, 0], balance=[900, 900, 900]))
    # month 1: fees 10 (5 from interest, 5 from the reserve), A 6 from the reserve: 79 are left
    # month 2: fees 9, A 5.40, B 5.40 + 6, the reserve 2 up to a tenth of 810, the residual 22.20
    # month 3: the reserve's 81 are interest: fees 9, A 5.40, B 5.40, the residual 61.20
    assert flows.fees.tolist() == [2800]
    assert dollars(flows.interest) == [[0, 6.00, 5.40, 5.40], [0, 0, 11.40, 5.40], [0, 0, 22.20, 61.20]]
    assert dollars(flows.principal) == [[0, 60, 0, 540], [0, 30, 0, 270], [0, 10, 0, 90]]
    assert not flows.owed.any() and not flows.deferred.any()


def test_interest_cover_traps_what_is_left(market):
    s = structure(market, 2, 2, tranches=with_tests(interest_cover=2.5))
    flows = run_waterfall(s, cash(2, interest=[29.99, 40], principal=[0, 0], balance=[1000, 1000]))
    # month 1: 29.99 / 12 is below 2.5: the 17.99 left of interest repay A, who is owed 582.01 at 1 % in month 2
    assert dollars(flows.principal) == [[0, 17.99, 582.01], [0, 0, 300], [0, 0, 100]]
    assert dollars(flows.interest) == [[0, 6, 5.82], [0, 6, 6], [0, 0, 46.17]]  # 28.18, and the 17.99 that the pool has more
    assert flows.failed.tolist() == [1]


@pytest.mark.parametrize("turbo, paid", [("never", 0), ("always", 18)])
def test_turbo(market, turbo, paid):
    s = structure(market, 2, 2, turbo=turbo)
    flows = run_waterfall(s, cash(2, interest=[30, 0], balance=[1000, 1000]))
    assert dollars(flows.principal)[0][1] == paid
    assert flows.trapped.tolist() == [100 * paid]


def test_draws_come_out_of_the_prefunding_account(market):
    """200 are prefunded, 150 drawn in month 2; the other 50 have lapsed by the last draw, month 3, and repay A."""
    s = structure(market, 4, 4, undrawn=20_000, last_draw=3)
    flows = run_waterfall(s, cash(4, interest=[40] * 4, drawn=[0, 150, 0, 0], balance=[800, 950, 950, 950]))
    assert flows.drawn.tolist() == [15_000]
    assert dollars(flows.principal)[0] == [0, 0, 0, 50, 550]


def test_a_spread_is_over_the_base_curve(market):
    notes = [{"name": "A", "size_usd": 600.0, "spread": 0.02}, {"name": "R"}]
    world = market(horizon_months=3, base_rate={"months": [0, 1], "rates": [0.04, 0.04]})
    file = PoolFile.model_validate({"tranches": notes})
    s = Structure.of(file, world, balance=100_000, undrawn=0, last_draw=0, months=3)
    assert np.allclose(s.rates[0], 0.06 / 12)


STRUCTURES = [
    {},
    {"allocation": "pro-rata", "turbo": "always"},
    {"turbo": "never", "fees": {"rate": 0.03, "usd_per_year": 7e5}, "reserve": {"share": 0.07}},
    {"allocation": "pro-rata", "fees": {"rate": 0.2}, "reserve": {"share": 0.3}},
]


def commitment(pool):
    """Balance and undrawn, cents."""
    return pool.structure.opening + pool.structure.undrawn


def cash_of(run, pool):
    """What all loans of a run pay and owe."""
    return NumpyReference().pool_cash(run.plan, run.seed, 0, run.n_paths, pool.plain)


@pytest.mark.parametrize("changes", STRUCTURES)
@pytest.mark.parametrize("workers", [1, 3])
def test_compiled_payments_are_the_references(run, changes, workers):
    """Of the bundled pool, and of one that gets a tenth of its interest now and then: every integer."""
    file = PoolFile.model_validate(read_pool("neocloud-2024").model_dump() | changes)
    pool = Pool.of(run.plan, run.portfolio, file)
    found = cash_of(run, pool)
    chance = np.random.default_rng(3)
    poor = dataclasses.replace(
        found,
        interest=np.where(chance.random(found.interest.shape) < 0.3, found.interest // 10, found.interest),
        recovery=found.recovery // 2,
    )
    s = pool.structure
    for cash in (found, poor):
        mine, other = compiled_payments(s, cash, workers), reference_payments(s, cash)
        for field in dataclasses.fields(Payments):
            a, b = getattr(mine, field.name), getattr(other, field.name)
            assert a.shape == b.shape
            if field.name == "yields":
                assert np.allclose(a, b, rtol=1e-11, atol=1e-12)
            else:
                assert np.array_equal(a, b, equal_nan=field.name == "lives"), field.name
    assert mine.failed.any() or not any(note.has_tests for note in file.tranches)


def test_compiled_cash_that_does_not_balance_is_told(run, monkeypatch):
    """The check of each path can fail: a fee that is paid to nobody."""
    monkeypatch.setattr("gpuloan_mc.engines.numba_payments.check_balance", lambda missing: check_balance(missing + 1))
    with pytest.raises(AssertionError, match="300 paths pay out what they did not get"):
        dataclasses.replace(run, engine="numba").waterfall("neocloud-2024")


def test_lives_and_yields():
    principal = np.array([[0, 0, 0, 100], [0, 50, 0, 50], [0, 0, 0, 0]])
    assert lives(principal)[:2].tolist() == [0.25, 1 / 6]
    assert math.isnan(lives(principal)[2])
    month = 0.01
    flows = np.zeros((4, 25))
    flows[0, 1:], flows[0, 24] = 1, 101  # a bond at par
    flows[1, 12] = 100 * (1 + month) ** 12
    flows[2, 24] = 10
    found = internal_rate(flows, np.full(4, 100.0))
    assert found[:2] == pytest.approx([1.01**12 - 1] * 2, abs=1e-12)
    assert found[2] == pytest.approx(0.1**0.5 - 1, abs=1e-12)
    assert found[3] == -1


# --- the cash of loans ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run():
    portfolio = Portfolio.read("neocloud-2024")
    return simulate(portfolio, portfolio.market, n_paths=300, seed=4, engine="numpy")


def test_what_is_lent_comes_back_or_is_lost(run):
    """Σ exposure - Σ recovery is the path's loss; balances roll forward but for interest that joins them and cents."""
    pool = Pool.of(run.plan, run.portfolio, read_pool("neocloud-2024"))
    found = cash_of(run, pool)
    assert np.array_equal(found.defaulted.sum(axis=1) - found.recovery.sum(axis=1), run.losses)
    opening = np.concatenate([np.full((run.n_paths, 1), pool.structure.opening), found.balance[:, 1:-1]], axis=1)
    gone = found.principal[:, 1:] + found.defaulted[:, 1:]  # the exposure has a month's interest in it
    grown = found.balance[:, 1:] - (opening + found.drawn[:, 1:] - gone)
    horizon = run.horizon_months
    assert np.all(grown[:, :horizon] >= -run.n_loans - commitment(pool) * 2.0**-23)  # a draw joins the balance in float32
    assert np.all(found.interest[:, 1 : horizon + 1].sum(axis=1) > 0)
    assert not found.interest[:, horizon + 1 :].any()


def test_without_defaults_the_plain_loans_pay_their_schedule(market, pool_of_plain_loans):
    book = pool_of_plain_loans
    result = simulate(book, book.market, n_paths=50, seed=1, engine="numpy")
    whole = Pool.of(result.plan, book, HALVES)
    found = cash_of(result, whole)
    kept = result.losses == 0
    assert kept.any() and not kept.all()
    assert np.array_equal(
        found.principal[kept].sum(axis=1), np.full(kept.sum(), commitment(whole)) - found.balance[kept, 24]
    )
    assert np.array_equal(found.interest[kept][:, 1], np.full(kept.sum(), round(2 * 1e8 * 0.06 / 12)))
    assert np.array_equal(found.defaulted.sum(axis=1) - found.recovery.sum(axis=1), result.losses)


@pytest.fixture
def pool_of_plain_loans(market, book):
    world = market(horizon_months=24, hazard_classes=[{"name": "risky", "hazard": 0.3}])
    loan = {"borrower_id": "P", "balance_usd": 1e6, "rate": 0.06, "term_months": 24, "lgd": 0.4}
    rows = [loan | {"loan_id": "L1"}, loan | {"loan_id": "L2", "amortisation": "linear", "borrower_id": "Q"}]
    rows.append(
        {"loan_id": "L3", "borrower_id": "Q", "balance_usd": 0.0, "undrawn_usd": 5e5, "draw_month": 6, "rate": 0.06,
         "term_months": 30, "lgd": 0.4}
    )  # fmt: skip
    return book(world, rows, [{"obligor_id": x, "hazard_class": "risky"} for x in "PQ"])


@pytest.mark.parametrize(
    "changes", [{}, {"allocation": "pro-rata", "turbo": "always"}, {"turbo": "never", "fees": {"rate": 0.03}}]
)
def test_cash_in_is_cash_out_on_every_path(run, changes):
    """`run_waterfall` compares them and raises; what the pool loses its tranches lose, but for interest in between."""
    file = read_pool("neocloud-2024")
    found = run.waterfall(PoolFile.model_validate(file.model_dump() | changes))
    assert found.losses.shape == (4, run.n_paths)
    assert np.all(found.losses >= 0)
    sizes = np.array(found.structure.sizes)
    for k in range(len(sizes) - 1):  # a tranche loses only after those below it have lost all
        hit = found.losses[k] > 0
        assert (
            np.array_equal(found.losses[k + 1, hit], np.full(hit.sum(), sizes[k + 1])) or "pro-rata" in changes.values()
        )
    assert sizes.sum() == commitment(Pool.of(run.plan, run.portfolio, file))


def test_the_table_has_an_error_on_every_figure(run):
    found = run.waterfall("neocloud-2024", 200)
    table = found.table
    assert list(table["tranche"]) == ["A", "B", "C", "residual"]
    assert np.all(table["paths"] == 200)
    assert np.all(np.diff(table["expected_loss_share"]) >= 0)
    assert table[["expected_loss_se_usd", "yield_se", "life_se_years"]].notna().all().all()
    months = found.months
    owed = months.groupby("tranche")["owed_usd"].last().loc[table["tranche"]]
    assert owed.to_numpy() == pytest.approx(table["expected_loss_usd"].to_numpy(), abs=0.01)


# --- bad input --------------------------------------------------------------------------------------------------------

BROKEN = {
    "doubled-name": {"tranches": [NOTES[0], NOTES[1] | {"name": "A"}, NOTES[2]]},
    "one-of": {"tranches": [NOTES[0] | {"share": 0.5}, NOTES[2]]},
    "residual": {"tranches": [NOTES[0], NOTES[1]]},
    "no-test": {"tranches": NOTES, "turbo": "breach"},
    "pool-size": {"tranches": [{"name": n, "share": 0.5, "coupon": 0.1} for n in "AB"] + [{"name": "R"}]},
    "unknown-key": {"tranches": [NOTES[0] | {"overcollateralization": 1.2}, NOTES[2]]},
    "list-length": {"tranches": [NOTES[0]]},
    "market-range": {"tranches": [NOTES[0] | {"interest_cover": 0.0}, NOTES[2]]},
    "missing-key": {},
}  # fmt: skip


def written(folder, tables):
    """A pool.toml of these tables."""
    lines = [f"{k} = {json.dumps(v)}" for k, v in tables.items() if k != "tranches"]
    for note in tables.get("tranches", []):
        lines += ["[[tranches]]", *(f"{k} = {json.dumps(v)}" for k, v in note.items())]
    path = folder / "pool.toml"
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("rule", BROKEN)
def test_a_wrong_pool_is_told(tmp_path, rule):
    with pytest.raises(InputRejected) as caught:
        read_pool(written(tmp_path, BROKEN[rule]))
    assert {p.rule for p in caught.value.problems} == {rule}
    assert all(p.file == "pool.toml" for p in caught.value.problems)


def test_the_way_out_names_the_key(tmp_path):
    with pytest.raises(InputRejected, match="Did you mean overcollateralisation"):
        read_pool(written(tmp_path, BROKEN["unknown-key"]))


@pytest.mark.parametrize("pool", ["nothing.toml", "vasicek-100"])
def test_a_pool_that_is_not_there(pool):
    with pytest.raises(InputRejected) as caught:
        read_pool(pool)
    assert [p.rule for p in caught.value.problems] == ["no-pool"]


def test_tranches_larger_than_the_book_and_too_many_paths(run):
    huge = PoolFile.model_validate({"tranches": [{"name": "A", "size_usd": 1e9, "coupon": 0.1}, {"name": "R"}]})
    size = commitment(Pool.of(run.plan, run.portfolio, huge)) / 100
    assert size > 1e9
    too_much = huge.model_copy(
        update={"tranches": [huge.tranches[0].model_copy(update={"size_usd": size}), huge.tranches[1]]}
    )
    with pytest.raises(InputRejected, match="pool-size"):
        run.waterfall(too_much)
    with pytest.raises(UsageError, match="n_paths"):
        run.waterfall(huge, 301)


# --- layers, pro-rata -------------------------------------------------------------------------------------------------


def test_pro_rata_layers_share_every_loss(run):
    layers = ["0:0.1", "0.1:0.3", "0.3:1"]
    found = run.tranches(layers, allocation="pro-rata").table
    below = run.tranches(layers).table
    assert found["loss_cents"].sum() == below["loss_cents"].sum() == int(run.losses.sum())
    assert found["expected_loss_share"].to_numpy() == pytest.approx(found["expected_loss_share"].iloc[0], rel=1e-6)
    assert np.all(found["paths_with_loss"] >= below["paths_with_loss"])
    years = run.tranches(layers, allocation="pro-rata").by_year
    assert years["loss_cents"].sum() == int(run.losses.sum())


def test_an_unknown_allocation_is_refused(run):
    with pytest.raises(UsageError, match="allocation"):
        run.tranches(["0:0.1"], allocation="shared")


def test_a_path_that_loses_otherwise_is_told(run):
    other = dataclasses.replace(run, losses=run.losses + 1)
    with pytest.raises(UsageError, match="path 0 loses"):
        other.waterfall("neocloud-2024", 10)


def test_warmup_compiles_what_a_waterfall_takes():
    found = CliRunner().invoke(cli.cli, ["warmup"])
    assert found.exit_code == 0
    assert re.fullmatch(r"engine numba: .+\nwaterfall: ready in \d+\.\d s\n", found.output)
    ready = set(numba_compile._compiled)
    portfolio = Portfolio.read("neocloud-2024")
    run = simulate(portfolio, portfolio.market, n_paths=64, engine="numba")
    tranche_cash(run, "neocloud-2024")
    assert set(numba_compile._compiled) == ready
