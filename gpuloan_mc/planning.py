"""From a portfolio and a market to a plan: ids become hashes, curves become tables, the pilot of (3.2) runs here."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from . import tables
from .errors import InputRejected, Problem
from .inputs.market_file import FILE_NAME
from .kept_numbers import kept
from .market import GpuMarket, Launches, Market, Regimes
from .pilot import matched_hazards
from .plan import FREE, U64, DeploymentPlan, LoanPlan, MarketPlan, ObligorPlan, PlainPlan, Plan, RecoveryPlan, freeze
from .reference.arithmetic import F32, F64, I32, I64
from .reference.philox import event_threshold
from .tables import MONTH

if TYPE_CHECKING:
    import pandas as pd

    from .portfolio import Portfolio

f32, i32 = np.float32, np.int32
LOWEST_LOG_PRICE = -40.0
BELOW_EVERY_FLOOR = -(2.0**20)  # of a forced price: the floor is the price
FORCED_HAZARD = 2.0**40  # ln H exceeds every threshold
MAX_CLASSES = 64
NEVER_LOG_SCALE = -1000.0  # a scale of 0: no threshold is ever reached
MAX_CHIPS_WORTH_USD = 1e14  # proceeds in cents stay inside int64
MAX_BALANCE_GROWTH = 4.0  # of the commitment: cents and their sums stay inside int64
_NO_TABLE = np.zeros((2, 1), dtype=np.float32)


def build_plan(portfolio: Portfolio, market: Market) -> Plan:
    """The plan of a book.

    Raises:
        InputRejected: two ids have the same hash, or numbers are too extreme to be simulated.
    """
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # refused below, by name
        plan = _build(portfolio, market)
    _refuse_what_is_not_finite(plan)
    return plan


def _build(portfolio: Portfolio, market: Market) -> Plan:
    loans, deployments = portfolio.loans, portfolio.deployments
    secured = loans["loan_id"].isin(set(deployments["loan_id"])).to_numpy()
    vintages = _vintages(deployments, market)
    market_plan = build_market(market, vintages, bool(secured.any()), _longest_contract(deployments))
    obligors, columns = _obligors(portfolio, market, market_plan, secured)
    index, keys = np.arange(len(loans), dtype=np.int32), hash_ids("loan", loans["loan_id"])
    gpu_loans = loans[secured]
    return Plan(
        market=market_plan,
        obligors=obligors,
        plain=_plain(loans[~secured], portfolio, index[~secured], keys[~secured], columns, market),
        loans=_loans(gpu_loans, deployments, portfolio, index[secured], keys[secured], columns, market),
        deployments=_deployments(gpu_loans, deployments, portfolio, columns, market, vintages),
        recovery=_recovery(market, market_plan),
        discount=tables.discount_factors(_base_curve(market)),
        **_segments(portfolio),
    )


def _refuse_what_is_not_finite(plan: Plan) -> None:
    wrong = [name for name, array in plan.arrays() if not np.isfinite(array).all()]
    if wrong:
        message = (
            f"the market's numbers are too extreme: {', '.join(wrong)} would not be finite; use milder rates or terms"
        )
        raise InputRejected([Problem(FILE_NAME, message, "not-finite")])


def _segments(portfolio: Portfolio) -> dict[str, I32]:
    """Codes of the values in the user's own columns, in the order of `Portfolio.segment_values`."""
    loans, columns = portfolio.loans, portfolio.segment_columns
    codes = np.zeros((len(columns), len(loans)), dtype=i32)
    sizes = np.zeros(len(columns), dtype=i32)
    for i, column in enumerate(columns):
        values = portfolio.segment_values(column)
        place = {value: k for k, value in enumerate(values)}
        codes[i] = [place[value] for value in loans[column]]
        sizes[i] = len(values)
    return {"segments": codes, "segment_sizes": sizes}


def hash_ids(kind: str, ids: Any) -> U64:
    """8-byte BLAKE2b of "kind:id" as an integer (docs/model.md 1.6).

    Raises:
        InputRejected: two different ids share a hash.
    """
    keys = [int.from_bytes(hashlib.blake2b(f"{kind}:{i}".encode(), digest_size=8).digest(), "little") for i in ids]
    if len(set(keys)) != len(keys):
        message = f"two {kind} ids have the same hash; rename one of them"
        raise InputRejected([Problem(f"{kind}s", message, "id-hash")])
    return np.array(keys, dtype=np.uint64)


