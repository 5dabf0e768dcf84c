"""Answers as files: tables into a folder, as Parquet or as text for people."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .files import empty_folder, write_whole
from .run_folder import parquet_bytes
from .schemas import arrow_table
from .text import printable

if TYPE_CHECKING:
    import pandas as pd

Format = Literal["parquet", "csv"]
MARK = ".gpuloan-mc-answers"  # a folder that holds it may be written to again
# where a spreadsheet takes text for a formula: at the start, and after the semicolons at which some cut a line; wide forms too
_FORMULA = re.compile(r"(^|;)(?=\s*[=+\-@＝＋－＠])")


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
        write_whole(path, table_bytes(name, frame, kind))
        written.append(path)
    return written


def write_study(
    folder: str | Path, tables: Mapping[str, pd.DataFrame], manifest: str, content: Mapping[str, Any]
) -> Path:
    """Write what several runs of a book say: Parquet tables by file name, and a manifest that marks the folder as theirs.

    Raises:
        UsageError: the folder holds something else, or can't be written.
    """
    target = empty_folder(Path(folder), marks=(manifest,))
    for name, frame in tables.items():
        write_whole(target / name, parquet_bytes(arrow_table(name, frame)))
    write_whole(target / manifest, f"{json.dumps(content, indent=2, allow_nan=False)}\n".encode())
    return target


def table_bytes(name: str, frame: pd.DataFrame, kind: Format) -> bytes:
    """A table that schemas.py describes, as a file of its kind.

    Raises:
        KeyError: the frame lacks a column, or has one that the schema does not know.
    """
    table = arrow_table(f"{name}.parquet", frame)
    return parquet_bytes(table) if kind == "parquet" else _csv(frame).encode()


def _csv(frame: pd.DataFrame) -> str:
    """Text in which no cell is a formula to a spreadsheet or moves a terminal's cursor."""
    safe = frame.rename(columns=_harmless)
    for i, kind in enumerate(safe.dtypes):
        if str(kind) in ("object", "str", "string"):
            safe.isetitem(i, [_harmless(v) if isinstance(v, str) else v for v in safe.iloc[:, i]])
    return safe.to_csv(index=False)


def _harmless(text: Any) -> Any:
    return _FORMULA.sub(r"\1'", printable(text)) if isinstance(text, str) else text
