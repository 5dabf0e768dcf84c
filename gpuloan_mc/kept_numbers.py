"""Numbers that take long to find and depend on few inputs, kept in the folder of compiled code.

A file holds one array: the SHA-256 of its name and content, then the content, little-endian. Its name is a digest of
everything that the numbers depend on. A file that is damaged, of another length or not finite is as good as none: the
numbers are found again. Where no folder can be written they are found each time.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .engines.code_cache import keep, places
from .processor import processor

FOLDER = "numbers"
MOST_FILES = 1024  # most are 16 kB or less
MOST_BYTES = 1 << 18  # of numbers that are kept
_LEFT = 768  # when there were more
_MODULES = ("kept_numbers", "market", "pilot", "plan", "planning", "risk", "tables", "reference/*")
_SOURCES = tuple(f"{name}.py" for name in _MODULES)
_CHOOSERS = ("OPENBLAS_CORETYPE", "GLIBC_TUNABLES")  # variables that choose other instructions, and other last bits

Argument = str | bytes | int | float | None


def kept(
    name: str,
    arguments: tuple[Argument, ...],
    shape: tuple[int, ...],
    dtype: DTypeLike,
    find: Callable[[], NDArray[Any]],
) -> NDArray[Any]:
    """What `find` returns, read from the folder where it was found before; read-only either way.

    Args:
        name: of the numbers, one for each way to find them.
        arguments: what they depend on besides the program, its packages and this machine.
        shape, dtype: theirs.
        find: the way to find them.
    """
    kind = np.dtype(dtype)
    small = math.prod(shape) * kind.itemsize <= MOST_BYTES
    key = hashlib.sha256(repr((ground(), name, arguments)).encode()).hexdigest() if small else ""
    found = next(_stored(key, shape, kind), None) if small else None
    if found is None:
        found = find()
        if found.shape != shape or found.dtype != kind:
            raise TypeError(f"{name}: {found.dtype} {found.shape} was found; {kind} {shape} was expected")
        if small and np.isfinite(found).all():  # what is not is refused by the plan, by name
            _store(key, found)
    found.setflags(write=False)
    return found


@cache
def ground() -> str:
    """Digest of what all kept numbers depend on: sources, packages and how they were built, processor, system."""
    sha = hashlib.sha256()
    package = Path(__file__).parent
    for pattern in _SOURCES:
        for path in sorted(package.glob(pattern)):
            sha.update(path.name.encode() + path.read_bytes())
    built = np.show_config(mode="dicts")  # with the instructions that NumPy uses here
    parts = [np.__version__, json.dumps(built, sort_keys=True), importlib.metadata.version("scipy"), sys.prefix]
    parts += [sys.version, platform.machine(), processor(), *platform.libc_ver()]
    parts += [os.environ.get(name, "") for name in _CHOOSERS]
    sha.update("\n".join(parts).encode())
    return sha.hexdigest()


def folder() -> Path | None:
    """Where numbers are written, made if need be; None where nothing can be written."""
    for place in places():
        with suppress(OSError):
            (place / FOLDER).mkdir(parents=True, exist_ok=True)
            if os.access(place / FOLDER, os.W_OK):
                return place / FOLDER
    return None


def _stored(key: str, shape: tuple[int, ...], kind: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    """The numbers of each place that has them whole."""
    little = kind.newbyteorder("<")
    size = math.prod(shape) * kind.itemsize
    for place in places():
        try:
            data = (place / FOLDER / key).read_bytes()
        except OSError:  # not there, or not to be read: found again
            continue
        if len(data) == 32 + size and data[:32] == _seal(key, data[32:]):
            numbers = np.frombuffer(data[32:], dtype=little).reshape(shape).astype(kind)
            if np.isfinite(numbers).all():
                with suppress(OSError):  # what is used stays; a folder that can't be written keeps its own order
                    os.utime(place / FOLDER / key)
                yield numbers


def _store(key: str, numbers: NDArray[Any]) -> None:
    """Keep the numbers where that is possible; the oldest files go when there are too many."""
    place = folder()
    if place is None:
        return
    content = np.ascontiguousarray(numbers, dtype=numbers.dtype.newbyteorder("<")).tobytes()
    if keep(place / key, _seal(key, content) + content):
        _tidy(place)


def _seal(key: str, content: bytes) -> bytes:
    return hashlib.sha256(key.encode() + content).digest()


def _tidy(place: Path) -> None:
    """Delete the oldest files of too many; another process may do the same."""
    names = os.listdir(place)
    if len(names) <= MOST_FILES:
        return
    ages = []
    for name in names:
        with suppress(OSError):
            ages.append(((place / name).stat().st_mtime_ns, name))
    for _, name in sorted(ages)[: max(len(ages) - _LEFT, 0)]:
        with suppress(OSError):
            (place / name).unlink()
