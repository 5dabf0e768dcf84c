"""A book under judgement: its typed frames, or those of its rows that are still in, and where to report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..market import Market
from .cells import Mask, mask
from .findings import Findings
from .tapes import Tape

if TYPE_CHECKING:
    import pandas as pd


def is_in(values: Any, known: Any) -> Mask:
    """Where text is among the known texts; pandas' own isin takes a hundred times as long for its text type."""
    import pyarrow as pa
    import pyarrow.compute as pc

    here, there = (pa.array(v, type=pa.large_string()) for v in (values, known))
    return mask(pc.is_in(here, value_set=there))


@dataclass(frozen=True)
class View:
    """Frames with rows from 0; `positions` are the rows' places in the tapes; `good` the rows without a problem yet."""

    tapes: dict[str, Tape]
    frames: dict[str, pd.DataFrame]
    positions: dict[str, NDArray[np.int64]]
    good: dict[str, Mask]
    market: Market
    findings: Findings

    @classmethod
    def of(
        cls, tapes: dict[str, Tape], frames: dict[str, pd.DataFrame], market: Market, findings: Findings, kept: bool
    ) -> View:
        """All rows, or only the kept ones: those without a problem so far."""
        places = {
            n: np.flatnonzero(~findings.bad[n]) if kept else np.arange(len(f), dtype=np.int64)
            for n, f in frames.items()
        }
        mine = {n: f.iloc[places[n]].reset_index(drop=True) if kept else f for n, f in frames.items()}
        return cls(tapes, mine, places, {n: ~findings.bad[n][places[n]] for n in frames}, market, findings)

    def seen_again(self) -> View:
        """The same rows, of which those that have got a problem meanwhile are no longer good."""
        good = {n: ~self.findings.bad[n][places] for n, places in self.positions.items()}
        return replace(self, good=good)

    @property
    def loans(self) -> pd.DataFrame:
        """The loans."""
        return self.frames["loans"]

    @property
    def deployments(self) -> pd.DataFrame:
        """The deployments."""
        return self.frames["deployments"]

    @property
    def schedules(self) -> pd.DataFrame:
        """The schedules' rows."""
        return self.frames["schedules"]

    def sound(self, name: str) -> pd.DataFrame:
        """The rows of a tape that have no problem yet."""
        frame = self.frames[name]
        return frame if self.good[name].all() else frame[self.good[name]]

    @cached_property
    def secured(self) -> Mask:
        """Loans that have a deployment, sound or not."""
        return is_in(self.loans["loan_id"], self.deployments["loan_id"])

    def file(self, name: str, rule: str, found: str, **details: Any) -> None:
        """A problem of a tape as a whole."""
        self.findings.file(self.tapes[name].file, rule, found, **details)

    def report(
        self,
        name: str,
        wrong: Any,
        rule: str,
        found: Callable[[int], str],
        *,
        column: str = "",
        hint: Callable[[int], str] | None = None,
        even_bad: bool = False,
    ) -> None:
        """A problem for each row where `wrong`; by default only for rows that had none before this view was made."""
        mask = np.asarray(wrong, dtype=np.bool_)
        if not even_bad:
            mask = mask & self.good[name]
        values: Sequence[Any] | None = self.frames[name][column].tolist() if column and mask.any() else None
        self.findings.rows(
            self.tapes[name], mask, rule, found, column=column, values=values, hint=hint, positions=self.positions[name]
        )
