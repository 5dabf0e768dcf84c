"""A plan for the engine numba-cuda: few arrays of named rows, in the order of obligors that numba_layout.py chose.

A kernel's arguments are limited (4 KB, an array takes 56 to 88 bytes), so what has one shape lies in one array.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..plan import Plan
from ..reference.arithmetic import F32, F64, I32, I64
from ..reference.market import MAX_LAUNCHES
from .numba_layout import D_TENANT, Book, active_columns, lay_out

f32, i32 = np.float32, np.int32

NEVER = i32(2**30)  # a month that does not come; also breaches that are never enough
MOST_GENERATIONS = 32
PATHS_AT_ONCE = 4  # a block walks four neighbouring paths: one Philox call serves them where a draw needs one word

# DeviceBook.whole: whole numbers of the plan
(HORIZON, N_MONTHS, FIRST_REGIME, JUMP_DOWN, JUMP_ANY, IS_T, N_FACTORS, N_FED_BACK, STEP_IN, LAG_MAX, RENEWAL_TERM,
 N_GENERATIONS, N_FAMILIES, N_LOANS) = range(14)  # fmt: skip
# DeviceBook.real: float32 of the plan
(FIRST_DEMAND, DEMAND_PULL, DEMAND_SHOCK, FACTOR_SCALE, SPOT_DECAY, SPOT_SHOCK, SPOT_PREMIUM, GENERATION_DECAY,
 OVERHANG_DECAY, OVERHANG_IMPACT, OWN_WEIGHT, USED_LEVEL, USED_SLOPE, USED_LOW, USED_HIGH, PAID_SHARE, RENEWAL_KEEP,
 SPOT_KEEP, PERFORMANCE, OPEX_STRESS, SALE_KEEP, STORAGE_SHARE) = range(22)  # fmt: skip
# DeviceBook.scores: tables of a normal score; then launch lags by family, then LGD tables
JUMPS, MIXING_OF, INVERSE_MIXING_OF, SALE_LAGS, HAIRCUTS, LAUNCH_LAGS = range(6)
# DeviceBook.curves (rows, T + 1, G)
INVERSE_DEPTH, DEPTH_WEIGHT, BASE_LOG_PRICE, PRICE_FLOOR, HOURLY_COST, INVERSE_ANNUITY = range(6)
# DeviceBook.of_generation (rows, G); then a row a family: 1 where its launch 0 hits
GENERATION_SHOCK, DEMAND_BETA, SCRAP, HITS = range(4)
# DeviceBook.of_family (rows, F)
LAUNCH_FIRST, CADENCE, RAMP_INVERSE, LAUNCH_IMPACT, GAIN_MEAN, GAIN_SD = range(6)
# DeviceBook.of_class (rows, C)
DEMAND_SENSITIVITY, OVERHANG_SENSITIVITY = range(2)
# DeviceBook.by_month (rows, T + 1), by_lag (rows, months)
COST_GROWTH, BASE_RATE, FORCED_DEMAND = range(3)
CONTRACT_ANNUITY, CHIP_DISCOUNT, LENDER_DISCOUNT = range(3)
# DeviceBook.obligors (rows, P) and obligor_reals
CLASS, GROUP, PARTY, FIRST_PLAIN, END_PLAIN, RUN = range(6)
LOG_SCALE, RESIDUAL, INVERSE_RESIDUAL = range(3)
# DeviceBook.runs (rows, R) and run_reals
RUN_FIRST, RUN_CLASS, RUN_GROUP = range(3)
RUN_LOG_SCALE, RESIDUAL_LOW, RESIDUAL_HIGH = range(3)
# DeviceBook.loans (rows, L) and loan_reals
INDEX, PARENT, DRAW_MONTH, FIRST_MONTH, TERM, ALLOWED, PULLED_IN, FIRST_DEPLOYMENT, END_DEPLOYMENT = range(9)
(BALANCE, UNDRAWN, MARGIN, FLOATING, RESERVE, RESERVE_MONTHS, LOCKUP, COVENANT, LTV_CAP, REFINANCE, SWEEP, SUPPORT,
 KEPT_SHARE) = range(13)  # fmt: skip
# DeviceBook.deployments (rows, D) and deployment_reals
GENERATION, VINTAGE, TENANT, IN_SERVICE, START, CONTRACT_END, UNITS = range(7)
CONTRACT_RATE, HOURS, OPEX, HOURLY_OPEX, UNIT_SHARE, SALE_PRESSURE, CLAIM_RECOVERY = range(7)


class DeviceBook(NamedTuple):
    """All that a kernel reads. Sizes as in plan.py; P obligors by phase and class, R runs of them, A parties."""

    whole: I32
    real: F32
    scores: F32  # (tables, 2, cells)
    log_hazard_table: F32
    latent_table: F32
    regimes: I32  # (Z, Z): cumulative thresholds, then the one of a renewal
    regime_means: F32
    curves: F32
    calendar: I64  # (T + 1, G)
    annuity: F32  # (months, G)
    of_generation: F32
    cholesky: F32
    of_family: F32
    value_cap: F32  # (T + 1, V)
    by_month: F32
    by_lag: F32
    hazard: F32  # (H + 1, C)
    regime_shift: F32  # (C, Z)
    of_class: F32
    fed_back: I32  # (C,)
    phase_first: I64  # (4,)
    keys: Any  # (P + N + L + D,) uint64: obligors, plain loans, GPU loans, deployments
    obligors: I32
    obligor_reals: F32
    loadings: F32  # (P, K)
    runs: I32
    run_reals: F32
    run_low: F32  # (R, K)
    run_high: F32
    plain_amounts: F64  # (N, 3 + H + 1) as numba_layout.Plain
    plain_facts: I32  # (N, 4)
    plain_reals: F32  # (2, N) LGD loading and residual
    loans: I32
    loan_reals: F32
    principal: F32  # (H + 1, L)
    commitment: F64  # (L,) cents
    deployments: I32
    deployment_reals: F32


class DeviceWork(NamedTuple):
    """Memory of the paths in flight; the first dimension is the path's slot, four a block."""

    regime: Any  # (S, T + 1) int32
    by_month: Any  # (S, 3, T + 1): DEMAND, PREMIUM, USED
    outside: Any  # (S, T + 1, G) log prices before the overhang
    launches: Any  # (S, 2, F, MAX_LAUNCHES): months, sizes
    factors: Any  # (S, K + 2); the last two are W and 1/W
    cumulative: Any  # (S, C)
    log_hazard: Any  # (S, C, H + 1)
    bounds: Any  # (S, R) uint32
    months: Any  # (S, A) int32 default months of parties
    theta: Any  # (S, watched)
    loan: Any  # (S, 6, L) int32
    loan_reals: Any  # (S, 6, L)
    deployment: Any  # (S, 2, D) int32: FLAGS, END
    rate: Any  # (S, D) of the contract


