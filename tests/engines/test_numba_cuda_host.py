"""The host side of the engine numba-cuda on a fake device: memory that runs out, errors of CUDA and of the compiler."""

from __future__ import annotations

import types
from dataclasses import replace

import numpy as np
import pytest

from gpuloan_mc.engines import choice, cuda_setup, cuda_target, numba_cuda
from gpuloan_mc.engines.cuda_driver import DeviceFacts, Driver
from gpuloan_mc.engines.cuda_target import CLASSIC, MLIR, Target
from gpuloan_mc.engines.numba_cuda import NumbaCuda
from gpuloan_mc.engines.numpy_reference import NumpyReference
from gpuloan_mc.errors import EnvironmentProblem
from gpuloan_mc.planning import build_plan

REFERENCE = NumpyReference()


class CudaAPIError(Exception):
    """As either package has it."""

    def __init__(self, code, text="CUDA says no"):
        super().__init__(code, text)
        self.code = code

    def __str__(self):
        return f"[{self.code}] {self.args[1]}"


class FakeArray:
    """Memory of the device, given back with the object."""

    def __init__(self, device, array):
        self.device, self.array, self.nbytes = device, array, array.nbytes
        device.used += array.nbytes
        device.most_used = max(device.most_used, device.used)

    def __del__(self):
        self.device.used -= self.nbytes

    def copy_to_host(self):
        return self.array.copy()


class FakeCuda:
    """A device of `n_bytes` and a kernel that is the reference engine; `fails` maps the n-th launch to its error."""

    def __init__(self, n_bytes=2**40):
        self.n_bytes, self.used, self.most_used, self.launches, self.fails, self.puts = n_bytes, 0, 0, [], {}, 0
        self.fails_at_put = 0
        self.plan = None

    def select_device(self, number):
        self.number = number

    def get_current_device(self):
        return types.SimpleNamespace(MULTIPROCESSOR_COUNT=2, name=b"Fake 9000")

    def current_context(self):
        free = self.n_bytes - self.used
        return types.SimpleNamespace(get_memory_info=lambda: types.SimpleNamespace(free=free))

    def to_device(self, array):
        self.puts += 1
        if self.used + array.nbytes > self.n_bytes or self.puts == self.fails_at_put:
            raise CudaAPIError(2, "out of memory")
        return FakeArray(self, array.copy())

    def __getitem__(self, size):
        return self.launch

    def launch(self, book, work, results, seed, first_path, n_paths):
        self.launches.append(int(n_paths))
        if error := self.fails.get(len(self.launches)):
            raise error()  # anew: an error that is kept would keep what its frames hold
        found = REFERENCE.events(self.plan, int(seed), int(first_path) + np.arange(int(n_paths)))
        rows = np.stack([found.path, found.loan, found.month, found.cause, found.ead, found.loss], axis=1)
        results.n_events.array[0] = len(rows)
        place = results.events.array
        place[: len(rows)] = rows[: len(place)]


@pytest.fixture
def cuda(monkeypatch):
    """The fake device, where the engine looks for a real one."""
    fake = FakeCuda()
    monkeypatch.setattr(numba_cuda, "load_target", lambda: Target(MLIR, fake, None, False))
    monkeypatch.setattr(numba_cuda, "make_kernel", lambda target: fake)
    monkeypatch.setattr(numba_cuda, "_FIRST_EVENTS", 8)
    monkeypatch.setattr(numba_cuda, "FLOOR", 8)
    return fake


@pytest.fixture
def plan(cuda, busy_book):
    world, portfolio = busy_book()
    cuda.plan = build_plan(portfolio, world)
    return cuda.plan


def held(cuda, plan):
    """Bytes of the plan and of one block's paths in flight."""
    NumbaCuda().prepare(plan)
    return cuda.most_used


def test_the_fake_device_gives_the_reference_s_integers(cuda, plan):
    found = NumbaCuda().run(plan, 3, 5, 60)
    np.testing.assert_array_equal(found.loss, REFERENCE.run(plan, 3, 5, 60).loss)
    assert cuda.launches[0] == 60