def _base_curve(market: Market) -> F64:
    return tables.forward_curve(market.base_rate.months, market.base_rate.rates, market.horizon_months)


def generation_order(gpu: GpuMarket) -> list[int]:
    """Positions of the market's generations by launch month, then name."""
    return sorted(range(len(gpu.generations)), key=lambda i: (gpu.generations[i].launch_month, gpu.generations[i].name))


def _longest_contract(deployments: pd.DataFrame) -> int:
    if not len(deployments):
        return 0
    return int((np.maximum(deployments["in_service_month"], 0) + deployments["contract_months"]).max())


# --- market -----------------------------------------------------------------------------------------------------------


def _vintages(deployments: pd.DataFrame, market: Market) -> list[tuple[str, int]]:
    """Distinct (generation, in-service month), sorted; at most 64 in a book."""
    pairs = sorted({(str(g), int(m)) for g, m in zip(deployments["gpu"], deployments["in_service_month"], strict=True)})
    if len(pairs) > 64:
        message = f"the book has {len(pairs)} vintages (gpu, in_service_month); at most 64: round in_service_month"
        raise InputRejected([Problem("deployments", message, "too-many-vintages")])
    return pairs


def build_market(
    market: Market, vintages: list[tuple[str, int]], sells_chips: bool, longest_contract: int = 0
) -> MarketPlan:
    """The market block of a plan; `vintages` are pairs (generation's name, in-service month)."""
    horizon, gpu, regimes, demand = market.horizon_months, market.gpu, market.regimes, market.demand
    n_months = horizon + (gpu.recovery.lag_max_months if gpu is not None and sells_chips else 0)
    jump = -np.expm1(-demand.jumps_per_year * MONTH)
    plan = MarketPlan(
        horizon=i32(horizon),
        n_months=i32(n_months),
        regime_thresholds=event_threshold(_moves_of_a_month(regimes)),
        regime_means=np.array(regimes.means, dtype=f32),
        initial_regime=i32(regimes.names.index(regimes.initial)),
        initial_demand=f32(demand.initial),
        demand_pull=f32(-np.expm1(-demand.mean_reversion * MONTH)),
        demand_shock=f32(tables.shock(demand.volatility, demand.mean_reversion)),
        jump_down=i32(event_threshold(jump * demand.jump_down_share)),
        jump_any=i32(event_threshold(jump)),
        jump_table=tables.score_table(tables.exponential_score, demand.jump_mean),
        factor_scale=f32(1 / np.sqrt(horizon)),
        forced_demand=_forced_demand(market, n_months),
        **_gpu_fields(market, vintages, n_months, longest_contract),
    )
    return freeze(plan)  # type: ignore[no-any-return]


def _moves_of_a_month(regimes: Regimes) -> F64:
    """Cumulative probabilities (Z, Z - 1) of the next month's regime, by this month's."""
    rates = np.array(regimes.transitions, dtype=np.float64)
    generator = rates - np.diag(rates.sum(axis=1))

    def find() -> F64:
        from scipy import linalg

        return np.asarray(np.cumsum(linalg.expm(generator * MONTH), axis=1)[:, :-1])

    return kept("moves of regimes", (generator.tobytes(),), (len(rates), len(rates) - 1), np.float64, find)


def _forced_demand(market: Market, n_months: int) -> F32:
    forced = market.demand.forced
    if forced is None:
        return np.full(n_months + 1, FREE)
    levels = tables.forced_path(forced.months, forced.levels, forced.after == "hold", n_months)
    return np.where(np.isnan(levels), FREE, levels.astype(f32))


