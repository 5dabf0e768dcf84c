"""A run that pays the tranches of a pool on every path: the same integers on both engines, in any chunks, stopped or not."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from gpuloan_mc import cli, resume, simulate
from gpuloan_mc.engines import numba_payments
from gpuloan_mc.engines.base import check_cash
from gpuloan_mc.engines.numba_cpu import NumbaCpu
from gpuloan_mc.engines.numba_payments import Payer, compiled_payments
from gpuloan_mc.engines.numba_waterfall import BEYOND
from gpuloan_mc.engines.numpy_reference import NumpyReference
from gpuloan_mc.errors import EnvironmentProblem, InputRejected, Interrupted, UsageError
from gpuloan_mc.example import write_example
from gpuloan_mc.forecast import forecast
from gpuloan_mc.inputs.pool_file import PoolFile, read_pool
from gpuloan_mc.ledger import Ledger
from gpuloan_mc.payments import COLUMNS, SUMS, Payments, as_floats, carried, reference_payments
from gpuloan_mc.planning import build_plan
from gpuloan_mc.portfolio import Portfolio
from gpuloan_mc.receipts import Pool
from gpuloan_mc.saved_run import SavedRun
from gpuloan_mc.target import Target
from gpuloan_mc.verification import verify

N = 3000
BOOK = "neocloud-2024"
THIRDS = PoolFile.model_validate(
    {
        "allocation": "pro-rata",
        "turbo": "breach",
        "fees": {"rate": 0.004, "usd_per_year": 3e4},
        "reserve": {"share": 0.03},
        "tranches": [
            {"name": "A", "share": 0.6, "coupon": 0.05, "overcollateralisation": 1.1},
            {"name": "B", "share": 0.25, "coupon": 0.08, "interest_cover": 1.4},
            {"name": "R"},
        ],
    }
)


def run_of(book=BOOK, n_paths=N, pool=BOOK, **how):
    portfolio = Portfolio.read(book)
    return simulate(portfolio, portfolio.market, n_paths=n_paths, seed=2, pool=pool, **({"engine": "numba"} | how))


def unlike(mine: Payments, other: Payments) -> list[str]:
    """Columns and sums that are not the same bits."""
    return [n for n in (*COLUMNS, *SUMS) if not np.array_equal(getattr(mine, n), getattr(other, n), equal_nan=n == "lives")]


@pytest.fixture(scope="module")
def run():
    return run_of()


# --- the same on all engines ------------------------------------------------------------------------------------------


def assert_same_payments(plan, portfolio, file, seed, first, n):
    """Engine numba's against the reference's, which adds plain loans by another way."""
    pool = Pool.of(plan, portfolio, file)
    mine, other = (e.run(plan, seed, first, n, pool=pool) for e in (NumbaCpu(2), NumpyReference()))
    assert np.array_equal(mine.loss, other.loss)
    assert unlike(mine.payments, other.payments) in ([], ["yields"])
    assert np.allclose(mine.payments.yields, other.payments.yields, rtol=1e-11, atol=1e-12)
    return mine.payments


def test_payments_of_the_bundled_book():
    portfolio = Portfolio.read(BOOK)
    found = assert_same_payments(build_plan(portfolio, portfolio.market), portfolio, read_pool(BOOK), 5, 2, 301)
    assert found.losses[-1].any() and found.failed.any()


def test_payments_of_plain_loans():
    portfolio = Portfolio.read("vasicek-100")
    found = assert_same_payments(build_plan(portfolio, portfolio.market), portfolio, THIRDS, 5, 1, 400)
    assert found.losses[-1].any()


@pytest.mark.parametrize("overhang", [0.0, 0.8])
def test_payments_of_both_kinds_of_loans(busy_book, overhang):
    world, portfolio = busy_book(overhang)
    plan = build_plan(portfolio, world)
    assert len(plan.plain.index) and len(plan.loans.key)
    found = assert_same_payments(plan, portfolio, THIRDS, 2**64 - 1, 3, 300)
    assert found.failed.any() and found.shortfalls.any()


def test_payments_of_several_tiles(tmp_path):
    write_example(tmp_path / "book", n_loans=300, seed=3)
    portfolio = Portfolio.read(tmp_path / "book")
    assert_same_payments(build_plan(portfolio, portfolio.market), portfolio, THIRDS, 4, 3, 70)


def test_cash_of_plain_loans_that_draw(market, book):
    world = market(horizon_months=24, hazard_classes=[{"name": "risky", "hazard": 0.5}])
    loan = {"borrower_id": "P", "balance_usd": 1e6, "rate": 0.06, "term_months": 24, "lgd": 0.4}
    draws = {"balance_usd": 2e5, "undrawn_usd": 5e5, "draw_month": 6, "term_months": 30}
    rows = [loan | {"loan_id": "L2", "amortisation": "linear"}, loan | {"loan_id": "L1", "borrower_id": "Q"} | draws]
    portfolio = book(world, rows, [{"obligor_id": x, "hazard_class": "risky"} for x in "PQ"])
    plan = build_plan(portfolio, world)
    plain = Pool.of(plan, portfolio, THIRDS).plain
    assert plain.drawn.any()
    mine, other = (e.pool_cash(plan, 4, 3, 70, plain) for e in (NumbaCpu(2), NumpyReference()))
    for field in dataclasses.fields(mine):
        assert np.array_equal(getattr(mine, field.name), getattr(other, field.name)), field.name
        assert getattr(mine, field.name).any(), field.name


def plan_and_pool(file=THIRDS):
    portfolio = Portfolio.read(BOOK)
    plan = build_plan(portfolio, portfolio.market)
    return plan, Pool.of(plan, portfolio, file)


def test_paths_whose_cents_are_not_exact_are_the_references(monkeypatch):
    plan, pool = plan_and_pool()
    expected = NumpyReference().run(plan, 1, 0, 50, pool=pool).payments
    monkeypatch.setattr(Payer, "is_exact", False)
    monkeypatch.setattr(Payer, "payments", None)
    monkeypatch.setattr("gpuloan_mc.engines.numba_cpu._REFERENCE_AT_ONCE", 17)
    assert unlike(NumbaCpu(2).run(plan, 1, 0, 50, pool=pool).payments, expected) == []


@pytest.mark.parametrize("is_exact", [True, False])
def test_cash_near_the_end_of_whole_floats_is_seen(is_exact, monkeypatch):
    """One path of many on which a month's interest is the bound, or half of it."""
    plan, pool = plan_and_pool()
    cash = NumpyReference().pool_cash(plan, 1, 0, 70, pool.plain)
    cash.interest[69, 3] = int(BEYOND) // (2 if is_exact else 1)
    expected, asked = reference_payments(pool.structure, cash), []

    def reference(structure, cash):
        asked.append(len(cash.interest))
        return expected

    monkeypatch.setattr(numba_payments, "reference_payments", reference)
    found = compiled_payments(pool.structure, cash, 2)
    assert asked == ([] if is_exact else [70])
    assert unlike(found, expected) in ([], ["yields"])