def test_fewer_paths_are_in_flight_where_memory_is_short(cuda, plan, monkeypatch):
    monkeypatch.setattr(NumbaCuda, "_blocks_in_flight", lambda *_: 16)
    whole = held(cuda, plan)
    monkeypatch.setattr(NumbaCuda, "_blocks_in_flight", lambda *_: 1)
    cuda.most_used = 0
    least = held(cuda, plan)
    monkeypatch.setattr(NumbaCuda, "_blocks_in_flight", lambda *_: 16)
    cuda.n_bytes = (whole + least) // 2
    engine = NumbaCuda()
    engine.prepare(plan)
    assert engine._n_blocks in (4, 8)
    np.testing.assert_array_equal(engine.run(plan, 3, 0, 40).loss, REFERENCE.run(plan, 3, 0, 40).loss)


@pytest.mark.parametrize("what, share", [("the plan", 0.01), ("a block's paths", 0.999)])
def test_too_little_memory_for_the_least_is_a_sentence(cuda, plan, monkeypatch, what, share):
    monkeypatch.setattr(NumbaCuda, "_blocks_in_flight", lambda *_: 1)
    cuda.n_bytes = int(share * held(cuda, plan))
    with pytest.raises(EnvironmentProblem, match=rf"engine numba-cuda: device 0 \(Fake 9000\) has no room for {what}") as told:
        NumbaCuda().prepare(plan)
    assert "MiB needed, " in str(told.value)
    assert "MiB free" in str(told.value)


@pytest.mark.parametrize("n", range(1, 13))
def test_an_allocation_that_fails_changes_no_figure(cuda, plan, n):
    """The n-th from the first launch on."""
    engine = NumbaCuda()
    engine.prepare(plan)
    cuda.fails_at_put = cuda.puts + n
    np.testing.assert_array_equal(engine.run(plan, 3, 0, 100).loss, REFERENCE.run(plan, 3, 0, 100).loss)


def test_launches_halve_down_to_a_floor(cuda, plan):
    engine = NumbaCuda()
    engine.prepare(plan)
    cuda.fails = {k: lambda: CudaAPIError(2, "out of memory") for k in range(1, 4)}
    np.testing.assert_array_equal(engine.run(plan, 3, 0, 100).loss, REFERENCE.run(plan, 3, 0, 100).loss)
    assert cuda.launches[:4] == [100, 50, 25, 12]
    assert max(cuda.launches[3:]) <= 12  # what did not fit is not tried again
    cuda.fails = {k: lambda: CudaAPIError(2, "out of memory") for k in range(1, 100)}
    cuda.launches.clear()
    held, cuda.n_bytes = cuda.used, cuda.used + 7 * 2**20
    with pytest.raises(EnvironmentProblem, match=r"no room for 8 paths: 1 MiB needed, 7 MiB free.*nvidia-smi"):
        engine.run(plan, 3, 0, 100)
    assert cuda.launches == [12, 8]
    assert cuda.used == held


@pytest.mark.parametrize(
    "status, parts",
    [
        (46, ["device 0: the device is busy or unavailable", "--devices"]),
        (214, ["memory error that it could not correct", "nvidia-smi -q -d ECC"]),
        (222, ["the driver is too old for the code", "gpuloan-mc doctor"]),
    ],
)
def test_an_error_of_cuda_is_a_sentence(cuda, plan, status, parts):
    engine = NumbaCuda()
    engine.prepare(plan)
    cuda.fails = {1: lambda: CudaAPIError(status)}
    with pytest.raises(EnvironmentProblem) as told:
        engine.run(plan, 3, 0, 10)
    for part in ["engine numba-cuda: ", f"([{status}] CUDA says no)", "--engine numba", *parts]:
        assert part in str(told.value)


