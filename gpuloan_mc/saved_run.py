"""A finished run read back from its folder, every file checked against the manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .digest import LossDigest
from .errors import GpuLoanError, UsageError
from .inputs.columns import TAPES
from .inputs.market_file import FILE_NAME
from .plan import Plan
from .portfolio import Portfolio
from .questions import Questions
from .reference.arithmetic import I32, I64
from .run_folder import MANIFEST, PATHS, RNG_SCHEME
from .schemas import SCHEMA_VERSION

if TYPE_CHECKING:
    import pandas as pd

PLAN = "inputs/plan.npz"
SUMMARY = "summary.json"
_FILES = (PATHS, PLAN, f"inputs/{FILE_NAME}", *(f"inputs/{name}.parquet" for name in TAPES))
_AGAIN = "Run the book again with --out"


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
            _check_file(folder, name, files[name])
        try:
            plan = Plan.load(folder / PLAN)
            losses, defaults = _paths(folder / PATHS)
            portfolio = Portfolio.read(folder / "inputs")
        except (GpuLoanError, OSError, ValueError, KeyError) as error:
            raise UsageError(f"{folder}: the run can't be read: {error}. {_AGAIN}") from error
        digest = LossDigest()
        digest.add(0, losses)
        if digest.hexdigest() != manifest["digest"] or plan.digest != manifest["plan_digest"]:
            raise UsageError(f"{folder}: its paths or its plan are not those of its {MANIFEST}. {_AGAIN}")
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
            raise UsageError(f"{self.folder}: {MANIFEST} is damaged. {_AGAIN}") from error

    def _checked(self, name: str) -> Path:
        _check_file(self.folder, name, self.manifest["files"].get(name))
        return self.folder / name


def _manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a complete run of this version's kind."""
    try:
        found = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError) as error:
        kind = "is no folder" if not folder.is_dir() else f"has no readable {MANIFEST}"
        raise UsageError(f"{folder} {kind}; name a folder written by gpuloan-mc run BOOK --out DIR") from error
    if not isinstance(found, dict) or found.get("complete") is not True:
        raise UsageError(f"{folder}: the run was not finished. {_AGAIN}")
    wanted = {"schema_version": SCHEMA_VERSION, "rng_scheme": RNG_SCHEME}
    for key, value in wanted.items():
        if found.get(key) != value:
            raise UsageError(
                f"{folder} comes from gpuloan_mc {found.get('version')!s:.20}: its {key} is {found.get(key)!r:.40}, and this "
                f"version reads {value!r}. {_AGAIN}, or ask with the version that wrote it"
            )
    missing = [key for key in ("seed", "engine", "version", "digest", "plan_digest", "files") if key not in found]
    files = found.get("files")
    if missing or not isinstance(files, dict) or not set(_FILES) <= set(files):
        raise UsageError(f"{folder}: {MANIFEST} is damaged. {_AGAIN}")
    return found


def _check_file(folder: Path, name: str, fact: Any) -> None:
    try:
        with (folder / name).open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"{folder}: {name} can't be read: {error.strerror}. {_AGAIN}") from error
    if not isinstance(fact, dict) or found != fact.get("sha256"):
        raise UsageError(f"{folder}: {name} was changed or damaged since the run. {_AGAIN}")


def _paths(file: Path) -> tuple[I64, I32]:
    """Losses and defaults of each path."""
    import pyarrow.parquet as pq

    table = pq.read_table(file, columns=["path", "loss_cents", "defaults"])
    paths = table["path"].to_numpy()
    if not np.array_equal(paths, np.arange(len(paths))):
        raise ValueError(f"{PATHS} does not hold paths 0, 1, 2, …")
    return np.array(table["loss_cents"], dtype=np.int64), np.array(table["defaults"], dtype=np.int32)
