"""Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random numbers, as easy as 1, 2, 3; SC 2011) and what is drawn
from its words (docs/model.md 1.6, 1.7). A draw is a function of where it is: seed, path, purpose, step and entity."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arithmetic import F32, U32, Bool, f32, fma, normal_quantile

U64 = NDArray[np.uint64]

_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10


class Purpose(IntEnum):
    """What a draw is for: part of its counter."""

    MARKET = 0  # step t: regime, n_M, jump, its size
    SPOT = 1  # step t
    GENERATION = 2  # step t, entity g // 4, word g mod 4
    LAUNCH = 3  # step j, entity family: lag, size
    FACTOR = 4  # entity k // 4, word k mod 4
    MIXING = 5
    OBLIGOR = 6  # entity: hash of the obligor's id
    LOAN = 7  # entity: hash of the loan's id: pulled in or LGD, step-in, lag, haircut
    RENEWAL = 8  # step t, entity: hash of the deployment's id


def philox(counter: tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike], key: tuple[int, int]) -> tuple[U32, ...]:
    """Four 32-bit words for each counter (four uint32 values that broadcast) under the key."""
    c0, c1, c2, c3 = (np.asarray(c, dtype=np.uint64) for c in counter)
    k0, k1 = key
    for _ in range(ROUNDS):
        a, b = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (b >> _32) ^ c1 ^ np.uint64(k0), b & _LOW, (a >> _32) ^ c3 ^ np.uint64(k1), a & _LOW
        k0, k1 = (k0 + WEYL[0]) & 0xFFFFFFFF, (k1 + WEYL[1]) & 0xFFFFFFFF
    return tuple(np.asarray(c).astype(np.uint32) for c in np.broadcast_arrays(c0, c1, c2, c3))


def words(seed: int, paths: U64, purpose: Purpose, step: int = 0, entity: ArrayLike = 0) -> tuple[U32, ...]:
    """The four words of a draw, for path numbers below 2^40; shapes of paths and entity broadcast."""
    entity = np.asarray(entity, dtype=np.uint64)
    place = (paths >> _32) | np.uint64(int(purpose) << 8 | step << 16)
    return philox((paths & _LOW, place, entity & _LOW, entity >> _32), (seed & 0xFFFFFFFF, seed >> 32))


def word(seed: int, paths: U64, purpose: Purpose, step: int = 0, entity: ArrayLike = 0) -> U32:
    """The one word of a draw that needs no more: a call serves four neighbouring paths (counter path >> 2)."""
    four = words(seed, paths >> np.uint64(2), purpose, step, entity)
    lane = np.broadcast_to(paths & np.uint64(3), four[0].shape)
    return np.choose(lane.astype(np.intp), four)


def tail_rank(w: U32) -> U32:
    """The 31 low bits: the place of |n| among 2^31 equally likely tail probabilities, smallest first."""
    return w & np.uint32(0x7FFFFFFF)


def is_negative(w: U32) -> Bool:
    """The sign bit of a normal's word."""
    return (w >> np.uint32(31)).astype(np.bool_)


def normal(w: U32) -> F32:
    """Standard normal of a word, tails kept to 6.3 standard deviations (docs/model.md 1.7)."""
    p = fma(tail_rank(w).astype(np.float32), f32(2.0**-32), f32(2.0**-33))
    n = normal_quantile(p)
    return np.where(is_negative(w), -n, n)


def rank(w: U32) -> U32:
    """The order of a word's normal among all words: 0 for the lowest (docs/model.md 3.6)."""
    i = tail_rank(w)
    return np.where(is_negative(w), i, np.uint32(0xFFFFFFFF) - i)


def event_threshold(p: ArrayLike) -> NDArray[np.int32]:
    """rint(p·2^24): an event of probability p happens when (word >> 8) is below it."""
    return np.rint(np.asarray(p, dtype=np.float64) * 2**24).astype(np.int32)


def event_word(w: U32) -> NDArray[np.int32]:
    """The 24 bits that are compared with an event threshold."""
    return (w >> np.uint32(8)).astype(np.int32)
