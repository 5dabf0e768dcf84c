"""The portfolio: loans, the chips that secure them and the parties behind them, checked once and never changed."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import InputRejected
from .inputs.books import book_folder
from .inputs.columns import TAPES
from .inputs.market_file import FILE_NAME
from .inputs.rules import Findings, check_book, convert, warnings
from .inputs.tapes import Tape, read_tapes
from .market import Market

if TYPE_CHECKING:
    import pandas as pd

_IDS = {
    "loans": ["loan_id"],
    "deployments": ["deployment_id"],
    "obligors": ["obligor_id"],
    "schedules": ["loan_id", "month"],
}


@dataclass(frozen=True)
class Portfolio:
    """Four frames with every column of `inputs.columns`, typed, defaults filled in, rows by id.

    Blank means "" in text, NaN in numbers without a default, 0 in months. Dollars; months from the start date.
    """

    loans: pd.DataFrame
    deployments: pd.DataFrame
    obligors: pd.DataFrame
    schedules: pd.DataFrame
    market: Market = field(repr=False)
    segment_columns: tuple[str, ...] = ()
    sources: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()

    @classmethod
    def read(cls, book: str | Path, market: Market | None = None) -> Portfolio:
        """The portfolio of a book: a folder or a bundled book's name. The market defaults to the folder's own.

        Raises:
            InputRejected: with every problem of the tapes at once.
        """
        folder = book_folder(book)
        own = Market.read(folder) if market is None else market
        portfolio = cls._checked(read_tapes(folder), own)
        if market is None:
            sha256 = hashlib.sha256((folder / FILE_NAME).read_bytes()).hexdigest()
            portfolio = dataclasses.replace(portfolio, sources=(*portfolio.sources, (FILE_NAME, sha256)))
        return portfolio

    @classmethod
    def from_frames(
        cls,
        *,
        market: Market,
        loans: pd.DataFrame,
        obligors: pd.DataFrame,
        deployments: pd.DataFrame | None = None,
        schedules: pd.DataFrame | None = None,
    ) -> Portfolio:
        """A portfolio of pandas frames with the tapes' columns; the same rules and messages as for files.

        Raises:
            InputRejected: with every problem at once.
        """
        frames = {"loans": loans, "deployments": deployments, "obligors": obligors, "schedules": schedules}
        tapes = {k: Tape(k, k, f.reset_index(drop=True)) for k, f in frames.items() if f is not None}
        return cls._checked(tapes, market)

    @classmethod
    def _checked(cls, tapes: dict[str, Tape], market: Market) -> Portfolio:
        import pandas as pd

        findings = Findings()
        factors = tuple(market.dependence.factors)
        frames: dict[str, pd.DataFrame] = {}
        own: list[str] = []
        for name in TAPES:
            tape = tapes.get(name) or Tape(
                name, name, pd.DataFrame(columns=[c.name for c in TAPES[name]], dtype=object)
            )
            frames[name], extra = convert(tape, findings, factors)
            own += extra
        check_book(tapes, frames, market, findings)
        if findings.problems:
            raise InputRejected(findings.problems)
        ordered = {name: f.sort_values(_IDS[name], ignore_index=True) for name, f in frames.items()}
        return cls(
            **ordered,
            market=market,
            segment_columns=tuple(own),
            sources=tuple((t.file, t.sha256) for t in tapes.values() if t.sha256),
            warnings=warnings(frames),
        )

    def replace(self, **frames: Any) -> Portfolio:
        """A copy with some of loans, deployments, obligors, schedules (or market) changed, checked again.

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
