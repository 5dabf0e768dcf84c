"""What this installation can do, and what it lacks."""

from __future__ import annotations

import importlib.metadata
import platform

from . import __version__
from .engines import cuda_setup
from .engines.choice import ON_GPU, gpu_problem
from .engines.cuda_sources import dotted
from .errors import EnvironmentProblem
from .inputs.books import bundled_books

NEEDED = {
    "numpy": (2, 0),
    "pandas": (2, 2, 3),
    "pyarrow": (18,),
    "scipy": (1, 13),
    "pydantic": (2, 9),
    "click": (8, 1),
    "rich": (13,),
    "numba": (0, 61),
}
OPTIONAL = ("cupy-cuda12x", "cupy-cuda13x", "cuda-bindings", "cuda-toolkit", "numba-cuda-mlir", "numba-cuda")


def report() -> list[str]:
    """Lines about versions, engines and books."""
    lines = [f"gpuloan-mc {__version__}, Python {platform.python_version()} on {platform.machine()}"]
    lines += [f"{name} {_installed(name) or 'missing'}" for name in NEEDED]
    lines.append("engine numpy: usable")
    lines += _numba_lines()
    lines.append(_numbers_line())
    lines += _gpu_lines()
    lines.append(f"bundled books: {', '.join(bundled_books())}")
    return lines


def _numba_lines() -> list[str]:
    """The engine numba, and the folder of its machine code."""
    from .engines.cores import available_cores
    from .engines.numba_compile import cache_folder
    from .engines.numba_halves import is_warm

    try:
        folder = cache_folder()
    except EnvironmentProblem as error:
        return [f"engine numba: {error}"]
    cores = f"engine numba: usable, {available_cores()} cores"
    if folder is None:
        return [cores, "machine code of numba: no folder can be written; every run compiles again"]
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    state = "warm" if is_warm() else "cold: `gpuloan-mc warmup` fills it"
    return [cores, f"machine code of numba: {folder}, {size / 2**20:.1f} MiB, {state}"]


def _numbers_line() -> str:
    """The folder of numbers that were found before."""
    from . import kept_numbers

    place = kept_numbers.folder()
    if place is None:
        return "numbers found before: no folder can be written; every run finds them again"
    return f"numbers found before: {place}, {len(list(place.iterdir())):,} files"


def _gpu_lines() -> list[str]:
    """Driver, devices, compiler and the engines that need them."""
    machine = cuda_setup.look()
    lines = [f"{name} {version}" for name in OPTIONAL if (version := _installed(name))]
    if machine.driver is None:
        lines.append("no CUDA driver")
    else:
        lines.append(f"CUDA driver: up to CUDA {dotted(machine.driver.version)}")
        lines += [f"device {i}: {device}" for i, device in enumerate(machine.driver.devices)]
    lines.append(_compiler_line(machine))
    for name in ON_GPU:
        problem = gpu_problem(name)
        lines.append(f"engine {name}: usable" if problem is None else str(problem))
    return lines


def _compiler_line(machine: cuda_setup.Machine) -> str:
    try:
        compiler = machine.compiler()
    except EnvironmentProblem:
        return "NVRTC, CUDA's compiler: not installed"
    known = sorted(compiler.architectures)
    return f"NVRTC, CUDA's compiler: {dotted(compiler.version)}, for sm_{known[0]} to sm_{known[-1]}"


def gpu_findings(engine: str = "auto") -> list[str]:
    """What keeps the GPU from being used, where the user asked for one: by name, or by installing CuPy.

    Whoever hides every GPU ($CUDA_VISIBLE_DEVICES) does not ask for one.
    """
    if engine == "auto":
        machine = cuda_setup.look()
        engine = "cuda" if machine.cupy and not cuda_setup.is_hidden(machine) else "numba"
    problem = gpu_problem(engine)
    return [] if problem is None else [str(problem)]


def findings(engine: str = "auto") -> list[str]:
    """What must be mended, each with the command that does it; `engine`: the one that the user wants to run."""
    problems = []
    for name, least in NEEDED.items():
        found = _installed(name)
        wanted = ".".join(map(str, least))
        if found is None:
            problems.append(f"{name} is missing: pip install '{name}>={wanted}'")
        elif _numbers(found)[: len(least)] < least:
            problems.append(f"{name} is {found}, too old: pip install '{name}>={wanted}'")
    return problems + gpu_findings(engine)


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: 2.14.0rc1 is (2, 14, 0)."""
    numbers = []
    for part in version.split("."):
        digits = "".join(c for c in part if c.isdigit()) if part[:1].isdigit() else ""
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)
