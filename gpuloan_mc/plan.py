"""The plan: a book and its market as arrays, the only thing an engine sees. It knows no files, strings, dates or None.

Fixed dtypes, read-only, in the order of docs/model.md: generations by launch and name, factors as in the market file,
obligors, loans and a loan's deployments by id. Sizes: T market months, H horizon, G generations, V vintages, Z regimes,
C hazard classes, K factors, F launch families, O own obligors, M grouped obligors, R groups, L GPU loans, D deployments,
N plain loans.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .reference.arithmetic import F32, F64, I32, I64

U64 = NDArray[np.uint64]

REPAID_BELOW = np.float32(2.0**-20)
_NEGLIGIBLE = np.float32(2.0**-60)
CAUSES = ("parent", "maturity", "tenant", "payment", "covenant")


@dataclass(frozen=True, slots=True)
class MarketPlan:
    """The market block (2)."""

    horizon: np.int32  # H: defaults count in months 1 … H
    n_months: np.int32  # T = H + lag_max; H without chips
    regime_thresholds: I32  # (Z, Z - 1) cumulative, of 24 bits
    regime_means: F32  # (Z,)
    initial_regime: np.int32
    initial_demand: np.float32
    demand_pull: np.float32  # 1 - e^(-κΔ)
    demand_shock: np.float32
    jump_down: np.int32  # thresholds of 24 bits: below jump_down a fall, below jump_any a jump
    jump_any: np.int32
    jump_table: F32  # (2, cells)
    factor_scale: np.float32  # 1/sqrt(H): F_0 of the sum of n_M
    spot_decay: np.float32
    spot_shock: np.float32
    spot_premium: np.float32  # s_0, a logarithm
    generation_decay: np.float32
    generation_shock: F32  # (G,)
    generation_cholesky: F32  # (G, G) lower
    launch_first: F32  # (F,)
    launch_cadence: F32  # (F,)
    launch_lag_tables: F32  # (F, 2, cells)
    launch_ramp_inverse: F32  # (F,)
    launch_impact: F32  # (F,)
    launch_gain_mean: F32  # (F,)
    launch_gain_sd: F32  # (F,)
    hit_by_first: F32  # (F, G) 1 where the family's launch 0 hits the generation
    overhang_decay: np.float32
    overhang_impact: np.float32
    own_weight: np.float32
    calendar: I64  # (T + 1, G) chips of outside contracts
    inverse_depth: F32  # (T + 1, G)
    depth_weights: F32  # (T + 1, G)
    base_log_price: F32  # (T + 1, G)
    demand_beta: F32  # (G,)
    price_floor: F32  # (T + 1, G) logarithm
    utilisation_level: np.float32
    utilisation_slope: np.float32
    utilisation_low: np.float32
    utilisation_high: np.float32
    hourly_cost: F32  # (T + 1, G)
    vintage_generation: I32  # (V,)
    value_cap: F32  # (T + 1, V)
    scrap_value: F32  # (G,)
    annuity: F32  # (months, G) years of rent left, discounted: A_g


@dataclass(frozen=True, slots=True)
class ObligorPlan:
    """Who can default and when (3). Columns of default months: own obligors first, then grouped ones."""

    hazard: F32  # (H + 1, C) h_c(t), after the pilot of 3.2
    regime_shift: F32  # (C, Z)
    demand_sensitivity: F32  # (C,)
    overhang_sensitivity: F32  # (C,)
    is_t_copula: np.int32
    mixing_table: F32  # (2, cells) W
    inverse_mixing_table: F32  # (2, cells) 1/W
    log_hazard_table: F32  # (2, cells) ln E of 3.4
    latent_table: F32  # (2, cells) G⁻¹ of 3.6, on [-24, 4]
    n_factors: np.int32
    own_class: I32  # (O,)
    own_log_scale: F32  # (O,)
    own_loadings: F32  # (O, K) ã
    own_residual: F32  # (O,)
    own_key: U64  # (O,)
    group_class: I32  # (R,)
    group_log_scale: F32  # (R,)
    group_loadings: F32  # (R, K)
    group_inverse_residual: F32  # (R,)
    grouped_group: I32  # (M,)
    grouped_key: U64  # (M,)


@dataclass(frozen=True, slots=True)
class PlainPlan:
    """Loans without deployments (4), by id. Amounts stay float64."""

    index: I32  # (N,) position among all loans by id
    key: U64  # (N,)
    obligor: I32  # (N,)
    commitment_cents: F64  # (N,)
    term: I32  # (N,)
    opening: F64  # (N, H + 1) balance a month, of the commitment
    lgd: F64  # (N,)
    lgd_table_row: I32  # (N,) -1: fixed
    lgd_loading: F32  # (N,)
    lgd_residual: F32  # (N,)
    lgd_tables: F32  # (tables, 2, cells)
    kept_share: F64  # (N,) 1 - guarantee_share


@dataclass(frozen=True, slots=True)
class LoanPlan:
    """Loans with deployments (5), by id. Amounts are fractions of the commitment."""

    index: I32  # (L,) position among all loans by id
    key: U64  # (L,)
    parent: I32  # (L,) column of default months
    commitment_cents: F64  # (L,)
    balance: F32
    undrawn: F32
    draw_month: I32  # 0: no draw
    first_month: I32  # first month in service, at least 1
    term: I32
    margin: F32  # a month: rate/12, or spread/12
    floating: F32  # 1: the base curve is added
    principal: F32  # (L, H + 1) scheduled
    reserve: F32
    reserve_months: F32
    dscr_lockup: F32
    dscr_default: F32
    dscr_default_months: I32
    ltv_cap: F32
    refinance_ltv: F32
    sweep_share: F32
    support: F32
    pulled_in: I32  # threshold of 24 bits: 1 - remoteness
    kept_share: F32  # 1 - guarantee_share
    first_deployment: I32  # (L + 1,) deployments of loan l: first_deployment[l] … first_deployment[l + 1]


@dataclass(frozen=True, slots=True)
class DeploymentPlan:
    """Deployments, by loan and id: (D,)."""

    key: U64
    loan: I32
    generation: I32
    vintage: I32
    tenant: I32  # column of default months; -1: spot market
    in_service: I32
    start: I32  # max(1, in_service)
    contract_end: I32  # last month paid
    contract_rate: F32  # contract price × paid share, dollars an hour
    units: I64
    hours: F32  # k_d = 730·units/C_l
    opex: F32  # dollars an hour at month 0
    hourly_opex: F32  # k_d·opex_d
    unit_share: F32  # u_d = units/C_l
    sale_pressure: F32  # α_s × the loan's chips of the generation
    claim_recovery: F32  # of the tenant's class


@dataclass(frozen=True, slots=True)
class RecoveryPlan:
    """Contracts and recovery (5.2, 6)."""

    paid_share: np.float32
    renewal: I32  # (Z,) thresholds of 24 bits
    renewal_keep: np.float32  # 1 - discount
    renewal_term: np.int32
    spot_keep: np.float32  # 1 - fee
    cost_growth: F32  # (T + 1,) e^(rise·tΔ)
    base_rate: F32  # (H + 1,) a month
    step_in: np.int32  # threshold of 24 bits
    performance: np.float32
    opex_stress: np.float32
    lag_table: F32
    lag_max: np.int32
    haircut_table: F32
    sale_keep: np.float32  # 1 - cost
    storage_share: np.float32
    contract_annuity: F32  # (months,) ann(n)
    chip_discount: F32  # (months,) e^(-(y_L + decline)nΔ)
    lender_discount: F32  # (lag_max + 1,) e^(-y_L nΔ)
    inverse_annuity: F32  # (T + 1, G) 1/A_g, 0 where A_g is 0


@dataclass(frozen=True, slots=True)
class Plan:
    """A book ready to run. `digest` names its content; `save` and `load` keep every bit."""

    market: MarketPlan
    obligors: ObligorPlan
    plain: PlainPlan
    loans: LoanPlan
    deployments: DeploymentPlan
    recovery: RecoveryPlan
    discount: F64  # (H + 1,) to month 0 on the base curve

    @property
    def n_loans(self) -> int:
        """Plain and GPU loans together."""
        return len(self.plain.index) + len(self.loans.index)

    def arrays(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """Every array with its name, in a fixed order."""
        for part in fields(self):
            value = getattr(self, part.name)
            if isinstance(value, np.ndarray):
                yield part.name, value
                continue
            for field in fields(value):
                yield f"{part.name}.{field.name}", np.asarray(getattr(value, field.name))

    @property
    def digest(self) -> str:
        """sha256 over names, dtypes, shapes and little-endian bytes."""
        sha = hashlib.sha256()
        for name, array in self.arrays():
            little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
            sha.update(f"{name} {little.dtype.str} {little.shape}\n".encode())
            sha.update(little.tobytes())
        return sha.hexdigest()

    def to_bytes(self) -> bytes:
        """The plan as an .npz file's bytes."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **dict(self.arrays()))  # type: ignore[arg-type]
        return buffer.getvalue()

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """The plan of an .npz file written from `to_bytes`."""
        with np.load(path, allow_pickle=False) as stored:
            parts: dict[str, Any] = {}
            for part in fields(cls):
                if part.name in stored:
                    parts[part.name] = _frozen(stored[part.name])
                else:
                    kind = _PARTS[part.name]
                    values = {f.name: _frozen(stored[f"{part.name}.{f.name}"]) for f in fields(kind)}
                    parts[part.name] = kind(**values)
        return cls(**parts)


_PARTS: dict[str, Any] = {
    "market": MarketPlan,
    "obligors": ObligorPlan,
    "plain": PlainPlan,
    "loans": LoanPlan,
    "deployments": DeploymentPlan,
    "recovery": RecoveryPlan,
}


def _frozen(array: NDArray[Any]) -> Any:
    """A read-only array, or the scalar of an array without dimensions."""
    if array.ndim == 0:
        return array[()]
    array.setflags(write=False)
    return array


def freeze(part: Any) -> Any:
    """Make every array of a part of the plan contiguous and read-only, and float32 below 2^-60 zero.

    Products of what is left stay above float32's subnormals (docs/model.md 1.5).
    """
    for field in fields(part):
        value = getattr(part, field.name)
        if isinstance(value, np.ndarray):
            value = np.ascontiguousarray(value)
            if value.dtype == np.float32:
                value = np.where(np.abs(value) < _NEGLIGIBLE, np.float32(0), value)
            value.setflags(write=False)
            object.__setattr__(part, field.name, value)
    return part
