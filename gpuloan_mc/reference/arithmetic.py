"""float32 arithmetic that gives the same bits on every engine (docs/model.md 1): fma, exp, log, normal functions, tables.

All functions take and return float32 arrays (any shape, broadcast) and call no library's transcendental function.
The polynomials are weighted least-maximum fits to SciPy's float64 functions; tests hold each to 2 ulp.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]
Bool = NDArray[np.bool_]

f32 = np.float32

EXP_LIMIT = f32(40.0)
TINY = f32(2.0**-60)

_BELOW_FLOAT32 = np.int64(0x1FFFFFFF)
_TIE = np.int64(0x10000000)
_ROUNDER = f32(1.5 * 2**23)  # adding and subtracting it rounds to the nearest integer
_LOG2E = f32(1.44269504)
_LN2_HI = f32(0.693359375)  # 9 bits: an exponent times it is exact
_LN2_LO = f32(-2.12194440e-4)
_SQRT_HALF_BITS = np.int32(0x3F3504F3)

# Highest power first. exp(r) = 1 + r + r^2 Q(r), |r| <= ln 2 / 2.
_EXP = (1.3950600e-3, 8.3689537e-3, 4.16662042e-2, 1.66665183e-1, 5.0000001e-1)
# log(1+f) = f - f^2/2 + f^3 R(f)
_LOG = (
    6.746559525996418e-2, -1.1679671e-1, 1.1890336e-1, -1.2405138e-1, 1.4219223e-1,
    -1.66680069e-1, 2.00021337e-1, -2.50000096e-1, 3.33333124e-1,
)  # fmt: skip
# quantile: n = (1-2p) (1.25 + C(w - 2.5)), w = -log(4p(1-p)) < 5, else (1-2p) (1.25 + T(sqrt(w) - 3.4))
_QUANTILE_CENTRE = (
    -1.25384165e-08, 3.39240813e-08, 6.60975104e-07, -4.90935827e-06,
    -7.02804846e-06, 0.000308829418, -0.00177162839, -0.00590776512,
    0.34880203, 0.873313487,
)  # fmt: skip
_QUANTILE_TAIL = (
    6.59232319e-06, -3.42902313e-05, 3.96905889e-05, 9.81366975e-05,
    -0.000424209225, 0.000871254248, -0.00139349711, 0.00212764787,
    -0.00364669645, 0.00561325485, 1.42361355, 3.32467508,
)  # fmt: skip
# distribution function: Phi(-x) = exp(-x^2/2) R(x), R in x - 1 below 2.25, in x - 4 above
_MILLS_NEAR = (
    -1.44765841e-06, 7.82516054e-06, -2.55633113e-05, 8.67470153e-05,
    -0.000305601978, 0.00101579237, -0.00316697313, 0.00925517734,
    -0.0250854138, 0.0621071681, -0.137364, 0.261578292,
)  # fmt: skip
_MILLS_FAR = (
    -4.90371466e-10, 7.19504234e-09, -4.78330655e-08, 2.42712105e-07,
    -1.28623719e-06, 7.06394985e-06, -3.75630516e-05, 0.000192803665,
    -0.000958708522, 0.00460586743, -0.0212997161, 0.094410643,
)  # fmt: skip
NORMAL_LIMIT = f32(6.5)  # Phi(-6.5) is below 2^-32


def fma(a: ArrayLike, b: ArrayLike, c: ArrayLike) -> F32:
    """a·b + c rounded once to float32, as the hardware's fused multiply-add.

    The product is exact in float64. Rounding the float64 sum to float32 is a second rounding only where the sum lies
    half-way between two float32: each such sum is first moved one float64 ulp towards the exact value.
    """
    total = np.asarray(np.multiply(a, b, dtype=np.float64))
    total = np.asarray(total + c)
    tie = (total.view(np.int64) & _BELOW_FLOAT32) == _TIE
    if tie.any():
        total = _off_the_tie(total, tie, a, b, c)
    return total.astype(np.float32)


def _off_the_tie(total: F64, tie: Bool, a: ArrayLike, b: ArrayLike, c: ArrayLike) -> F64:
    s = total[tie]
    x, y, z = (np.broadcast_to(np.asarray(v), total.shape)[tie].astype(np.float64) for v in (a, b, c))
    p = x * y
    rest = s - p
    error = (p - (s - rest)) + (z - rest)  # two-sum: p + z = s + error, exactly
    up, down = np.nextafter(s, np.inf), np.nextafter(s, -np.inf)
    total[tie] = np.where(error > 0, up, np.where(error < 0, down, s))
    return total


def polynomial(coefficients: tuple[float, ...], x: F32) -> F32:
    """Horner's rule by fma; coefficients with the highest power first, rounded to float32."""
    value = fma(x, f32(coefficients[0]), f32(coefficients[1]))
    for c in coefficients[2:]:
        value = fma(value, x, f32(c))
    return value


def flush(x: F32) -> F32:
    """0 where |x| < 2^-60, so that no subnormal can arise further on (docs/model.md 1.5)."""
    return np.where(np.abs(x) < TINY, f32(0), x)


def clip(x: F32, low: ArrayLike, high: ArrayLike) -> F32:
    """x held between low and high."""
    return np.minimum(np.maximum(x, low), high)


