"""Which engine ran which paths of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


class EnginePaths:
    """Ranges of paths, each run by one engine."""

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int, str]] = []  # from, to, engine; in order, neighbours of one engine joined

    def add(self, engine: str, first: int, end: int) -> None:
        """Note that an engine ran the paths first … end - 1."""
        joined: list[tuple[int, int, str]] = []
        for a, b, name in sorted([*self._ranges, (first, end, engine)]):
            if joined and joined[-1][1:] == (a, name):
                a = joined.pop()[0]
            joined.append((a, b, name))
        self._ranges = joined

    def add_all(self, rows: Iterable[Mapping[str, Any]], n_paths: int) -> None:
        """Note what `rows` of these have of the paths below `n_paths`."""
        for row in rows:
            first, end = row["first_path"], min(row["first_path"] + row["n_paths"], n_paths)
            if first < end:
                self.add(row["engine"], first, end)

    @property
    def rows(self) -> tuple[dict[str, Any], ...]:
        """One row per range, in path order: engine, first_path, n_paths."""
        return tuple({"engine": name, "first_path": a, "n_paths": b - a} for a, b, name in self._ranges)


def other_engines(engine: str, rows: Iterable[Mapping[str, Any]]) -> str:
    """The ranges that another engine ran, for people: `, paths 0 to 255 on numpy`; nothing where there is none."""
    parts = [
        f", paths {row['first_path']:,} to {row['first_path'] + row['n_paths'] - 1:,} on {row['engine']}"
        for row in rows
        if row["engine"] != engine
    ]
    return "".join(parts[:_SHOWN]) + (f", and {len(parts) - _SHOWN:,} ranges more" if len(parts) > _SHOWN else "")


_SHOWN = 3
