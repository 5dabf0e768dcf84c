"""float32 functions of docs/model.md 1: exp, log, the normal quantile and distribution function, tables.

The same operations in the same order as reference/arithmetic.py, whose constants these are.
"""

from __future__ import annotations

import numpy as np

from ..reference import arithmetic as reference
from ..reference.arithmetic import F32
from .primitives import bits_float, float_bits, fma, lane_function, path_function, square_root

f32, i32 = np.float32, np.int32

ZERO, HALF, ONE, TWO, FOUR = f32(0), f32(0.5), f32(1), f32(2), f32(4)
EXP_LIMIT = reference.EXP_LIMIT
TINY = reference.TINY
ROUNDER = f32(1.5 * 2**23)  # adding and subtracting it rounds to the nearest integer
LOG2E = f32(1.44269504)
LN2_HI, LN2_LO = f32(0.693359375), f32(-2.12194440e-4)
SQRT_HALF_BITS = i32(0x3F3504F3)
MANTISSA = i32(0x7FFFFF)
BIAS, SHIFT = i32(127), i32(23)
E0, E1, E2, E3, E4 = (f32(c) for c in reference._EXP)
L0, L1, L2, L3, L4, L5, L6, L7, L8 = (f32(c) for c in reference._LOG)
C0, C1, C2, C3, C4, C5, C6, C7, C8, C9 = (f32(c) for c in reference._QUANTILE_CENTRE)
T0, T1, T2, T3, T4, T5, T6, T7, T8, T9, T10, T11 = (f32(c) for c in reference._QUANTILE_TAIL)
N0, N1, N2, N3, N4, N5, N6, N7, N8, N9, N10, N11 = (f32(c) for c in reference._MILLS_NEAR)
F0, F1, F2, F3, F4, F5, F6, F7, F8, F9, F10, F11 = (f32(c) for c in reference._MILLS_FAR)
NORMAL_LIMIT = reference.NORMAL_LIMIT
FAR_QUANTILE, TAIL_CENTRE, CENTRE, CENTRE_RATIO = f32(5), f32(3.4), f32(2.5), f32(1.25)
NEAR_MILLS, MILLS_FAR_CENTRE = f32(2.25), f32(4)
SCORE_LOW, SCORE_HIGH, SCORE_PER_UNIT = f32(-8), f32(8), f32(64)


@lane_function
def maximum(a: np.float32, b: np.float32) -> np.float32:
    """The larger; b where they are equal."""
    return a if a > b else b


@lane_function
def minimum(a: np.float32, b: np.float32) -> np.float32:
    """The smaller; b where they are equal."""
    return a if a < b else b


@lane_function
def clip(x: np.float32, low: np.float32, high: np.float32) -> np.float32:
    """x held between low and high."""
    return minimum(maximum(x, low), high)


@lane_function
def flush(x: np.float32) -> np.float32:
    """0 where |x| < 2^-60 (1.5)."""
    return ZERO if abs(x) < TINY else x


@lane_function
def _exp_parts(x: np.float32, correction: np.float32) -> tuple[np.float32, np.float32]:
    """(e^r - 1, 2^k) with e^(x + correction) = e^r 2^k."""
    x = clip(x, -EXP_LIMIT, EXP_LIMIT)
    k = fma(x, LOG2E, ROUNDER) - ROUNDER
    r = fma(k, -LN2_LO, fma(k, -LN2_HI, x)) + correction
    q = fma(fma(fma(fma(r, E0, E1), r, E2), r, E3), r, E4)
    less_one = fma(r * r, q, r)
    scale = bits_float(i32((i32(k) + BIAS) << SHIFT))
    return less_one, scale


@lane_function
def exp(x: np.float32) -> np.float32:
    """e^x with x held to [-40, 40]."""
    less_one, scale = _exp_parts(x, ZERO)
    return (less_one + ONE) * scale


