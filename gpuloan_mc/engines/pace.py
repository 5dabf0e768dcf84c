"""How many paths a chunk takes: few enough that Ctrl-C and the progress bar know more every second."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_SECONDS = 1.0  # a chunk's aim
_GROWTH = 4  # of a chunk against the one before


class Pace:
    """Sizes of chunks from the time that the last one took. No size changes a figure."""

    def __init__(self, first: int, longest: int) -> None:
        self.size = min(first, longest)
        self._longest = longest

    def timed(self, chunk: Callable[[], T]) -> T:
        """Run a chunk of `size` paths and choose the next one's size."""
        start = time.perf_counter()
        result = chunk()
        seconds = max(time.perf_counter() - start, 1e-9)
        growth = min(_SECONDS / seconds, _GROWTH)
        if self.size < self._longest or growth < 1:
            self.size = max(1, min(int(self.size * growth), self._longest))
        return result
