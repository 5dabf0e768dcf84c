"""One GPU as the engine `cuda` uses it: a thin seam over CuPy, so that everything above it runs without a GPU in tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import EnvironmentProblem
from . import cuda_mapping
from .cuda_setup import import_cupy, while_running
from .cuda_sources import WAY_OUT, Nvrtc, architecture, cubin, dotted, nvrtc

FLOOR = 1024  # paths at once below which engines stop to halve them


class OutOfDeviceMemory(Exception):
    """An allocation that did not fit; the engine tries fewer paths."""


def no_room(
    engine: str, number: int, name: str, what: str, needed: int, free: int
) -> EnvironmentProblem:
    """The error where a device can't hold even the least."""
    return EnvironmentProblem(
        f"engine {engine}: device {number} ({name}) has no room for {what}: {_mib(needed)} MiB needed, {_mib(free)} MiB free. "
        f"End other programs that use it (nvidia-smi lists them), or name a larger device with --devices. {WAY_OUT}"
    )


def _mib(n_bytes: int) -> str:
    return f"{-(-n_bytes // 2**20):,}"


class Buffer(Protocol):
    """Memory of a device; freed with the object."""

    @property
    def address(self) -> int:
        """Where it lies on the device."""


class Device(Protocol):
    """What the engine asks of a device. Calls on one device come from one thread at a time."""

    number: int
    name: str
    size: cuda_mapping.Device

    def free_bytes(self) -> int:
        """Memory that can be had."""

    def load(self) -> None:
        """Compile the kernels, or load what was compiled before."""

    def upload(self, array: NDArray[Any]) -> Buffer:
        """A copy of an array on the device."""

    def allocate(self, buffer: cuda_mapping.Buffer) -> Buffer:
        """Memory of the buffer's size, zeros where it asks for them."""

    def launch(self, launch: cuda_mapping.Launch, *structs: bytes) -> None:
        """Start a kernel whose arguments are the structs, by value."""

    def download(self, buffer: Buffer, into: NDArray[Any]) -> None:
        """Copy a buffer into an array of its size, when the launches so far are done."""

    def synchronize(self) -> None:
        """Wait until all launches are done."""

    def mark(self) -> Any:
        """A point in the device's work, for `seconds`."""

    def seconds(self, start: Any, end: Any) -> float:
        """Time on the device from one mark to another."""


class CupyBuffer:
    """Memory from CuPy's pool."""

    def __init__(self, array: Any) -> None:
        self.array = array

    @property
    def address(self) -> int:
        """Where it lies on the device."""
        return int(self.array.data.ptr)