def _gpu_fields(
    market: Market, vintages: list[tuple[str, int]], n_months: int, longest_contract: int
) -> dict[str, Any]:
    gpu = market.gpu
    if gpu is None:
        return _no_gpu_fields(n_months)
    order = generation_order(gpu)
    generations = [gpu.generations[i] for i in order]
    names = [g.name for g in generations]
    years = np.arange(n_months + 1)[:, None] * MONTH

    def column(field: str) -> F64:
        return np.array([getattr(g, field) for g in generations], dtype=np.float64)

    depth = column("depth_chips") * np.exp(column("depth_growth") * years)
    cost = column("opex_usd_per_hour") * np.exp(gpu.costs.rise * years)
    floor = gpu.costs.floor_share * cost
    log_floor = np.where(floor > 0, np.log(np.maximum(floor, 1e-15)), LOWEST_LOG_PRICE)
    base = (
        np.log(column("price_usd_per_hour")) - column("demand_beta") * market.demand.initial - column("decline") * years
    )
    base, log_floor = _forced_prices(gpu, names, base, log_floor)
    calendar = np.zeros((n_months + 1, len(names)), dtype=np.int64)
    for expiry in gpu.overhang.calendar:
        if expiry.month <= n_months:
            calendar[expiry.month, names.index(expiry.gpu)] += expiry.units
    last = max(n_months, market.horizon_months + gpu.contracts.renewal_term_months, longest_contract) + 1
    left = (column("life_end_month") - np.arange(last + 1)[:, None]) * MONTH
    return {
        "spot_decay": f32(np.exp(-gpu.spot.mean_reversion * MONTH)),
        "spot_shock": f32(tables.shock(gpu.spot.volatility, gpu.spot.mean_reversion)),
        "spot_premium": f32(np.log(gpu.spot.premium)),
        "generation_decay": f32(np.exp(-gpu.generation_factors.mean_reversion * MONTH)),
        "generation_shock": np.array(
            [tables.shock(g.volatility, gpu.generation_factors.mean_reversion) for g in generations], dtype=f32
        ),
        "generation_cholesky": np.linalg.cholesky(_generation_correlation(gpu, order)).astype(f32),
        **_launch_fields(gpu, column("launch_month")),
        "overhang_decay": f32(np.exp(-gpu.overhang.absorption * MONTH)),
        "overhang_impact": f32(gpu.overhang.impact),
        "own_weight": f32(gpu.overhang.own_weight),
        "calendar": calendar,
        "inverse_depth": (1 / depth).astype(f32),
        "depth_weights": (depth / depth.sum(axis=1, keepdims=True)).astype(f32),
        "base_log_price": base.astype(f32),
        "demand_beta": column("demand_beta").astype(f32),
        "price_floor": log_floor.astype(f32),
        "utilisation_level": f32(gpu.utilisation.level),
        "utilisation_slope": f32(gpu.utilisation.slope),
        "utilisation_low": f32(gpu.utilisation.low),
        "utilisation_high": f32(gpu.utilisation.high),
        "hourly_cost": cost.astype(f32),
        "vintage_generation": np.array([names.index(name) for name, _ in vintages], dtype=i32),
        "value_cap": _value_caps(gpu, vintages, n_months).astype(f32),
        "scrap_value": (column("scrap_share") * column("cost_when_new_usd")).astype(f32),
        "annuity": tables.continuous_annuity(left, gpu.value.buyers_yield + gpu.value.expected_decline).astype(f32),
    }


def _forced_prices(gpu: GpuMarket, names: list[str], base: F64, log_floor: F64) -> tuple[F64, F64]:
    """(2.9) where a price is forced: it is the floor, and the rest lies far below it."""
    base, log_floor = base.copy(), log_floor.copy()
    for path in gpu.forced_prices:
        g = names.index(path.gpu)
        values = np.log(np.array(path.usd_per_hour)).tolist()
        forced = tables.forced_path(path.months, values, path.after == "hold", len(base) - 1)
        here = ~np.isnan(forced)
        log_floor[here, g] = np.maximum(forced[here], log_floor[here, g])
        base[here, g] = BELOW_EVERY_FLOOR
    return base, log_floor


def _no_gpu_fields(n_months: int) -> dict[str, Any]:
    zero, none = f32(0), np.zeros(0, dtype=f32)
    by_month = np.zeros((n_months + 1, 0), dtype=f32)
    scalars = (
        "spot_decay spot_shock spot_premium generation_decay overhang_decay overhang_impact own_weight "
        "utilisation_level utilisation_slope utilisation_low utilisation_high"
    )
    vectors = (
        "generation_shock launch_first launch_cadence launch_ramp_inverse launch_impact launch_gain_mean "
        "launch_gain_sd demand_beta scrap_value"
    )
    matrices = "inverse_depth depth_weights base_log_price price_floor hourly_cost value_cap annuity"
    return {
        **dict.fromkeys(scalars.split(), zero),
        **{name: none.copy() for name in vectors.split()},
        **{name: by_month.copy() for name in matrices.split()},
        "generation_cholesky": np.zeros((0, 0), dtype=f32),
        "launch_lag_tables": np.zeros((0, 2, 1), dtype=f32),
        "hit_by_first": np.zeros((0, 0), dtype=f32),
        "calendar": np.zeros((n_months + 1, 0), dtype=np.int64),
        "vintage_generation": np.zeros(0, dtype=i32),
    }


