"""Which kernels a run launches, on how many threads, and the device memory that they write (docs/engines.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..paths.tally import GROUP_COLUMNS, LOAN_COLUMNS, Sums
from ..plan import Plan
from ..reference.market import MAX_LAUNCHES
from ..reference.philox import ROUNDS, WEYL
from .base import PathTable
from .cuda_layout import SMALL_BOOK, STATE_ROWS, TILE, Layout

THREADS = 128  # of kernels whose threads are paths or groups
LARGE = 512  # threads of a block of a large book
MIDDLE_BOOK = 256  # GPU loans: up to here several paths a warp, …
PAIR_OF_128 = 1024  # … 128 threads of a block that walks two paths, …
BLOCK_OF_256 = 2048  # … of 256, …
BLOCK_OF_512 = 5120  # … of 512, ten loans a thread, …
CLUSTERS = (2, 4, 8)  # … and beyond so many blocks of 512, as few as keep the loans' state
SLICES_A_MULTIPROCESSOR = 8  # blocks of `simulate_plain` that keep one busy
QUEUE_BYTES = 160 * 12  # candidates of a warp of `simulate_plain`
WARP = 32
BLOCKS = {  # that a multiprocessor's registers hold on an H200: the launch bounds of simulate.cu
    "simulate_small_8": 4,
    "simulate_small_16": 4,
    "simulate_pair_128": 3,
    "simulate_block_256": 2,
    "simulate_block_512": 1,
    "simulate_cluster_2": 1,
    "simulate_cluster_4": 1,
    "simulate_cluster_8": 1,
    "simulate_large_512": 1,
}
WALK_THREADS = {  # of a block
    "simulate_small_8": THREADS,
    "simulate_small_16": THREADS,
    "simulate_pair_128": 256,
    "simulate_block_256": 256,
    "simulate_block_512": 512,
    "simulate_large_512": 512,
}
KERNELS = ("draw_ahead", "simulate_plain", *WALK_THREADS, "close_loans", "close_paths")  # of every GPU


@dataclass(frozen=True, slots=True)
class Device:
    """What the mapping needs to know of a GPU."""

    multiprocessors: int
    shared_bytes_a_block: int  # with opt-in
    shared_bytes_a_multiprocessor: int
    threads_a_multiprocessor: int = 2048
    blocks_a_cluster: int = 1  # at most; 1: there are no clusters
    blocks: Mapping[str, int] = field(default_factory=lambda: BLOCKS)  # of a walk that its registers hold


def cluster_kernels(device: Device) -> list[str]:
    """The kernels that only a GPU with clusters has."""
    return [f"simulate_cluster_{n}" for n in CLUSTERS if n <= device.blocks_a_cluster]


@dataclass(frozen=True, slots=True)
class Launch:
    """A kernel of simulate.cu, in the order of launching; its arguments are the two structs, by value.

    `shared_bytes` above 48 KiB have to be allowed for by the function's attribute first.
    """

    kernel: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared_bytes: int


@dataclass(frozen=True, slots=True)
class Buffer:
    """Device memory of a run. `is_zeroed`: set to 0 before the first launch; `is_output`: `table` reads it."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_zeroed: bool
    is_output: bool

    @property
    def n_bytes(self) -> int:
        """Size in bytes."""
        return int(np.prod(self.shape)) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Walk:
    """How `launches` maps paths whose months are walked."""

    kernel: str
    lanes: int  # threads of a path in a block
    threads: int  # of a block
    shared_bytes: int  # of a block
    arena_bytes: int  # of a path, in global memory
    blocks_a_multiprocessor: int
    blocks: int = 1  # of a path

    @property
    def teams(self) -> int:
        """Paths that a block, or a cluster of blocks, has in flight."""
        return self.threads // self.lanes

    def at_once(self, n_paths: int, device: Device) -> int:
        """Blocks, or clusters, that walk months: persistent, each takes paths until none is left."""
        fit = max(1, device.multiprocessors * self.blocks_a_multiprocessor // self.blocks)
        return min(-(-n_paths // self.teams), fit)


def walk(layout: Layout, device: Device) -> Walk:
    """The mapping for the book's size."""
    n_loans, hot, cold = layout.size["n_loans"], layout.hot_bytes, layout.cold_bytes
    lanes = 8 if n_loans <= SMALL_BOOK else 16
    shared = hot * (THREADS // lanes)
    if n_loans <= MIDDLE_BOOK and shared <= device.shared_bytes_a_block:
        return _walk(f"simulate_small_{lanes}", lanes, THREADS, shared, cold, device)
    if n_loans <= PAIR_OF_128 and 2 * hot <= device.shared_bytes_a_block:
        return _walk("simulate_pair_128", 128, 256, 2 * hot, cold, device)
    threads = 256 if n_loans <= BLOCK_OF_256 else 512
    if hot <= device.shared_bytes_a_block and (n_loans <= BLOCK_OF_512 or device.blocks_a_cluster == 1):
        return _walk(f"simulate_block_{threads}", threads, threads, hot, cold, device)
    for blocks in CLUSTERS:
        shared = state_bytes(layout, blocks)
        if blocks <= device.blocks_a_cluster and shared <= device.shared_bytes_a_block:
            arena = cold + layout.bytes_before_state
            return _walk(f"simulate_cluster_{blocks}", LARGE, LARGE, shared, arena, device, blocks)
    return _walk(f"simulate_large_{LARGE}", LARGE, LARGE, 0, cold + hot, device)


def _walk(kernel: str, lanes: int, threads: int, shared: int, arena: int, device: Device, blocks: int = 1) -> Walk:
    by_memory = device.shared_bytes_a_multiprocessor // (shared + 1024)  # a block takes 1 KiB more
    by_threads = device.threads_a_multiprocessor // threads
    return Walk(kernel, lanes, threads, shared, arena, max(1, min(by_memory, by_threads, device.blocks[kernel])), blocks)


def state_bytes(layout: Layout, blocks: int) -> int:
    """Bytes of the loans' state in each of a cluster's blocks, which take turns of as many tiles as they have warps."""
    tiles = -(-layout.size["n_loans"] // TILE)
    turn = LARGE // TILE
    return -(-tiles // (turn * blocks)) * turn * 4 * TILE * (STATE_ROWS + layout.size["n_slots"])


def launches(layout: Layout, n_paths: int, device: Device, *, prices: bool = False) -> list[Launch]:
    """What to launch for a run, in this order."""
    threads = (THREADS, 1, 1)
    walks = layout.needs_market or prices
    generations = 12 * THREADS * layout.size["n_generations"] if walks else 0  # three floats a thread and generation
    result = [Launch("draw_ahead", (-(-n_paths // THREADS), 1, 1), threads, generations)]
    if layout.plain_runs:
        across = -(-(n_paths // 4 + 2) // THREADS)
        wanted = -(-device.multiprocessors * SLICES_A_MULTIPROCESSOR // across)
        slices = max(1, min(wanted, layout.plain_runs, 65_535))
        result.append(Launch("simulate_plain", (across, slices, 1), threads, QUEUE_BYTES * THREADS // WARP))
    if walks:
        chosen = walk(layout, device)
        blocks = chosen.at_once(n_paths, device) * chosen.blocks
        result.append(Launch(chosen.kernel, (blocks, 1, 1), (chosen.threads, 1, 1), chosen.shared_bytes))
    if layout.size["n_plain"]:
        result.append(Launch("close_loans", (-(-layout.size["n_plain"] // THREADS), 1, 1), threads, 0))
    across = -(-layout.size["n_groups"] // THREADS)
    slices = max(1, min(-(-n_paths // 64), -(-device.multiprocessors * 8 // across), 65_535))
    result.append(Launch("close_paths", (across, slices, 1), threads, 0))
    return result


def buffers(layout: Layout, n_paths: int, device: Device, *, prices: bool = False) -> dict[str, Buffer]:
    """Device memory of a run by field of `gpuloan::Run`."""
    size = layout.size
    months, horizon, n_generations = size["n_months"] + 1, size["horizon"], size["n_generations"]
    f32, i32, i64 = (np.dtype(kind) for kind in (np.float32, np.int32, np.int64))

    def scratch(dtype: np.dtype[Any], *shape: int) -> Buffer:
        return Buffer(shape, dtype, False, False)

    def output(dtype: np.dtype[Any], *shape: int) -> Buffer:
        return Buffer(shape, dtype, True, True)

    walks = layout.needs_market or prices
    walked = months if walks else 0
    launched = size["n_families"] * MAX_LAUNCHES if walks else 0
    chosen = walk(layout, device)
    teams = chosen.at_once(n_paths, device) * chosen.teams if walks else 0
    return {
        "regime": scratch(i32, months, n_paths),
        "demand": scratch(f32, months, n_paths),
        "outside": scratch(f32, walked, n_generations + 2, n_paths),
        "launch_month": scratch(f32, launched, n_paths),
        "launch_size": scratch(f32, launched, n_paths),
        "factors": scratch(f32, max(size["n_factors"], 1), n_paths),
        "mixing": scratch(f32, 2, n_paths),
        "log_hazard": scratch(f32, size["n_classes"], horizon + 1, n_paths),
        "arena": scratch(np.dtype(np.uint8), teams, chosen.arena_bytes),
        "counts": Buffer((size["n_plain"], horizon + 1), i32, True, False),
        "cells": Buffer((n_paths, size["n_cells"], 3), i64, True, False),
        "loss": output(i64, n_paths),
        "discounted_loss": output(i64, n_paths),
        "defaulted_balance": output(i64, n_paths),
        "largest_loss": output(i64, n_paths),
        "defaults": output(i32, n_paths),
        "by_loan": output(i64, size["n_all_loans"], LOAN_COLUMNS),
        "by_group": output(i64, size["n_groups"], GROUP_COLUMNS),
        "prices": output(f32, n_paths if prices else 0, horizon + 1, 2, n_generations),
    }


def bytes_a_path(layout: Layout, device: Device, *, prices: bool = False) -> int:
    """Device memory that one path more takes, the arena apart."""
    few, many = (buffers(layout, n, device, prices=prices) for n in (1000, 2000))
    return sum(-(-(many[name].n_bytes - few[name].n_bytes) // 1000) for name in few if name != "arena")


def run_type(names: list[str]) -> np.dtype[Any]:
    """The layout of `gpuloan::Run`."""
    numbers = [("seed", np.uint64), ("first_path", np.uint64), ("n_paths", np.int64), ("walks", np.int64)]
    return np.dtype([("keys", np.uint32, 2 * ROUNDS), *numbers, *((name, np.uint64) for name in names)], align=True)


def round_keys(seed: int) -> NDArray[np.uint32]:
    """(20,) the keys of Philox's rounds, two each (docs/model.md 1.6)."""
    return np.array([(seed >> 32 * k) + n * weyl & 0xFFFFFFFF for n in range(ROUNDS) for k, weyl in enumerate(WEYL)], np.uint32)


def run_struct(
    layout: Layout, seed: int, first_path: int, n_paths: int, addresses: dict[str, int], *, prices: bool = False
) -> bytes:
    """The bytes of `gpuloan::Run`, a kernel's second argument, given where each of `buffers` lies; 0: nowhere."""
    record = np.zeros((), run_type(list(addresses)))
    record["keys"], record["seed"] = round_keys(seed), seed
    record["first_path"], record["n_paths"] = first_path, n_paths
    record["walks"] = layout.needs_market or prices
    for name, address in addresses.items():
        record[name] = address
    if not prices:
        record["prices"] = 0
    return record.tobytes()


def table(plan: Plan, first_path: int, outputs: dict[str, NDArray[Any]], *, prices: bool = False) -> PathTable:
    """The outputs of a run, copied to the host, as a table."""
    from .digit_rows import path_table

    unused = np.zeros((0, 0), np.int64)
    sums = Sums(outputs["by_loan"], outputs["by_group"], unused, unused, unused)
    return path_table(first_path, outputs, sums, prices)
