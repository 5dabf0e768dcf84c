"""What keeps the GPU engines from running: every message, with fake drivers and packages. No GPU, driver or CuPy is needed."""

from __future__ import annotations

import json
import sys
import uuid
from dataclasses import dataclass, replace

import pytest

from gpuloan_mc import cli, doctor
from gpuloan_mc.arguments import device_numbers
from gpuloan_mc.engines import choice, cuda_driver, cuda_setup, cuda_sources, cuda_target
from gpuloan_mc.engines.cuda_driver import DeviceFacts, Driver
from gpuloan_mc.errors import EnvironmentProblem, UsageError
from gpuloan_mc.portfolio import Portfolio
from gpuloan_mc.simulation import simulate

H200 = DeviceFacts("NVIDIA H200", (9, 0), 141 * 2**30)
CUPY = (("cupy-cuda13x", "14.2.0"),)


@dataclass(frozen=True)
class Compiler:
    """NVRTC as a fake."""

    version: tuple[int, int] = (13, 5)
    architectures: tuple[int, ...] = (75, 80, 86, 89, 90, 100, 103, 120, 121)


@dataclass(frozen=True)
class Machine(cuda_setup.Machine):
    """A machine with a fake compiler; None: it is missing."""

    nvrtc: Compiler | None = Compiler()
    broken_cupy: str = ""

    def compiler(self):
        if self.nvrtc is None:
            raise EnvironmentProblem(
                "engine cuda: NVRTC, CUDA's compiler, can't be loaded (ImportError: no such library). Install it with: x."
            )
        return self.nvrtc

    def import_cupy(self):
        if self.broken_cupy:
            raise EnvironmentProblem(f"engine cuda: {self.broken_cupy}. Install it again with: x.")


GOOD = Machine(Driver((13, 1), 0, (H200,)), CUPY)


def driver(**changes):
    return replace(GOOD, driver=replace(GOOD.driver, **changes))


def device(**changes):
    return driver(devices=(replace(H200, **changes),))


MESSAGES = {
    "no driver": (Machine(None, CUPY), ["no CUDA driver was found", "NVIDIA's driver, 580"]),
    "no GPU": (driver(status=100, devices=()), ["sees no GPU", "nvidia-smi", "--gpus all"]),
    "broken CuPy": (
        replace(GOOD, broken_cupy="CuPy can't be imported (ImportError: no libcudart.so.13)"),
        ["can't be imported (ImportError: no libcudart.so.13)", "uninstall -y cupy-cuda13x; pip install 'gpuloan-mc[cuda13]'"],
    ),
    "none of those named": (
        driver(status=100, devices=(), visible="0"), ["sees no GPU among those of $CUDA_VISIBLE_DEVICES, '0'", "nvidia-smi"],
    ),
    "a list that ends at once": (driver(status=100, devices=(), visible="-1"), ["is '-1', which hides every GPU"]),
    "hidden": (driver(status=100, devices=(), visible=""), ["CUDA_VISIBLE_DEVICES is ''", "unset CUDA_VISIBLE_DEVICES"]),
    "mismatch": (driver(status=803, devices=()), ["different versions", "803", "Restart the machine"]),
    "compatibility": (driver(status=804, devices=()), ["compatibility library", "cuda-compat"]),
    "fabric": (driver(status=802, devices=()), ["fabric manager", "systemctl start nvidia-fabricmanager"]),
    "failed": (driver(status=999, devices=()), ["does not start", "999", "nvidia_uvm"]),
    "unknown": (driver(status=12345, devices=()), ["does not start", "12345", "nvidia-smi"]),
    "no CuPy": (replace(GOOD, cupy=()), ["CuPy is not installed", "pip install 'gpuloan-mc[cuda13]'"]),
    "no CuPy, CUDA 12": (
        replace(driver(version=(12, 8)), cupy=()), ["CuPy is not installed", "pip install 'gpuloan-mc[cuda12]'"],
    ),
    "two CuPys": (
        replace(GOOD, cupy=(("cupy-cuda12x", "13.6.0"), *CUPY)),
        ["cupy-cuda12x 13.6.0 and cupy-cuda13x 14.2.0", "pip uninstall -y cupy-cuda12x cupy-cuda13x; pip install"],
    ),
    "AMD": (replace(GOOD, cupy=(("cupy-rocm-7-0", "14.0.0"),)), ["for AMD GPUs", "pip uninstall -y cupy-rocm-7-0"]),
    "no compiler": (replace(GOOD, nvrtc=None), ["NVRTC", "no such library", "pip install --upgrade 'gpuloan-mc[cuda13]'"]),
    "old driver": (
        driver(version=(12, 8)),
        ["too old: it knows CUDA 12.8, and NVRTC 13.5 needs CUDA 13", "580 or later", "pip install 'gpuloan-mc[cuda12]'"],
    ),
    "old driver, CuPy of no CUDA's name": (
        replace(driver(version=(12, 8)), cupy=(("cupy", "14.2.0"),)), ["or use CUDA 12: pip uninstall -y cupy; pip install"],
    ),
    "old driver for CuPy": (
        replace(driver(version=(12, 8)), nvrtc=Compiler((12, 9))), ["knows CUDA 12.8, and cupy-cuda13x needs CUDA 13"],
    ),
    "very old driver": (
        replace(driver(version=(11, 4)), cupy=(("cupy-cuda12x", "14.0.0"),), nvrtc=Compiler((12, 9))),
        ["knows CUDA 11.4", "needs CUDA 12", "525 or later."],
    ),
    "old GPU": (device(name="Tesla V100", capability=(7, 0)), ["Tesla V100", "capability 7.0", "7.5 (Turing) or later"]),
    "new GPU": (
        device(name="NVIDIA X", capability=(15, 0)),
        ["capability 15.0", "NVRTC 13.5 does not know: it compiles for sm_75 to sm_121", "pip install --upgrade"],
    ),
    "prohibited": (device(mode=cuda_driver.PROHIBITED), ["compute mode 'prohibited'", "--devices"]),
}  # fmt: skip


