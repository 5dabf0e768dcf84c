"""The books that are timed, made through the public API, and what happens in them, counted on the reference engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd

from gpuloan_mc import Market, Portfolio
from gpuloan_mc.example import SOFR, monthly_payment
from gpuloan_mc.plan import Plan
from gpuloan_mc.reference import loans as gpu_loans
from gpuloan_mc.reference import path, recovery
from gpuloan_mc.reference.market import path_numbers

BUNDLED = "neocloud-2024"
SEED = 20241130
PD, LGD, CORRELATION, BALANCE = 0.01, 0.45, 0.15, 1e6
CHIPS = 300_000  # of a GPU book of any size: small against the depth of the bundled market, so is the feedback
EVENTS = ("obligor_hits", "contract_ends", "repayments", "defaults", "sales")


@dataclass(frozen=True, slots=True)
class Case:
    """A book to time. `check_paths`, `quick_check_paths`: paths whose losses must equal the reference's first."""

    name: str
    what: str
    book: Callable[[], tuple[Portfolio, Market]]
    check_paths: int
    quick_check_paths: int
    plain: bool = False


# --- GPU loans --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of GPU loan: chip, its cost, advance rate, spread, contract and tenants, as in the example book."""

    gpu: str
    chip_cost: float
    advance: float
    spread: float
    price: float  # 0: spot market
    tenants: str


KINDS = (
    Kind("H100", 45e3, 0.60, 0.060, 2.60, "investment-grade"),
    Kind("H100", 45e3, 0.50, 0.065, 2.50, "ai-lab"),
    Kind("H200", 50e3, 0.55, 0.060, 3.00, "ai-lab"),
    Kind("B200", 62e3, 0.60, 0.045, 3.90, "investment-grade"),
    Kind("B200", 62e3, 0.45, 0.075, 3.90, "start-up"),
    Kind("H100", 45e3, 0.25, 0.080, 0.00, ""),
)
SHARES = (0.25, 0.20, 0.15, 0.20, 0.15, 0.05)


def gpu_book(
    n_loans: int, horizon: int, market: Market | None = None, counts: dict[str, int] | None = None
) -> tuple[Portfolio, Market]:
    """GPU loans of terms from half the horizon to all of it, two deployments each, in the bundled market.

    Or in another one of its classes; `counts`: parties by class.
    """
    draw = np.random.Generator(np.random.Philox(SEED))
    kind = draw.choice(len(KINDS), n_loans, p=SHARES)
    counts = counts or _counts(n_loans)
    loans = _gpu_loans(draw, kind, horizon, counts)
    market = (market or Market.read(BUNDLED)).replace(horizon_months=horizon)
    portfolio = Portfolio.from_frames(
        market=market,
        loans=loans.drop(columns="units"),
        deployments=_deployments(draw, kind, loans["units"].to_numpy(), horizon, counts),
        obligors=_parties(counts),
    )
    return portfolio, market


def _counts(n_loans: int) -> dict[str, int]:
    return {
        "neocloud": max(1, n_loans // 6),
        "investment-grade": max(1, n_loans // 40),
        "ai-lab": max(1, n_loans // 30),
        "start-up": max(1, n_loans // 8),
    }


def _parties(counts: dict[str, int]) -> pd.DataFrame:
    rows = [
        {"obligor_id": f"{name}-{i:05}", "hazard_class": name, "loading_demand": 0.3, "loading_credit": 0.3}
        for name, n in counts.items()
        for i in range(n)
    ]
    return pd.DataFrame(rows)


def _of(kind: Any, field: str) -> Any:
    return np.array([getattr(k, field) for k in KINDS])[kind]


def _gpu_loans(draw: np.random.Generator, kind: Any, horizon: int, counts: dict[str, int]) -> pd.DataFrame:
    n = len(kind)
    term = draw.integers(horizon // 2, horizon + 1, n)
    units = 2 * np.maximum(4, np.rint(CHIPS / n / 2 * np.exp(0.5 * draw.normal(size=n)))).astype(np.int64)
    balance = np.round(units * _of(kind, "chip_cost") * _of(kind, "advance"), -3)
    spread = _of(kind, "spread")
    reserve = np.round(3 * monthly_payment(balance, spread + SOFR, term.astype(np.float64)))
    borrower = draw.integers(0, counts["neocloud"], n)
    return pd.DataFrame(
        {
            "loan_id": [f"L{i:06}" for i in range(n)],
            "borrower_id": [f"neocloud-{b:05}" for b in borrower],
            "balance_usd": balance,
            "spread": spread,
            "amortisation": "annuity",
            "term_months": term,
            "reserve_usd": reserve,
            "reserve_months": 3,
            "dscr_lockup": 1.2,
            "dscr_default": 0.8,
            "dscr_default_months": 12,
            "sweep_share": np.where(_of(kind, "price") > 0, 0.0, 0.25),
            "remoteness": 0.65,
            "units": units,
        }
    )


def _deployments(
    draw: np.random.Generator, kind: Any, units: Any, horizon: int, counts: dict[str, int]
) -> pd.DataFrame:
    """Two a loan, half its chips each, every one with its own tenant and contract."""
    loan = np.repeat(np.arange(len(kind)), 2)
    mine = kind[loan]
    let = _of(mine, "price") > 0
    tenants = _of(mine, "tenants")
    number = [draw.integers(0, counts.get(name, 1)) for name in tenants]
    months = draw.integers(horizon // 4, horizon * 19 // 20, len(loan))
    return pd.DataFrame(
        {
            "deployment_id": [f"D{i:07}" for i in range(len(loan))],
            "loan_id": [f"L{i:06}" for i in loan],
            "gpu": _of(mine, "gpu"),
            "units": units[loan] // 2,
            "tenant_id": [f"{name}-{i:05}" if name else "" for name, i in zip(tenants, number, strict=True)],
            "price_usd_per_hour": np.where(let, _of(mine, "price"), np.nan),
            "contract_months": [str(m) if here else "" for m, here in zip(months, let, strict=True)],
        }
    )


# --- plain loans ------------------------------------------------------------------------------------------------------


def pool(
    n_loans: int, *, own_loadings: bool = False, grouped: bool = True, dof: float | None = None
) -> tuple[Portfolio, Market]:
    """Plain bullet loans of $1m for a year, each to its own borrower, one factor; `dof`: a t copula.

    One loading: asset correlation CORRELATION. Own loadings: correlations from half to one and a half of it.
    """
    correlation = np.full(n_loans, CORRELATION)
    if own_loadings:
        correlation = CORRELATION * (0.5 + (np.arange(n_loans) + 0.5) / n_loans)
    dependence: dict[str, Any] = {"grouped": grouped}
    if dof is not None:
        dependence |= {"copula": "t", "degrees_of_freedom": dof}
    market = Market.model_validate(
        {
            "start_date": Market.read(BUNDLED).start_date,
            "horizon_months": 12,
            "hazard_classes": [{"name": "pool", "pd_by_year": [PD]}],
            "dependence": dependence,
        }
    )
    ids = [f"{i:06}" for i in range(n_loans)]
    loans = pd.DataFrame({"loan_id": ids, "borrower_id": ids, "balance_usd": BALANCE, "rate": 0.05})
    loans = loans.assign(term_months=12, lgd=LGD)
    obligors = pd.DataFrame({"obligor_id": ids, "hazard_class": "pool", "loading_demand": np.sqrt(correlation)})
    return Portfolio.from_frames(market=market, loans=loans, obligors=obligors), market


def _bundled() -> tuple[Portfolio, Market]:
    market = Market.read(BUNDLED)
    return Portfolio.read(BUNDLED, market), market


CASES = {
    case.name: case
    for case in (
        Case("small", "the bundled book neocloud-2024", _bundled, 1024, 256),
        Case("small-10", "10 GPU loans, 84 months", partial(gpu_book, 10, 84), 4096, 1024),
        Case("small-100", "100 GPU loans, 84 months", partial(gpu_book, 100, 84), 1024, 256),
        Case("typical", "1,024 GPU loans, 84 months", partial(gpu_book, 1024, 84), 256, 64),
        Case("large", "16,384 GPU loans, 84 months", partial(gpu_book, 16_384, 84), 128, 16),
        Case("plain-100", "100 plain loans, one factor, a year, in groups", partial(pool, 100), 4096, 1024, True),
        Case("plain", "10,000 plain loans, one factor, a year, in groups", partial(pool, 10_000),
             4096, 1024, True),
        Case("plain-own", "10,000 plain loans, one factor, a year, each its own loading",
             partial(pool, 10_000, own_loadings=True, grouped=False), 4096, 1024, True),
        Case("deep", "1,000 GPU loans, 120 months", partial(gpu_book, 1000, 120), 256, 64),
    )
}  # fmt: skip


# --- what happens in a book -------------------------------------------------------------------------------------------


def rates(plan: Plan, seed: int, n_paths: int) -> dict[str, float]:
    """Live share of the loan-months, and events a live loan-month, on the reference engine.

    with_event: live loan-months in which something of the loan's happens, as a share of all live ones. obligor_hits: a
    borrower's default on its live loans and a tenant's on its live contracts; contract_ends: contracts at their end,
    renewed or not, those of repaid loans included. A plain loan lives to its default or maturity and meets no more.
    """
    horizon = int(plan.market.horizon)
    with _counting(plan) as count:
        defaults = path.run_paths(plan, seed, path_numbers(0, n_paths))
    if len(plan.plain.index):
        _count_plain(plan, defaults, n_paths, count)
    live = count.pop("live")
    shares = {name: n / live for name, n in count.items()}
    return {"live_share": live / (n_paths * plan.n_loans * horizon), **shares}


def _count_plain(plan: Plan, defaults: path.Defaults, n_paths: int, count: dict[str, int]) -> None:
    plain = np.isin(defaults.loan, plan.plain.index)
    last = np.minimum(plan.plain.term, plan.market.horizon).astype(np.int64)
    unlived = last[np.searchsorted(plan.plain.index, defaults.loan[plain])] - defaults.month[plain]
    count["live"] += n_paths * int(last.sum()) - int(unlived.sum())
    count["defaults"] += int(plain.sum())
    count["with_event"] += int(plain.sum())


@contextmanager
def _counting(plan: Plan) -> Iterator[dict[str, int]]:
    """The reference engine's steps, counted as they are called."""
    count = dict.fromkeys(("live", "with_event", *EVENTS), 0)
    first = plan.loans.first_deployment[:-1]
    step_loans, step_deployments, sell = gpu_loans.step_loans, gpu_loans.step_deployments, recovery.sell
    touched: list[Any] = [None]  # (n_paths, n_loans) of the month under way: loans with an event

    def deployments(plan: Plan, seed: int, paths: Any, t: int, state: Any, months: Any, *rest: Any) -> Any:
        live = state.let & (plan.deployments.start <= t)
        lost = live & (np.take(months, plan.deployments.tenant, axis=1) <= t)
        ended = live & ~lost & (state.contract_end < t)
        parents = state.alive & (np.take(months, plan.loans.parent, axis=1) == t)
        count["obligor_hits"] += int(lost.sum()) + int(parents.sum())
        count["contract_ends"] += int(ended.sum())
        touched[0] = parents | np.logical_or.reduceat(lost | ended, first, axis=1)
        return step_deployments(plan, seed, paths, t, state, months, *rest)

    def loans(plan: Plan, t: int, state: Any, *rest: Any) -> Any:
        before = state.alive
        stepped = step_loans(plan, t, state, *rest)
        defaulted = stepped[0]
        repaid = before & ~state.alive
        count["live"] += int(before.sum())
        count["defaults"] += int(defaulted.sum())
        count["repayments"] += int(repaid.sum())
        count["with_event"] += int((before & (touched[0] | defaulted | repaid)).sum())
        return stepped

    def sales(plan: Plan, t: int, state: Any, due: Any, *rest: Any) -> Any:
        count["sales"] += len(due.loan)
        return sell(plan, t, state, due, *rest)

    with ExitStack() as stack:
        counted = {"step_deployments": deployments, "step_loans": loans}
        for name, wrapper in counted.items():
            stack.enter_context(mock.patch.object(gpu_loans, name, wrapper))
        stack.enter_context(mock.patch.object(recovery, "sell", sales))
        yield count
