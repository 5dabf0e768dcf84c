// The market block (docs/model.md 2): one path, one month, one generation at a time. Twin: paths/market.py.
#pragma once

#include "arithmetic.cuh"

namespace gpuloan {

constexpr float HOURS_A_YEAR = 8760.0f;

// (2.2) M_t of M_{t-1}; `mean` is the regime's.
GPULOAN_FUNCTION float next_demand(float demand, float mean, float pull, float shock, float n, float jump) {
    return flush(fma(shock, n, fma(pull, mean - demand, demand)) + jump);
}

// (2.3), (2.4) a state that returns to 0: chi_t, X_{g,t}.
GPULOAN_FUNCTION float decayed(float state, float decay, float shock, float n) {
    return flush(fma(shock, n, decay * state));
}

// (2.7) V_{g,t} of V_{g,t-1} and the chips that came back.
GPULOAN_FUNCTION float next_overhang(float overhang, float decay, float chips, float inverse_depth) {
    return flush(fma(chips, inverse_depth, decay * overhang));
}

// (2.6) xi_j.
GPULOAN_FUNCTION float launch_size(float impact, float mean, float sd, float n) {
    return impact * greatest(fma(sd, n, mean), ZERO);
}

// (2.5) ramp_j(t) - ramp_j(0).
GPULOAN_FUNCTION float launch_ramp(float t, float month, float inverse) {
    return held((t - month) * inverse, ZERO, ONE) - held(-month * inverse, ZERO, ONE);
}

// (2.9) ln P_g before the overhang and the floor: what no feedback reaches.
GPULOAN_FUNCTION float outside_log_price(float demand, float beta, float base, float factor, float theta) {
    return (fma(beta, demand, base) + factor) - theta;
}

// (2.8), (2.9) ln P_g.
GPULOAN_FUNCTION float log_price(float outside, float overhang, float mean, float own_weight, float impact, float floor) {
    const float pressure = fma(own_weight, overhang - mean, mean);
    return maximum(fma(-impact, pressure, outside), floor);
}

// (2.9) S_g; `premium` is s_0 + chi.
GPULOAN_FUNCTION float spot_price(float log_contract, float premium) { return exp(log_contract + premium); }

// (2.10) u.
GPULOAN_FUNCTION float utilisation(float demand, float level, float slope, float low, float high) {
    return clip(fma(slope, demand, level), low, high);
}

// (2.11) what a chip earns to the end of its generation's life, discounted.
GPULOAN_FUNCTION float yearly_rent(float contract, float used, float hourly_cost, float annuity) {
    return (HOURS_A_YEAR * greatest(fma(contract, used, -hourly_cost), ZERO)) * annuity;
}

// (2.11) C_v.
GPULOAN_FUNCTION float chip_value(float earned, float cap, float scrap) { return maximum(scrap, minimum(cap, earned)); }

}  // namespace gpuloan
