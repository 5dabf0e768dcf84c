// float32 functions of docs/model.md 1: exp, log, the normal quantile and distribution function, tables.
// Twin: paths/arithmetic.py, whose constants these are. Nothing here calls a library's function.
#pragma once

#include "portable.cuh"

namespace gpuloan {

constexpr float ZERO = 0.0f, HALF = 0.5f, ONE = 1.0f, TWO = 2.0f, FOUR = 4.0f;
constexpr float EXP_LIMIT = 40.0f;
constexpr float TINY = 1.0f / (1ull << 60);
constexpr float ROUNDER = 12582912.0f;  // 1.5 * 2^23: adding and subtracting it rounds to the nearest integer
constexpr float LOG2E = 1.44269504f;
constexpr float LN2_HI = 0.693359375f, LN2_LO = -2.12194440e-4f;
constexpr i32 SQRT_HALF_BITS = 0x3F3504F3;
constexpr i32 MANTISSA = 0x7FFFFF;
constexpr i32 BIAS = 127, SHIFT = 23;
constexpr float NORMAL_LIMIT = 6.5f;
constexpr float FAR_QUANTILE = 5.0f, TAIL_CENTRE = 3.4f, CENTRE = 2.5f, CENTRE_RATIO = 1.25f;
constexpr float NEAR_MILLS = 2.25f, MILLS_FAR_CENTRE = 4.0f;
constexpr float SCORE_LOW = -8.0f, SCORE_HIGH = 8.0f, SCORE_PER_UNIT = 64.0f;

// (e^r - 1, 2^k) with e^(x + correction) = e^r 2^k.
struct ExpParts {
    float less_one, scale;
};

// A value and what its rounding left out.
struct ValueAndRest {
    float value, rest;
};

// The larger; b where they are equal.
GPULOAN_FUNCTION float maximum(float a, float b) { return a > b ? a : b; }

// The smaller; b where they are equal.
GPULOAN_FUNCTION float minimum(float a, float b) { return a < b ? a : b; }

// x held between low and high.
GPULOAN_FUNCTION float clip(float x, float low, float high) { return minimum(maximum(x, low), high); }

// 0 where |x| < 2^-60 (1.5).
GPULOAN_FUNCTION float flush(float x) { return magnitude(x) < TINY ? ZERO : x; }

GPULOAN_FUNCTION ExpParts exp_parts(float x, float correction) {
    x = held(x, -EXP_LIMIT, EXP_LIMIT);
    const float shifted = fma(x, LOG2E, ROUNDER);
    const float k = shifted - ROUNDER;
    const float r = fma(k, -LN2_LO, fma(k, -LN2_HI, x)) + correction;
    float q = fma(r, 1.3950600e-3f, 8.3689537e-3f);
    q = fma(q, r, 4.16662042e-2f);
    q = fma(q, r, 1.66665183e-1f);
    q = fma(q, r, 5.0000001e-1f);
    // `shifted` holds k in its low bits: no conversion, and the shift drops the rest
    const u32 exponent = (static_cast<u32>(float_bits(shifted)) + static_cast<u32>(BIAS)) << SHIFT;
    return {fma(r * r, q, r), bits_float(static_cast<i32>(exponent))};
}

// e^x with x held to [-40, 40].
GPULOAN_FUNCTION float exp(float x) {
    // -0 changes no number, so compilers drop it: not so +0, which turns -0 into +0. e^x is 1 for both.
    const ExpParts parts = exp_parts(x, -ZERO);
    return (parts.less_one + ONE) * parts.scale;
}

// Natural logarithm of a normal float x > 0.
GPULOAN_FUNCTION float log(float x) {
    const i32 bits = float_bits(x) - SQRT_HALF_BITS;
    const float exponent = static_cast<float>(bits >> SHIFT);
    const float f = bits_float((bits & MANTISSA) + SQRT_HALF_BITS) - ONE;
    const float square = f * f;
    float r = fma(f, 6.746559525996418e-2f, -1.1679671e-1f);
    r = fma(r, f, 1.1890336e-1f);
    r = fma(r, f, -1.2405138e-1f);
    r = fma(r, f, 1.4219223e-1f);
    r = fma(r, f, -1.66680069e-1f);
    r = fma(r, f, 2.00021337e-1f);
    r = fma(r, f, -2.50000096e-1f);
    r = fma(r, f, 3.33333124e-1f);
    float rest = (f * square) * r;
    rest = fma(exponent, LN2_LO, rest);
    rest = fma(square, -HALF, rest);
    return fma(exponent, LN2_HI, f + rest);
}

GPULOAN_FUNCTION float quantile_centre(float u) {
    float v = fma(u, -1.25384165e-08f, 3.39240813e-08f);
    v = fma(v, u, 6.60975104e-07f);
    v = fma(v, u, -4.90935827e-06f);
    v = fma(v, u, -7.02804846e-06f);
    v = fma(v, u, 0.000308829418f);
    v = fma(v, u, -0.00177162839f);
    v = fma(v, u, -0.00590776512f);
    v = fma(v, u, 0.34880203f);
    return fma(v, u, 0.873313487f);
}

// T(sqrt(w) - 3.4) and what the roundings of the root and of the sum left out of it.
GPULOAN_FUNCTION ValueAndRest quantile_tail(float w) {
    constexpr float constant = 3.32467508f;
    const float root = square_root(w);
    const float rest = fma(-root, root, w) / (root + root);
    const float u = root - TAIL_CENTRE;
    float slope = fma(u, 6.59232319e-06f, -3.42902313e-05f);
    slope = fma(slope, u, 3.96905889e-05f);
    slope = fma(slope, u, 9.81366975e-05f);
    slope = fma(slope, u, -0.000424209225f);
    slope = fma(slope, u, 0.000871254248f);
    slope = fma(slope, u, -0.00139349711f);
    slope = fma(slope, u, 0.00212764787f);
    slope = fma(slope, u, -0.00364669645f);
    slope = fma(slope, u, 0.00561325485f);
    slope = fma(slope, u, 1.42361355f);
    const float value = fma(slope, u, constant);
    return {value, fma(slope, rest, fma(slope, u, constant - value))};
}

// The n >= 0 whose upper tail probability is p, for p in [2^-33, 1/2].
GPULOAN_FUNCTION float normal_quantile(float p) {
    const float x = fma(p, -TWO, ONE);
    const float lost = fma(p, -TWO, ONE - x);  // 1 - 2p - x, exactly
    const float w = -log((FOUR * p) * (ONE - p));
    float ratio, more = ZERO;
    if (w >= FAR_QUANTILE) {
        const ValueAndRest tail = quantile_tail(w);
        ratio = tail.value;
        more = tail.rest;
    } else {
        ratio = quantile_centre(w - CENTRE);
    }
    return fma(x, ratio, fma(x, CENTRE_RATIO, fma(lost, ratio + CENTRE_RATIO, more)));
}

GPULOAN_FUNCTION float mills_near(float u) {
    float v = fma(u, -1.44765841e-06f, 7.82516054e-06f);
    v = fma(v, u, -2.55633113e-05f);
    v = fma(v, u, 8.67470153e-05f);
    v = fma(v, u, -0.000305601978f);
    v = fma(v, u, 0.00101579237f);
    v = fma(v, u, -0.00316697313f);
    v = fma(v, u, 0.00925517734f);
    v = fma(v, u, -0.0250854138f);
    v = fma(v, u, 0.0621071681f);
    return fma(v, u, -0.137364f);
}

GPULOAN_FUNCTION float mills_far(float u) {
    float v = fma(u, -4.90371466e-10f, 7.19504234e-09f);
    v = fma(v, u, -4.78330655e-08f);
    v = fma(v, u, 2.42712105e-07f);
    v = fma(v, u, -1.28623719e-06f);
    v = fma(v, u, 7.06394985e-06f);
    v = fma(v, u, -3.75630516e-05f);
    v = fma(v, u, 0.000192803665f);
    v = fma(v, u, -0.000958708522f);
    v = fma(v, u, 0.00460586743f);
    return fma(v, u, -0.0212997161f);
}

// The normal distribution function, z held to [-6.5, 6.5].
GPULOAN_FUNCTION float normal_cdf(float z) {
    z = held(z, -NORMAL_LIMIT, NORMAL_LIMIT);
    const float x = magnitude(z);
    const float square = x * x;
    const float correction = -HALF * fma(x, x, -square);
    const ExpParts e = exp_parts(-HALF * square, correction);
    const bool near = x < NEAR_MILLS;
    const float u = x - (near ? ONE : MILLS_FAR_CENTRE);
    const float slope = near ? mills_near(u) : mills_far(u);
    const float constant = near ? 0.261578292f : 0.094410643f;
    const float mills = fma(slope, u, constant);
    const float lost = fma(slope, u, constant - mills);  // what the rounding of `mills` left out
    const float unscaled = fma(e.less_one, mills, lost) + mills;
    // the scale is a power of two: a product with it is exact, and so fma is a subtraction here
    return z > ZERO ? fma(unscaled, -e.scale, ONE) : unscaled * e.scale;
}

// A tabulated function at x, held to [low, high]: one fma from the knot below (1.3). The table holds a value for each of
// its (high - low)*per_unit cells, then a slope for each.
GPULOAN_FUNCTION float interpolate(const float* table, float x, float low, float high, float per_unit) {
    const i32 n_cells = static_cast<i32>((high - low) * per_unit);
    x = held(x, low, high);
    i32 cell = static_cast<i32>(fma(x, per_unit, -low * per_unit));
    cell = cell < n_cells - 1 ? cell : n_cells - 1;
    const float offset = x - fma(static_cast<float>(cell), ONE / per_unit, low);
    return fma(offset, table[n_cells + cell], table[cell]);
}

// A table of a normal score, quantile(Phi(n)), at the score n.
GPULOAN_FUNCTION float at_score(const float* table, float n) {
    return interpolate(table, n, SCORE_LOW, SCORE_HIGH, SCORE_PER_UNIT);
}

}  // namespace gpuloan
