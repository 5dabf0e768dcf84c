"""paths.parquet: a row a path, in path order, written and read some rows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .chunks import COLUMNS as CHUNK_COLUMNS
from .engines.base import PathTable
from .files import WholeFile
from .schemas import arrow_table

if TYPE_CHECKING:
    import pyarrow as pa

PATHS = "paths.parquet"
COLUMNS = {name: name if name == "defaults" else f"{name}_cents" for name in CHUNK_COLUMNS}  # of a table, as the file names them
ROWS_A_GROUP = 262_144
_ROWS_AT_ONCE = ROWS_A_GROUP  # when they are read


def write_rows(stream: WholeFile, tables: Iterator[PathTable]) -> int:
    """Write the paths of neighbouring tables, in groups of rows that do not depend on theirs; how many there were."""
    import pyarrow.parquet as pq

    writer, n_paths = None, 0
    for rows in _groups(tables):
        writer = pq.ParquetWriter(stream, rows.schema) if writer is None else writer
        writer.write_table(rows)
        n_paths += len(rows)
    if writer is not None:
        writer.close()
    return n_paths


def count_rows(file: Path) -> int:
    """How many paths a file has."""
    import pyarrow.parquet as pq

    return int(pq.read_metadata(file).num_rows)


def read_rows(file: Path, names: Sequence[str] = tuple(COLUMNS)) -> Iterator[tuple[int, dict[str, Any]]]:
    """Some columns of a file, some rows at a time: (first path, arrays by the names of a `PathTable`).

    Raises:
        ValueError: the file does not hold paths 0, 1, 2, …
        OSError: it can't be read.
    """
    import pyarrow.parquet as pq

    columns, first = ["path", *(COLUMNS[name] for name in names)], 0
    with pq.ParquetFile(file) as source:
        for group in range(source.num_row_groups):  # `iter_batches` would keep all that it has read
            table = source.read_row_group(group, columns=columns)
            for start in range(0, len(table), _ROWS_AT_ONCE):
                path, *values = (column.to_numpy() for column in table.slice(start, _ROWS_AT_ONCE).columns)
                if not np.array_equal(path, np.arange(first, first + len(path))):
                    raise ValueError(f"{PATHS} does not hold paths 0, 1, 2, …")
                yield first, dict(zip(names, values, strict=True))
                first += len(path)


def read_group(file: Path, group: int) -> dict[str, Any]:
    """All columns of paths group * ROWS_A_GROUP … of a file."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as source:
        rows = source.read_row_group(group, columns=list(COLUMNS.values()))
    return {name: rows[column].to_numpy() for name, column in COLUMNS.items()}


def _groups(tables: Iterator[PathTable]) -> Iterator[pa.Table]:
    """The rows of tables, a group at a time; the last may be short."""
    import pandas as pd

    def group(rows: dict[str, Any]) -> pa.Table:
        return arrow_table(PATHS, pd.DataFrame({name: values[:ROWS_A_GROUP] for name, values in rows.items()}))

    rows: dict[str, Any] = {name: np.zeros(0, dtype=np.int64) for name in ("path", *COLUMNS.values())}
    rows["defaults"] = rows["defaults"].astype(np.int32)
    for table in tables:
        new = {"path": table.first_path + np.arange(len(table.loss), dtype=np.int64)}
        new |= {column: getattr(table, name) for name, column in COLUMNS.items()}
        rows = {name: np.concatenate([values, new[name]]) for name, values in rows.items()}
        while len(rows["path"]) >= ROWS_A_GROUP:
            yield group(rows)
            rows = {name: values[ROWS_A_GROUP:] for name, values in rows.items()}
    if len(rows["path"]):
        yield group(rows)
