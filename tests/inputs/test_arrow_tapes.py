"""Parquet files and tables of other libraries: hostile ones refused, all others the same portfolio as from CSV."""

import datetime
import decimal
import io
import time

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gpuloan_mc.errors import InputRejected
from gpuloan_mc.inputs import arrow_tape
from gpuloan_mc.portfolio import Portfolio

N = 3
OBLIGORS = pa.table({"obligor_id": ["P", "Q"], "hazard_class": ["safe", "safe"]})
TABLE = pa.table(
    {
        "loan_id": ["A", "B", "C"],
        "borrower_id": ["P", "P", "Q"],
        "balance_usd": [1e6, 2e6, 3e6],
        "rate": [0.1, 0.1, 0.1],
        "term_months": [12, 24, 36],
        "lgd": [0.5, 0.5, 0.4],
    }
)


def changed(name, values, kind=None):
    array = values if isinstance(values, (pa.Array, pa.ChunkedArray)) else pa.array(values, type=kind)
    if name not in TABLE.column_names:
        return TABLE.append_column(name, array)
    return TABLE.set_column(TABLE.column_names.index(name), name, array)


def parquet(table, **how):
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **how)
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    def write(data):
        pq.write_table(OBLIGORS, tmp_path / "obligors.parquet")
        (tmp_path / "loans.parquet").write_bytes(data if isinstance(data, bytes) else parquet(data))
        return tmp_path

    return write


def problems(book, market):
    with pytest.raises(InputRejected) as caught:
        Portfolio.read(book, market)
    return caught.value.problems


def repeated(n, **columns):
    return pa.table({k: pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int8)), [v]) for k, v in columns.items()})


