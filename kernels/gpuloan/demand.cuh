// What no feedback reaches, drawn before the months are walked: a thread a path. Regimes, demand, factors, hazards, and
// prices before the overhang (docs/model.md 2.1-2.6, 2.10, 3.1, 3.3).
#pragma once

#include "draws.cuh"
#include "market.cuh"
#include "obligors.cuh"
#include "plan.cuh"
#include "team.cuh"

namespace gpuloan {

constexpr i32 MAX_LAUNCHES = 32;
constexpr float FREE = 1 << 20;  // the month's demand is not forced

// (2.2) J of a month's third and fourth word.
GPULOAN_DEVICE float jump(const Market& market, Words w) {
    const i32 u = event_word(w.w2);
    if (u >= market.jump_any) return ZERO;
    const float size = at_score(market.jump_table, normal(w.w3));
    return u < market.jump_down ? -size : size;
}

// (2.1), (2.2) regimes and demand of all months, F_0.
GPULOAN_DEVICE void draw_demand(const Plan& plan, const Run& run, i64 row) {
    const Market& market = plan.market;
    const i32 n_thresholds = plan.size.n_regimes - 1;
    i32 regime = market.initial_regime;
    float demand = market.initial_demand, total = ZERO;
    run.regime[row] = regime;
    run.demand[row] = demand;
    GPULOAN_ROLLED
    for (i32 t = 1; t <= plan.size.n_months; ++t) {
        const Words w = draw(run, run.first_path + row, MARKET, t, 0);
        const i32 u = event_word(w.w0);
        i32 passed = 0;
        GPULOAN_ROLLED
        for (i32 k = 0; k < n_thresholds; ++k) passed += u >= market.regime_thresholds[regime * n_thresholds + k];
        regime = passed;
        const float n = normal(w.w1);
        demand = next_demand(demand, market.regime_means[regime], market.demand_pull, market.demand_shock, n,
                             jump(market, w));
        if (market.forced_demand[t] != FREE) demand = market.forced_demand[t];
        run.regime[t * run.n_paths + row] = regime;
        run.demand[t * run.n_paths + row] = demand;
        if (t <= plan.size.horizon) total = total + n;
    }
    run.factors[row] = total * market.factor_scale;
}

// (3.3) credit factors and the mixing variable.
GPULOAN_DEVICE void draw_factors(const Plan& plan, const Run& run, i64 row) {
    const u64 path = run.first_path + row;
    GPULOAN_ROLLED
    for (i32 first = 0; first < plan.size.n_factors && plan.size.n_factors > 1; first += 4) {
        const Words w = draw(run, path, FACTOR, 0, first / 4);
        GPULOAN_ROLLED
        for (i32 k = first > 1 ? first : 1; k < first + 4 && k < plan.size.n_factors; ++k) {
            run.factors[k * run.n_paths + row] = normal(chosen(w, k - first));
        }
    }
    float mixing = ONE, inverse = ONE;
    if (plan.hazards.is_t_copula) {
        const float n = normal(chosen(draw_four(run, path, MIXING, 0, 0), static_cast<i32>(path & 3)));
        mixing = at_score(plan.hazards.mixing_table, n);
        inverse = at_score(plan.hazards.inverse_mixing_table, n);
    }
    run.mixing[row] = mixing;
    run.mixing[run.n_paths + row] = inverse;
}

// (3.1) all months of the classes that the book's chips do not move.
GPULOAN_DEVICE void draw_hazards(const Plan& plan, const Run& run, i64 row) {
    const Hazards& hazards = plan.hazards;
    const i32 n_classes = plan.size.n_classes, n_regimes = plan.size.n_regimes, n_levels = plan.size.horizon + 1;
    GPULOAN_ROLLED
    for (i32 c = 0; c < n_classes; ++c) {
        if (hazards.fed_back[c]) continue;
        float cumulative = H_0, level = log(H_0);
        float* const levels = run.log_hazard + c * n_levels * run.n_paths + row;
        levels[0] = level;
        GPULOAN_ROLLED
        for (i32 t = 1; t < n_levels; ++t) {
            const i32 regime = run.regime[t * run.n_paths + row];
            cumulative = accumulated(cumulative, hazards.hazard[t * n_classes + c],
                                     hazards.regime_shift[c * n_regimes + regime], hazards.demand_sensitivity[c],
                                     run.demand[t * run.n_paths + row], hazards.overhang_sensitivity[c], ZERO);
            level = log_accumulated(cumulative, level);
            levels[t * run.n_paths] = level;
        }
    }
}

// (2.6) launches up to the last month; those after it have no effect.
GPULOAN_DEVICE void draw_launches(const Plan& plan, const Run& run, i64 row) {
    const Market& market = plan.market;
    const float last = static_cast<float>(plan.size.n_months);
    GPULOAN_ROLLED
    for (i32 family = 0; family < plan.size.n_families; ++family) {
        float month = market.launch_first[family];
        GPULOAN_ROLLED
        for (i32 j = 0; j < MAX_LAUNCHES; ++j) {
            const Words w = draw(run, run.first_path + row, LAUNCH, j, family);
            if (j > 0) {
                const float lag = at_score(market.launch_lag_tables + family * SCORE_TABLE, normal(w.w0));
                month = (month + market.launch_cadence[family]) + lag;
            }
            const i64 place = (family * MAX_LAUNCHES + j) * run.n_paths + row;
            run.launch_month[place] = month;
            run.launch_size[place] = launch_size(market.launch_impact[family], market.launch_gain_mean[family],
                                                 market.launch_gain_sd[family], normal(w.w1));
            if (month >= last) break;
        }
    }
}

// (2.5) Theta_g(t) of all generations, chains over the launches, `stride` apart: a launch's ramp is one for all.
GPULOAN_DEVICE void add_obsolescence(const Plan& plan, const Run& run, i64 row, i32 t, float* thetas, i32 stride) {
    const Market& market = plan.market;
    const i32 n = plan.size.n_generations;
    const float last = static_cast<float>(plan.size.n_months);
    GPULOAN_ROLLED
    for (i32 family = 0; family < plan.size.n_families; ++family) {
        const float* const hits = market.hit_by_first + family * n;
        GPULOAN_ROLLED
        for (i32 j = 0; j < MAX_LAUNCHES; ++j) {
            const i64 place = (family * MAX_LAUNCHES + j) * run.n_paths + row;
            const float month = run.launch_month[place], size = run.launch_size[place];
            const float ramp = launch_ramp(static_cast<float>(t), month, market.launch_ramp_inverse[family]);
            GPULOAN_ROLLED
            for (i32 g = 0; g < n && ramp != ZERO; ++g) {  // fma(x, 0, y) is y
                thetas[g * stride] = fma(size * (j == 0 ? hits[g] : ONE), ramp, thetas[g * stride]);
            }
            if (month >= last) break;
        }
    }
}

// (2.3), (2.10) spot premium s_0 + chi and utilisation of all months, in a month's row behind its prices.
GPULOAN_DEVICE void draw_premium(const Plan& plan, const Run& run, i64 row) {
    const Market& market = plan.market;
    const u64 path = run.first_path + row;
    const i64 n = plan.size.n_generations, stride = (n + 2) * run.n_paths;
    float* premium = run.outside + n * run.n_paths + row;
    float chi = ZERO;
    premium[0] = market.spot_premium + chi;
    premium[run.n_paths] = ZERO;
    GPULOAN_ROLLED
    for (i32 t = 1; t <= plan.size.n_months; ++t) {
        premium += stride;
        const u32 w = chosen(draw_four(run, path, SPOT, t, 0), static_cast<i32>(path & 3));
        chi = decayed(chi, market.spot_decay, market.spot_shock, normal(w));
        premium[0] = market.spot_premium + chi;
        premium[run.n_paths] = utilisation(run.demand[t * run.n_paths + row], market.utilisation_level, market.utilisation_slope,
                                           market.utilisation_low, market.utilisation_high);
    }
}

// (2.4), (2.9) ln P before the overhang of all months. `columns`: three floats a generation for each thread of the block,
// the normals of a month, the factors X and Theta.
GPULOAN_DEVICE void draw_generations(const Plan& plan, const Run& run, i64 row, float* columns) {
    const Market& market = plan.market;
    const i32 n = plan.size.n_generations, stride = static_cast<i32>(blockDim.x);
    float* const normals = columns + threadIdx.x;
    float* const factors = normals + n * stride;
    float* const thetas = factors + n * stride;
    GPULOAN_ROLLED
    for (i32 g = 0; g < n; ++g) {
        factors[g * stride] = ZERO;
        run.outside[g * run.n_paths + row] =
            outside_log_price(run.demand[row], market.demand_beta[g], market.base_log_price[g], ZERO, ZERO);
    }
    GPULOAN_ROLLED
    for (i32 t = 1; t <= plan.size.n_months; ++t) {
        const float demand = run.demand[t * run.n_paths + row];
        GPULOAN_ROLLED
        for (i32 first = 0; first < n; first += 4) {
            const Words w = draw(run, run.first_path + row, GENERATION, t, first / 4);
            GPULOAN_ROLLED
            for (i32 g = first; g < first + 4 && g < n; ++g) {
                normals[g * stride] = normal(chosen(w, g - first));
                thetas[g * stride] = ZERO;
            }
        }
        add_obsolescence(plan, run, row, t, thetas, stride);
        GPULOAN_ROLLED
        for (i32 g = 0; g < n; ++g) {
            float shock = ZERO;
            GPULOAN_ROLLED
            for (i32 h = 0; h <= g; ++h) shock = fma(market.generation_cholesky[g * n + h], normals[h * stride], shock);
            const float x =
                decayed(factors[g * stride], market.generation_decay, market.generation_shock[g], shock);
            factors[g * stride] = x;
            run.outside[(t * (n + 2) + g) * run.n_paths + row] =
                outside_log_price(demand, market.demand_beta[g], market.base_log_price[t * n + g], x,
                                  thetas[g * stride]);
        }
    }
}

}  // namespace gpuloan
