"""Columns of a run, an integer a path: in memory, or in files of their own once they are too long for it."""

from __future__ import annotations

import mmap
import os
import tempfile
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import EnvironmentProblem
from .files import free_bytes, written

Integers = NDArray[Any]

IN_MEMORY = 1 << 25  # values of a column at most
_AT_ONCE = 1 << 20  # values read of a column in a file before its pages are let go
_RUN = 1 << 23  # values sorted in memory, when a column is not
_SAMPLES = 256  # of a sorted run


class Column:
    """Integers that arrive in pieces.

    A file has no name and goes with the last array that reads it. It lies where the system keeps temporary files (TMPDIR).

    Attributes:
        values: (length,) what was written, 0 elsewhere.

    Raises:
        EnvironmentProblem: the disk has no room for the file, or fails.
    """

    def __init__(self, length: int, dtype: type[np.signedinteger[Any]]) -> None:
        self._file: int | None = None
        self.values: Integers
        if length <= IN_MEMORY:
            self.values = np.zeros(length, dtype=dtype)
            return
        check_room(length * np.dtype(dtype).itemsize)
        with written(_folder()):
            self._file, name = tempfile.mkstemp(dir=_folder())
            weakref.finalize(self, os.close, self._file)
            os.unlink(name)
            os.truncate(self._file, length * np.dtype(dtype).itemsize)
        with open(self._file, "rb", closefd=False) as stream:
            self.values = np.memmap(stream, dtype=dtype, mode="r", shape=(length,))

    def write(self, first: int, values: Integers) -> None:
        """Put values in the places from `first` on.

        Raises:
            EnvironmentProblem: no space is left, or the disk fails.
        """
        if self._file is None:
            self.values[first : first + len(values)] = values
            return
        data = np.ascontiguousarray(values, dtype=self.values.dtype).view(np.uint8).data
        place = first * self.values.itemsize
        with written(_folder()):
            while data:  # not through the map: a full disk would end the process
                n = os.pwrite(self._file, data, place)
                data, place = data[n:], place + n


def check_room(n_bytes: int) -> None:
    """Refuse files that temporary files have no room for.

    Raises:
        EnvironmentProblem: there are fewer bytes.
    """
    free = free_bytes(_folder())
    if n_bytes > free:
        raise EnvironmentProblem(
            f"{_folder()} has {free:,} bytes free, and columns of the run take {n_bytes:,} there. Free some space, set TMPDIR to "
            "a folder of a larger disk, or ask for fewer --paths"
        )


def blocks(values: Integers, rows: int = _AT_ONCE) -> Iterator[Integers]:
    """A column, or a table of rows, so many rows at a time; what is read of a file does not stay in memory."""
    read = 0
    for first in range(0, len(values), rows):
        block = values[first : first + rows]
        yield block
        read += block.size
        if read >= _AT_ONCE:
            release(values)
            read = 0
    release(values)


def release(values: Integers) -> None:
    """Let go of the pages of a column in a file; they are read again when asked for."""
    held = getattr(values, "_mmap", None)
    if held is not None and hasattr(held, "madvise"):
        held.madvise(mmap.MADV_DONTNEED)


def where(values: Integers, holds: Callable[[Integers], Integers]) -> NDArray[np.int64]:
    """Places of a column where a condition holds, rising."""
    found, first = [np.zeros(0, dtype=np.int64)], 0
    for block in blocks(values):
        found.append(np.nonzero(holds(block))[0] + first)
        first += len(block)
    return np.concatenate(found)


def ordered(values: Integers) -> Integers:
    """The values in rising order.

    A column in a file is sorted in files: runs that fit memory, then one range of values after another out of all runs.

    Raises:
        EnvironmentProblem: no space is left, or the disk fails.
    """
    if len(values) <= IN_MEMORY:
        return np.sort(values)
    check_room(2 * values.nbytes)
    kind = values.dtype.type
    runs, out = Column(len(values), kind), Column(len(values), kind)
    samples, first = [], 0
    for block in blocks(values, _RUN):
        run = np.sort(block)
        runs.write(first, run)
        samples.append(run[:: max(1, len(run) // _SAMPLES)].copy())
        first += len(run)
    sorted_runs = [runs.values[a : a + _RUN] for a in range(0, len(values), _RUN)]
    splitters = _splitters(np.sort(np.concatenate(samples)), len(sorted_runs))
    edges = np.stack([_edges(run, splitters) for run in sorted_runs])
    first = 0
    for k in range(edges.shape[1] - 1):
        for piece in _range(sorted_runs, edges[:, k], edges[:, k + 1], None if k % 2 == 0 else splitters[k // 2]):
            out.write(first, piece)
            first += len(piece)
        release(runs.values)
    return out.values


def _splitters(samples: Integers, n_ranges: int) -> Integers:
    """Values that cut the sorted samples into about so many ranges."""
    return np.unique(samples[:: max(1, len(samples) // n_ranges)])


def _edges(run: Integers, splitters: Integers) -> NDArray[np.int64]:
    """Where in a sorted run begins what is below each splitter, then what equals it: (2 splitters + 2,)."""
    inner = np.stack([np.searchsorted(run, splitters, side) for side in ("left", "right")], axis=1)
    release(run)
    return np.concatenate([[0], inner.reshape(-1), [len(run)]]).astype(np.int64)


def _range(runs: list[Integers], low: Integers, high: Integers, only: Any) -> Iterator[Integers]:
    """The values of one range in order; those equal to a splitter may be too many for memory, and need no sorting."""
    if only is not None:
        for n in (high - low).tolist():
            yield np.full(n, only)
        return
    found = np.concatenate([run[a:b] for run, a, b in zip(runs, low.tolist(), high.tolist(), strict=True)])
    found.sort(kind="stable")  # it merges what is in order already
    yield found


def _folder() -> Path:
    return Path(tempfile.gettempdir())