@lane_function
def log(x: np.float32) -> np.float32:
    """Natural logarithm of a normal float32 x > 0."""
    bits = i32(float_bits(x) - SQRT_HALF_BITS)
    exponent = f32(i32(bits >> SHIFT))
    f = bits_float(i32((bits & MANTISSA) + SQRT_HALF_BITS)) - ONE
    square = f * f
    r = fma(fma(fma(fma(f, L0, L1), f, L2), f, L3), f, L4)
    r = fma(fma(fma(fma(r, f, L5), f, L6), f, L7), f, L8)
    rest = (f * square) * r
    rest = fma(exponent, LN2_LO, rest)
    rest = fma(square, -HALF, rest)
    return fma(exponent, LN2_HI, f + rest)


@path_function
def normal_quantile(p: np.float32) -> np.float32:
    """The n >= 0 whose upper tail probability is p, for p in [2^-33, 1/2]."""
    x = fma(p, -TWO, ONE)
    lost = fma(p, -TWO, ONE - x)  # 1 - 2p - x, exactly
    w = -log((FOUR * p) * (ONE - p))
    if w >= FAR_QUANTILE:
        ratio, more = _quantile_tail(w)
    else:
        ratio, more = _quantile_centre(w - CENTRE), ZERO
    lost = fma(lost, ratio + CENTRE_RATIO, more)
    return fma(x, ratio, fma(x, CENTRE_RATIO, lost))


@lane_function
def _quantile_centre(u: np.float32) -> np.float32:
    v = fma(fma(fma(fma(u, C0, C1), u, C2), u, C3), u, C4)
    return fma(fma(fma(fma(fma(v, u, C5), u, C6), u, C7), u, C8), u, C9)


@path_function
def _quantile_tail(w: np.float32) -> tuple[np.float32, np.float32]:
    """T(sqrt(w) - 3.4) and what the roundings of the root and of the sum left out of it."""
    root = square_root(w)
    rest = fma(-root, root, w) / (root + root)
    u = root - TAIL_CENTRE
    v = fma(fma(fma(fma(fma(u, T0, T1), u, T2), u, T3), u, T4), u, T5)
    slope = fma(fma(fma(fma(fma(v, u, T6), u, T7), u, T8), u, T9), u, T10)
    value = fma(slope, u, T11)
    return value, fma(slope, rest, fma(slope, u, T11 - value))


@path_function
def _mills_near(u: np.float32) -> np.float32:
    v = fma(fma(fma(fma(fma(u, N0, N1), u, N2), u, N3), u, N4), u, N5)
    return fma(fma(fma(fma(fma(v, u, N6), u, N7), u, N8), u, N9), u, N10)


@path_function
def _mills_far(u: np.float32) -> np.float32:
    v = fma(fma(fma(fma(fma(u, F0, F1), u, F2), u, F3), u, F4), u, F5)
    return fma(fma(fma(fma(fma(v, u, F6), u, F7), u, F8), u, F9), u, F10)


@path_function
def normal_cdf(z: np.float32) -> np.float32:
    """The normal distribution function, z held to [-6.5, 6.5]."""
    z = clip(z, -NORMAL_LIMIT, NORMAL_LIMIT)
    x = abs(z)
    square = x * x
    correction = -HALF * fma(x, x, -square)
    less_one, scale = _exp_parts(-HALF * square, correction)
    if x < NEAR_MILLS:
        u, constant = x - ONE, N11
        slope = _mills_near(u)
    else:
        u, constant = x - MILLS_FAR_CENTRE, F11
        slope = _mills_far(u)
    mills = fma(slope, u, constant)
    lost = fma(slope, u, constant - mills)  # what the rounding of `mills` left out
    tail = (fma(less_one, mills, lost) + mills) * scale
    return ONE - tail if z > ZERO else tail


@path_function
def interpolate(table: F32, x: np.float32, low: np.float32, high: np.float32, per_unit: np.float32) -> np.float32:
    """A tabulated function at x, held to [low, high]: one fma from the knot below (1.3). The table is (2, n_cells)."""
    x = clip(x, low, high)
    cell = min(i32(fma(x, per_unit, -low * per_unit)), i32(table.shape[1] - 1))
    offset = x - fma(f32(cell), ONE / per_unit, low)
    return fma(offset, table[1, cell], table[0, cell])


@path_function
def at_score(table: F32, n: np.float32) -> np.float32:
    """A table of a normal score, quantile(Phi(n)), at the score n."""
    return interpolate(table, n, SCORE_LOW, SCORE_HIGH, SCORE_PER_UNIT)
