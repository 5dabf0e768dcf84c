"""Paths of a run in its folder, run again and compared: is what lies there what this machine computes?"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .arguments import device_numbers, whole_number
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
    place = RunFolder(folder)
    finished = read_manifest(place.path).get("complete") is True
    with nullcontext() if finished else place:  # a finished run may lie where nothing can be written
        job = place.reopen()
        numbers = device_numbers(devices)
        runner = make_engine(choose_engine(engine, numbers)[0], workers, numbers)
        runner.prepare(job.plan)
        spans = place.spans()
        different: list[int] = []
        compared = 0
        for first, columns in place.rows(_blocks(spans, sample)):
            n = len(columns["loss"])
            again = runner.run(job.plan, job.seed, first, n)
            unlike = [getattr(again, name) != values for name, values in columns.items()]
            different += (first + np.nonzero(np.any(unlike, axis=0))[0]).tolist()
            compared += n
        unreadable = tuple(f"{path}: {why}" for path, why in place.chunks.bad.items())
    return Verification(runner.name, sum(b - a for a, b in spans), compared, tuple(different), unreadable)


def _blocks(spans: Sequence[tuple[int, int]], sample: int) -> list[tuple[int, int]]:
    """So many blocks of paths, evenly spaced over all spans; all of them where there are fewer."""
    found = [(i, min(i + _BLOCK, end)) for first, end in spans for i in range(first, end, _BLOCK)]
    count = min(sample, len(found))
    places = np.unique(np.linspace(0, len(found) - 1, count).round().astype(np.int64)).tolist() if count else []
    return [found[i] for i in places]
