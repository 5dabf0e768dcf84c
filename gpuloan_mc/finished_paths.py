"""The paths of a finished run as they lie in its folder; while more are added to them, among its chunks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from .chunks import Chunk, RunKey, read_chunk, write_chunk
from .engines.base import PathTable
from .files import SYSTEM, sync_folder, written
from .ledger import Ledger
from .manifest import check_file, is_the_file
from .path_rows import COLUMNS, PATHS, ROWS_A_GROUP, count_rows, read_group, read_rows
from .payments import Payments
from .plan import CAUSES
from .totals import N_DIGITS, Totals

TOTALS = "totals.bin"
_FILES = (PATHS, TOTALS)


class FinishedPaths:
    """paths.parquet and totals.bin.

    Args:
        folder: of the run.
        aside: folder of the chunks, where they lie while the run is extended until its files are written anew; None: it
            is not extended.
        facts: of the manifest, by name.
        key: of the run.
    """

    def __init__(self, folder: Path, aside: Path | None, facts: Mapping[str, Any], key: RunKey) -> None:
        self.folder, self._aside, self._facts, self._key = folder, aside, facts, key

    def to_extend(self, aside: Path) -> FinishedPaths:
        """The same, of a run that is extended."""
        return FinishedPaths(self.folder, aside, self._facts, self._key)

    def _place(self, name: str) -> Path:
        """Where a file lies."""
        moved = self.folder / name if self._aside is None else self._aside / name
        return moved if moved.exists() else self.folder / name

    def check(self) -> None:
        """Refuse files that are not those of the manifest.

        Raises:
            UsageError: one was changed or damaged, or can't be read.
        """
        for name in _FILES:
            check_file(self.folder, name, self._facts[name])

    def put_aside(self) -> None:
        """Move the files among the chunks, those that are not there yet.

        Raises:
            EnvironmentProblem, UsageError: the disk fails, or does not let it.
        """
        assert self._aside is not None
        with written(self._aside):
            self._aside.mkdir(exist_ok=True)
            for name in _FILES:
                if not (self._aside / name).exists() and (self.folder / name).exists():
                    SYSTEM.replace(self.folder / name, self._aside / name)
            sync_folder(self._aside)
            sync_folder(self.folder)

    def damaged(self) -> dict[Path, str]:
        """Files that are missing or are not those of the manifest."""
        return {
            path: "damaged"
            for name, path in ((name, self._place(name)) for name in _FILES)
            if not is_the_file(path, self._facts[name])
        }

    @property
    def n_paths(self) -> int:
        """How many there are."""
        return count_rows(self._place(PATHS))

    @property
    def n_bytes(self) -> int:
        """Bytes of the files."""
        places = [self._place(name) for name in _FILES]
        return sum(place.stat().st_size for place in places if place.exists())

    def tables(self) -> Iterator[PathTable]:
        """The paths, some at a time, without prices; the first table has the totals of all, those after it have none."""
        totals = read_chunk(self._place(TOTALS), self._key).table
        for first, columns in read_rows(self._place(PATHS)):
            table = dataclasses.replace(totals if first == 0 else _without(totals), first_path=first, **columns)
            if totals.payments is not None:
                part = totals.payments.rows(first, first + len(table.loss))
                table = dataclasses.replace(table, payments=part)
            yield table

    def rows(self, blocks: Sequence[tuple[int, int]]) -> Iterator[tuple[int, dict[str, Any], Payments | None]]:
        """Some ranges of paths in rising order, each within a group of rows: (first path, its columns, what tranches get)."""
        paid = read_chunk(self._place(TOTALS), self._key).table.payments
        for group, some in groupby(blocks, key=lambda block: block[0] // ROWS_A_GROUP):
            columns, start = read_group(self._place(PATHS), group), group * ROWS_A_GROUP
            for first, end in some:
                some_columns = {name: values[first - start : end - start] for name, values in columns.items()}
                yield first, some_columns, paid and paid.rows(first, end)


def write_totals(path: Path, key: RunKey, ledger: Ledger) -> None:
    """Write the totals of a ledger and what the tranches of a pool get: a chunk without paths.

    Raises:
        EnvironmentProblem, UsageError: as `write_chunk`.
    """
    columns: dict[str, Any] = {name: np.zeros(0, np.int32 if name == "defaults" else np.int64) for name in COLUMNS}
    table = PathTable(
        first_path=0,
        **columns,
        by_loan=ledger.by_loan,
        by_group=ledger.by_group,
        loan_cause_defaults=ledger.loan_cause_defaults,
        loan_cause_loss=ledger.loan_cause_loss,
        payments=ledger.payments,
    )
    write_chunk(path, key, Chunk(table, 0.0))


def read_payments(path: Path, key: RunKey) -> Payments | None:
    """What the tranches of a pool get, of all paths of a finished run.

    Raises:
        BadChunk: the file is damaged, or belongs to another run.
    """
    return read_chunk(path, key).table.payments


def _without(totals: PathTable) -> PathTable:
    n_loans, n_groups = len(totals.by_loan.defaults), len(totals.by_group.defaults)
    return dataclasses.replace(
        totals,
        by_loan=Totals.zeros(n_loans),
        by_group=Totals.zeros(n_groups),
        loan_cause_defaults=np.zeros((n_loans, len(CAUSES)), dtype=np.int64),
        loan_cause_loss=np.zeros((N_DIGITS, n_loans, len(CAUSES)), dtype=np.int64),
    )
