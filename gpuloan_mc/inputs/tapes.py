"""Tapes as they are found: a book's files or the caller's tables, before any value is judged."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import Problem
from .cells import Cells
from .columns import TAPES
from .limits import MAX_FILE_BYTES
from .rules import sentence

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

REQUIRED = ("loans", "obligors")


@dataclass(frozen=True)
class Tape:
    """A tape's raw columns. `lines` are the lines of a CSV file on which rows begin; `ragged` rows hold no values."""

    name: str
    file: str
    n_rows: int
    columns: tuple[tuple[str, Cells], ...]
    lines: NDArray[np.int32] | None = None
    ragged: dict[int, str] = field(default_factory=dict)
    sha256: str = ""

    def row(self, position: int) -> int:
        """The number by which people find a row: its line in a CSV file, else its place from 1."""
        return position + 1 if self.lines is None else int(self.lines[position])


class Unreadable(Exception):
    """A tape that can't be read at all."""

    def __init__(self, rule: str, found: str, hint: str = "", row: int | None = None) -> None:
        super().__init__(found)
        self.rule, self.found, self.hint, self.row = rule, found, hint, row

    def problem(self, file: str) -> Problem:
        """As a problem of the file."""
        return Problem(file, sentence(self.rule, self.found, self.hint), self.rule, self.row)


def read_tapes(folder: Path) -> tuple[dict[str, Tape], list[Problem]]:
    """The tapes of a book's folder, and those that are missing, stand there twice or cannot be read."""
    tapes: dict[str, Tape] = {}
    problems: list[Problem] = []
    for name in TAPES:
        found = [p for p in (folder / f"{name}.csv", folder / f"{name}.parquet") if os.path.lexists(p)]
        try:
            if len(found) > 1:
                raise Unreadable("two-tapes", f"{name}.parquet is there too")
            if found:
                tapes[name] = _read(name, found[0])
            elif name in REQUIRED:
                hint = f"a .csv or .parquet of it is needed{_near(folder, name)}"
                raise Unreadable("no-tape", f"missing in {folder.name}", hint)
        except Unreadable as error:
            problems.append(error.problem(found[0].name if found else f"{name}.csv"))
    return tapes, problems


def _near(folder: Path, name: str) -> str:
    """A file that may be meant: other case, other ending."""
    try:
        names = sorted(p.name for p in folder.iterdir())[:1000]
    except OSError:
        return ""
    near = [n for n in names if n.lower().split(".")[0].rstrip("s") == name.rstrip("s")]
    return f"; is it {near[0]}" + "?" if near else ""


def _read(name: str, path: Path) -> Tape:
    data = read_bytes(path, MAX_FILE_BYTES)
    if path.suffix == ".csv":
        from .csv_tape import parse_csv

        parts = parse_csv(data)
    else:
        from .arrow_tape import parse_parquet

        parts = parse_parquet(data)
    return Tape(name, path.name, sha256=hashlib.sha256(data).hexdigest(), **parts)


def read_bytes(path: Path, cap: int) -> bytes:
    """The bytes of a regular file, at most `cap`.

    Raises:
        Unreadable: it is something else, larger, or can't be opened.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise Unreadable("not-a-file", f"this is a {_kind(status.st_mode)}, not a file")
        if status.st_size > cap:
            raise Unreadable("too-large", f"the file has {status.st_size:,} bytes; at most {cap:,} are read")
        with path.open("rb") as stream:
            data = stream.read(cap + 1)
    except FileNotFoundError:
        raise Unreadable("not-a-file", "this is a link to nothing") from None
    except OSError as error:
        raise Unreadable("unreadable", f"can't be opened: {error.strerror}") from None
    if len(data) > cap:
        raise Unreadable("too-large", f"the file grows beyond {cap:,} bytes")
    return data


def _kind(mode: int) -> str:
    kinds: list[tuple[Any, str]] = [(stat.S_ISDIR, "folder"), (stat.S_ISFIFO, "pipe"), (stat.S_ISSOCK, "socket")]
    return next((word for test, word in kinds if test(mode)), "device")
