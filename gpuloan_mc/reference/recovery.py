"""What a defaulted GPU loan recovers (docs/model.md 6): step-in, claims, sale of the chips, loss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..plan import Plan
from .arithmetic import F32, I32, I64, Bool, at_score, clip, exp, f32, fma
from .loans import LoanState, monthly_rates, release
from .market import Prices
from .philox import U64, Purpose, event_word, normal, words


@dataclass(slots=True)
class Workout:
    """Defaults under way, one entry a (path, loan): all arrays (n,) but `sold`, (n, most deployments a loan)."""

    path: I64  # row in the chunk
    loan: I64
    month: I32
    cause: I32
    ead: F32
    rest: F32  # EAD less reserve, step-in and claims
    haircut: F32
    lag: I32
    stepped_in: Bool  # the lender keeps at least one contract
    sold: Bool  # deployments to be sold
    proceeds: F32

    @property
    def sale_month(self) -> I32:
        """The month in which the chips are sold and the loss is known."""
        return self.month + self.lag

    def select(self, chosen: Bool) -> Workout:
        """The entries where `chosen`."""
        values = {name: getattr(self, name)[chosen] for name in self.__slots__}
        return Workout(**values)


def members(plan: Plan, loan: I64) -> tuple[I64, Bool]:
    """Deployments of each loan, (n, most deployments a loan): index (0 where there is none) and whether it exists."""
    first, end = plan.loans.first_deployment[:-1], plan.loans.first_deployment[1:]
    width = int((end - first).max(initial=0))
    d = first[loan][:, None].astype(np.int64) + np.arange(width)
    exists = d < end[loan][:, None]
    return np.where(exists, d, 0), exists


def open_workouts(
    plan: Plan, seed: int, paths: U64, t: int, state: LoanState, defaulted: Bool, causes: I32, prices: Prices
) -> Workout:
    """(6.1), (6.2) of the loans that default in month t; their deployments stop."""
    p, loan = np.nonzero(defaulted)
    w = words(seed, paths[p], Purpose.LOAN, 0, plan.loans.key[loan])
    stepped_in = event_word(w[1]) < plan.recovery.step_in
    lag = np.ceil(at_score(plan.recovery.lag_table, normal(w[2]))).astype(np.int32)
    haircut = clip(at_score(plan.recovery.haircut_table, normal(w[3])), f32(0), f32(1))
    balance = state.balance[p, loan]
    ead = fma(balance, monthly_rates(plan, t)[loan], balance)
    d, exists = members(plan, loan)
    kept = exists & stepped_in[:, None] & state.let[p[:, None], d] & (plan.deployments.start[d] <= t)
    rest = ead - state.reserve[p, loan]
    for j in range(d.shape[1]):
        rest = rest - kept_value(plan, t, state, prices, p, d[:, j], kept[:, j], haircut)
        rest = after_claim(plan, t, state, p, d[:, j], exists[:, j], rest)
    state.alive[p, loan] = False
    row, slot = np.nonzero(exists)
    state.let[p[row], d[row, slot]] = False
    return Workout(
        path=p,
        loan=loan,
        month=np.full(len(p), t, dtype=np.int32),
        cause=causes[p, loan],
        ead=ead,
        rest=rest,
        haircut=haircut,
        lag=np.clip(lag, 1, plan.recovery.lag_max).astype(np.int32),
        stepped_in=np.asarray(kept.any(axis=1)),
        sold=exists & ~kept & ~_lapsed(plan, t, loan, d),
        proceeds=np.zeros(len(p), dtype=np.float32),
    )


def _lapsed(plan: Plan, t: int, loan: I64, d: I64) -> Bool:
    """(6.3) chips of a draw that has lapsed: in service from the draw month on, and the draw is still to come."""
    draw = plan.loans.draw_month[loan][:, None]
    return (draw > t) & (plan.deployments.in_service[d] >= draw)


def contract_value(plan: Plan, t: int, state: LoanState, p: I64, d: I64) -> tuple[F32, I32]:
    """k_d·max(0, price × paid share - stress × opex)·ann(e - τ) of (6.2), and e - τ held at 0."""
    deployments, recovery = plan.deployments, plan.recovery
    opex = deployments.opex[d] * recovery.cost_growth[t]
    margin = np.maximum(fma(-recovery.opex_stress, opex, state.contract_rate[p, d]), f32(0))
    left = np.maximum(state.contract_end[p, d] - np.int32(t), np.int32(0))
    return (deployments.hours[d] * margin) * recovery.contract_annuity[left], left


def kept_value(plan: Plan, t: int, state: LoanState, prices: Prices, p: I64, d: I64, kept: Bool, haircut: F32) -> F32:
    """(6.2) contract and chips of a deployment that the lender keeps; 0 where it is not kept."""
    deployments, recovery = plan.deployments, plan.recovery
    contract, left = contract_value(plan, t, state, p, d)
    g = deployments.generation[d]
    later = plan.market.annuity[t + left, g] * recovery.inverse_annuity[t, g]
    chips = deployments.unit_share[d] * prices.values[p, deployments.vintage[d]]
    chips = ((chips * later) * recovery.chip_discount[left]) * ((f32(1) - haircut) * recovery.sale_keep)
    return np.where(kept, fma(recovery.performance, contract, chips), f32(0))


def after_claim(plan: Plan, t: int, state: LoanState, p: I64, d: I64, exists: Bool, rest: F32) -> F32:
    """(6.2) less the claim on a defaulted tenant to the old end of its contract, whether or not the lender steps in."""
    contract, _ = contract_value(plan, t, state, p, d)
    share = np.where(exists & state.claim[p, d], plan.deployments.claim_recovery[d], f32(0))
    return fma(-share, contract, rest)


def sell(plan: Plan, t: int, state: LoanState, due: Workout, prices: Prices, released: I64) -> None:
    """(6.3) proceeds of the chips sold in month t, as of then; their release is counted."""
    deployments, recovery = plan.deployments, plan.recovery
    d, _ = members(plan, due.loan)
    total = np.zeros(len(due.loan), dtype=np.float32)
    lag = due.lag.astype(np.float32)
    for j in range(d.shape[1]):
        i, sold = d[:, j], due.sold[:, j]
        g = deployments.generation[i]
        pressure = exp(-(deployments.sale_pressure[i] * plan.market.inverse_depth[t, g]))
        price = prices.values[due.path, deployments.vintage[i]] * (f32(1) - due.haircut)
        price = (price * pressure) * recovery.sale_keep
        storage = recovery.storage_share * (deployments.hourly_opex[i] * recovery.cost_growth[t])
        total = fma(np.where(sold, deployments.unit_share[i], f32(0)), price, total)
        total = fma(np.where(sold, -storage, f32(0)), lag, total)
        release(deployments, state, due.path[sold], i[sold], released)
    due.proceeds = np.maximum(total, f32(0))


def loss(plan: Plan, due: Workout) -> F32:
    """(6.4) the lender's loss as a fraction of the commitment, dated τ."""
    rest = fma(-plan.recovery.lender_discount[due.lag], due.proceeds, due.rest)
    return plan.loans.kept_share[due.loan] * np.maximum(rest, f32(0))
