"""What other systems read of a run: tables whose schemas are documented, and a manifest that names every file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from . import __version__, open_results
from .answers import Format, table_bytes
from .apportion import KINDS, items
from .comparison import Stress
from .contributions import contributions_of, exact_level
from .errors import UsageError
from .files import empty_folder, write_whole
from .frames import exceedance
from .questions import Questions
from .schemas import EXPORTS, SCHEMA_VERSION

if TYPE_CHECKING:
    import pandas as pd

MANIFEST = "export.json"
_NAMES = ("contributions", "timeline", "convergence", "tranches", "stress", *(Path(file).stem for file in EXPORTS))


def export(
    run: Questions,
    folder: str | Path,
    level: float,
    tranches: Sequence[Any],
    stress: Stress | str | Path | None,
    kind: Format,
    with_open_results: bool,
) -> Path:
    """Write the tables of a run and export.json; the folder. `Questions.export` says what the arguments are.

    Raises:
        UsageError: an argument is out of range, the stress is of another book, or the folder can't be used.
    """
    if kind not in get_args(Format):
        raise UsageError(f"the format is {kind!r:.40}; it must be parquet or csv")
    exact_level(level)
    place = empty_folder(Path(folder), marks=(MANIFEST,))  # refused now rather than after the tables are made
    tables = _tables(run, level, tranches, stress)
    if with_open_results:
        tables |= open_results.tables(run)
    _clear(place)
    files = {}
    for name, frame in tables.items():
        data = table_bytes(name, frame, kind)
        write_whole(place / f"{name}.{kind}", data)
        files[f"{name}.{kind}"] = {
            "schema_version": SCHEMA_VERSION,
            "rows": len(frame),
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
    text = json.dumps(_manifest(run, level, kind, with_open_results, files), indent=2, allow_nan=False)
    write_whole(place / MANIFEST, f"{text}\n".encode())
    return place


def _tables(
    run: Questions, level: float, tranches: Sequence[Any], stress: Stress | str | Path | None
) -> dict[str, pd.DataFrame]:
    """By name; what was not asked for is left out."""
    import pandas as pd

    kinds = {by: items(run, by) for by in KINDS}
    found = {
        "exceedance": exceedance(run),
        "contributions": pd.concat([c.table for c in contributions_of(run, level, kinds)], ignore_index=True),
        "timeline": run.timeline,
        "convergence": run.convergence([level]),
    }
    if len(tranches):
        found["tranches"] = run.tranches(tranches, level=level).table
    if stress is not None:
        found["stress"] = stress_of(run, stress).table
    return found


def stress_of(run: Questions, stress: Stress | str | Path) -> Stress:
    """The stress, if its base is the run's book.

    Raises:
        UsageError: it is of another book or market.
    """
    found = stress if isinstance(stress, Stress) else Stress.read(stress)
    if found.runs[0].plan_digest != run.plan.digest:
        where = "the stress" if isinstance(stress, Stress) else str(stress)
        raise UsageError(
            f"{where} is of another book or market than the run. Stress the run's own, which lies in its folder: "
            "gpuloan-mc stress RUN/inputs --out DIR"
        )
    return found


def _clear(place: Path) -> None:
    """Remove an earlier export's manifest, then its tables: no reader may take them for this one's."""
    for name in (MANIFEST, *(f"{name}.{kind}" for name in _NAMES for kind in get_args(Format))):
        try:
            (place / name).unlink(missing_ok=True)
        except OSError as error:
            raise UsageError(f"{place / name} can't be removed: {error.strerror}; name another folder") from error


def _manifest(
    run: Questions, level: float, kind: Format, with_open_results: bool, files: dict[str, Any]
) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "version": __version__,
        "digest": run.digest,
        "plan_digest": run.plan.digest,
        "seed": run.seed,
        "n_paths": run.n_paths,
        "horizon_months": run.horizon_months,
        "engine": run.engine,
        "commitment": run.commitment_usd,
        "level": float(level),
        "format": kind,
        "open_results": open_results.metadata(run) if with_open_results else None,
        "files": files,
    }
