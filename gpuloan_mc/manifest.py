"""manifest.json of a run's folder: what ran, sealed so that damage is seen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import UsageError

MANIFEST = "manifest.json"
AGAIN = "Run the book again with --out"


def sealed(manifest: Mapping[str, Any]) -> bytes:
    """The file's bytes: the manifest and, as its last key, its checksum."""
    content = {key: value for key, value in manifest.items() if key != "checksum"}
    return (json.dumps(content | {"checksum": _checksum(content)}, indent=2, allow_nan=False) + "\n").encode()


def read_manifest(folder: Path) -> dict[str, Any]:
    """The object in the folder's manifest, its seal not looked at.

    Raises:
        UsageError: there is none.
    """
    try:
        found = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError) as error:
        kind = "is no folder" if not folder.is_dir() else f"has no readable {MANIFEST}"
        raise UsageError(f"{folder} {kind}; name a folder written by gpuloan-mc run BOOK --out DIR") from error
    return found if isinstance(found, dict) else {}


def check_origin(folder: Path, found: Mapping[str, Any], **here: Any) -> None:
    """Refuse a manifest of another kind than this program writes; `here` holds the keys and values that it would write.

    Raises:
        UsageError: naming the differences.
    """
    for key, value in here.items():
        if found.get(key) != value:
            raise UsageError(
                f"{folder} comes from gpuloan_mc {found.get('version')!s:.20}: its {key} is {found.get(key)!r:.40}, and this "
                f"version reads {value!r}. {AGAIN}, or ask with the version that wrote it"
            )


def check_seal(folder: Path, found: Mapping[str, Any]) -> None:
    """Refuse a manifest that is not as it was written.

    Raises:
        UsageError: it was changed or damaged.
    """
    content = {key: value for key, value in found.items() if key != "checksum"}
    if found.get("checksum") != _checksum(content):
        raise UsageError(f"{folder}: {MANIFEST} was changed or damaged since it was written. {AGAIN}")


def facts(file: Path) -> dict[str, Any]:
    """Bytes and sha256 of a file."""
    with file.open("rb") as stream:
        return {"bytes": file.stat().st_size, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}


def is_the_file(file: Path, fact: Any) -> bool:
    """Whether a file is there and is the one of the manifest."""
    try:
        return isinstance(fact, dict) and facts(file)["sha256"] == fact.get("sha256")
    except OSError:
        return False


def check_file(folder: Path, name: str, fact: Any) -> None:
    """Refuse a file that is not the one of the manifest.

    Raises:
        UsageError: it can't be read, or was changed.
    """
    try:
        found = facts(folder / name)
    except OSError as error:
        raise UsageError(f"{folder}: {name} can't be read: {error.strerror}. {AGAIN}") from error
    if not isinstance(fact, dict) or found["sha256"] != fact.get("sha256"):
        raise UsageError(f"{folder}: {name} was changed or damaged since the run. {AGAIN}")


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
