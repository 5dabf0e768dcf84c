"""Philox4x32-10 against Random123's known answers and a pure-Python twin; normals, events and ranks of its words."""

import numpy as np
import pytest

from gpuloan_mc.reference import philox
from gpuloan_mc.reference.philox import Purpose

KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def plain_philox(counter, key):
    """The published algorithm in Python integers."""
    c, k = list(counter), list(key)
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b & 0xFFFFFFFF, (a >> 32) ^ c[3] ^ k[1], a & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return tuple(c)


@pytest.mark.parametrize("counter, key, words", KNOWN)
def test_known_answers(counter, key, words):
    assert plain_philox(counter, key) == words
    assert tuple(int(w) for w in philox.philox(counter, key)) == words


def test_ten_thousand_counters_against_plain_python():
    draw = np.random.default_rng(1)
    counters = draw.integers(0, 2**32, (10_000, 4), dtype=np.uint64)
    key = tuple(int(k) for k in draw.integers(0, 2**32, 2))
    ours = np.column_stack(philox.philox(tuple(counters.T), key))
    theirs = np.array([plain_philox([int(x) for x in row], key) for row in counters])
    assert np.array_equal(ours, theirs)


def test_counter_layout():
    path, seed, entity = (7 << 32) | 123, (5 << 32) | 9, (11 << 32) | 13
    ours = philox.words(seed, np.array([path], np.uint64), Purpose.LOAN, 300, entity)
    theirs = plain_philox((123, 7 | 7 << 8 | 300 << 16, 13, 11), (9, 5))
    assert tuple(int(w[0]) for w in ours) == theirs


def test_one_word_draws_share_a_call_among_four_paths():
    paths = np.arange(8, dtype=np.uint64)
    ours = philox.word(3, paths, Purpose.SPOT, 2)
    calls = [plain_philox((i, Purpose.SPOT << 8 | 2 << 16, 0, 0), (3, 0)) for i in range(2)]
    assert ours.tolist() == [*calls[0], *calls[1]]


def test_normals_have_unit_variance_and_far_tails():
    w = philox.words(1, np.arange(400_000, dtype=np.uint64), Purpose.MARKET)[0]
    n = philox.normal(w).astype(np.float64)
    root = np.sqrt(len(n))
    assert abs(n.mean()) < 4 / root
    assert abs(n.var() - 1) < 4 * np.sqrt(2) / root
    assert abs((n**4).mean() - 3) < 4 * np.sqrt(96) / root
    extremes = philox.normal(np.array([0, 0x80000000], np.uint32))
    assert extremes[0] == -extremes[1]
    assert 6.2 < extremes[0] < 6.4


def test_rank_orders_words_as_their_normals():
    w = np.random.default_rng(5).integers(0, 2**32, 100_000, dtype=np.uint32)
    order = np.argsort(philox.rank(w))
    assert np.all(np.diff(philox.normal(w[order])) >= 0)
    assert philox.rank(np.array([0x80000000, 0], np.uint32)).tolist() == [0, 2**32 - 1]


@pytest.mark.parametrize("p, happens", [(0.0, 0), (1.0, 2**12)])
def test_events_never_at_zero_and_always_at_one(p, happens):
    w = np.append(np.random.default_rng(2).integers(0, 2**32, 2**12 - 2, dtype=np.uint32), [0, 2**32 - 1]).astype(
        np.uint32
    )
    assert (philox.event_word(w) < philox.event_threshold(p)).sum() == happens