def test_cash_that_is_not_the_losses_is_told(monkeypatch):
    plan, pool = plan_and_pool()
    cash = NumpyReference().pool_cash(plan, 1, 0, 40, pool.plain)
    losses = NumpyReference().run(plan, 1, 0, 40).loss
    check_cash(cash, losses)
    cash.recovery[5, 9] += 1
    with pytest.raises(AssertionError, match="the cash of 1 paths"):
        check_cash(cash, losses)

    def checked(cash, losses):
        check_cash(cash, losses + (losses > 0))

    for where, engine in (("numba_cpu", NumbaCpu(2)), ("numpy_reference", NumpyReference())):
        monkeypatch.setattr(f"gpuloan_mc.engines.{where}.check_cash", checked)
        with pytest.raises(AssertionError, match="paths is not that of their losses"):
            engine.run(plan, 1, 0, 40, pool=pool)


# --- however it is cut ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [{"chunk": 777}, {"workers": 1}, {"workers": 3, "chunk": 1001}])
def test_chunks_and_workers_change_nothing(run, how):
    assert unlike(run_of(**how).payments, run.payments) == []


def test_chunks_change_nothing_on_the_reference():
    assert unlike(run_of(engine="numpy", chunk=77, n_paths=200).payments, run_of(engine="numpy", n_paths=200).payments) == []


