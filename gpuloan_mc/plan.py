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
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .reference.arithmetic import F32, F64, I32, I64

U64 = NDArray[np.uint64]

REPAID_BELOW = np.float32(2.0**-20)
_NEGLIGIBLE = np.float32(2.0**-60)
FREE = np.float32(2.0**20)  # no log demand is as large: the month's demand is not forced
CAUSES = ("parent", "maturity", "tenant", "payment", "covenant")


@dataclass(frozen=True, slots=True)
class MarketPlan:
    """The market block (2)."""

    horizon: np.int32  # H: defaults count in months 1 … H
    n_months: np.int32  # T = H + lag_max; H without chips
    regime_thresholds: I32  # (Z, Z - 1) cumulative, of 24 bits
    regime_means: F32  # (Z,) m_z
    initial_regime: np.int32  # z_0
    initial_demand: np.float32  # M_0
    demand_pull: np.float32  # 1 - e^(-κΔ)
    demand_shock: np.float32  # s(σ_M, κ)
    jump_down: np.int32  # threshold of 24 bits: below it a fall
    jump_any: np.int32  # threshold of 24 bits: below it a jump
    jump_table: F32  # (2, cells) jump size of a score
    factor_scale: np.float32  # 1/sqrt(H): F_0 of the sum of n_M
    spot_decay: np.float32  # e^(-κ_cΔ)
    spot_shock: np.float32  # s(σ_c, κ_c)
    spot_premium: np.float32  # s_0, a logarithm
    generation_decay: np.float32  # e^(-κ_XΔ)
    generation_shock: F32  # (G,) s(σ_X, κ_X)
    generation_cholesky: F32  # (G, G) lower
    launch_first: F32  # (F,) T_0
    launch_cadence: F32  # (F,) months
    launch_lag_tables: F32  # (F, 2, cells) Gamma lag of a score
    launch_ramp_inverse: F32  # (F,) 1/ramp months
    launch_impact: F32  # (F,) ψ
    launch_gain_mean: F32  # (F,) μ_R
    launch_gain_sd: F32  # (F,) σ_R
    hit_by_first: F32  # (F, G) 1 where the family's launch 0 hits the generation
    overhang_decay: np.float32  # e^(-κ_VΔ)
    overhang_impact: np.float32  # α
    own_weight: np.float32  # w
    calendar: I64  # (T + 1, G) chips of outside contracts
    inverse_depth: F32  # (T + 1, G) 1/D_g(t)
    depth_weights: F32  # (T + 1, G) ω_g(t)
    base_log_price: F32  # (T + 1, G) base_g(t)
    demand_beta: F32  # (G,) β_g
    price_floor: F32  # (T + 1, G) logarithm
    utilisation_level: np.float32  # u_0
    utilisation_slope: np.float32  # u_1
    utilisation_low: np.float32  # u_min
    utilisation_high: np.float32  # u_max
    hourly_cost: F32  # (T + 1, G) cost_g(t), dollars
    vintage_generation: I32  # (V,) generation of a vintage
    value_cap: F32  # (T + 1, V) cap_v(t), dollars
    scrap_value: F32  # (G,) dollars
    annuity: F32  # (months, G) years of rent left, discounted: A_g
    forced_demand: F32  # (T + 1,) M_t in every path; FREE: as drawn


@dataclass(frozen=True, slots=True)
class ObligorPlan:
    """Who can default and when (3). Columns of default months: own obligors first, then grouped ones."""

    hazard: F32  # (H + 1, C) h_c(t), after the pilot of 3.2
    regime_shift: F32  # (C, Z) a
    demand_sensitivity: F32  # (C,) b
    overhang_sensitivity: F32  # (C,) d
    is_t_copula: np.int32  # 1: t, 0: Gaussian
    mixing_table: F32  # (2, cells) W
    inverse_mixing_table: F32  # (2, cells) 1/W
    log_hazard_table: F32  # (2, cells) ln E of 3.4
    latent_table: F32  # (2, cells) G⁻¹ of 3.6, on [-24, 4]
    n_factors: np.int32  # K
    own_class: I32  # (O,) hazard class
    own_log_scale: F32  # (O,) ln scale
    own_loadings: F32  # (O, K) ã
    own_residual: F32  # (O,) sqrt(1 - |ã|²)
    own_key: U64  # (O,) hash of the obligor's id
    group_class: I32  # (R,) hazard class
    group_log_scale: F32  # (R,) ln scale
    group_loadings: F32  # (R, K) ã
    group_inverse_residual: F32  # (R,) 1/sqrt(1 - |ã|²)
    grouped_group: I32  # (M,) group of an obligor
    grouped_key: U64  # (M,) hash of the obligor's id


