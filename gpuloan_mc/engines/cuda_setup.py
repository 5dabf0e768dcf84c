"""What the engine `cuda` needs of a machine, and what is wrong where it can't run: sentences with a way out.

CuPy is imported last, when all else fits: that takes seconds, and fails where it does not fit the driver.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from ..errors import EnvironmentProblem
from . import cuda_driver
from .cuda_driver import NO_DEVICE, PROHIBITED, DeviceFacts, Driver
from .cuda_sources import OLDEST, WAY_OUT, architecture, dotted, nvrtc
from .cuda_target import install_line

CUPY_PACKAGES = ("cupy-cuda11x", "cupy-cuda12x", "cupy-cuda13x", "cupy", "cupy-rocm-7-0")
_OF_CUDA = {12: "cupy-cuda12x", 13: "cupy-cuda13x"}
_DRIVERS = {12: 525, 13: 580}  # the first driver of each CUDA, as NVIDIA counts drivers
_DEVICE_NAME = re.compile(r"\d|GPU-|MIG-")  # how an entry of $CUDA_VISIBLE_DEVICES begins
_INIT = {
    3: ("the driver did not start", "Restart the process"),
    101: ("the driver names a device that is not there", "Look at $CUDA_VISIBLE_DEVICES, then at nvidia-smi"),
    802: ("the driver is not ready: on machines with NVSwitch its fabric manager must run",
          "Start it with: systemctl start nvidia-fabricmanager"),
    803: ("the driver's library and its kernel module are of different versions, as after an update",
          "Restart the machine"),
    804: ("the installed compatibility library does not fit this GPU", "Remove the package cuda-compat"),
    999: ("the driver does not start, often after the machine has slept or a GPU has failed",
          "Look at nvidia-smi; restart the machine or reload the module nvidia_uvm"),
}  # fmt: skip


class Compiler(Protocol):
    """What is asked of NVRTC here."""

    version: tuple[int, int]
    architectures: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Machine:
    """What the engine finds on a machine."""

    driver: Driver | None
    cupy: tuple[tuple[str, str], ...]  # packages that bring a module cupy, with versions

    def compiler(self) -> Compiler:
        """NVRTC.

        Raises:
            EnvironmentProblem: it is missing or broken.
        """
        return nvrtc()

    def import_cupy(self) -> Any:
        """CuPy.

        Raises:
            EnvironmentProblem: it is missing or broken.
        """
        return import_cupy()


def look() -> Machine:
    """This machine."""
    found = []
    for name in CUPY_PACKAGES:
        try:
            found.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return Machine(cuda_driver.load(), tuple(found))


@dataclass(frozen=True, slots=True)
class Finding:
    """Why the engine can't run, and what to do."""

    what: str
    way_out: str

    def __str__(self) -> str:
        return f"{self.what}. {self.way_out}."


def finding(machine: Machine, devices: Sequence[int] | None = None) -> Finding | None:
    """The first thing that keeps the engine from running on the devices (None: device 0)."""
    found = device_finding(machine, devices)
    unknown = partial(_unknown, wanted=devices or (0,))
    checks = (_several_cupys, _no_cupy, _no_compiler, _old_driver, unknown, _broken_cupy)
    return found or _first(machine, checks)


def device_finding(machine: Machine, devices: Sequence[int] | None = None) -> Finding | None:
    """The first thing that keeps any engine from using the devices, whatever packages are here."""
    wanted = devices or (0,)
    there, allowed = partial(_device_missing, wanted=wanted), partial(_prohibited, wanted=wanted)
    return _first(machine, (_no_driver, _does_not_start, _hidden, _no_device, there, allowed))


def _first(machine: Machine, checks: Sequence[Callable[[Machine], Finding | None]]) -> Finding | None:
    return next((found for check in checks if (found := check(machine)) is not None), None)


def problem(machine: Machine, devices: Sequence[int] | None = None) -> EnvironmentProblem | None:
    """The finding as the error of a run that asked for the engine."""
    found = finding(machine, devices)
    return None if found is None else EnvironmentProblem(f"engine cuda: {found} {WAY_OUT}")


def targets(machine: Machine, devices: Sequence[int] | None = None) -> list[str]:
    """The architectures of the devices, as in sm_90, each once; the machine has no finding."""
    known = machine.compiler().architectures
    found = (architecture(_driver(machine).devices[i].capability, known) for i in devices or (0,))
    return list(dict.fromkeys(target for target in found if target is not None))


def device_names(machine: Machine, devices: Sequence[int] | None = None) -> str:
    """The devices by name, in a line: 2 × NVIDIA H200."""
    names = [_driver(machine).devices[i].name for i in devices or (0,)]
    return " and ".join(n if names.count(n) == 1 else f"{names.count(n)} × {n}" for n in dict.fromkeys(names))


# --- driver and devices -----------------------------------------------------------------------------------------------


