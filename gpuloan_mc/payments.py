"""What a pool's tranches get on some paths: principal never paid, time to principal, yield, and sums by month."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from .engines.base import PoolCash
from .reference.arithmetic import F64, I64
from .waterfall import YEAR, Flows, Structure, check_balance, run_waterfall

NEWTON_STEPS = 60
SAME = 1e-13  # of a discount factor


@dataclass(frozen=True)
class Payments:
    """Results of a waterfall on some paths. Columns are (tranches, n_paths), the residual last. Money in cents.

    losses, shortfalls: principal and interest that are never paid. lives: years, nan where no principal is paid. yields: a
    year, -1 where nothing is paid. failed: (n_paths,) months in which a test failed. trapped, fees: (n_paths,).
    interest, principal: (tranches, T + 1) sums over the paths, exact before they are rounded to a float.
    """

    losses: I64
    shortfalls: I64
    lives: F64
    yields: F64
    failed: I64
    trapped: I64
    fees: I64
    interest: F64
    principal: F64

    @classmethod
    def joined(cls, parts: Sequence[Payments]) -> Payments:
        """Payments of neighbouring paths as one."""
        columns = {name: np.concatenate([getattr(p, name) for p in parts], axis=-1) for name in _COLUMNS}
        sums = {name: np.sum([getattr(p, name) for p in parts], axis=0) for name in ("interest", "principal")}
        return cls(**columns, **sums)


_COLUMNS = ("losses", "shortfalls", "lives", "yields", "failed", "trapped", "fees")


def reference_payments(structure: Structure, cash: PoolCash) -> Payments:
    """By NumPy, all paths side by side.

    Raises:
        AssertionError: cash in is not cash out on some path (a bug).
    """
    flows = run_waterfall(structure, cash)
    return Payments(
        losses=flows.owed,
        shortfalls=flows.deferred,
        lives=lives(flows.principal),
        yields=yields(structure, flows),
        failed=flows.failed,
        trapped=flows.trapped,
        fees=flows.fees,
        interest=_sum(flows.interest),
        principal=_sum(flows.principal),
    )


def compiled_payments(structure: Structure, cash: PoolCash, workers: int) -> Payments:
    """By numba, paths over lanes on some threads: the same integers; rates of return to the last digits of a float.

    Raises:
        EnvironmentProblem: numba is missing, broken or can't compile here.
        AssertionError: cash in is not cash out on some path (a bug).
    """
    from numba import typeof

    from .engines import numba_waterfall as loops
    from .engines.numba_compile import compiled
    from .engines.numba_structs import Struct

    n_paths, width = cash.interest.shape
    n_tranches = len(structure.sizes)
    terms = Struct(_terms(structure))
    receipts = Struct(loops.Receipts(*(getattr(cash, name) for name in loops.Receipts._fields)))
    edges = np.linspace(0, n_paths, workers + 1).astype(int).tolist()
    found = loops.new_payments(n_paths, n_tranches, width)
    outs = [found._replace(sums=np.zeros_like(found.sums)) for _ in range(workers)]
    desks = [loops.new_desk(n_tranches, width) for _ in range(workers)]
    tables = [Struct(out) for out in outs]
    kinds = tuple(typeof(a) for a in (terms, receipts, desks[0], tables[0], 0, 0))
    entry = compiled(loops.pay_paths, kinds).entry
    with ThreadPoolExecutor(workers, thread_name_prefix="gpuloan-mc") as pool:
        for _ in pool.map(lambda *a: entry(terms, receipts, *a), desks, tables, edges[:-1], edges[1:]):
            pass
    if found.beyond.any():
        return reference_payments(structure, cash)
    check_balance(found.missing)
    high, low = np.sum([out.sums for out in outs], axis=0).transpose(1, 0, 3, 2).astype(np.float64)
    interest, principal = high * 2.0**32 + low
    return Payments(
        losses=found.owed.T,
        shortfalls=found.deferred.T,
        lives=found.lives.T,
        yields=found.yields.T,
        failed=found.failed,
        trapped=found.trapped,
        fees=found.fees,
        interest=interest,
        principal=principal,
    )


def warm_up() -> float:
    """Compile the waterfall, or load what was compiled before, for all structures: the seconds it took.

    Raises:
        EnvironmentProblem: numba is missing, broken or can't compile here.
    """
    from .inputs.pool_file import read_pool
    from .portfolio import Portfolio

    book = "neocloud-2024"
    start, market = time.perf_counter(), Portfolio.read(book).market
    structure = Structure.of(read_pool(book), market, balance=10**9, undrawn=0, last_draw=0, months=1)
    compiled_payments(structure, PoolCash(*(np.zeros((0, 2), np.int64) for _ in fields(PoolCash))), 1)
    return time.perf_counter() - start


def _terms(structure: Structure) -> Any:
    """The structure as compiled code reads it."""
    from .engines.numba_waterfall import ALWAYS, BREACH, NEVER, Terms

    s, i64, f64 = structure, np.int64, np.float64
    notes = s.file.tranches[:-1]
    return Terms(
        sizes=np.array(s.sizes, f64),
        price=prices(s),
        rates=np.ascontiguousarray(s.rates.T),
        overcollateralisation=np.array([n.overcollateralisation or 0 for n in notes], f64),
        interest_cover=np.array([n.interest_cover or 0 for n in notes], f64),
        fee_rate=f64(s.fee_rate),
        fee=f64(s.fee),
        reserve_share=f64(s.file.reserve.share),
        reserve=f64(s.reserve),
        undrawn=f64(s.undrawn),
        opening=f64(s.opening),
        horizon=i64(s.horizon),
        lapse=i64(min(s.last_draw, s.horizon)),
        is_pro_rata=np.bool_(s.file.allocation == "pro-rata"),
        turbo={"never": NEVER, "breach": BREACH, "always": ALWAYS}[s.file.turbo],
    )


def _sum(cents: I64) -> F64:
    """Over paths (axis 1), in two parts of 32 bits."""
    high, low = (part.sum(axis=1).astype(np.float64) for part in (cents >> 32, cents & 0xFFFFFFFF))
    total: F64 = high * 2.0**32 + low
    return total


def lives(principal: I64) -> F64:
    """Mean time to principal, years, of flows (…, T + 1); nan where there is none."""
    total = principal.sum(axis=-1)
    months = principal @ np.arange(principal.shape[-1], dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, months / (YEAR * total), math.nan)


def prices(structure: Structure) -> F64:
    """What a yield is on: each tranche's size; the residual also pays for the reserve."""
    price = np.array(structure.sizes, dtype=np.float64)
    price[-1] += structure.reserve
    return price


