// The market month by month (docs/model.md 2.7-2.11) and the hazards that the book's own chips move (3.1).
#pragma once

#include "loans.cuh"
#include "market.cuh"
#include "memory.cuh"
#include "obligors.cuh"

namespace gpuloan {

template <class Team>
GPULOAN_DEVICE void keep_price(Walker<Team>& w, i32 t, i32 g, float contract, float spot) {
    if (w.run.prices == nullptr || !w.is_active) return;
    const i32 n = w.plan.size.n_generations;
    float* const month = w.run.prices + (w.row * (w.plan.size.horizon + 1) + t) * 2 * n;
    month[g] = contract;
    month[n + g] = spot;
}

// Month 0: no overhang and no launch since.
template <class Team>
GPULOAN_DEVICE void start_market(Walker<Team>& w) {
    const Market& market = w.plan.market;
    GPULOAN_ROLLED
    for (i32 k = w.team.rank(); k < w.plan.size.release_rows * w.plan.size.n_generations; k += Team::size) w.m.released[k] = 0;
    GPULOAN_ROLLED
    for (i32 g = w.team.rank(); g < w.plan.size.n_generations; g += Team::size) {
        w.m.overhang[g] = ZERO;
        const float logarithm = log_price(w.ahead(w.run.outside, g), ZERO, ZERO, market.own_weight,
                                          market.overhang_impact, market.price_floor[g]);
        keep_price(w, 0, g, exp(logarithm), spot_price(logarithm, w.ahead(w.run.outside, w.plan.size.n_generations)));
    }
    GPULOAN_ROLLED
    for (i32 c = w.team.rank(); c < w.plan.size.n_classes; c += Team::size) {
        if (!w.plan.hazards.fed_back[c]) continue;
        w.m.cumulative[c] = H_0;
        w.m.level[c] = log(H_0);
        w.m.log_hazard[c * (w.plan.size.horizon + 1)] = log(H_0);
    }
}

// (2.7) chips that come back in a month, this one or one to come. A row is used again once its month is over: lags are shorter
// than the rows are many.
template <class Team>
GPULOAN_DEVICE u32* released_in(const Walker<Team>& w, i32 month) {
    return w.m.released + (month & (w.plan.size.release_rows - 1)) * w.plan.size.n_generations;
}

// (2.7) overhang of the chips that came back in t-1.
template <class Team>
GPULOAN_DEVICE void step_overhang(Walker<Team>& w, i32 t) {
    const Market& market = w.plan.market;
    const i32 n = w.plan.size.n_generations;
    u32* const released = released_in(w, t - 1);
    GPULOAN_ROLLED
    for (i32 g = w.team.rank(); g < n; g += Team::leaders) {
        const float chips = static_cast<float>(static_cast<i64>(released[g]) + market.calendar[t * n + g]);
        released[g] = 0;
        w.m.overhang[g] =
            next_overhang(w.m.overhang[g], market.overhang_decay, chips, market.inverse_depth[t * n + g]);
    }
}

// (2.8) the depth-weighted mean overhang, a chain that every lane follows.
template <class Team>
GPULOAN_DEVICE float mean_overhang(const Walker<Team>& w, i32 t) {
    const i32 n = w.plan.size.n_generations;
    float mean = ZERO;
    GPULOAN_ROLLED
    for (i32 g = 0; g < n; ++g) mean = fma(w.plan.market.depth_weights[t * n + g], w.m.overhang[g], mean);
    return mean;
}

// (2.9)-(2.11) prices and what a chip earns.
template <class Team>
GPULOAN_DEVICE void step_prices(Walker<Team>& w, i32 t, float mean) {
    const Market& market = w.plan.market;
    const i32 n = w.plan.size.n_generations;
    const i32 ahead = t * (n + 2);
    const float used = w.ahead(w.run.outside, ahead + n + 1);
    GPULOAN_ROLLED
    for (i32 g = w.team.rank(); g < n; g += Team::leaders) {
        const i32 place = t * n + g;
        const float logarithm = log_price(w.ahead(w.run.outside, ahead + g), w.m.overhang[g], mean, market.own_weight,
                                          market.overhang_impact, market.price_floor[place]);
        const float contract = exp(logarithm);
        w.m.contract[g] = contract;
        w.m.rents[place] = yearly_rent(contract, used, market.hourly_cost[place], market.annuity[place]);
        if (t > w.plan.size.horizon) continue;
        const float spot = spot_price(logarithm, w.ahead(w.run.outside, ahead + n));
        w.m.spot[g] = spot_rate(spot, used, w.plan.recovery.spot_keep);
        keep_price(w, t, g, contract, spot);
    }
}

// (3.1) the classes that are fed back.
template <class Team>
GPULOAN_DEVICE void step_hazards(Walker<Team>& w, i32 t, float mean) {
    const Hazards& hazards = w.plan.hazards;
    const i32 n_classes = w.plan.size.n_classes;
    const i32 regime = w.ahead(w.run.regime, t);
    GPULOAN_ROLLED
    for (i32 c = w.team.rank(); c < n_classes; c += Team::leaders) {
        if (!hazards.fed_back[c]) continue;
        const float cumulative = accumulated(
            w.m.cumulative[c], hazards.hazard[t * n_classes + c], hazards.regime_shift[c * w.plan.size.n_regimes + regime],
            hazards.demand_sensitivity[c], w.ahead(w.run.demand, t), hazards.overhang_sensitivity[c], mean);
        const float level = log_accumulated(cumulative, w.m.level[c]);
        w.m.cumulative[c] = cumulative;
        w.m.level[c] = level;
        w.m.log_hazard[c * (w.plan.size.horizon + 1) + t] = level;
    }
}

// (a) of month t, by the leading lanes.
template <class Team>
GPULOAN_DEVICE void step_market(Walker<Team>& w, i32 t) {
    step_overhang(w, t);
    w.team.sync_leaders();
    const float mean = mean_overhang(w, t);
    step_prices(w, t, mean);
    if (t <= w.plan.size.horizon && w.plan.size.n_fed_back > 0) step_hazards(w, t, mean);
}

// The path's own rows of the next month, asked for a month ahead by the leading lanes.
template <class Team>
GPULOAN_DEVICE void look_ahead(const Walker<Team>& w, i32 t) {
    if (!w.team.leads() || t >= w.plan.size.n_months) return;
    const i32 n = w.plan.size.n_generations + 2;
    GPULOAN_ROLLED
    for (i32 k = w.team.rank(); k < n; k += Team::leaders) prefetch(&w.ahead(w.run.outside, (t + 1) * n + k));
    if (w.team.rank() == 0) prefetch(&w.ahead(w.run.regime, t + 1));
}

// (2.11) C_v in a month up to this one, computed where it is asked for.
template <class Team>
GPULOAN_DEVICE float value_of(const Walker<Team>& w, i32 t, const Deployment& deployment) {
    const Market& market = w.plan.market;
    const i32 g = deployment.generation;
    const float earned = w.m.rents[t * w.plan.size.n_generations + g];
    return chip_value(earned, market.value_cap[t * w.plan.size.n_vintages + deployment.vintage], market.scrap_value[g]);
}

}  // namespace gpuloan
