"""The loops of the engine numba, compiled in two halves: at once in two processes where a core is idle.

`run_paths` calls `run_months` by its address, so neither half holds the other's code, and the cache keeps each by itself.
"""

from __future__ import annotations

import functools
import threading
import time
from typing import Any

from .cores import idle_cores
from .numba_child import CompilingChild, shared_child
from .numba_compile import Compiled, address_of, cache_folder, compiled, is_kept

HALVES = ("run_paths", "run_months")
_loops: dict[Any, Compiled] = {}
_lock = threading.Lock()


def is_warm() -> bool:
    """Whether the machine code of both halves is in the cache."""
    return all(map(is_kept, HALVES))


def is_cold() -> bool:
    """Whether the next run must wait for a compiler: this process has no machine code, and neither has the cache."""
    return not _loops and not is_warm()


def compiled_loops(signature: tuple[Any, ...], processes: int | None = None) -> Compiled:
    """The loops of the engine for arguments of these types, from the cache or compiled now.

    Args:
        signature: of `NumbaCpu.signature`.
        processes: that compile, 1 or 2; None: 2 where a core is idle.

    Raises:
        EnvironmentProblem: numba is missing, broken or can't compile here.
    """
    with _lock:
        if signature not in _loops:
            _loops[signature] = _compile(signature, processes)
        return _loops[signature]


def compile_months(signature: tuple[Any, ...]) -> Compiled:
    """The half that has the months of four paths."""
    from .numba_loops import run_months

    return compiled(run_months, _months_signature(signature), for_python=False)


def _months_signature(signature: tuple[Any, ...]) -> tuple[Any, ...]:
    from .numba_call import MONTHS_NUMBERS

    return (*signature[:3], *MONTHS_NUMBERS)  # book, work, paths


def _compile(signature: tuple[Any, ...], processes: int | None) -> Compiled:
    from numba import int64

    from .numba_loops import run_paths

    start = time.perf_counter()
    other = shared_child(may_begin=False)
    if other is not None:
        other.wait()  # it compiles the same for a run of this process
    helper = None
    if not is_warm() and cache_folder() is not None and (processes or 1 + idle_cores()) > 1:
        helper = CompilingChild.start("months")
    try:
        paths = compiled(run_paths, (int64, *signature))
        if helper is not None:
            helper.wait()  # whatever became of it: what it has not kept is compiled here, or fails here
    finally:
        if helper is not None:
            helper.end()
    months = compile_months(signature)
    entry = functools.partial(paths.entry, address_of(months, _months_signature(signature)))
    return Compiled(entry, time.perf_counter() - start, paths.was_cached and months.was_cached)
