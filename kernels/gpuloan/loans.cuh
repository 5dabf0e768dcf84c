// Loans with deployments, one month of one loan (docs/model.md 5). Amounts are fractions of the commitment.
// Twin: paths/loans.py.
#pragma once

#include "arithmetic.cuh"

namespace gpuloan {

constexpr float REPAID_BELOW = 1.0f / (1 << 20);
constexpr i32 PARENT = 0, MATURITY = 1, TENANT = 2, PAYMENT = 3, COVENANT = 4;

struct Funds {
    float balance, reserve, support;
};

// (5.3) interest of a month.
GPULOAN_FUNCTION float monthly_rate(float floating, float base, float margin) { return fma(floating, base, margin); }

// (5.3) dollars an hour of chips that are not let.
GPULOAN_FUNCTION float spot_rate(float spot, float utilisation, float keep) { return (spot * utilisation) * keep; }

// (5.2) dollars an hour after a renewal.
GPULOAN_FUNCTION float renewed_rate(float contract, float keep, float paid_share) { return (contract * keep) * paid_share; }

// (5.3) one deployment's revenue joins; `let_rate` is negative where no contract is live.
GPULOAN_FUNCTION float add_revenue(float revenue, float hours, float let_rate, float spot) {
    return fma(hours, let_rate < ZERO ? spot : let_rate, revenue);
}

// (5.3) DS.
GPULOAN_FUNCTION float debt_service(float balance, float rate, float principal) { return fma(balance, rate, principal); }

// (5.4) need.
GPULOAN_FUNCTION float shortfall(float service, float income) { return greatest(service - income, ZERO); }

// (5.5) need beyond reserve and support.
GPULOAN_FUNCTION bool is_short(float need, float reserve, float support) {
    return need > (reserve + support) + REPAID_BELOW;
}

// (5.5) at maturity: a balance of at most refinance_ltv * value.
GPULOAN_FUNCTION bool is_refinanced(float balance, float limit, float value) {
    return (limit > ZERO) & (balance <= limit * value);
}

// (6.5) the first cause that holds, the parent's default apart.
GPULOAN_FUNCTION i32 cause_of(bool falls_short, bool matures, bool tenant_lost) {
    if (falls_short && matures) return MATURITY;
    if (tenant_lost) return TENANT;
    return falls_short ? PAYMENT : COVENANT;
}

// (5.4) the waterfall: balance, reserve and support after a month that is paid.
//
// `sweep` is the share of the rest that prepays, from +0 to 1: 1 under lock-up. At maturity reserve_months is 0: nothing
// tops it up. `least` is `minimum` four times, for its first argument is never -0: need and surplus are not, differences
// from them are not, and the rest times the sweep is not.
GPULOAN_FUNCTION Funds pay(float balance, float reserve, float support, float principal, float service, float income,
                           float reserve_months, float sweep) {
    const float need = shortfall(service, income);
    const float surplus = greatest(-(service - income), ZERO);
    const float from_reserve = least(need, reserve);
    const float from_support = least(need - from_reserve, support);
    reserve = reserve - from_reserve;
    const float topped = least(surplus, greatest(fma(reserve_months, service, -reserve), ZERO));
    const float rest = surplus - topped;
    const float after = balance - principal;
    const float swept = least(rest * sweep, after);
    return {after - swept, reserve + topped, support - from_support};
}

}  // namespace gpuloan
