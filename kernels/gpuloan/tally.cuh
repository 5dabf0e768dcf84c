// A default joins the integers of a run (docs/model.md 7): only integers are added, so order cannot matter.
// Twin: paths/tally.py, whose rows and columns these are.
#pragma once

#include "path.cuh"
#include "plan.cuh"
#include "team.cuh"

namespace gpuloan {

constexpr i32 E = 0, E_SQUARED = 2, E_L = 4, L_SQUARED = 6, BY_CAUSE = 8;
constexpr i32 HIGH = 22;  // from a product's low digits to its high ones
constexpr i32 D = 30, D_SQUARED = 31, L = 32, COLUMNS = 40;
constexpr i32 CELL = 3;  // defaults, EAD, loss
constexpr u64 LOW32_OF_64 = 0xFFFFFFFFull;

// Four digits of base 2^32, lowest first.
struct Digits {
    u32 d0, d1, d2, d3;
};

GPULOAN_DEVICE Digits product(i64 a, i64 b) {
    const u64 x = static_cast<u64>(a), y = static_cast<u64>(b);
    const u64 x0 = x & LOW32_OF_64, x1 = x >> 32, y0 = y & LOW32_OF_64, y1 = y >> 32;
    const u64 low = x0 * y0, middle = x1 * y0, other = x0 * y1, high = x1 * y1;
    const u64 second = (low >> 32) + (middle & LOW32_OF_64) + (other & LOW32_OF_64);
    const u64 third = (second >> 32) + (middle >> 32) + (other >> 32) + (high & LOW32_OF_64);
    return {static_cast<u32>(low), static_cast<u32>(second), static_cast<u32>(third),
            static_cast<u32>((third >> 32) + (high >> 32))};
}

// Integers of other threads' rows; digits that are 0 cost nothing.
GPULOAN_DEVICE void add(i64* place, i64 amount) {
    if (amount != 0) atomicAdd(reinterpret_cast<u64*>(place), static_cast<u64>(amount));
}

// n times an amount, or a product; n below 2^31.
GPULOAN_DEVICE void add_amount(i64* row, i32 place, i64 amount, i64 n) {
    add(row + place, n * (amount & static_cast<i64>(LOW32_OF_64)));
    add(row + place + 1, n * (amount >> 32));
}

GPULOAN_DEVICE void add_product(i64* row, i32 place, i64 a, i64 b, i64 n) {
    const Digits digits = product(a, b);
    add(row + place, n * digits.d0);
    add(row + place + 1, n * digits.d1);
    add(row + HIGH + place, n * digits.d2);
    add(row + HIGH + place + 1, n * digits.d3);
}

GPULOAN_DEVICE void add_to_cell(i64* cell, i64 ead, i64 loss) {
    add(cell, 1);
    add(cell + 1, ead);
    add(cell + 2, loss);
}

// One default among its path's integers. The sums of groups need the path's own sums first, its cells: months and causes,
// then the codes of the user's columns.
GPULOAN_DEVICE void add_to_path(const Plan& plan, const Run& run, i64 row, i32 loan, i32 month, i32 cause, i64 ead,
                                i64 loss) {
    add(run.loss + row, loss);
    add(run.discounted_loss + row, discounted(loss, plan.groups.discount[month]));
    add(run.defaulted_balance + row, ead);
    atomicMax(run.largest_loss + row, loss);
    atomicAdd(run.defaults + row, 1);
    const Groups& groups = plan.groups;
    i64* const cells = run.cells + row * plan.size.n_cells * CELL;
    add_to_cell(cells + ((month - 1) * plan.size.n_causes + cause) * CELL, ead, loss);
    i64* const segments = cells + plan.size.horizon * plan.size.n_causes * CELL;
    GPULOAN_ROLLED
    for (i32 s = 0; s < plan.size.n_columns; ++s) {
        const i32 code = groups.segment_code[static_cast<i64>(s) * plan.size.n_all_loans + loan];
        add_to_cell(segments + (groups.segment_start[s] - groups.first_segment + code) * CELL, ead, loss);
    }
}

// `n` equal defaults among the integers of their loan, complete but for what follows from its causes.
GPULOAN_DEVICE void add_to_loan(const Run& run, i32 loan, i32 cause, i64 ead, i64 loss, i64 n) {
    i64* const of_loan = run.by_loan + static_cast<i64>(loan) * COLUMNS;
    add_amount(of_loan, E, ead, n);
    add_product(of_loan, E_SQUARED, ead, ead, n);
    add_product(of_loan, E_L, ead, loss, n);
    add_product(of_loan, L_SQUARED, loss, loss, n);
    add(of_loan + BY_CAUSE + 3 * cause, n);
    add_amount(of_loan, BY_CAUSE + 3 * cause + 1, loss, n);
}

// Cells of a group: first, first + step, ... below end.
struct Members {
    i32 first, step, end;
};

GPULOAN_DEVICE Members members(const Plan& plan, i32 group) {
    const Groups& groups = plan.groups;
    const i32 n = plan.size.n_causes, causes = groups.month_cause - groups.cause, all = plan.size.horizon * n;
    if (group < groups.year) return {(group - groups.month) * n, 1, (group - groups.month + 1) * n};
    if (group < groups.cause) {
        const i32 first = (group - groups.year) * 12 * n;
        return {first, 1, first + 12 * n < all ? first + 12 * n : all};
    }
    if (group < groups.month_cause) return {group - groups.cause, n, group - groups.cause < n ? all : 0};
    if (group < groups.first_segment) {
        const i32 month = (group - groups.month_cause) / causes, cause = (group - groups.month_cause) % causes;
        const i32 cell = month * n + cause;
        return {cell, 1, cause < n ? cell + 1 : 0};
    }
    const i32 cell = all + group - groups.first_segment;
    return {cell, 1, cell + 1};
}

// Digits of a sum that stays in a thread.
struct Sum {
    i64 s0 = 0, s1 = 0, s2 = 0, s3 = 0;