@pytest.mark.parametrize("name", MESSAGES)
def test_what_is_wrong_is_a_sentence_with_a_way_out(name):
    machine, parts = MESSAGES[name]
    text = str(cuda_setup.problem(machine))
    assert text.startswith("engine cuda: ")
    assert "--engine numba" in text
    assert ".." not in text
    for part in parts:
        assert part in text


def test_a_good_machine_has_no_finding():
    assert cuda_setup.finding(GOOD) is None
    assert cuda_setup.finding(device(capability=(12, 1))) is None
    assert cuda_setup.finding(device(capability=(12, 2))) is None  # runs the code of 12.1
    twelve = replace(driver(version=(12, 8)), cupy=(("cupy-cuda12x", "14.0.0"),), nvrtc=Compiler((12, 9)))
    assert cuda_setup.finding(twelve) is None


def test_a_device_that_is_not_there_is_named_with_those_that_are():
    text = str(cuda_setup.problem(GOOD, [0, 3]))
    assert "no device 3; this process sees 0: NVIDIA H200" in text
    assert "--devices" in text


def test_each_named_device_is_checked():
    two = driver(devices=(H200, replace(H200, name="Tesla P4", capability=(6, 1))))
    assert cuda_setup.finding(two) is None
    assert "device 1, Tesla P4" in str(cuda_setup.finding(two, [0, 1]))


@pytest.mark.parametrize(
    "capability, target",
    [((7, 5), "sm_75"), ((8, 0), "sm_80"), ((8, 8), "sm_86"), ((8, 7), None),
     ((9, 0), "sm_90"), ((10, 3), "sm_103"), ((12, 2), "sm_121"),
     ((7, 0), None), ((11, 0), None)],
)  # fmt: skip
def test_code_runs_on_the_same_major_and_a_later_minor(capability, target):
    assert cuda_sources.architecture(capability, Compiler().architectures) == target


@pytest.mark.parametrize(
    "capability, target", [((10, 3), "sm_100"), ((10, 1), "sm_101"), ((8, 7), "sm_87"), ((8, 9), "sm_86"), ((11, 0), None)]
)
def test_code_of_tegra_boards_is_theirs_alone(capability, target):
    """As CUDA 12.8 knows architectures: 10.3 is later than 10.1, a board, and runs the code of 10.0."""
    assert cuda_sources.architecture(capability, (75, 80, 86, 87, 90, 100, 101, 120)) == target


@pytest.mark.parametrize(
    "status, parts",
    [
        (46, ["busy or unavailable", "nvidia-smi"]),
        (200, ["damaged", "Delete /cache/k.cubin"]),
        (209, ["do not run on this GPU: they are for sm_80", "pip install --upgrade"]),
        (214, ["memory error", "nvidia-smi -q -d ECC"]),
        (702, ["time limit", "--chunk"]),
        (719, ["the GPU stopped"]),
        (35, ["too old for the installed packages", "doctor --engine cuda"]),
    ],
)
def test_what_fails_while_a_device_runs_is_a_sentence(status, parts):
    text = str(cuda_setup.while_running(status, "cudaErrorX: x", 2, "/cache/k.cubin", "they are for sm_80"))
    for part in ("engine cuda: device 2", "cudaErrorX", *parts):
        assert part in text


