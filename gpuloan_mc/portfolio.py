"""The portfolio: loans, the chips that secure them and the parties behind them, checked once and never changed."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import InputRejected, Problem
from .inputs.arrow_tape import frame_tapes
from .inputs.books import book_folder
from .inputs.columns import TAPES
from .inputs.judge import OnBadRow, judge, problems_of_cells
from .inputs.market_file import FILE_NAME
from .inputs.reconcile import Reconciliation
from .inputs.tapes import Tape, read_tapes
from .market import Market

if TYPE_CHECKING:
    import pandas as pd

IDS = {  # by tape: what names a row
    "loans": ["loan_id"],
    "deployments": ["deployment_id"],
    "obligors": ["obligor_id"],
    "schedules": ["loan_id", "month"],
    "prices": ["gpu", "month"],
}


@dataclass(frozen=True)
class Portfolio:
    """Five frames with every column of `inputs.columns`, typed, defaults filled in, rows by id.

    Blank means "" in text, NaN in numbers without a default, 0 in months. Dollars; months from the start date.
    """

    loans: pd.DataFrame
    deployments: pd.DataFrame
    obligors: pd.DataFrame
    schedules: pd.DataFrame
    prices: pd.DataFrame
    market: Market = field(repr=False)
    segment_columns: tuple[str, ...] = ()
    sources: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    rejected: tuple[Problem, ...] = field(default=(), repr=False)
    reconciliation: Reconciliation | None = field(default=None, repr=False)

    @classmethod
    def read(cls, book: str | Path, market: Market | None = None, *, on_bad_row: OnBadRow = "refuse") -> Portfolio:
        """The portfolio of a book: a folder or a bundled book's name. The market defaults to the folder's own.

        Args:
            on_bad_row: refuse: any problem stops the book. reject: go on without the rows that have one and without
                the rows that depend on them; `rejected` and `reconciliation` tell what was left out.

        Raises:
            InputRejected: with every problem of the tapes at once.
        """
        folder = book_folder(book)
        tapes, problems = read_tapes(folder)
        own = market
        if own is None:
            try:
                own = Market.read(folder)
            except InputRejected as refused:
                problems += refused.problems
        if own is None or problems:
            raise InputRejected([*problems, *problems_of_cells(tapes)])
        portfolio = cls._judged(tapes, own, on_bad_row)
        if market is None:
            sha256 = hashlib.sha256((folder / FILE_NAME).read_bytes()).hexdigest()
            portfolio = dataclasses.replace(portfolio, sources=(*portfolio.sources, (FILE_NAME, sha256)))
        return portfolio

    @classmethod
    def from_frames(
        cls,
        *,
        market: Market,
        loans: Any,
        obligors: Any,
        deployments: Any = None,
        schedules: Any = None,
        prices: Any = None,
        on_bad_row: OnBadRow = "refuse",
    ) -> Portfolio:
        """A portfolio of tables with the tapes' columns; the same rules and messages as for files.

        A table is a pandas frame, or whatever offers `__arrow_c_stream__`: a Polars frame, a DuckDB relation, a
        pyarrow table or reader. NaN is missing in pandas and no number elsewhere. The index of a pandas frame is not read.

        Raises:
            InputRejected: with every problem at once.
        """
        tables = {"loans": loans, "deployments": deployments, "obligors": obligors, "schedules": schedules}
        return cls._judged(frame_tapes(tables | {"prices": prices}), market, on_bad_row)

    @classmethod
    def _judged(cls, tapes: dict[str, Tape], market: Market, on_bad_row: OnBadRow) -> Portfolio:
        judged = judge(tapes, market, on_bad_row)
        ordered = {name: f.sort_values(IDS[name], ignore_index=True) for name, f in judged.frames.items()}
        return cls(
            **ordered,
            market=market,
            segment_columns=judged.own_columns,
            sources=tuple((t.file, t.sha256) for t in tapes.values() if t.sha256),
            warnings=judged.warnings,
            rejected=judged.rejected,
            reconciliation=judged.reconciliation,
        )

    def replace(self, **frames: Any) -> Portfolio:
        """A copy with some of loans, deployments, obligors, schedules, prices (or market) changed, checked again.

        Raises:
            InputRejected: the change breaks a rule.
        """
        mine = {name: getattr(self, name) for name in (*TAPES, "market")}
        return type(self).from_frames(**(mine | frames))

    def segment_values(self, column: str) -> list[str]:
        """The distinct values of one of the user's own columns, sorted; blank cells are the value ""."""
        return sorted(set(self.loans[column]))

    @property
    def n_loans(self) -> int:
        """Number of loans."""
        return len(self.loans)

    @property
    def balance_usd(self) -> float:
        """Drawn balance at month 0."""
        return float(self.loans["balance_usd"].sum())

    @property
    def commitment_usd(self) -> float:
        """Drawn and undrawn at month 0."""
        return float((self.loans["balance_usd"] + self.loans["undrawn_usd"]).sum())
