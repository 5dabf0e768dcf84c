"""The CUDA kernels on the host: simulate.cu built by g++, launched as the engine `cuda` would launch them."""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import subprocess
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from gpuloan_mc.engines import cuda_mapping
from gpuloan_mc.engines.base import PathTable
from gpuloan_mc.engines.cuda_layout import lay_out
from gpuloan_mc.engines.cuda_mapping import Device
from gpuloan_mc.plan import Plan

HERE = Path(__file__).parent
KERNELS = HERE.parents[1] / "kernels"
OPTIONS = ["-std=c++17", "-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"]
FMA = ["-mfma"]
# small, so that blocks take several paths each
DEVICE = Device(multiprocessors=2, shared_bytes_a_block=99 * 1024, shared_bytes_a_multiprocessor=100 * 1024)
CLUSTER_DEVICE = replace(DEVICE, multiprocessors=17, blocks_a_cluster=8)
TINY_DEVICE = Device(multiprocessors=1, shared_bytes_a_block=512, shared_bytes_a_multiprocessor=1024)


def compiler() -> str | None:
    """g++, if there is one."""
    return shutil.which("g++")


def has_fma() -> bool:
    """Whether this CPU has fused multiply-add: without it every fma is a slow call."""
    cpu = Path("/proc/cpuinfo")
    return cpu.exists() and " fma " in cpu.read_text()


@cache
def library(*more: str, source: str = "emulated.cpp") -> ctypes.CDLL:
    """The kernels, compiled once a set of sources and options."""
    files = sorted({*KERNELS.rglob("*.cu*"), HERE / "device_on_host.h", HERE / "emulated.cpp", HERE / source})
    options = [*OPTIONS, *(FMA if has_fma() else []), *more]
    sha = hashlib.sha256(repr(options).encode())
    for file in files:
        sha.update(file.read_bytes())
    target = Path(tempfile.gettempdir()) / f"gpuloan-emulated-{sha.hexdigest()[:16]}.so"
    if not target.exists():
        with tempfile.TemporaryDirectory() as folder:
            built = Path(folder) / "emulated.so"
            command = ["g++", *options, f"-I{KERNELS}", f"-I{HERE}", str(HERE / source), "-o", str(built)]
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr[:8000]
            shutil.copy(built, target)
    return ctypes.CDLL(str(target))


def run_emulated(
    plan: Plan,
    seed: int,
    first_path: int,
    n_paths: int,
    *,
    prices: bool = False,
    order: int = 0,
    device: Device = DEVICE,
    kernels: ctypes.CDLL | None = None,
) -> PathTable:
    """The integers of paths first_path … first_path + n_paths - 1; `order`: in which order threads run."""
    kernels = kernels or library()
    layout = lay_out(plan)
    keep = {name: _aligned(array) for name, array in layout.arrays.items()}
    struct = layout.struct({name: array.ctypes.data for name, array in keep.items()})
    memory: dict[str, Any] = {}
    for name, buffer in cuda_mapping.buffers(layout, n_paths, device, prices=prices).items():
        garbage = np.full(buffer.n_bytes + 64, 0 if buffer.is_zeroed else 0x5A + order, np.uint8)
        memory[name] = _aligned(garbage)[: buffer.n_bytes].view(buffer.dtype).reshape(buffer.shape)
    addresses = {name: array.ctypes.data for name, array in memory.items()}
    run = cuda_mapping.run_struct(layout, seed, first_path, n_paths, addresses, prices=prices)
    for launch in cuda_mapping.launches(layout, n_paths, device, prices=prices):
        assert launch.shared_bytes <= max(device.shared_bytes_a_block, 8192)
        status = kernels.launch(
            launch.kernel.encode(), launch.grid[0], launch.grid[1], launch.block[0], launch.shared_bytes, struct, run,
            order,
        )  # fmt: skip
        assert status == 0, launch.kernel
    return cuda_mapping.table(plan, first_path, memory, prices=prices)


def _aligned(array: Any) -> Any:
    """A copy that begins at a multiple of 64 bytes, as device memory does."""
    raw = np.zeros(array.nbytes + 64, np.uint8)
    start = -raw.ctypes.data % 64
    copy = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy
