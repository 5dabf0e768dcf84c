"""Warnings: what is let in, and deserves a look."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..text import shown
from .limits import DEBT_AFTER_CONTRACTS_WARNED, RATE_WARNED, TENANT_SHARE_WARNED
from .rules import sentence
from .view import View

if TYPE_CHECKING:
    import pandas as pd

GPU_ONLY = (
    "reserve_usd reserve_months dscr_lockup dscr_default ltv_cap refinance_ltv sweep_share support_usd remoteness"
).split()
_SHOWN_TENANTS = 5


def cautions(view: View, before: dict[str, pd.DataFrame]) -> tuple[str, ...]:
    """Warnings of an accepted book; `before` are the frames with the rows that were rejected."""
    found = [
        *_without_effect(view), *_debt_after_contracts(view), *_tenant_shares(view), *_past_life(view), *_rates(view),
        *_fewer_children(view, before),
    ]  # fmt: skip
    return tuple(f"{sentence(rule, text)} [{rule}]" for rule, text in found)


Caution = Iterator[tuple[str, str]]


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _without_effect(view: View) -> Caution:
    loans, plain = view.loans, ~view.secured
    for column in GPU_ONLY:
        used = plain & (loans[column] != 0).to_numpy()
        if used.any():
            first = shown(loans["loan_id"].to_numpy()[used][0])
            yield (
                "no-effect",
                f"{column} has no effect on loans without deployments: {_count(used.sum(), 'loan')}, first {first}",
            )


def contract_ends(deployments: pd.DataFrame) -> NDArray[np.int64]:
    """The month through which each contract pays; 0 without one (docs/model.md 5)."""
    start = np.maximum(deployments["in_service_month"].to_numpy(np.int64) - 1, 0)
    months = deployments["contract_months"].to_numpy(np.int64)
    return np.where(months > 0, start + months, 0)


def balance_after(view: View, loans: pd.DataFrame, month: NDArray[np.int64]) -> NDArray[np.float64]:
    """About what each loan still owes, of balance and undrawn, after that month's payment; rates as they stand today."""
    owed = (loans["balance_usd"] + loans["undrawn_usd"]).to_numpy(np.float64)
    term, free = loans["term_months"].to_numpy(np.float64), loans["interest_only_months"].to_numpy(np.float64)
    base = view.market.base_rate.rates[0]
    rate = loans["rate"].fillna(loans["spread"] + base).to_numpy(np.float64) / 12
    paying = np.maximum(term - free, 1)
    done = np.clip(month - free, 0, paying)
    r = np.where(np.abs(rate) < 1e-9, 1e-9, rate)
    annuity = -np.expm1(-(paying - done) * np.log1p(r)) / -np.expm1(-paying * np.log1p(r))
    kind = loans["amortisation"].to_numpy(object)
    share = np.select([kind == "annuity", kind == "linear"], [annuity, 1 - done / paying], 1.0)
    ends = dict(zip(loans["loan_id"], month.tolist(), strict=True))
    rows = view.schedules[view.schedules["month"] <= view.schedules["loan_id"].map(ends).astype(np.float64).fillna(0)]
    paid = rows.groupby("loan_id")["principal_usd"].sum().reindex(loans["loan_id"]).fillna(0).to_numpy()
    return np.where(month >= term, 0.0, np.maximum(owed * share - np.where(kind == "schedule", paid, 0), 0))


def _debt_after_contracts(view: View) -> Caution:
    """Merchant loans, without any contract, are told apart: they have nothing to outlive."""
    deployments = view.deployments.assign(end=contract_ends(view.deployments))
    ends = deployments.groupby("loan_id")["end"].max().reindex(view.loans["loan_id"]).fillna(0).to_numpy(np.int64)
    loans, last = view.loans[ends > 0], ends[ends > 0]
    total = float((loans["balance_usd"] + loans["undrawn_usd"]).sum())
    left = balance_after(view, loans, last)
    if left.sum() > DEBT_AFTER_CONTRACTS_WARNED * total:
        first = shown(loans["loan_id"].to_numpy()[int(np.argmax(left))])
        count = _count(int((left > 0.005).sum()), "loan")
        text = f"about {left.sum() / total:.1%} of {total:,.0f} dollars lent against contracts is due after the last of them"
        yield "debt-outlives-contracts", f"{text}: {count}, the largest part by {first}"


def _tenant_shares(view: View) -> Caution:
    let = view.deployments[view.deployments["tenant_id"] != ""]
    revenue = let["units"] * let["price_usd_per_hour"] * 730 * let["contract_months"]
    by_tenant = revenue.groupby(let["tenant_id"]).sum().sort_values(ascending=False)
    total = by_tenant.sum()
    for tenant, part in by_tenant.head(_SHOWN_TENANTS).items():
        if part > TENANT_SHARE_WARNED * total:
            yield "tenant-share", f"tenant {shown(tenant)} is {part / total:.0%} of the contracted revenue"


def _past_life(view: View) -> Caution:
    if view.market.gpu is None or not len(view.deployments):
        return
    deployments, ends = view.deployments, contract_ends(view.deployments)
    life = deployments["gpu"].map({g.name: g.life_end_month for g in view.market.gpu.generations}).to_numpy(np.int64)
    for rule, wrong, text in (
        ("life-over", life <= 0, "the generation's life ended before month 1"),
        ("contract-past-life", (ends > life) & (life > 0), "the contract runs beyond the generation's life"),
    ):
        if wrong.any():
            i = int(np.argmax(wrong))
            first = f"{shown(deployments['deployment_id'][i])}, contract to month {ends[i]}, life to month {life[i]}"
            yield rule, f"{text}: {_count(int(wrong.sum()), 'deployment')}, first {first}"


def _rates(view: View) -> Caution:
    for column in ("rate", "spread"):
        high = (view.loans[column] > RATE_WARNED).to_numpy()
        if high.any():
            i = int(np.argmax(high))
            first = f"{shown(view.loans['loan_id'][i])} with {view.loans[column][i]:g}"
            yield (
                "percent-suspected",
                f"{column} is above {RATE_WARNED:g} a year: {_count(int(high.sum()), 'loan')}, first {first}",
            )


def _fewer_children(view: View, before: dict[str, pd.DataFrame]) -> Caution:
    for name in ("deployments", "schedules"):
        if len(before[name]) == len(view.frames[name]):
            continue
        had, has = (f[name]["loan_id"].value_counts() for f in (before, view.frames))
        kept = view.loans["loan_id"]
        fewer = (has.reindex(kept).fillna(0) < had.reindex(kept).fillna(0)).to_numpy()
        if fewer.any():
            first = shown(kept.to_numpy()[fewer][0])
            text = f"some rows in {name} were rejected, and their loans go on"
            yield "fewer-children", f"{text}: {_count(int(fewer.sum()), 'loan')}, first {first}"
