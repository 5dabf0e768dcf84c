"""The engine cuda without a GPU: a fake device whose kernel is the reference engine. What the kernels do: tests/kernels/."""

from __future__ import annotations

import importlib.util
import itertools
import shutil
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from gpuloan_mc.engines import cuda_device, cuda_setup, cupy_raw
from gpuloan_mc.engines.base import joined
from gpuloan_mc.engines.cuda_layout import lay_out
from gpuloan_mc.engines.cupy_raw import FLOOR, CupyRaw
from gpuloan_mc.engines.numpy_reference import NumpyReference
from gpuloan_mc.errors import EnvironmentProblem
from gpuloan_mc.forecast import forecast
from gpuloan_mc.planning import build_plan
from gpuloan_mc.portfolio import Portfolio
from gpuloan_mc.simulation import simulate
from gpuloan_mc.totals import Totals


def load(file):
    """A module of the tests."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fake = load(Path(__file__).parent / "fake_device.py")


def same(one, other):
    for field in fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, Totals):
            same(a, b)
        elif a is not None or b is not None:
            assert np.array_equal(a, b), field.name


def two_gpus():
    """A machine with two GPUs."""
    facts = cuda_setup.cuda_driver.DeviceFacts("Fake 9000", (9, 0), 2**30)
    driver = cuda_setup.cuda_driver.Driver((13, 0), 0, (facts, facts))
    compiler = SimpleNamespace(version=(13, 5), architectures=(75, 90))
    return SimpleNamespace(driver=driver, cupy=(("cupy-cuda13x", "14.2.0"),), compiler=lambda: compiler, import_cupy=list)


@pytest.fixture
def plan(busy_book):
    world, portfolio = busy_book()
    return build_plan(portfolio, world)


@pytest.fixture
def engine(plan):
    """A function that makes the engine on devices of some bytes each."""

    def make(*n_bytes):
        kernels = fake.ReferenceKernels(plan)
        devices = [fake.FakeDevice(i, n, kernels) for i, n in enumerate(n_bytes)]
        made = CupyRaw(range(len(devices)), connect=lambda number: devices[number])
        made.devices = devices
        return made

    return make


@pytest.mark.parametrize("n_devices", [1, 2, 3])
@pytest.mark.parametrize("prices", [False, True])
def test_paths_over_devices_give_the_same_integers(engine, plan, n_devices, prices):
    cuda = engine(*[2**30] * n_devices)
    for first, n in ((0, 41), (3, 2), (2**32 - 3, 9)):
        same(cuda.run(plan, 5, first, n, prices=prices), NumpyReference().run(plan, 5, first, n, prices=prices))
    assert all(device.launches for device in cuda.devices)


def test_the_plan_is_copied_once_and_results_are_given_back(engine, plan):
    cuda = engine(2**30)
    cuda.run(plan, 1, 0, 8)
    cuda.run(plan, 1, 8, 8)
    (device,) = cuda.devices
    assert device.loaded == 1
    assert device.used == plan_bytes(plan) > 0
    names = [launch.kernel for launch in device.launches]
    assert names[: len(names) // 2] == names[len(names) // 2 :]


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_ranges_cover_all_paths_in_order(parts):
    for first, n in ((0, 1), (0, 5), (5, 30), (7, 4), (1, 1000)):
        ranges = cupy_raw._ranges(first, n, parts)
        assert ranges[0][0] == first
        assert ranges[-1][1] == first + n
        assert all(a < b for a, b in ranges)
        assert all(end == start for (_, end), (start, _) in itertools.pairwise(ranges))
        assert all(start % 4 == 0 for start, _ in ranges[1:])
        assert len(ranges) <= parts


def needed(plan, n_paths):
    """Bytes of so many paths beside the plan."""
    return cupy_raw.planned(plan, n_paths, 1, fake.SIZE).devices[0] - plan_bytes(plan)


def plan_bytes(plan):
    return sum(array.nbytes for array in lay_out(plan).arrays.values())


def test_a_chunk_is_what_fits_and_halves_where_it_does_not(engine, plan):
    cuda = engine(plan_bytes(plan) + 2 * needed(plan, 2048))
    most = cuda.longest_chunk(plan)
    assert most % 4 == 0
    assert 2048 < most < 4096
    device = cuda.devices[0]
    device.n_bytes = plan_bytes(plan) + needed(plan, most * 2 // 3)  # another program takes more than half
    same(cuda.run(plan, 5, 0, most + 1), NumpyReference().run(plan, 5, 0, most + 1))
    assert cuda.longest_chunk(plan) == most // 2 // 4 * 4
    assert len(device.launches) % 3 == 0
    assert device.most_used <= device.n_bytes


def test_no_room_for_a_few_paths_says_what_is_needed_and_free(engine, plan):
    cuda = engine(2**30)
    cuda.prepare(plan)
    cuda.devices[0].n_bytes = plan_bytes(plan) + needed(plan, FLOOR) - 1
    with pytest.raises(EnvironmentProblem) as refused:
        cuda.run(plan, 5, 0, 5000)
    assert cuda.longest_chunk(plan) == FLOOR
    mib = -(-needed(plan, FLOOR) // 2**20)
    room = f"device 0 (Fake 9000) has no room for 1,024 paths: {mib} MiB needed, {mib} MiB free"
    for part in (room, "nvidia-smi", "--devices"):
        assert part in str(refused.value)


def test_no_room_for_the_plan_says_what_is_needed_and_free(engine, plan):
    with pytest.raises(EnvironmentProblem, match="has no room for the plan: 1 MiB needed, 1 MiB free"):
        engine(plan_bytes(plan) - 1).prepare(plan)


def test_a_failing_device_stops_the_run(engine, plan):
    cuda = engine(2**30, 2**30)
    cuda.prepare(plan)

    def fails(*_):
        raise EnvironmentProblem("engine cuda: device 1: the GPU stopped")

    cuda.devices[1].kernel = fails
    with pytest.raises(EnvironmentProblem, match="the GPU stopped"):
        cuda.run(plan, 5, 0, 100)


def test_tables_of_neighbours_are_one(plan):
    reference = NumpyReference()
    parts = [reference.run(plan, 5, a, b - a, prices=True) for a, b in ((3, 10), (10, 11), (11, 40))]
    same(joined(parts), reference.run(plan, 5, 3, 37, prices=True))


# --- the kernels themselves, on the host ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def emulated():
    """simulate.cu built by g++."""
    if shutil.which("g++") is None:
        pytest.skip("there is no g++")
    return fake.emulated_kernels(load(Path(__file__).parents[1] / "kernels" / "emulated.py").library)


@pytest.mark.parametrize("book", ["vasicek-100", "neocloud-2024"])
def test_the_kernels_through_the_whole_engine(emulated, monkeypatch, book):
    monkeypatch.setattr(cuda_setup, "look", two_gpus)
    monkeypatch.setattr(cuda_device, "connect", lambda number: fake.FakeDevice(number, 2**30, emulated))
    portfolio = Portfolio.read(book)
    reference = simulate(portfolio, portfolio.market, n_paths=300, seed=9, engine="numba")
    for devices, chunk in ((None, None), ([1, 0], 77)):
        found = simulate(
            portfolio, portfolio.market, n_paths=300, seed=9, engine="cuda", devices=devices, chunk=chunk
        )
        assert (found.engine, found.digest) == ("cuda", reference.digest)
        assert np.array_equal(found.prices, reference.prices)
        same(found.by_loan, reference.by_loan)
        same(found.by_group, reference.by_group)


# --- from the outside -------------------------------------------------------------------------------------------------


@pytest.fixture
def gpu_machine(monkeypatch, plan):
    """This machine with two fake GPUs, and the engine's kernels by the reference."""
    monkeypatch.setattr(cuda_setup, "look", two_gpus)
    made = []

    def connect(number):
        made.append(fake.FakeDevice(number, 2**30, fake.ReferenceKernels(plan)))
        return made[-1]

    monkeypatch.setattr(cuda_device, "connect", connect)
    return made


