"""TOML as it is written, and files that are whole or not there."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuloan_mc.files import toml_text
from gpuloan_mc.inputs.books import bundled_books
from gpuloan_mc.market import Market

TOML_VALUES = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
    st.dates(),
)
TOML_LISTS = st.lists(TOML_VALUES, max_size=3)
TOML_KEYS = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)
TOML_TABLES = st.recursive(
    st.dictionaries(TOML_KEYS, TOML_VALUES | TOML_LISTS, max_size=4),
    lambda inner: st.dictionaries(TOML_KEYS, TOML_VALUES | inner | st.lists(inner, min_size=1, max_size=3), max_size=4),
    max_leaves=8,
)


@given(TOML_TABLES)
def test_toml_is_read_as_it_was_written(table):
    assert tomllib.loads(toml_text(table)) == table


@pytest.mark.parametrize("book", bundled_books())
def test_a_bundled_market_survives_writing(book, tmp_path):
    market = Market.read(book)
    (tmp_path / "market.toml").write_text(toml_text(market.model_dump(exclude_none=True)), encoding="utf-8")
    assert Market.read(tmp_path) == market
