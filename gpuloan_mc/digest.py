"""The digest of a run's losses: equal digests mean that every path lost the same number of cents.

Losses are written as 8-byte little-endian integers in path order and cut into blocks of 65,536 paths, from path 0; the
last block may be short. The digest is the SHA-256 of the blocks' 32-byte SHA-256 hashes, in order. Engines and workers
may deliver paths in any order and in pieces of any length.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

BLOCK_PATHS = 65_536


class LossDigest:
    """The digest of losses that arrive in pieces; finished blocks are kept as 32 bytes each."""

    def __init__(self) -> None:
        self._hashes: dict[int, bytes] = {}
        self._partial: dict[int, _PartialBlock] = {}

    def add(self, first_path: int, losses: NDArray[np.int64]) -> None:
        """Take the losses, shape (n_paths,), in cents, of the paths from `first_path` on.

        Raises:
            TypeError: the losses are not integers that fit int64.
            ValueError: not one-dimensional, a negative path, or a path added before; then nothing is taken.
        """
        cents = _checked(losses)
        if first_path < 0:
            raise ValueError(f"first_path is {first_path}; paths count from 0")
        pieces = _pieces(first_path, cents)
        for block, start, piece in pieces:
            self._refuse_overlap(block, start, len(piece))
        for block, start, piece in pieces:
            self._take(block, start, piece)

    def hexdigest(self) -> str:
        """The digest so far, 64 hexadecimal digits; more losses may follow.

        Raises:
            ValueError: a path below the last one added is missing.
        """
        hashes = dict(self._hashes)
        last = max([*self._hashes, *self._partial], default=-1)
        for block, partial in self._partial.items():
            hashes[block] = _sha256(partial.losses[: self._length(block, partial, block == last)])
        missing = next((block for block in range(last + 1) if block not in hashes), None)
        if missing is not None:
            raise ValueError(f"the losses of {BLOCK_PATHS} paths from {missing * BLOCK_PATHS} on are missing")
        return hashlib.sha256(b"".join(hashes[block] for block in range(last + 1))).hexdigest()

    def _refuse_overlap(self, block: int, start: int, length: int) -> None:
        partial = self._partial.get(block)
        known = block in self._hashes or (partial is not None and bool(partial.filled[start : start + length].any()))
        if known:
            first = block * BLOCK_PATHS + start
            raise ValueError(f"paths {first} to {first + length - 1} overlap paths that were added before")

    def _take(self, block: int, start: int, piece: NDArray[np.int64]) -> None:
        if len(piece) == BLOCK_PATHS:
            self._hashes[block] = _sha256(piece)
            return
        partial = self._partial.setdefault(block, _PartialBlock())
        partial.losses[start : start + len(piece)] = piece
        partial.filled[start : start + len(piece)] = True
        if partial.filled.all():
            self._hashes[block] = _sha256(self._partial.pop(block).losses)

    def _length(self, block: int, partial: _PartialBlock, is_last: bool) -> int:
        """How many paths the block holds, all of them from its first on: only the last block may be short."""
        length = int(np.argmin(partial.filled))
        if not is_last or partial.filled[length:].any():
            raise ValueError(f"the loss of path {block * BLOCK_PATHS + length} is missing")
        return length


class _PartialBlock:
    def __init__(self) -> None:
        self.losses = np.zeros(BLOCK_PATHS, dtype=np.int64)
        self.filled = np.zeros(BLOCK_PATHS, dtype=np.bool_)


def loss_digest(losses: NDArray[np.int64]) -> str:
    """The digest of all losses of a run, shape (n_paths,), in cents, from path 0 on.

    Raises:
        TypeError: the losses are not integers that fit int64.
        ValueError: they are not one-dimensional.
    """
    digest = LossDigest()
    digest.add(0, losses)
    return digest.hexdigest()


def _checked(losses: NDArray[np.int64]) -> NDArray[np.int64]:
    if losses.dtype.kind not in "iu" or not np.can_cast(losses.dtype, np.int64):
        raise TypeError(f"losses are {losses.dtype}; they must be whole cents, int64")
    if losses.ndim != 1:
        raise ValueError(f"losses have shape {losses.shape}; one dimension is expected")
    return losses.astype(np.int64, copy=False)


def _pieces(first_path: int, losses: NDArray[np.int64]) -> list[tuple[int, int, NDArray[np.int64]]]:
    """The losses cut at block boundaries: (block, first place in the block, losses)."""
    end = first_path + len(losses)
    blocks = range(first_path // BLOCK_PATHS, -(-end // BLOCK_PATHS)) if end > first_path else range(0)
    pieces = []
    for block in blocks:
        low, high = max(first_path, block * BLOCK_PATHS), min(end, (block + 1) * BLOCK_PATHS)
        pieces.append((block, low - block * BLOCK_PATHS, losses[low - first_path : high - first_path]))
    return pieces


def _sha256(losses: NDArray[np.int64]) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(losses, dtype="<i8").data).digest()
