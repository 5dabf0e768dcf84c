"""The peer: the same model as a NumPy or CuPy array program, as a good quant would write it.

float32 arrays (loans, paths) in chunks that stay in the cache, `np.exp`, NumPy's generator, nothing from the engines:
no arithmetic rules, no digests, no reproducible draws a path. It reads the plan's arrays only to have the same book and
market, and leaves out what a book does not use. Section numbers are those of docs/model.md. It must agree with the
engines within its Monte Carlo error; it can't agree to the cent.

On a GPU the plan's arrays are CuPy's: NumPy's functions pass them on to CuPy, and what makes new arrays says `like` which.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np
import scipy.special

from gpuloan_mc.plan import Plan

Array = np.ndarray[Any, Any]

EVENT = 2.0**-24  # a plan's event thresholds are of 24 bits
REPAID = np.float32(2.0**-20)
f32 = np.float32


@dataclass(slots=True)
class Sample:
    """Losses in dollars and numbers of defaults, (n_paths,)."""

    losses: Array
    defaults: Array


Chunk = Callable[[Any, int], tuple[Array, Array]]


@dataclass(frozen=True, slots=True)
class Library:
    """What the program asks of NumPy, or of CuPy in its place. `values`: of the largest arrays of a chunk."""

    asarray: Callable[[Array], Any]
    generators: Callable[[int, int], list[Any]]  # seed, number
    special: Any
    values: int
    to_host: Callable[[Any], Array] = np.asarray


def numpy_library() -> Library:
    """NumPy; arrays of about 2 MiB, the fastest of 256 KiB to 4 MiB."""

    def generators(seed: int, n: int) -> list[Any]:
        return [np.random.Generator(np.random.SFC64(s)) for s in np.random.SeedSequence(seed).spawn(n)]

    return Library(np.asarray, generators, scipy.special, 2**19)


def cupy_library() -> Library:
    """CuPy, its generator (XORWOW) and special functions; arrays of 256 MiB, which fill a GPU."""
    import cupy
    import cupyx.scipy.special

    def generators(seed: int, n: int) -> list[Any]:
        return [cupy.random.default_rng(seed + k) for k in range(n)]

    return Library(cupy.asarray, generators, cupyx.scipy.special, 2**26, cupy.asnumpy)


def run(
    plan: Plan, n_paths: int, *, seed: int, workers: int = 1, method: str = "normals", library: Library | None = None
) -> Sample:
    """The losses of a book: of GPU loans, or of plain loans in one period by `method` (see `plain_program`)."""
    library = library or numpy_library()
    program = GpuProgram(plan, library) if len(plan.loans.index) else plain_program(plan, method, library)
    size = chunk_size(plan, library)
    counts = [min(size, n_paths - first) for first in range(0, n_paths, size)]
    with ThreadPoolExecutor(workers) as pool:
        parts = list(pool.map(program, library.generators(seed, len(counts)), counts))
    return Sample(*(np.concatenate([library.to_host(a) for a in column]) for column in zip(*parts, strict=True)))


def chunk_size(plan: Plan, library: Library) -> int:
    """Paths a chunk."""
    return max(32, library.values // max(len(plan.deployments.key), len(plan.plain.index)))


def moved(plan: Any, asarray: Callable[[Array], Any]) -> Any:
    """A plan, or a part of it, with its arrays of numbers made by `asarray`."""
    changes = {}
    for field in fields(plan):
        value = getattr(plan, field.name)
        if is_dataclass(value):
            changes[field.name] = moved(value, asarray)
        elif isinstance(value, np.ndarray) and value.ndim and value.dtype.kind in "biuf":
            changes[field.name] = asarray(value)
    return replace(plan, **changes)


# --- plain loans in one period ----------------------------------------------------------------------------------------


def plain_program(plan: Plan, method: str, library: Library) -> Chunk:
    """One-period Gaussian factor model. Methods: normals, a latent variable a loan; uniforms, a conditional PD a path.

    Uniforms pay where all loans of a path share their conditional PD: one loading, one PD.
    """
    obligors = plan.obligors
    hazard = obligors.hazard.astype(np.float64).sum(axis=0)
    grouped = len(obligors.grouped_key) > 0
    group = obligors.grouped_group
    kind = obligors.group_class[group] if grouped else obligors.own_class
    scale = np.exp(obligors.group_log_scale[group] if grouped else obligors.own_log_scale)
    loadings = obligors.group_loadings[group] if grouped else obligors.own_loadings
    own_share = 1 / obligors.group_inverse_residual[group] if grouped else obligors.own_residual
    limit = (scipy.special.ndtri(-np.expm1(-hazard[kind] * scale)) / own_share).astype(f32)
    pull = (-loadings.T / own_share).astype(f32)  # (factors, loans)
    weights = (plan.plain.commitment_cents * plan.plain.opening[:, 1] * plan.plain.lgd / 100).astype(f32)
    same = bool(np.ptp(limit) == 0 and np.ptp(pull, axis=1).max() == 0)
    flat = bool(np.ptp(weights) == 0)
    if same:
        limit, pull = limit[:1], pull[:, :1]
    unit = float(weights[0])
    limit, pull, weights = (library.asarray(a) for a in (limit, pull, weights))

    def chunk(rng: Any, n: int) -> tuple[Array, Array]:
        barrier = rng.standard_normal((n, len(pull)), f32) @ pull
        barrier += limit
        if method == "uniforms":
            hits = rng.random((n, len(weights)), f32) < library.special.ndtr(barrier)
        else:
            hits = rng.standard_normal((n, len(weights)), f32) < barrier
        defaults = np.count_nonzero(hits, axis=1)
        return (defaults * unit if flat else (hits @ weights).astype(np.float64)), defaults

    return chunk


# --- GPU loans --------------------------------------------------------------------------------------------------------


def at_score(table: Array, n: Array) -> Array:
    """A tabulated quantile at normal scores, linear between knots 1/64 apart from -8 on."""
    place = np.clip((n + f32(8)) * f32(64), 0, table.shape[1] - 1)
    cell = place.astype(np.int32)
    return table[0][cell] + table[1][cell] * (place - cell) * f32(1 / 64)


def rows_and_columns(flags: Array) -> tuple[Array, Array]:
    """Where a 2-D mask is set; several times faster than np.nonzero."""
    return np.divmod(np.flatnonzero(flags), flags.shape[1])


@dataclass(slots=True)
class Slot:
    """Deployment j of the loans that have one: the first `n` loans, which are sorted by number of deployments."""

    n: int
    at: slice  # rows of the (deployments, paths) arrays
    hours: Array  # (n, 1)


@dataclass(slots=True)
class Outside:
    """What no feedback reaches, months first: regimes and demand (T+1, P), log price less impact (T+1, G, P), spot."""

    regimes: Array
    demand: Array
    factor: Array  # F_0 (P,)
    log_price: Array
    spot_premium: Array  # e^(s_0 + χ)


class GpuProgram:
    """A book of GPU loans with its columns sorted so that slots are slices."""

    def __init__(self, plan: Plan, library: Library) -> None:
        if plan.obligors.is_t_copula or len(plan.plain.index) or len(plan.obligors.grouped_key):
            raise ValueError("the array program knows the Gaussian copula and books of GPU loans alone")
        self.plan, self.special = moved(plan, library.asarray), library.special
        loans, deployments = plan.loans, plan.deployments
        counts = np.diff(loans.first_deployment)
        self.order = np.argsort(-counts, kind="stable")
        ordered = counts[self.order]
        first = loans.first_deployment[:-1][self.order]
        sizes = [int((ordered > j).sum()) for j in range(int(ordered.max()))]
        rows = np.concatenate([first[:n] + j for j, n in enumerate(sizes)])
        self.dep = {name: getattr(deployments, name)[rows] for name in deployments.__slots__}
        self.dep["loan"] = np.concatenate([np.arange(n) for n in sizes])
        self.loan = {name: getattr(loans, name)[self.order] for name in loans.__slots__ if name != "first_deployment"}
        self.has_support = bool((self.loan["support"] > 0).any())
        self.values_chips = bool((self.loan["ltv_cap"] > 0).any() or (self.loan["refinance_ltv"] > 0).any())
        self.dep = {name: library.asarray(column) for name, column in self.dep.items()}
        self.loan = {name: library.asarray(column) for name, column in self.loan.items()}
        starts = np.cumsum([0, *sizes]).tolist()
        self.slots = [
            Slot(n, slice(starts[j], starts[j] + n), self.dep["hours"][starts[j] : starts[j] + n, None])
            for j, n in enumerate(sizes)
        ]
        self.commitment = self.loan["commitment_cents"] / 100
        self.all_lockable = self.loan["dscr_lockup"][:, None]
        self.sweep = self.loan["sweep_share"][:, None]
        self.dscr_default = self.loan["dscr_default"][:, None]
        self.breach_limit = np.where(
            self.loan["dscr_default"] > 0, np.minimum(self.loan["dscr_default_months"], 10_000), 20_000
        ).astype(np.int16)[:, None]

    def __call__(self, rng: Any, n: int) -> tuple[Array, Array]:
        return Paths(self, rng, n).run()


def outside(plan: Plan, rng: Any, n: int) -> Outside:
    """(2.1)-(2.6), (2.9) without impact, for all months at once."""
    m = plan.market
    months, n_generations = int(m.n_months), len(m.demand_beta)
    u, normals = rng.random((months + 1, 2, n), f32), rng.standard_normal((months + 1, 3, n), f32)
    cumulative = (m.regime_thresholds * EVENT).astype(f32)
    regimes = np.full((months + 1, n), m.initial_regime, np.int8, like=u)
    demand = np.full((months + 1, n), m.initial_demand, f32, like=u)
    size = at_score(m.jump_table, normals[:, 1])
    jump = np.where(u[:, 1] < m.jump_any * EVENT, np.where(u[:, 1] < m.jump_down * EVENT, -size, size), f32(0))
    own = np.einsum("gh,thn->tgn", m.generation_cholesky, rng.standard_normal((months + 1, n_generations, n), f32))
    own *= m.generation_shock[:, None]
    premium = m.spot_shock * normals[:, 2]
    premium[0], own[0] = 0, 0
    for t in range(1, months + 1):
        regimes[t] = (u[t, 0] >= cumulative[regimes[t - 1]].T).sum(axis=0)
        pull = m.demand_pull * (m.regime_means[regimes[t]] - demand[t - 1])
        demand[t] = demand[t - 1] + pull + m.demand_shock * normals[t, 0] + jump[t]
        premium[t] += m.spot_decay * premium[t - 1]
        own[t] += m.generation_decay * own[t - 1]
    log_price = own
    log_price += m.base_log_price[:, :, None]
    log_price += m.demand_beta[:, None] * demand[:, None, :]
    _obsolesce(plan, rng, n, log_price)
    factor = normals[1 : int(m.horizon) + 1, 0].sum(axis=0) * m.factor_scale
    return Outside(regimes, demand, factor, log_price, np.exp(m.spot_premium + premium))


def _obsolesce(plan: Plan, rng: Any, n: int, log_price: Array) -> None:
    """(2.5), (2.6): take Θ off the log prices."""
    m = plan.market
    t = np.arange(int(m.n_months) + 1, dtype=f32, like=log_price)[:, None]
    for family in range(len(m.launch_first)):
        month = np.zeros(n, f32, like=log_price) + m.launch_first[family]
        for j in range(32):
            if j > 0:
                lag = at_score(m.launch_lag_tables[family], rng.standard_normal(n, f32))
                month = month + m.launch_cadence[family] + lag
            if month.min() >= m.n_months:
                break
            gain = m.launch_gain_mean[family] + m.launch_gain_sd[family] * rng.standard_normal(n, f32)
            ramp = np.clip((t - month) * m.launch_ramp_inverse[family], 0, 1)
            ramp -= ramp[0]
            ramp *= m.launch_impact[family] * np.maximum(gain, 0)
            for g in range(log_price.shape[1]):
                if j > 0 or m.hit_by_first[family, g]:
                    log_price[:, g] -= ramp


class Paths:
    """A chunk of paths: state (loans, paths) and (deployments, paths), month by month."""

    def __init__(self, book: GpuProgram, rng: Any, n: int) -> None:
        plan, loan, dep = book.plan, book.loan, book.dep
        self.book, self.plan, self.rng, self.n = book, plan, rng, n
        n_loans, n_deployments = len(book.order), len(dep["loan"])
        self.outside = outside(plan, rng, n)

        def tiled(values: Array) -> Array:
            return np.repeat(values[:, None], n, axis=1)

        self.balance, self.reserve = tiled(loan["balance"]), tiled(loan["reserve"])
        self.support = tiled(loan["support"]) if book.has_support else None
        like = self.balance
        self.breaches = np.zeros((n_loans, n), np.int16, like=like)
        self.alive = np.ones((n_loans, n), np.bool_, like=like)
        self.pulled_in = rng.random((n_loans, n), f32) < (loan["pulled_in"] * EVENT)[:, None]
        self.let = tiled(dep["tenant"] >= 0)
        self.end = tiled(dep["contract_end"].astype(np.int16))
        self.rate = tiled(dep["contract_rate"])
        self.claim, self.released = (np.zeros((n_deployments, n), np.bool_, like=like) for _ in range(2))
        self.hazard = np.zeros((plan.obligors.hazard.shape[1], n), f32, like=like)
        self.barrier = self._barriers()
        self.fallen = np.zeros(self.barrier.shape, np.bool_, like=like)
        self.overhang = np.zeros((len(plan.market.demand_beta), n), f32, like=like)
        self.back = np.zeros_like(self.overhang)  # chips released this month
        self.sales: dict[int, list[tuple[Array, ...]]] = {}
        self.losses, self.defaults = np.zeros(n, like=like), np.zeros(n, np.int64, like=like)

    def _barriers(self) -> Array:
        """(3.3), (3.4): the cumulative hazard at which each obligor defaults, (obligors, paths)."""
        o = self.plan.obligors
        factors = self.rng.standard_normal((int(o.n_factors), self.n), f32)
        factors[0] = self.outside.factor
        quality = o.own_residual[:, None] * self.rng.standard_normal((len(o.own_key), self.n), f32)
        quality += o.own_loadings @ factors
        return -self.book.special.log_ndtr(-quality) * np.exp(-o.own_log_scale)[:, None]

    def run(self) -> tuple[Array, Array]:
        horizon, last = int(self.plan.market.horizon), int(self.plan.market.n_months)
        for t in range(1, last + 1):
            if t > horizon and not self.sales:
                break
            self.step_market(t)
            self.back[:] = 0
            if t <= horizon:
                self.step_obligors(t)
                self.step_contracts(t)
                self.step_loans(t)
            if t in self.sales:
                self.sell(t, self.sales.pop(t))
        return self.losses, self.defaults

    def step_market(self, t: int) -> None:
        """(2.7)-(2.11)."""
        m = self.plan.market
        self.overhang *= m.overhang_decay
        self.overhang += (self.back + m.calendar[t][:, None].astype(f32)) * m.inverse_depth[t][:, None]
        self.mean_overhang = m.depth_weights[t] @ self.overhang
        impact = self.mean_overhang + m.own_weight * (self.overhang - self.mean_overhang)
        log_price = self.outside.log_price[t] - m.overhang_impact * impact
        self.price = np.exp(np.maximum(log_price, m.price_floor[t][:, None]))
        demand = self.outside.demand[t]
        used = np.clip(
            m.utilisation_level + m.utilisation_slope * demand, m.utilisation_low, m.utilisation_high
        )
        self.spot = self.price * (self.outside.spot_premium[t] * used * self.plan.recovery.spot_keep)
        earned = np.maximum(self.price * used - m.hourly_cost[t][:, None], 0) * (f32(8760) * m.annuity[t][:, None])
        g = m.vintage_generation
        self.values = np.maximum(m.scrap_value[g][:, None], np.minimum(m.value_cap[t][:, None], earned[g]))

    def step_obligors(self, t: int) -> None:
        """(3.1), (3.5)."""
        o = self.plan.obligors
        shift = o.regime_shift[:, self.outside.regimes[t]] - o.demand_sensitivity[:, None] * self.outside.demand[t]
        shift += o.overhang_sensitivity[:, None] * self.mean_overhang
        self.hazard += o.hazard[t][:, None] * np.exp(shift)
        reached = self.hazard[o.own_class] >= self.barrier
        self.falls = reached & ~self.fallen
        self.fallen = reached

    def step_contracts(self, t: int) -> None:
        """(5.1), (5.2)."""
        dep, recovery = self.book.dep, self.plan.recovery
        live = self.let & (dep["start"] <= t)[:, None]
        lost = live & self.fallen[dep["tenant"]]
        d, p = rows_and_columns(lost)
        self.claim[d, p] = True
        self.end_contracts(d, p)
        d, p = rows_and_columns(live & ~lost & (self.end < t))
        renewed = self.rng.random(len(d), f32) < (recovery.renewal * EVENT)[self.outside.regimes[t][p]]
        self.end_contracts(d[~renewed], p[~renewed])
        d, p = d[renewed], p[renewed]
        self.rate[d, p] = self.price[dep["generation"][d], p] * (recovery.renewal_keep * recovery.paid_share)
        self.end[d, p] = t - 1 + recovery.renewal_term

    def end_contracts(self, d: Array, p: Array) -> None:
        self.let[d, p] = False
        self.release(d, p)

    def release(self, d: Array, p: Array) -> None:
        """(2.7): chips come back once."""
        new = ~self.released[d, p]
        d, p = d[new], p[new]
        self.released[d, p] = True
        place = self.book.dep["generation"][d].astype(np.int64) * self.n + p
        chips = np.bincount(place, weights=self.book.dep["units"][d], minlength=self.back.size)
        self.back += chips.reshape(self.back.shape).astype(f32)

    def income(self, t: int) -> Array:
        """(5.3) net operating income."""
        dep, income = self.book.dep, None
        serving = dep["start"] <= t
        opex = np.where(serving, dep["hourly_opex"], 0) * self.plan.recovery.cost_growth[t]
        cost = np.bincount(dep["loan"], weights=opex, minlength=len(self.balance)).astype(f32)
        for slot in self.book.slots:
            rate = self.spot[dep["generation"][slot.at]]
            np.copyto(rate, self.rate[slot.at], where=self.let[slot.at])
            rate *= slot.hours * serving[slot.at, None]
            if income is None:
                income = rate
                income -= cost[:, None]
            else:
                income[: slot.n] += rate
        return income

    def step_loans(self, t: int) -> None:
        """(5.3)-(5.6). Dead loans are computed with the rest and ignored."""
        book, loan = self.book, self.book.loan
        draws, matures = np.nonzero(loan["draw_month"] == t)[0], np.nonzero(loan["term"] == t)[0]
        waiting = np.nonzero(loan["first_month"] > t)[0]
        if len(draws):
            self.balance[draws] += loan["undrawn"][draws, None]
        income, balance, reserve = self.income(t), self.balance, self.reserve
        rates = loan["margin"] + loan["floating"] * self.plan.recovery.base_rate[t]
        value = self.collateral(t) if book.values_chips else None
        before = balance[waiting], reserve[waiting]

        principal = np.minimum(balance, loan["principal"][:, t, None])
        principal[matures] = balance[matures]
        refinanced = None
        if value is not None:
            cap = loan["refinance_ltv"][matures, None]
            refinanced = (cap > 0) & (balance[matures] <= cap * value[matures])
            principal[matures] = np.where(refinanced, 0, principal[matures])
        service = balance * rates[:, None]
        service += principal
        low = income < book.dscr_default * service
        self.breaches += 1
        self.breaches *= low
        self.breaches[matures] = 0
        self.breaches[waiting] = 0
        locked = income < book.all_lockable * service
        if value is not None:
            ltv_cap = loan["ltv_cap"][:, None]
            locked |= (ltv_cap > 0) & (balance > ltv_cap * value)
        gap = income
        gap -= service
        cushion = reserve + REPAID
        if self.support is not None:
            self.support[self.fallen[loan["parent"]]] = 0
            cushion += self.support
        fails = gap < -cushion
        fails[waiting] = False
        fails |= self.breaches >= book.breach_limit
        fails |= self.falls[loan["parent"]] & self.pulled_in
        fails &= self.alive
        if fails.any():
            self.default(t, fails, rates)
        need = np.maximum(-gap, 0)
        surplus = np.maximum(gap, 0)
        drawn = np.minimum(need, reserve)
        reserve -= drawn
        if self.support is not None:
            need -= drawn
            self.support -= np.minimum(need, self.support)
        service *= loan["reserve_months"][:, None]
        service -= reserve
        topped = np.minimum(surplus, np.maximum(service, 0, out=service), out=service)
        topped[matures] = 0
        reserve += topped
        surplus -= topped
        surplus *= np.where(locked, f32(1), book.sweep)
        balance -= principal
        if refinanced is not None:
            balance[matures] = np.where(refinanced, 0, balance[matures])
        balance -= np.minimum(surplus, balance, out=surplus)
        balance[waiting], reserve[waiting] = before[0] * (1 + rates[waiting, None]), before[1]
        repaid = balance <= REPAID
        repaid[waiting] = False
        repaid[loan["draw_month"] > t] = False
        self.alive &= ~(fails | repaid)

    def collateral(self, t: int) -> Array:
        """(5.6) value of the chips in service, of the commitment."""
        dep, value = self.book.dep, np.zeros_like(self.balance)
        share = np.where(dep["start"] <= t, dep["unit_share"], 0)[:, None]
        for slot in self.book.slots:
            value[: slot.n] += share[slot.at] * self.values[dep["vintage"][slot.at]]
        return value

    def default(self, t: int, fails: Array, rates: Array) -> None:
        """(6.1), (6.2) of the loans that fail; their chips are put up for sale."""
        loan, dep, m, recovery = self.book.loan, self.book.dep, self.plan.market, self.plan.recovery
        i, p = rows_and_columns(fails)
        stepped_in = self.rng.random(len(i), f32) < recovery.step_in * EVENT
        lag = np.clip(np.ceil(at_score(recovery.lag_table, self.rng.standard_normal(len(i), f32))), 1, recovery.lag_max)
        keep = 1 - at_score(recovery.haircut_table, self.rng.standard_normal(len(i), f32))
        rest = self.balance[i, p] * (1 + rates[i]) - self.reserve[i, p]
        sold = []
        for slot in self.book.slots:
            here = np.nonzero(i < slot.n)[0]
            d, q = slot.at.start + i[here], p[here]
            kept = stepped_in[here] & self.let[d, q] & (dep["start"][d] <= t)
            left = np.maximum(self.end[d, q] - t, 0)
            opex = recovery.opex_stress * dep["opex"][d] * recovery.cost_growth[t]
            contract = dep["hours"][d] * np.maximum(self.rate[d, q] - opex, 0) * recovery.contract_annuity[left]
            g = dep["generation"][d]
            chips = dep["unit_share"][d] * self.values[dep["vintage"][d], q] * recovery.chip_discount[left]
            chips *= m.annuity[t + left, g] * recovery.inverse_annuity[t, g] * keep[here] * recovery.sale_keep
            rest[here] -= np.where(kept, recovery.performance * contract + chips, 0)
            rest[here] -= np.where(self.claim[d, q], dep["claim_recovery"][d] * contract, 0)
            draw = loan["draw_month"][i[here]]
            for_sale = ~kept & ~((draw > t) & (dep["in_service"][d] >= draw))
            sold.append((here[for_sale], d[for_sale]))
            self.let[d, q] = False
        which, rows = (np.concatenate(column) for column in zip(*sold, strict=True))
        for months in np.unique(lag):
            now = lag == months
            place = np.cumsum(now) - 1
            mine = now[which]
            entry = (i[now], p[now], rest[now], keep[now], lag[now], place[which[mine]], rows[mine])
            self.sales.setdefault(t + int(months), []).append(entry)

    def sell(self, t: int, due: list[tuple[Array, ...]]) -> None:
        """(6.3), (6.4)."""
        first = [0, *accumulate(len(entry[0]) for entry in due)]
        placed = [(*entry[:5], entry[5] + n, entry[6]) for n, entry in zip(first, due, strict=False)]
        i, p, rest, keep, lag, which, d = (np.concatenate(column) for column in zip(*placed, strict=True))
        dep, m, recovery = self.book.dep, self.plan.market, self.plan.recovery
        g, q = dep["generation"][d], p[which]
        pressure = np.exp(-dep["sale_pressure"][d] * m.inverse_depth[t, g])
        price = dep["unit_share"][d] * self.values[dep["vintage"][d], q] * keep[which] * pressure * recovery.sale_keep
        price -= recovery.storage_share * dep["hourly_opex"][d] * recovery.cost_growth[t] * lag[which]
        proceeds = np.maximum(np.bincount(which, weights=price, minlength=len(i)), 0)
        self.release(d, q)
        shortfall = np.maximum(rest - recovery.lender_discount[lag.astype(np.int64)] * proceeds, 0)
        loss = self.book.loan["kept_share"][i] * shortfall * self.book.commitment[i]
        self.losses += np.bincount(p, weights=loss, minlength=self.n)
        self.defaults += np.bincount(p, minlength=self.n)