@dataclass(frozen=True, slots=True)
class PlainPlan:
    """Loans without deployments (4), by id. Amounts stay float64."""

    index: I32  # (N,) position among all loans by id
    key: U64  # (N,) hash of the loan's id
    obligor: I32  # (N,) the borrower's column of default months
    commitment_cents: F64  # (N,) C_l
    term: I32  # (N,) month of maturity
    opening: F64  # (N, H + 1) balance a month, of the commitment
    lgd: F64  # (N,) mean
    lgd_table_row: I32  # (N,) -1: fixed
    lgd_loading: F32  # (N,) ℓ
    lgd_residual: F32  # (N,) sqrt(1 - ℓ²)
    lgd_tables: F32  # (tables, 2, cells) Beta LGD of a score
    kept_share: F64  # (N,) 1 - guarantee_share


@dataclass(frozen=True, slots=True)
class LoanPlan:
    """Loans with deployments (5), by id. Amounts are fractions of the commitment."""

    index: I32  # (L,) position among all loans by id
    key: U64  # (L,) hash of the loan's id
    parent: I32  # (L,) column of default months
    commitment_cents: F64  # (L,) C_l
    balance: F32  # (L,) drawn at month 0
    undrawn: F32  # (L,) to be drawn
    draw_month: I32  # 0: no draw
    first_month: I32  # first month in service, at least 1
    term: I32  # (L,) month of maturity
    margin: F32  # a month: rate/12, or spread/12
    floating: F32  # 1: the base curve is added
    principal: F32  # (L, H + 1) scheduled
    reserve: F32  # (L,) at month 0
    reserve_months: F32  # (L,) target
    dscr_lockup: F32  # (L,) 0: never
    dscr_default: F32  # (L,) 0: never
    dscr_default_months: I32  # (L,) months running
    ltv_cap: F32  # (L,) 0: none
    refinance_ltv: F32  # (L,) 0: never
    sweep_share: F32  # (L,) of the surplus
    support: F32  # (L,) total
    pulled_in: I32  # threshold of 24 bits: 1 - remoteness
    kept_share: F32  # 1 - guarantee_share
    first_deployment: I32  # (L + 1,) deployments of loan l: first_deployment[l] … first_deployment[l + 1]


@dataclass(frozen=True, slots=True)
class DeploymentPlan:
    """Deployments, by loan and id: (D,)."""

    key: U64  # hash of the deployment's id
    loan: I32  # position among the GPU loans
    generation: I32  # position among the generations
    vintage: I32  # position among the vintages
    tenant: I32  # column of default months; -1: spot market
    in_service: I32  # month as on the tape
    start: I32  # max(1, in_service)
    contract_end: I32  # last month paid
    contract_rate: F32  # contract price × paid share, dollars an hour
    units: I64  # chips
    hours: F32  # k_d = 730·units/C_l
    opex: F32  # dollars an hour at month 0
    hourly_opex: F32  # k_d·opex_d
    unit_share: F32  # u_d = units/C_l
    sale_pressure: F32  # α_s × the loan's chips of the generation
    claim_recovery: F32  # of the tenant's class


@dataclass(frozen=True, slots=True)
class RecoveryPlan:
    """Contracts and recovery (5.2, 6)."""

    paid_share: np.float32  # of a contract price
    renewal: I32  # (Z,) thresholds of 24 bits
    renewal_keep: np.float32  # 1 - discount
    renewal_term: np.int32  # months
    spot_keep: np.float32  # 1 - fee
    cost_growth: F32  # (T + 1,) e^(rise·tΔ)
    base_rate: F32  # (H + 1,) a month
    step_in: np.int32  # threshold of 24 bits
    performance: np.float32  # of a kept contract
    opex_stress: np.float32  # times opex, of a kept contract
    lag_table: F32  # (2, cells) Gamma sale lag of a score, months
    lag_max: np.int32  # months
    haircut_table: F32  # (2, cells) Beta haircut of a score
    sale_keep: np.float32  # 1 - cost
    storage_share: np.float32  # of opex, until the sale
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
    segments: I32  # (segment columns, all loans) code of the loan's value in each of the user's columns
    segment_sizes: I32  # (segment columns,) number of distinct values

    @property
    def groups(self) -> dict[str, slice]:
        """Where each kind of group of defaults stands among all groups: by month (from month 1), year, cause, month and
        cause, and the i-th segment column."""
        horizon, n_causes = int(self.market.horizon), len(CAUSES)
        sizes = {"month": horizon, "year": -(-horizon // 12), "cause": n_causes, "month_cause": horizon * n_causes}
        sizes |= {f"segment_{i}": int(n) for i, n in enumerate(self.segment_sizes)}
        ends = np.cumsum(list(sizes.values())).tolist()
        return {name: slice(end - n, end) for (name, n), end in zip(sizes.items(), ends, strict=True)}

    @property
    def n_groups(self) -> int:
        """Number of groups of all kinds."""
        return int(max(part.stop for part in self.groups.values()))

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
    def load(cls, path: str | Path | IO[bytes]) -> Plan:
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
        if isinstance(value, np.float32) and abs(value) < _NEGLIGIBLE:
            object.__setattr__(part, field.name, np.float32(0))
        if isinstance(value, np.ndarray):
            value = np.ascontiguousarray(value)
            if value.dtype == np.float32:
                value = np.where(np.abs(value) < _NEGLIGIBLE, np.float32(0), value)
            value.setflags(write=False)
            object.__setattr__(part, field.name, value)
    return part
