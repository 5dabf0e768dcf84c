"""A device without a GPU: memory of a stated size, and kernels that are functions of the host.

`ReferenceKernels` puts the reference engine in the place of layout, mapping and kernels, so that all of the engine's own
work can be tested anywhere: ranges, pieces, memory, messages.
"""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import dataclass, fields
from types import SimpleNamespace

import numpy as np

from gpuloan_mc.engines.base import PathTable
from gpuloan_mc.engines.cuda_device import OutOfDeviceMemory
from gpuloan_mc.engines.numpy_reference import NumpyReference
from gpuloan_mc.totals import Totals

_COLUMNS = ("loss", "discounted_loss", "defaulted_balance", "largest_loss", "defaults")
_CAUSES = ("loan_cause_defaults", "loan_cause_loss")


class FakeBuffer:
    """A part of the device's memory; given back when it is no longer used."""

    def __init__(self, device, array, address):
        self.device, self.array, self.address = device, array, address
        device.used += array.nbytes

    def __del__(self):
        self.device.used -= self.array.nbytes
        self.device.memory.pop(self.address, None)


class FakeDevice:
    """A device with `n_bytes` of memory whose launches call `kernel(device, launch, struct)`."""

    def __init__(self, number=0, n_bytes=2**30, kernel=None):
        self.number, self.n_bytes, self.kernel = number, n_bytes, kernel
        self.name, self.n_multiprocessors, self.shared_bytes_a_block = "Fake 9000", 4, 227 * 1024
        self.used, self.most_used, self.memory, self.launches, self.loaded = 0, 0, {}, [], 0
        self._addresses = itertools.count(4096, 4096)

    def free_bytes(self):
        return self.n_bytes - self.used

    def load(self):
        self.loaded += 1

    def _buffer(self, array):
        if array.nbytes > self.free_bytes():
            raise OutOfDeviceMemory(f"{array.nbytes} bytes of {self.free_bytes()}")
        buffer = FakeBuffer(self, array, next(self._addresses))
        self.memory[buffer.address] = array
        self.most_used = max(self.most_used, self.used)
        return buffer

    def upload(self, array):
        return self._buffer(np.array(array))

    def zeros(self, array):
        return self._buffer(np.zeros(array.shape, array.dtype))

    def launch(self, launch, struct):
        assert isinstance(struct, bytes)
        self.launches.append(launch)
        self.kernel(self, launch, struct)

    def download(self, buffer, into):
        into[...] = buffer.array

    def synchronize(self):
        pass

    def mark(self):
        return time.perf_counter()

    def seconds(self, start, end):
        return end - start


@dataclass
class ReferenceKernels:
    """Layout, mapping and kernel of a plan by the reference engine."""

    plan: object
    extra_bytes: int = 0  # of the plan on the device

    def lay_out(self, plan):
        assert plan is self.plan
        return SimpleNamespace(arrays={"plan": np.zeros(self.extra_bytes, np.uint8)}, struct=self.struct)

    @staticmethod
    def struct(places, seed, first_path, n_paths):
        return json.dumps([places, seed, first_path, n_paths]).encode()

    @staticmethod
    def launches(layout, n_paths, device):
        return [SimpleNamespace(kernel="paths", grid=(n_paths,), block=(128,), shared_bytes=0)]

    def outputs(self, layout, n_paths, prices):
        sample = flat(empty(self.plan))
        columns = {name: np.zeros(n_paths, sample[name].dtype) for name in _COLUMNS}
        totals = {name: np.zeros_like(array) for name, array in sample.items() if name not in columns}
        if prices:
            market = self.plan.market
            shape = (n_paths, int(market.horizon) + 1, 2, len(market.demand_beta))
            totals["prices"] = np.zeros(shape, np.float32)
        return columns | totals

    def kernel(self, device, launch, struct):
        places, seed, first_path, n_paths = json.loads(struct)
        assert launch.grid == (n_paths,)
        table = NumpyReference().run(self.plan, seed, first_path, n_paths, prices="prices" in places)
        for name, array in flat(table).items():
            device.memory[places[name]][...] = array

    @staticmethod
    def table(plan, first_path, results):
        totals = {
            part: Totals(**{f.name: results[f"{part}.{f.name}"] for f in fields(Totals)}) for part in ("by_loan", "by_group")
        }
        rest = {name: results[name] for name in (*_COLUMNS, *_CAUSES)}
        return PathTable(first_path=first_path, **rest, **totals, prices=results.get("prices"))

    def install(self, monkeypatch):
        """Put them in the place of the engine's own."""
        from gpuloan_mc.engines import cupy_raw

        for name in ("lay_out", "launches", "outputs", "table"):
            monkeypatch.setattr(cupy_raw, name, getattr(self, name))


def empty(plan):
    return NumpyReference().run(plan, 0, 0, 1)


def flat(table):
    """The arrays of a table by name."""
    found = {name: getattr(table, name) for name in (*_COLUMNS, *_CAUSES)}
    for part in ("by_loan", "by_group"):
        totals = getattr(table, part)
        found |= {f"{part}.{f.name}": getattr(totals, f.name) for f in fields(Totals)}
    return found if table.prices is None else found | {"prices": table.prices}
