"""A path function without its rare branch, which would keep a loop over lanes scalar. CUDA's kernels have no need of it."""

from __future__ import annotations

import numpy as np

from .arithmetic import CENTRE, CENTRE_RATIO, FAR_QUANTILE, FOUR, ONE, TWO, ZERO, _quantile_centre, log
from .philox import HALF_TAIL, PER_TAIL, SIGN_BIT, TAIL_BITS
from .primitives import fma, lane_function

f32, i32 = np.float32, np.int32


@lane_function
def central_normal(w: np.uint64) -> tuple[np.float32, np.bool_]:
    """`philox.normal` but for words far out (1.7), and whether the word is one of them: 1 of 296 is.

    The same operations in the same order as `normal` and `normal_quantile`, whose tail it leaves out.
    """
    p = fma(f32(i32(w & TAIL_BITS)), PER_TAIL, HALF_TAIL)  # below 2^31: an int32 that lanes can convert
    x = fma(p, -TWO, ONE)
    lost = fma(p, -TWO, ONE - x)
    distance = -log((FOUR * p) * (ONE - p))
    ratio = _quantile_centre(distance - CENTRE)
    lost = fma(lost, ratio + CENTRE_RATIO, ZERO)
    n = fma(x, ratio, fma(x, CENTRE_RATIO, lost))
    return -n if w >= SIGN_BIT else n, distance >= FAR_QUANTILE
