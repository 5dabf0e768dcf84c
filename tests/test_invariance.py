"""The promise: a path's loss depends on book, market, seed and path alone. Integers, so no tolerance."""

import numpy as np
import pytest

from gpuloan_mc.digest import loss_digest
from gpuloan_mc.engines.numpy_reference import NumpyReference
from gpuloan_mc.plan import Plan
from gpuloan_mc.planning import build_plan
from gpuloan_mc.simulation import simulate

N = 300


def gpu_book(market, gpu, book, overhang=0.8, **recovery):
    """Twelve loans in trouble: two generations, shared tenants and parents, draws, covenants, sales with impact."""
    part = gpu({"volatility": 0.3, "opex_usd_per_hour": 0.4, "cost_when_new_usd": 45_000.0, "scrap_share": 0.05})
    first = part["generations"][0] | {"depth_chips": 20_000.0}
    part["generations"] = [first, first | {"name": "B200", "launch_month": 3, "price_usd_per_hour": 3.0}]
    part |= {
        "spot": {"premium": 1.35, "mean_reversion": 6.0, "volatility": 0.6, "fee": 0.1},
        "launches": {"first_month": 3.0, "cadence_months": 8.0, "lag_mean_months": 4.0, "ramp_months": 12.0, "impact": 0.3,
                     "gain_mean": 0.4, "gain_sd": 0.15},
        "rival_launches": {"first_month": 9.0, "lag_mean_months": 12.0, "impact": 1.0, "gain_mean": 0.05},
        "overhang": {"impact": overhang, "absorption": 1.0, "own_weight": 0.75},
        "utilisation": {"level": 0.82, "slope": 0.1, "low": 0.4, "high": 0.95},
        "contracts": {"paid_share": 0.97, "renewal": [0.8, 0.3], "renewal_term_months": 6},
        "recovery": {"step_in": 0.5, "lag_mean_months": 3.0, "lag_shape": 4.0, "lag_max_months": 8, "haircut_mean": 0.2,
                     "haircut_sd": 0.1, "sale_cost": 0.06, "sale_impact": 0.8, "storage_share": 0.3, "lenders_yield": 0.1}
        | recovery,
    }  # fmt: skip
    world = market(
        horizon_months=30,
        base_rate={"rates": [0.045]},
        demand={"mean_reversion": 2.0, "volatility": 0.3, "jumps_per_year": 0.5, "jump_down_share": 0.6, "jump_mean": 0.1},
        regimes={"names": ["calm", "glut"], "means": [0.1, -0.5], "transitions": [[0, 0.5], [0.8, 0]], "initial": "calm"},
        hazard_classes=[
            {"name": "parent", "hazard": 0.08, "regime_multipliers": [0.7, 2.2], "demand_sensitivity": 1.0,
             "overhang_sensitivity": 0.5 if overhang else 0.0},
            {"name": "tenant", "hazard": 0.15, "regime_multipliers": [0.7, 2.2], "claim_recovery": 0.3},
        ],
        dependence={"factors": ["demand", "credit"], "correlation": [[1, 0.2], [0.2, 1]]},
        gpu=part,
    )  # fmt: skip
    obligors = [
        {"obligor_id": f"{kind[0]}{i}", "hazard_class": kind, "loading_demand": 0.3, "loading_credit": 0.4}
        for kind in ("parent", "tenant")
        for i in range(4)
    ]
    loans, deployments = [], []
    for i in range(12):
        loans.append(
            {
                "loan_id": f"L{i:02}", "borrower_id": f"p{i % 4}", "balance_usd": 15e6 + 1e5 * i, "spread": 0.06,
                "amortisation": ["annuity", "linear", "bullet"][i % 3], "term_months": 18 + i, "reserve_usd": 5e5,
                "reserve_months": 2.0, "dscr_lockup": 1.2, "dscr_default": 1.05, "dscr_default_months": 4,
                "remoteness": 0.6, "sweep_share": 0.25, "support_usd": 1e5 * (i % 2), "ltv_cap": 1.2 * (i % 2),
                "refinance_ltv": 0.4 * (i % 2), "undrawn_usd": 3e6 * (i % 4 == 0), "draw_month": 5 if i % 4 == 0 else 0,
            }
        )  # fmt: skip
        for j in range(1 + i % 2):
            let = (i + j) % 3 > 0
            deployments.append(
                {
                    "deployment_id": f"D{i:02}{j}", "loan_id": f"L{i:02}", "gpu": ["H100", "B200"][j], "units": 700 + 10 * i,
                    "in_service_month": [0, 4][j], "tenant_id": f"t{i % 4}" if let else "",
                    "price_usd_per_hour": 2.4 if let else None, "contract_months": 10 + i if let else None,
                }
            )  # fmt: skip
    plain = [
        {"loan_id": f"P{i}", "borrower_id": f"p{i % 4}", "balance_usd": 1e6, "rate": 0.08, "term_months": 24, "lgd": 0.5,
         "lgd_sd": 0.2, "lgd_loading": 0.3}
        for i in range(3)
    ]  # fmt: skip
    return world, book(world, loans + plain, obligors, deployments)


@pytest.fixture
def busy(market, gpu, book):
    return gpu_book(market, gpu, book)


