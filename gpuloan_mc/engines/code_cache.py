"""Folders for compiled code: one a digest of everything the code depends on, so nothing stale is ever loaded."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ..errors import EnvironmentProblem

CACHE = "GPULOAN_MC_CACHE"


def code_folder(key: str) -> Path | None:
    """Where the code of this key is kept, made if need be; None where nothing can be written.

    $GPULOAN_MC_CACHE, or gpuloan-mc under the user's cache folder, or a folder of the user's own for temporary files.

    Raises:
        EnvironmentProblem: the folder that $GPULOAN_MC_CACHE names can't be written.
    """
    named = os.environ.get(CACHE)
    if named:
        folder = Path(named) / f"code-{key}"
        if not _writable(folder):
            raise EnvironmentProblem(f"${CACHE} is {named}, which can't be written; name another folder or unset it")
        return folder
    for place in places():
        if _writable(place / f"code-{key}"):
            return place / f"code-{key}"
    return None


def places() -> Iterator[Path]:
    """Folders that may hold what is kept, the first choice first; none of them need be there."""
    named = os.environ.get(CACHE)
    if named:
        yield Path(named)
        return
    for place in (_user_cache, temporary):  # the second is made only when it is asked for
        found = place()
        if found is not None:
            yield found


def keep(file: Path, data: bytes) -> bool:
    """Write code so that no process sees half of it, whoever writes at once; False where it can't be written."""
    part = file.with_name(f".{file.name}.{secrets.token_hex(8)}")  # a name that nobody else has
    try:
        with part.open("xb") as stream:  # with the rights that the umask gives: others may share the folder
            stream.write(data)
        part.replace(file)
    except OSError:  # a full disk, or a folder that went away
        with suppress(OSError):
            part.unlink()
        return False
    return True


def _user_cache() -> Path | None:
    given = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    if given and Path(given).is_absolute():
        return Path(given) / "gpuloan-mc"
    try:
        return Path.home() / ".cache" / "gpuloan-mc"
    except RuntimeError:  # no home
        return None


def temporary() -> Path | None:
    """A folder of this user alone: machine code is loaded from it, so nobody else may write there."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    try:
        folder = Path(tempfile.gettempdir()) / f"gpuloan-mc-{user}"
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError:
        return None
    mine = not hasattr(os, "getuid") or (status.st_uid == user and not status.st_mode & 0o022)
    return folder if mine and not folder.is_symlink() else None


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
