"""Files that are whole or not there: written under another name, then moved into place. Tables as TOML."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from .errors import UsageError


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` so that no reader ever sees half of it.

    Raises:
        UsageError: the file can't be written there.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror}; name another folder") from error
    finally:
        with suppress(OSError):  # the first error is the one to tell
            part.unlink(missing_ok=True)


def empty_folder(path: Path, marks: tuple[str, ...] = ()) -> Path:
    """The folder, made if need be.

    Raises:
        UsageError: it is a file, can't be made, or holds something and is not marked as ours by a file named in `marks`.
    """
    try:
        if path.exists() and not path.is_dir():
            raise UsageError(f"{path} is a file; name a folder")
        path.mkdir(parents=True, exist_ok=True)
        empty = not any(path.iterdir())
    except OSError as error:
        raise UsageError(f"{path} can't be used: {error.strerror}; name another folder") from error
    if not empty and not any((path / mark).is_file() for mark in marks):
        raise UsageError(f"{path} is not empty; name a new folder, or empty it")
    return path


def toml_text(table: Mapping[str, Any], place: str = "") -> str:
    """A TOML document of strings, booleans, finite numbers, dates, lists and tables; keys are plain words.

    The standard library reads TOML and does not write it.
    """
    values, tables = [], []
    for key, value in table.items():
        inner = f"{place}.{key}" if place else key
        if isinstance(value, Mapping):
            tables.append(f"\n[{inner}]\n{toml_text(value, inner)}")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            tables += [f"\n[[{inner}]]\n{toml_text(item, inner)}" for item in value]
        else:
            values.append(f"{key} = {_toml_value(value)}\n")
    return "".join(values + tables)  # a value after a table's header would belong to that table


def _toml_value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml_value, value))}]"
    if isinstance(value, datetime.date):
        return value.isoformat()
    # JSON's strings are TOML's, save for the delete character
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("\x7f", "\\u007f")
