"""Files that are whole or not there: written under another name, then moved into place. Tables as TOML."""

from __future__ import annotations

import datetime
import errno
import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .errors import EnvironmentProblem, UsageError

_AT_ONCE = 1 << 20  # bytes of a write
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class System:
    """The calls that writing rests on, in one place: tests let the k-th of them fail."""

    open = staticmethod(os.open)
    write = staticmethod(os.write)
    fsync = staticmethod(os.fsync)
    replace = staticmethod(os.replace)


SYSTEM = System()


class WholeFile(io.RawIOBase):
    """A stream to a file that is whole or not there: after `with`, its bytes are on the disk under its name.

    Until then, and when the block raises, whatever had the name before stays.

    Raises:
        EnvironmentProblem: no space is left, or the disk fails.
        UsageError: the file can't be written there.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self._part = path, path.with_name(f".{path.name}.part")
        with written(path):
            self._file = SYSTEM.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        self._bytes, self._waiting = 0, bytearray()

    def writable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Bytes so far."""
        return self._bytes

    def write(self, data: Any) -> int:
        """Append the bytes, all of them."""
        view = memoryview(data).cast("B")
        if len(view) >= _AT_ONCE:
            self._write_waiting()
            self._write_now(view)
        else:
            self._waiting += view
            if len(self._waiting) >= _AT_ONCE:
                self._write_waiting()
        self._bytes += len(view)
        return len(view)

    def _write_waiting(self) -> None:
        waiting, self._waiting = self._waiting, bytearray()
        self._write_now(memoryview(waiting))

    def _write_now(self, view: memoryview) -> None:
        with written(self.path):
            while view:
                n = SYSTEM.write(self._file, view)
                if n == 0:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                view = view[n:]

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            with written(self.path):
                try:
                    if kind is None:
                        self._write_waiting()
                        SYSTEM.fsync(self._file)
                finally:
                    os.close(self._file)
                if kind is None:
                    SYSTEM.replace(self._part, self.path)
                    sync_folder(self.path.parent)
        finally:
            self.close()
            with suppress(OSError):  # the first error is the one to tell
                self._part.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` so that no reader ever sees half of it, and that it outlives a loss of power.

    Raises:
        EnvironmentProblem: no space is left, or the disk fails.
        UsageError: the file can't be written there.
    """
    with WholeFile(path) as stream:
        stream.write(data)


def sync_folder(path: Path) -> None:
    """Bring the names in a folder to the disk."""
    file = SYSTEM.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        SYSTEM.fsync(file)
    finally:
        os.close(file)


@contextmanager
def written(path: Path) -> Iterator[None]:
    """Errors of the system while `path` is written, as sentences."""
    try:
        yield
    except OSError as error:
        what = f"{path} can't be written: {error.strerror}"
        if error.errno not in _DISK:
            raise UsageError(f"{what}; name another folder") from error
        name = errno.errorcode.get(error.errno or 0, "")
        raise EnvironmentProblem(
            f"{what} ({name}); {free_bytes(path):,} bytes are free there. Free some space"
        ) from error


def free_bytes(path: Path) -> int:
    """Bytes that a file there may still take; `path` need not exist."""
    place = next((p for p in (path, *path.absolute().parents) if p.exists()), Path("/"))
    return shutil.disk_usage(place).free


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
