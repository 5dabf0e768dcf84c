"""Compiling the numba engine once: the machine code is kept in a folder of its own for these sources and this CPU."""

from __future__ import annotations

import hashlib
import sys
import threading
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import EnvironmentProblem
from .code_cache import code_folder

_SOURCES = ("paths/*.py", "engines/numba_*.py", "reference/*.py", "plan.py")
_WAY_OUT = "engine 'numpy' (--engine numpy) gives the same figures, slowly"
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Compiled:
    """The engine's entry, and what it took to get it."""

    entry: Any
    seconds: float
    was_cached: bool


def import_numba() -> Any:
    """numba.

    Raises:
        EnvironmentProblem: it is missing or broken.
    """
    try:
        import numba
    except Exception as error:  # a numba that does not fit its NumPy fails in many ways
        raise EnvironmentProblem(
            f"engine numba: numba can't be imported ({type(error).__name__}: {error}). "
            f"Repair it with: pip install --upgrade 'numba>=0.61'; {_WAY_OUT}."
        ) from error
    return numba


@cache
def key() -> str:
    """Digest of what the machine code depends on: sources, numba, llvmlite, NumPy, Python and the CPU."""
    import llvmlite
    import llvmlite.binding as llvm
    import numpy as np

    numba = import_numba()
    sha = hashlib.sha256()
    package = Path(__file__).parent.parent
    for pattern in _SOURCES:
        for path in sorted(package.glob(pattern)):
            sha.update(path.name.encode() + path.read_bytes())
    parts = [numba.__version__, llvmlite.__version__, np.__version__, sys.version]
    parts += [llvm.get_process_triple(), llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()]
    config = numba.core.config
    parts += [str(config.CPU_NAME), str(config.CPU_FEATURES), str(config.OPT), str(config.LOOP_VECTORIZE)]
    sha.update("\n".join(parts).encode())
    return sha.hexdigest()[:20]


def cache_folder() -> Path | None:
    """Where the machine code is kept, made if need be; None where nothing can be written."""
    return code_folder(key())


def is_kept(entry: str) -> bool:
    """Whether the machine code of the entry of this name is in the cache."""
    folder = cache_folder()
    return folder is not None and any(folder.rglob(f"*.{entry}-*.nbc"))


_compiled: dict[Any, Compiled] = {}


def compiled(entry: Any, signature: tuple[Any, ...], *, for_python: bool = True) -> Compiled:
    """An entry of the engine for arguments of these types, from the cache or compiled now.

    Args:
        entry: the function.
        signature: numba's types of its arguments.
        for_python: False: only compiled code calls it, by its address.

    Raises:
        EnvironmentProblem: numba is missing, broken or can't compile here.
    """
    import_numba()
    with _lock:
        if (entry, signature) not in _compiled:
            _compiled[entry, signature] = _compile(entry, signature, for_python)
        return _compiled[entry, signature]


def address_of(entry: Compiled, signature: tuple[Any, ...]) -> int:
    """Where the machine code for arguments of these types lies in this process; it lies there as long as `entry` is kept."""
    overload = entry.entry.overloads[signature]
    return int(overload.library.get_pointer_to_function(overload.fndesc.llvm_func_name))


def no_compiling(why: str) -> EnvironmentProblem:
    """What is said where numba can't compile here."""
    folder = cache_folder()
    where = "" if folder is None else f" Its cache is {folder}: delete it if it is damaged."
    return EnvironmentProblem(f"engine numba can't be compiled here ({why}).{where} {_WAY_OUT}.")


def _compile(function: Any, signature: tuple[Any, ...], for_python: bool) -> Compiled:
    start = time.perf_counter()
    folder = cache_folder()
    try:
        entry = _dispatcher(function, folder, for_python)
        entry.compile(signature)
    except Exception as error:
        raise no_compiling(f"{type(error).__name__}: {str(error).strip()[:2000]}") from error
    was_cached = folder is not None and bool(sum(entry.stats.cache_hits.values()))
    return Compiled(entry, time.perf_counter() - start, was_cached)


def _dispatcher(function: Any, folder: Path | None, for_python: bool) -> Any:
    """The entry before it is compiled.

    numba asks for the folder once, when a function is decorated, and only from its configuration: set for that moment.
    """
    from numba import njit
    from numba.core import config

    options = {"nogil": True} if for_python else {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    if folder is None:
        return njit(error_model="numpy", **options)(function)
    before = config.CACHE_DIR
    config.CACHE_DIR = str(folder)
    try:
        return njit(error_model="numpy", cache=True, **options)(function)
    finally:
        config.CACHE_DIR = before