DEMAND, PREMIUM, USED = range(3)
STATUS, SALE_MONTH, DEFAULT_MONTH, DEFAULT_CAUSE, SOLD, TENANT_LOST = range(6)
BALANCE_LEFT, RESERVE_LEFT, SUPPORT_LEFT, EAD_OF, REST_OF, HAIRCUT_OF = range(6)
FLAGS, END = range(2)


def device_book(plan: Plan) -> DeviceBook:
    """The plan as kernels read it."""
    book = lay_out(plan)
    return DeviceBook(
        **_numbers(plan, book),
        **_market_part(plan),
        **_by_place(plan),
        **_obligor_part(book),
        **_plain_part(book),
        **_loan_part(plan, book),
        **_deployment_part(book),
        keys=_keys(book),
    )


def _numbers(plan: Plan, book: Book) -> dict[str, Any]:
    """Single numbers, in the order of their names above."""
    market, hazards, recovery = plan.market, book.hazards, plan.recovery
    whole = [
        market.horizon, market.n_months, market.initial_regime, market.jump_down, market.jump_any, hazards.is_t_copula,
        hazards.n_factors, hazards.n_fed_back, recovery.step_in, recovery.lag_max, recovery.renewal_term,
        len(market.demand_beta), len(market.launch_first), len(book.loans.key),
    ]  # fmt: skip
    real = [
        market.initial_demand, market.demand_pull, market.demand_shock, market.factor_scale, market.spot_decay,
        market.spot_shock, market.spot_premium, market.generation_decay, market.overhang_decay, market.overhang_impact,
        market.own_weight, market.utilisation_level, market.utilisation_slope, market.utilisation_low,
        market.utilisation_high, recovery.paid_share, recovery.renewal_keep, recovery.spot_keep, recovery.performance,
        recovery.opex_stress, recovery.sale_keep, recovery.storage_share,
    ]  # fmt: skip
    return {"whole": np.array(whole, i32), "real": np.array(real, f32)}


