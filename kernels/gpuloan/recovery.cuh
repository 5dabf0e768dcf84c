// What a defaulted GPU loan recovers (docs/model.md 6), one deployment at a time. Twin: paths/recovery.py.
#pragma once

#include "philox.cuh"

namespace gpuloan {

// (6.1) EAD: opening balance and a month's interest.
GPULOAN_FUNCTION float exposure(float balance, float rate) { return fma(balance, rate, balance); }

// (6.3) months from default to sale.
GPULOAN_FUNCTION i32 sale_lag(const float* table, u32 w, i32 longest) {
    i32 lag = ceiling(at_score(table, normal(w)));
    lag = lag > 1 ? lag : 1;
    return lag < longest ? lag : longest;
}

// (6.2), (6.3) a haircut: a Beta draw held to [0, 1].
GPULOAN_FUNCTION float share_of_table(const float* table, u32 w) { return held(at_score(table, normal(w)), ZERO, ONE); }

// (6.2) e - tau, held at 0.
GPULOAN_FUNCTION i32 months_left(i32 contract_end, i32 t) { return contract_end > t ? contract_end - t : 0; }

// (6.2) k_d * max(0, price * paid share - stress * opex) * ann(e - tau).
GPULOAN_FUNCTION float contract_value(float hours, float rate, float opex, float growth, float stress, float annuity) {
    return (hours * greatest(fma(-stress, opex * growth, rate), ZERO)) * annuity;
}

// (6.2) a kept deployment: its contract and the chips after it; `chips` is u_d * C_v.
GPULOAN_FUNCTION float kept_value(float contract, float performance, float chips, float later, float discount,
                                  float haircut, float sale_keep) {
    chips = ((chips * later) * discount) * ((ONE - haircut) * sale_keep);
    return fma(performance, contract, chips);
}

// (6.2) less the claim on a defaulted tenant.
GPULOAN_FUNCTION float after_claim(float rest, float claim_recovery, float contract) {
    return fma(-claim_recovery, contract, rest);
}

// (6.3) what a chip fetches: C_v less haircut, the sale's own price impact and its cost.
GPULOAN_FUNCTION float sale_price(float value, float haircut, float pressure, float inverse_depth, float sale_keep) {
    const float impact = exp(-(pressure * inverse_depth));
    return ((value * (ONE - haircut)) * impact) * sale_keep;
}

// (6.3) one deployment's proceeds less storage join.
GPULOAN_FUNCTION float add_proceeds(float total, float unit_share, float price, float storage, float lag) {
    return fma(-storage, lag, fma(unit_share, price, total));
}

// (6.4) the lender's loss as a fraction of the commitment, dated tau.
GPULOAN_FUNCTION float loss(float kept_share, float rest, float lender_discount, float proceeds) {
    return kept_share * greatest(fma(-lender_discount, proceeds, rest), ZERO);
}

}  // namespace gpuloan
