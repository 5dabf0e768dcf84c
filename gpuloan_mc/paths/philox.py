"""Philox4x32-10 and what is drawn from its words (docs/model.md 1.6, 1.7).

Words are held as uint64 below 2^32: their products are then exact, in the interpreter too.
"""

from __future__ import annotations

import numpy as np

from ..reference.philox import Purpose
from .arithmetic import normal_quantile
from .primitives import fma, lane_function, path_function

f32, i32, u64 = np.float32, np.int32, np.uint64

MARKET, SPOT, GENERATION, LAUNCH, FACTOR, MIXING, OBLIGOR, LOAN, RENEWAL = (u64(int(p)) for p in Purpose)

LOW32 = u64(0xFFFFFFFF)
TAIL_BITS, SIGN_BIT = u64(0x7FFFFFFF), u64(0x80000000)
_32, _16, _8, _2 = u64(32), u64(16), u64(8), u64(2)
MULTIPLIER_0, MULTIPLIER_1 = u64(0xD2511F53), u64(0xCD9E8D57)
WEYL_0, WEYL_1 = u64(0x9E3779B9), u64(0xBB67AE85)
PER_TAIL, HALF_TAIL = f32(2.0**-32), f32(2.0**-33)

Words = tuple[np.uint64, np.uint64, np.uint64, np.uint64]


@lane_function
def _round(
    c0: np.uint64, c1: np.uint64, c2: np.uint64, c3: np.uint64, k0: np.uint64, k1: np.uint64, number: np.uint64
) -> Words:
    """One round, with the key that its number bumps."""
    a, b = c0 * MULTIPLIER_0, c2 * MULTIPLIER_1
    key_0, key_1 = (k0 + number * WEYL_0) & LOW32, (k1 + number * WEYL_1) & LOW32
    return (b >> _32) ^ c1 ^ key_0, b & LOW32, (a >> _32) ^ c3 ^ key_1, a & LOW32


@lane_function
def philox(c0: np.uint64, c1: np.uint64, c2: np.uint64, c3: np.uint64, k0: np.uint64, k1: np.uint64) -> Words:
    """Four 32-bit words of a counter under a key."""
    # ten rounds written out: a loop in here would keep loops over counters scalar
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1, u64(0))
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1, u64(1))
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1, u64(2))
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1, u64(3))
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1, u64(4))
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1, u64(5))
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1, u64(6))
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1, u64(7))
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1, u64(8))
    return _round(c0, c1, c2, c3, k0, k1, u64(9))


@lane_function
def counter(path: np.uint64, purpose: np.uint64, step: np.uint64, entity: np.uint64) -> Words:
    """The counter of a draw; path below 2^40."""
    return path & LOW32, (path >> _32) | (purpose << _8) | (step << _16), entity & LOW32, entity >> _32


@path_function
def draw(seed: np.uint64, path: np.uint64, purpose: np.uint64, step: np.uint64, entity: np.uint64) -> Words:
    """The four words of a draw; path below 2^40."""
    c0, c1, c2, c3 = counter(path, purpose, step, entity)
    return philox(c0, c1, c2, c3, seed & LOW32, seed >> _32)


@path_function
def draw_four(seed: np.uint64, path: np.uint64, purpose: np.uint64, step: np.uint64, entity: np.uint64) -> Words:
    """Where one word is needed: the words of the path's four neighbours, word `path & 3` its own."""
    return draw(seed, path >> _2, purpose, step, entity)


@path_function
def chosen(words: Words, place: int) -> np.uint64:
    """One of four words."""
    low = words[1] if place & 1 else words[0]
    high = words[3] if place & 1 else words[2]
    return high if place & 2 else low


@path_function
def normal(w: np.uint64) -> np.float32:
    """Standard normal of a word, tails kept to 6.3 standard deviations (1.7)."""
    n = normal_quantile(fma(f32(w & TAIL_BITS), PER_TAIL, HALF_TAIL))
    return -n if w >= SIGN_BIT else n


@path_function
def rank(w: np.uint64) -> np.uint64:
    """The order of a word's normal among all words: 0 for the lowest (3.6)."""
    return w ^ SIGN_BIT if w >= SIGN_BIT else w ^ LOW32


@path_function
def event_word(w: np.uint64) -> np.int32:
    """The 24 bits that are compared with an event's threshold."""
    return i32(w >> _8)
