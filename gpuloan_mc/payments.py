"""What a pool's tranches get on some paths: principal never paid, time to principal, yield, and sums by month."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .engines.base import PoolCash
from .reference.arithmetic import F64, I64
from .waterfall import YEAR, Flows, Structure, run_waterfall

NEWTON_STEPS = 60
SAME = 1e-13  # of a discount factor


@dataclass(frozen=True)
class Payments:
    """Results of a waterfall on some paths. Columns are (tranches, n_paths), the residual last. Money in cents.

    losses, shortfalls: principal and interest that are never paid. lives: years, nan where no principal is paid. yields: a
    year, -1 where nothing is paid. failed: (n_paths,) months in which a test failed. trapped, fees: (n_paths,).
    interest, principal: (2, tranches, T + 1) sums over the paths: multiples of 2^32, and what is below that.
    """

    losses: I64
    shortfalls: I64
    lives: F64
    yields: F64
    failed: I64
    trapped: I64
    fees: I64
    interest: I64
    principal: I64

    @property
    def n_paths(self) -> int:
        """Number of paths."""
        return len(self.failed)

    @classmethod
    def zeros(cls, n_tranches: int, n_paths: int, width: int) -> Payments:
        """Room for so many paths and T + 1 = `width` months."""
        tranches = (n_tranches, n_paths)
        return cls(
            losses=np.zeros(tranches, np.int64),
            shortfalls=np.zeros(tranches, np.int64),
            lives=np.zeros(tranches, np.float64),
            yields=np.zeros(tranches, np.float64),
            failed=np.zeros(n_paths, np.int64),
            trapped=np.zeros(n_paths, np.int64),
            fees=np.zeros(n_paths, np.int64),
            interest=np.zeros((2, n_tranches, width), np.int64),
            principal=np.zeros((2, n_tranches, width), np.int64),
        )

    def put(self, first: int, part: Payments) -> None:
        """Take the columns of the paths from `first` on, and add their sums."""
        for name in COLUMNS:
            getattr(self, name)[..., first : first + part.n_paths] = getattr(part, name)
        for name in SUMS:
            sums = getattr(self, name)
            sums[:] = carried(sums + getattr(part, name))

    def freeze(self) -> Payments:
        """The same, whose arrays can't be written."""
        for name in (*COLUMNS, *SUMS):
            getattr(self, name).setflags(write=False)
        return self

    @classmethod
    def joined(cls, parts: Sequence[Payments]) -> Payments:
        """Payments of neighbouring paths as one."""
        columns: dict[str, Any] = {n: np.concatenate([getattr(p, n) for p in parts], axis=-1) for n in COLUMNS}
        sums: dict[str, Any] = {name: carried(np.sum([getattr(p, name) for p in parts], axis=0)) for name in SUMS}
        return cls(**columns, **sums)

    def rows(self, first: int, end: int) -> Payments:
        """Those of some paths. The sums stay with path 0: the others have none."""
        columns = {name: getattr(self, name)[..., first:end] for name in COLUMNS}
        sums = {} if first == 0 else {name: np.zeros_like(getattr(self, name)) for name in SUMS}
        return replace(self, **columns, **sums)


COLUMNS = ("losses", "shortfalls", "lives", "yields", "failed", "trapped", "fees")
INTEGERS = ("losses", "shortfalls", "failed", "trapped", "fees")
SUMS = ("interest", "principal")
_LOW_BITS = 0xFFFFFFFF


def payments_bytes(n_tranches: int, n_paths: int) -> int:
    """Bytes of the columns of so many paths."""
    return (32 * n_tranches + 24) * n_paths


def carried(parts: I64) -> I64:
    """A sum in two parts (2, …) with less than 2^32 in the second: equal sums are equal parts."""
    return np.stack([parts[0] + (parts[1] >> 32), parts[1] & _LOW_BITS])


def as_floats(parts: I64) -> F64:
    """A sum in two parts, rounded once."""
    total: F64 = parts[0].astype(np.float64) * 2.0**32 + parts[1].astype(np.float64)
    return total


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


def _sum(cents: I64) -> I64:
    """Over paths (axis 1), in two parts."""
    return carried(np.stack([part.sum(axis=1) for part in (cents >> 32, cents & _LOW_BITS)]))


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
    sign, by Jensen, so Newton's steps from there fall to the root one after another. Each row of flows ends at its own last
    step: what it yields does not depend on those beside it.
    """
    total = flows.sum(axis=-1)
    paid = total > 0
    months = np.arange(flows.shape[-1], dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        middle = np.maximum((flows @ months) / total, 1)
        v = np.where(paid, (price / np.where(paid, total, 1)) ** (1 / middle), 1.0)
        moves = paid
        for _ in range(NEWTON_STEPS):
            value, slope = _value(flows, v)
            step = np.where(moves & (slope > 0), (value - price) / np.where(slope > 0, slope, 1), 0)
            v = v - step
            moves = np.abs(step) > SAME * v
            if not moves.any():
                break
    return np.where(paid, v ** -YEAR - 1, -1.0)


def _value(flows: F64, v: F64) -> tuple[F64, F64]:
    """Σ c_t·v^t and its slope, by Horner's rule."""
    value, slope = np.zeros_like(v), np.zeros_like(v)
    for t in range(flows.shape[-1] - 1, -1, -1):
        slope = slope * v + value
        value = value * v + flows[..., t]
    return value, slope
