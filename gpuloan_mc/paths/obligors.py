"""Obligors (docs/model.md 3): hazards, latent quality, thresholds, and the bound that spares most draws their normal."""

from __future__ import annotations

import numpy as np

from ..reference.arithmetic import F32
from .arithmetic import ONE, ZERO, exp, interpolate, log, maximum, minimum, normal_cdf
from .primitives import fma, lane_function, path_function

f32, i32, u64 = np.float32, np.int32, np.uint64

H_0 = f32(2.0**-100)
LATENT_LOW, LATENT_HIGH, LATENT_PER_UNIT = f32(-24), f32(4), f32(64)
GAUSS_LOW, GAUSS_HIGH, GAUSS_PER_UNIT = f32(-8), f32(8), f32(64)
T_LOW, T_HIGH, T_PER_UNIT = f32(-64), f32(64), f32(32)
TWO_32 = 2.0**32
LARGEST_RANK = u64(0xFFFFFFFF)
RANK_SLACK_SHIFT, RANK_SLACK = u64(12), u64(16)
MARGIN = f32(1e-4)  # thousands of float32 roundings of a score


@lane_function
def accumulated(
    cumulative: np.float32,
    hazard: np.float32,
    shift: np.float32,
    demand_sensitivity: np.float32,
    demand: np.float32,
    overhang_sensitivity: np.float32,
    mean_overhang: np.float32,
) -> np.float32:
    """(3.1) H_{c,t} of H_{c,t-1}."""
    exponent = fma(-demand_sensitivity, demand, shift)
    exponent = fma(overhang_sensitivity, mean_overhang, exponent)
    return fma(hazard, exp(exponent), cumulative)


@lane_function
def log_accumulated(cumulative: np.float32, before: np.float32) -> np.float32:
    """(3.1) the running maximum of ln H."""
    return maximum(before, log(cumulative))


@path_function
def threshold(
    table: F32,
    is_t: np.int32,
    mixing: np.float32,
    residual: np.float32,
    epsilon: np.float32,
    common: np.float32,
    log_scale: np.float32,
) -> np.float32:
    """(3.3), (3.4) θ = ln E(A) - ln scale."""
    quality = mixing * fma(residual, epsilon, common)
    if is_t:
        return interpolate(table, quality, T_LOW, T_HIGH, T_PER_UNIT) - log_scale
    return interpolate(table, quality, GAUSS_LOW, GAUSS_HIGH, GAUSS_PER_UNIT) - log_scale


@path_function
def group_threshold(
    table: F32,
    log_cumulative: np.float32,
    log_scale: np.float32,
    inverse_mixing: np.float32,
    common: np.float32,
    inverse_residual: np.float32,
) -> np.uint64:
    """(3.6) the rank below which a group's obligors have defaulted."""
    log_hazard = log_cumulative + log_scale
    if log_hazard < LATENT_LOW:
        return u64(0)
    latent = interpolate(table, log_hazard, LATENT_LOW, LATENT_HIGH, LATENT_PER_UNIT)
    distance = fma(latent, inverse_mixing, -common)
    return rank_of(normal_cdf(distance * inverse_residual))


@path_function
def rank_of(p: np.float32) -> np.uint64:
    """min(2^32 - 1, ⌊p·2^32⌋)."""
    scaled = np.float64(p) * TWO_32
    return LARGEST_RANK if scaled >= TWO_32 - 1.0 else u64(np.int64(scaled))


@path_function
def with_slack(bound: np.uint64) -> np.uint64:
    """A rank above `bound` by more than all roundings of a threshold: 1 in 4,096, and 16."""
    raised = bound + (bound >> RANK_SLACK_SHIFT) + RANK_SLACK
    return LARGEST_RANK if raised > LARGEST_RANK else raised


@path_function
def highest_quality(table: F32, is_t: np.int32, log_hazard: np.float32) -> np.float32:
    """An A above which ln E exceeds `log_hazard` (ln H + ln scale) for certain; ±1e6 stand for none and all.

    ln E rises with A: the first knot above the level ends the cell in which the level is crossed.
    """
    level = fma(MARGIN, ONE + abs(log_hazard), log_hazard)
    below, above = 0, table.shape[1]
    while below < above:
        middle = (below + above) // 2
        if table[0, middle] > level:
            above = middle
        else:
            below = middle + 1
    low = T_LOW if is_t else GAUSS_LOW
    step = ONE / (T_PER_UNIT if is_t else GAUSS_PER_UNIT)
    if below == 0:
        return f32(-1e6)
    knot = low + f32(below - 1) * step
    slope = table[1, below - 1]
    inside = (level - table[0, below - 1]) / slope if slope > ZERO else step
    if below == table.shape[1] and not inside < step:
        return f32(1e6)
    return knot + minimum(inside, step)


@path_function
def rank_bound(
    quality: np.float32, mixing: np.float32, common: np.float32, residual_low: np.float32, residual_high: np.float32
) -> np.uint64:
    """A rank that no obligor in default exceeds: A ≤ `quality` needs ε ≤ (quality/W - ã·n)/residual.

    `common` is the least ã·n of the obligors it serves, `residual_*` the range of their residuals.
    """
    distance = quality / mixing - common
    distance = fma(MARGIN, ONE + abs(distance), distance)
    z = distance / (residual_low if distance > ZERO else residual_high)
    return with_slack(rank_of(normal_cdf(z + MARGIN)))


@path_function
def least_loading(low: np.float32, high: np.float32, n: np.float32) -> np.float32:
    """The a in [low, high] with the least a·n."""
    return low if n > ZERO else high
