"""Small books and markets that tests build on: neutral unless a test says otherwise."""

from __future__ import annotations

import datetime
from typing import Any

import pandas as pd
import pytest

from gpuloan_mc.market import Market
from gpuloan_mc.portfolio import Portfolio

GENERATION = {
    "name": "H100",
    "launch_month": 0,
    "price_usd_per_hour": 2.0,
    "depth_chips": 1e6,
    "cost_when_new_usd": 1e7,
    "life_end_month": 60,
}


def make_market(**changes: Any) -> Market:
    """A market of one hazard class that never defaults, without chips."""
    base: dict[str, Any] = {
        "start_date": datetime.date(2024, 11, 30),
        "horizon_months": 12,
        "hazard_classes": [{"name": "safe", "hazard": 0.0}],
    }
    return Market.model_validate(base | changes)


def make_gpu(generation: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """The GPU part of a market: one generation, flat price, no noise, no feedback, sale after one month."""
    base: dict[str, Any] = {
        "generations": [GENERATION | (generation or {})],
        "value": {"buyers_yield": 0.1},
        "contracts": {"renewal": [0.0]},
        "recovery": {"lag_max_months": 1},
    }
    return base | changes


def make_book(market: Market, loans: Any, obligors: Any, deployments: Any = None, schedules: Any = None) -> Portfolio:
    """A portfolio of lists of dicts."""

    def frame(rows: Any) -> pd.DataFrame | None:
        return None if rows is None else pd.DataFrame(rows)

    return Portfolio.from_frames(
        market=market,
        loans=frame(loans),
        obligors=frame(obligors),
        deployments=frame(deployments),
        schedules=frame(schedules),
    )


def make_pool(market: Market, n_loans: int, hazard_class: str = "pool", loading: float = 0.0, **loan: Any) -> Portfolio:
    """Plain bullet loans of $1m, each to its own borrower."""
    terms = {"balance_usd": 1e6, "rate": 0.05, "term_months": 12, "lgd": 0.45} | loan
    return make_book(
        market,
        [{"loan_id": f"L{i:04}", "borrower_id": f"B{i:04}"} | terms for i in range(n_loans)],
        [{"obligor_id": f"B{i:04}", "hazard_class": hazard_class, "loading_demand": loading} for i in range(n_loans)],
    )


@pytest.fixture
def market() -> Any:
    return make_market


@pytest.fixture
def gpu() -> Any:
    return make_gpu


@pytest.fixture
def book() -> Any:
    return make_book


@pytest.fixture
def pool() -> Any:
    return make_pool