def test_nobody_can_change_what_tranches_get(run):
    for name in (*COLUMNS, *SUMS):
        with pytest.raises(ValueError, match="read-only"):
            getattr(run.payments, name)[..., 0] = 7


def test_a_run_to_a_target_has_the_payments_of_its_paths():
    found = run_of(n_paths=30_000, target=Target("el", 0.5), chunk=5000)
    assert found.n_paths < 30_000
    assert unlike(found.payments, run_of(n_paths=found.n_paths).payments) == []


def test_a_run_with_a_pool_is_the_run_without(run):
    bare = run_of(pool=None)
    assert (bare.digest, bare.payments, bare.pool) == (run.digest, None, None)
    assert np.array_equal(bare.losses, run.losses)
    assert np.array_equal(bare.by_loan.loss, run.by_loan.loss)
    again = bare.waterfall(BOOK)  # the paths are run again
    pd.testing.assert_frame_equal(again.table, run.waterfall(BOOK).table, check_exact=True)
    pd.testing.assert_frame_equal(again.months, run.waterfall(BOOK).months, check_exact=True)


def test_what_is_there_is_not_run_again(run, monkeypatch):
    monkeypatch.setattr("gpuloan_mc.tranche_cash.event_engine", None)
    about = read_pool(BOOK).model_copy(update={"about": "another sentence"})
    assert run.waterfall(about).n_paths == N
    with pytest.raises(TypeError):
        run.waterfall(THIRDS)
    with pytest.raises(TypeError):
        run.waterfall(BOOK, 10)


def test_sums_in_two_parts():
    parts = carried(np.array([[3, -1], [5 << 32, 2**33 + 7]]))
    assert parts.tolist() == [[8, 1], [0, 7]]
    assert as_floats(parts).tolist() == [8 * 2.0**32, 2.0**32 + 7]


# --- in a folder ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "out"
    return folder, run_of(out=folder)


def test_a_folder_keeps_what_the_tranches_get(written, monkeypatch):
    folder, run = written
    saved = SavedRun.read(folder)
    monkeypatch.setattr("gpuloan_mc.tranche_cash.event_engine", None)
    assert saved.pool == read_pool(BOOK)
    assert unlike(saved.payments, run.payments) == []
    found, expected = saved.waterfall(BOOK), run.waterfall(BOOK)
    pd.testing.assert_frame_equal(found.table, expected.table, check_exact=True)
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "waterfall.parquet"), expected.table, check_dtype=False)
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "waterfall_months.parquet"), expected.months, check_dtype=False)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["pool"] == read_pool(BOOK).digest
    assert {"inputs/pool.toml", "waterfall.parquet", "waterfall_months.parquet"} <= set(manifest["files"])
    for name in (*COLUMNS, *SUMS):
        with pytest.raises(ValueError, match="read-only"):
            getattr(saved.payments, name)[..., 0] = 7


def test_payments_that_are_of_another_run_are_told(tmp_path, monkeypatch):
    run_of(out=tmp_path / "out", n_paths=64)
    saved = dataclasses.replace(SavedRun.read(tmp_path / "out"), seed=3)
    with pytest.raises(UsageError, match=r"totals\.bin is of another run"):
        saved.waterfall(BOOK)