def _no_driver(machine: Machine) -> Finding | None:
    if machine.driver is not None:
        return None
    return Finding("no CUDA driver was found", "On a machine with an NVIDIA GPU, install NVIDIA's driver, 580 or later")


def _does_not_start(machine: Machine) -> Finding | None:
    status = _driver(machine).status
    if status in (0, NO_DEVICE):
        return None
    what, way_out = _INIT.get(status, ("the CUDA driver does not start", "Look at nvidia-smi"))
    return Finding(f"{what} (cuInit returned {status})", way_out)


def is_hidden(machine: Machine) -> bool:
    """Whether the environment hides every GPU: its list of devices is empty, or ends before the first."""
    driver = machine.driver
    if driver is None or driver.devices or driver.visible is None:
        return False
    return _DEVICE_NAME.match(driver.visible.strip()) is None


def _hidden(machine: Machine) -> Finding | None:
    if not is_hidden(machine):
        return None
    what = f"$CUDA_VISIBLE_DEVICES is {_driver(machine).visible!r}, which hides every GPU"
    return Finding(what, "Unset it: unset CUDA_VISIBLE_DEVICES")


def _no_device(machine: Machine) -> Finding | None:
    driver = _driver(machine)
    if driver.devices:
        return None
    named = "" if driver.visible is None else f" among those of $CUDA_VISIBLE_DEVICES, {driver.visible!r}"
    look_at = "Look at nvidia-smi; in a container, pass the GPUs in: --gpus all"
    return Finding(f"the CUDA driver sees no GPU{named}", look_at)


def _device_missing(machine: Machine, wanted: Sequence[int]) -> Finding | None:
    devices = _driver(machine).devices
    missing = [i for i in wanted if i >= len(devices)]
    if not missing:
        return None
    here = "; ".join(f"{i}: {d.name}" for i, d in enumerate(devices))
    return Finding(f"there is no device {missing[0]}; this process sees {here}", "Name others with --devices")


def _prohibited(machine: Machine, wanted: Sequence[int]) -> Finding | None:
    for number in wanted:
        device = _driver(machine).devices[number]
        if device.mode == PROHIBITED:
            return Finding(
                f"device {number}, {device.name}, is in compute mode 'prohibited'",
                "Name another with --devices, or ask whoever runs the machine to allow it: nvidia-smi -c DEFAULT",
            )
    return None


def _unknown(machine: Machine, wanted: Sequence[int]) -> Finding | None:
    """A device whose code NVRTC can't make."""
    compiler = machine.compiler()
    known = sorted(compiler.architectures)
    for number in wanted:
        device = _driver(machine).devices[number]
        if architecture(device.capability, compiler.architectures) is not None:
            continue
        if device.capability < OLDEST:
            return _too_old(number, device)
        what = f"{_capability(number, device)}, which NVRTC {dotted(compiler.version)} does not know"
        return Finding(
            f"{what}: it compiles for sm_{known[0]} to sm_{known[-1]}",
            f"Update it with: pip install --upgrade {_extra(compiler.version[0])}",
        )
    return None


def _capability(number: int, device: DeviceFacts) -> str:
    return f"device {number}, {device.name}, has compute capability {dotted(device.capability)}"


def _too_old(number: int, device: DeviceFacts) -> Finding:
    what = f"{_capability(number, device)}; the kernels need {dotted(OLDEST)} (Turing) or later"
    return Finding(what, "Name another device with --devices")


def _driver(machine: Machine) -> Driver:
    assert machine.driver is not None  # the first check
    return machine.driver


# --- packages ---------------------------------------------------------------------------------------------------------


def _extra(major: int) -> str:
    return f"'gpuloan-mc[cuda{min(max(major, 12), 13)}]'"


def _no_cupy(machine: Machine) -> Finding | None:
    if any(name != "cupy-rocm-7-0" for name, _ in machine.cupy):
        return None
    major = _driver(machine).version[0]
    if machine.cupy:
        return Finding("the installed CuPy is for AMD GPUs", f"{_uninstall(machine)}; pip install {_extra(major)}")
    return Finding("CuPy is not installed", f"Install it with: pip install {_extra(major)}")


def _several_cupys(machine: Machine) -> Finding | None:
    if len(machine.cupy) < 2:
        return None
    names = " and ".join(f"{name} {version}" for name, version in machine.cupy)
    major = _driver(machine).version[0]
    return Finding(
        f"{names} are installed together and overwrite each other's files",
        f"{_uninstall(machine)}; pip install {_extra(major)}",
    )


def _uninstall(machine: Machine) -> str:
    """The command that removes every CuPy that is here."""
    return f"pip uninstall -y {' '.join(name for name, _ in machine.cupy)}"


def _broken_cupy(machine: Machine) -> Finding | None:
    """A CuPy that is installed but can't be imported."""
    try:
        machine.import_cupy()
    except EnvironmentProblem as error:
        why = str(error).removeprefix("engine cuda: ").split(". Install it again with")[0]
        major = _driver(machine).version[0]
        return Finding(why, f"Install it again with: {_uninstall(machine)}; pip install {_extra(major)}")
    return None


