"""Rows and money: what came in is what was accepted and what was rejected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .cells import Mask
from .findings import Findings
from .limits import MAX_BALANCE_USD
from .tapes import Tape
from .view import View

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class RowCount:
    """Rows of a tape: rows_in = accepted + rejected."""

    tape: str
    file: str
    rows_in: int
    accepted: int
    rejected: int


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What came in, what was accepted, what was rejected.

    Money is balance_usd + undrawn_usd of the loans in cents, each amount rounded once; cents_in = cents_accepted +
    cents_rejected. Loans whose amounts are no numbers, or beyond the cap, are counted and hold no cents.
    """

    tapes: tuple[RowCount, ...]
    cents_in: int
    cents_accepted: int
    cents_rejected: int
    loans_without_readable_money: int

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "rows": {
                t.tape: {"file": t.file, "in": t.rows_in, "accepted": t.accepted, "rejected": t.rejected}
                for t in self.tapes
            },
            "loan_cents": {"in": self.cents_in, "accepted": self.cents_accepted, "rejected": self.cents_rejected},
            "loans_without_readable_money": self.loans_without_readable_money,
        }

    def lines(self) -> list[str]:
        """For people."""
        rows = [f"{t.file}: {t.rows_in:,} rows = {t.accepted:,} accepted + {t.rejected:,} rejected" for t in self.tapes]
        money = [f"{c / 100:,.2f}" for c in (self.cents_in, self.cents_accepted, self.cents_rejected)]
        rows.append(f"balance and undrawn: {money[0]} dollars = {money[1]} accepted + {money[2]} rejected")
        if self.loans_without_readable_money:
            rows.append(
                f"rejected loans whose amounts can't be read, not in these sums: {self.loans_without_readable_money:,}"
            )
        return rows


def reconcile(
    tapes: dict[str, Tape], frames: dict[str, pd.DataFrame], view: View, findings: Findings
) -> Reconciliation:
    """Count what came in by the tapes, what was accepted by the frames that go on."""
    counts = []
    for name, tape in tapes.items():
        accepted, rejected = len(view.frames[name]), int(findings.bad[name].sum())
        _must_be_equal(tape.n_rows, accepted + rejected, f"rows of {tape.file}")
        counts.append(RowCount(name, tape.file, tape.n_rows, accepted, rejected))
    loans, bad = frames["loans"], findings.bad["loans"]
    cents, readable = _cents(loans, findings.unreadable["loans"] | findings.skip["loans"])
    came, left = sum(cents.tolist()), sum(cents[bad].tolist())
    went, _ = _cents(view.loans, np.zeros(len(view.loans), dtype=np.bool_))
    accepted = sum(went.tolist())
    _must_be_equal(came, accepted + left, "cents of the loans")
    return Reconciliation(tuple(counts), came, accepted, left, int((~readable).sum()))


def _cents(loans: pd.DataFrame, unreadable: Mask) -> tuple[np.ndarray[Any, np.dtype[np.int64]], Mask]:
    """Cents of each loan, and whether they can be read; 0 where not."""
    parts = [loans[c].to_numpy(np.float64) for c in ("balance_usd", "undrawn_usd")]
    readable = ~unreadable
    for part in parts:
        with np.errstate(invalid="ignore"):
            readable = readable & (np.abs(part) <= MAX_BALANCE_USD)
    total = sum(np.rint(np.where(readable, part, 0) * 100).astype(np.int64) for part in parts)
    return np.asarray(total, dtype=np.int64), readable


def _must_be_equal(came: int, went: int, what: str) -> None:
    if came != went:
        raise RuntimeError(f"{what}: {came} came in, {went} went out")