def _generation_correlation(gpu: GpuMarket, order: list[int]) -> F64:
    factors = gpu.generation_factors
    if factors.correlation is not None:
        return np.array(factors.correlation, dtype=np.float64)[np.ix_(order, order)]
    place = np.arange(len(order))
    return np.asarray((factors.correlation_decay or 0.0) ** np.abs(place[:, None] - place), dtype=np.float64)


def _launch_fields(gpu: GpuMarket, launch_months: F64) -> dict[str, Any]:
    """The families of (2.6): the own makers' launches, whose first is the newest generation, and the rivals'."""
    everything, older = np.ones(len(launch_months)), (launch_months < launch_months.max()).astype(np.float64)
    families: list[tuple[Launches, F64]] = []
    if gpu.launches is not None:
        families.append((gpu.launches, older))
    if gpu.rival_launches is not None:
        # an empty family in front keeps the rivals' draws at entity 1 whether or not the first family is on
        if not families:
            families.append((gpu.rival_launches.replace(impact=0.0), older))
        families.append((gpu.rival_launches, everything))
    lags = [tables.score_table(tables.gamma_score, f.lag_mean_months, f.lag_shape) for f, _ in families]
    return {
        "launch_first": np.array([f.first_month for f, _ in families], dtype=f32),
        "launch_cadence": np.array([f.cadence_months for f, _ in families], dtype=f32),
        "launch_lag_tables": np.stack(lags) if lags else np.zeros((0, 2, 1), dtype=f32),
        "launch_ramp_inverse": np.array([1 / f.ramp_months for f, _ in families], dtype=f32),
        "launch_impact": np.array([f.impact for f, _ in families], dtype=f32),
        "launch_gain_mean": np.array([f.gain_mean for f, _ in families], dtype=f32),
        "launch_gain_sd": np.array([f.gain_sd for f, _ in families], dtype=f32),
        "hit_by_first": np.array([hit for _, hit in families], dtype=f32).reshape(len(families), len(launch_months)),
    }


def _value_caps(gpu: GpuMarket, vintages: list[tuple[str, int]], n_months: int) -> F64:
    caps = np.zeros((n_months + 1, len(vintages)))
    by_name = {g.name: g for g in gpu.generations}
    for v, (name, in_service) in enumerate(vintages):
        age = np.maximum(np.arange(n_months + 1) - in_service, 0) * MONTH
        new = by_name[name].recoverable_share * by_name[name].cost_when_new_usd
        caps[:, v] = new * np.exp(-gpu.value.ageing * age)
    return caps


# --- obligors ---------------------------------------------------------------------------------------------------------


def _obligors(
    portfolio: Portfolio, market: Market, market_plan: MarketPlan, secured: Any
) -> tuple[ObligorPlan, dict[str, int]]:
    """The obligor block, and the column of default months of each obligor's id."""
    frame, dependence = portfolio.obligors, market.dependence
    classes = {c.name: i for i, c in enumerate(market.hazard_classes)}
    nu = dependence.degrees_of_freedom
    ids = [str(i) for i in frame["obligor_id"]]
    keys = hash_ids("obligor", ids)
    month = np.minimum(frame["default_month"].to_numpy(np.int64), market.horizon_months + 1)
    forced, forced_months = month > 0, np.unique(month[month > 0])
    grouped = _decided_in_groups(portfolio, secured, ids) & dependence.grouped & ~forced
    obligor_class = np.array([classes[str(c)] for c in frame["hazard_class"]], dtype=i32)
    obligor_class[forced] = len(classes) + np.searchsorted(forced_months, month[forced])
    scale = np.where(forced, 1.0, frame["pd_scale"].to_numpy(np.float64))
    log_scale = np.where(scale > 0, np.log(np.maximum(scale, 1e-30)), NEVER_LOG_SCALE).astype(f32)
    loadings, residual = _loadings(portfolio, market)
    rows = np.column_stack([obligor_class, log_scale, loadings, residual])[grouped]
    groups, group = np.unique(rows, axis=0, return_inverse=True)
    unmoved, none = [1.0] * len(market.regimes.names), [0.0] * len(forced_months)
    shift = [c.regime_multipliers or unmoved for c in market.hazard_classes] + [unmoved for _ in forced_months]
    own = ~grouped
    plan = ObligorPlan(
        hazard=np.column_stack([matched_hazards(market, market_plan), _forced_hazards(forced_months, market)]).astype(
            f32
        ),
        regime_shift=np.log(np.array(shift)).astype(f32),
        demand_sensitivity=np.array([c.demand_sensitivity for c in market.hazard_classes] + none, dtype=f32),
        overhang_sensitivity=np.array([c.overhang_sensitivity for c in market.hazard_classes] + none, dtype=f32),
        is_t_copula=i32(nu is not None),
        mixing_table=_NO_TABLE if nu is None else tables.score_table(tables.mixing_score, nu),
        inverse_mixing_table=_NO_TABLE if nu is None else tables.score_table(tables.inverse_mixing_score, nu),
        log_hazard_table=_log_hazard_table(nu),
        latent_table=tables.table_of(tables.latent_of_log_hazard, nu, low=-24, high=4, per_unit=64),
        n_factors=i32(len(dependence.factors)),
        own_class=obligor_class[own],
        own_log_scale=log_scale[own],
        own_loadings=loadings[own].astype(f32),
        own_residual=residual[own].astype(f32),
        own_key=keys[own],
        group_class=groups[:, 0].astype(i32),
        group_log_scale=groups[:, 1].astype(f32),
        group_loadings=groups[:, 2:-1].astype(f32),
        group_inverse_residual=(1 / groups[:, -1]).astype(f32),
        grouped_group=group.reshape(-1).astype(i32),
        grouped_key=keys[grouped],
    )
    order = [i for i, g in zip(ids, grouped, strict=True) if not g] + [
        i for i, g in zip(ids, grouped, strict=True) if g
    ]
    return freeze(plan), {name: column for column, name in enumerate(order)}


