"""Columns as they come, made alike: trimmed text or numbers, with what is missing, whoever made them."""

from __future__ import annotations

import datetime
import decimal
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

Mask = NDArray[np.bool_]
Form = Literal["text", "whole", "float", "words", "refused"]

NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Cells:
    """One column of a tape before it is judged.

    `form`: text may be parsed; whole and float are numbers; words are what only a column of the user's own may hold
    (booleans, dates); refused is what no column may hold (lists, structures, bytes). Text "" is missing.
    """

    form: Form
    type: str
    texts: Sequence[str] = ()
    numbers: NDArray[Any] | None = None
    missing: Mask | None = None

    def as_text(self) -> list[str]:
        """The cells as trimmed text; numbers that are whole lose their .0; missing is empty."""
        if self.numbers is None:
            return list(self.texts)
        numbers: Iterable[Any] = self.numbers.tolist()
        if self.form == "float":
            numbers = (int(x) if x == x and abs(x) < 2**53 and x == int(x) else x for x in numbers)
        gone = np.zeros(len(self.numbers), dtype=np.bool_) if self.missing is None else self.missing
        return ["" if lost else str(x) for x, lost in zip(numbers, gone.tolist(), strict=True)]

    def all_missing(self) -> bool:
        """Whether no cell holds anything."""
        if self.numbers is None:
            return not any(self.texts)
        return self.missing is not None and bool(self.missing.all())

    def as_numbers(self) -> tuple[NDArray[np.float64], Mask]:
        """Values with NaN where there is no number, and where a cell is missing. Minus zero becomes zero."""
        if self.numbers is None:
            values = parsed(self.texts)
            blank = np.fromiter((not t for t in self.texts), np.bool_, len(self.texts))
        else:
            values = self.numbers.astype(np.float64)
            blank = np.zeros(len(values), dtype=np.bool_) if self.missing is None else self.missing
        return values + 0.0, blank


def text_cells(texts: Sequence[str], kind: str = "text") -> Cells:
    """Cells of plain text, trimmed."""
    return Cells("text", kind, [t.strip() for t in texts])


def parsed(texts: Sequence[str]) -> NDArray[np.float64]:
    """Each text as the nearest float64; NaN where it is not a decimal number. Equal texts are parsed once."""
    known = {t: float(t) if NUMBER.fullmatch(t) else np.nan for t in set(texts)}
    return np.fromiter((known[t] for t in texts), np.float64, len(texts))


def object_cells(values: Sequence[Any]) -> Cells:
    """Cells of Python objects, as in a pandas column of dtype object."""
    kinds = {type(v) for v in values if not _is_missing(v)}
    name = ", ".join(sorted(k.__name__ for k in kinds)) or "object"
    if not kinds <= {str} and all(issubclass(k, (float, np.floating)) for k in kinds):
        lost = np.fromiter(map(_is_missing, values), np.bool_, len(values))
        numbers = np.fromiter((np.nan if m else float(v) for v, m in zip(values, lost, strict=True)), np.float64)
        return Cells("float", name, numbers=numbers, missing=lost)
    plain = (str, float, int, np.integer, np.floating, np.bool_, decimal.Decimal, datetime.date, datetime.datetime)
    if not all(issubclass(k, plain) for k in kinds):
        return Cells("refused", name, [""] * len(values))
    return Cells("text", name, ["" if _is_missing(v) else str(v).strip() for v in values])


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
    if isinstance(dtype, pd.StringDtype) or (dtype.kind == "O" and not isinstance(dtype, pd.ArrowDtype)):
        return object_cells(series.tolist())
    try:
        array = pa.array(series, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError, NotImplementedError):
        return Cells("refused", str(dtype), [""] * len(series))
    return arrow_cells(array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array]))


def arrow_cells(column: Any) -> Cells:
    """Cells of a pyarrow ChunkedArray; null is missing, NaN is not."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind, name = column.type, str(column.type)
    if isinstance(kind, pa.BaseExtensionType):
        return arrow_cells(pa.chunked_array([c.storage for c in column.chunks], type=kind.storage_type))
    if pa.types.is_run_end_encoded(kind):
        return arrow_cells(pa.chunked_array([pc.run_end_decode(c) for c in column.chunks], type=kind.value_type))
    if pa.types.is_dictionary(kind):
        return _dictionary_cells(column, name)
    if pa.types.is_null(kind):
        return Cells("text", name, [""] * len(column))
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _number_cells(column, name)
    values = _python_values(column)
    if values is None:
        return Cells("refused", name, [""] * len(column))
    texts = ["" if v is None else str(v).strip() for v in values]
    word = pa.types.is_boolean(kind) or pa.types.is_temporal(kind)
    return Cells("words" if word else "text", name, texts)


def _python_values(column: Any) -> list[Any] | None:
    """The values of text, decimals and booleans, dates as text; None for types that hold none of these."""
    import pyarrow as pa

    kind, types = column.type, pa.types
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return list(column.to_pylist())
    if types.is_decimal(kind) or types.is_boolean(kind):
        return list(column.to_pylist())
    if types.is_date(kind) or types.is_timestamp(kind) or types.is_time(kind):
        try:
            return list(column.cast(pa.string()).to_pylist())
        except pa.ArrowException:  # no data of time zones on this machine
            return None
    return None


def _number_cells(column: Any, name: str) -> Cells:
    import pyarrow as pa

    missing = np.asarray(column.is_null().to_numpy(), dtype=np.bool_)
    form: Form = "float" if pa.types.is_floating(column.type) else "whole"
    filled = column if not missing.any() else pa.chunked_array(
        [c.fill_null(pa.scalar(0, type=c.type)) for c in column.chunks], type=column.type
    )  # fmt: skip
    return Cells(form, name, numbers=np.asarray(filled.to_numpy()), missing=missing)


def _dictionary_cells(column: Any, name: str) -> Cells:
    """Each distinct value is made text once, so that a small file can't unfold into a large one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    inner = arrow_cells(pa.chunked_array([], type=column.type.value_type))
    if inner.numbers is not None:
        chunks = [pc.cast(c, column.type.value_type) for c in column.chunks]
        return arrow_cells(pa.chunked_array(chunks, type=column.type.value_type))
    texts: list[str] = []
    for chunk in column.chunks:
        words = [*arrow_cells(pa.chunked_array([chunk.dictionary])).texts, ""]
        places = chunk.indices.fill_null(len(words) - 1).to_pylist()
        texts += [words[i] for i in places]
    return Cells(inner.form, name, texts)
