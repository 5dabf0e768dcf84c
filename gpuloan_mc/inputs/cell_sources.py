"""Cells of what others hold: Python objects, pandas columns, pyarrow arrays of every type."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .cells import Arrow, Cells, Form, mask, no_text, text_cells

if TYPE_CHECKING:
    import pandas as pd


def object_cells(values: Sequence[Any]) -> Cells:
    """Cells of Python objects, as in a pandas column of dtype object."""
    kinds = {type(v) for v in values if not _is_missing(v)}
    name = ", ".join(sorted(k.__name__ for k in kinds)) or "object"
    if kinds and all(issubclass(k, (float, np.floating)) for k in kinds):
        lost = np.array([_is_missing(v) for v in values], dtype=np.bool_)
        numbers = np.array([0.0 if m else float(v) for v, m in zip(values, lost, strict=True)], dtype=np.float64)
        return Cells("float", name, numbers=numbers, missing=lost)
    plain = (str, float, int, np.integer, np.floating, np.bool_, decimal.Decimal, datetime.date)
    if not all(issubclass(k, plain) for k in kinds):
        return Cells("refused", name, no_text(len(values)))
    return text_cells(["" if _is_missing(v) else _word(v) for v in values], name)


def _word(value: Any) -> str:
    try:
        return str(value)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return "a number of thousands of digits"


def _is_missing(value: Any) -> bool:
    if value is None:
        return True
    if isinstance(value, (float, np.floating)):
        return bool(value != value)
    return type(value).__name__ in ("NAType", "NaTType")


def series_cells(series: pd.Series) -> Cells:
    """Cells of a pandas column of any dtype; NaN is missing there."""
    import pandas as pd
    import pyarrow as pa

    dtype = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return series_cells(series.astype(dtype.categories.dtype if len(dtype.categories) else object))
    if dtype.kind == "O" and not isinstance(dtype, (pd.ArrowDtype, pd.StringDtype)):
        return object_cells(series.tolist())
    try:
        array = pa.array(series, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError, NotImplementedError):
        return object_cells(series.tolist())
    return arrow_cells(array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array]))


def arrow_cells(column: Arrow) -> Cells:
    """Cells of a pyarrow ChunkedArray; null is missing, NaN is not."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind, name, types = column.type, str(column.type), pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return arrow_cells(pa.chunked_array([c.storage for c in column.chunks], type=kind.storage_type))
    if types.is_run_end_encoded(kind):
        return arrow_cells(pa.chunked_array([pc.run_end_decode(c) for c in column.chunks], type=kind.value_type))
    if types.is_dictionary(kind):
        return _dictionary_cells(column, name)
    if types.is_null(kind):
        return Cells("text", name, no_text(len(column)))
    if types.is_integer(kind) or types.is_floating(kind):
        return _number_cells(column, name)
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return text_cells(pc.fill_null(_one(column.cast(pa.large_string())), ""), name)
    if types.is_decimal(kind):
        return text_cells(["" if v is None else str(v) for v in column.to_pylist()], name)
    if types.is_boolean(kind) or types.is_date(kind) or types.is_timestamp(kind) or types.is_time(kind):
        try:
            return Cells("words", name, pc.fill_null(_one(column.cast(pa.string())), ""))
        except pa.ArrowException:  # no data of time zones on this machine
            return Cells("refused", name, no_text(len(column)))
    return Cells("refused", name, no_text(len(column)))


def _one(column: Arrow) -> Arrow:
    """A chunked array as one array."""
    import pyarrow as pa

    joined = column.combine_chunks()
    return pa.concat_arrays(joined.chunks) if isinstance(joined, pa.ChunkedArray) else joined


def _number_cells(column: Arrow, name: str) -> Cells:
    import pyarrow as pa

    array = _one(column)
    missing = mask(array.is_null())
    form: Form = "float" if pa.types.is_floating(column.type) else "whole"
    filled = array.fill_null(pa.scalar(0, type=column.type)) if missing.any() else array
    return Cells(form, name, numbers=np.asarray(filled.to_numpy(zero_copy_only=False)), missing=missing)


def _dictionary_cells(column: Arrow, name: str) -> Cells:
    """Each distinct value is made text once."""
    import pyarrow as pa
    import pyarrow.compute as pc

    inner, kind = arrow_cells(pa.chunked_array([], type=column.type.value_type)), column.type.value_type
    if inner.numbers is not None:
        return arrow_cells(pa.chunked_array([pc.cast(c, kind) for c in column.chunks], type=kind))
    parts = [
        pc.fill_null(arrow_cells(pa.chunked_array([c.dictionary])).texts.take(c.indices), "") for c in column.chunks
    ]
    whole = pa.concat_arrays([p.cast(pa.large_string()) for p in parts]) if parts else no_text(0)
    return Cells(inner.form, name, whole)