def test_an_illegal_address_is_a_bug_of_ours():
    assert cuda_setup.while_running(700, "cudaErrorIllegalAddress", 0, "") is None


# --- the driver's library ---------------------------------------------------------------------------------------------


class Library:
    """libcuda as a fake: functions that fill what they are given."""

    def __init__(self, status=0, number=13010, devices=(H200,)):
        self.status, self.number, self.devices = status, number, devices

    def cuInit(self, flags):
        return self.status

    def cuDriverGetVersion(self, version):
        version._obj.value = self.number
        return 0

    def cuDeviceGetCount(self, count):
        count._obj.value = len(self.devices)
        return 0

    def cuDeviceGet(self, handle, number):
        handle._obj.value = number
        return 0

    def cuDeviceGetName(self, name, size, handle):
        name.value = self.devices[handle.value].name.encode()
        return 0

    def cuDeviceTotalMem_v2(self, n_bytes, handle):
        n_bytes._obj.value = self.devices[handle.value].n_bytes
        return 0

    def cuDeviceGetAttribute(self, value, which, handle):
        facts = self.devices[handle.value]
        value._obj.value = {75: facts.capability[0], 76: facts.capability[1], 20: facts.mode}[which]
        return 0

    def cuDeviceGetUuid_v2(self, found, handle):
        found.raw = uuid.UUID(self.devices[handle.value].uuid.removeprefix("GPU-")).bytes
        return 0


def test_the_driver_is_asked_through_its_library():
    numbers = [f"GPU-{uuid.UUID(int=n)}" for n in (5, 6)]
    two = (replace(H200, uuid=numbers[0]), DeviceFacts("NVIDIA L4", (8, 9), 24 * 2**30, cuda_driver.EXCLUSIVE, numbers[1]))
    assert cuda_driver.ask(Library(devices=two)) == Driver((13, 1), 0, two)
    assert numbers[0] == "GPU-00000000-0000-0000-0000-000000000005"
    assert cuda_driver.ask(Library(status=100), "-1") == Driver((13, 1), 100, (), "-1")
    assert str(two[1]) == "NVIDIA L4, sm_89, 24,576 MiB"


def test_no_library_is_no_driver(monkeypatch):
    monkeypatch.setattr(cuda_driver, "_library", lambda: None)
    assert cuda_driver.load() is None


# --- choosing ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def here(monkeypatch):
    """A function that makes this machine another one."""

    def become(machine):
        monkeypatch.setattr(cuda_setup, "look", lambda: machine)

    return become


def test_auto_prefers_cuda_and_says_on_what(here):
    here(GOOD)
    assert choice.choose_engine("auto") == ("cuda", "auto: cuda, the fastest engine, on NVIDIA H200")
    here(driver(devices=(H200, H200)))
    assert choice.choose_engine("auto", [0, 1])[1].endswith("on 2 × NVIDIA H200")


def test_auto_says_why_it_is_not_cuda(here, monkeypatch):
    here(Machine(None, ()))
    assert choice.choose_engine("auto") == ("numba", "auto: numba; no CUDA driver was found")
    monkeypatch.setattr(choice, "_numba_cuda_problem", lambda machine: EnvironmentProblem("engine numba-cuda: missing"))
    here(replace(GOOD, cupy=()))
    name, reason = choice.choose_engine("auto")
    assert name == "numba"
    assert reason == (
        "auto: numba; a GPU is here, but engine cuda: CuPy is not installed. Install it with: pip install 'gpuloan-mc[cuda13]'. "
        "And engine numba-cuda: missing"
    )
    monkeypatch.setattr(choice, "_numba_cuda_problem", lambda machine: None)
    name, reason = choice.choose_engine("auto")
    assert name == "numba-cuda"
    assert reason.startswith("auto: numba-cuda; engine cuda: CuPy is not installed")


def test_the_reason_is_in_the_manifest(here, tmp_path):
    here(Machine(None, ()))
    portfolio = Portfolio.read("vasicek-100")
    simulate(portfolio, portfolio.market, n_paths=20, out=tmp_path / "out")
    found = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert found["engine_reason"] == "auto: numba; no CUDA driver was found"


def test_an_engine_that_is_named_is_never_replaced(here):
    here(Machine(None, ()))
    for engine, devices in (("cuda", None), ("cuda", [0]), ("auto", [0])):
        with pytest.raises(EnvironmentProblem, match="no CUDA driver was found"):
            choice.choose_engine(engine, devices)
    with pytest.raises(EnvironmentProblem, match="engine numba-cuda"):
        choice.choose_engine("numba-cuda")  # package or driver: whichever is missing


