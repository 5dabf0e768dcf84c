"""A finished run read back from its folder, every file checked against the manifest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .chunks import BadChunk, RunKey
from .digest import LossDigest
from .errors import GpuLoanError, UsageError
from .finished_paths import TOTALS, read_payments
from .inputs.columns import TAPES
from .inputs.market_file import FILE_NAME
from .inputs.pool_file import PoolFile, read_pool
from .manifest import AGAIN, MANIFEST, check_file, check_origin, check_seal, read_manifest
from .path_columns import Column
from .path_rows import PATHS, count_rows, read_rows
from .payments import Payments
from .plan import Plan
from .portfolio import Portfolio
from .questions import Questions
from .reference.arithmetic import I32, I64
from .run_folder import PLAN, POOL, RNG_SCHEME
from .schemas import SCHEMA_VERSION

if TYPE_CHECKING:
    import pandas as pd

SUMMARY = "summary.json"
_FILES = (PATHS, PLAN, f"inputs/{FILE_NAME}", *(f"inputs/{name}.parquet" for name in TAPES))


@dataclass(frozen=True)
class SavedRun(Questions):
    """A run's integers, its plan and its book, as they lie in its folder.

    losses, defaults: (n_paths,) cents and loans of each path. `manifest` is that of docs/schema.md.
    """

    folder: Path
    seed: int
    engine: str
    version: str
    digest: str
    plan: Plan = field(repr=False)
    portfolio: Portfolio = field(repr=False)
    losses: I64 = field(repr=False)
    defaults: I32 = field(repr=False)
    manifest: Mapping[str, Any] = field(repr=False)

    @classmethod
    def read(cls, folder: str | Path) -> SavedRun:
        """The run of a folder that `gpuloan-mc run --out` or `simulate(out=...)` wrote.

        Raises:
            UsageError: it is no run's folder, was not finished, comes from another version, or was changed or damaged.
        """
        folder = Path(folder)
        manifest = _manifest(folder)
        files = manifest["files"]
        for name in _FILES:
            check_file(folder, name, files[name])
        try:
            plan = Plan.load(folder / PLAN)
            losses, defaults, digest = _paths(folder / PATHS)
            portfolio = Portfolio.read(folder / "inputs")
        except (GpuLoanError, OSError, ValueError, KeyError) as error:
            raise UsageError(f"{folder}: the run can't be read: {error}. {AGAIN}") from error
        if digest.hexdigest() != manifest["digest"] or plan.digest != manifest["plan_digest"]:
            raise UsageError(f"{folder}: its paths or its plan are not those of its {MANIFEST}. {AGAIN}")
        losses.setflags(write=False)
        defaults.setflags(write=False)
        return cls(
            folder=folder,
            seed=int(manifest["seed"]),
            engine=str(manifest["engine"]),
            version=str(manifest["version"]),
            digest=str(manifest["digest"]),
            plan=plan,
            portfolio=portfolio,
            losses=losses,
            defaults=defaults,
            manifest=manifest,
        )

    @cached_property
    def pool(self) -> PoolFile | None:  # type: ignore[override]
        """That the run was one with.

        Raises:
            UsageError: the file was changed or damaged since the run.
        """
        return None if self.manifest.get("pool") is None else read_pool(self._checked(POOL))

    def has_payments(self, pool: PoolFile) -> bool:
        """Whether the run was one with the structure of this pool."""
        return self.manifest.get("pool") == pool.digest

    @cached_property
    def payments(self) -> Payments | None:
        """What the tranches of its pool get; None: it was run without one.

        Raises:
            UsageError: the file was changed or damaged since the run.
        """
        if self.manifest.get("pool") is None:
            return None
        key = RunKey(self.version, RNG_SCHEME, self.plan.digest, self.seed, self.manifest["pool"])
        try:
            found = read_payments(self._checked(TOTALS), key)
        except BadChunk as problem:
            raise UsageError(f"{self.folder}: {TOTALS} is {problem}. {AGAIN}") from problem
        return found and found.freeze()

    @cached_property
    def timeline(self) -> pd.DataFrame:
        """A row a month: defaults, losses, price points (docs/schema.md, timeline.parquet).

        Raises:
            UsageError: the file was changed or damaged since the run.
        """
        import pandas as pd

        return pd.read_parquet(self._checked("timeline.parquet"))

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The figures as the run gave them (docs/schema.md, summary.json).

        Raises:
            UsageError: the file was changed or damaged since the run.
        """
        found: dict[str, Any] = json.loads(self._checked(SUMMARY).read_bytes())
        return found

    @property
    def scenarios(self) -> tuple[tuple[str, str], ...]:
        """Name and digest of each scenario, in the order applied.

        Raises:
            UsageError: the manifest does not say.
        """
        try:
            return tuple((str(s["name"]), str(s["digest"])) for s in self.manifest["scenarios"])
        except (KeyError, TypeError) as error:
            raise UsageError(f"{self.folder}: {MANIFEST} is damaged. {AGAIN}") from error

    def _checked(self, name: str) -> Path:
        check_file(self.folder, name, self.manifest["files"].get(name))
        return self.folder / name


def _manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a complete run of this version's kind."""
    found = read_manifest(folder)
    if found.get("complete") is not True:
        raise UsageError(f"{folder}: the run was not finished. Go on with: gpuloan-mc resume {folder}")
    check_origin(folder, found, schema_version=SCHEMA_VERSION, rng_scheme=RNG_SCHEME)
    missing = [key for key in ("seed", "engine", "version", "digest", "plan_digest", "files") if key not in found]
    files = found.get("files")
    if missing or not isinstance(files, dict) or not set(_FILES) <= set(files):
        raise UsageError(f"{folder}: {MANIFEST} is damaged. {AGAIN}")
    check_seal(folder, found)
    return found


def _paths(file: Path) -> tuple[I64, I32, LossDigest]:
    """Losses and defaults of each path, and the digest of the losses."""
    n_paths, digest = count_rows(file), LossDigest()
    losses, defaults = Column(n_paths, np.int64), Column(n_paths, np.int32)
    for first, rows in read_rows(file, ("loss", "defaults")):
        losses.write(first, rows["loss"])
        defaults.write(first, rows["defaults"])
        digest.add(first, rows["loss"])
    return losses.values, defaults.values, digest
