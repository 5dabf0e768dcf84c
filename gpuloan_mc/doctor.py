"""What this installation can do, and what it lacks."""

from __future__ import annotations

import importlib.metadata
import platform

from . import __version__
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
COMING = ("cuda", "numba-cuda")


def report() -> list[str]:
    """Lines about versions, engines and books."""
    lines = [f"gpuloan-mc {__version__}, Python {platform.python_version()} on {platform.machine()}"]
    lines += [f"{name} {_installed(name) or 'missing'}" for name in NEEDED]
    lines.append("engine numpy: usable")
    lines += _numba_lines()
    lines += [f"engine {name}: not in this version" for name in COMING]
    lines.append(f"bundled books: {', '.join(bundled_books())}")
    return lines


def _numba_lines() -> list[str]:
    """The engine numba, and the folder of its machine code."""
    from .engines.numba_compile import cache_folder, is_warm
    from .engines.numba_cpu import available_cores

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


def findings() -> list[str]:
    """What must be mended, each with the command that does it."""
    problems = []
    for name, least in NEEDED.items():
        found = _installed(name)
        wanted = ".".join(map(str, least))
        if found is None:
            problems.append(f"{name} is missing: pip install '{name}>={wanted}'")
        elif _numbers(found)[: len(least)] < least:
            problems.append(f"{name} is {found}, too old: pip install '{name}>={wanted}'")
    return problems


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
