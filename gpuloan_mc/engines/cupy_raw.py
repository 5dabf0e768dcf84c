"""Engine `cuda`: the kernels of `kernels/` through CuPy. Path ranges over devices; sums stay on a device until a chunk ends."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ..errors import EnvironmentProblem
from ..plan import Plan
from . import cuda_device
from .base import Footprint, PathTable, joined, table_bytes
from .cuda_device import Device, OutOfDeviceMemory
from .cuda_layout import lay_out
from .cuda_mapping import launches, outputs, table
from .cuda_sources import WAY_OUT

FLOOR = 1024  # paths at once below which halving stops
_FIRST_CHUNK = 16_384  # paths a device: enough to fill one, few enough for the first look at its pace
_LONGEST_CHUNK = 1_048_576  # paths a device
_SHARE = 0.8  # of the free memory; the rest is the driver's, CuPy's and other processes'


class CupyRaw:
    """Engine `cuda` on some devices. It keeps the last plan on them.

    Raises:
        EnvironmentProblem: a device can't be used; says why.
    """

    name = "cuda"

    def __init__(self, devices: Sequence[int] = (0,), connect: Callable[[int], Device] | None = None) -> None:
        self._devices = [(connect or cuda_device.connect)(number) for number in devices]
        self._plan: Plan | None = None

    def prepare(self, plan: Plan) -> None:
        """Lay the plan out, compile or load the kernels and copy the plan to each device, unless all is done.

        Raises:
            EnvironmentProblem: the kernels can't be compiled, or the plan does not fit a device.
        """
        if self._plan is not plan:
            layout = lay_out(plan)
            self._cards = [_Card(device, plan, layout) for device in self._devices]
            self._plan = plan

    def first_chunk(self, plan: Plan) -> int:
        """Paths of a run's first chunk."""
        return min(_FIRST_CHUNK * len(self._devices), self.longest_chunk(plan))

    def longest_chunk(self, plan: Plan) -> int:
        """Paths of a chunk at most: what fits the free memory of every device."""
        self.prepare(plan)
        return len(self._cards) * min(card.most_paths for card in self._cards)

    def footprint(self, plan: Plan, chunk: int) -> Footprint:
        """The plan and the results of a chunk's share on each device; the same results here."""
        self.prepare(plan)
        return planned(plan, chunk, len(self._cards))

    def run(self, plan: Plan, seed: int, first_path: int, n_paths: int, *, prices: bool = False) -> PathTable:
        """The integers of paths first_path … first_path + n_paths - 1, with their prices when asked for.

        Raises:
            EnvironmentProblem: a device fails, or has no room for even a few paths.
        """
        self.prepare(plan)
        ranges = _ranges(first_path, n_paths, len(self._cards))
        if len(ranges) == 1:
            return self._cards[0].run(seed, first_path, n_paths, prices)
        with ThreadPoolExecutor(len(ranges), thread_name_prefix="gpuloan-mc") as pool:
            pairs = zip(self._cards, ranges, strict=False)
            futures = [pool.submit(card.run, seed, start, end - start, prices) for card, (start, end) in pairs]
            return joined([f.result() for f in futures])


def longest_chunk(n_devices: int) -> int:
    """Paths of a chunk at most, where memory allows."""
    return _LONGEST_CHUNK * n_devices


def planned(plan: Plan, chunk: int, n_devices: int) -> Footprint:
    """Memory of a chunk: the plan and the results of its share on each device, the results here. No device is asked."""
    layout = lay_out(plan)
    fixed = sum(array.nbytes for array in layout.arrays.values())
    shares = (end - start for start, end in _ranges(0, chunk, n_devices))
    return Footprint(fixed + 2 * table_bytes(plan, chunk), tuple(fixed + _bytes(layout, n) for n in shares))


def _bytes(layout: Any, n_paths: int, prices: bool = False) -> int:
    """Bytes of the results of so many paths on a device."""
    return sum(array.nbytes for array in outputs(layout, n_paths, prices).values())


def _ranges(first_path: int, n_paths: int, parts: int) -> list[tuple[int, int]]:
    """(first, end) of each device's paths: about equal, cut between fours, none of them empty."""
    edges = {first_path, first_path + n_paths}
    for k in range(1, parts):
        edge = (first_path + k * n_paths // parts) // 4 * 4  # four neighbours share their draws
        edges.add(min(max(edge, first_path), first_path + n_paths))
    places = sorted(edges)
    return list(itertools.pairwise(places))


class _Card:
    """A plan on a device, and how many paths it has room for."""

    def __init__(self, device: Device, plan: Plan, layout: Any) -> None:
        self._device, self._plan, self._layout = device, plan, layout
        device.load()
        self._plan_bytes = sum(array.nbytes for array in layout.arrays.values())
        try:
            self._buffers = {name: device.upload(array) for name, array in layout.arrays.items()}
        except OutOfDeviceMemory as error:
            raise self._too_small("the plan", self._plan_bytes) from error
        self.most_paths = self._fitting()

    def run(self, seed: int, first_path: int, n_paths: int, prices: bool) -> PathTable:
        """The paths in pieces that fit; a piece that does not is halved."""
        tables: list[PathTable] = []
        first, end = first_path, first_path + n_paths
        while first < end:
            piece = min(self.most_paths, end - first)
            try:
                tables.append(self._piece(seed, first, piece, prices))
            except OutOfDeviceMemory as error:
                if piece <= FLOOR:
                    raise self._too_small(f"{piece:,} paths", _bytes(self._layout, piece, prices)) from error
                self.most_paths = max(FLOOR, piece // 2 // 4 * 4)
                continue
            first += piece
        return joined(tables)

    def _piece(self, seed: int, first_path: int, n_paths: int, prices: bool) -> PathTable:
        results = outputs(self._layout, n_paths, prices)
        buffers = {name: self._device.zeros(array) for name, array in results.items()}
        places = {name: buffer.address for name, buffer in (self._buffers | buffers).items()}
        for launch in launches(self._layout, n_paths, self._device):
            self._device.launch(launch, self._layout.struct(places, seed, first_path, n_paths))
        for name, buffer in buffers.items():
            self._device.download(buffer, results[name])
        self._device.synchronize()
        return table(self._plan, first_path, results)

    def _fitting(self) -> int:
        """Paths at once that the free memory holds, prices not counted: few chunks have them, and they halve."""
        fixed = _bytes(self._layout, 0)
        each = max(_bytes(self._layout, FLOOR) - fixed, FLOOR) / FLOOR
        room = int((_SHARE * self._device.free_bytes() - fixed) / each) // 4 * 4
        return max(FLOOR, min(_LONGEST_CHUNK, room))

    def _too_small(self, what: str, needed: int) -> EnvironmentProblem:
        free = self._device.free_bytes()
        return EnvironmentProblem(
            f"engine cuda: device {self._device.number} ({self._device.name}) has no room for {what}: "
            f"{_mib(needed)} MiB needed, {_mib(free)} MiB free. End other programs that use it (nvidia-smi lists them), "
            f"or name a larger device with --devices. {WAY_OUT}"
        )


def _mib(n_bytes: int) -> str:
    return f"{int(np.ceil(n_bytes / 2**20)):,}"
