"""Arguments of the public functions, checked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .errors import UsageError

MAX_SEED = 2**64 - 1
MAX_PATHS = 2**40
MAX_WORKERS = 1024
MAX_DEVICE = 255


def whole_number(name: str, value: int, low: int, high: int) -> int:
    """The value as Python's int.

    Raises:
        UsageError: it is no whole number from low to high.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not low <= value <= high:
        raise UsageError(f"{name} is {value!r}; it must be a whole number from {low} to {high}")
    return int(value)


def device_numbers(devices: Sequence[int] | None) -> tuple[int, ...] | None:
    """The numbers of the devices to use, as CUDA counts them, or None.

    Raises:
        UsageError: not a list of different whole numbers from 0.
    """
    if devices is None:
        return None
    if isinstance(devices, (str, bytes)) or not isinstance(devices, Sequence) or not devices:
        raise UsageError(f"devices is {devices!r}; it must be a list of device numbers, such as [0, 1]")
    numbers = tuple(whole_number("a device", d, 0, MAX_DEVICE) for d in devices)
    if len(set(numbers)) < len(numbers):
        raise UsageError(f"devices is {list(numbers)}; name each device once")
    return numbers
