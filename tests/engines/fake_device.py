"""A device without a GPU: memory of a stated size, and kernels that are functions of the host.

`ReferenceKernels` puts the reference engine in the place of the kernels, so that everything around them can be tested
anywhere: layout, structs, ranges, pieces, memory, messages. The kernels' own tests are in tests/kernels/.
"""

from __future__ import annotations

import threading
import time

import numpy as np

from gpuloan_mc.engines.cuda_device import OutOfDeviceMemory
from gpuloan_mc.engines.cuda_layout import lay_out
from gpuloan_mc.engines.cuda_mapping import Device, buffers, run_type
from gpuloan_mc.engines.numpy_reference import NumpyReference
from gpuloan_mc.paths import tally

SIZE = Device(multiprocessors=4, shared_bytes_a_block=227 * 1024, shared_bytes_a_multiprocessor=228 * 1024)
COLUMNS = ("loss", "discounted_loss", "defaulted_balance", "largest_loss", "defaults")


class FakeBuffer:
    """A part of the device's memory; given back when it is no longer used."""

    def __init__(self, device, array, address):
        self.device, self.array, self.address = device, array, address
        device.used += array.nbytes

    def __del__(self):
        self.device.used -= self.array.nbytes
        self.device.memory.pop(self.address, None)


class FakeDevice:
    """A device with `n_bytes` of memory whose launches call `kernel(device, launch, plan, run)`."""

    def __init__(self, number=0, n_bytes=2**30, kernel=None):
        self.number, self.n_bytes, self.kernel = number, n_bytes, kernel
        self.name, self.size = "Fake 9000", SIZE
        self.used, self.most_used, self.memory, self.launches, self.loaded = 0, 0, {}, [], 0

    def free_bytes(self):
        return self.n_bytes - self.used

    def load(self):
        self.loaded += 1

    def _buffer(self, shape, dtype, fill):
        n_bytes = int(np.prod(shape)) * dtype.itemsize
        if n_bytes > self.free_bytes():
            raise OutOfDeviceMemory(f"{n_bytes} bytes of {self.free_bytes()}")
        raw = np.full(n_bytes + 64, fill, np.uint8)
        start = -raw.ctypes.data % 64  # as device memory begins
        array = raw[start : start + n_bytes].view(dtype).reshape(shape)
        buffer = FakeBuffer(self, array, raw.ctypes.data + start)
        self.memory[buffer.address] = array
        self.most_used = max(self.most_used, self.used)
        return buffer

    def upload(self, array):
        buffer = self._buffer(array.shape, array.dtype, 0)
        buffer.array[...] = array
        return buffer

    def allocate(self, buffer):
        # nobody may count on memory that nobody has set
        return self._buffer(buffer.shape, buffer.dtype, 0 if buffer.is_zeroed else 0x55)

    def launch(self, launch, *structs):
        assert all(isinstance(struct, bytes) for struct in structs)
        self.launches.append(launch)
        self.kernel(self, launch, *structs)

    def download(self, buffer, into):
        into[...] = buffer.array

    def synchronize(self):
        pass

    def mark(self):
        return time.perf_counter()

    def seconds(self, start, end):
        return end - start


def emulated_kernels(library):
    """The kernels of simulate.cu as g++ compiles them; `library`: of tests/kernels/emulated.py."""

    one_at_a_time = threading.Lock()  # the emulation has one device, engines a thread for each of theirs

    def kernel(device, launch, plan, run):
        width = (launch.grid[0], launch.grid[1], launch.block[0], launch.shared_bytes)
        with one_at_a_time:
            assert library().launch(launch.kernel.encode(), *width, plan, run, 0) == 0, launch.kernel

    return kernel


class ReferenceKernels:
    """Kernels of a plan by the reference engine: the last one of a run writes all outputs."""

    def __init__(self, plan):
        self.plan = plan
        layout = lay_out(plan)
        self.plan_bytes = len(layout.struct({}))
        self.run_type = run_type(list(buffers(layout, 1, SIZE)))

    def __call__(self, device, launch, plan, run):
        assert len(plan) == self.plan_bytes
        if launch.kernel != "close_paths":
            return
        asked = np.frombuffer(run, self.run_type)[0]
        paths = (int(asked["seed"]), int(asked["first_path"]), int(asked["n_paths"]))
        table = NumpyReference().run(self.plan, *paths, prices=bool(asked["prices"]))
        found = {name: getattr(table, name) for name in COLUMNS}
        found["by_loan"] = loan_rows(table)
        found["by_group"] = group_rows(table.by_group)
        if table.prices is not None:
            found["prices"] = table.prices
        for name, array in found.items():
            device.memory[int(asked[name])][...] = array


def group_rows(totals):
    """Rows of sums as paths/tally.py has them."""
    rows = np.zeros((len(totals.defaults), tally.GROUP_COLUMNS), np.int64)
    rows[:, tally.D], rows[:, tally.D_SQUARED] = totals.defaults, totals.defaults_squared
    for place, digits in ((tally.E, totals.ead), (tally.L, totals.loss)):
        rows[:, place : place + 2] = digits[:2].T
    for place, digits in (
        (tally.E_SQUARED, totals.ead_squared), (tally.E_L, totals.ead_loss), (tally.L_SQUARED, totals.loss_squared),
    ):  # fmt: skip
        rows[:, place : place + 2] = digits[:2].T
        rows[:, tally.HIGH + place : tally.HIGH + place + 2] = digits[2:].T
    return rows


def loan_rows(table):
    """Rows of loans: defaults and loss by cause in the place of their sums."""
    rows = np.zeros((len(table.by_loan.defaults), tally.LOAN_COLUMNS), np.int64)
    rows[:, : tally.BY_CAUSE] = group_rows(table.by_loan)[:, : tally.BY_CAUSE]
    high = slice(tally.HIGH + tally.E_SQUARED, tally.HIGH + tally.L_SQUARED + 2)
    rows[:, high] = group_rows(table.by_loan)[:, high]
    by_cause = np.stack([table.loan_cause_defaults, *table.loan_cause_loss[:2]], axis=-1)
    rows[:, tally.CAUSE_COLUMNS] = by_cause.reshape(len(rows), -1)
    return rows