def _forced_hazards(months: I64, market: Market) -> F64:
    """Hazards (H + 1, months) of parties whose default month is given: nothing before it, then more than any threshold."""
    if len(market.hazard_classes) + len(months) > MAX_CLASSES:
        found = f"{len(months)} distinct default_months and {len(market.hazard_classes)} hazard classes"
        message = f"{found}; at most {MAX_CLASSES} together: let parties default in the same months"
        raise InputRejected([Problem("obligors", message, "default-months")])
    months_ahead = np.arange(market.horizon_months + 1)[:, None]
    return np.where(months_ahead == months, FORCED_HAZARD, 0.0)


def _log_hazard_table(nu: float | None) -> F32:
    low, high, per_unit = (-8, 8, 64) if nu is None else (-64, 64, 32)
    return tables.table_of(tables.log_cumulative_hazard, nu, low=low, high=high, per_unit=per_unit)


def _decided_in_groups(portfolio: Portfolio, secured: Any, ids: list[str]) -> Any:
    """True for obligors that only borrow plain loans (3.6)."""
    loans = portfolio.loans
    plain = set(loans["borrower_id"][~secured])
    other = set(loans["borrower_id"][secured]) | set(portfolio.deployments["tenant_id"])
    return np.array([i in plain and i not in other for i in ids], dtype=np.bool_)


def _loadings(portfolio: Portfolio, market: Market) -> tuple[F64, F64]:
    """ã = Lᵀa (n_obligors, K) and the residual sqrt(1 - |ã|²) (3.3)."""
    names, frame = market.dependence.factors, portfolio.obligors
    given = np.zeros((len(frame), len(names)))
    for k, name in enumerate(names):
        if f"loading_{name}" in frame.columns:
            given[:, k] = frame[f"loading_{name}"].to_numpy(np.float64)
    matrix = market.dependence.correlation
    cholesky = np.linalg.cholesky(np.array(matrix, dtype=np.float64)) if matrix is not None else np.eye(len(names))
    # one factor after another: a matrix product's order of adding depends on how many obligors there are
    loadings, explained = np.zeros_like(given), np.zeros(len(given))
    for k in range(len(names)):
        loadings += given[:, [k]] * cholesky[k]
    for k in range(len(names)):
        explained += loadings[:, k] ** 2
    return loadings, np.sqrt(1 - explained)


# --- loans ------------------------------------------------------------------------------------------------------------


def _commitment(loans: pd.DataFrame) -> F64:
    """Balance and undrawn in whole cents."""
    total = loans["balance_usd"].to_numpy(np.float64) + loans["undrawn_usd"].to_numpy(np.float64)
    return np.asarray(np.rint(total * 100))


def _share(loans: pd.DataFrame, column: str) -> F64:
    """A money column as a fraction of the loan's commitment."""
    return np.asarray(loans[column].to_numpy(np.float64) * 100 / _commitment(loans))


