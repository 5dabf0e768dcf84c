"""The loss digest against its definition, whatever the order and length of the pieces."""

from __future__ import annotations

import hashlib
import struct

import numpy as np
import pytest
from numpy.typing import NDArray

from gpuloan_mc.digest import BLOCK_PATHS, LossDigest, loss_digest


def by_definition(losses: NDArray[np.int64]) -> str:
    cents = [int(x) for x in losses]
    blocks = [cents[i : i + 65536] for i in range(0, len(cents), 65536)]
    hashes = [hashlib.sha256(struct.pack(f"<{len(block)}q", *block)).digest() for block in blocks]
    return hashlib.sha256(b"".join(hashes)).hexdigest()


def some_losses(n_paths: int) -> NDArray[np.int64]:
    return np.random.default_rng(3).integers(-(2**63), 2**63 - 1, n_paths, dtype=np.int64)


@pytest.mark.parametrize("n_paths", [0, 1, BLOCK_PATHS - 1, BLOCK_PATHS, BLOCK_PATHS + 1, 3 * BLOCK_PATHS, 200_001])
def test_digest_follows_its_definition(n_paths: int) -> None:
    losses = some_losses(n_paths)
    assert loss_digest(losses) == by_definition(losses)


def test_digest_of_one_known_run() -> None:
    assert loss_digest(np.arange(100_000)) == "dbfb76cc1d6fc7178c23e6b94c3a68522421b0adf7f5dc9fcb6e0d064a2608e6"


@pytest.mark.parametrize("seed", range(5))
def test_pieces_may_come_in_any_order_and_length(seed: int) -> None:
    rng = np.random.default_rng(seed)
    losses = some_losses(3 * BLOCK_PATHS + 77)
    edges = np.unique(np.concatenate([[0, len(losses)], rng.integers(0, len(losses), 12)]))
    digest = LossDigest()
    for i in rng.permutation(len(edges) - 1):
        digest.add(int(edges[i]), losses[edges[i] : edges[i + 1]])
    assert digest.hexdigest() == loss_digest(losses)


def test_digest_goes_on_after_it_was_read() -> None:
    losses = some_losses(BLOCK_PATHS + 10)
    digest = LossDigest()
    digest.add(0, losses[:7])
    assert digest.hexdigest() == loss_digest(losses[:7])
    digest.add(7, losses[7:])
    assert digest.hexdigest() == loss_digest(losses)


def test_memory_layout_and_width_do_not_matter() -> None:
    losses = np.arange(1000, dtype=np.int64)
    assert loss_digest(np.repeat(losses, 2)[::2]) == loss_digest(losses)
    assert loss_digest(losses.astype(">i8")) == loss_digest(losses)
    assert loss_digest(losses.astype(np.int32)) == loss_digest(losses)


def test_one_cent_or_two_swapped_paths_change_the_digest() -> None:
    losses = np.arange(1000, dtype=np.int64)
    other, swapped = losses.copy(), losses.copy()
    other[500] += 1
    swapped[[1, 2]] = swapped[[2, 1]]
    assert len({loss_digest(losses), loss_digest(other), loss_digest(swapped)}) == 3


@pytest.mark.parametrize("first_path", [0, 9, 5, BLOCK_PATHS, 2 * BLOCK_PATHS - 1])
def test_overlap_is_refused_and_nothing_is_taken(first_path: int) -> None:
    losses = some_losses(2 * BLOCK_PATHS)
    digest = LossDigest()
    digest.add(0, losses[:10])
    digest.add(BLOCK_PATHS, losses[BLOCK_PATHS:])
    with pytest.raises(ValueError, match="overlap"):
        digest.add(first_path, np.zeros(BLOCK_PATHS + 1, dtype=np.int64))
    digest.add(10, losses[10:BLOCK_PATHS])
    assert digest.hexdigest() == loss_digest(losses)


@pytest.mark.parametrize(
    ("pieces", "missing"),
    [
        ([(1, 5)], "path 0 "),
        ([(0, 5), (6, 5)], "path 5 "),
        ([(0, 5), (BLOCK_PATHS, 5)], "path 5 "),
        ([(0, BLOCK_PATHS), (2 * BLOCK_PATHS, 1)], f"{BLOCK_PATHS} paths from {BLOCK_PATHS} "),
        ([(2**40, 5)], f"{BLOCK_PATHS} paths from 0 "),
    ],
)
def test_gap_is_refused(pieces: list[tuple[int, int]], missing: str) -> None:
    digest = LossDigest()
    for first_path, n_paths in pieces:
        digest.add(first_path, some_losses(n_paths))
    with pytest.raises(ValueError, match=f"loss(es)? of {missing}"):
        digest.hexdigest()


def test_wrong_losses_are_refused() -> None:
    digest = LossDigest()
    for wrong in (np.zeros(3), np.zeros(3, dtype=np.uint64), np.zeros(3, dtype=bool)):
        with pytest.raises(TypeError, match="whole cents"):
            digest.add(0, wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="shape"):
        digest.add(0, np.zeros((2, 2), dtype=np.int64))
    with pytest.raises(ValueError, match="count from 0"):
        digest.add(-1, np.zeros(2, dtype=np.int64))
