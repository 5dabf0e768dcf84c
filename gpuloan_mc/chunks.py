"""Finished chunks of a run on the disk: a file each, which counts once it is whole.

A file is the SHA-256 of all that follows, a header's length (4 bytes), the header (JSON, blanks behind it up to a place that 8
divides) and the arrays of a `PathTable` in the header's order, little-endian.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from .engines.base import PathTable
from .files import WholeFile, written
from .payments import Payments
from .totals import Totals

FOLDER = "chunks"
COLUMNS = ("loss", "discounted_loss", "defaulted_balance", "largest_loss", "defaults")
_TOTALS = ("by_loan", "by_group")
_HASH = 32


@dataclass(frozen=True, slots=True)
class RunKey:
    """What the integers of a path depend on, beside its number. `version`: of gpuloan_mc; `pool`: digest of the pool's file."""

    version: str
    rng_scheme: str
    plan_digest: str
    seed: int
    pool: str | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """A table of paths, the seconds that an engine took for it, and which one that was; nothing: not known."""

    table: PathTable
    seconds: float
    engine: str = ""


class BadChunk(Exception):
    """A file that is no chunk of the run; its text says why."""


def write_chunk(path: Path, key: RunKey, chunk: Chunk) -> None:
    """Write a chunk whole.

    Raises:
        EnvironmentProblem, UsageError: as `WholeFile`.
    """
    with WholeFile(path) as stream:
        for part in chunk_parts(key, chunk):
            stream.write(part)


def chunk_parts(key: RunKey, chunk: Chunk) -> list[Any]:
    """A chunk as the buffers of bytes of its file, one after another."""
    arrays = {name: np.ascontiguousarray(a, dtype=a.dtype.newbyteorder("<")) for name, a in _arrays(chunk.table)}
    header = asdict(key) | {
        "first_path": chunk.table.first_path,
        "seconds": chunk.seconds,
        "engine": chunk.engine,
        "arrays": {name: [a.dtype.str, list(a.shape)] for name, a in arrays.items()},
    }
    text = json.dumps(header).encode()
    text += b" " * (-(_HASH + 4 + len(text)) % 8)
    parts: list[Any] = [
        len(text).to_bytes(4, "little"),
        text,
        *(a.reshape(-1).view(np.uint8).data for a in arrays.values()),
    ]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return [digest.digest(), *parts]


def read_chunk(path: Path, key: RunKey) -> Chunk:
    """The chunk of a file.

    Raises:
        BadChunk: the file is damaged, or belongs to another run.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadChunk(str(error.strerror)) from error
    return parse_chunk(data, key)


def parse_chunk(content: bytes, key: RunKey) -> Chunk:
    """The chunk of the bytes of a file.

    Raises:
        BadChunk: they are damaged, or belong to another run.
    """
    data = memoryview(content)
    if len(data) < _HASH + 4 or hashlib.sha256(data[_HASH:]).digest() != data[:_HASH]:
        raise BadChunk("damaged")
    start = _HASH + 4
    end = start + int.from_bytes(data[_HASH:start], "little")
    header = json.loads(bytes(data[start:end]))
    for name, value in asdict(key).items():
        if header.get(name) != value:
            raise BadChunk(f"of another run: its {name} is {header.get(name)!r:.80}, not {value!r:.80}")
    arrays: dict[str, Any] = {}
    for name, (kind, shape) in header["arrays"].items():
        count = int(np.prod(shape))
        array = np.frombuffer(data, dtype=kind, count=count, offset=end).reshape(shape)
        native = array.astype(array.dtype.newbyteorder("="), copy=False)
        arrays[name] = np.require(native, requirements="A")  # the file's own bytes where they lie right
        end += array.nbytes
    for part in _TOTALS:
        arrays[part] = Totals(**{f.name: arrays.pop(f"{part}.{f.name}") for f in fields(Totals)})
    if "payments.losses" in arrays:
        arrays["payments"] = Payments(**{f.name: arrays.pop(f"payments.{f.name}") for f in fields(Payments)})
    return Chunk(PathTable(first_path=header["first_path"], **arrays), header["seconds"], header.get("engine", ""))


def _arrays(table: PathTable) -> Iterator[tuple[str, Any]]:
    for name in (*COLUMNS, "loan_cause_defaults", "loan_cause_loss", "prices"):
        if getattr(table, name) is not None:
            yield name, getattr(table, name)
    for part in _TOTALS:
        for field in fields(Totals):
            yield f"{part}.{field.name}", getattr(getattr(table, part), field.name)
    for field in fields(Payments) if table.payments is not None else ():
        yield f"payments.{field.name}", getattr(table.payments, field.name)


class ChunkFolder:
    """The chunks of a run in its folder. `bad`: files that were no chunks of the run when they were read, and why."""

    def __init__(self, folder: Path, key: RunKey) -> None:
        self.path, self.key = folder / FOLDER, key
        self.bad: dict[Path, str] = {}

    def add(self, chunk: Chunk) -> None:
        """Write a chunk; it counts once this returns."""
        with written(self.path):
            self.path.mkdir(exist_ok=True)
        write_chunk(self.path / _name(chunk.table), self.key, chunk)

    def read(self, n_paths: int, first: int = 0) -> Iterator[Chunk]:
        """The chunks of paths `first` … n_paths - 1 in path order, no path twice; what is none of them goes to `bad`."""
        end = first
        for path in sorted(self.path.glob("*.chunk")):
            try:
                chunk = read_chunk(path, self.key)
                if path.name != _name(chunk.table):
                    raise BadChunk(f"the chunk {_name(chunk.table)} under another name")
                if chunk.table.first_path < end:
                    raise BadChunk("its paths are there already")
                if chunk.table.first_path + len(chunk.table.loss) > n_paths:
                    raise BadChunk("its paths are not of the run")
            except BadChunk as problem:
                self.bad[path] = str(problem)
                continue
            end = chunk.table.first_path + len(chunk.table.loss)
            yield chunk

    def clean(self) -> None:
        """Delete what `read` called bad, and what a killed run left half-written."""
        for path in (*self.path.glob(".*.part"), *self.bad):
            path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Delete them all."""
        if self.path.exists():
            with written(self.path):
                shutil.rmtree(self.path)


def _name(table: PathTable) -> str:
    return f"{table.first_path:013}-{table.first_path + len(table.loss):013}.chunk"
