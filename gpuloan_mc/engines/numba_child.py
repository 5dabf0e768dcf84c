"""A process that compiles the engine numba, or half of it, into the cache while this one does something else.

It lives no longer than its parent: a pipe tells it when that has ended, however it ended, unless it was told to go on alone.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, Literal

from ..errors import EnvironmentProblem
from .numba_compile import no_compiling

What = Literal["all", "months"]

# -P and the parent's path: the child imports what its parent would, whatever lies in the working directory
_BOOT = (
    "import sys; sys.path[:] = sys.argv[1].split(chr(10)); "
    "from gpuloan_mc.engines.numba_child import main; sys.exit(main(sys.argv[2:]))"
)
# what the child compiles. A program that Python is embedded in would be begun again as its own child, and again
_CHILD = "GPULOAN_MC_COMPILES"
_GO_ON = b"+"
_LAST_BYTES = 2000  # of what the child said


class CompilingChild:
    """A process that compiles. End it with `end`, or let it go on with `leave`."""

    def __init__(self, process: subprocess.Popen[bytes], words: IO[bytes]) -> None:
        self._process, self._words, self._parent = process, words, os.getpid()
        self._is_closed = False

    @classmethod
    def start(cls, what: What) -> CompilingChild | None:
        """Start one; None where the system has no room for a process, or no Python of its own is known.

        Args:
            what: all of the engine, which takes two processes, or the half with the months.
        """
        if not sys.executable or getattr(sys, "frozen", False) or os.environ.get(_CHILD) in (what, "months"):
            return None
        path = "\n".join(p for p in sys.path if isinstance(p, str))
        command = [sys.executable, "-P", "-c", _BOOT, path, what]
        try:
            words = tempfile.TemporaryFile()  # noqa: SIM115  # closed when the child has ended
        except OSError:  # no folder for temporary files
            return None
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=words, bufsize=0,
                env=os.environ | {_CHILD: what},
                start_new_session=True,  # Ctrl-C is the parent's, which ends it
            )  # fmt: skip
        except OSError:  # no memory for it, or too many processes
            words.close()
            return None
        return cls(process, words)

    def is_ready(self) -> bool:
        """Whether it has compiled; true as well of one that another run of this process has ended: nobody waits for it.

        Raises:
            EnvironmentProblem: it can't compile, or was killed; says why.
        """
        if self._is_closed:
            return True
        code = self._process.poll()
        if code:
            raise self._problem(code)
        return code == 0

    @property
    def has_ended(self) -> bool:
        """Whether it has ended, well or not, or goes on alone."""
        return self._process.poll() is not None

    @property
    def is_mine(self) -> bool:
        """Whether this process began it, and is no fork of that one."""
        return self._parent == os.getpid()

    def wait(self) -> None:
        """Until it has ended, well or not."""
        self._process.wait()

    def end(self) -> None:
        """End it, if it has not ended; nothing of it is left."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._close()

    def leave(self) -> None:
        """Let it go on by itself until the cache is filled, longer than this process if need be."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has just ended
            self._process.stdin.write(_GO_ON)
            self._process.stdin.flush()
        self._close()
        if self._process.poll() is None:
            self._process.returncode = 0  # Popen warns of a process that it has not seen end; the system takes care of this one

    def _close(self) -> None:
        assert self._process.stdin is not None
        self._is_closed = True
        with suppress(OSError):  # it has just ended
            self._process.stdin.close()
        self._words.close()

    def _problem(self, code: int) -> EnvironmentProblem:
        self._words.seek(0)
        said = self._words.read().decode(errors="replace").strip()
        if code == EnvironmentProblem.exit_code and said:
            return EnvironmentProblem(said)
        names = {s.value: s.name for s in signal.Signals}
        how = f"was killed by {names.get(-code, f'signal {-code}')}" if code < 0 else f"ended with code {code}"
        return no_compiling(f"the process that compiled it {how}{': ' * bool(said)}{said[-_LAST_BYTES:]}")


_shared: CompilingChild | None = None  # that compiles for the runs of this process
_lock = threading.Lock()  # of threads that begin a run


def shared_child(may_begin: bool) -> CompilingChild | None:
    """The child that compiles for all runs of this process; None: there is none.

    Args:
        may_begin: whether one is begun where none is at work.
    """
    global _shared
    with _lock:
        if _shared is not None and _shared.has_ended:
            _shared.end()
            _shared = None
        if _shared is None and may_begin:
            _shared = CompilingChild.start("all")
        return _shared


def finish_shared(stay: bool) -> str:
    """What is told of the child when a command ends; nothing where there is none, or it has compiled.

    Args:
        stay: whether it goes on alone; otherwise it ends.
    """
    global _shared
    with _lock:
        child, _shared = _shared, None
    if child is None:
        return ""
    try:
        if child.is_ready():
            child.end()
            return ""
    except EnvironmentProblem as problem:
        child.end()
        return str(problem)
    if stay:
        child.leave()
        return "engine numba: compiling goes on in the background for a few more seconds, so that the next run is quick"
    child.end()
    return "engine numba: the run ended before it was compiled; `gpuloan-mc warmup` compiles it for the next run"


@atexit.register
def _end_shared() -> None:
    if _shared is not None and _shared.is_mine:
        _shared.end()


def main(arguments: Sequence[str]) -> int:
    """What the child does; its exit code. What went wrong is on stderr."""
    threading.Thread(target=_live_with_parent, daemon=True).start()
    from .numba_cpu import any_signature, warm_up
    from .numba_halves import compile_months

    try:
        if list(arguments) == ["all"]:
            warm_up(processes=2)
        else:
            compile_months(any_signature())
    except EnvironmentProblem as problem:
        sys.stderr.write(f"{problem}\n")
        return EnvironmentProblem.exit_code
    return 0


def _live_with_parent() -> None:
    """End this process with its parent, unless that says to go on."""
    if os.read(sys.stdin.fileno(), 1) != _GO_ON:
        os._exit(1)
