"""How many cores this process may use, and how many of them nobody else does."""

from __future__ import annotations

import math
import os


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def idle_cores() -> int:
    """Cores beside this process's own that it may use and that were idle for the last minute; 0 where that is not known.

    The machine's cores less its load average, rounded down; a limit of CPU time that a container has is not looked at.
    """
    try:
        load = os.getloadavg()[0]
    except (OSError, AttributeError):  # the system has none
        return 0
    return max(0, min(available_cores() - 1, math.floor((os.cpu_count() or 1) - load)))