def loan_terms(loans: pd.DataFrame, portfolio: Portfolio, first_month: I64, market: Market) -> tables.Terms:
    """What the schedules of rows of the loan tape are made of.

    `first_month` (n_loans,) is the month from which debt service is due (docs/model.md 5.3).
    """
    n, horizon = len(loans), market.horizon_months
    term = loans["term_months"].to_numpy(np.int64)
    curve = tables.forward_curve(market.base_rate.months, market.base_rate.rates, int(term.max(initial=1)))
    rate, spread = loans["rate"].to_numpy(np.float64), loans["spread"].to_numpy(np.float64)
    yearly = np.where(np.isnan(rate)[:, None], spread[:, None] + curve, rate[:, None])
    width = max(yearly.shape[1], horizon + 1)
    yearly = np.pad(yearly, ((0, 0), (0, width - yearly.shape[1])), mode="edge")
    vector = np.zeros((n, horizon + 1))
    row = {loan: i for i, loan in enumerate(loans["loan_id"])}
    commitment = _commitment(loans)
    schedules = portfolio.schedules
    for loan, month, principal in zip(
        schedules["loan_id"], schedules["month"], schedules["principal_usd"], strict=True
    ):
        if loan in row and month <= horizon:
            vector[row[loan], month] += principal * 100 / commitment[row[loan]]
    kind = loans["amortisation"].to_numpy(str)
    return tables.Terms(
        balance=_share(loans, "balance_usd"),
        undrawn=_share(loans, "undrawn_usd"),
        draw_month=loans["draw_month"].to_numpy(np.int64),
        first_month=first_month,
        term=term,
        interest_only=loans["interest_only_months"].to_numpy(np.int64),
        annuity=kind == "annuity",
        linear=kind == "linear",
        rates=yearly * MONTH,
        vector=vector,
    )


def loan_schedules(loans: pd.DataFrame, portfolio: Portfolio, first_month: I64, market: Market) -> tuple[F64, F64]:
    """Opening balances and scheduled principal (n_loans, H + 1) of rows of the loan tape, of each loan's commitment.

    Raises:
        InputRejected: a balance grows beyond bounds.
    """
    terms, horizon = loan_terms(loans, portfolio, first_month, market), market.horizon_months
    with np.errstate(over="ignore", invalid="ignore"):
        opening, principal = tables.schedule(terms, horizon)
        grown = np.nan_to_num(opening, nan=np.inf).max(axis=1) > MAX_BALANCE_GROWTH
    if grown.any():
        message = (
            f"interest that joins the balance before the first chip serves brings it above {MAX_BALANCE_GROWTH:g} times "
            "the commitment; check rate and in_service_month"
        )
        ids = loans["loan_id"].to_numpy()[grown]
        raise InputRejected([Problem("loans", f"loan {i}: {message}", "balance-growth") for i in ids])
    return opening, principal


def _columns(names: Any, columns: dict[str, int]) -> I32:
    return np.array([columns.get(str(name), -1) for name in names], dtype=i32)


def _plain(
    loans: pd.DataFrame, portfolio: Portfolio, index: I32, keys: U64, columns: dict[str, int], market: Market
) -> PlainPlan:
    opening, _ = loan_schedules(loans, portfolio, np.ones(len(loans), dtype=np.int64), market)
    lgd, sd = loans["lgd"].to_numpy(np.float64), loans["lgd_sd"].to_numpy(np.float64)
    random = sd > 0
    kinds = sorted(set(zip(lgd[random], sd[random], strict=True)))
    place = {kind: i for i, kind in enumerate(kinds)}
    loading = loans["lgd_loading"].to_numpy(np.float64)
    plan = PlainPlan(
        index=index,
        key=keys,
        obligor=_columns(loans["borrower_id"], columns),
        commitment_cents=_commitment(loans),
        term=loans["term_months"].to_numpy(i32),
        opening=opening,
        lgd=lgd,
        lgd_table_row=np.array([place.get(kind, -1) for kind in zip(lgd, sd, strict=True)], dtype=i32),
        lgd_loading=loading.astype(f32),
        lgd_residual=np.sqrt(1 - loading**2).astype(f32),
        lgd_tables=tables.score_tables(tables.beta_score, kinds) if kinds else np.stack([_NO_TABLE]),
        kept_share=1 - loans["guarantee_share"].to_numpy(np.float64),
    )
    return freeze(plan)  # type: ignore[no-any-return]


