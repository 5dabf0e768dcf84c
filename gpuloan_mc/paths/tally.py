"""From defaults to the integers of a run: the only place that adds (docs/model.md 7). What the sums mean: totals.py."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..plan import CAUSES
from ..reference.arithmetic import F32, F64, I32, I64
from .path import discounted
from .primitives import path_function, prefetch

u64 = np.uint64

PATH, LOAN, MONTH, CAUSE, EAD, LOSS = range(6)
EVENT_FIELDS = 6
AHEAD = 8  # events between asking for a loan's row of sums and using it
N_CAUSES = len(CAUSES)

# Columns of a row of sums, all in digits of base 2^32. A default touches one row a loan, mostly not in the cache: the low
# digits fill one line of it, the causes the next; the high digits of products are rarely needed.
E, E_SQUARED, E_L, L_SQUARED = 0, 2, 4, 6
HIGH = 8 + 3 * N_CAUSES + 1 - E_SQUARED  # from a product's low digits to its high ones
BY_CAUSE = 8  # defaults and loss by cause, of a loan only
D, D_SQUARED, L = 30, 31, 32  # of a group; of a loan they follow from the causes
LOAN_COLUMNS = 40
GROUP_COLUMNS = 40
CAUSE_COLUMNS, LOSS_COLUMNS = slice(BY_CAUSE, BY_CAUSE + 3 * N_CAUSES), slice(L, L + 2)

_32, _LOW = u64(32), u64(0xFFFFFFFF)


class PathColumns(NamedTuple):
    """A row a path; threads write different rows."""

    loss: I64  # (n_paths,)
    discounted_loss: I64
    defaulted_balance: I64
    largest_loss: I64
    defaults: I32
    prices: F32  # (n_paths, H + 1, 2, G), no rows where they are not asked for


class Groups(NamedTuple):
    """Where a default counts among the groups of `Plan.groups`, and the discount to month 0."""

    discount: F64  # (H + 1,)
    month: np.int64  # first group of each kind
    year: np.int64
    cause: np.int64
    month_cause: np.int64
    segment_start: I64  # (segment columns,)
    segment_code: I32  # (segment columns, all loans)


class Sums(NamedTuple):
    """What one thread adds up. Digits are carried when the thread is done: 2^31 defaults fit before."""

    by_loan: I64  # (n_loans, LOAN_COLUMNS)
    by_group: I64  # (n_groups, GROUP_COLUMNS)
    in_path: I64  # (4, n_groups, 3) defaults, EAD and loss of the paths at hand
    touched: I64  # (4, n_groups) groups with a default
    n_touched: I64  # (4,)


@path_function
def add_amount(row: I64, place: int, amount: np.int64) -> None:
    """Two digits of an amount from 0 to 2^63 - 1."""
    row[place] += amount & 0xFFFFFFFF
    row[place + 1] += amount >> 32


@path_function
def add_product(row: I64, place: int, a: np.int64, b: np.int64) -> None:
    """Four digits of a product of whole numbers from 0 to 2^63 - 1."""
    if (a | b) >> 32 == 0:  # amounts below 43 million dollars
        product = u64(a) * u64(b)
        row[place] += np.int64(product & _LOW)
        row[place + 1] += np.int64(product >> _32)
        return
    a0, a1, b0, b1 = u64(a) & _LOW, u64(a) >> _32, u64(b) & _LOW, u64(b) >> _32
    low, middle, other, high = a0 * b0, a1 * b0, a0 * b1, a1 * b1
    second = (low >> _32) + (middle & _LOW) + (other & _LOW)
    third = (second >> _32) + (middle >> _32) + (other >> _32) + (high & _LOW)
    row[place] += np.int64(low & _LOW)
    row[place + 1] += np.int64(second & _LOW)
    row[HIGH + place] += np.int64(third & _LOW)
    row[HIGH + place + 1] += np.int64((third >> _32) + (high >> _32))


@path_function
def add_item(row: I64, ead: np.int64, loss: np.int64) -> None:
    """One path's EAD and the products of its EAD and loss."""
    add_amount(row, E, ead)
    add_product(row, E_SQUARED, ead, ead)
    add_product(row, E_L, ead, loss)
    add_product(row, L_SQUARED, loss, loss)


@path_function
def add_to_group(sums: Sums, q: int, group: int, ead: np.int64, loss: np.int64) -> None:
    """One default of path q in a group."""
    item = sums.in_path[q, group]
    if item[0] == 0:
        sums.touched[q, sums.n_touched[q]] = group
        sums.n_touched[q] += 1
    item[0] += 1
    item[1] += ead
    item[2] += loss


@path_function
def add_defaults(events: I64, n_events: int, row: int, paths: PathColumns, groups: Groups, sums: Sums) -> None:
    """Add the first `n_events` defaults of up to four paths, whose rows start at `row`."""
    for k in range(n_events):
        if k + AHEAD < n_events:
            prefetch(sums.by_loan, events[k + AHEAD, LOAN], E)
            prefetch(sums.by_loan, events[k + AHEAD, LOAN], BY_CAUSE)
        q, loan, month, cause = events[k, PATH], events[k, LOAN], events[k, MONTH], events[k, CAUSE]
        ead, loss, path = events[k, EAD], events[k, LOSS], events[k, PATH] + row
        paths.loss[path] += loss
        paths.discounted_loss[path] += discounted(loss, groups.discount[month])
        paths.defaulted_balance[path] += ead
        paths.largest_loss[path] = max(paths.largest_loss[path], loss)
        paths.defaults[path] += np.int32(1)
        of_loan = sums.by_loan[loan]
        add_item(of_loan, ead, loss)
        place = BY_CAUSE + 3 * cause
        of_loan[place] += 1
        add_amount(of_loan, place + 1, loss)
        add_to_group(sums, q, groups.month + month - 1, ead, loss)
        add_to_group(sums, q, groups.year + (month - 1) // 12, ead, loss)
        add_to_group(sums, q, groups.cause + cause, ead, loss)
        add_to_group(sums, q, groups.month_cause + (month - 1) * N_CAUSES + cause, ead, loss)
        for s in range(groups.segment_start.shape[0]):
            add_to_group(sums, q, groups.segment_start[s] + groups.segment_code[s, loan], ead, loss)


@path_function
def close_paths(sums: Sums) -> None:
    """The group sums of finished paths join the totals."""
    for q in range(sums.n_touched.shape[0]):
        for k in range(sums.n_touched[q]):
            group = sums.touched[q, k]
            item = sums.in_path[q, group]
            of_group = sums.by_group[group]
            of_group[D] += item[0]
            of_group[D_SQUARED] += item[0] * item[0]
            add_amount(of_group, L, item[2])
            add_item(of_group, item[1], item[2])
            item[0], item[1], item[2] = 0, 0, 0
        sums.n_touched[q] = 0