def exp(x: ArrayLike) -> F32:
    """e^x with x held to [-40, 40]; within 1.1 ulp there."""
    less_one, scale = _exp_parts(np.asarray(x, dtype=np.float32), f32(0))
    return (less_one + f32(1)) * scale


def _exp_parts(x: F32, correction: F32 | np.float32) -> tuple[F32, F32]:
    """(e^r - 1, 2^k) with e^(x + correction) = e^r 2^k; the correction is far below one ulp of x."""
    x = clip(x, -EXP_LIMIT, EXP_LIMIT)
    k = fma(x, _LOG2E, _ROUNDER) - _ROUNDER
    r = fma(k, -_LN2_LO, fma(k, -_LN2_HI, x)) + correction
    less_one = fma(r * r, polynomial(_EXP, r), r)
    scale = ((k.astype(np.int32) + np.int32(127)) << np.int32(23)).view(np.float32)
    return less_one, scale


def log(x: ArrayLike) -> F32:
    """Natural logarithm of a normal float32 x > 0; within 1 ulp."""
    bits = np.asarray(x, dtype=np.float32).view(np.int32) - _SQRT_HALF_BITS
    exponent = (bits >> np.int32(23)).astype(np.float32)
    f = ((bits & np.int32(0x7FFFFF)) + _SQRT_HALF_BITS).view(np.float32) - f32(1)
    square = f * f
    rest = (f * square) * polynomial(_LOG, f)
    rest = fma(exponent, _LN2_LO, rest)
    rest = fma(square, f32(-0.5), rest)
    return fma(exponent, _LN2_HI, f + rest)


def normal_quantile(p: ArrayLike) -> F32:
    """The n >= 0 whose upper tail probability is p, for p in [2^-33, 1/2]; within 2 ulp."""
    p = np.asarray(p, dtype=np.float32)
    x = fma(p, f32(-2), f32(1))
    lost = fma(p, f32(-2), f32(1) - x)  # 1 - 2p - x, exactly
    w = -log((f32(4) * p) * (f32(1) - p))
    far = w >= f32(5)
    ratio, more = polynomial(_QUANTILE_CENTRE, w - f32(2.5)), np.zeros_like(w)
    if far.any():
        tail, tail_more = _quantile_tail(np.maximum(w, f32(5)))
        ratio, more = np.where(far, tail, ratio), np.where(far, tail_more, f32(0))
    lost = fma(lost, ratio + f32(1.25), more)
    return fma(x, ratio, fma(x, f32(1.25), lost))


def _quantile_tail(w: F32) -> tuple[F32, F32]:
    """T(sqrt(w) - 3.4) and what the roundings of the root and of the sum left out of it."""
    root = np.sqrt(w)
    rest = fma(-root, root, w) / (root + root)
    u = root - f32(3.4)
    slope, constant = polynomial(_QUANTILE_TAIL[:-1], u), f32(_QUANTILE_TAIL[-1])
    value = fma(slope, u, constant)
    return value, fma(slope, rest, fma(slope, u, constant - value))


def normal_cdf(z: ArrayLike) -> F32:
    """The normal distribution function, z held to [-6.5, 6.5]; within 2 ulp there."""
    z = clip(np.asarray(z, dtype=np.float32), -NORMAL_LIMIT, NORMAL_LIMIT)
    x = np.abs(z)
    square = x * x
    correction = f32(-0.5) * fma(x, x, -square)
    less_one, scale = _exp_parts(f32(-0.5) * square, correction)
    near = x < f32(2.25)
    u = x - np.where(near, f32(1), f32(4))
    slope = np.where(near, polynomial(_MILLS_NEAR[:-1], u), polynomial(_MILLS_FAR[:-1], u))
    constant = np.where(near, f32(_MILLS_NEAR[-1]), f32(_MILLS_FAR[-1]))
    mills = fma(slope, u, constant)
    lost = fma(slope, u, constant - mills)  # what the rounding of `mills` left out
    tail = (fma(less_one, mills, lost) + mills) * scale
    return np.where(z > 0, f32(1) - tail, tail)


def interpolate(table: F32, x: F32, low: float, per_unit: int, row: Any = None) -> F32:
    """A tabulated function at x: one fma from the knot below (docs/model.md 1.3).

    Args:
        table: (2, n_cells) values and slopes at the knots low + k/per_unit, or (n_tables, 2, n_cells) with `row`.
        x: argument, held to the table's range.
        row: which table, an integer array that broadcasts with x.
    """
    n_cells = table.shape[-1]
    x = clip(x, f32(low), f32(low + n_cells / per_unit))
    cell = fma(x, f32(per_unit), f32(-low * per_unit)).astype(np.int32)
    cell = np.minimum(cell, np.int32(n_cells - 1))
    offset = x - fma(cell.astype(np.float32), f32(1 / per_unit), f32(low))
    if row is None:
        return fma(offset, table[1, cell], table[0, cell])
    return fma(offset, table[row, 1, cell], table[row, 0, cell])


SCORE_LIMIT = 8
SCORE_PER_UNIT = 64


def at_score(table: F32, n: F32, row: Any = None) -> F32:
    """A table of a normal score, quantile(Phi(n)), at the scores n."""
    return interpolate(table, n, -SCORE_LIMIT, SCORE_PER_UNIT, row)
