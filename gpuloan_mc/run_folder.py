"""A run's folder: chunks as they come, paths, tables and summary at the end. No file in it is ever half-written."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import io
import os
import platform
import shlex
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__
from .chunks import FOLDER as CHUNKS
from .chunks import Chunk, ChunkFolder, RunKey
from .engines.base import PathTable, joined, table_bytes
from .engines.choice import ON_GPU
from .errors import EnvironmentProblem, UsageError
from .files import WholeFile, empty_folder, free_bytes, toml_text, write_whole, written
from .finished_paths import TOTALS, FinishedPaths, write_totals
from .inputs.columns import TAPES
from .inputs.market_file import FILE_NAME
from .inputs.pool_file import FILE_NAME as POOL_FILE
from .inputs.pool_file import read_pool
from .inputs.rejected import REJECTED, write_rejected
from .ledger import Ledger, pool_bytes
from .lock import LOCK, FolderLock
from .manifest import AGAIN, MANIFEST, check_file, check_origin, check_seal, facts, read_manifest, sealed
from .path_rows import COLUMNS, PATHS, write_rows
from .payments import Payments
from .plan import Plan
from .portfolio import Portfolio
from .processor import processor
from .receipts import Pool
from .schemas import MANIFEST_KEYS, SCHEMA_VERSION, arrow_table
from .target import Target

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from .result import Result

RNG_SCHEME = "philox4x32-10/1"
_PACKAGES = ("numpy", "numba", "scipy", "pandas", "pyarrow", "pydantic")
_GPU_PACKAGES = ("cupy-cuda12x", "cupy-cuda13x", "cuda-bindings", "nvidia-cuda-nvrtc", "numba-cuda-mlir", "numba-cuda")
_ROWS_A_FILE = 1 << 20  # of a chunk, about
_SECONDS, _SHARE, _MOST_SECONDS = 1.0, 0.02, 60.0  # of engine time in a chunk's file: at least, of the run, at most
_TRANCHE_TABLES = ("waterfall.parquet", "waterfall_months.parquet")
_BYTES_A_PATH = 60  # a path in chunks and in paths.parquet
PLAN = "inputs/plan.npz"
POOL = f"inputs/{POOL_FILE}"
_INPUTS = (PLAN, f"inputs/{FILE_NAME}", *(f"inputs/{name}.parquet" for name in TAPES))


def prepare_run_folder(folder: str | Path) -> Path:
    """The folder, made if need be; that of an earlier run, or of one that was refused, may be used again.

    Raises:
        UsageError: it holds something that is not an earlier run, or paths of a run that was not finished, or can't be made.
    """
    path = empty_folder(Path(folder), marks=(MANIFEST, REJECTED, LOCK))
    if any((path / CHUNKS).glob("[!.]*")) and read_manifest(path).get("complete") is False:
        raise UsageError(
            f"{path} holds paths of a run that was not finished. Go on with: gpuloan-mc resume {shlex.quote(str(path))}, or "
            f"name another folder; to give those paths up, delete {path / CHUNKS}"
        )
    return path


@dataclass(frozen=True)
class Job:
    """What is to be run. `n_paths`: at most, where there is a target."""

    portfolio: Portfolio
    plan: Plan
    n_paths: int
    seed: int
    engine: str
    engine_reason: str
    scenarios: tuple[tuple[str, str], ...] = ()
    target: Target | None = None
    pool: Pool | None = None  # whose tranches are paid on every path


class RunFolder:
    """The folder of one run, locked: its book first, then chunks as they are done, tables and summary at the end.

    Use in `with`. A run begins with `begin`, or goes on with `reopen`.

    Raises:
        EnvironmentProblem: another process writes there, no space is left, or the disk fails.
        UsageError: the folder can't be written.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder)
        self.chunks: ChunkFolder
        self._finished: FinishedPaths | None = None
        self._lock = FolderLock(self.path)
        self._begun: dict[str, Any] = {}  # the manifest before the first path
        self._waiting: list[PathTable] = []
        self._waiting_engine = ""
        self._writer = ThreadPoolExecutor(1)  # the engine goes on while a chunk is brought to the disk
        self._writing: Future[None] | None = None
        self._seconds = self._waiting_seconds = 0.0

    def __enter__(self) -> RunFolder:
        self._lock.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.shutdown()
        self._lock.__exit__()

    def begin(self, job: Job, *, host: bool) -> None:
        """Take the folder for a new run: whatever a run left there no longer counts."""
        self._write(MANIFEST, sealed({"schema_version": SCHEMA_VERSION, "complete": False, "version": __version__}))
        self._open_chunks(job.plan.digest, job.seed, _pool_digest(job))
        self.chunks.remove()
        self._check_space(job.n_paths, 2 * table_bytes(job.plan, 0), job.pool)
        self._write_inputs(job)
        write_rejected(self.path, job.portfolio.rejected)
        self._begin(_before(job, host) | {"files": {name: facts(self.path / name) for name in _inputs_of(job.pool is not None)}})

    def reopen(self) -> Job:
        """The run that the folder holds, finished or not, its book and its manifest checked.

        Raises:
            UsageError: there is none, it was stopped before its first path, or it was changed.
        """
        found = read_manifest(self.path)
        if "seed" not in found and found.get("complete") is False:
            raise UsageError(f"{self.path}: the run was stopped before its first path. {AGAIN}")
        check_origin(self.path, found, schema_version=SCHEMA_VERSION, version=__version__, rng_scheme=RNG_SCHEME)
        check_seal(self.path, found)
        has_pool = found.get("pool") is not None
        for name in _inputs_of(has_pool):
            check_file(self.path, name, found["files"].get(name))
        plan, portfolio = Plan.load(self.path / PLAN), Portfolio.read(self.path / "inputs")
        if plan.digest != found["plan_digest"] or portfolio.market.digest != found["market_digest"]:
            raise UsageError(f"{self.path}: its book is not the one of its {MANIFEST}. {AGAIN}")
        self._begun = found
        self._open_chunks(plan.digest, found["seed"], found.get("pool"))
        if PATHS in found["files"]:
            aside = None if self.complete else self.chunks.path
            self._finished = FinishedPaths(self.path, aside, found["files"], self.chunks.key)
        target = None if found["target"] is None else Target(found["target"]["measure"], found["target"]["error"])
        scenarios = tuple((s["name"], s["digest"]) for s in found["scenarios"])
        engine = found["engine"], found["engine_reason"]
        pool = Pool.of(plan, portfolio, read_pool(self.path / POOL)) if has_pool else None
        return Job(portfolio, plan, found["n_paths"], found["seed"], *engine, scenarios, target, pool)

    @property
    def complete(self) -> bool:
        """Whether the run of `reopen` was finished."""
        return self._begun["complete"] is True

    @property
    def n_finished(self) -> int:
        """Paths of the finished run that the folder holds, or that is being extended."""
        return 0 if self._finished is None else self._finished.n_paths

    def extend(self, n_paths: int, pool: Pool | None) -> None:
        """Make the run, one with this pool, one of more paths.

        Raises:
            UsageError: it was finished, and its files were changed or damaged.
        """
        beside = 0
        if self._finished is not None:
            if self.complete:
                self._finished.check()
                self.chunks.remove()
            beside = self._finished.n_bytes  # they lie there until all is written anew
        self._check_space(n_paths - self._begun["n_paths"], beside, pool)
        self._begin(self._begun | {"complete": False, "n_paths": n_paths, "target": None})
        self._finished = self._finished and self._finished.to_extend(self.chunks.path)

    def load(self, ledger: Ledger) -> None:
        """Bring the paths that are there into a ledger; what is damaged or of another run is deleted (`chunks.bad`).

        Raises:
            UsageError: the run was finished, and its files were changed or damaged.
        """
        if self._finished is not None and self.complete:
            self._finished.check()
            self.chunks.remove()  # a run killed at its very end leaves them
        elif self._finished is not None:
            self._finished.put_aside()
            self._drop_damaged(self._finished)
        ledger.engines.add_all(self._begun.get("engine_paths") or (), self.n_finished)
        for chunk in self._there(ledger.n_paths):
            ledger.add(chunk.table, chunk.engine)
            self._seconds += chunk.seconds
        self.chunks.clean()

    def _drop_damaged(self, finished: FinishedPaths) -> None:
        """Give up the finished run that is extended if its files are damaged."""
        damaged = finished.damaged()
        if damaged:
            self.chunks.bad |= damaged
            self._finished = None
            files = {name: value for name, value in self._begun["files"].items() if name.startswith("inputs/")}
            self._begin(self._begun | {"files": files})

    def _there(self, n_paths: int) -> Iterator[Chunk]:
        """The paths that are in the folder, in their order."""
        end = 0
        if self._finished is not None:
            for table in self._finished.tables():
                yield Chunk(table, self._begun["timings"]["paths"] if table.first_path == 0 else 0.0)
                end = table.first_path + len(table.loss)
        yield from self.chunks.read(n_paths, end)

    def spans(self) -> list[tuple[int, int]]:
        """Ranges of paths that are in the folder, from and to, each of a file; each file is checked.

        Raises:
            UsageError: the run was finished, and its files were changed or damaged.
        """
        if self._finished is not None and self.complete:
            self._finished.check()
        elif self._finished is not None and (damaged := self._finished.damaged()):
            self.chunks.bad |= damaged
            self._finished = None
        n_finished = self.n_finished
        tables = (chunk.table for chunk in self.chunks.read(self._begun["n_paths"], n_finished))
        return [(0, n_finished)] * (n_finished > 0) + [(t.first_path, _end(t)) for t in tables]

    def rows(self, blocks: Sequence[tuple[int, int]]) -> Iterator[tuple[int, dict[str, Any], Payments | None]]:
        """Some ranges of paths in rising order, each within a span: (first path, its columns, what tranches get)."""
        starts, n_finished = [first for first, _ in blocks], self.n_finished
        if self._finished is not None:
            yield from self._finished.rows(blocks[: bisect_left(starts, n_finished)])
        for chunk in self.chunks.read(self._begun["n_paths"], n_finished):
            table = chunk.table
            for first, end in blocks[bisect_left(starts, table.first_path) : bisect_left(starts, _end(table))]:
                a, b = first - table.first_path, end - table.first_path
                columns = {name: getattr(table, name)[a:b] for name in COLUMNS}
                yield first, columns, table.payments and table.payments.rows(a, b)

    @property
    def seconds(self) -> float:
        """What engines took for the paths that are in the folder."""
        return self._seconds

    def add(self, chunk: Chunk) -> None:
        """Take a chunk; those of about a second, later of 2 % of the run, share a file where one engine ran them."""
        table = chunk.table
        if self._waiting and not self._goes_on(chunk):
            self._hand_over()
        self._waiting.append(table)
        self._waiting_engine = chunk.engine
        self._waiting_seconds += chunk.seconds
        enough = min(max(_SECONDS, _SHARE * self._seconds), _MOST_SECONDS)
        if self._waiting_seconds >= enough or _end(table) - self._waiting[0].first_path >= _ROWS_A_FILE:
            self._hand_over()

    def _goes_on(self, chunk: Chunk) -> bool:
        """Whether a chunk can share the file of the tables that wait."""
        last, table = self._waiting[-1], chunk.table
        alike = (last.prices is None) == (table.prices is None) and self._waiting_engine == chunk.engine
        return alike and _end(last) == table.first_path

    def flush(self) -> None:
        """Bring what was added to the disk, all of it: it counts once this returns."""
        self._hand_over()
        self._wait()

    def _hand_over(self) -> None:
        """Have the tables that wait written, after those before them."""
        if self._waiting:
            self._wait()
            chunk = Chunk(joined(self._waiting), self._waiting_seconds, self._waiting_engine)
            self._writing = self._writer.submit(self.chunks.add, chunk)
            self._seconds += self._waiting_seconds
            self._waiting, self._waiting_seconds = [], 0.0

    def _wait(self) -> None:
        if self._writing is not None:
            self._writing.result()
            self._writing = None

    def finish(self, result: Result, ledger: Ledger) -> Path:
        """Write everything else; the manifest says `complete` last of all, and the chunks go."""
        self.flush()
        self._write_paths(result.n_paths)
        write_totals(self.path / TOTALS, self.chunks.key, ledger)
        frames = {
            "loans": result.loans,
            "timeline": result.timeline,
            "segments": result.segments(),
            "loss_distribution": result.loss_distribution,
        }
        if result.paid is not None:
            frames |= {"waterfall": result.paid.table, "waterfall_months": result.paid.months}
        for name, frame in frames.items():
            self._write(f"{name}.parquet", parquet_bytes(arrow_table(f"{name}.parquet", frame)))
        self._write("summary.json", (result.to_json() + "\n").encode())
        self._write(MANIFEST, sealed(self._begun | self._after(result)))
        self.chunks.remove()
        return self.path

    def _open_chunks(self, plan_digest: str, seed: int, pool: str | None) -> None:
        self.chunks = ChunkFolder(self.path, RunKey(__version__, RNG_SCHEME, plan_digest, seed, pool))

    def _begin(self, manifest: dict[str, Any]) -> None:
        self._begun = manifest
        self._write(MANIFEST, sealed(manifest))

    def _check_space(self, n_paths: int, beside: int, pool: Pool | None) -> None:
        """Refuse paths that can't be kept for want of space; `beside`: bytes beside theirs."""
        paid = 2 * pool_bytes(pool, n_paths)  # in chunks and in totals.bin
        needed, free = _BYTES_A_PATH * n_paths + paid + beside, free_bytes(self.path)
        if needed > free:
            raise EnvironmentProblem(
                f"{self.path}: {n_paths:,} paths take about {needed:,} bytes, and {free:,} are free there. Free some space, "
                f"name another folder, or ask for fewer --paths"
            )

    def _write_paths(self, n_paths: int) -> None:
        """paths.parquet, from what is in the folder."""
        with WholeFile(self.path / PATHS) as stream:
            if write_rows(stream, (chunk.table for chunk in self._there(n_paths))) != n_paths:
                raise EnvironmentProblem(
                    f"{self.chunks.path} was changed during the run; gpuloan-mc resume {self.path}"
                )

    def _write_inputs(self, job: Job) -> None:
        portfolio, plan = job.portfolio, job.plan
        with written(self.path):
            (self.path / "inputs").mkdir(exist_ok=True)
        for name in TAPES:
            self._write(f"inputs/{name}.parquet", _frame_bytes(getattr(portfolio, name)))
        self._write(f"inputs/{FILE_NAME}", toml_text(portfolio.market.model_dump(exclude_none=True)).encode())
        self._write(PLAN, plan.to_bytes())
        with written(self.path):
            for name in (POOL, *_TRANCHE_TABLES):
                (self.path / name).unlink(missing_ok=True)  # of an earlier run
        if job.pool is not None:
            self._write(POOL, toml_text(job.pool.file.model_dump(exclude_none=True)).encode())

    def _write(self, name: str, data: bytes) -> None:
        write_whole(self.path / name, data)

    def _after(self, result: Result) -> dict[str, Any]:
        return {
            "complete": True,
            "n_paths": result.n_paths,
            "engine": result.engine,
            "engine_reason": result.engine_reason,
            "engine_paths": list(result.engine_paths),
            "digest": result.digest,
            "timings": dict(result.timings),
            "packages": _packages(result.engine),
            "python": platform.python_version(),
            "host": None if self._begun["host"] is None else _host(),
            "files": {name: facts(self.path / name) for name in _names(self.path)},
        }