def test_an_illegal_address_is_a_bug_of_ours(cuda, plan):
    cuda.fails = {1: lambda: CudaAPIError(700)}
    with pytest.raises(CudaAPIError):
        NumbaCuda().run(plan, 3, 0, 10)


def test_a_compiler_that_fails_is_a_sentence(cuda, plan, monkeypatch):
    monkeypatch.setattr(numba_cuda, "installed_version", lambda name: "0.6.0")
    cuda.fails = {1: lambda: ValueError("ptxas: no such option\nmore")}
    engine = NumbaCuda()
    with pytest.raises(
        EnvironmentProblem, match=r"numba-cuda-mlir 0.6.0 can't compile the kernel \(ValueError: ptxas: no such option\)"
    ):
        engine.run(plan, 3, 0, 10)
    engine.run(plan, 3, 0, 10)
    cuda.fails = {len(cuda.launches) + 1: lambda: ValueError("a bug of ours")}
    with pytest.raises(ValueError, match="a bug"):
        engine.run(plan, 3, 0, 10)


# --- whether it can run -----------------------------------------------------------------------------------------------


H100 = DeviceFacts("NVIDIA H100", (9, 0), 80 * 2**30, 0)
MACHINE = cuda_setup.Machine(Driver((13, 1), 0, (H100,)), ())


@pytest.mark.parametrize(
    "driver, linker, package, parts",
    [
        ((13, 1), (13, 5), MLIR, []),
        ((13, 1), (12, 9), CLASSIC, []),
        ((13, 1), None, MLIR, ["nvJitLink, which numba-cuda-mlir links with, is missing", "pip install 'numba-cuda-mlir[cu13]'"]),
        ((12, 8), None, CLASSIC, ["nvJitLink", "pip install 'numba-cuda[cu12]'"]),
        (
            (12, 8), (13, 5), MLIR,
            ["knows CUDA 12.8, and nvJitLink 13.5 needs CUDA 13", "580 or later, or use CUDA 12: pip install 'numba-cuda-mlir"],
        ),
        ((11, 4), (12, 9), MLIR, ["knows CUDA 11.4, and nvJitLink 12.9 needs CUDA 12", "525 or later."]),
    ],
)  # fmt: skip
def test_the_driver_must_know_the_linker_s_cuda(monkeypatch, driver, linker, package, parts):
    machine = replace(MACHINE, driver=replace(MACHINE.driver, version=driver))
    monkeypatch.delenv(cuda_target.SIMULATOR, raising=False)
    monkeypatch.setattr(cuda_setup, "look", lambda: machine)
    monkeypatch.setattr(cuda_target, "choose_package", lambda **_: package)
    monkeypatch.setattr(cuda_target, "linker_version", lambda: linker)
    problem = choice.gpu_problem("numba-cuda")
    assert (problem is None) == (not parts)
    for part in parts:
        assert part in str(problem)
    name, reason = choice.choose_engine("auto")
    assert name == ("numba" if parts else "numba-cuda")
    assert parts or reason.startswith("auto: numba-cuda")
    for part in parts:
        assert part in reason


def test_an_old_device_is_refused(monkeypatch):
    volta = replace(MACHINE, driver=Driver((13, 1), 0, (replace(H100, name="Tesla V100", capability=(7, 0)),)))
    found = cuda_setup.linker_finding(volta, MLIR, (13, 5))
    assert "Tesla V100, has compute capability 7.0; the kernels need 7.5" in str(found)


def test_the_linker_is_asked_for_its_version(monkeypatch):
    import sys

    linker = types.SimpleNamespace(version=lambda: (13, 5))
    monkeypatch.setitem(sys.modules, "cuda", types.SimpleNamespace())
    monkeypatch.setitem(sys.modules, "cuda.bindings", types.SimpleNamespace(nvjitlink=linker))
    assert cuda_target.linker_version() == (13, 5)
    linker.version = lambda: (_ for _ in ()).throw(RuntimeError("libnvJitLink.so not found"))
    assert cuda_target.linker_version() is None