def yields(structure: Structure, flows: Flows) -> F64:
    """Yearly yield of each tranche and path at its price."""
    return internal_rate((flows.interest + flows.principal).astype(np.float64), prices(structure)[:, None])


def internal_rate(flows: F64, price: F64) -> F64:
    """The yearly rate, compounded monthly, at which flows (…, T + 1) are worth the price (…); -1 where none is above 0.

    With v = 1/(1 + monthly rate), Σ c_t·v^t rises in v and is convex. v ≤ (price / Σ c)^(1/mean month) for flows of one
    sign, by Jensen, so Newton's steps from there fall to the root one after another.
    """
    total = flows.sum(axis=-1)
    paid = total > 0
    months = np.arange(flows.shape[-1], dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        middle = np.maximum((flows @ months) / total, 1)
        v = np.where(paid, (price / np.where(paid, total, 1)) ** (1 / middle), 1.0)
        for _ in range(NEWTON_STEPS):
            value, slope = _value(flows, v)
            step = np.where(paid & (slope > 0), (value - price) / np.where(slope > 0, slope, 1), 0)
            v = v - step
            if np.all(np.abs(step) <= SAME * v):
                break
    return np.where(paid, v ** -YEAR - 1, -1.0)


def _value(flows: F64, v: F64) -> tuple[F64, F64]:
    """Σ c_t·v^t and its slope, by Horner's rule."""
    value, slope = np.zeros_like(v), np.zeros_like(v)
    for t in range(flows.shape[-1] - 1, -1, -1):
        slope = slope * v + value
        value = value * v + flows[..., t]
    return value, slope
