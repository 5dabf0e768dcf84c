"""Obligors (docs/model.md 3): cumulative hazards, latent quality, who defaults when."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..plan import ObligorPlan
from .arithmetic import F32, I32, U32, at_score, exp, f32, fma, interpolate, log, normal_cdf
from .philox import U64, Purpose, normal, rank, word, words

NEVER = np.int32(2**30)  # the default month of who does not default
_H_0 = f32(2.0**-100)
_LATENT_LOW, _LATENT_PER_UNIT = -24, 64


@dataclass(slots=True)
class ObligorState:
    """Hazards by class, and each obligor's draw and default month (n_paths, n_obligors), own ones first."""

    cumulative: F32  # (n_paths, C) H
    log_cumulative: F32  # (n_paths, C) running maximum of ln H
    thresholds: F32  # (n_paths, O) θ
    ranks: U32  # (n_paths, M)
    common: F32  # (n_paths, R) the groups' ã·n
    inverse_mixing: F32  # (n_paths,)
    months: I32  # (n_paths, O + M)


def draw_obligors(plan: ObligorPlan, seed: int, paths: U64, demand_factor: F32) -> ObligorState:
    """All draws of (3.3)-(3.6): one a path and obligor, known before month 1."""
    n, n_classes = len(paths), plan.hazard.shape[1]
    factors = _factors(plan, seed, paths, demand_factor)
    mixing, inverse_mixing = _mixing(plan, seed, paths)
    ranks = rank(word(seed, paths[:, None], Purpose.OBLIGOR, 0, plan.grouped_key))
    return ObligorState(
        cumulative=np.full((n, n_classes), _H_0),
        log_cumulative=np.full((n, n_classes), log(_H_0)),
        thresholds=_thresholds(plan, seed, paths, factors, mixing),
        ranks=ranks,
        common=_common(plan.group_loadings, factors),
        inverse_mixing=inverse_mixing,
        months=np.full((n, len(plan.own_key) + len(plan.grouped_key)), NEVER),
    )


def _factors(plan: ObligorPlan, seed: int, paths: U64, demand_factor: F32) -> F32:
    """(3.3) n_k, (n_paths, K): F_0 of the market first, the others drawn."""
    n_factors = int(plan.n_factors)
    factors = np.empty((len(paths), n_factors), dtype=np.float32)
    for first in range(0, n_factors, 4):
        w = words(seed, paths, Purpose.FACTOR, 0, first // 4)
        for k in range(first, min(first + 4, n_factors)):
            factors[:, k] = normal(w[k - first])
    factors[:, 0] = demand_factor
    return factors


def _mixing(plan: ObligorPlan, seed: int, paths: U64) -> tuple[F32, F32]:
    """(3.3) W and 1/W, one draw a path; 1 for the Gaussian copula."""
    if not plan.is_t_copula:
        one = np.ones(len(paths), dtype=np.float32)
        return one, one
    n = normal(word(seed, paths, Purpose.MIXING))
    return at_score(plan.mixing_table, n), at_score(plan.inverse_mixing_table, n)


def _common(loadings: F32, factors: F32) -> F32:
    """ã·n, (n_paths, rows of loadings): an fma chain over the factors."""
    total = np.zeros((factors.shape[0], loadings.shape[0]), dtype=np.float32)
    for k in range(loadings.shape[1]):
        total = fma(loadings[:, k], factors[:, k, None], total)
    return total


def _thresholds(plan: ObligorPlan, seed: int, paths: U64, factors: F32, mixing: F32) -> F32:
    """(3.3), (3.4) θ = ln E(A) - ln scale of obligors that are not in a group."""
    epsilon = normal(word(seed, paths[:, None], Purpose.OBLIGOR, 0, plan.own_key))
    quality = mixing[:, None] * fma(plan.own_residual, epsilon, _common(plan.own_loadings, factors))
    low, per_unit = (-64, 32) if plan.is_t_copula else (-8, 64)
    return interpolate(plan.log_hazard_table, quality, low, per_unit) - plan.own_log_scale


def accumulate_hazards(
    plan: ObligorPlan, t: int, state: ObligorState, regime: I32, demand: F32, mean_overhang: F32
) -> None:
    """(3.1) H and the running maximum of ln H in month t."""
    exponent = fma(-plan.demand_sensitivity, demand[:, None], plan.regime_shift[:, regime].T)
    exponent = fma(plan.overhang_sensitivity, mean_overhang[:, None], exponent)
    state.cumulative = fma(plan.hazard[t], exp(exponent), state.cumulative)
    state.log_cumulative = np.maximum(state.log_cumulative, log(state.cumulative))


def defaults(plan: ObligorPlan, t: int, state: ObligorState) -> None:
    """(3.5), (3.6): months of the obligors that default in month t."""
    n_own = len(plan.own_key)
    own, grouped = state.months[:, :n_own], state.months[:, n_own:]
    hit = (state.log_cumulative[:, plan.own_class] >= state.thresholds) & (own == NEVER)
    own[hit] = t
    if len(plan.grouped_key):
        below = state.ranks < group_thresholds(plan, state)[:, plan.grouped_group]
        grouped[below & (grouped == NEVER)] = t


def group_thresholds(plan: ObligorPlan, state: ObligorState) -> U32:
    """(3.6) the rank below which a group's obligors have defaulted, (n_paths, R); 0 where scale·H < e^-24.

    It is no running maximum here: an obligor once in default stays so, which is the same.
    """
    log_hazard = state.log_cumulative[:, plan.group_class] + plan.group_log_scale
    latent = interpolate(plan.latent_table, log_hazard, _LATENT_LOW, _LATENT_PER_UNIT)
    distance = fma(latent, state.inverse_mixing[:, None], -state.common)
    p = normal_cdf(distance * plan.group_inverse_residual).astype(np.float64)
    threshold = np.minimum(np.floor(p * 2.0**32), 2.0**32 - 1).astype(np.uint32)
    return np.where(log_hazard < _LATENT_LOW, np.uint32(0), threshold)
