// The plan and a run as the kernels receive them: structs of addresses and sizes, by value.
// Built by gpuloan_mc/engines/cuda_layout.py and cuda_mapping.py; a test compares every offset.
#pragma once

#include "portable.cuh"

namespace gpuloan {

using u8 = unsigned char;

constexpr u32 ROUNDS = 10;  // of Philox
constexpr i32 SCORE_TABLE = 2 * 16 * 64;  // floats of a table of a normal score: a value and a slope for each cell

// How many there are of what. `n_lanes`: loans to whole tiles. `steady_from`: the month from which all chips are in service and
// all loans drawn; never, where a loan has an LTV cap or more than two deployments.
struct Size {
    i32 horizon, n_months, n_generations, n_vintages, n_regimes, n_families, n_classes, n_factors, n_loans, n_lanes, n_slots;
    i32 n_parties, n_early, first_late, first_watched, n_eights, n_fed_back, n_plain_runs;
    i32 steady_from, n_causes, release_rows, ring;
    i32 n_cells, n_columns, n_all_loans, n_plain, n_groups;
};

// The market block (2). Tables by month are (T + 1, generations or vintages).
struct Market {
    const i32 *regime_thresholds;
    const float *regime_means;
    i32 initial_regime;
    float initial_demand, demand_pull, demand_shock;
    i32 jump_down, jump_any;
    const float *jump_table;
    float factor_scale, spot_decay, spot_shock, spot_premium, generation_decay;
    const float *generation_shock, *generation_cholesky, *launch_first, *launch_cadence, *launch_lag_tables;
    const float *launch_ramp_inverse, *launch_impact, *launch_gain_mean, *launch_gain_sd, *hit_by_first;
    float overhang_decay, overhang_impact, own_weight;
    const i64 *calendar;
    const float *inverse_depth, *depth_weights, *base_log_price, *demand_beta, *price_floor;
    float utilisation_level, utilisation_slope, utilisation_low, utilisation_high;
    const float *hourly_cost;
    const i32 *vintage_generation;
    const float *value_cap, *scrap_value, *annuity, *forced_demand;
};

// Hazard classes (3.1) and the tables of (3.3)-(3.6).
struct Hazards {
    const float *hazard, *regime_shift, *demand_sensitivity, *overhang_sensitivity;
    i32 is_t_copula;
    const float *mixing_table, *inverse_mixing_table, *log_hazard_table, *latent_table;
    const i32 *fed_back;
};

// Obligors by position: decided before month 1, decided after the horizon, watched. A run shares one bound on the
// rank of a word. `facts`: party or -1, first plain loan, end of plain loans, 0. `early`: parties decided before month 1.
// `watched`: positions, (2, eights, 4), the eight of one class, `watched_class`, the last of a class filled with -1; and their
// parties.
struct Obligors {
    const u64 *key;
    const i32 *klass, *group, *facts;
    const float *log_scale, *residual, *inverse_residual, *loadings;
    const i32 *early, *watched, *watched_party, *watched_class, *run_first, *run_class, *run_group;
    const float *run_log_scale, *run_low, *run_high, *run_residual_low, *run_residual_high;
};

// Plain loans in the order of their obligors. `amounts`: commitment in cents, LGD, kept share, opening balances by
// month. `facts`: position among all loans, term, LGD table or -1, 0.
struct Plain {
    const double *amounts;
    const i32 *facts;
    const float *lgd_loading, *lgd_residual;
    const u64 *key;
    const float *lgd_tables;
};

// Loans with deployments in lane order, for events. What the loop over lanes reads: `principal`, (H + 1, loans); `slots`,
// (tiles, slots, two at least, 32 lanes, 4), so that one address and fixed distances reach them all; `classes`, (classes, 8).
struct Loans {
    const u64 *key;
    const i32 *index;
    const double *commitment_cents;
    const float *balance, *reserve, *support, *undrawn;
    const i32 *draw_month, *first_month;
    const float *refinance_ltv, *kept_share;
    const i32 *pulled_in, *n_deployments;
    const float *principal, *classes, *slots;
};

// Deployments as a matrix (slot, lane). `rows`: struct Deployment of memory.cuh, for events.
struct Deployments {
    const u64 *key;
    const i32 *start, *rows;
};

// What happens in a month, or what a party has a hand in: lists, and rows of both, struct Month and struct Hand of
// memory.cuh. `opening`: loans with what begins in their low bits.
struct Lists {
    const i32 *opening, *due, *maturing, *tenant, *parent, *months, *hands;
};

// Contracts and recovery (5.2, 6).
struct Recovery {
    float paid_share;
    const i32 *renewal;
    float renewal_keep;
    i32 renewal_term;
    float spot_keep;
    i32 step_in;
    float performance, opex_stress;
    const float *lag_table;
    i32 lag_max;
    const float *haircut_table;
    float sale_keep, storage_share;
    const float *contract_annuity, *chip_discount, *lender_discount, *inverse_annuity;
};

// Where a default counts, and the discount to month 0.
struct Groups {
    const double *discount;
    i32 month, year, cause, month_cause, first_segment;
    const i32 *segment_start, *segment_code;
};

// Byte offsets in a path's hot memory (to `state`; `spot` is 0) and cold memory (from `log_hazard`).
struct Places {
    i32 spot, released, overhang, contract, cumulative, level, counters, marks, note, theta, state;
    i32 log_hazard, rents, months, hits, fallen, contracts, fates, workouts, renewed;
    i32 hot_bytes, cold_bytes;
};

struct Plan {
    Size size;
    Market market;
    Hazards hazards;
    Obligors obligors;
    Plain plain;
    Loans loans;
    Deployments deployments;
    Lists lists;
    Recovery recovery;
    Groups groups;
    Places memory;
};

// One launch: paths first_path to first_path + n_paths - 1 as rows 0 to n_paths - 1. Rows by month are (month, path). `outside`:
// (month, generations + 2, path), log prices before the overhang, spot premium, utilisation.
struct Run {
    u32 keys[2 * ROUNDS];  // of the rounds of Philox, two each
    u64 seed, first_path;
    i64 n_paths, walks;  // walks: 1 where months are walked, for loans or for prices
    i32 *regime;
    float *demand, *outside, *launch_month, *launch_size, *factors, *mixing;
    float *log_hazard;
    u8 *arena;
    i32 *counts;  // (plain loans, H + 1) defaults of those whose LGD is fixed
    i64 *cells, *loss, *discounted_loss, *defaulted_balance, *largest_loss;
    i32 *defaults;
    i64 *by_loan, *by_group;
    float *prices;
};

}  // namespace gpuloan
