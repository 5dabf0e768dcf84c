"""Words and normals of all months at once, compiled: loops over the lanes of rows of months (`numba_abreast`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..paths.lanes import central_normal
from ..paths.philox import LOW32, normal, philox
from ..paths.primitives import lowest_byte
from .numba_abreast import PATHS_AT_ONCE
from .numba_memory import compiled_loop

u8, u32, u64 = np.uint8, np.uint32, np.uint64

AT_ONCE, PLACE, PATHS_APART = u64(PATHS_AT_ONCE), u64(PATHS_AT_ONCE - 1), u64(2)
PURPOSE_APART, STEPS_APART = u64(8), u64(16)


@compiled_loop
def draw_months(words: Any, width: Any, seed: Any, quad: Any, purpose: Any, entity: Any) -> None:
    """(1.6) the four words of every step of four paths: words[k * width + 4 step + q]. Vectorises."""
    low, high = seed & LOW32, seed >> u64(32)
    path = quad << PATHS_APART
    counter, place = path & LOW32, (path >> u64(32)) | (purpose << PURPOSE_APART)
    entity_low, entity_high = entity & LOW32, entity >> u64(32)
    for i in range(width):
        lane = u64(i)
        step = (lane >> PATHS_APART) << STEPS_APART
        w = philox(counter | (lane & PLACE), place | step, entity_low, entity_high, low, high)
        words[lane] = u32(w[0])
        words[width + lane] = u32(w[1])
        words[width + width + lane] = u32(w[2])
        words[width + width + width + lane] = u32(w[3])


@compiled_loop
def draw_shared_months(words: Any, width: Any, seed: Any, quad: Any, purpose: Any) -> None:
    """(1.6) one word of every step of four paths, which share a draw: words[4 step + q]. Vectorises."""
    low, high = seed & LOW32, seed >> u64(32)
    counter, place = quad & LOW32, (quad >> u64(32)) | (purpose << PURPOSE_APART)
    for i in range(width // AT_ONCE):
        step = u64(i)
        w = philox(counter, place | (step << STEPS_APART), u64(0), u64(0), low, high)
        lane = AT_ONCE * step
        words[lane] = u32(w[0])
        words[lane + u64(1)] = u32(w[1])
        words[lane + u64(2)] = u32(w[2])
        words[lane + u64(3)] = u32(w[3])


@compiled_loop
def central_normals(words: Any, first: Any, normals: Any, to: Any, far: Any, n: Any) -> None:
    """(1.7) normals of words, wrong for those far out, which are marked. Vectorises."""
    for i in range(n):
        lane = u64(i)
        z, is_far = central_normal(u64(words[first + lane]))
        normals[to + lane] = z
        far[lane] = u8(1) if is_far else u8(0)


@compiled_loop
def make_normals(work: Any, words: Any, first: Any, normals: Any, to: Any, n: Any) -> None:
    """(1.7) normals of n words, a multiple of 8."""
    central_normals(words, first, normals, to, work.far, n)
    for block in range(n // u64(8)):
        flags = work.far_by_8[block]
        while flags != u64(0):  # each flag is one bit
            lane = u64(8 * block + lowest_byte(flags))
            flags &= flags - u64(1)
            normals[to + lane] = normal(u64(words[first + lane]))
