"""A checkout of the project whose speed is measured: its commit, and how a process is made to run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measure

CACHE = "GPULOAN_MC_CACHE"
MADE = ("benchmarks/results", "benchmarks/README.md", "README.md")  # what measuring writes changes no speed


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

    @contextmanager
    def serving(self, task: str, arguments: dict[str, Any], script: Path) -> Iterator[Callable[[], dict[str, Any]]]:
        """A process of a script's task that gets ready, then answers each time that it is asked; {"failed": why} if it can't.

        It says a line when it is ready and a line of JSON for each line that it gets, and ends when there are no more.
        """
        command = [sys.executable, str(script), task, json.dumps({"root": str(self.root), **arguments})]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with (
            tempfile.TemporaryFile("w+") as complaints,
            subprocess.Popen(command, stderr=complaints, env=os.environ | self.environment, **pipes) as process,
        ):

            def answer() -> dict[str, Any]:
                line = process.stdout.readline()
                if line:
                    return dict(json.loads(line))
                code = process.wait()
                complaints.seek(0)
                return {"failed": measure.why(code, complaints.read())}

            def ask() -> dict[str, Any]:
                if "failed" in ready:
                    return ready
                try:
                    process.stdin.write("again\n")
                    process.stdin.flush()
                except BrokenPipeError:
                    return answer()  # it has ended: why
                return answer()

            try:
                ready = answer()
                yield ask
                process.stdin.close()
            except BaseException:
                process.kill()
                raise

    def about(self) -> dict[str, Any]:
        """Its commit, and whether files of it differ from the commit, but for those that measuring writes."""
        changed = self._git("status", "--porcelain", "--", ".", *(f":(exclude){name}" for name in MADE))
        return {"commit": self._git("rev-parse", "--short", "HEAD"), "dirty": bool(changed)}

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
