"""The name of this machine's processor."""

from __future__ import annotations

import platform
from contextlib import suppress


def processor() -> str:
    """The processor's name, where the system tells it."""
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
        for line in lines:  # not all of them: a machine of many cores writes a long file
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()