def _before(job: Job, host: bool) -> dict[str, Any]:
    """The manifest before the first path, with every key in its place."""
    loans, market = job.portfolio.loans, job.portfolio.market
    cents = {name: round(float(loans[f"{name}_usd"].sum()) * 100) for name in ("balance", "undrawn")}
    known = {
        "schema_version": SCHEMA_VERSION,
        "complete": False,
        "version": __version__,
        "rng_scheme": RNG_SCHEME,
        "seed": job.seed,
        "n_paths": job.n_paths,
        "target": None if job.target is None else dataclasses.asdict(job.target),
        "horizon_months": market.horizon_months,
        "engine": job.engine,
        "engine_reason": job.engine_reason,
        "plan_digest": job.plan.digest,
        "market_digest": market.digest,
        "scenarios": [{"name": name, "digest": digest} for name, digest in job.scenarios],
        "pool": _pool_digest(job),
        "inputs": _inputs(job.portfolio),
        "reconciliation": _reconciliation(job.portfolio),
        "money": cents | {"commitment": sum(cents.values())},
        "host": _host() if host else None,
    }
    return {key: known.get(key) for key in MANIFEST_KEYS if key != "checksum"}


def _pool_digest(job: Job) -> str | None:
    return None if job.pool is None else job.pool.file.digest


