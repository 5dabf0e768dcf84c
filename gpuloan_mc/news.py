"""Lines that a run tells while it goes on."""

from __future__ import annotations

from typing import Any


class News(str):
    """A line for people that is an event with facts for machines (docs/reliability.md)."""

    event: str
    facts: dict[str, Any]

    def __new__(cls, text: str, event: str, **facts: Any) -> News:
        """The line `text`, of an event of this name."""
        line = super().__new__(cls, text)
        line.event, line.facts = event, facts
        return line

    def __getnewargs_ex__(self) -> tuple[tuple[str, str], dict[str, Any]]:
        """What a copy is made of, in another process too."""
        return (str(self), self.event), self.facts


def compiling(processes: int, meanwhile: str | None = None) -> News:
    """The engine numba is being compiled, for the first time on this machine.

    Args:
        processes: that compile.
        meanwhile: the engine that runs paths until then; None: the run waits.
    """
    text = f"engine numba: compiling once, about {12 if processes > 1 else 20} s"
    return News(text + f"; meanwhile on {meanwhile}" * bool(meanwhile), "compiling", engine="numba", meanwhile=meanwhile)


def compiled(seconds: float, paths: int = 0) -> News:
    """It is compiled after so many seconds, in which the engine numpy ran so many paths."""
    text = f"engine numba: compiled after {seconds:.0f} s" + f"; {paths:,} paths were run on numpy" * bool(paths)
    return News(text, "compiled", engine="numba", after=round(seconds, 3), meanwhile_paths=paths)
