// Where a path's fractions become cents (docs/model.md 1.4): the only float64. Twin: paths/path.py.
#pragma once

#include "portable.cuh"

namespace gpuloan {

// Commitment times fraction in float64, rounded once to the nearest cent, ties to even.
GPULOAN_FUNCTION i64 to_cents(double commitment, float fraction) {
    return rounded_product(commitment, static_cast<double>(fraction));
}

// A loss in cents at month 0, rounded to the nearest cent.
GPULOAN_FUNCTION i64 discounted(i64 loss, double factor) { return rounded_product(static_cast<double>(loss), factor); }

}  // namespace gpuloan