    void add_product(i64 a, i64 b) {
        const Digits digits = product(a, b);
        s0 += digits.d0;
        s1 += digits.d1;
        s2 += digits.d2;
        s3 += digits.d3;
    }
};

GPULOAN_DEVICE void join(i64* row, i32 place, const Sum& sum) {
    add(row + place, sum.s0);
    add(row + place + 1, sum.s1);
    add(row + HIGH + place, sum.s2);
    add(row + HIGH + place + 1, sum.s3);
}

// The totals of one group over the rows first, first + step, ... of finished paths.
GPULOAN_DEVICE void close_group(const Plan& plan, const Run& run, i32 group, i64 first, i64 step) {
    const Members of_group = members(plan, group);
    i64 n_defaults = 0, squared = 0;
    Sum total_ead, total_loss, ead_squared, ead_loss, loss_squared;
    GPULOAN_ROLLED
    for (i64 row = first; row < run.n_paths; row += step) {
        const i64* const cells = run.cells + row * plan.size.n_cells * CELL;
        i64 n = 0, ead = 0, loss = 0;
        GPULOAN_ROLLED
        for (i32 k = of_group.first; k < of_group.end; k += of_group.step) {
            n += cells[k * CELL];
            ead += cells[k * CELL + 1];
            loss += cells[k * CELL + 2];
        }
        if (n == 0) continue;
        n_defaults += n;
        squared += n * n;
        total_ead.add_product(ead, 1);
        total_loss.add_product(loss, 1);
        ead_squared.add_product(ead, ead);
        ead_loss.add_product(ead, loss);
        loss_squared.add_product(loss, loss);
    }
    i64* const row = run.by_group + static_cast<i64>(group) * COLUMNS;
    add(row + D, n_defaults);
    add(row + D_SQUARED, squared);
    add(row + E, total_ead.s0);
    add(row + E + 1, total_ead.s1);
    add(row + L, total_loss.s0);
    add(row + L + 1, total_loss.s1);
    join(row, E_SQUARED, ead_squared);
    join(row, E_L, ead_loss);
    join(row, L_SQUARED, loss_squared);
}

}  // namespace gpuloan