def import_cupy() -> Any:
    """CuPy.

    Raises:
        EnvironmentProblem: it is missing or broken.
    """
    try:
        import cupy
    except Exception as error:  # a CuPy that fits neither NumPy nor the driver fails in many ways
        first = str(error).strip().strip("=").strip().split("\n")[0][:300]
        raise EnvironmentProblem(
            f"engine cuda: CuPy can't be imported ({type(error).__name__}: {first}). Install it again with: "
            f"pip install --force-reinstall 'gpuloan-mc[cuda13]', or [cuda12] for an older driver. {WAY_OUT}"
        ) from error
    return cupy


def _no_compiler(machine: Machine) -> Finding | None:
    try:
        machine.compiler()
    except EnvironmentProblem as error:
        why = str(error).removeprefix("engine cuda: ").split(". Install it with")[0]
        return Finding(why, f"Install it with: pip install --upgrade {_extra(_driver(machine).version[0])}")
    return None


def _old_driver(machine: Machine) -> Finding | None:
    """Code of a newer CUDA than the driver's does not load, whichever package brought it."""
    needs = {f"NVRTC {dotted(machine.compiler().version)}": machine.compiler().version[0]}
    needs |= {name: major for major, name in _OF_CUDA.items() if name in dict(machine.cupy)}
    what, major = max(needs.items(), key=lambda need: need[1])
    driver = _driver(machine)
    if driver.version[0] >= major:
        return None
    return _driver_too_old(driver, what, major, f"{_uninstall(machine)}; pip install {_extra(12)}")


def linker_finding(
    machine: Machine, package: str, linker: tuple[int, int] | None, devices: Sequence[int] | None = None
) -> Finding | None:
    """What keeps code that a package compiles from Python from being linked for the devices, which are there.

    `linker`: version of nvJitLink, None where there is none.
    """
    driver = _driver(machine)
    if linker is None:
        line = install_line(package, driver.version[0])
        return Finding(f"nvJitLink, which {package} links with, is missing or does not load", f"Install it with: {line}")
    for number in devices or (0,):
        if driver.devices[number].capability < OLDEST:
            return _too_old(number, driver.devices[number])
    if driver.version[0] >= linker[0]:
        return None
    return _driver_too_old(driver, f"nvJitLink {dotted(linker)}", linker[0], install_line(package, 12))


def _driver_too_old(driver: Driver, what: str, major: int, older: str) -> Finding:
    """`older`: the command that installs what CUDA 12 needs."""
    first = _DRIVERS.get(major, max(_DRIVERS.values()))
    return Finding(
        f"the driver is too old: it knows CUDA {dotted(driver.version)}, and {what} needs CUDA {major}",
        f"Update the driver to {first} or later" + (f", or use CUDA 12: {older}" if driver.version[0] >= 12 else ""),
    )


# --- while a device runs ----------------------------------------------------------------------------------------------

_WHILE_RUNNING = {
    35: ("the driver is too old for the installed packages", "`gpuloan-mc doctor --engine {engine}` says which versions fit"),
    46: ("the device is busy or unavailable: another process may hold it alone (compute mode 'exclusive')",
         "Wait until `nvidia-smi` shows it free, or name another with --devices"),
    100: ("the driver sees no GPU", "Look at nvidia-smi"),
    200: ("the compiled kernels are damaged", "Delete {cache} and run again"),
    209: ("the compiled kernels do not run on this GPU: {made_for}",
          "Update CUDA's compiler with: pip install --upgrade 'gpuloan-mc[cuda13]', or [cuda12] for an older driver"),
    214: ("the GPU reports a memory error that it could not correct", "Look at nvidia-smi -q -d ECC; use another device"),
    218: ("the compiled kernels are damaged", "Delete {cache} and run again"),
    222: ("the driver is too old for the code that the installed packages make",
          "Update the driver, or install the packages of its own CUDA: `gpuloan-mc doctor` says which it knows"),
    301: ("the compiled kernels are gone", "Run again"),
    702: ("a kernel ran into the display's time limit", "Use a smaller --chunk, or a device that drives no display"),
    719: ("the GPU stopped", "Look at nvidia-smi and the system's log; run again"),
    802: _INIT[802],
}  # fmt: skip


def while_running(
    status: int, text: str, number: int, cache: os.PathLike[str] | str, made_for: str = "", engine: str = "cuda"
) -> EnvironmentProblem | None:
    """The error behind a status of CUDA on a device; None where it is a bug of ours.

    `cache` is the file of the kernels, `made_for` says for which architecture they are and what the device is.
    """
    if status not in _WHILE_RUNNING:
        return None
    what, way_out = (part.format(made_for=made_for, cache=cache, engine=engine) for part in _WHILE_RUNNING[status])
    return EnvironmentProblem(f"engine {engine}: device {number}: {what} ({text}). {way_out}. {WAY_OUT}")