def test_the_book_exercises_the_model(busy):
    world, portfolio = busy
    result = simulate(portfolio, world, n_paths=2000)
    assert all(m.total > 0 for m in result.loss_by_cause.values())
    assert 0.2 < result.default_rate < 0.9
    assert result.losses.min() >= 0
    assert np.all(result.losses <= result.defaulted_balance)
    assert np.all(result.largest_loss <= result.losses)
    assert np.all(result.discounted_losses <= result.losses)


def test_totals_add_up_exactly(busy):
    world, portfolio = busy
    result = simulate(portfolio, world, n_paths=N)
    total = int(result.losses.sum())
    assert sum(m.total for m in result.loss_by_year) == total
    assert sum(m.total for m in result.loss_by_cause.values()) == total
    assert int(result.loan_totals["loss"].sum()) == total
    assert int(result.loan_totals["ead"].sum()) == int(result.defaulted_balance.sum())
    assert int(result.loan_totals["defaults"].sum()) == int(result.defaults.sum())


@pytest.mark.parametrize("chunk", [1, 7, N])
def test_chunks_do_not_matter(busy, chunk):
    world, portfolio = busy
    n = 40 if chunk == 1 else N
    whole = simulate(portfolio, world, n_paths=n, seed=5)
    parts = simulate(portfolio, world, n_paths=n, seed=5, chunk=chunk)
    assert whole.digest == parts.digest
    assert np.array_equal(whole.discounted_losses, parts.discounted_losses)
    assert whole.loss_by_cause == parts.loss_by_cause


def test_a_run_is_a_prefix_of_a_longer_one(busy):
    world, portfolio = busy
    long, short = (simulate(portfolio, world, n_paths=n, seed=5).losses for n in (N, 101))
    assert np.array_equal(long[:101], short)
    assert loss_digest(long[:101]) == simulate(portfolio, world, n_paths=101, seed=5).digest


def test_a_chunk_in_the_middle_is_the_same_paths(busy):
    world, portfolio = busy
    plan = build_plan(portfolio, world)
    whole = NumpyReference().run(plan, 5, 0, 120)
    middle = NumpyReference().run(plan, 5, 77, 13)
    assert np.array_equal(whole.loss[77:90], middle.loss)
    assert np.array_equal(whole.defaults[77:90], middle.defaults)


def test_row_order_does_not_matter(busy):
    world, portfolio = busy
    frames = {n: getattr(portfolio, n).sample(frac=1, random_state=4) for n in ("loans", "deployments", "obligors")}
    shuffled = portfolio.replace(**frames)
    one, other = (simulate(p, world, n_paths=N, seed=5) for p in (portfolio, shuffled))
    assert one.plan_digest == other.plan_digest
    assert one.digest == other.digest


def test_seeds_differ_and_two_runs_agree(busy):
    world, portfolio = busy
    digests = [simulate(portfolio, world, n_paths=N, seed=s).digest for s in (5, 5, 6, 2**64 - 1)]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_a_saved_plan_gives_the_same_integers(busy, tmp_path):
    world, portfolio = busy
    plan = build_plan(portfolio, world)
    (tmp_path / "plan.npz").write_bytes(plan.to_bytes())
    loaded = Plan.load(tmp_path / "plan.npz")
    assert loaded.digest == plan.digest
    assert np.array_equal(NumpyReference().run(loaded, 5, 0, N).loss, NumpyReference().run(plan, 5, 0, N).loss)


def test_another_loan_leaves_the_others_alone_when_nothing_is_fed_back(market, gpu, book):
    world, portfolio = gpu_book(market, gpu, book, overhang=0.0, sale_impact=0.0)
    fewer = portfolio.replace(
        loans=portfolio.loans[portfolio.loans["loan_id"] != "L05"],
        deployments=portfolio.deployments[portfolio.deployments["loan_id"] != "L05"],
    )
    all_, some = (simulate(p, world, n_paths=N, seed=5).loan_totals for p in (portfolio, fewer))
    kept = all_["loan_ids"] != "L05"
    for name in ("defaults", "ead", "loss"):
        assert np.array_equal(all_[name][kept], some[name])


def test_switched_off_feedback_is_no_feedback(market, gpu, book):
    """α = d = 0: chips of other loans that come back change nothing, bit for bit (docs/model.md 8.10)."""
    world, portfolio = gpu_book(market, gpu, book, overhang=0.0)
    flooded = world.replace(
        gpu=world.gpu.replace(
            overhang=world.gpu.overhang.replace(calendar=[{"gpu": "H100", "month": 6, "units": 10_000_000}])
        )
    )
    assert simulate(portfolio, world, n_paths=N).digest == simulate(portfolio, flooded, n_paths=N).digest


def shortfall(world, portfolio):
    result = simulate(portfolio, world, n_paths=1500, seed=3)
    return result.expected_shortfall[0.95], result.expected_shortfall_se[0.95]


def test_shortfall_grows_with_impact_leverage_and_lag(market, gpu, book):
    """Common random numbers, within the error (docs/model.md 8.10)."""
    world, portfolio = gpu_book(market, gpu, book)
    base, error = shortfall(world, portfolio)
    milder, _ = shortfall(*gpu_book(market, gpu, book, overhang=0.0))
    assert milder < base + error
    slower = world.replace(gpu=world.gpu.replace(recovery=world.gpu.recovery.replace(lag_mean_months=6.0)))
    assert shortfall(slower, portfolio)[0] > base - error
    loans = portfolio.loans.copy()
    loans["balance_usd"] *= 1.15
    assert shortfall(world, portfolio.replace(loans=loans))[0] > base
