"""What NVIDIA's driver says about this machine, asked through its own library: quick, and without CuPy."""

from __future__ import annotations

import ctypes
import os
import sys
import uuid
from dataclasses import dataclass
from typing import Any

NO_DEVICE = 100
DEFAULT, EXCLUSIVE_THREAD, PROHIBITED, EXCLUSIVE = range(4)  # compute modes
_MAJOR, _MINOR, _MODE = 75, 76, 20  # numbers of cuDeviceGetAttribute


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """A GPU as the driver describes it."""

    name: str
    capability: tuple[int, int]
    n_bytes: int
    mode: int = DEFAULT
    uuid: str = ""  # as nvidia-smi writes it: GPU-…

    def __str__(self) -> str:
        major, minor = self.capability
        return f"{self.name}, sm_{major}{minor}, {self.n_bytes / 2**20:,.0f} MiB"


@dataclass(frozen=True, slots=True)
class Driver:
    """An installed driver; `status` is what starting it returned, 0 for success."""

    version: tuple[int, int]  # the newest CUDA that it knows
    status: int
    devices: tuple[DeviceFacts, ...]
    visible: str | None = None  # $CUDA_VISIBLE_DEVICES


def load() -> Driver | None:
    """The driver of this machine; None where there is none."""
    library = _library()
    return None if library is None else ask(library, os.environ.get("CUDA_VISIBLE_DEVICES"))


def _library() -> Any:
    try:
        return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None


def ask(library: Any, visible: str | None = None) -> Driver:
    """What the driver's library says; it has the functions of cuda.h."""
    status = int(library.cuInit(0))
    number = ctypes.c_int(0)
    library.cuDriverGetVersion(ctypes.byref(number))
    version = (number.value // 1000, number.value % 1000 // 10)
    if status:
        return Driver(version, status, (), visible)
    count = ctypes.c_int(0)
    status = int(library.cuDeviceGetCount(ctypes.byref(count)))
    return Driver(version, status, tuple(_device(library, i) for i in range(count.value)), visible)


def _device(library: Any, number: int) -> DeviceFacts:
    handle, value, n_bytes = ctypes.c_int(0), ctypes.c_int(0), ctypes.c_size_t(0)
    name = ctypes.create_string_buffer(256)
    library.cuDeviceGet(ctypes.byref(handle), number)
    library.cuDeviceGetName(name, len(name), handle)
    library.cuDeviceTotalMem_v2(ctypes.byref(n_bytes), handle)

    def attribute(which: int) -> int:
        library.cuDeviceGetAttribute(ctypes.byref(value), which, handle)
        return value.value

    capability = attribute(_MAJOR), attribute(_MINOR)
    facts = name.value.decode(errors="replace"), capability, n_bytes.value, attribute(_MODE)
    return DeviceFacts(*facts, _uuid(library, handle))


def _uuid(library: Any, handle: ctypes.c_int) -> str:
    """Of a GPU, or of a part of one; drivers before CUDA 11.4 do not tell."""
    tell = getattr(library, "cuDeviceGetUuid_v2", None)
    if tell is None:
        return ""
    found = ctypes.create_string_buffer(16)
    tell(found, handle)
    return f"GPU-{uuid.UUID(bytes=found.raw)}"
