"""Columns before they are judged: trimmed text or numbers, with what is missing, whoever made them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Form = Literal["text", "whole", "float", "words", "refused"]
Arrow = Any  # pyarrow ships no types

_NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
NUMBER = re.compile(_NUMBER)


class Texts(Sequence[str]):
    """A pyarrow array of text without nulls, read cell by cell as messages need them."""

    def __init__(self, array: Arrow) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, place: Any) -> Any:
        return self.array[int(place)].as_py()


@dataclass(frozen=True, slots=True)
class Cells:
    """One column of a tape before it is judged.

    `form`: text may be parsed; whole and float are numbers; words are what only a column of the user's own may hold
    (booleans, dates); refused is what no column may hold (lists, structures, bytes). `texts` is a pyarrow array of
    trimmed text, "" where missing.
    """

    form: Form
    type: str
    texts: Arrow = None
    numbers: NDArray[Any] | None = None
    missing: Mask | None = None

    def as_text(self) -> Arrow:
        """The cells as a pyarrow array of trimmed text; numbers that are whole lose their .0; missing is empty."""
        import pyarrow as pa

        if self.numbers is None or self.missing is None:
            return self.texts
        numbers: Sequence[Any] = self.numbers.tolist()
        if self.form == "float":
            numbers = [int(x) if x == x and abs(x) < 2**53 and x == int(x) else x for x in numbers]
        words = ["" if lost else str(x) for x, lost in zip(numbers, self.missing.tolist(), strict=True)]
        return pa.array(words, type=pa.string())

    def all_missing(self) -> bool:
        """Whether no cell holds anything."""
        return bool((is_blank(self.texts) if self.missing is None else self.missing).all())

    def as_numbers(self) -> tuple[NDArray[np.float64], Mask]:
        """Values with NaN where there is no number, and where a cell is missing. Minus zero becomes zero."""
        if self.numbers is None or self.missing is None:
            return parsed(self.texts) + 0.0, is_blank(self.texts)
        return self.numbers.astype(np.float64) + 0.0, self.missing


def mask(array: Arrow) -> Mask:
    """A pyarrow array of booleans as NumPy's."""
    return np.asarray(array.to_numpy(zero_copy_only=False), dtype=np.bool_)


def is_blank(texts: Arrow) -> Mask:
    """Where text is empty."""
    import pyarrow.compute as pc

    return mask(pc.equal(texts, ""))


def text_cells(texts: Sequence[str] | Arrow, kind: str = "text") -> Cells:
    """Cells of plain text, trimmed. Half a character (an unpaired surrogate) becomes a NUL, which no cell may hold."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(texts, pa.Array):
        return Cells("text", kind, pc.utf8_trim_whitespace(texts))
    try:
        array = pa.array([t.strip() for t in texts], type=pa.string())
    except UnicodeEncodeError:
        array = pa.array([re.sub("[\ud800-\udfff]", "\0", t).strip() for t in texts], type=pa.string())
    return Cells("text", kind, array)


def parsed(texts: Arrow) -> NDArray[np.float64]:
    """Each text as the nearest float64; NaN where it is not a decimal number."""
    import pyarrow as pa
    import pyarrow.compute as pc

    decimal_ = pc.match_substring_regex(texts, f"^{_NUMBER}$")
    return np.asarray(pc.cast(pc.if_else(decimal_, texts, "nan"), pa.float64()).to_numpy(zero_copy_only=False))


def no_text(n: int) -> Arrow:
    """`n` empty cells."""
    import pyarrow as pa

    return pa.array([""] * n, type=pa.string())
