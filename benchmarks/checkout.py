"""A checkout of the project whose speed is measured: its commit, and how a process is made to run it."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measure

CACHE = "GPULOAN_MC_CACHE"


@dataclass(frozen=True, slots=True)
class Checkout:
    """`root`: its folder; `cache`: a folder for its machine code alone, None: the usual one."""

    root: Path
    cache: Path | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to run this checkout: only the changes."""
        return {"PYTHONPATH": str(self.root)} | ({} if self.cache is None else {CACHE: str(self.cache)})

    def child(self, task: str, arguments: dict[str, Any], script: Path, timeout: float = 3600) -> dict[str, Any]:
        """The answer of a script's task that runs this checkout; {"failed": why} where it fails."""
        arguments = {"root": str(self.root), **arguments}
        return measure.child(task, arguments, script=script, more=self.environment, timeout=timeout)

    def about(self) -> dict[str, Any]:
        """Its commit, and whether files of it differ from the commit."""
        return {"commit": self._git("rev-parse", "--short", "HEAD"), "dirty": bool(self._git("status", "--porcelain"))}

    def _git(self, *arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(self.root), *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()


def here() -> Path:
    """The checkout of these scripts."""
    return measure.HERE.parent


def must_be(root: str) -> None:
    """Stop unless the package that is imported is this checkout's: an installed one may come first.

    Raises:
        ImportError: it is another one.
    """
    import gpuloan_mc

    found = Path(gpuloan_mc.__file__).resolve()
    if Path(root).resolve() not in found.parents:
        raise ImportError(f"the package that is imported is not the checkout's: {os.path.basename(root)}")
