"""What differs between the inputs of two runs: rows of tapes by id and column, keys of the market."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .inputs.columns import TAPES
from .portfolio import IDS

if TYPE_CHECKING:
    import pandas as pd

    from .market import Market
    from .portfolio import Portfolio

FEW = 5  # rows, cells and keys that are named; the others are counted


@dataclass(frozen=True)
class TapeChange:
    """How a tape of one run became that of the other. Rows go by their ids, a schedule's by loan and month.

    `cells` has a row a changed cell of a row that both have: row, column, old, new.
    """

    tape: str
    added: tuple[str, ...]
    removed: tuple[str, ...]
    columns_added: tuple[str, ...]
    columns_removed: tuple[str, ...]
    cells: pd.DataFrame = field(repr=False)

    @property
    def n_changed(self) -> int:
        """Rows that both runs have, with at least one cell that differs."""
        return int(self.cells["row"].nunique())

    @property
    def by_column(self) -> dict[str, int]:
        """Changed cells by column, the most first."""
        return {str(column): int(n) for column, n in self.cells["column"].value_counts().items()}

    def to_json_dict(self) -> dict[str, Any]:
        """Counts, and the first few of each kind."""
        cells = self.cells.head(FEW).astype(object).where(self.cells.head(FEW).notna(), None)
        return {
            "added": len(self.added),
            "removed": len(self.removed),
            "changed": self.n_changed,
            "changed_cells_by_column": self.by_column,
            "columns_added": list(self.columns_added),
            "columns_removed": list(self.columns_removed),
            "first_added": list(self.added[:FEW]),
            "first_removed": list(self.removed[:FEW]),
            "first_changed_cells": cells.to_dict("records"),
        }


@dataclass(frozen=True, slots=True)
class KeyChange:
    """A key of market.toml, dotted as a scenario names it, that differs. None: not given."""

    key: str
    old: Any
    new: Any


def tape_changes(old: Portfolio, new: Portfolio) -> tuple[TapeChange, ...]:
    """The tapes that differ."""
    found = (_tape_change(tape, getattr(old, tape), getattr(new, tape)) for tape in TAPES)
    return tuple(
        change
        for change in found
        if change.added or change.removed or change.columns_added or change.columns_removed or len(change.cells)
    )


def _tape_change(tape: str, old: pd.DataFrame, new: pd.DataFrame) -> TapeChange:
    old, new = (frame.set_axis(_row_names(tape, frame), axis=0) for frame in (old, new))
    columns = [c for c in old.columns if c in new.columns]
    both = old.index[old.index.isin(new.index)]
    return TapeChange(
        tape=tape,
        added=tuple(new.index[~new.index.isin(old.index)]),
        removed=tuple(old.index[~old.index.isin(new.index)]),
        columns_added=tuple(c for c in new.columns if c not in old.columns),
        columns_removed=tuple(c for c in old.columns if c not in new.columns),
        cells=_cells(old.loc[both, columns], new.loc[both, columns]),
    )


def _row_names(tape: str, frame: pd.DataFrame) -> list[str]:
    ids = [frame[column].astype(str) for column in IDS[tape]]
    return list(ids[0]) if len(ids) == 1 else [f"{loan}, month {month}" for loan, month in zip(*ids, strict=True)]


def _cells(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """The cells of two frames of the same shape that differ; blank equals blank."""
    import pandas as pd

    parts = []
    for column in old.columns:
        one, other = old[column].astype(object), new[column].astype(object)
        differs = (one != other) & ~(one.isna() & other.isna())
        parts.append(
            pd.DataFrame({"row": one.index[differs], "column": column, "old": one[differs], "new": other[differs]})
        )
    found = pd.concat(parts, ignore_index=True)
    return found.sort_values("row", kind="stable", ignore_index=True)


def market_changes(old: Market, new: Market) -> tuple[KeyChange, ...]:
    """The keys that differ, in the order of market.toml."""
    one, other = (dict(_keys(market.model_dump())) for market in (old, new))
    changes = (KeyChange(key, one.get(key), other.get(key)) for key in {**one, **other})
    return tuple(change for change in changes if change.old != change.new)


def _keys(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values; tables of a list go by their names, or by their places from 1."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _keys(inner, f"{place}.{key}" if place else key)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for i, inner in enumerate(value, start=1):
            yield from _keys(inner, f"{place}.{inner.get('name', i)}")
    elif value != []:  # an empty list is as good as none
        yield place, value
