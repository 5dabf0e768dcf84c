"""Files that are whole or not there: written under another name, then moved into place."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import UsageError


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` so that no reader ever sees half of it."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def empty_folder(path: Path, mark: str | None = None) -> Path:
    """The folder, made if need be.

    Raises:
        UsageError: it is a file, or holds something and is not marked as ours by a file named `mark`.
    """
    if path.exists() and not path.is_dir():
        raise UsageError(f"{path} is a file; name a folder")
    if path.is_dir() and any(path.iterdir()) and not (mark is not None and (path / mark).is_file()):
        raise UsageError(f"{path} is not empty; name a new folder, or empty it")
    path.mkdir(parents=True, exist_ok=True)
    return path
