"""Arguments of the public functions, checked."""

from __future__ import annotations

import numpy as np

from .errors import UsageError

MAX_SEED = 2**64 - 1
MAX_PATHS = 2**40


def whole_number(name: str, value: int, low: int, high: int) -> int:
    """The value as Python's int.

    Raises:
        UsageError: it is no whole number from low to high.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not low <= value <= high:
        raise UsageError(f"{name} is {value!r}; it must be a whole number from {low} to {high}")
    return int(value)
