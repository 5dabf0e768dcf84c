"""Answers as files: tables into a folder, as Parquet or as text for people."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .files import empty_folder, write_whole
from .schemas import arrow_table

if TYPE_CHECKING:
    import pandas as pd

Format = Literal["parquet", "csv"]
MARK = ".gpuloan-mc-answers"  # a folder that holds it may be written to again
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_answers(folder: str | Path, tables: Mapping[str, pd.DataFrame], kind: Format = "parquet") -> list[Path]:
    """Write each table as NAME.parquet or NAME.csv; the files' paths.

    Raises:
        UsageError: the folder holds something that is not answers, or can't be written.
    """
    place = empty_folder(Path(folder), marks=(MARK,))
    write_whole(place / MARK, b"")
    written = []
    for name, frame in tables.items():
        path = place / f"{name}.{kind}"
        table = arrow_table(f"{name}.parquet", frame)
        write_whole(path, _parquet(table) if kind == "parquet" else _csv(frame).encode())
        written.append(path)
    return written


def _parquet(table: Any) -> bytes:
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def _csv(frame: pd.DataFrame) -> str:
    """Text in which no cell is a formula to a spreadsheet."""
    safe = frame.rename(columns=_harmless)
    for i, kind in enumerate(safe.dtypes):
        if str(kind) in ("object", "str", "string"):
            safe.isetitem(i, [_harmless(v) if isinstance(v, str) else v for v in safe.iloc[:, i]])
    return safe.to_csv(index=False)


def _harmless(text: Any) -> Any:
    return f"'{text}" if isinstance(text, str) and text.startswith(_FORMULA) else text
