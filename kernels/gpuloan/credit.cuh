// When obligors default (docs/model.md 3.3-3.6), and what follows for their plain loans (4).
#pragma once

#include "draws.cuh"
#include "obligors.cuh"
#include "plan.cuh"
#include "tally.cuh"

namespace gpuloan {

constexpr i32 NEVER = 1 << 30;

// ln H of a class by month.
struct Levels {
    const float* first;
    i64 stride;

    float at(i32 t) const { return first[t * stride]; }
};

// Of a class that the book's chips do not move.
GPULOAN_DEVICE Levels levels_ahead(const Plan& plan, const Run& run, i64 row, i32 c) {
    return {run.log_hazard + c * (plan.size.horizon + 1) * run.n_paths + row, run.n_paths};
}

// (3.3) a*n of an obligor.
GPULOAN_DEVICE float common_part(const Plan& plan, const Run& run, i64 row, i32 p) {
    float total = ZERO;
    GPULOAN_ROLLED
    for (i32 k = 0; k < plan.size.n_factors; ++k) {
        total = fma(plan.obligors.loadings[p * plan.size.n_factors + k], run.factors[k * run.n_paths + row], total);
    }
    return total;
}

// (3.3), (3.4) theta of an obligor decided by its own normal.
GPULOAN_DEVICE float own_threshold(const Plan& plan, const Run& run, i64 row, i32 p, u32 w) {
    const Obligors& obligors = plan.obligors;
    return threshold(plan.hazards.log_hazard_table, plan.hazards.is_t_copula, run.mixing[row], obligors.residual[p],
                     normal(w), common_part(plan, run, row, p), obligors.log_scale[p]);
}

// (3.5) first month with ln H >= theta, by search: ln H never falls.
GPULOAN_DEVICE i32 own_month(const Plan& plan, const Run& run, i64 row, i32 p, u32 w, Levels levels) {
    const float theta = own_threshold(plan, run, row, p, w);
    i32 below = 1, above = plan.size.horizon + 1;
    if (!(levels.at(plan.size.horizon) >= theta)) return NEVER;
    GPULOAN_ROLLED
    while (below < above) {
        const i32 middle = (below + above) / 2;
        if (levels.at(middle) >= theta) {
            above = middle;
        } else {
            below = middle + 1;
        }
    }
    return below;
}

// What the thresholds of a group are made of on a path.
struct Group {
    float log_scale, inverse_mixing, common, inverse_residual;
};

GPULOAN_DEVICE Group group_on_path(const Plan& plan, const Run& run, i64 row, i32 p) {
    return {plan.obligors.log_scale[p], run.mixing[run.n_paths + row], common_part(plan, run, row, p),
            plan.obligors.inverse_residual[p]};
}

GPULOAN_DEVICE u32 month_threshold(const Plan& plan, const Group& group, Levels levels, i32 t) {
    return group_threshold(plan.hazards.latent_table, levels.at(t), group.log_scale, group.inverse_mixing, group.common,
                           group.inverse_residual);
}

// (3.6) first month with rank < threshold. Thresholds rise but for rounding, so the month that the search finds may not be
// the first: the months before it follow as long as their thresholds lie within the slack of the rank.
GPULOAN_DEVICE i32 grouped_month(const Plan& plan, const Run& run, i64 row, i32 p, u32 w, Levels levels) {
    const Group group = group_on_path(plan, run, row, p);
    const u32 place = rank(w);
    const i32 horizon = plan.size.horizon;
    if (place > with_slack(month_threshold(plan, group, levels, horizon))) return NEVER;
    i32 below = 1, above = horizon + 1;
    GPULOAN_ROLLED
    while (below < above) {
        const i32 middle = (below + above) / 2;
        if (place < month_threshold(plan, group, levels, middle)) {
            above = middle;
        } else {
            below = middle + 1;
        }
    }
    i32 month = below;
    GPULOAN_ROLLED
    for (i32 t = below - 1; t > 0; --t) {
        const u32 bound = month_threshold(plan, group, levels, t);
        if (place > with_slack(bound)) break;
        if (place < bound) month = t;
    }
    return month <= horizon ? month : NEVER;
}

// The month in which an obligor defaults, of its word.
GPULOAN_DEVICE i32 default_month(const Plan& plan, const Run& run, i64 row, i32 p, u32 w, Levels levels) {
    return plan.obligors.group[p] < 0 ? own_month(plan, run, row, p, w, levels)
                                      : grouped_month(plan, run, row, p, w, levels);
}

// A rank that nobody of the run who defaults by the horizon exceeds.
GPULOAN_DEVICE u32 bound_of_run(const Plan& plan, const Run& run, i64 row, i32 r) {
    const Obligors& obligors = plan.obligors;
    const Levels levels = levels_ahead(plan, run, row, obligors.run_class[r]);
    const i32 horizon = plan.size.horizon;
    if (obligors.run_group[r] >= 0) {
        const Group group = group_on_path(plan, run, row, obligors.run_first[r]);
        return with_slack(month_threshold(plan, group, levels, horizon));
    }
    const float quality = highest_quality(plan.hazards.log_hazard_table, plan.hazards.is_t_copula,
                                          levels.at(horizon) + obligors.run_log_scale[r]);
    float common = ZERO;
    GPULOAN_ROLLED
    for (i32 k = 0; k < plan.size.n_factors; ++k) {
        const i32 place = r * plan.size.n_factors + k;
        const float n = run.factors[k * run.n_paths + row];
        common = fma(least_loading(obligors.run_low[place], obligors.run_high[place], n), n, common);
    }
    return rank_bound(quality, run.mixing[row], common, obligors.run_residual_low[r], obligors.run_residual_high[r]);
}

// A plain loan's numbers: float64 in `amounts`, whole in `facts`.
constexpr i32 COMMITMENT = 0, LGD = 1, KEPT_SHARE = 2, OPENING = 3, INDEX = 0, TERM = 1, LGD_TABLE = 2;

struct Cents {
    i64 ead, loss;
};

// (4) EAD is the scheduled balance, loss EAD x LGD; both float64 until they are cents.
GPULOAN_DEVICE Cents plain_amounts(const double* amounts, i32 month, double lgd) {
    const double ead = amounts[COMMITMENT] * amounts[OPENING + month];
    return {rounded_product(ead, 1.0), rounded_product(ead * lgd, amounts[KEPT_SHARE])};
}

GPULOAN_DEVICE const double* amounts_of(const Plan& plan, i32 loan) {
    return plan.plain.amounts + static_cast<i64>(loan) * (OPENING + plan.size.horizon + 1);
}

// (4) LGD read at a score of the loan's draw and of F_0.
GPULOAN_DEVICE double drawn_lgd(const Plan& plan, const Run& run, i64 row, i32 loan) {
    const Plain& plain = plan.plain;
    const Words w = draw(run, run.first_path + row, LOAN, 0, plain.key[loan]);
    const float systematic = plain.lgd_loading[loan] * run.factors[row];
    const float score = fma(plain.lgd_residual[loan], normal(w.w0), -systematic);
    const float* const table = plain.lgd_tables + plain.facts[4 * loan + LGD_TABLE] * SCORE_TABLE;
    return static_cast<double>(clip(at_score(table, score), ZERO, ONE));
}

// Where LGD is fixed a loan's amounts follow from the month: its defaults are counted by month, and added up at the end.
GPULOAN_DEVICE void plain_default(const Plan& plan, const Run& run, i64 row, i32 loan, i32 month) {
    const double* const amounts = amounts_of(plan, loan);
    const i32 index = plan.plain.facts[4 * loan + INDEX];
    const bool is_fixed = plan.plain.facts[4 * loan + LGD_TABLE] < 0;
    const Cents cents = plain_amounts(amounts, month, is_fixed ? amounts[LGD] : drawn_lgd(plan, run, row, loan));
    add_to_path(plan, run, row, index, month, 0, cents.ead, cents.loss);
    if (is_fixed) {
        atomicAdd(run.counts + static_cast<i64>(loan) * (plan.size.horizon + 1) + month, 1);
    } else {
        add_to_loan(run, index, 0, cents.ead, cents.loss, 1);
    }
}

// The sums of a plain loan that was counted by month.
GPULOAN_DEVICE void close_loan(const Plan& plan, const Run& run, i32 loan) {
    const double* const amounts = amounts_of(plan, loan);
    GPULOAN_ROLLED
    for (i32 month = 1; month <= plan.size.horizon; ++month) {
        const i32 n = run.counts[static_cast<i64>(loan) * (plan.size.horizon + 1) + month];
        if (n == 0) continue;
        const Cents cents = plain_amounts(amounts, month, amounts[LGD]);
        add_to_loan(run, plan.plain.facts[4 * loan + INDEX], 0, cents.ead, cents.loss, n);
    }
}

// An obligor's plain loans, from `first` to `end`, where it defaults in a month.
GPULOAN_DEVICE void plain_loans_default(const Plan& plan, const Run& run, i64 row, i32 first, i32 end, i32 month) {
    GPULOAN_ROLLED
    for (i32 loan = first; loan < end; ++loan) {
        if (month <= plan.plain.facts[4 * loan + TERM]) plain_default(plan, run, row, loan, month);
    }
}

GPULOAN_DEVICE void obligor_defaults(const Plan& plan, const Run& run, i64 row, i32 p, i32 month) {
    constexpr i32 FIRST = 1, END = 2;
    const i32* const facts = plan.obligors.facts + 4 * p;
    plain_loans_default(plan, run, row, facts[FIRST], facts[END], month);
}

}  // namespace gpuloan