WHOLE = parquet(TABLE)
WRONG = [
    ("unreadable", WHOLE[:-20], "loans.parquet", "Parquet"),
    ("unreadable", WHOLE[: len(WHOLE) // 2], "loans.parquet", "Parquet"),
    ("unreadable", b"PAR1" + b"\0" * 50 + b"PAR1", "loans.parquet", "Parquet"),
    ("unreadable", WHOLE[:8] + b"\xff" * 60 + WHOLE[68:], "loans.parquet", "Parquet"),
    ("empty-file", b"", "loans.parquet", "the file is empty"),
    ("unreadable", b"loan_id,borrower_id\nA,P\n", "loans.parquet", "Parquet"),
    ("no-loans", TABLE.slice(0, 0), "loans.parquet", "there is no loan"),
    ("missing-column", pa.table({}), "loans.parquet", "loan_id is missing"),
    ("column-type", changed("loan_id", [1.0, 2.0, 3.0]), "loans.parquet", "loan_id holds double"),
    ("column-type", changed("balance_usd", [True, False, True]), "loans.parquet", "balance_usd holds bool"),
    ("column-type", changed("term_months", [datetime.date(2026, 1, 1)] * N), "loans.parquet", "date32"),
    ("column-type", changed("term_months", [datetime.datetime(2026, 1, 1)] * N), "loans.parquet", "timestamp"),
    ("column-type", changed("term_months", [datetime.timedelta(1)] * N), "loans.parquet", "duration"),
    ("column-type", changed("rate", [[0.1], [0.1], [0.1]]), "loans.parquet", "list<"),
    ("column-type", changed("rate", [{"a": 1}] * N), "loans.parquet", "struct<"),
    ("column-type", changed("desk", [{"a": 1}] * N), "loans.parquet", "struct<"),
    ("column-type", changed("loan_id", [b"A", b"B", b"C"]), "loans.parquet", "binary"),
    ("doubled-column", TABLE.append_column("rate", TABLE["rate"]), "loans.parquet", "'rate' stands there twice"),
    ("not-a-number", changed("rate", [0.1, float("nan"), 0.1]), "loans.parquet: row 2", "rate is nan"),
    ("not-a-number", changed("balance_usd", [1.0, 2.0, float("inf")]), "loans.parquet: row 3", "balance_usd is inf"),
    ("not-a-number", changed("rate", ["0.1", "0,1", "0.1"]), "loans.parquet: row 2", "0.1"),
    ("out-of-range", changed("balance_usd", [1.0, -2.0, 3.0]), "loans.parquet: row 2", "-2.0"),
    ("out-of-range", changed("term_months", [1, 2**63 - 1, 2]), "loans.parquet: row 2", "9223372036854775807"),
    ("out-of-range", changed("balance_usd", [1, 2, 10**30], pa.decimal128(38, 0)), "loans.parquet: row 3", "1000000"),
    ("blank", changed("loan_id", ["A", None, "C"]), "loans.parquet: row 2", "loan_id is blank"),
    ("blank", changed("balance_usd", [None] * N), "loans.parquet: row 1", "balance_usd is blank"),
    ("control-character", changed("loan_id", ["A", "B\0", "C"]), "loans.parquet: row 2", "'B\\x00'"),
    ("too-large", pa.table({f"c{i}": [1] for i in range(501)}), "loans.parquet", "501 columns"),
    ("too-large", changed("desk", ["x", "y" * 2_000_000, "z"]), "loans.parquet", "2,000,000 bytes"),
]


@pytest.mark.parametrize("rule, data, where, text", WRONG, ids=[f"{i}-{c[0]}" for i, c in enumerate(WRONG)])
def test_each_hostile_parquet_is_a_located_sentence(folder, market, rule, data, where, text):
    found = problems(folder(data), market())
    assert any(p.rule == rule and p.where == where and text in p.message for p in found), found
    assert all(str(p).isprintable() for p in found)


def test_twenty_million_rows_in_a_small_file_are_refused_by_the_footer(folder, market, monkeypatch):
    data = parquet(repeated(20_000_000, loan_id="A", borrower_id="P"), compression="zstd")
    assert len(data) < 2 * 2**20
    monkeypatch.setattr(arrow_tape, "_capped", lambda batches: pytest.fail("values were decoded"))
    book = folder(data)
    (book / "obligors.parquet").unlink()
    (book / "obligors.csv").write_text("obligor_id,hazard_class\nP,safe\n")
    start = time.process_time()
    (found,) = problems(book, market())
    assert found.rule == "too-large"
    assert "20,000,000 rows; at most 2,000,000" in found.message
    assert time.process_time() - start < 2


def test_a_long_text_repeated_a_million_times_is_refused(folder, market):
    """64 GB of text once every row holds its own; the file has a few kilobytes."""
    data = parquet(repeated(1_000_000, loan_id="A" * 65_536), compression="zstd")
    assert len(data) < 2**20
    (found,) = problems(folder(data), market())
    assert (found.rule, "decodes to 65,536,000,000 bytes" in found.message) == ("too-large", True)


def test_zeros_that_decompress_to_gigabytes_are_refused(folder, market, monkeypatch):
    monkeypatch.setattr(arrow_tape, "MAX_DECODED_BYTES", 10_000_000)
    table = pa.table({"loan_id": pa.array(np.zeros(1_500_000, np.int64))})
    (found,) = problems(folder(parquet(table, use_dictionary=False, compression="zstd")), market())
    assert (found.rule, "decodes to" in found.message) == ("too-large", True)


def test_a_pickle_in_the_metadata_is_not_looked_at(folder, market):
    evil = b"cos\nsystem\n(S'touch /tmp/evil'\ntR."
    marked = TABLE.replace_schema_metadata({b"pandas": evil, b"ARROW:extension:name": b"arrow.py_extension_type"})
    assert Portfolio.read(folder(marked), market()).n_loans == N


def test_an_index_that_pandas_has_kept_is_no_column(folder, market, tmp_path):
    frame = TABLE.to_pandas()
    frame.index = [5, 6, 9]
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    assert Portfolio.read(folder(buffer.getvalue()), market()).segment_columns == ()


class Stream:
    """Nothing but the interchange."""

    def __init__(self, table):
        self.table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self.table.__arrow_c_stream__(requested_schema)


def duckdb_relation(table):
    import duckdb

    return duckdb.connect().from_arrow(table)


def polars_frame(table):
    import polars

    return polars.from_arrow(table)


def dictionary(table):
    kinds = {"loan_id": pa.dictionary(pa.int8(), pa.string()), "lgd": pa.dictionary(pa.int16(), pa.float64())}
    for place, name in enumerate(table.column_names):
        if name in kinds:
            table = table.set_column(place, name, table[name].combine_chunks().dictionary_encode().cast(kinds[name]))
    return table


SOURCES = {
    "pandas": lambda t: t.to_pandas(),
    "pandas objects": lambda t: t.to_pandas().astype(object),
    "pandas nullable": lambda t: t.to_pandas().convert_dtypes(dtype_backend="numpy_nullable"),
    "pandas arrow": lambda t: t.to_pandas(types_mapper=pd.ArrowDtype),
    "pandas category": lambda t: t.to_pandas().astype({"loan_id": "category", "lgd": "category"}),
    "pandas text": lambda t: t.to_pandas().map(str),
    "pandas float32": lambda t: t.to_pandas().astype({"balance_usd": "float32"}),
    "pandas with an index": lambda t: t.to_pandas().set_axis([9, 9, 9]),
    "pyarrow": lambda t: t,
    "pyarrow batches": lambda t: pa.concat_tables([t.slice(0, 1), t.slice(1)]),
    "pyarrow reader": lambda t: t.to_reader(),
    "pyarrow dictionary": dictionary,
    "pyarrow decimals": lambda t: t.set_column(3, "rate", t["rate"].cast(pa.decimal128(9, 4))),
    "pyarrow views": lambda t: t.set_column(0, "loan_id", t["loan_id"].cast(pa.string_view())),
    "pyarrow large": lambda t: t.set_column(0, "loan_id", t["loan_id"].cast(pa.large_string())),
    "pyarrow small ints": lambda t: t.set_column(4, "term_months", t["term_months"].cast(pa.uint8())),
    "capsule alone": Stream,
    "polars": polars_frame,
    "duckdb": duckdb_relation,
}


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_gives_the_same_portfolio(market, source):
    make = SOURCES[source]
    here = Portfolio.from_frames(market=market(), loans=make(TABLE), obligors=OBLIGORS)
    there = Portfolio.from_frames(market=market(), loans=TABLE.to_pandas(), obligors=OBLIGORS.to_pandas())
    pd.testing.assert_frame_equal(here.loans, there.loans)


@pytest.mark.parametrize("source", ["pandas", "pyarrow", "capsule alone", "polars", "duckdb"])
def test_every_source_gives_the_same_messages(market, source):
    wrong = changed("balance_usd", [1.0, -5.0, 1e308]).set_column(1, "borrower_id", pa.array(["P", "R", None]))
    with pytest.raises(InputRejected) as caught:
        Portfolio.from_frames(market=market(), loans=SOURCES[source](wrong), obligors=OBLIGORS)
    assert [(p.where, p.rule) for p in caught.value.problems] == [
        ("loans: row 3", "blank"), ("loans: row 2", "out-of-range"), ("loans: row 3", "out-of-range"),
        ("loans: row 2", "unknown-borrower"),
    ]  # fmt: skip


def test_whole_numbers_are_ids_and_missing_is_missing(market):
    loans = changed("loan_id", [7, 8, 9]).append_column("spread", pa.array([None] * N, pa.float64()))
    assert list(Portfolio.from_frames(market=market(), loans=loans, obligors=OBLIGORS).loans["loan_id"]) == ["7", "8", "9"]


def test_decimals_are_the_nearest_floats(market):
    amounts = [decimal.Decimal("0.1"), decimal.Decimal("12345678901.23"), decimal.Decimal("3")]
    loans = changed("balance_usd", amounts, pa.decimal256(50, 20))
    book = Portfolio.from_frames(market=market(), loans=loans, obligors=OBLIGORS)
    assert list(book.loans["balance_usd"]) == [0.1, 12345678901.23, 3.0]


def test_own_columns_of_any_plain_type_become_text(market):
    loans = changed("year", [2023.0, None, 2024.0]).append_column("open", pa.array([True, False, None]))
    loans = loans.append_column("day", pa.array([datetime.date(2024, 1, 2)] * N))
    book = Portfolio.from_frames(market=market(), loans=loans, obligors=OBLIGORS)
    assert book.segment_columns == ("year", "open", "day")
    assert list(book.loans["year"]) == ["2023", "", "2024"]
    assert list(book.loans["day"]) == ["2024-01-02"] * N


@pytest.mark.parametrize("thing", [[1, 2], {"loan_id": ["A"]}, "loans.csv", 5, object()])
def test_what_is_no_table_is_named(market, thing):
    with pytest.raises(InputRejected) as caught:
        Portfolio.from_frames(market=market(), loans=thing, obligors=OBLIGORS)
    assert [(p.where, p.rule) for p in caught.value.problems] == [("loans", "not-a-table")]


def test_a_missing_table_is_named(market):
    with pytest.raises(InputRejected) as caught:
        Portfolio.from_frames(market=market(), loans=None, obligors=OBLIGORS)
    assert [(p.where, p.rule) for p in caught.value.problems] == [("loans", "no-tape")]


def test_a_stream_that_breaks_is_a_sentence(market):
    def broken():
        yield TABLE.to_batches()[0]
        raise OSError("the database has gone")

    reader = pa.RecordBatchReader.from_batches(TABLE.schema, broken())
    with pytest.raises(InputRejected, match="the database has gone"):
        Portfolio.from_frames(market=market(), loans=reader, obligors=OBLIGORS)


def test_an_endless_stream_is_stopped_by_the_cap(market, monkeypatch):
    def endless():
        while True:
            yield TABLE.to_batches()[0]

    monkeypatch.setattr(arrow_tape, "MAX_ROWS", 1000)
    reader = pa.RecordBatchReader.from_batches(TABLE.schema, endless())
    with pytest.raises(InputRejected) as caught:
        Portfolio.from_frames(market=market(), loans=reader, obligors=OBLIGORS)
    assert caught.value.problems[0].rule == "too-large"


@pytest.mark.parametrize(
    "values",
    [
        [1, "x", None], [object()] * N, [["a"]] * N, [10**5000] * N, ["\ud800"] * N, [1 + 2j] * N, [np.bool_(True)] * N,
        [decimal.Decimal("NaN")] * N, [pd.NA] * N, [pd.NaT] * N, [b"x"] * N, [float("nan"), None, 1], [pd.Timestamp("2024")] * N,
    ],
)  # fmt: skip
@pytest.mark.parametrize("column", ["loan_id", "balance_usd", "desk"])
def test_odd_objects_in_pandas_never_raise_anything_else(market, column, values):
    frame = TABLE.to_pandas()
    frame[column] = pd.Series(values, dtype=object)
    try:
        Portfolio.from_frames(market=market(), loans=frame, obligors=OBLIGORS)
    except InputRejected as error:
        assert str(error).replace("\n", "").isprintable()
