"""How many paths a chunk takes: few enough that Ctrl-C and the progress bar know more every second, where an engine can."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_SECONDS = 1.0  # a chunk's aim
_GROWTH = 4  # of a chunk against the one before


class Pace:
    """Sizes of chunks from the time that the last one took. No size changes a figure.

    None is below the first: an engine is as slow with fewer paths as with those, and on a busy machine one path would be left.
    """

    def __init__(self, first: int, longest: int) -> None:
        self.size = self._shortest = min(first, longest)
        self._longest = longest

    def timed(self, chunk: Callable[[], T]) -> T:
        """Run a chunk of `size` paths and choose the next one's size."""
        start = time.perf_counter()
        result = chunk()
        seconds = max(time.perf_counter() - start, 1e-9)
        growth = min(_SECONDS / seconds, _GROWTH)
        self.size = max(self._shortest, min(int(self.size * growth), self._longest))
        return result