@pytest.mark.parametrize("devices", [[], "0", [0, 0], [-1], [1.5], [True], 0])
def test_devices_are_different_numbers(devices):
    with pytest.raises(UsageError, match="device"):
        device_numbers(devices)


def test_numba_cuda_needs_a_package_and_a_device(here, monkeypatch):
    def none(**_):
        raise EnvironmentProblem("engine numba-cuda: neither is installed")

    here(GOOD)
    monkeypatch.setattr(cuda_target, "choose_package", none)
    assert "neither is installed" in str(choice.gpu_problem("numba-cuda"))
    monkeypatch.setattr(cuda_target, "choose_package", lambda **_: "numba-cuda-mlir")
    monkeypatch.setattr(cuda_target, "linker_version", lambda: (13, 5))
    assert choice.gpu_problem("numba-cuda") is None
    assert "compute mode 'prohibited'" in str(cuda_setup.device_finding(device(mode=cuda_driver.PROHIBITED)))
    here(Machine(None, ()))
    assert str(choice.gpu_problem("numba-cuda")).startswith("engine numba-cuda: no CUDA driver was found")


def test_devices_are_for_gpus():
    with pytest.raises(UsageError, match="devices are for GPU engines"):
        choice.choose_engine("numba", [0])
    with pytest.raises(UsageError, match="uses one device"):
        choice.choose_engine("numba-cuda", [0, 1])
    with pytest.raises(UsageError, match="on a GPU; leave workers away"):
        choice.make_engine("cuda", 2)


# --- doctor and command line ------------------------------------------------------------------------------------------


def command(monkeypatch, *arguments):
    """Exit code of a command run in this process."""
    monkeypatch.setattr(sys, "argv", ["gpuloan-mc", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code


def test_a_machine_without_a_gpu_is_well(here, monkeypatch, capsys):
    here(Machine(None, ()))
    assert command(monkeypatch, "doctor") == 0
    shown = capsys.readouterr().out
    assert "no CUDA driver\n" in shown
    assert "all is well" in shown


def test_whoever_asked_for_a_gpu_hears_what_is_missing(here, monkeypatch, capsys):
    here(Machine(None, ()))
    assert command(monkeypatch, "doctor", "--engine", "cuda") == 4
    assert "problem: engine cuda: no CUDA driver was found" in capsys.readouterr().err
    here(Machine(None, CUPY))  # who installs CuPy asks for a GPU
    assert command(monkeypatch, "doctor") == 4
    assert command(monkeypatch, "doctor", "--engine", "numba") == 0
    here(driver(status=100, devices=(), visible=""))  # who hides every GPU does not
    assert command(monkeypatch, "doctor") == 0


def test_doctor_shows_driver_devices_and_compiler(here, monkeypatch):
    here(GOOD)
    lines = doctor.report()
    assert "CUDA driver: up to CUDA 13.1" in lines
    assert "device 0: NVIDIA H200, sm_90, 144,384 MiB" in lines
    assert "NVRTC, CUDA's compiler: 13.5, for sm_75 to sm_121" in lines
    assert "engine cuda: usable" in lines
    assert doctor.gpu_findings("cuda") == []


def test_run_with_an_engine_that_cannot_run_exits_4(here, monkeypatch, capsys):
    here(Machine(None, ()))
    assert command(monkeypatch, "run", "vasicek-100", "--engine", "cuda") == 4
    assert "no CUDA driver was found" in capsys.readouterr().err
    assert command(monkeypatch, "run", "vasicek-100", "--devices", "0,x") == 2
    assert command(monkeypatch, "run", "vasicek-100", "--engine", "numba", "--devices", "0") == 2


def test_warmup_compiles_for_each_architecture(here, monkeypatch, capsys, tmp_path):
    asked = []

    def cubin(target):
        asked.append(target)
        return cuda_sources.Cubin(tmp_path / target, 1.5, False)

    monkeypatch.setattr(cuda_sources, "cubin", cubin)
    here(driver(devices=(H200, H200, DeviceFacts("NVIDIA L4", (8, 9), 2**34))))
    assert command(monkeypatch, "warmup", "--engine", "cuda", "--devices", "0,1,2") == 0
    assert asked == ["sm_90", "sm_89"]
    assert "compiled after 1.5 s" in capsys.readouterr().out
    here(Machine(None, ()))
    assert command(monkeypatch, "warmup", "--engine", "cuda") == 4
