"""Engine `cuda`: the kernels of `kernels/` through CuPy. Path ranges over devices; sums stay on a device until a chunk ends."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..errors import EnvironmentProblem
from ..plan import Plan
from . import cuda_device, cuda_mapping
from .base import Footprint, PathTable, joined, table_bytes
from .cuda_device import FLOOR, Device, OutOfDeviceMemory, no_room
from .cuda_layout import Layout, lay_out
from .cuda_mapping import buffers, launches, run_struct, table

_FIRST_CHUNK = 16_384  # paths a device: enough to fill one, few enough for the first look at its pace
_LONGEST_CHUNK = 1_048_576  # paths a device
PLANNED_ON = cuda_mapping.Device(132, 227 * 1024, 228 * 1024, 2048, 8)  # an H200, where there is no device to ask
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
            self._plan, self._cards = None, []  # the last plan's memory, before any of this one's
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
        return planned(plan, chunk, len(self._cards), self._devices[0].size, min(c.most_paths for c in self._cards))

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


def planned(
    plan: Plan, chunk: int, n_devices: int, size: cuda_mapping.Device = PLANNED_ON, most_paths: int = _LONGEST_CHUNK
) -> Footprint:
    """Memory of a chunk: the plan and what its share of paths needs on each device, the results here. No device is asked.

    A device runs at most `most_paths` of its share at once; the chunk's results are kept here in full.
    """
    layout = lay_out(plan)
    fixed = sum(array.nbytes for array in layout.arrays.values())
    shares = (end - start for start, end in _ranges(0, chunk, n_devices))
    on_devices = tuple(fixed + _bytes(layout, min(n, most_paths), size) for n in shares)
    return Footprint(fixed + 2 * table_bytes(plan, chunk), on_devices)


def _bytes(layout: Layout, n_paths: int, size: cuda_mapping.Device, prices: bool = False) -> int:
    """Device memory of so many paths, beside the plan."""
    return sum(buffer.n_bytes for buffer in buffers(layout, n_paths, size, prices=prices).values())


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

    def __init__(self, device: Device, plan: Plan, layout: Layout) -> None:
        self._device, self._plan, self._layout = device, plan, layout
        device.load()
        self._plan_bytes = sum(array.nbytes for array in layout.arrays.values())
        try:
            self._buffers = {name: device.upload(array) for name, array in layout.arrays.items()}
        except OutOfDeviceMemory as error:
            raise self._too_small("the plan", self._plan_bytes) from error
        self._struct = layout.struct({name: buffer.address for name, buffer in self._buffers.items()})
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
                    raise self._too_small(f"{piece:,} paths", _bytes(self._layout, piece, self._device.size, prices)) from error
                self.most_paths = max(FLOOR, piece // 2 // 4 * 4)
                continue
            first += piece
        return joined(tables)

    def _piece(self, seed: int, first_path: int, n_paths: int, prices: bool) -> PathTable:
        wanted = buffers(self._layout, n_paths, self._device.size, prices=prices)
        memory = {name: self._device.allocate(buffer) for name, buffer in wanted.items()}
        places = {name: held.address for name, held in memory.items()}
        run = run_struct(self._layout, seed, first_path, n_paths, places, prices=prices)
        for launch in launches(self._layout, n_paths, self._device.size, prices=prices):
            self._device.launch(launch, self._struct, run)
        results = {name: np.empty(b.shape, b.dtype) for name, b in wanted.items() if b.is_output}
        for name, array in results.items():
            self._device.download(memory[name], array)
        self._device.synchronize()
        return table(self._plan, first_path, results, prices=prices)

    def _fitting(self) -> int:
        """Paths at once that the free memory holds, prices not counted: few chunks have them, and they halve."""
        size = self._device.size
        few, more = (_bytes(self._layout, n, size) for n in (_FIRST_CHUNK, 2 * _FIRST_CHUNK))
        each = max((more - few) / _FIRST_CHUNK, 1.0)
        room = _FIRST_CHUNK + (_SHARE * self._device.free_bytes() - few) / each
        return max(FLOOR, min(_LONGEST_CHUNK, int(room) // 4 * 4))

    def _too_small(self, what: str, needed: int) -> EnvironmentProblem:
        device = self._device
        return no_room("cuda", device.number, device.name, what, needed, device.free_bytes())