def _market_part(plan: Plan) -> dict[str, Any]:
    """Regimes, generations and launches."""
    market = plan.market
    families = [
        market.launch_first, market.launch_cadence, market.launch_ramp_inverse, market.launch_impact,
        market.launch_gain_mean, market.launch_gain_sd,
    ]  # fmt: skip
    generations = [market.generation_shock, market.demand_beta, market.scrap_value, *market.hit_by_first]
    return {
        "scores": _scores(plan),
        "regimes": np.ascontiguousarray(np.column_stack([market.regime_thresholds, plan.recovery.renewal]), i32),
        "regime_means": market.regime_means,
        "of_generation": _rows(generations, f32),
        "cholesky": market.generation_cholesky,
        "of_family": _rows(families, f32),
    }


def _by_place(plan: Plan) -> dict[str, Any]:
    """Curves by month and by age."""
    market, recovery, n_months = plan.market, plan.recovery, int(plan.market.n_months) + 1
    curves = [market.inverse_depth, market.depth_weights, market.base_log_price, market.price_floor, market.hourly_cost]
    by_month = [_padded(values, n_months) for values in (recovery.cost_growth, recovery.base_rate, market.forced_demand)]
    return {
        "curves": np.stack([*curves, recovery.inverse_annuity]),
        "calendar": market.calendar,
        "annuity": market.annuity,
        "value_cap": market.value_cap,
        "by_month": _rows(by_month, f32),
        "by_lag": _by_lag(plan),
    }


def _obligor_part(book: Book) -> dict[str, Any]:
    """Hazard classes, obligors, and the runs that share a bound."""
    hazards, obligors = book.hazards, book.obligors
    return {
        "log_hazard_table": _two_rows(hazards.log_hazard_table),
        "latent_table": _two_rows(hazards.latent_table),
        "hazard": hazards.hazard,
        "regime_shift": hazards.regime_shift,
        "of_class": _rows([hazards.demand_sensitivity, hazards.overhang_sensitivity], f32),
        "fed_back": hazards.fed_back,
        "phase_first": obligors.phase_first,
        "obligors": _obligors(book),
        "obligor_reals": _rows([obligors.log_scale, obligors.residual, obligors.inverse_residual], f32),
        "loadings": obligors.loadings,
        "runs": _rows([obligors.run_first[:-1], obligors.run_class, obligors.run_group], i32),
        "run_reals": _rows([obligors.run_log_scale, obligors.run_residual_low, obligors.run_residual_high], f32),
        "run_low": obligors.run_low,
        "run_high": obligors.run_high,
    }


def _plain_part(book: Book) -> dict[str, Any]:
    return {
        "plain_amounts": book.plain.amounts,
        "plain_facts": book.plain.facts,
        "plain_reals": _rows([book.plain.lgd_loading, book.plain.lgd_residual], f32),
    }


def _loan_part(plan: Plan, book: Book) -> dict[str, Any]:
    loans = book.loans
    facts = [
        loans.index, active_columns(plan)[loans.parent], loans.draw_month, loans.first_month, loans.term,
        np.where(loans.dscr_default > 0, loans.dscr_default_months, NEVER), loans.pulled_in, loans.first_deployment[:-1],
        loans.first_deployment[1:],
    ]  # fmt: skip
    reals = [
        loans.balance, loans.undrawn, loans.margin, loans.floating, loans.reserve, loans.reserve_months,
        loans.dscr_lockup, loans.dscr_default, loans.ltv_cap, loans.refinance_ltv, loans.sweep_share, loans.support,
        loans.kept_share,
    ]  # fmt: skip
    return {
        "loans": _rows(facts, i32),
        "loan_reals": _rows(reals, f32),
        "principal": np.ascontiguousarray(loans.principal.T),
        "commitment": loans.commitment_cents,
    }


