"""Parquet files and tables of other libraries, through Arrow; sizes are judged before values are decoded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ..errors import InputRejected, Problem
from ..text import shown
from .cell_sources import arrow_cells, series_cells
from .columns import TAPES
from .limits import MAX_CELL_CHARACTERS, MAX_CELLS, MAX_COLUMNS, MAX_DECODED_BYTES, MAX_ROWS
from .tapes import REQUIRED, Tape, Unreadable

BATCH_ROWS = 65_536
_INDEX = re.compile(r"__index_level_\d+__")  # where pandas keeps an index without a name


def parse_parquet(data: bytes) -> dict[str, Any]:
    """The fields of a Tape: n_rows, columns. What pandas or others left in the file's metadata is not looked at.

    Raises:
        Unreadable: no Parquet, or beyond the caps by what its footer says or by what it decodes to.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if len(data) == 0:
        raise Unreadable("empty-file", "the file is empty")
    try:
        schema, words = _looked_at(pq, pa.BufferReader(data), len(data))
        # text as dictionaries: a value that is repeated a million times is decoded once
        file = pq.ParquetFile(
            pa.BufferReader(data), read_dictionary=words, arrow_extensions_enabled=False, pre_buffer=False
        )
        batches = _capped(file.iter_batches(batch_size=BATCH_ROWS))
        return _columns(pa.Table.from_batches(list(batches), schema=file.schema_arrow if words else schema))
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise Unreadable("unreadable", f"can't be read as Parquet: {_first_line(error)}") from None


def _looked_at(pq: Any, source: Any, size: int) -> tuple[Any, list[str]]:
    """The schema, and the names of text columns, once the footer has been found to keep to the caps."""
    import pyarrow as pa

    file = pq.ParquetFile(
        source, arrow_extensions_enabled=False, thrift_string_size_limit=size, thrift_container_size_limit=size
    )
    footer, schema = file.metadata, file.schema_arrow
    claimed = sum(footer.row_group(i).total_byte_size for i in range(footer.num_row_groups))
    _check_size(footer.num_rows, max(footer.num_columns, len(schema)), claimed)
    text = (pa.types.is_string, pa.types.is_large_string)
    return schema, [field.name for field in schema if any(test(field.type) for test in text)]


def _check_size(n_rows: int, n_columns: int, n_bytes: int) -> None:
    if n_rows > MAX_ROWS:
        raise Unreadable("too-large", f"the table has {n_rows:,} rows; at most {MAX_ROWS:,} are read")
    if n_columns > MAX_COLUMNS:
        raise Unreadable("too-large", f"the table has {n_columns:,} columns; at most {MAX_COLUMNS} are read")
    if n_rows * n_columns > MAX_CELLS:
        raise Unreadable("too-large", f"the table has {n_rows * n_columns:,} cells; at most {MAX_CELLS:,} are read")
    if n_bytes > MAX_DECODED_BYTES:
        raise Unreadable("too-large", f"the table decodes to {n_bytes:,} bytes; at most {MAX_DECODED_BYTES:,} are read")


def _capped(batches: Iterator[Any]) -> Iterator[Any]:
    rows = size = 0
    for batch in batches:
        rows, size = rows + batch.num_rows, size + batch.nbytes
        _check_size(rows, batch.num_columns, size)
        yield batch


def _columns(table: Any) -> dict[str, Any]:
    """Columns of a pyarrow table whose values have been found to be what its types say."""
    table.validate(full=True)
    named = [
        (str(n), c) for n, c in zip(table.column_names, table.columns, strict=True) if not _INDEX.fullmatch(str(n))
    ]
    unfolded = sum(_text_bytes(name, chunk) for name, column in named for chunk in column.chunks)
    _check_size(table.num_rows, table.num_columns, unfolded)
    return {"n_rows": table.num_rows, "columns": tuple((name.strip(), arrow_cells(column)) for name, column in named)}


def _text_bytes(name: str, chunk: Any) -> int:
    """Bytes of a chunk's text once every row holds its own; dictionaries may unfold a thousandfold."""
    import pyarrow as pa
    import pyarrow.compute as pc

    folded = pa.types.is_dictionary(chunk.type)
    values = chunk.dictionary if folded else chunk
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        return 0
    lengths = pc.binary_length(values)
    if (longest := pc.max(lengths).as_py() or 0) > 100 * MAX_CELL_CHARACTERS:
        raise Unreadable("too-large", f"a cell of column {shown(name)} has {longest:,} bytes")
    return int(pc.sum(lengths.take(chunk.indices) if folded else lengths).as_py() or 0)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


# --- tables of other libraries ------------------------------------------------------------------------------------------


def frame_tapes(frames: dict[str, Any]) -> dict[str, Tape]:
    """Tapes of pandas frames and of anything with `__arrow_c_stream__`; None: not there.

    Raises:
        InputRejected: something is no table, or too large; a needed one is missing.
    """
    tapes: dict[str, Tape] = {}
    problems: list[Problem] = []
    for name in TAPES:
        frame = frames.get(name)
        try:
            if frame is not None:
                tapes[name] = Tape(name, name, **_frame_parts(frame))
            elif name in REQUIRED:
                raise Unreadable("no-tape", "this table is missing", "give it")
        except Unreadable as error:
            problems.append(error.problem(name))
    if problems:
        raise InputRejected(problems)
    return tapes


def _frame_parts(frame: Any) -> dict[str, Any]:
    import pandas as pd

    if isinstance(frame, pd.DataFrame):
        _check_size(len(frame), frame.shape[1], 0)
        columns = ((str(name).strip(), series_cells(frame.iloc[:, i])) for i, name in enumerate(frame.columns))
        return {"n_rows": len(frame), "columns": tuple(columns)}
    if not hasattr(frame, "__arrow_c_stream__"):
        raise Unreadable("not-a-table", f"this is a {type(frame).__name__}, not a table")
    return _stream_parts(frame)


def _stream_parts(frame: Any) -> dict[str, Any]:
    import pyarrow as pa

    try:
        reader = pa.RecordBatchReader.from_stream(frame)
        return _columns(pa.Table.from_batches(list(_capped(iter(reader))), schema=reader.schema))
    except Unreadable:
        raise
    except Exception as error:  # whatever the library behind the stream raises
        raise Unreadable("unreadable", f"the table can't be read: {_first_line(error)}") from None
