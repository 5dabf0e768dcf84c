"""Paths of a run in its folder, run again and compared: is what lies there what this machine computes?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .arguments import device_numbers, whole_number
from .chunks import COLUMNS
from .engines.base import PathTable
from .engines.choice import choose_engine, make_engine
from .manifest import read_manifest
from .run_folder import RunFolder

_BLOCK = 1024  # paths that are run again together
_MAX_BLOCKS = 1_000_000


@dataclass(frozen=True, slots=True)
class Verification:
    """What `verify` found. `different`: numbers of the paths that came out otherwise; `unreadable`: files that are no chunks."""

    engine: str
    n_paths: int  # that are in the folder
    compared: int
    different: tuple[int, ...]
    unreadable: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        """Whether all is as it should be."""
        return not self.different and not self.unreadable


def verify(
    folder: str | Path,
    *,
    sample: int = 16,
    engine: str = "auto",
    workers: int | None = None,
    devices: Sequence[int] | None = None,
) -> Verification:
    """Run blocks of up to 1,024 paths of a run again, evenly spaced from first to last, and compare every integer of them.

    The checksums of all files are checked on the way.

    Args:
        folder: of a run, finished or not.
        sample: blocks.
        engine, workers, devices: as for `simulate`; any engine must agree.

    Raises:
        UsageError: the folder holds no run of this version, or its files were changed.
        EnvironmentProblem: the engine can't run here, or the run is going on.
    """
    sample = whole_number("sample", sample, 1, _MAX_BLOCKS)
    read_manifest(Path(folder))
    with RunFolder(folder) as place:
        job = place.reopen()
        numbers = device_numbers(devices)
        runner = make_engine(choose_engine(engine, numbers)[0], workers, numbers)
        runner.prepare(job.plan)
        chunks = [place.finished()] if place.complete else list(place.chunks.read(job.n_paths))
        different: list[int] = []
        compared = 0
        for table, start, end in _blocks([c.table for c in chunks], sample):
            first = table.first_path + start
            again = runner.run(job.plan, job.seed, first, end - start)
            unlike = [getattr(again, name) != getattr(table, name)[start:end] for name in COLUMNS]
            different += (first + np.nonzero(np.any(unlike, axis=0))[0]).tolist()
            compared += end - start
        unreadable = tuple(f"{path}: {why}" for path, why in place.chunks.bad.items())
        n_paths = sum(len(c.table.loss) for c in chunks)
    return Verification(runner.name, n_paths, compared, tuple(different), unreadable)


def _blocks(tables: list[PathTable], sample: int) -> Iterator[tuple[PathTable, int, int]]:
    """So many blocks of rows, evenly spaced over all tables; all of them where there are fewer."""
    found = [(t, i, min(i + _BLOCK, len(t.loss))) for t in tables for i in range(0, len(t.loss), _BLOCK)]
    count = min(sample, len(found))
    places = np.unique(np.linspace(0, len(found) - 1, count).round().astype(np.int64)).tolist() if count else []
    return (found[i] for i in places)
