"""The lock of a run's folder: one process writes there at a time."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from pathlib import Path
from typing import Any

from .errors import EnvironmentProblem
from .files import written

LOCK = ".lock"
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class FolderLock:
    """Held from `with` to its end. The system frees it when its process dies, so that a killed run blocks nobody.

    Raises:
        EnvironmentProblem: another process holds it, or one of another machine may.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK

    def __enter__(self) -> FolderLock:
        while True:
            with written(self._path):
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                self._take()
                if self._is_the_file():
                    self._say_whose()
                    return self
            except BaseException:
                os.close(self._file)
                raise
            os.close(self._file)  # its holder has just gone, and the file with it

    def __exit__(self, *_: object) -> None:
        self._path.unlink(missing_ok=True)
        os.close(self._file)

    def _take(self) -> None:
        holder = self._holder()
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = f"process {holder.get('pid')} on {holder.get('host')}" if holder else "another process"
            raise EnvironmentProblem(
                f"{self._path.parent} is being written by {who}; wait for it, or name another folder"
            ) from None
        holder = self._holder()
        if holder and holder.get("host") != socket.gethostname():  # locks of some shared disks end at the machine
            raise EnvironmentProblem(
                f"{self._path.parent} was being written by process {holder.get('pid')} on {holder.get('host')}; if that has "
                f"ended, delete {self._path}"
            )

    def _is_the_file(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._file), os.stat(self._path))
        except FileNotFoundError:
            return False

    def _holder(self) -> dict[str, Any]:
        """Who wrote the file last; empty: nobody, or it was killed while it wrote."""
        try:
            found = json.loads(os.pread(self._file, 4096, 0))
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def _say_whose(self) -> None:
        boot = _BOOT.read_text().strip() if _BOOT.exists() else ""
        data = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "boot": boot}).encode()
        with written(self._path):
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, data, 0)