def _loans(
    loans: pd.DataFrame,
    deployments: pd.DataFrame,
    portfolio: Portfolio,
    index: I32,
    keys: U64,
    columns: dict[str, int],
    market: Market,
) -> LoanPlan:
    by_loan = deployments.groupby("loan_id")["in_service_month"].min()
    first = np.maximum(by_loan.reindex(loans["loan_id"]).to_numpy(np.int64), 1)
    counts = deployments["loan_id"].value_counts().reindex(loans["loan_id"]).to_numpy(np.int64)
    _, principal = loan_schedules(loans, portfolio, first, market)
    rate, spread = loans["rate"].to_numpy(np.float64), loans["spread"].to_numpy(np.float64)
    floating = np.isnan(rate)

    def single(column: str) -> F32:
        return loans[column].to_numpy(np.float64).astype(f32)

    def share(column: str) -> F32:
        return _share(loans, column).astype(f32)

    plan = LoanPlan(
        index=index,
        key=keys,
        parent=_columns(loans["borrower_id"], columns),
        commitment_cents=_commitment(loans),
        balance=share("balance_usd"),
        undrawn=share("undrawn_usd"),
        draw_month=loans["draw_month"].to_numpy(i32),
        first_month=first.astype(i32),
        term=loans["term_months"].to_numpy(i32),
        margin=(np.where(floating, spread, rate) * MONTH).astype(f32),
        floating=floating.astype(f32),
        principal=principal.astype(f32),
        reserve=share("reserve_usd"),
        reserve_months=single("reserve_months"),
        dscr_lockup=single("dscr_lockup"),
        dscr_default=single("dscr_default"),
        dscr_default_months=loans["dscr_default_months"].to_numpy(i32),
        ltv_cap=single("ltv_cap"),
        refinance_ltv=single("refinance_ltv"),
        sweep_share=single("sweep_share"),
        support=share("support_usd"),
        pulled_in=event_threshold(1 - loans["remoteness"].to_numpy(np.float64)),
        kept_share=(1 - loans["guarantee_share"].to_numpy(np.float64)).astype(f32),
        first_deployment=np.concatenate([[0], np.cumsum(counts)]).astype(i32),
    )
    return freeze(plan)  # type: ignore[no-any-return]


def _deployments(
    loans: pd.DataFrame,
    deployments: pd.DataFrame,
    portfolio: Portfolio,
    columns: dict[str, int],
    market: Market,
    vintages: list[tuple[str, int]],
) -> DeploymentPlan:
    place = {name: i for i, name in enumerate(loans["loan_id"])}
    loan = np.array([place[name] for name in deployments["loan_id"]], dtype=i32)
    order = np.argsort(loan, kind="stable")  # the tape is by id: so are the deployments of a loan
    frame, loan = deployments.iloc[order], loan[order]
    gpu = market.gpu
    names = [gpu.generations[i].name for i in generation_order(gpu)] if gpu is not None else []
    opex_of = {g.name: g.opex_usd_per_hour for g in gpu.generations} if gpu is not None else {}
    in_service = frame["in_service_month"].to_numpy(np.int64)
    units = frame["units"].to_numpy(np.int64)
    new = {g.name: g.cost_when_new_usd for g in gpu.generations} if gpu is not None else {}
    worth = float(sum(n * new[str(g)] for n, g in zip(units, frame["gpu"], strict=True)))
    if worth > MAX_CHIPS_WORTH_USD:
        message = f"the chips cost {worth:g} dollars when new; at most {MAX_CHIPS_WORTH_USD:g} are let in: check units"
        raise InputRejected([Problem("deployments", message, "chips-worth")])
    commitment_usd = _commitment(loans)[loan] / 100
    given = frame["opex_usd_per_hour"].to_numpy(np.float64)
    opex = np.where(np.isnan(given), np.array([opex_of[str(g)] for g in frame["gpu"]], dtype=np.float64), given)
    price = np.nan_to_num(frame["price_usd_per_hour"].to_numpy(np.float64))
    hours = 730 * units / commitment_usd
    generation = np.array([names.index(str(g)) for g in frame["gpu"]], dtype=i32)
    totals = np.zeros((len(loans), max(len(names), 1)))
    np.add.at(totals, (loan, generation), units)
    recovery_of = {c.name: c.claim_recovery for c in market.hazard_classes}
    class_of = dict(zip(portfolio.obligors["obligor_id"], portfolio.obligors["hazard_class"], strict=True))
    claims = [recovery_of[class_of[t]] if t else 0.0 for t in frame["tenant_id"]]
    vintage = {pair: v for v, pair in enumerate(vintages)}
    pairs = zip(frame["gpu"], in_service, strict=True)
    plan = DeploymentPlan(
        key=hash_ids("deployment", frame["deployment_id"]),
        loan=loan,
        generation=generation,
        vintage=np.array([vintage[str(g), int(m)] for g, m in pairs], dtype=i32),
        tenant=_columns(frame["tenant_id"], columns),
        in_service=in_service.astype(i32),
        start=np.maximum(in_service, 1).astype(i32),
        contract_end=(np.maximum(in_service - 1, 0) + frame["contract_months"].to_numpy(np.int64)).astype(i32),
        contract_rate=(price * (gpu.contracts.paid_share if gpu is not None else 1)).astype(f32),
        units=units,
        hours=hours.astype(f32),
        opex=opex.astype(f32),
        hourly_opex=(hours * opex).astype(f32),
        unit_share=(units / commitment_usd).astype(f32),
        sale_pressure=((gpu.recovery.sale_impact if gpu is not None else 0) * totals[loan, generation]).astype(f32),
        claim_recovery=np.array(claims, dtype=f32),
    )
    return freeze(plan)  # type: ignore[no-any-return]


