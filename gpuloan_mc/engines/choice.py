"""Which engine runs: an argument, never a setting, and never another one than was asked for."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import EnvironmentProblem, UsageError
from . import cuda_setup
from .base import Engine, EventEngine
from .cuda_sources import WAY_OUT

ENGINES = ("auto", "cuda", "numba-cuda", "numba", "numpy")
ON_GPU = ("cuda", "numba-cuda")
DEFAULT_PATHS = {"cuda": 1_000_000, "numba-cuda": 1_000_000, "numba": 100_000, "numpy": 10_000}


def choose_engine(engine: str, devices: Sequence[int] | None = None) -> tuple[str, str]:
    """Name of the engine that runs, and why that one.

    Raises:
        UsageError: no such engine, or devices for one that has none.
        EnvironmentProblem: the engine that was asked for can't run on this machine; says what is missing.
    """
    name, reason, problem = consider_engine(engine, devices)
    if problem is not None:
        raise problem
    return name, reason


def consider_engine(
    engine: str, devices: Sequence[int] | None = None
) -> tuple[str, str, EnvironmentProblem | None]:
    """As `choose_engine`, with what keeps the engine from running here instead of an exception."""
    if engine not in ENGINES:
        raise UsageError(f"engine is {engine!r}; it must be one of {', '.join(ENGINES)}")
    if devices is not None and engine not in ("auto", *ON_GPU):
        raise UsageError(f"devices are for GPU engines, and the engine is {engine!r}; leave one of them away")
    if engine == "numba-cuda" and devices is not None and len(devices) > 1:
        raise UsageError("the engine numba-cuda uses one device; name one, or use engine cuda")
    if engine == "auto":
        return _auto(devices)
    return engine, "asked for", gpu_problem(engine, devices)


def cpu_engine(engine: str, devices: Sequence[int] | None, cluster: object = None) -> str:
    """The engine to ask for where the tranches of a pool are paid: one of the CPU's, here.

    Raises:
        UsageError: GPUs or a cluster were asked for.
    """
    if cluster is not None or devices is not None or engine in ON_GPU:
        where = "workers of a cluster" if cluster is not None else "GPUs" if engine == "auto" else f"engine {engine}"
        raise UsageError(
            f"the tranches of a pool are paid by the engines of this machine's CPU, and not by {where}: leave the pool away, and "
            "ask for the waterfall of the finished run, or use engine numba"
        )
    return "numba" if engine == "auto" else engine


def gpu_problem(engine: str, devices: Sequence[int] | None = None) -> EnvironmentProblem | None:
    """What keeps an engine from running on this machine's GPUs; None for one that needs none."""
    if engine == "cuda":
        return cuda_setup.problem(cuda_setup.look(), devices)
    if engine == "numba-cuda":
        return _numba_cuda_problem(cuda_setup.look(), devices)
    return None


def _auto(devices: Sequence[int] | None) -> tuple[str, str, EnvironmentProblem | None]:
    """cuda, else numba-cuda, else numba; whoever names devices has asked for cuda."""
    machine = cuda_setup.look()
    problem = cuda_setup.problem(machine, devices)
    if problem is None:
        names = cuda_setup.device_names(machine, devices)
        return "cuda", f"auto: cuda, the fastest engine, on {names}", None
    if devices is not None:
        return "cuda", "auto: cuda, for devices are named", problem
    found = cuda_setup.finding(machine)
    assert found is not None
    if machine.driver is None or not machine.driver.devices:
        return "numba", f"auto: numba; {found.what}", None
    other = _numba_cuda_problem(machine)
    if other is None:
        return "numba-cuda", f"auto: numba-cuda; engine cuda: {found}", None
    return "numba", f"auto: numba; a GPU is here, but engine cuda: {found} And {other}", None


def _numba_cuda_problem(
    machine: cuda_setup.Machine, devices: Sequence[int] | None = None
) -> EnvironmentProblem | None:
    """What keeps the engine numba-cuda from running; its simulator needs no device."""
    from .cuda_target import choose_package, is_simulated, linker_version

    simulated = is_simulated()
    try:
        package = choose_package(simulated=simulated)
    except EnvironmentProblem as problem:
        return problem
    if simulated:
        return None
    found = cuda_setup.device_finding(machine, devices)
    found = found or cuda_setup.linker_finding(machine, package, linker_version(), devices)
    return None if found is None else EnvironmentProblem(f"engine numba-cuda: {found} {WAY_OUT}")


def default_paths(name: str) -> int:
    """Paths of a run that names none."""
    return DEFAULT_PATHS[name]


def make_engine(name: str, workers: int | None = None, devices: Sequence[int] | None = None) -> Engine:
    """The engine of this name.

    Raises:
        EnvironmentProblem: it can't run on this machine.
        UsageError: workers for an engine that has none.
    """
    if name == "numba":
        from .numba_cpu import NumbaCpu

        return NumbaCpu(workers)
    if workers is not None and workers > 1:
        where = "on one core" if name == "numpy" else "on a GPU"
        raise UsageError(f"the engine {name} runs {where}; leave workers away or use engine numba")
    if name == "cuda":
        from .cupy_raw import CupyRaw

        return CupyRaw((0,) if devices is None else tuple(devices))
    if name == "numba-cuda":
        from .numba_cuda import NumbaCuda

        return NumbaCuda(0 if devices is None else devices[0])
    from .numpy_reference import NumpyReference

    return NumpyReference()


def event_engine(name: str) -> EventEngine:
    """The CPU engine that says what happened on named paths of a run: the run's own, numba for a run of a GPU.

    Raises:
        EnvironmentProblem: numba can't run on this machine.
    """
    if name == "numpy":
        from .numpy_reference import NumpyReference

        return NumpyReference()
    from .numba_cpu import NumbaCpu

    return NumbaCpu()
