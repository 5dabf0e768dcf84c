"""A run's folder: paths as they come, tables and summary at the end. No file in it is ever half-written."""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import __version__
from .engines.choice import ON_GPU
from .errors import UsageError
from .files import empty_folder, toml_text, write_whole
from .inputs.columns import TAPES
from .inputs.market_file import FILE_NAME
from .inputs.rejected import REJECTED, write_rejected
from .schemas import SCHEMA_VERSION, arrow_table

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from .engines.base import PathTable
    from .market import Market
    from .portfolio import Portfolio
    from .result import Result

MANIFEST = "manifest.json"
PATHS = "paths.parquet"
RNG_SCHEME = "philox4x32-10/1"
_PACKAGES = ("numpy", "numba", "scipy", "pandas", "pyarrow", "pydantic")
_GPU_PACKAGES = ("cupy-cuda12x", "cupy-cuda13x", "cuda-bindings", "nvidia-cuda-nvrtc", "numba-cuda-mlir", "numba-cuda")
_ROWS_AT_ONCE = 262_144


def prepare_run_folder(folder: str | Path) -> Path:
    """The folder, made if need be; that of an earlier run, or of one that was refused, may be used again.

    Raises:
        UsageError: it holds something that is not an earlier run, or can't be made.
    """
    return empty_folder(Path(folder), marks=(MANIFEST, REJECTED))


class RunFolder:
    """A new, empty or earlier run's folder, or that of a book that was refused, taken for a new run.

    Raises:
        UsageError: it holds something that is not an earlier run, or can't be made or written.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = prepare_run_folder(folder)
        self._write(MANIFEST, _json({"schema_version": SCHEMA_VERSION, "complete": False, "version": __version__}))
        self._part = self.path / f".{PATHS}.part"
        self._writer: Any = None
        self._waiting: list[PathTable] = []

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, table: PathTable) -> None:
        """Append the paths of a table; tables come in path order."""
        self._waiting.append(table)
        if sum(len(t.loss) for t in self._waiting) >= _ROWS_AT_ONCE:
            self._flush()

    def finish(self, result: Result, market: Market, *, host: bool = True) -> Path:
        """Write everything else; the manifest says `complete` last of all."""
        self._flush()
        self._writer.close()
        self._part.replace(self.path / PATHS)
        self._write_inputs(result.portfolio, market, result)
        for name, frame in (
            ("loans", result.loans),
            ("timeline", result.timeline),
            ("segments", result.segments()),
            ("loss_distribution", result.loss_distribution),
        ):
            self._write(f"{name}.parquet", _parquet(arrow_table(f"{name}.parquet", frame)))
        write_rejected(self.path, result.portfolio.rejected)
        self._write("summary.json", (result.to_json() + "\n").encode())
        self._write(MANIFEST, _json(self._manifest(result, market, host)))
        return self.path

    def _flush(self) -> None:
        import pandas as pd
        import pyarrow.parquet as pq

        tables, self._waiting = self._waiting, []
        if not tables:
            return
        columns = {
            "path": np.concatenate([t.first_path + np.arange(len(t.loss), dtype=np.int64) for t in tables]),
            "loss_cents": np.concatenate([t.loss for t in tables]),
            "discounted_loss_cents": np.concatenate([t.discounted_loss for t in tables]),
            "defaulted_balance_cents": np.concatenate([t.defaulted_balance for t in tables]),
            "largest_loss_cents": np.concatenate([t.largest_loss for t in tables]),
            "defaults": np.concatenate([t.defaults for t in tables]),
        }
        rows = arrow_table(PATHS, pd.DataFrame(columns))
        try:
            if self._writer is None:
                self._writer = pq.ParquetWriter(self._part, rows.schema)
            self._writer.write_table(rows)
        except OSError as error:
            raise UsageError(f"{self._part} can't be written: {error}; name another folder") from error

    def close(self) -> None:
        """Nothing half-written stays, whatever ended the run."""
        if self._writer is not None:
            self._writer.close()
        self._part.unlink(missing_ok=True)

    def _write_inputs(self, portfolio: Portfolio, market: Market, result: Result) -> None:
        (self.path / "inputs").mkdir(exist_ok=True)
        for name in TAPES:
            self._write(f"inputs/{name}.parquet", _frame_bytes(getattr(portfolio, name)))
        self._write(f"inputs/{FILE_NAME}", toml_text(market.model_dump(exclude_none=True)).encode())
        self._write("inputs/plan.npz", result.plan.to_bytes())

    def _write(self, name: str, data: bytes) -> None:
        write_whole(self.path / name, data)

    def _manifest(self, result: Result, market: Market, host: bool) -> dict[str, Any]:
        loans = result.portfolio.loans
        cents = {name: round(float(loans[f"{name}_usd"].sum()) * 100) for name in ("balance", "undrawn")}
        return {
            "schema_version": SCHEMA_VERSION,
            "complete": True,
            "version": __version__,
            "rng_scheme": RNG_SCHEME,
            "seed": result.seed,
            "n_paths": result.n_paths,
            "horizon_months": result.horizon_months,
            "engine": result.engine,
            "engine_reason": result.engine_reason,
            "digest": result.digest,
            "plan_digest": result.plan_digest,
            "market_digest": market.digest,
            "inputs": _inputs(result.portfolio),
            "reconciliation": _reconciliation(result.portfolio),
            "money": cents | {"commitment": sum(cents.values())},
            "timings": dict(result.timings),
            "packages": _packages(result.engine),
            "python": platform.python_version(),
            "host": _host() if host else None,
            "files": {name: _facts(self.path / name) for name in _names(self.path)},
        }


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
        "processor": _processor(),
        "cores": os.cpu_count(),
    }


def _processor() -> str:
    """The processor's name, where the system tells it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


def _names(folder: Path) -> list[str]:
    files = (p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return sorted(name for name in files if name != MANIFEST)


def _facts(file: Path) -> dict[str, Any]:
    with file.open("rb") as stream:
        return {"bytes": file.stat().st_size, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


def _parquet(table: pa.Table) -> bytes:
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def _frame_bytes(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()
