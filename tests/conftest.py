"""Small books and markets that tests build on: neutral unless a test says otherwise."""

from __future__ import annotations

import datetime
import gc
import os
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

from gpuloan_mc import kept_numbers
from gpuloan_mc.market import Market
from gpuloan_mc.portfolio import Portfolio
from gpuloan_mc.result import Result
from gpuloan_mc.simulation import simulate


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--gpu", action="store_true", help="run the tests that need an NVIDIA GPU")
    parser.addoption("--record-faults", action="store_true", help="write the counts of faults into docs/reliability.json")
    parser.addoption("--cudasim", action="store_true", help="interpret CUDA kernels: numba's simulator, in this process")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--cudasim"):
        os.environ["NUMBA_ENABLE_CUDASIM"] = "1"  # numba looks when it is imported, which nobody has done yet
    if not config.getoption("--gpu"):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # so that `auto` is the same engine on every machine


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--gpu"):
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU: pytest --gpu"))


@pytest.fixture(scope="session", autouse=True)
def no_numbers_of_earlier_runs() -> Iterator[None]:
    """Every number is found in this process, so that tests see the way it is found."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept_numbers, "places", lambda: iter(()))
        yield


@pytest.fixture(autouse=True)
def collections_as_before() -> Iterator[None]:
    """The command line collects rarely in its own process, which a test's is not."""
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


@pytest.fixture(scope="session", autouse=True)
def no_first_run() -> Iterator[None]:
    """No test begins a compiler beside its run but those that say so: what `auto` does may not depend on the machine's load."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gpuloan_mc.simulation.compiling_child", lambda: None)
        yield


@pytest.fixture(scope="session")
def machine_code() -> None:
    """The engine numba is compiled: for tests of commands, which would tell that they compile it."""
    from gpuloan_mc.engines.numba_cpu import warm_up
    from gpuloan_mc.engines.numba_halves import is_warm

    if not is_warm():
        warm_up()


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


def make_busy_book(overhang: float = 0.8, **recovery: Any) -> tuple[Market, Portfolio]:
    """Twelve loans in trouble: two generations, shared tenants and parents, draws, covenants, sales with impact."""
    part = make_gpu({"volatility": 0.3, "opex_usd_per_hour": 0.4, "cost_when_new_usd": 45_000.0, "scrap_share": 0.05})
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
    world = make_market(
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
                "desk": ["east", "west"][i % 2], "rating": f"B{i % 3}",
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
    return world, make_book(world, loans + plain, obligors, deployments)


HOSTILE_NAMES = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "<svg onload=alert(1)>", '"><script>alert(1)</script>',
    "'><b>x</b>", "</title><script>alert(1)</script>", "</style><script>alert(1)</script>", "</svg><script>1</script>",
    "</desc><script>1</script>", "<!--", "-->", "]]>", "<![CDATA[x]]>", "&lt;script&gt;", "&#60;script&#62;", "&amp;", "&nbsp",
    "<a href='javascript:alert(1)'>x</a>", "javascript:alert(1)", "<iframe src=//e.example>", "<object data=x>", "<embed src=x>",
    "<link rel=stylesheet href=//e.example>", "<meta http-equiv=refresh content=0>", "<base href=//e.example>",
    "<form action=//e.example>", "<input autofocus onfocus=alert(1)>", "<details open ontoggle=alert(1)>", "<video src=x>",
    "<math><mtext></mtext></math>", "<style>*{display:none}</style>", "<p style=position:fixed>", "x\" onclick=\"alert(1)",
    "x' onclick='alert(1)", "x` onclick=`alert(1)", "{{ 7*7 }}", "{% raw %}", "{# x #}", "${7*7}", "#{7*7}", "<%= 7*7 %>",
    "{{ self.__init__.__globals__ }}", "{0.__class__}", "{t}", "%s%n", "%(x)s", "=HYPERLINK(1)", "=1+1", "+1+1",
    "-1+1", "@SUM(1)", "=cmd|' /C calc'!A0", "\\x1b[31m", "../../etc/passwd", "C:\\con", "a" * 200, "<" * 200, "W" * 200,
    "\U0001f4b8" * 60, "e\u0301" * 50, "\u05d0\u05d1\u05d2", "\u0627\u0644", "\ufdfd" * 20, "url(//e.example)", "expression(1)",
    "x;background:url(//e.example)", "<foreignObject><script>1</script></foreignObject>", "<use href=//e.example#x>",
    "<animate onbegin=alert(1)>", "<textarea>", "<plaintext>", "<noscript>",
]  # fmt: skip


def make_hostile_book(names: list[str]) -> tuple[Market, Portfolio]:
    """A book in which every name is one of `names`: loans, tenants, borrowers, the generation, a regime."""
    chip = {"name": names[0][:100], "cost_when_new_usd": 45_000.0, "volatility": 0.3, "depth_chips": 20_000.0}
    part = make_gpu(chip, contracts={"renewal": [0.0, 0.0]})
    world = make_market(
        hazard_classes=[{"name": "pool", "hazard": 12.0}],
        regimes={"names": [names[1][:100], "b"], "means": [0, -0.3], "transitions": [[0, 2], [2, 0]], "initial": names[1][:100]},
        gpu=part,
    )
    loans = [
        {"loan_id": n, "borrower_id": n, "balance_usd": 9e6, "rate": 0.1, "term_months": 12, "desk": n} for n in names
    ]
    deployments = [
        {"deployment_id": n, "loan_id": n, "gpu": names[0][:100], "units": 40, "tenant_id": n, "price_usd_per_hour": 2.0,
         "contract_months": 6}
        for n in names
    ]  # fmt: skip
    return world, make_book(world, loans, [{"obligor_id": n, "hazard_class": "pool", "name": n} for n in names], deployments)


@pytest.fixture
def hostile_names() -> Any:
    return HOSTILE_NAMES


@pytest.fixture
def hostile_book() -> Any:
    return make_hostile_book


@pytest.fixture(scope="session")
def busy_book() -> Any:
    return make_busy_book


@pytest.fixture(scope="session")
def busy_run() -> Result:
    """400 paths of the busy book, seed 5, in uneven chunks."""
    world, portfolio = make_busy_book()
    return simulate(portfolio, world, n_paths=400, seed=5, chunk=90)


@pytest.fixture(scope="session")
def market() -> Any:
    return make_market


@pytest.fixture
def gpu() -> Any:
    return make_gpu


@pytest.fixture
def book() -> Any:
    return make_book


@pytest.fixture(scope="session")
def pool() -> Any:
    return make_pool
