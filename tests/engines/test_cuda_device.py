"""The seam to CuPy, with a fake CuPy: what is passed to it, and how its errors are told."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from gpuloan_mc.engines import cuda_device, cuda_mapping, cuda_sources
from gpuloan_mc.engines.cuda_device import CupyDevice, OutOfDeviceMemory
from gpuloan_mc.engines.cuda_mapping import Buffer, Launch
from gpuloan_mc.errors import EnvironmentProblem

PROPERTIES = {
    "name": b"Fake 9000", "major": 9, "minor": 0, "multiProcessorCount": 132, "sharedMemPerBlockOptin": 232_448,
    "sharedMemPerMultiprocessor": 233_472, "maxThreadsPerMultiProcessor": 2048,
}  # fmt: skip


class CUDARuntimeError(RuntimeError):
    def __init__(self, status, text="cudaErrorX: x"):
        super().__init__(text)
        self.status = status


class CUDADriverError(CUDARuntimeError):
    pass


class OutOfMemoryError(MemoryError):
    pass


class Array:
    """cupy.ndarray."""

    def __init__(self, array):
        self.array = array
        self.data = SimpleNamespace(ptr=array.ctypes.data)

    def get(self, out):
        out[...] = self.array


class Kernel:
    """cupy.RawKernel."""

    max_dynamic_shared_size_bytes = 48 * 1024
    shared_size_bytes = 32  # static

    def __init__(self):
        self.calls, self.is_compiled = [], False
        self.kernel = SimpleNamespace(ptr=4711)

    def compile(self):
        self.is_compiled = True

    def __call__(self, grid, block, arguments, *, shared_mem):
        self.calls.append((grid, block, arguments, shared_mem))


class Context:
    """cupy.cuda.Device; `current` are the numbers of those that are entered."""

    current: ClassVar[list[int]] = []

    def __init__(self, number):
        self.number = number

    def __enter__(self):
        self.current.append(self.number)

    def __exit__(self, *_):
        self.current.pop()


@pytest.fixture
def cupy(monkeypatch, tmp_path):
    """A fake CuPy; `fail` is what the next look at memory raises, `freed` on which devices the pool gave memory back."""
    clusters = [f"simulate_cluster_{n}" for n in cuda_mapping.CLUSTERS]
    kernels = {name: Kernel() for name in (*cuda_mapping.KERNELS, *clusters)}
    freed = []
    pool = SimpleNamespace(
        limit=0, free_bytes=lambda: 100, used_bytes=lambda: 300, get_limit=lambda: pool.limit,
        free_all_blocks=lambda: freed.extend(Context.current),
    )
    module = SimpleNamespace(fail=None, kernels=kernels, pool=pool, loaded=[], freed=freed)

    def memory():
        if module.fail is not None:
            raise module.fail
        return 1000, 5000

    def raw_module(path):
        module.loaded.append(path)
        return SimpleNamespace(get_function=kernels.__getitem__)

    runtime = SimpleNamespace(
        getDeviceProperties=lambda number: PROPERTIES, memGetInfo=memory, CUDARuntimeError=CUDARuntimeError
    )
    module.cuda = SimpleNamespace(
        Device=Context, runtime=runtime,
        driver=SimpleNamespace(
            CUDADriverError=CUDADriverError,
            occupancyMaxActiveBlocksPerMultiprocessor=lambda pointer, threads, shared: 512 // threads,
        ),
        memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
    )  # fmt: skip
    module.get_default_memory_pool = lambda: pool
    module.RawModule = raw_module
    module.asarray, module.zeros = (lambda a: Array(a.copy())), (lambda shape, dtype: Array(np.zeros(shape, dtype)))
    module.empty = lambda shape, dtype: Array(np.full(shape, 7, dtype))
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.setattr(cuda_device, "cubin", lambda target: cuda_sources.Cubin(tmp_path / f"{target}.cubin", 0.0, True))
    return module


@pytest.fixture
def device(cupy):
    made = CupyDevice(0, SimpleNamespace(architectures=(75, 86, 90)))
    made.load()
    return made


def test_it_knows_what_the_mapping_asks(device):
    assert device.name == "Fake 9000"
    assert (device.size.multiprocessors, device.size.shared_bytes_a_block) == (132, 232_448)
    assert (device.size.shared_bytes_a_multiprocessor, device.size.threads_a_multiprocessor) == (233_472, 2048)


def test_the_machine_code_of_its_architecture_is_loaded_once(device, cupy, tmp_path):
    device.load()
    assert cupy.loaded == [str(tmp_path / "sm_90.cubin")]


def test_loading_leaves_nothing_for_the_first_launch(device, cupy):
    for kernel in cupy.kernels.values():
        assert kernel.is_compiled
        assert kernel.max_dynamic_shared_size_bytes == 232_448 - 32


def test_blocks_of_a_multiprocessor_are_asked_of_the_driver(device):
    assert device.size.blocks["simulate_pair_128"] == 2  # the launch bound says 3 on another GPU
    assert device.size.blocks["simulate_block_256"] == 2
    assert set(device.size.blocks) == set(cuda_mapping.BLOCKS)


def test_structs_are_passed_by_value(device, cupy):
    device.launch(Launch("draw_ahead", (3, 2, 1), (128, 1, 1), 1000), b"one", b"three")
    ((grid, block, arguments, shared),) = cupy.kernels["draw_ahead"].calls
    assert (grid, block, shared) == ((3, 2, 1), (128, 1, 1), 1000)
    assert [(a.size, a.itemsize, a.tobytes()) for a in arguments] == [(1, 3, b"one"), (1, 5, b"three")]


def test_arrays_go_there_and_back(device):
    array = np.arange(6, dtype=np.int32).reshape(2, 3)
    buffer, back = device.upload(array), np.empty((2, 3), np.int32)
    device.download(buffer, back)
    assert np.array_equal(back, array)
    assert buffer.address > 0
    for is_zeroed, value in ((True, 0), (False, 7)):
        into = np.empty(4, np.int64)
        device.download(device.allocate(Buffer((4,), np.dtype(np.int64), is_zeroed, True)), into)
        assert into.tolist() == [value] * 4


def test_free_memory_counts_the_pool_and_its_limit(device, cupy):
    assert device.free_bytes() == 1100
    cupy.pool.limit = 800
    assert device.free_bytes() == 500


@pytest.mark.parametrize("error", [OutOfMemoryError("x"), CUDARuntimeError(2), CUDADriverError(2)])
def test_no_memory_is_no_message_yet(device, cupy, error):
    cupy.fail = error
    with pytest.raises(OutOfDeviceMemory):
        device.free_bytes()


def test_the_pool_of_the_device_that_is_full_is_emptied(cupy):
    second = CupyDevice(1, SimpleNamespace(architectures=(90,)))
    cupy.fail = OutOfMemoryError("x")
    with pytest.raises(OutOfDeviceMemory):
        second.free_bytes()
    assert cupy.freed == [1]


def test_kernels_for_another_gpu_are_told_with_both(device, cupy):
    cupy.fail = CUDADriverError(209, "CUDA_ERROR_NO_BINARY_FOR_GPU")
    with pytest.raises(EnvironmentProblem, match=r"for sm_90, and its compute capability is 9.0 .*pip install --upgrade"):
        device.free_bytes()


def test_a_device_held_by_another_process_is_told_at_the_start(cupy):
    cupy.fail = CUDARuntimeError(46, "cudaErrorDevicesUnavailable: busy")
    with pytest.raises(EnvironmentProblem, match=r"device 3: the device is busy or unavailable.*nvidia-smi"):
        CupyDevice(3)


def test_damaged_code_is_told_with_its_file(device, cupy, tmp_path):
    cupy.fail = CUDADriverError(200, "CUDA_ERROR_INVALID_IMAGE")
    with pytest.raises(EnvironmentProblem, match="damaged") as told:
        device.free_bytes()
    assert f"Delete {tmp_path / 'sm_90.cubin'}" in str(told.value)


def test_a_bug_stays_a_bug(device, cupy):
    cupy.fail = CUDARuntimeError(700)
    with pytest.raises(CUDARuntimeError):
        device.free_bytes()


def test_a_cupy_that_cannot_be_imported_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(EnvironmentProblem, match=r"CuPy can't be imported .*pip install --force-reinstall"):
        CupyDevice(0)
