"""What a Dask worker does for a run: it shows what it is, takes the plan once, and answers with a chunk's bytes.

Tasks name a plan by its digest; nothing of ours is pickled. Answers are those bytes that a run folder keeps (`chunks`).
"""

from __future__ import annotations

import functools
import importlib.metadata
import io
import platform
import threading
import time
import traceback
from typing import Any

from . import __version__
from .chunks import Chunk, RunKey, chunk_parts
from .digest import loss_digest
from .engines.base import Engine
from .engines.choice import ON_GPU, choose_engine, make_engine
from .errors import GpuLoanError
from .plan import Plan
from .planning import build_plan
from .portfolio import Portfolio
from .run_folder import RNG_SCHEME

SELF_TEST = "neocloud-2024"
_TEST_PATHS, _TEST_SEED = 32, 20_240
_LAST_LINES = 5
_PACKAGES = ("numpy", "numba")
_CUPY = ("cupy-cuda13x", "cupy-cuda12x")
_one_at_a_time = threading.RLock()  # engines keep the last plan
_plans: dict[str, Plan] = {}


def hello(engine: str, threads: int) -> dict[str, Any]:
    """What this worker is: versions, the engine that it would run, its GPU, and what a run of known paths loses here.

    `failed` says why it can't take part.
    """
    found: dict[str, Any] = {
        "gpuloan_mc": __version__,
        "rng_scheme": RNG_SCHEME,
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
        "cupy": next((v for v in map(_version, _CUPY) if v is not None), None),
    }
    try:
        with _one_at_a_time:
            name, reason = choose_engine(engine)
            runner = _engine(name, threads)
            found |= {"engine": name, "reason": reason, "device": _device(name), "self_test": self_test(runner)}
            found |= {"first_chunk": runner.first_chunk(_test_plan()), "longest_chunk": runner.longest_chunk(_test_plan())}
    except Exception as error:  # told to the client, whatever it is
        found["failed"] = _last_words(error)
    return found


def self_test(engine: Engine) -> str:
    """Digest of the losses of some paths of the bundled book."""
    plan = _test_plan()
    engine.prepare(plan)
    return loss_digest(engine.run(plan, _TEST_SEED, 0, _TEST_PATHS).loss)


def take_plan(content: bytes, digest: str) -> str:
    """Keep a plan; nothing, or why it is not the one that was meant."""
    plan = Plan.load(io.BytesIO(content))
    if plan.digest != digest:
        return f"the plan arrived with digest {plan.digest}, not {digest}"
    _plans.clear()  # a worker serves one run at a time
    _plans[digest] = plan
    return ""


def run_chunk(digest: str, seed: int, first: int, n: int, prices: bool, engine: str, threads: int) -> bytes | str | None:
    """The chunk of some paths in bytes; a text says why there is none; None: the plan is not here."""
    plan = _plans.get(digest)
    if plan is None:
        return None
    try:
        with _one_at_a_time:
            runner = _engine(engine, threads)
            runner.prepare(plan)
            start = time.perf_counter()
            table = runner.run(plan, seed, first, n, prices=prices)
            chunk = Chunk(table, time.perf_counter() - start, engine)
        return b"".join(chunk_parts(RunKey(__version__, RNG_SCHEME, digest, seed), chunk))
    except Exception as error:  # told to the client, which tries elsewhere
        return _last_words(error)


@functools.cache
def _test_plan() -> Plan:
    portfolio = Portfolio.read(SELF_TEST)
    return build_plan(portfolio, portfolio.market)


@functools.cache
def _engine(name: str, threads: int) -> Engine:
    return make_engine(name, threads if name == "numba" else None)


def _device(engine: str) -> str:
    """The GPU that an engine uses here, by its UUID; nothing for one that uses none."""
    if engine not in ON_GPU:
        return ""
    from .engines import cuda_setup

    driver = cuda_setup.look().driver
    return driver.devices[0].uuid if driver is not None and driver.devices else ""


def _last_words(error: Exception) -> str:
    if isinstance(error, GpuLoanError):
        return str(error)
    return "".join(traceback.format_exception(error)[-_LAST_LINES:]).strip()


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
