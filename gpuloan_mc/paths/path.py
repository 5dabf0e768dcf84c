"""Where a path's fractions become cents (docs/model.md 1.4)."""

from __future__ import annotations

import numpy as np

from .primitives import nearest, path_function


@path_function
def to_cents(commitment: np.float64, fraction: np.float32) -> np.int64:
    """Commitment × fraction in float64, rounded once to the nearest cent, ties to even."""
    return np.int64(nearest(commitment * np.float64(fraction)))


@path_function
def discounted(loss: np.int64, factor: np.float64) -> np.int64:
    """A loss in cents at month 0, rounded to the nearest cent."""
    return np.int64(nearest(np.float64(loss) * factor))
