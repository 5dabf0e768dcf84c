"""What a run will take, said before it runs: chunks, memory, and time from a short pilot on this machine."""

from __future__ import annotations

import tempfile
import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arguments import MAX_PATHS, MAX_WORKERS, device_numbers, whole_number
from .engines.base import Engine, Footprint
from .engines.choice import consider_engine, cpu_engine, default_paths, make_engine
from .engines.pace import Pace
from .errors import EnvironmentProblem
from .inputs.pool_file import PoolFile, as_pool
from .ledger import ledger_bytes, ledger_file_bytes, pool_bytes
from .market import Market
from .plan import Plan
from .planning import build_plan
from .receipts import Pool

if TYPE_CHECKING:
    from .portfolio import Portfolio

_PILOT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Forecast:
    """A run before it is run. Memory in bytes, beside Python's own and the book's."""

    engine: str
    engine_reason: str
    n_paths: int
    chunk: int  # paths at a time, at most
    device_bytes: tuple[int, ...]  # of each device
    host_bytes: int  # plan, engine and a chunk
    result_bytes: int  # kept to the end
    file_bytes: int  # of temporary files, where results are too long for memory
    seconds: float | None  # of the engine; None: not measured
    pilot_paths: int
    unmeasured: str  # why there is no time

    def to_json_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self) | {"device_bytes": list(self.device_bytes)}

    def lines(self) -> list[str]:
        """As people read it."""
        devices = [f"{_mib(n)} MiB on device {i + 1} of {len(self.device_bytes)}" for i, n in enumerate(self.device_bytes)]
        memory = [*devices, f"{_mib(self.host_bytes)} MiB on the host, {_mib(self.result_bytes)} MiB more for the results"]
        if self.file_bytes:
            memory.append(f"{_mib(self.file_bytes)} MiB of temporary files in {tempfile.gettempdir()}")
        if self.seconds is None:
            expected = f"unmeasured on this device: {self.unmeasured}"
        else:
            expected = f"{_duration(self.seconds)}, from {self.pilot_paths:,} paths timed now on this machine"
        return [
            f"engine {self.engine} ({self.engine_reason})",
            f"{self.n_paths:,} paths in chunks of at most {self.chunk:,}",
            f"memory: {', '.join(memory)}",
            f"expected time: {expected}",
        ]


def forecast(
    portfolio: Portfolio,
    market: Market,
    *,
    n_paths: int | None = None,
    engine: str = "auto",
    workers: int | None = None,
    devices: Sequence[int] | None = None,
    chunk: int | None = None,
    pool: PoolFile | str | Path | None = None,
) -> Forecast:
    """What `simulate` with these arguments will take. Some paths are run and thrown away.

    A GPU engine that can't run here is laid out all the same; then there is no time.

    Raises:
        UsageError: an argument is out of range.
        EnvironmentProblem: the engine can't run on this machine, and its memory can't be told without.
        InputRejected: the book does not fit the market, or cannot be planned.
    """
    devices = device_numbers(devices)
    tranches = None if pool is None else as_pool(pool)
    name, reason, problem = consider_engine(engine if tranches is None else cpu_engine(engine, devices), devices)
    n_paths = whole_number("n_paths", default_paths(name) if n_paths is None else n_paths, 1, MAX_PATHS)
    chunk = None if chunk is None else whole_number("chunk", chunk, 1, MAX_PATHS)
    workers = None if workers is None else whole_number("workers", workers, 1, MAX_WORKERS)
    if market != portfolio.market:
        portfolio = portfolio.replace(market=market)
    plan = build_plan(portfolio, market)
    if problem is not None:
        if name != "cuda":
            raise problem
        return _without_device(plan, n_paths, reason, devices, chunk, problem)
    runner = make_engine(name, workers, devices)
    runner.prepare(plan)
    securitised = None if tranches is None else Pool.of(plan, portfolio, tranches)
    paths, seconds, peak = _pilot(runner, plan, n_paths, chunk, securitised)
    size = chunk or min(runner.longest_chunk(plan), max(runner.first_chunk(plan), int(paths / seconds)))
    size = min(size, n_paths)
    footprint = runner.footprint(plan, size)
    return Forecast(
        engine=name,
        engine_reason=reason,
        n_paths=n_paths,
        chunk=size,
        device_bytes=footprint.devices,
        host_bytes=_plan_bytes(plan) + (peak if footprint.host is None else footprint.host + _cash_bytes(securitised, size)),
        result_bytes=ledger_bytes(plan, n_paths, securitised),
        file_bytes=ledger_file_bytes(n_paths),
        seconds=n_paths * seconds / paths,
        pilot_paths=paths,
        unmeasured="",
    )


def _without_device(
    plan: Plan, n_paths: int, reason: str, devices: Sequence[int] | None, chunk: int | None, problem: EnvironmentProblem
) -> Forecast:
    """The engine cuda where it can't run: what its layout says."""
    from .engines.cupy_raw import longest_chunk, planned

    n_devices = 1 if devices is None else len(devices)
    size = min(n_paths, chunk or longest_chunk(n_devices))
    footprint: Footprint = planned(plan, size, n_devices)
    return Forecast(
        engine="cuda",
        engine_reason=reason,
        n_paths=n_paths,
        chunk=size,
        device_bytes=footprint.devices,
        host_bytes=_plan_bytes(plan) + (footprint.host or 0),
        result_bytes=ledger_bytes(plan, n_paths),
        file_bytes=ledger_file_bytes(n_paths),
        seconds=None,
        pilot_paths=0,
        unmeasured=str(problem),
    )


def _pilot(engine: Engine, plan: Plan, n_paths: int, chunk: int | None, pool: Pool | None) -> tuple[int, float, int]:
    """Paths and seconds of a pilot, without its first chunk where there are more; and the most bytes NumPy held."""
    pace = Pace(min(engine.first_chunk(plan), n_paths), engine.longest_chunk(plan))
    size = min(chunk or pace.size, pace.size)
    options: dict[str, Any] = {} if pool is None else {"pool": pool}
    tracemalloc.start()
    try:
        engine.run(plan, 1, 0, size, **options)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    paths, seconds, spent = 0, 0.0, 0.0
    while paths == 0 or (spent < _PILOT_SECONDS and paths < n_paths):
        size = min(chunk or pace.size, pace.size, n_paths)
        start = time.perf_counter()
        pace.timed(lambda: engine.run(plan, 1, 0, size, **options))  # noqa: B023
        took = max(time.perf_counter() - start, 1e-9)
        spent += took
        if size > paths:  # the largest chunk is the nearest to those of the run
            paths, seconds = size, took
        elif size == paths:
            seconds = min(seconds, took)
    return paths, seconds, peak


def _cash_bytes(pool: Pool | None, chunk: int) -> int:
    """What the tranches get on a chunk, and the schedules of the plain loans in the tape's order and the engine's."""
    return 0 if pool is None else pool_bytes(pool, chunk) + 2 * pool.plain.n_bytes


def _plan_bytes(plan: Plan) -> int:
    return sum(array.nbytes for _, array in plan.arrays())


def _mib(n_bytes: int) -> str:
    return f"{-(-n_bytes // 2**20):,}"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes / 60:.1f} h"
