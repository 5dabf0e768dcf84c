"""Which package compiles Python for the GPU: numba-cuda-mlir, else numba-cuda, else a refusal that says what to install."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import EnvironmentProblem

MLIR, CLASSIC = "numba-cuda-mlir", "numba-cuda"
INSTALL = "pip install 'numba-cuda-mlir[cu13]'"
INSTALL_CLASSIC = "pip install 'numba-cuda[cu13]<0.31' 'numpy<2.5'"
SIMULATOR = "NUMBA_ENABLE_CUDASIM"
_WAY_OUT = "engine 'numba' (--engine numba) gives the same figures on the CPU"

Versions = Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Target:
    """A CUDA target: its module and the one of NVIDIA's device functions, which the simulator has not."""

    package: str
    cuda: Any
    libdevice: Any
    simulated: bool

    def put(self, array: Any) -> Any:
        """The array on the device. In the simulator arrays stay what they are: wrapped ones cost a lock an access."""
        return array if self.simulated else self.cuda.to_device(array)

    def get(self, array: Any) -> Any:
        """The array on the host, when all that was asked for is done."""
        return array if self.simulated else array.copy_to_host()


def installed_version(package: str) -> str | None:
    """Version of an installed package, None: it is missing."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def linker_version() -> tuple[int, int] | None:
    """Version of nvJitLink, which makes a GPU's code of what either package compiles; None: it is not here."""
    try:
        from cuda.bindings import nvjitlink

        major, minor = nvjitlink.version()
    except Exception:  # no package, no library, one that does not load: each its own type
        return None
    return int(major), int(minor)


def is_simulated() -> bool:
    """Whether numba was told to interpret CUDA kernels; it looks once, when it is imported."""
    return os.environ.get(SIMULATOR, "0") not in ("", "0")


def choose_package(version: Versions = installed_version, simulated: bool = False) -> str:
    """Name of the package that compiles.

    Raises:
        EnvironmentProblem: none of them is here, or it does not go with this NumPy.
    """
    if version(MLIR) is not None and not simulated:
        return MLIR
    if version(CLASSIC) is None:
        raise EnvironmentProblem(_nothing_usable(version, simulated))
    numpy = version("numpy") or "0"
    if _numbers(numpy) >= (2, 5):
        mend = INSTALL_CLASSIC if simulated else INSTALL
        raise EnvironmentProblem(
            f"engine numba-cuda: {CLASSIC} {version(CLASSIC)} fails with NumPy {numpy}, it needs one below 2.5. "
            f"Mend it with: {mend}; {_WAY_OUT}."
        )
    return CLASSIC


def install_line(package: str, major: int) -> str:
    """The command that installs a package with its parts of CUDA."""
    return f"pip install '{package}[cu{min(max(major, 12), 13)}]'"


def _nothing_usable(version: Versions, simulated: bool) -> str:
    if simulated:
        return (
            f"engine numba-cuda: the simulator (${SIMULATOR}) belongs to {CLASSIC}. Install it with: {INSTALL_CLASSIC}"
        )
    reason = f"neither {MLIR} nor {CLASSIC} is installed"
    if version("numba") is not None:
        reason += ", and the CUDA target that numba brings itself crashes on NVIDIA drivers from 580 on"
    return f"engine numba-cuda: {reason}. Install one with: {INSTALL}; {_WAY_OUT}."


def _numbers(version: str) -> tuple[int, ...]:
    """The first two numbers of a version."""
    return tuple(int("".join(c for c in part if c.isdigit()) or 0) for part in version.split(".")[:2])


def load_target() -> Target:
    """The target of this process.

    Raises:
        EnvironmentProblem: no package is usable, or the one that is here can't be imported.
    """
    simulated = is_simulated()
    package = choose_package(simulated=simulated)
    name = {MLIR: "numba_cuda_mlir.cuda", CLASSIC: "numba.cuda"}[package]
    try:
        cuda = importlib.import_module(name)
        libdevice = None if simulated else importlib.import_module(f"{name}.libdevice")
    except Exception as error:  # a package that does not fit its CUDA or NumPy fails in many ways
        raise EnvironmentProblem(
            f"engine numba-cuda: {package} {installed_version(package)} can't be imported "
            f"({type(error).__name__}: {error}). Repair it with: {INSTALL}; {_WAY_OUT}."
        ) from error
    return Target(package, cuda, libdevice, simulated)