def test_verify_compares_what_the_tranches_get(tmp_path, monkeypatch):
    run_of(out=tmp_path / "out", n_paths=2500)
    with pytest.raises(Interrupted):
        resume(tmp_path / "out", extend_paths=5000, chunk=500, progress=stop_after(4000))
    assert verify(tmp_path / "out").has_payments
    for engine in ("auto", "numpy"):
        found = verify(tmp_path / "out", engine=engine, sample=2)
        assert found.agrees and found.has_payments
    of_paths = NumbaCpu.run

    def run(engine, plan, seed, first, n, **options):
        table = of_paths(engine, plan, seed, first, n, **options)
        trapped = table.payments.trapped.copy()
        trapped[3] += 1
        return dataclasses.replace(table, payments=dataclasses.replace(table.payments, trapped=trapped))

    monkeypatch.setattr(NumbaCpu, "run", run)
    assert set(verify(tmp_path / "out").different) >= {3, 1027, 2051}




def stop_after(n_paths):
    """Ctrl-C once so many paths are done."""

    def progress(done, total):
        if done >= n_paths:
            raise KeyboardInterrupt

    return progress


def stopped(folder, after):
    with pytest.raises(Interrupted):
        run_of(out=folder, chunk=500, progress=stop_after(after))


def test_a_run_that_was_stopped_goes_on(written, tmp_path):
    _, run = written
    stopped(tmp_path / "out", 1500)
    kept = sorted(p.name for p in (tmp_path / "out" / "chunks").iterdir())
    assert kept
    found = resume(tmp_path / "out")
    assert unlike(found.payments, run.payments) == []
    assert found.digest == run.digest
    pd.testing.assert_frame_equal(SavedRun.read(tmp_path / "out").waterfall(BOOK).table, run.waterfall(BOOK).table)


@pytest.mark.parametrize("pool", [None, THIRDS])
def test_chunks_of_a_run_with_another_pool_are_run_again(written, tmp_path, pool):
    _, run = written
    stopped(tmp_path / "out", 1500)
    with pytest.raises(Interrupted):
        run_of(out=tmp_path / "other", chunk=500, progress=stop_after(1500), pool=pool)
    for theirs in (tmp_path / "other" / "chunks").iterdir():
        (tmp_path / "out" / "chunks" / theirs.name).write_bytes(theirs.read_bytes())
    told = []
    found = resume(tmp_path / "out", tell=told.append)
    assert "of another run: its pool is" in told[0]
    assert unlike(found.payments, run.payments) == []


def test_a_finished_run_is_extended(tmp_path, run):
    run_of(out=tmp_path / "out", n_paths=1100)
    found = resume(tmp_path / "out", extend_paths=N)
    assert unlike(found.payments, run.payments) == []
    assert unlike(SavedRun.read(tmp_path / "out").payments, run.payments) == []
    again = resume(tmp_path / "out")
    assert unlike(again.payments, run.payments) == []


def test_a_later_run_without_a_pool_leaves_none_behind(tmp_path):
    run_of(out=tmp_path / "out", n_paths=64)
    run_of(out=tmp_path / "out", n_paths=64, pool=None)
    assert not (tmp_path / "out" / "inputs" / "pool.toml").exists()
    assert not (tmp_path / "out" / "waterfall.parquet").exists()
    saved = SavedRun.read(tmp_path / "out")
    assert (saved.pool, saved.payments) == (None, None)


def test_a_pool_that_was_changed_is_told(tmp_path):
    run_of(out=tmp_path / "out", n_paths=64)
    saved = SavedRun.read(tmp_path / "out")
    (tmp_path / "out" / "inputs" / "pool.toml").write_text("about = 'another'")
    assert saved.waterfall(BOOK).n_paths == 64  # asks for the same structure by name, and needs no other file of it
    with pytest.raises(UsageError, match=r"inputs/pool\.toml"):
        saved.report(tmp_path / "page.html")
    with pytest.raises(UsageError, match=r"inputs/pool\.toml"):
        resume(tmp_path / "out", extend_paths=100)


# --- who can't --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "where"),
    [
        ({"engine": "cuda"}, "engine cuda"),
        ({"engine": "numba-cuda"}, "engine numba-cuda"),
        ({"engine": "auto", "cluster": object()}, "workers of a cluster"),
        ({"engine": "auto", "devices": [0]}, "GPUs"),
    ],
)
def test_gpus_and_clusters_have_no_pool(how, where):
    with pytest.raises(UsageError, match=f"not by {where}: leave the pool away"):
        run_of(**how)


