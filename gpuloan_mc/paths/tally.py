"""From defaults to the integers of a run: the only place that adds (docs/model.md 7)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..reference.arithmetic import F64, I32, I64
from .path import discounted
from .primitives import path_function

PATH, LOAN, MONTH, CAUSE, EAD, LOSS = range(6)
EVENT_FIELDS = 6


class Totals(NamedTuple):
    """What a thread adds to. Rows of paths belong to one thread at a time; totals by loan and month to one thread."""

    loss: I64  # (n_paths,)
    discounted_loss: I64
    defaulted_balance: I64
    largest_loss: I64
    defaults: I32
    loss_by_year: I64  # (n_paths, years)
    loss_by_cause: I64  # (n_paths, causes)
    loan_defaults: I64  # (n_loans,)
    loan_ead: I64
    loan_loss: I64
    month_defaults: I64  # (H + 1,)
    month_loss: I64


@path_function
def add_defaults(events: I64, n_events: int, discount: F64, totals: Totals) -> None:
    """Add the first `n_events` defaults, rows (path row, loan, month, cause, EAD cents, loss cents)."""
    for k in range(n_events):
        path, loan, month, cause = events[k, PATH], events[k, LOAN], events[k, MONTH], events[k, CAUSE]
        ead, loss = events[k, EAD], events[k, LOSS]
        totals.loss[path] += loss
        totals.discounted_loss[path] += discounted(loss, discount[month])
        totals.defaulted_balance[path] += ead
        totals.largest_loss[path] = max(totals.largest_loss[path], loss)
        totals.defaults[path] += np.int32(1)
        totals.loss_by_year[path, (month - 1) // 12] += loss
        totals.loss_by_cause[path, cause] += loss
        totals.loan_defaults[loan] += 1
        totals.loan_ead[loan] += ead
        totals.loan_loss[loan] += loss
        totals.month_defaults[month] += 1
        totals.month_loss[month] += loss