class CupyDevice:
    """A device through CuPy.

    Raises:
        EnvironmentProblem: CuPy can't be imported, or the device can't be used.
    """

    def __init__(self, number: int, compiler: Nvrtc | None = None) -> None:
        self._cupy = import_cupy()
        self.number = number
        self._cache: Path | str = "the cache of compiled kernels"
        self._made_for = ""
        with self._errors():
            facts = self._cupy.cuda.runtime.getDeviceProperties(number)
            self._cupy.cuda.runtime.memGetInfo()  # a context: a device that is held by another fails here
        self.name = facts["name"].decode(errors="replace")
        self.size = cuda_mapping.Device(
            multiprocessors=int(facts["multiProcessorCount"]),
            shared_bytes_a_block=int(facts["sharedMemPerBlockOptin"]),
            shared_bytes_a_multiprocessor=int(facts["sharedMemPerMultiprocessor"]),
            threads_a_multiprocessor=int(facts["maxThreadsPerMultiProcessor"]),
            blocks_a_cluster=cuda_mapping.CLUSTERS[-1] if int(facts["major"]) >= 9 else 1,
        )
        self._capability = int(facts["major"]), int(facts["minor"])
        self._compiler = compiler
        self._kernels: dict[str, Any] = {}

    def free_bytes(self) -> int:
        """Memory that can be had: what the driver has and CuPy's pool holds unused, within the pool's limit."""
        with self._errors():
            pool = self._cupy.get_default_memory_pool()
            free = int(self._cupy.cuda.runtime.memGetInfo()[0]) + int(pool.free_bytes())
            limit = int(pool.get_limit())
            return min(free, limit - int(pool.used_bytes())) if limit else free

    def load(self) -> None:
        """Compile the kernels for this device, or load what was compiled before; then `size` knows their registers.

        Raises:
            EnvironmentProblem: they can't be compiled or loaded.
        """
        if self._kernels:
            return
        target = architecture(self._capability, (self._compiler or nvrtc()).architectures)
        assert target is not None  # checked when the engine was chosen
        file = cubin(target).path
        self._cache = file
        self._made_for = f"they are for {target}, and its compute capability is {dotted(self._capability)}"
        with self._errors():
            module = self._cupy.RawModule(path=str(file))
            names = (*cuda_mapping.KERNELS, *cuda_mapping.cluster_kernels(self.size))
            kernels = {name: self._loaded(module, name) for name in names}
            blocks = {name: self._blocks(kernels[name], block) for name, block in cuda_mapping.WALK_THREADS.items()}
        self._kernels, self.size = kernels, replace(self.size, blocks=cuda_mapping.BLOCKS | blocks)

    def _loaded(self, module: Any, name: str) -> Any:
        """A kernel that may use all of a block's shared memory, loaded now: CuPy would do it at the first launch."""
        kernel = module.get_function(name)
        kernel.compile()
        kernel.max_dynamic_shared_size_bytes = self.size.shared_bytes_a_block - kernel.shared_size_bytes
        return kernel

    def _blocks(self, kernel: Any, threads: int) -> int:
        """Blocks of a kernel that a multiprocessor's registers and threads hold."""
        return int(self._cupy.cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor(kernel.kernel.ptr, threads, 0))

    def upload(self, array: NDArray[Any]) -> CupyBuffer:
        """A copy of an array on the device."""
        with self._errors():
            return CupyBuffer(self._cupy.asarray(np.ascontiguousarray(array)))

    def allocate(self, buffer: cuda_mapping.Buffer) -> CupyBuffer:
        """Memory of the buffer's size, zeros where it asks for them."""
        with self._errors():
            make = self._cupy.zeros if buffer.is_zeroed else self._cupy.empty
            return CupyBuffer(make(buffer.shape, buffer.dtype))

    def launch(self, launch: cuda_mapping.Launch, *structs: bytes) -> None:
        """Start a kernel whose arguments are the structs, by value."""
        with self._errors():
            # CuPy passes a NumPy array of one element by value
            arguments = tuple(np.frombuffer(s, dtype=np.dtype((np.void, len(s)))) for s in structs)
            self._kernels[launch.kernel](launch.grid, launch.block, arguments, shared_mem=launch.shared_bytes)

    def download(self, buffer: Any, into: NDArray[Any]) -> None:
        """Copy a buffer into an array of its size, when the launches so far are done."""
        with self._errors():
            buffer.array.get(out=into)

    def synchronize(self) -> None:
        """Wait until all launches are done."""
        with self._errors():
            self._cupy.cuda.get_current_stream().synchronize()

    def mark(self) -> Any:
        """A point in the device's work: a CUDA event."""
        with self._errors():
            event = self._cupy.cuda.Event()
            event.record()
            return event

    def seconds(self, start: Any, end: Any) -> float:
        """Time on the device from one mark to another."""
        with self._errors():
            end.synchronize()
            return float(self._cupy.cuda.get_elapsed_time(start, end)) / 1e3

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """The device is current; CUDA's errors become sentences."""
        cupy = self._cupy
        cuda = cupy.cuda
        try:
            with cuda.Device(self.number):
                yield
        except cuda.memory.OutOfMemoryError as error:
            with cuda.Device(self.number):  # the pool gives back what it holds on the current one
                cupy.get_default_memory_pool().free_all_blocks()
            raise OutOfDeviceMemory(str(error)) from error
        except (cuda.runtime.CUDARuntimeError, cuda.driver.CUDADriverError) as error:
            if error.status == 2:
                raise OutOfDeviceMemory(str(error)) from error
            text = str(error).split("\n")[0]
            problem = while_running(int(error.status), text, self.number, self._cache, self._made_for)
            if problem is None:
                raise
            raise problem from error


def connect(number: int) -> Device:
    """The device of this number; tests put another one here."""
    return CupyDevice(number)
