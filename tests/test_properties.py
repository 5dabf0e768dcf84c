"""Whatever the book: finite figures in order, and what must grow or double does (docs/model.md 8)."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuloan_mc.engines.numpy_reference import NumpyReference
from gpuloan_mc.errors import InputRejected
from gpuloan_mc.market import Market
from gpuloan_mc.planning import build_plan
from gpuloan_mc.portfolio import Portfolio
from gpuloan_mc.simulation import simulate

N = 30
FEW = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
MANY = settings(max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def share(low: float = 0.0, high: float = 1.0) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_subnormal=False).map(lambda x: round(x, 4))


@st.composite
def markets(draw: Any) -> dict[str, Any]:
    """A market of one to three regimes and generations, every switch on or off."""
    n_regimes, n_gpus = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    horizon = draw(st.integers(1, 30))
    rates = [[0.0 if i == j else draw(share(0, 3)) for j in range(n_regimes)] for i in range(n_regimes)]
    names = [f"z{i}" for i in range(n_regimes)]
    classes = [
        {
            "name": name,
            "hazard": draw(share(0, 0.8)),
            "regime_multipliers": [draw(share(0.2, 3)) for _ in names],
            "demand_sensitivity": draw(share(-1, 2)),
            "overhang_sensitivity": draw(share(0, 1)),
            "claim_recovery": draw(share()),
        }
        for name in ("a", "b")
    ]
    t_copula = draw(st.booleans())
    generations = [
        {
            "name": f"G{i}",
            "launch_month": draw(st.integers(-40, 6)),
            "price_usd_per_hour": draw(share(0.3, 5)),
            "demand_beta": draw(share(0, 1.5)),
            "decline": draw(share(-0.1, 0.8)),
            "volatility": draw(share(0, 0.6)),
            "opex_usd_per_hour": draw(share(0, 0.8)),
            "depth_chips": draw(share(1e3, 1e6)),
            "depth_growth": draw(share(-0.2, 1)),
            "cost_when_new_usd": draw(share(5e3, 6e4)),
            "recoverable_share": draw(share(0.1, 1)),
            "scrap_share": draw(share(0, 0.1)),
            "life_end_month": draw(st.integers(1, 90)),
        }
        for i in range(n_gpus)
    ]
    launches = {
        "first_month": draw(share(-5, 20)), "cadence_months": draw(share(1, 12)), "lag_mean_months": draw(share(0, 6)),
        "lag_shape": draw(share(0.5, 5)), "ramp_months": draw(share(1, 15)), "impact": draw(share(0, 1)),
        "gain_mean": draw(share(0, 0.5)), "gain_sd": draw(share(0, 0.3)),
    }  # fmt: skip
    haircut = draw(share(0.05, 0.9))
    return {
        "start_date": datetime.date(2024, 11, 30),
        "horizon_months": horizon,
        "base_rate": {"rates": [draw(share(0, 0.1))]},
        "regimes": {"names": names, "means": [draw(share(-0.6, 0.4)) for _ in names], "transitions": rates, "initial": "z0"},
        "demand": {
            "initial": draw(share(-0.5, 0.5)), "mean_reversion": draw(share(0, 4)), "volatility": draw(share(0, 0.5)),
            "jumps_per_year": draw(share(0, 3)), "jump_down_share": draw(share()), "jump_mean": draw(share(0, 0.3)),
        },
        "hazard_classes": classes,
        "dependence": {
            "copula": "t" if t_copula else "gaussian", "factors": ["demand", "credit"],
            "correlation": [[1.0, 0.3], [0.3, 1.0]], "grouped": draw(st.booleans()), "pd": "as-given",
        } | ({"degrees_of_freedom": draw(share(3, 30))} if t_copula else {}),
        "gpu": {
            "spot": {"premium": draw(share(0.7, 2)), "mean_reversion": draw(share(0, 6)), "volatility": draw(share(0, 0.8)),
                     "fee": draw(share(0, 0.2))},
            "generations": generations,
            "generation_factors": {"mean_reversion": draw(share(0, 3)), "correlation_decay": draw(share(0, 0.9))},
            **({"launches": launches} if draw(st.booleans()) else {}),
            **({"rival_launches": launches} if draw(st.booleans()) else {}),
            "overhang": {"impact": draw(st.sampled_from([0.0, 0.8])), "absorption": draw(share(0, 3)),
                         "own_weight": draw(share()),
                         "calendar": [{"gpu": "G0", "month": draw(st.integers(1, 30)), "units": draw(st.integers(0, 10**6))}]},
            "utilisation": {"level": draw(share(0.3, 1)), "slope": draw(share(0, 0.3)), "low": 0.2, "high": 0.95},
            "costs": {"rise": draw(share(0, 0.1)), "floor_share": draw(share())},
            "value": {"buyers_yield": draw(share(0, 0.3)), "expected_decline": draw(share(0, 0.4)),
                      "ageing": draw(share(0, 0.3))},
            "contracts": {"paid_share": draw(share(0.5, 1)), "renewal": [draw(share()) for _ in names],
                          "renewal_term_months": draw(st.integers(1, 20)), "renewal_discount": draw(share(0, 0.4))},
            "recovery": {"step_in": draw(share()), "performance": draw(share()), "opex_stress": draw(share(0.5, 2)),
                         "lenders_yield": draw(share(0, 0.3)), "lag_mean_months": draw(share(0.5, 8)),
                         "lag_shape": draw(share(0.5, 5)), "lag_max_months": draw(st.integers(1, 10)),
                         "haircut_mean": haircut, "haircut_sd": round(0.6 * (haircut * (1 - haircut)) ** 0.5, 4),
                         "sale_cost": draw(share(0, 0.3)), "sale_impact": draw(share(0, 1)), "storage_share": draw(share())},
        },
    }  # fmt: skip


@st.composite
def books(draw: Any) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """A market and tapes: loans of every kind, some with terms that a rule refuses."""
    market = draw(markets())
    n_gpus = len(market["gpu"]["generations"])
    n_loans = draw(st.integers(1, 6))
    parties = [
        {"obligor_id": f"o{i}", "hazard_class": "ab"[i % 2], "pd_scale": draw(share(0, 3)),
         "loading_demand": draw(share(-0.5, 0.5)), "loading_credit": draw(share(-0.5, 0.6))}
        for i in range(5)
    ]  # fmt: skip
    loans: list[dict[str, Any]] = []
    deployments: list[dict[str, Any]] = []
    for i in range(n_loans):
        secured, term = draw(st.booleans()), draw(st.integers(1, 40))
        loan = {
            "loan_id": f"L{i}", "borrower_id": f"o{draw(st.integers(0, 4))}", "balance_usd": draw(share(1e4, 1e8)),
            "amortisation": draw(st.sampled_from(["annuity", "linear", "bullet"])), "term_months": term,
            "interest_only_months": draw(st.integers(0, 12)), "guarantee_share": draw(share()),
            **({"rate": draw(share(0, 0.25))} if draw(st.booleans()) else {"spread": draw(share(0, 0.15))}),
        }  # fmt: skip
        if draw(st.booleans()):
            # one in twenty draws comes after the term, which is refused
            month = draw(st.integers(1, term if draw(st.integers(1, 20)) > 1 else 42))
            loan |= {"undrawn_usd": draw(share(1e3, 1e7)), "draw_month": month}
        if secured:
            loan |= {
                "reserve_usd": draw(share(0, 1e6)), "reserve_months": draw(share(0, 6)), "dscr_lockup": draw(share(0, 1.5)),
                "dscr_default": draw(share(0, 1.2)), "dscr_default_months": draw(st.integers(1, 6)),
                "ltv_cap": draw(share(0, 1.5)), "refinance_ltv": draw(share()), "sweep_share": draw(share()),
                "support_usd": draw(share(0, 1e6)), "remoteness": draw(share()),
            }  # fmt: skip
            for j in range(draw(st.integers(1, 3))):
                let = draw(st.booleans())
                deployments.append(
                    {"deployment_id": f"D{i}{j}", "loan_id": f"L{i}", "gpu": f"G{draw(st.integers(0, n_gpus - 1))}",
                     "units": draw(st.integers(1, 5000)), "in_service_month": draw(st.integers(-30, min(8, term))),
                     "tenant_id": f"o{draw(st.integers(0, 4))}" if let else "",
                     "price_usd_per_hour": draw(share(0.3, 6)) if let else None,
                     "contract_months": draw(st.integers(1, 30)) if let else None}
                )  # fmt: skip
        else:
            lgd = draw(share(0.05, 0.95))
            loan |= {"lgd": lgd, "lgd_loading": draw(share(-0.5, 0.9)),
                     "lgd_sd": draw(st.sampled_from([0.0, round(0.9 * (lgd * (1 - lgd)) ** 0.5, 4)]))}  # fmt: skip
        loans.append(loan)
    return market, {"loans": loans, "obligors": parties, "deployments": deployments}


def read(market: dict[str, Any], rows: dict[str, list[dict[str, Any]]]) -> Portfolio:
    frames = {name: pd.DataFrame(items) for name, items in rows.items() if items}
    return Portfolio.from_frames(market=Market.model_validate(market), **frames)


def a_located_error_or_a_sound_result(market: dict[str, Any], rows: dict[str, list[dict[str, Any]]]) -> None:
    try:
        portfolio = read(market, rows)
    except InputRejected as error:
        assert all(p.where and p.rule and p.message for p in error.problems)
        return
    result = simulate(portfolio, portfolio.market, n_paths=N, seed=3)
    rows_ = NumpyReference().replay(result.plan, 3, np.arange(N)).defaults
    assert np.all((rows_.loss >= 0) & (rows_.loss <= rows_.ead))
    worst = int(result.losses.max()) / 100
    for level, shortfall in result.expected_shortfall.items():
        assert result.value_at_risk[level] <= shortfall * (1 + 1e-12) <= worst * (1 + 2e-12)
    assert result.summary()["value"].notna().all()
    assert np.isfinite(result.prices).all()
    assert int(result.loans["loss_cents"].sum()) == int(result.losses.sum())


@FEW
@given(books())
def test_any_book_gives_a_located_error_or_a_sound_result(book):
    a_located_error_or_a_sound_result(*book)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@MANY
@given(books())
def test_any_of_many_books_gives_a_located_error_or_a_sound_result(book):
    a_located_error_or_a_sound_result(*book)


def losses_of(market: dict[str, Any], rows: dict[str, list[dict[str, Any]]]) -> np.ndarray | None:
    try:
        portfolio = read(market, rows)
        return NumpyReference().run(build_plan(portfolio, portfolio.market), 3, 0, N).loss
    except InputRejected:
        return None


def without_feedback(market: dict[str, Any]) -> dict[str, Any]:
    """No chips of the book press on anything."""
    gpu = market["gpu"]
    classes = [c | {"overhang_sensitivity": 0.0} for c in market["hazard_classes"]]
    quiet = gpu | {"overhang": gpu["overhang"] | {"impact": 0.0}, "recovery": gpu["recovery"] | {"sale_impact": 0.0}}
    return market | {"gpu": quiet, "hazard_classes": classes}


@FEW
@given(books())
def test_a_book_of_twice_the_size_loses_twice_as_much(book):
    market, rows = book
    quiet = without_feedback(market)
    money = ("balance_usd", "undrawn_usd", "reserve_usd", "support_usd")
    # whole cents: a commitment is rounded to cents, and only a whole one doubles exactly
    rows = rows | {"loans": [x | {m: round(x[m], 2) for m in money if m in x} for x in rows["loans"]]}
    once = losses_of(quiet, rows)
    double = rows | {
        "loans": [x | {m: 2 * x[m] for m in money if m in x} for x in rows["loans"]],
        "deployments": [d | {"units": 2 * d["units"]} for d in rows["deployments"]],
    }
    twice = losses_of(quiet, double)
    if once is not None:
        assert np.all(np.abs(twice - 2 * once) <= 2 * len(rows["loans"]))


@FEW
@given(books(), share(), share())
def test_a_larger_guarantee_never_loses_more(book, one, other):
    market, rows = book

    def guaranteed(x: float) -> np.ndarray | None:
        return losses_of(market, rows | {"loans": [loan | {"guarantee_share": x} for loan in rows["loans"]]})

    low, high = guaranteed(max(one, other)), guaranteed(min(one, other))
    if low is not None:
        assert np.all(low <= high)


@FEW
@given(books(), share(0, 0.4))
def test_a_higher_lgd_never_loses_less(book, lgd):
    market, rows = book

    def with_lgd(x: float) -> np.ndarray | None:
        plain = [loan | ({"lgd": x, "lgd_sd": 0.0} if "lgd" in loan else {}) for loan in rows["loans"]]
        return losses_of(market, rows | {"loans": plain})

    low, high = with_lgd(lgd), with_lgd(lgd + 0.3)
    if low is not None:
        assert np.all(low <= high)


@FEW
@given(books(), share(0, 0.5))
def test_a_higher_haircut_never_loses_less(book, haircut):
    market, rows = book

    def with_haircut(x: float) -> np.ndarray | None:
        gpu = market["gpu"]
        return losses_of(
            market | {"gpu": gpu | {"recovery": gpu["recovery"] | {"haircut_mean": x, "haircut_sd": 0.0}}}, rows
        )

    low, high = with_haircut(haircut), with_haircut(haircut + 0.3)
    if low is not None:
        assert np.all(low <= high)
