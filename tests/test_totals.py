"""Exact totals: digits of products, sums in any order."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gpuloan_mc.totals import Totals, as_float, product_digits, whole

AMOUNTS = st.integers(0, 2**63 - 1)


@given(st.lists(st.tuples(AMOUNTS, AMOUNTS), min_size=1))
def test_digits_are_the_product(pairs):
    a, b = (np.array(x, dtype=np.int64) for x in zip(*pairs, strict=True))
    digits = np.stack(product_digits(a, b))
    assert digits.min() >= 0 and digits.max() < 2**32
    assert whole(digits) == [x * y for x, y in pairs]
    assert np.allclose(as_float(digits), [float(x * y) for x, y in pairs], rtol=1e-15)


ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), AMOUNTS, AMOUNTS), max_size=30)


def totals(rows):
    item, defaults, ead, loss = (np.array([r[i] for r in rows], dtype=np.int64) for i in range(4))
    return Totals.of(4, item, defaults, ead, loss)


@given(ROWS, ROWS)
def test_totals_are_exact_sums_and_add_up(some, more):
    joint, added = totals(some + more), totals(some) + totals(more)
    for name in Totals.__slots__:
        assert np.array_equal(getattr(joint, name), getattr(added, name))
    for i in range(4):
        mine = [r for r in some + more if r[0] == i]
        assert joint.defaults[i] == sum(d for _, d, _, _ in mine)
        assert joint.defaults_squared[i] == sum(d * d for _, d, _, _ in mine)
        for name, value in (
            ("ead", lambda e, _: e),
            ("loss", lambda _, x: x),
            ("ead_squared", lambda e, _: e * e),
            ("ead_loss", lambda e, x: e * x),
            ("loss_squared", lambda _, x: x * x),
        ):
            assert whole(getattr(joint, name))[i] == sum(value(e, x) for _, _, e, x in mine)


def test_some_items_can_be_taken():
    part = totals([(1, 1, 5, 3), (2, 1, 7, 2)]).take(slice(1, 3))
    assert whole(part.loss) == [3, 2]
    assert part.defaults.tolist() == [1, 1]
