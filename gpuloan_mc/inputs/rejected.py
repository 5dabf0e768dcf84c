"""rejected.parquet: every problem of a book's inputs as a table."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from ..errors import Problem
from ..files import write_whole

REJECTED = "rejected.parquet"
COLUMNS = ("file", "row", "column", "value", "rule", "message")


def write_rejected(folder: Path, problems: Sequence[Problem]) -> Path:
    """Write the problems: text columns, and `row` as a whole number that is null where a problem has no row.

    Raises:
        UsageError: the file can't be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {name: pa.int64() if name == "row" else pa.string() for name in COLUMNS}
    columns = {name: pa.array([getattr(p, name) for p in problems], type=kind) for name, kind in kinds.items()}
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    path = folder / REJECTED
    write_whole(path, buffer.getvalue())
    return path
