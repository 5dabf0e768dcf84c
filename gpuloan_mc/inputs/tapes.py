"""Tapes as they are found: files or frames, with the names of their rows, before any value is judged."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputRejected, Problem
from .columns import TAPES

if TYPE_CHECKING:
    import pandas as pd

REQUIRED = ("loans", "obligors")


@dataclass(frozen=True)
class Tape:
    """A tape's raw frame; CSV cells are text, Parquet and frames keep their types."""

    name: str
    file: str
    frame: pd.DataFrame
    sha256: str = ""

    def row(self, position: int) -> str:
        """Where a row is: the line of a CSV file, else the row's number from 1."""
        if self.file.endswith(".csv"):
            return f"{self.file}:{position + 2}"
        return f"{self.file}: row {position + 1}"


def read_tapes(folder: Path) -> dict[str, Tape]:
    """The tapes of a book's folder.

    Raises:
        InputRejected: a needed tape is missing, stands there twice, or cannot be read.
    """
    tapes: dict[str, Tape] = {}
    problems: list[Problem] = []
    for name in TAPES:
        found = [p for p in (folder / f"{name}.csv", folder / f"{name}.parquet") if p.is_file()]
        if len(found) > 1:
            problems.append(Problem(f"{name}.csv", f"{name}.parquet is there too; keep one of them", "two-tapes"))
        elif found:
            try:
                tapes[name] = _read(name, found[0])
            except _Unreadable as error:
                problems.append(Problem(found[0].name, str(error), "unreadable"))
        elif name in REQUIRED:
            problems.append(
                Problem(f"{name}.csv", f"missing in {folder.name}; a .csv or .parquet of it is needed", "no-tape")
            )
    if problems:
        raise InputRejected(problems)
    return tapes


class _Unreadable(Exception):
    pass


def _read(name: str, path: Path) -> Tape:
    import pandas as pd
    import pyarrow

    data = path.read_bytes()
    try:
        if path.suffix == ".csv":
            frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", index_col=False)
        else:
            frame = pd.read_parquet(path)
    except UnicodeDecodeError as error:
        raise _Unreadable(f"not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except pd.errors.EmptyDataError:
        raise _Unreadable("the file is empty; it needs a header line") from None
    except (pd.errors.ParserError, pd.errors.ParserWarning, pyarrow.ArrowException, ValueError, OSError) as error:
        raise _Unreadable(f"cannot be read as {path.suffix[1:]}: {str(error).splitlines()[0]}") from None
    return Tape(name, path.name, frame, hashlib.sha256(data).hexdigest())
