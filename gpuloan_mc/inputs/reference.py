"""The column reference, docs/columns.md, written from the table of columns."""

from __future__ import annotations

from .columns import TAPES, Column

_BLANKS = {
    "id": "blank",
    "text": "blank",
    "choice": "blank",
    "months": "0",
    "count": "0",
    "money": "0",
    "number": "blank",
}

KINDS = {
    "id": "text that names something; trimmed, kept as text",
    "text": "text, trimmed",
    "choice": "one of the words in range",
    "money": "US dollars",
    "number": "a number; shares, rates and ratios as fractions (0.07 is 7 %)",
    "months": "whole months, from the start date where a point in time is meant",
    "count": "a whole number",
}

_HEAD = """# Columns of the tapes

Written from `gpuloan_mc/inputs/columns.py`; a test keeps it so. Ids and text are trimmed and kept as text (`007` stays
`007`). A blank optional cell takes the default. The loan tape may have columns of your own: they are kept as segments.
An obligor may have `loading_<factor>` for each factor of `market.toml`. `gpuloan-mc schema --out DIR` writes this page,
and `columns.json` for programs.

| kind | what |
|---|---|
"""


def column_reference() -> str:
    """The whole page as Markdown."""
    kinds = [f"| {kind} | {what} |\n" for kind, what in KINDS.items()]
    return "\n".join([_HEAD + "".join(kinds), *(_table(name, columns) for name, columns in TAPES.items())])


def _table(name: str, columns: tuple[Column, ...]) -> str:
    rows = [f"## {name}", "", "| column | kind | default | range | meaning |", "|---|---|---|---|---|"]
    return "\n".join([*rows, *map(_row, columns), ""])


def _row(column: Column) -> str:
    default = (
        "needed"
        if column.required
        else _BLANKS[column.kind]
        if column.default is None
        else str(column.default) or "blank"
    )
    limits = "" if column.low is None else f"{column.low:g} to {column.high:g}"
    return f"| `{column.name}` | {column.kind} | {default} | {limits or ', '.join(column.choices)} | {column.meaning} |"
