"""Loans without deployments (docs/model.md 4): default with the borrower, loss = EAD × LGD."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..plan import PlainPlan
from .arithmetic import F32, F64, I32, I64, at_score, clip, f32, fma
from .loans import Cause
from .philox import U64, Purpose, normal, words

if TYPE_CHECKING:
    from .path import Defaults


def plain_defaults(plan: PlainPlan, seed: int, paths: U64, months: I32, demand_factor: F32, horizon: int) -> Defaults:
    """The plain loans that default by maturity, with EAD the scheduled balance and no interest."""
    from .path import Defaults

    last = np.minimum(plan.term, horizon)
    month = np.take(months, plan.obligor, axis=1)
    p, loan = np.nonzero(month <= last)
    tau = month[p, loan]
    exposure = plan.commitment_cents[loan] * plan.opening[loan, tau]
    lgd = loss_given_default(plan, seed, paths[p], loan, demand_factor[p])
    n = len(p)
    return Defaults(
        path=p,
        loan=plan.index[loan],
        month=tau,
        cause=np.full(n, Cause.PARENT, dtype=np.int32),
        ead=np.rint(exposure).astype(np.int64),
        loss=np.rint((exposure * lgd) * plan.kept_share[loan]).astype(np.int64),
        stepped_in=np.zeros(n, dtype=np.bool_),
        sale_month=np.zeros(n, dtype=np.int32),
        proceeds=np.zeros(n, dtype=np.int64),
    )


def loss_given_default(plan: PlainPlan, seed: int, paths: U64, loan: I64, demand_factor: F32) -> F64:
    """Fixed, or Beta at the score sqrt(1-ℓ²)·n - ℓ·F_0; (n,) float64."""
    lgd = plan.lgd[loan].copy()
    row = plan.lgd_table_row[loan]
    random = row >= 0
    if random.any():
        loan, row = loan[random], row[random]
        n = normal(words(seed, paths[random], Purpose.LOAN, 0, plan.key[loan])[0])
        score = fma(plan.lgd_residual[loan], n, -(plan.lgd_loading[loan] * demand_factor[random]))
        lgd[random] = clip(at_score(plan.lgd_tables, score, row), f32(0), f32(1))
    return lgd