def _inputs_of(has_pool: bool) -> tuple[str, ...]:
    """The files of a run's book."""
    return (*_INPUTS, POOL) if has_pool else _INPUTS


def _end(table: PathTable) -> int:
    return table.first_path + len(table.loss)


def _packages(engine: str) -> dict[str, str]:
    """Versions of the packages that a run rests on; those of GPUs where it ran on one."""
    found = {name: importlib.metadata.version(name) for name in _PACKAGES}
    for name in _GPU_PACKAGES if engine in ON_GPU else ():
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _inputs(portfolio: Portfolio) -> dict[str, Any]:
    """By tape: file, sha256, rows; tapes that came as frames have no file."""
    sources = {Path(file).stem: (file, sha256) for file, sha256 in portfolio.sources}
    found: dict[str, Any] = {}
    for name in (*TAPES, "market"):
        file, sha256 = sources.get(name, (None, None))
        found[name] = {"file": file, "sha256": sha256}
        if name in TAPES:
            found[name]["rows"] = len(getattr(portfolio, name))
    return found


def _reconciliation(portfolio: Portfolio) -> dict[str, Any] | None:
    return None if portfolio.reconciliation is None else portfolio.reconciliation.to_dict()


def _host() -> dict[str, Any]:
    return {
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "processor": processor(),
        "cores": os.cpu_count(),
    }


def _names(folder: Path) -> list[str]:
    files = (p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return sorted(name for name in files if name not in (MANIFEST, LOCK) and not name.startswith(f"{CHUNKS}/"))


def parquet_bytes(table: pa.Table) -> bytes:
    """A table as the bytes of a Parquet file."""
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def _frame_bytes(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()
