"""Rows of sums in digits, as paths/tally.py lays them out, made into a table: what the compiled engines hand over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..paths.tally import (
    CAUSE_COLUMNS,
    D_SQUARED,
    E_L,
    E_SQUARED,
    HIGH,
    L_SQUARED,
    LOSS_COLUMNS,
    D,
    E,
    L,
    Sums,
)
from ..reference.arithmetic import I64
from ..totals import N_DIGITS, Totals, carry
from .base import PathTable


def added(parts: Sequence[Sums]) -> Sums:
    """The sums of several workers."""
    by_loan, by_group = (np.asarray(sum(getattr(s, name) for s in parts)) for name in ("by_loan", "by_group"))
    return parts[0]._replace(by_loan=by_loan, by_group=by_group)


def path_table(first_path: int, columns: Mapping[str, Any], sums: Sums, prices: bool) -> PathTable:
    """A run's columns by path, and its sums, as a table. Completes the rows by loan in place."""
    by_loan = sums.by_loan
    by_cause = by_loan[:, CAUSE_COLUMNS].reshape(len(by_loan), -1, 3)
    # a loan defaults at most once a path, for one cause
    by_loan[:, D] = by_loan[:, D_SQUARED] = by_cause[:, :, 0].sum(axis=1)
    by_loan[:, LOSS_COLUMNS] = by_cause[:, :, 1:].sum(axis=1)
    cause_loss = np.zeros((N_DIGITS, *by_cause.shape[:2]), np.int64)
    cause_loss[:2] = by_cause[:, :, 1:].transpose(2, 0, 1)
    carry(cause_loss)
    return PathTable(
        first_path=first_path,
        loss=columns["loss"],
        discounted_loss=columns["discounted_loss"],
        defaulted_balance=columns["defaulted_balance"],
        largest_loss=columns["largest_loss"],
        defaults=columns["defaults"],
        by_loan=_totals(by_loan),
        by_group=_totals(sums.by_group),
        loan_cause_defaults=np.ascontiguousarray(by_cause[:, :, 0]),
        loan_cause_loss=cause_loss,
        prices=columns["prices"] if prices else None,
    )


def _totals(rows: I64) -> Totals:
    def digits(place: int, given: int) -> I64:
        result = np.zeros((N_DIGITS, len(rows)), np.int64)
        result[:2] = rows[:, place : place + 2].T
        if given == N_DIGITS:
            result[2:] = rows[:, HIGH + place : HIGH + place + 2].T
        carry(result)
        return result

    return Totals(
        defaults=np.ascontiguousarray(rows[:, D]),
        ead=digits(E, 2),
        loss=digits(L, 2),
        defaults_squared=np.ascontiguousarray(rows[:, D_SQUARED]),
        ead_squared=digits(E_SQUARED, 4),
        ead_loss=digits(E_L, 4),
        loss_squared=digits(L_SQUARED, 4),
    )
