"""CSV read strictly: commas, UTF-8, standard quotes; every row keeps the line on which it begins."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

import numpy as np

from .cell_sources import arrow_cells
from .cells import text_cells
from .limits import MAX_CELLS, MAX_COLUMNS, MAX_LINE_CHARACTERS, MAX_ROWS
from .tapes import Unreadable

_OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def parse_csv(data: bytes) -> dict[str, Any]:
    """The fields of a Tape: n_rows, columns, lines, ragged.

    Blank lines are no rows. A row of other length than the header is noted and has no values.

    Raises:
        Unreadable: the bytes are not such a file.
    """
    n_lines = data.count(b"\n")
    if n_lines > 2 * MAX_ROWS:
        raise Unreadable("too-large", f"the file has {n_lines:,} lines; at most {MAX_ROWS:,} rows are read")
    text = _decoded(data)
    return _plain_table(text.encode()) or _strict_table(text)


def _plain_table(data: bytes) -> dict[str, Any] | None:
    """The table of a file without quotes, blank lines and ragged rows, read in one go; None if it may be another."""
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    ends = data.replace(b"\r\n", b"\n")
    if b'"' in ends or b"\r" in ends or b"\n\n" in ends or ends[:1] in (b"", b"\n") or ends[-1:] != b"\n":
        return None
    head, _, rest = ends.partition(b"\n")
    header = [cell.strip() for cell in head.decode().split(",")]
    n_rows = rest.count(b"\n")
    if (
        len(header) == 1
        or not rest
        or len(header) > MAX_COLUMNS
        or n_rows * len(header) > MAX_CELLS
        or n_rows > MAX_ROWS
    ):
        return None
    names = [str(i) for i in range(len(header))]
    try:
        table = pa_csv.read_csv(
            pa.BufferReader(rest),
            read_options=pa_csv.ReadOptions(column_names=names, block_size=8 * MAX_LINE_CHARACTERS),
            parse_options=pa_csv.ParseOptions(quote_char=False, ignore_empty_lines=False),
            convert_options=pa_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.large_string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid:  # ragged: the other way names the rows
        return None
    columns = tuple((name, arrow_cells(column)) for name, column in zip(header, table.columns, strict=True))
    lines = np.arange(2, n_rows + 2, dtype=np.int32)
    return {"n_rows": table.num_rows, "columns": columns, "lines": lines} if table.num_rows == n_rows else None


def _strict_table(text: str) -> dict[str, Any]:
    rows, lines = _rows(text)
    if not rows:
        raise Unreadable("empty-file", "the file is empty")
    header = [cell.strip() for cell in rows.pop(0)]
    lines = lines[1:]
    _check_separator(header)
    _check_end(text, header, rows, lines)
    ragged = _ragged(rows, len(header))
    columns = tuple(zip(*rows, strict=True)) if rows else ((),) * len(header)
    return {
        "n_rows": len(rows),
        "columns": tuple((name, text_cells(cells)) for name, cells in zip(header, columns, strict=True)),
        "lines": np.array(lines, dtype=np.int32),
        "ragged": ragged,
    }


def _decoded(data: bytes) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or (len(data) > 3 and (data[1:4:2] == b"\0\0" or data[:3:2] == b"\0\0")):
        raise Unreadable("encoding", "this is UTF-16 text")
    if b"\0" in data:
        line = data.count(b"\n", 0, data.index(b"\0")) + 1
        raise Unreadable("nul-byte", "there is a NUL byte", row=line)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        found = f"not UTF-8 text: byte {data[error.start]:#04x} at {error.start}"
        raise Unreadable("encoding", found, "it may be Latin-1 or Windows-1252: save it as UTF-8", row=line) from None


def _lines(text: str) -> Iterator[str]:
    for number, line in enumerate(io.StringIO(text, newline=""), start=1):
        if len(line) > MAX_LINE_CHARACTERS:
            raise Unreadable("too-large", f"a line has more than {MAX_LINE_CHARACTERS:,} characters", row=number)
        yield line


def _rows(text: str) -> tuple[list[list[str]], list[int]]:
    """Rows and the lines on which they begin, counted from 1."""
    reader = csv.reader(_lines(text), strict=True)
    rows: list[list[str]] = []
    starts: list[int] = []
    line, n_cells = 1, 0
    try:
        for row in reader:
            if row:
                rows.append(row)
                starts.append(line)
                n_cells += len(row)
                if n_cells > MAX_CELLS or len(rows) > MAX_ROWS + 1:
                    raise Unreadable("too-large", f"more than {MAX_ROWS:,} rows or {MAX_CELLS:,} cells", row=line)
            line = reader.line_num + 1
    except csv.Error as error:
        raise Unreadable("quoting", f"the row that begins here can't be cut into cells: {error}", row=line) from None
    return rows, starts


def _check_separator(header: list[str]) -> None:
    if len(header) > MAX_COLUMNS:
        raise Unreadable("too-large", f"the header has {len(header):,} columns; at most {MAX_COLUMNS} are read")
    if len(header) == 1:
        for mark, word in _OTHER_SEPARATORS.items():
            if mark in header[0]:
                raise Unreadable("separator", f"the header is separated by {word}, not commas", row=1)


def _check_end(text: str, header: list[str], rows: list[list[str]], lines: list[int]) -> None:
    if rows and len(rows[-1]) < len(header) and not text.endswith(("\n", "\r")):
        found = f"the last line has {len(rows[-1])} of {len(header)} cells and no end of line"
        raise Unreadable("cut-file", found, row=lines[-1])


def _ragged(rows: list[list[str]], width: int) -> dict[int, str]:
    """Positions of rows of the wrong length, and what is wrong; these rows become blank but for their first cell."""
    wrong: dict[int, str] = {}
    for position, row in enumerate(rows):
        if len(row) != width:
            wrong[position] = f"the row has {len(row)} cells, the header {width}"
            rows[position] = [row[0]] + [""] * (width - 1)
    return wrong