def _recovery(market: Market, market_plan: MarketPlan) -> RecoveryPlan:
    gpu, n_months = market.gpu, int(market_plan.n_months)
    base = (_base_curve(market) * MONTH).astype(f32)
    if gpu is None:
        return _no_recovery(n_months, base)
    recovery, contracts = gpu.recovery, gpu.contracts
    months = np.arange(len(market_plan.annuity)) * MONTH
    lender = np.exp(-recovery.lenders_yield * months)
    annuity = market_plan.annuity[: n_months + 1].astype(np.float64)
    plan = RecoveryPlan(
        paid_share=f32(contracts.paid_share),
        renewal=event_threshold(contracts.renewal),
        renewal_keep=f32(1 - contracts.renewal_discount),
        renewal_term=i32(contracts.renewal_term_months),
        spot_keep=f32(1 - gpu.spot.fee),
        cost_growth=np.exp(gpu.costs.rise * np.arange(n_months + 1) * MONTH).astype(f32),
        base_rate=base,
        step_in=i32(event_threshold(recovery.step_in)),
        performance=f32(recovery.performance),
        opex_stress=f32(recovery.opex_stress),
        lag_table=tables.score_table(tables.gamma_score, recovery.lag_mean_months, recovery.lag_shape),
        lag_max=i32(recovery.lag_max_months),
        haircut_table=tables.score_table(tables.beta_score, recovery.haircut_mean, recovery.haircut_sd),
        sale_keep=f32(1 - recovery.sale_cost),
        storage_share=f32(recovery.storage_share),
        contract_annuity=np.concatenate([[0.0], np.cumsum(lender[1:])]).astype(f32),
        chip_discount=np.exp(-(recovery.lenders_yield + gpu.value.expected_decline) * months).astype(f32),
        lender_discount=np.exp(-recovery.lenders_yield * np.arange(recovery.lag_max_months + 1) * MONTH).astype(f32),
        inverse_annuity=np.where(annuity > 0, 1 / np.maximum(annuity, 1e-6), 0).astype(f32),
    )
    return freeze(plan)  # type: ignore[no-any-return]


def _no_recovery(n_months: int, base: F32) -> RecoveryPlan:
    zero, none = f32(0), np.zeros(1, dtype=f32)
    plan = RecoveryPlan(
        paid_share=zero,
        renewal=np.zeros(1, dtype=i32),
        renewal_keep=zero,
        renewal_term=i32(1),
        spot_keep=zero,
        cost_growth=np.ones(n_months + 1, dtype=f32),
        base_rate=base,
        step_in=i32(0),
        performance=zero,
        opex_stress=zero,
        lag_table=_NO_TABLE,
        lag_max=i32(0),
        haircut_table=_NO_TABLE,
        sale_keep=zero,
        storage_share=zero,
        contract_annuity=none,
        chip_discount=none.copy(),
        lender_discount=none.copy(),
        inverse_annuity=np.zeros((n_months + 1, 0), dtype=f32),
    )
    return freeze(plan)  # type: ignore[no-any-return]
