"""Tapes judged column by column: each cell trimmed, parsed, checked against its column, defaults filled in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..text import shown
from .cells import Arrow, Cells, Mask, Texts, is_blank, mask
from .columns import TAPES, Column
from .findings import Findings
from .header import check_header, report_missing
from .hints import number_hint, range_hint
from .limits import MAX_CELL_CHARACTERS
from .tapes import Tape

if TYPE_CHECKING:
    import pandas as pd

WHOLE = ("months", "count")
TEXT = ("id", "text", "choice")
_CONTROL = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x{9f}\x{61c}\x{200e}\x{200f}\x{202a}-\x{202e}\x{2066}-\x{2069}"
_BAD_IN_TEXT = f"[{_CONTROL}]"
_BAD_IN_ID = rf"[{_CONTROL}\t\n\r\x{{2028}}\x{{2029}}]"


def typed_frame(tape: Tape, factors: tuple[str, ...], findings: Findings) -> tuple[pd.DataFrame, list[str]]:
    """The columns of `columns.TAPES`, then the user's own, typed; and the names of the user's own.

    Numbers are float64, months and counts int64. A blank optional cell takes the default; where there is none, text is
    "", numbers NaN, months 0. A number that can't be read is treated as blank; its row is bad.
    """
    import pandas as pd

    if tape.ragged:
        wrong = np.zeros(tape.n_rows, dtype=np.bool_)
        wrong[list(tape.ragged)] = True
        findings.rows(tape, wrong, "ragged-row", lambda i: tape.ragged[i])
        findings.skip[tape.name] = wrong
    known = [*TAPES[tape.name], *_factor_columns(tape.name, factors)]
    cells = dict(reversed(tape.columns))  # the first of a doubled column
    own = check_header(tape, [c.name for c in known], cells, findings)
    typed: dict[str, Any] = {}
    for column in known:
        found = cells.get(column.name)
        if found is None:
            if column.required:
                report_missing(tape, column, own, findings)
            typed[column.name] = blank_column(column, tape.n_rows)
        else:
            typed[column.name] = _judged(tape, column, found, findings)
    for name in own:
        typed[name] = _own_column(tape, name, cells[name], findings)
    return pd.DataFrame(typed, index=range(tape.n_rows)), own


def _factor_columns(tape: str, factors: tuple[str, ...]) -> list[Column]:
    if tape != "obligors":
        return []
    others = [f for f in factors if f != "demand"]
    return [Column(f"loading_{f}", "number", False, 0, -0.999, 0.999, f"loading on the factor {f}") for f in others]


def blank_column(column: Column, n: int) -> NDArray[Any]:
    """A column of `n` blank cells."""
    if column.kind in TEXT:
        return np.full(n, column.default if column.default is not None else "", dtype=object)
    if column.kind in WHOLE:
        return np.full(n, column.default or 0, dtype=np.int64)
    return np.full(n, np.nan if column.default is None else column.default, dtype=np.float64)


def _judged(tape: Tape, column: Column, cells: Cells, findings: Findings) -> Any:
    wanted = "text or whole numbers" if column.kind in TEXT else "numbers"
    wrong = cells.form in ("words", "refused") or (column.kind in TEXT and cells.form == "float")
    if wrong and not (cells.form != "refused" and cells.all_missing()):
        found = f"column {column.name} holds {cells.type}; {wanted} are needed"
        hint = "a float can't tell 007 from 7: give the ids as text or integers" if cells.form == "float" else ""
        findings.file(tape.file, "column-type", found, column=column.name, value=cells.type, hint=hint)
        return blank_column(column, tape.n_rows)
    judge = _text_column if column.kind in TEXT else _number_column
    return judge(tape, cells, column, findings)


def _series(texts: Arrow) -> Any:
    """Text as pandas holds it: its own text type from pandas 3 on, objects before."""
    return texts.to_pandas()


def _text_column(tape: Tape, cells: Cells, column: Column, findings: Findings) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = cells.as_text()
    blank = is_blank(texts)
    if column.required:
        _report_blank(tape, blank, column, findings)
    elif column.default:
        texts = pc.if_else(pa.array(blank), column.default, texts)
    _check_characters(tape, column.name, texts, column.name == "name", findings)
    if column.choices:
        wrong = ~mask(pc.is_in(texts, value_set=pa.array(column.choices, type=texts.type)))
        words = Texts(texts)
        findings.rows(
            tape, wrong & (texts_length(texts) > 0), "choice",
            lambda i: f"{column.name} is {shown(words[i])}; it must be one of {', '.join(column.choices)}",
            column=column.name, values=words, hint=lambda i: findings.suggest("choice", words[i], column.choices),
        )  # fmt: skip
    return _series(texts)


def texts_length(texts: Arrow) -> NDArray[np.int64]:
    """Characters of each cell."""
    import pyarrow.compute as pc

    return np.asarray(pc.utf8_length(texts).to_numpy(zero_copy_only=False), dtype=np.int64)


def _report_blank(tape: Tape, blank: Mask, column: Column, findings: Findings) -> None:
    findings.rows(
        tape, blank, "blank", lambda i: f"{column.name} is blank; it is needed ({column.meaning})", column=column.name
    )


def _check_characters(tape: Tape, name: str, texts: Arrow, lines_allowed: bool, findings: Findings) -> None:
    import pyarrow.compute as pc

    odd = mask(pc.match_substring_regex(texts, _BAD_IN_TEXT if lines_allowed else _BAD_IN_ID))
    words = Texts(texts)
    findings.rows(
        tape, odd, "control-character", lambda i: f"{name} is {shown(words[i])}, with a character that can't be shown",
        column=name, values=words,
    )  # fmt: skip
    length = texts_length(texts)
    findings.rows(
        tape, length > MAX_CELL_CHARACTERS, "long-cell",
        lambda i: f"{name} has {length[i]:,} characters; at most {MAX_CELL_CHARACTERS:,}", column=name, values=words,
    )  # fmt: skip


def _own_column(tape: Tape, name: str, cells: Cells, findings: Findings) -> Any:
    if cells.form == "refused":
        found = f"column {shown(name)} holds {cells.type}, which can't be shown as text"
        findings.file(tape.file, "column-type", found, column=name, value=cells.type)
        return _series(cells.texts).astype(object)
    texts = cells.as_text()
    _check_characters(tape, name, texts, True, findings)
    return _series(texts).astype(object)


def _number_column(tape: Tape, cells: Cells, column: Column, findings: Findings) -> NDArray[Any]:
    values, blank = cells.as_numbers()
    texts: Sequence[Any] = Texts(cells.texts) if cells.numbers is None else cells.numbers.tolist()
    bad = ~blank & ~np.isfinite(values)
    findings.rows(
        tape, bad, "not-a-number", lambda i: f"{column.name} is {_found(texts[i])}, which is not a finite number",
        column=column.name, values=texts, hint=lambda i: number_hint(str(texts[i]), column),
    )  # fmt: skip
    if column.required:
        _report_blank(tape, blank, column, findings)
    good = ~blank & ~bad
    _check_range(tape, column, values, texts, good, findings)
    if column.name in ("balance_usd", "undrawn_usd"):
        findings.unreadable[tape.name] |= bad | (blank if column.required else False)
    if column.kind not in WHOLE:
        return np.where(good, values, np.nan if column.default is None else column.default)
    broken = good & (values != np.rint(values))
    findings.rows(
        tape, broken, "not-whole", lambda i: f"{column.name} is {_found(texts[i])}; it must be a whole number",
        column=column.name, values=texts,
    )  # fmt: skip
    whole = np.where(good, np.clip(np.rint(np.where(good, values, 0)), -(2.0**62), 2.0**62), column.default or 0)
    return whole.astype(np.int64)


def _check_range(
    tape: Tape, column: Column, values: NDArray[np.float64], texts: Sequence[Any], good: Mask, findings: Findings
) -> None:
    low = -np.inf if column.low is None else column.low
    high = np.inf if column.high is None else column.high
    with np.errstate(invalid="ignore"):
        outside = good & ((values <= low if column.above_low else values < low) | (values > high))
    bounds = f"{'(' if column.above_low else '['}{low:g}, {high:g}]"
    findings.rows(
        tape, outside, "out-of-range", lambda i: f"{column.name} is {_found(texts[i])}; it must lie in {bounds}",
        column=column.name, values=texts, hint=lambda i: range_hint(float(values[i]), str(texts[i]), column),
    )  # fmt: skip


def _found(value: Any) -> str:
    """Text that is a number without quotes, other text with, numbers as Python writes them."""
    if not isinstance(value, str):
        return str(value)
    return shown(value)[1:-1] if value[:1] in "+-.0123456789" and value.isascii() else shown(value)
