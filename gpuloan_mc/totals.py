"""Exact totals over paths: of loans, or of groups of defaults such as months, causes and segments.

Everything is an integer, so totals of chunks and workers add up in any order to the same bits. Sums of products are kept
in four digits of base 2^32, since they outgrow 64 bits.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from .reference.arithmetic import F64, I64

N_DIGITS = 4
_DIGIT = np.uint64(32)
_MASK = np.uint64(0xFFFFFFFF)
_MASK_I = np.int64(0xFFFFFFFF)


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over paths for n items. A path's defaults, EAD and loss in an item are d, e and l; money in cents."""

    defaults: I64  # (n,) Σ d
    ead: I64  # (N_DIGITS, n) Σ e
    loss: I64  # (N_DIGITS, n) Σ l
    defaults_squared: I64  # (n,) Σ d²
    ead_squared: I64  # (N_DIGITS, n) Σ e²
    ead_loss: I64  # (N_DIGITS, n) Σ e·l
    loss_squared: I64  # (N_DIGITS, n) Σ l²

    @classmethod
    def zeros(cls, n: int) -> Totals:
        """No path yet."""
        return cls(**{f.name: np.zeros(_shape(f.name, n), dtype=np.int64) for f in fields(cls)})

    @classmethod
    def of(cls, n: int, item: I64, defaults: I64, ead: I64, loss: I64) -> Totals:
        """Totals of n items from rows of one path and item each: item, d, e, l, all (n_rows,), below 2^63."""
        total = cls.zeros(n)
        np.add.at(total.defaults, item, defaults)
        np.add.at(total.defaults_squared, item, defaults * defaults)
        one = np.ones_like(ead)
        for digits, a, b in (
            (total.ead, ead, one),
            (total.loss, loss, one),
            (total.ead_squared, ead, ead),
            (total.ead_loss, ead, loss),
            (total.loss_squared, loss, loss),
        ):
            digits[:] = digit_sums((n,), (item,), a, b)
        return total

    def __add__(self, other: Totals) -> Totals:
        """The totals of both sets of paths."""
        sums = {}
        for field in fields(self):
            value = getattr(self, field.name) + getattr(other, field.name)
            if value.ndim == 2:
                carry(value)
            sums[field.name] = value
        return Totals(**sums)

    def arrays(self) -> list[I64]:
        """Every array."""
        return [getattr(self, f.name) for f in fields(self)]

    def take(self, items: slice) -> Totals:
        """The totals of some of the items."""
        return Totals(**{f.name: getattr(self, f.name)[..., items] for f in fields(self)})


def _shape(name: str, n: int) -> tuple[int, ...]:
    return (n,) if name.startswith("defaults") else (N_DIGITS, n)


def product_digits(a: I64, b: I64) -> list[I64]:
    """The digits, lowest first, of the products of whole numbers from 0 to 2^63 - 1."""
    a0, a1, b0, b1 = a & _MASK_I, a >> 32, b & _MASK_I, b >> 32
    low, middle, other, high = (_product(x, y) for x, y in ((a0, b0), (a1, b0), (a0, b1), (a1, b1)))
    second = (low >> _DIGIT) + (middle & _MASK) + (other & _MASK)
    third = (second >> _DIGIT) + (middle >> _DIGIT) + (other >> _DIGIT) + (high & _MASK)
    fourth = (third >> _DIGIT) + (high >> _DIGIT)
    return [(x & _MASK).astype(np.int64) for x in (low, second, third, fourth)]


def _product(x: I64, y: I64) -> NDArray[np.uint64]:
    return x.astype(np.uint64) * y.astype(np.uint64)


def digit_sums(shape: tuple[int, ...], place: tuple[I64, ...], a: I64, b: I64 | None = None) -> I64:
    """Sums of a (of a·b) at their places, in digits: (N_DIGITS, *shape). At most 2^31 rows."""
    digits = np.zeros((N_DIGITS, *shape), dtype=np.int64)
    for k, digit in enumerate(product_digits(a, np.ones_like(a) if b is None else b)):
        np.add.at(digits[k], place, digit)
    carry(digits)
    return digits


def carry(digits: I64) -> None:
    """Bring digits (N_DIGITS, …) below 2^32, all but the last."""
    for k in range(N_DIGITS - 1):
        digits[k + 1] += digits[k] >> 32
        digits[k] &= _MASK_I


def whole(digits: I64) -> list[int]:
    """The numbers that digits (N_DIGITS, n) stand for, exactly."""
    columns: list[list[int]] = digits.tolist()
    return [a + (b << 32) + (c << 64) + (d << 96) for a, b, c, d in zip(*columns, strict=True)]


def as_float(digits: I64) -> F64:
    """The numbers that digits (N_DIGITS, n) stand for, rounded."""
    value: F64 = digits[-1].astype(np.float64)
    for k in range(N_DIGITS - 2, -1, -1):
        value = value * 2.0**32 + digits[k]
    return value