def _deployment_part(book: Book) -> dict[str, Any]:
    deployments = book.deployments
    facts = [
        deployments.generation, deployments.vintage, book.lanes.deployment_facts[:, D_TENANT], deployments.in_service,
        deployments.start, deployments.contract_end, deployments.units,
    ]  # fmt: skip
    reals = [
        deployments.contract_rate, deployments.hours, deployments.opex, deployments.hourly_opex, deployments.unit_share,
        deployments.sale_pressure, deployments.claim_recovery,
    ]  # fmt: skip
    return {"deployments": _rows(facts, i32), "deployment_reals": _rows(reals, f32)}


def _rows(rows: Any, dtype: Any) -> Any:
    return np.ascontiguousarray(np.stack([np.asarray(row, dtype) for row in rows]))


def _padded(values: Any, n: int) -> F32:
    """The values, then zeros that nobody reads."""
    padded = np.zeros(n, f32)
    padded[: len(values)] = values[:n]
    return padded


def _two_rows(table: F32) -> F32:
    """A table of values and slopes; of no cells where the plan has none."""
    return np.ascontiguousarray(table).reshape(2, -1)


def _scores(plan: Plan) -> F32:
    """The tables of a normal score, all of the same cells; one that the plan leaves empty is never read."""
    market, recovery = plan.market, plan.recovery
    tables = [market.jump_table, plan.obligors.mixing_table, plan.obligors.inverse_mixing_table]
    tables += [recovery.lag_table, recovery.haircut_table, *market.launch_lag_tables, *plan.plain.lgd_tables]
    cells = max(table.shape[-1] for table in tables)
    stacked = np.zeros((len(tables), 2, cells), f32)
    for place, table in enumerate(tables):
        if table.size:
            stacked[place] = table
    return stacked


def _by_lag(plan: Plan) -> F32:
    recovery = plan.recovery
    rows = [recovery.contract_annuity, recovery.chip_discount, recovery.lender_discount]
    n = max(map(len, rows))
    return np.asarray(_rows([_padded(row, n) for row in rows], f32))


def _keys(book: Book) -> Any:
    obligors = book.obligors.key_low | (book.obligors.key_high << np.uint64(32))
    return np.concatenate([obligors, book.plain.key, book.loans.key, book.deployments.key]).astype(np.uint64)


def _obligors(book: Book) -> I32:
    """Class, group and run of each position, from the runs and, of the watched, from their classes."""
    obligors = book.obligors
    n, watched = obligors.facts.shape[0], int(obligors.phase_first[2])
    position = np.arange(n)
    run = np.searchsorted(obligors.run_first, position[:watched], side="right") - 1
    klass = np.searchsorted(obligors.watched_class, position[watched:], side="right") - 1
    rows = np.full((6, n), -1, i32)
    rows[CLASS] = np.concatenate([obligors.run_class[run], klass])
    rows[GROUP, :watched], rows[RUN, :watched] = obligors.run_group[run], run
    rows[PARTY : END_PLAIN + 1] = obligors.facts[:, :3].T
    return rows


def device_work(book: DeviceBook, n_slots: int, n_parties: int) -> DeviceWork:
    """Memory of some paths in flight."""
    whole = book.whole
    n_months, n_generations, n_families = (int(whole[k]) for k in (N_MONTHS, N_GENERATIONS, N_FAMILIES))
    n_classes, n_loans, n_deployments = book.hazard.shape[1], book.loans.shape[1], book.deployments.shape[1]

    def of_path(*shape: int, dtype: Any = f32) -> Any:
        return np.zeros((n_slots, *shape), dtype)

    return DeviceWork(
        regime=of_path(n_months + 1, dtype=i32),
        by_month=of_path(3, n_months + 1),
        outside=of_path(n_months + 1, n_generations),
        launches=of_path(2, n_families, MAX_LAUNCHES),
        factors=of_path(max(int(whole[N_FACTORS]), 1) + 2),
        cumulative=of_path(n_classes),
        log_hazard=of_path(n_classes, int(whole[HORIZON]) + 1),
        bounds=of_path(book.runs.shape[1], dtype=np.uint32),
        months=of_path(n_parties, dtype=i32),
        theta=of_path(int(book.phase_first[3] - book.phase_first[2])),
        loan=of_path(6, n_loans, dtype=i32),
        loan_reals=of_path(6, n_loans),
        deployment=of_path(2, n_deployments, dtype=i32),
        rate=of_path(n_deployments),
    )
