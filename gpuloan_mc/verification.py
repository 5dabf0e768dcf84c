"""Paths of a run in its folder, run again and compared: is what lies there what this machine computes?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arguments import device_numbers, whole_number
from .engines.base import PathTable
from .engines.choice import ON_GPU, choose_engine, make_engine
from .manifest import read_manifest
from .payments import INTEGERS, Payments
from .run_folder import RunFolder
from .workforce import Tell, told_of_compiling

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
    has_payments: bool  # whether what the tranches of a pool get was compared too

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
    tell: Tell | None = None,
) -> Verification:
    """Run blocks of up to 1,024 paths of a run again, evenly spaced from first to last, and compare every integer of them.

    The checksums of all files are checked on the way. What the tranches of the run's pool get is compared on engines of the CPU,
    of which auto then takes numba; a GPU compares the rest.

    Args:
        folder: of a run, finished or not.
        sample: blocks.
        engine, workers, devices: as for `simulate`; any engine must agree.
        tell: called with a line when the engine numba is compiled first.

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
        with_pool = job.pool is not None and numbers is None and engine not in ON_GPU
        asked = "numba" if with_pool and engine == "auto" else engine
        runner = make_engine(choose_engine(asked, numbers)[0], workers, numbers)
        with told_of_compiling(runner.name, tell or (lambda line: None)):
            runner.prepare(job.plan)
        options: dict[str, Any] = {"pool": job.pool} if with_pool else {}
        spans = place.spans()
        different: list[int] = []
        compared = 0
        for first, columns, paid in place.rows(_blocks(spans, sample)):
            n = len(columns["loss"])
            again = runner.run(job.plan, job.seed, first, n, **options)
            unlike = _unlike(again, columns, paid if with_pool else None)
            different += (first + np.nonzero(unlike)[0]).tolist()
            compared += n
        unreadable = tuple(f"{path}: {why}" for path, why in place.chunks.bad.items())
    return Verification(runner.name, sum(b - a for a, b in spans), compared, tuple(different), unreadable, with_pool)


def _unlike(again: PathTable, columns: Mapping[str, Any], paid: Payments | None) -> NDArray[np.bool_]:
    """(n_paths,) whether an integer of a path came out otherwise. Lives and yields follow from the integers."""
    pairs = [(getattr(again, name), values) for name, values in columns.items()]
    if paid is not None:
        pairs += [(getattr(again.payments, name), getattr(paid, name)) for name in INTEGERS]
    found: NDArray[np.bool_] = np.any(np.vstack([a != b for a, b in pairs]), axis=0)
    return found


def _blocks(spans: Sequence[tuple[int, int]], sample: int) -> list[tuple[int, int]]:
    """So many blocks of paths, evenly spaced over all spans; all of them where there are fewer."""
    found = [(i, min(i + _BLOCK, end)) for first, end in spans for i in range(first, end, _BLOCK)]
    count = min(sample, len(found))
    places = np.unique(np.linspace(0, len(found) - 1, count).round().astype(np.int64)).tolist() if count else []
    return [found[i] for i in places]