@pytest.mark.parametrize("pool", [3, {"tranches": []}])
def test_what_is_no_pool_is_told(pool, run):
    with pytest.raises(UsageError, match=r"pool is .*; it must be a PoolFile"):
        run_of(pool=pool)
    with pytest.raises(UsageError, match=r"pool is .*; it must be a PoolFile"):
        run.waterfall(pool)


def test_more_than_memory_holds_is_refused_before_the_run():
    plan, pool = plan_and_pool(read_pool(BOOK))
    with pytest.raises(EnvironmentProblem, match=r"takes 152,000,000,000,000 bytes of memory.*--paths N"):
        Ledger(plan, 10**12, pool)


def test_tranches_that_leave_no_residual_are_refused_before_the_run(tmp_path):
    size = {"name": "A", "size_usd": 9e11, "coupon": 0.1}
    run_of(out=tmp_path / "out", n_paths=16)
    with pytest.raises(InputRejected, match="pool-size"):
        run_of(pool=PoolFile.model_validate({"tranches": [size, {"name": "R"}]}), out=tmp_path / "out")
    assert SavedRun.read(tmp_path / "out").n_paths == 16


def test_auto_takes_numba():
    assert run_of(engine="auto", n_paths=16).engine == "numba"


def test_commands(tmp_path):
    out = str(tmp_path / "out")
    arguments = ["run", BOOK, "--paths", "300", "--pool", BOOK, "--out", out, "--progress", "none"]
    found = CliRunner().invoke(cli.cli, arguments)
    assert found.exit_code == 0, found.output
    assert "principal that is never paid" in found.output
    again = CliRunner().invoke(cli.cli, ["resume", out, "--extend-paths", "400", "--progress", "none"])
    assert again.exit_code == 0, again.output
    assert "400 paths; a test fails" in again.output
    asked = CliRunner().invoke(cli.cli, ["waterfall", out, "--pool", BOOK])
    assert asked.output.strip().splitlines()[-4:] == again.output.strip().splitlines()[-4:]
    checked = CliRunner().invoke(cli.cli, ["verify", out])
    assert "every integer agrees, those of the pool's tranches too" in checked.output
    page = CliRunner().invoke(cli.cli, ["report", out, "-o", str(tmp_path / "page.html")])
    assert page.exit_code == 0, page.output
    assert "waterfall" in (tmp_path / "page.html").read_text()


def test_json_has_the_tranches(tmp_path):
    arguments = ["run", BOOK, "--paths", "300", "--pool", BOOK, "--json", "--out", str(tmp_path / "out")]
    found = CliRunner().invoke(cli.cli, arguments)
    assert found.exit_code == 0, found.output
    rows = json.loads(found.stdout)["waterfall"]
    table = pd.read_parquet(tmp_path / "out" / "waterfall.parquet")
    assert [row["tranche"] for row in rows] == list(table["tranche"])
    assert [row["expected_loss_usd"] for row in rows] == list(table["expected_loss_usd"])
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["waterfall"] == rows
    bare = CliRunner().invoke(cli.cli, ["run", BOOK, "--paths", "300", "--json"])
    assert json.loads(bare.stdout)["waterfall"] is None


def test_a_forecast_counts_the_pool():
    bare, paid = (forecast_of(pool) for pool in (None, BOOK))
    assert paid.result_bytes - bare.result_bytes == 10**7 * (4 * 32 + 24)
    assert paid.host_bytes > bare.host_bytes
    with pytest.raises(UsageError, match="leave the pool away"):
        forecast_of(BOOK, engine="cuda")
    found = CliRunner().invoke(cli.cli, ["plan", BOOK, "--pool", BOOK, "--paths", "1000"])
    assert found.exit_code == 0, found.output


def forecast_of(pool, engine="auto"):
    portfolio = Portfolio.read(BOOK)
    return forecast(portfolio, portfolio.market, n_paths=10**7, chunk=5000, pool=pool, engine=engine)
