"""rejected.parquet: every problem of a book's inputs as a table."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from ..errors import Problem
from ..files import write_whole

REJECTED = "rejected.parquet"


def write_rejected(folder: Path, problems: Sequence[Problem]) -> Path:
    """Write the problems, a row each; `row` is null where a problem has none.

    Raises:
        UsageError: the file can't be written.
    """
    import pandas as pd
    import pyarrow.parquet as pq

    from ..schemas import FILES, arrow_table

    names = [field.name for field in FILES[REJECTED].fields]
    frame = pd.DataFrame({name: [getattr(p, name) for p in problems] for name in names}, dtype=object)
    buffer = io.BytesIO()
    pq.write_table(arrow_table(REJECTED, frame.astype({"row": "Int64"})), buffer)
    path = folder / REJECTED
    write_whole(path, buffer.getvalue())
    return path