def test_simulate_on_two_devices_has_the_same_digest(gpu_machine, busy_book):
    world, portfolio = busy_book()
    reference = simulate(portfolio, world, n_paths=100, seed=9, engine="numpy")
    for devices in (None, [0], [1], [1, 0]):
        found = simulate(portfolio, world, n_paths=100, seed=9, devices=devices)
        assert found.digest == reference.digest
        assert found.engine == "cuda"
    assert found.engine_reason == "auto: cuda, the fastest engine, on 2 × Fake 9000"
    assert np.array_equal(found.prices, reference.prices)
    assert [device.number for device in gpu_machine] == [0, 0, 1, 1, 0]


def test_a_forecast_on_a_gpu(gpu_machine, busy_book):
    world, portfolio = busy_book()
    found = forecast(portfolio, world, n_paths=300, engine="cuda", devices=[0, 1])
    assert len(found.device_bytes) == 2
    assert found.seconds is not None
    assert found.chunk == 300


def test_a_forecast_counts_as_many_paths_on_a_device_as_a_run_takes(engine, plan, monkeypatch, busy_book):
    world, portfolio = busy_book()
    cuda = engine(plan_bytes(plan) + 2 * needed(plan, 2048))
    monkeypatch.setattr(cuda_setup, "look", two_gpus)
    monkeypatch.setattr("gpuloan_mc.forecast.make_engine", lambda *_: cuda)
    found = forecast(portfolio, world, n_paths=30_000, engine="cuda", chunk=30_000)
    assert found.chunk == 30_000  # results of so many are kept on the host
    assert found.device_bytes == (plan_bytes(plan) + needed(plan, cuda.longest_chunk(plan)),)
    assert found.device_bytes[0] < cuda.devices[0].n_bytes
