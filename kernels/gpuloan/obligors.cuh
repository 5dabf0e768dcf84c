// Obligors (docs/model.md 3): hazards, latent quality, thresholds, and the bound that spares most draws their normal.
// Twin: paths/obligors.py.
#pragma once

#include "arithmetic.cuh"

namespace gpuloan {

constexpr float H_0 = 1.0f / (1ull << 50) / (1ull << 50);  // 2^-100
constexpr float LATENT_LOW = -24.0f, LATENT_HIGH = 4.0f, LATENT_PER_UNIT = 64.0f;
constexpr float GAUSS_LOW = -8.0f, GAUSS_HIGH = 8.0f, GAUSS_PER_UNIT = 64.0f;
constexpr float T_LOW = -64.0f, T_HIGH = 64.0f, T_PER_UNIT = 32.0f;
constexpr float TWO_32 = 4294967296.0f;
constexpr u32 LARGEST_RANK = 0xFFFFFFFFu;
constexpr u32 RANK_SLACK_SHIFT = 12, RANK_SLACK = 16;
constexpr float MARGIN = 1e-4f;  // thousands of float32 roundings of a score

// (3.1) H_{c,t} of H_{c,t-1}.
GPULOAN_FUNCTION float accumulated(float cumulative, float hazard, float shift, float demand_sensitivity, float demand,
                                   float overhang_sensitivity, float mean_overhang) {
    float exponent = fma(-demand_sensitivity, demand, shift);
    exponent = fma(overhang_sensitivity, mean_overhang, exponent);
    return fma(hazard, exp(exponent), cumulative);
}

// (3.1) the running maximum of ln H.
GPULOAN_FUNCTION float log_accumulated(float cumulative, float before) { return maximum(before, log(cumulative)); }

// (3.3), (3.4) theta = ln E(A) - ln scale.
GPULOAN_FUNCTION float threshold(const float* table, i32 is_t, float mixing, float residual, float epsilon, float common,
                                 float log_scale) {
    const float quality = mixing * fma(residual, epsilon, common);
    if (is_t) return interpolate(table, quality, T_LOW, T_HIGH, T_PER_UNIT) - log_scale;
    return interpolate(table, quality, GAUSS_LOW, GAUSS_HIGH, GAUSS_PER_UNIT) - log_scale;
}

// min(2^32 - 1, floor(p*2^32)), p from 0 to 1. In float32, for a product with a power of two is exact and below 2^32.
GPULOAN_FUNCTION u32 rank_of(float p) { return p >= ONE ? LARGEST_RANK : static_cast<u32>(p * TWO_32); }

// (3.6) the rank below which a group's obligors have defaulted.
GPULOAN_FUNCTION u32 group_threshold(const float* table, float log_cumulative, float log_scale, float inverse_mixing,
                                     float common, float inverse_residual) {
    const float log_hazard = log_cumulative + log_scale;
    if (log_hazard < LATENT_LOW) return 0;
    const float latent = interpolate(table, log_hazard, LATENT_LOW, LATENT_HIGH, LATENT_PER_UNIT);
    const float distance = fma(latent, inverse_mixing, -common);
    return rank_of(normal_cdf(distance * inverse_residual));
}

// A rank above `bound` by more than all roundings of a threshold: 1 in 4,096, and 16.
GPULOAN_FUNCTION u32 with_slack(u32 bound) {
    const u32 raised = bound + (bound >> RANK_SLACK_SHIFT) + RANK_SLACK;
    return raised < bound ? LARGEST_RANK : raised;  // the sum wraps at 2^32, once at most
}

// An A above which ln E exceeds `log_hazard` (ln H + ln scale) for certain; -1e6 and 1e6 stand for none and all.
// ln E rises with A: the first knot above the level ends the cell in which the level is crossed.
GPULOAN_FUNCTION float highest_quality(const float* table, i32 is_t, float log_hazard) {
    const float low = is_t ? T_LOW : GAUSS_LOW;
    const float step = is_t ? ONE / T_PER_UNIT : ONE / GAUSS_PER_UNIT;
    const i32 n_cells = static_cast<i32>(is_t ? (T_HIGH - T_LOW) * T_PER_UNIT : (GAUSS_HIGH - GAUSS_LOW) * GAUSS_PER_UNIT);
    const float level = fma(MARGIN, ONE + magnitude(log_hazard), log_hazard);
    i32 below = 0, above = n_cells;
    while (below < above) {
        const i32 middle = (below + above) / 2;
        if (table[middle] > level) {
            above = middle;
        } else {
            below = middle + 1;
        }
    }
    if (below == 0) return -1e6f;
    const i32 cell = below - 1;
    const float slope = table[n_cells + cell];
    const float inside = slope > ZERO ? (level - table[cell]) / slope : step;
    if (below == n_cells && !(inside < step)) return 1e6f;
    return fma(static_cast<float>(cell), step, low) + minimum(inside, step);
}

// A rank that no obligor in default exceeds: A <= `quality` needs epsilon <= (quality/W - a*n)/residual.
// `common` is the least a*n of the obligors it serves, `residual_*` the range of their residuals.
GPULOAN_FUNCTION u32 rank_bound(float quality, float mixing, float common, float residual_low, float residual_high) {
    float distance = quality / mixing - common;
    distance = fma(MARGIN, ONE + magnitude(distance), distance);
    const float z = distance / (distance > ZERO ? residual_low : residual_high);
    return with_slack(rank_of(normal_cdf(z + MARGIN)));
}

// The least a*n for a in [low, high].
GPULOAN_FUNCTION float least_loading(float low, float high, float n) { return n > ZERO ? low : high; }

}  // namespace gpuloan
