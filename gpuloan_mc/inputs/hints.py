"""What people meant when they wrote something that is no number, or a number of the wrong unit."""

from __future__ import annotations

import re

from ..text import shortened
from .cells import NUMBER
from .columns import Column

_CURRENCY = re.compile(r"^(?:[$€£¥]|USD|EUR|GBP)\s*|\s*(?:[$€£¥]|USD|EUR|GBP)$")
_THOUSANDS = re.compile(r"[+-]?[0-9]{1,3}(?:[,_' ][0-9]{3})+(?:\.[0-9]*)?")
_SEPARATORS = re.compile("[,_' ]")
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9.]*,[0-9]+")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}(?:-[0-9]{2}.*)?|[0-9]{1,2}[/.][0-9]{1,2}[/.][0-9]{2,4}")


def number_hint(text: str, column: Column) -> str:
    """How to write the number that was meant; empty where nobody can tell."""
    text = shortened(text.strip())
    if text.startswith("#"):
        return "this is an error of a spreadsheet: mend its formula"
    if text.lower() in ("true", "false", "yes", "no"):
        return "yes or no is not a number here"
    if text.lower().lstrip("+-") in ("nan", "inf", "infinity", "na", "n/a", "none", "null", "-"):
        return "leave the cell blank if there is none" if not column.required else "give a number"
    if _DATE.fullmatch(text):
        return "this is a date: give whole months from the market's start_date" if column.kind == "months" else ""
    bare = _CURRENCY.sub("", text)
    if bare.endswith("%") and NUMBER.fullmatch(bare[:-1].strip()):
        return f"write it as a fraction: {float(bare[:-1]) / 100:g}"
    if _THOUSANDS.fullmatch(bare):
        return f"write it without separators: {_SEPARATORS.sub('', bare)}"
    if _DECIMAL_COMMA.fullmatch(bare):
        return f"write a point for the comma: {bare.replace('.', '').replace(',', '.')}"
    return f"write it without the currency: {bare}" if bare != text and NUMBER.fullmatch(bare) else ""


def range_hint(value: float, text: str, column: Column) -> str:
    """'Give it as a fraction: 0.7, not 70.' where a share or a rate was given per cent."""
    share = column.kind == "number" and column.high is not None and column.high <= 2
    if share and column.high is not None and column.high < value <= 100:
        return f"Give it as a fraction: {value / 100:g}, not {text}"
    if column.low is not None and value < column.low == 0:
        return "it can't be negative"
    return ""
