"""Which engine runs: an argument, never a setting, and never another one than was asked for."""

from __future__ import annotations

from ..errors import UsageError
from .base import Engine

ENGINES = ("auto", "numba", "numpy")
DEFAULT_PATHS = {"numba": 100_000, "numpy": 10_000}


def choose_engine(engine: str) -> tuple[str, str]:
    """Name of the engine that runs, and why that one.

    Raises:
        UsageError: no such engine.
    """
    if engine not in ENGINES:
        raise UsageError(f"engine is {engine!r}; it must be one of {', '.join(ENGINES)}")
    if engine == "auto":
        return "numba", "auto: numba, the fastest engine on a CPU"
    return engine, "asked for"


def default_paths(name: str) -> int:
    """Paths of a run that names none."""
    return DEFAULT_PATHS[name]


def make_engine(name: str, workers: int | None) -> Engine:
    """The engine of this name.

    Raises:
        EnvironmentProblem: it can't run on this machine.
        UsageError: workers for the engine that has none.
    """
    if name == "numba":
        from .numba_cpu import NumbaCpu

        return NumbaCpu(workers)
    if workers is not None and workers > 1:
        raise UsageError("the engine numpy runs on one core; leave workers away or use engine numba")
    from .numpy_reference import NumpyReference

    return NumpyReference()
