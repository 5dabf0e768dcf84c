"""From tapes to sound frames: every rule at once, and on request without the rows that break one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import InputRejected, Problem, UsageError
from ..market import Market
from .cautions import cautions
from .chip_rules import check_chip_totals, check_deployments, check_obligors
from .columns import TAPES
from .findings import Findings
from .links import check_links, reject_families
from .loan_rules import check_loan_totals, check_loans
from .reconcile import Reconciliation, reconcile
from .tapes import Tape
from .typed import blank_column, typed_frame
from .view import View

if TYPE_CHECKING:
    import pandas as pd

OnBadRow = Literal["refuse", "reject"]


@dataclass(frozen=True)
class Judged:
    """Sound frames in the tapes' order, and what was said and left out on the way."""

    frames: dict[str, pd.DataFrame]
    own_columns: tuple[str, ...]
    warnings: tuple[str, ...]
    rejected: tuple[Problem, ...]
    reconciliation: Reconciliation


def judge(tapes: dict[str, Tape], market: Market, on_bad_row: OnBadRow = "refuse") -> Judged:
    """The sound frames of a book.

    Args:
        on_bad_row: refuse: any problem stops the book. reject: rows with a problem are left out, and the rows that
            depend on them; problems that are not about one row still stop the book.

    Raises:
        InputRejected: with every problem.
        UsageError: on_bad_row is neither.
    """
    if on_bad_row not in ("refuse", "reject"):
        raise UsageError(f"on_bad_row is {on_bad_row!r}; it must be 'refuse' or 'reject'")
    findings = Findings(list(tapes.values()))
    frames, own = _typed(tapes, market, findings)
    view = View.of(tapes, frames, market, findings, kept=False)
    if not any(p.rule in ("missing-column", "column-type") for p in findings.problems):  # rules need their columns
        _check(view)
        if on_bad_row == "reject" and not findings.stopping():
            _reject(view)
            if tapes["loans"].n_rows and findings.bad["loans"].all():
                findings.file(tapes["loans"].file, "no-loans", "no loan is left: every one was rejected")
        view = View.of(tapes, frames, market, findings, kept=True)
        check_loan_totals(view)
        check_chip_totals(view)
    problems = findings.problems
    if problems and (on_bad_row == "refuse" or findings.stopping()):
        raise InputRejected(problems)
    return Judged(
        view.frames, tuple(own), cautions(view, frames), tuple(problems), reconcile(tapes, frames, view, findings)
    )


def problems_of_cells(tapes: dict[str, Tape]) -> list[Problem]:
    """What can be said of the tapes when the market, or one of them, can't be read: problems of headers and cells."""
    findings = Findings(list(tapes.values()))
    headers = [name for name, _ in tapes["obligors"].columns] if "obligors" in tapes else []
    factors = tuple(h.removeprefix("loading_") for h in headers if h.startswith("loading_"))
    for tape in tapes.values():
        typed_frame(tape, factors, findings)
    return findings.problems


def _typed(tapes: dict[str, Tape], market: Market, findings: Findings) -> tuple[dict[str, pd.DataFrame], list[str]]:
    import pandas as pd

    frames: dict[str, pd.DataFrame] = {}
    own: list[str] = []
    for name, columns in TAPES.items():
        if name in tapes:
            frames[name], extra = typed_frame(tapes[name], tuple(market.dependence.factors), findings)
            own += extra
        else:
            blank: dict[str, Any] = {c.name: blank_column(c, 0) for c in columns}
            frames[name], findings.bad[name] = pd.DataFrame(blank), np.zeros(0, dtype=np.bool_)
    return frames, own


def _check(view: View) -> None:
    check_links(view)
    view = view.seen_again()
    check_obligors(view)
    check_loans(view)
    check_deployments(view)


def _reject(view: View) -> None:
    """Leave out what depends on bad rows, and judge the rest again, until nothing new is bad."""
    bad = view.findings.bad
    while True:
        reject_families(view)
        before = sum(int(b.sum()) for b in bad.values())
        _check(View.of(view.tapes, view.frames, view.market, view.findings, kept=True))
        if sum(int(b.sum()) for b in bad.values()) == before:
            return
