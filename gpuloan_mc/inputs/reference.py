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

_HEAD = """# Columns of the tapes

Written from `gpuloan_mc/inputs/columns.py`; a test keeps it so. Ids and text are trimmed and kept as text (`007` stays
`007`). A blank optional cell takes the default. The loan tape may have columns of your own: they are kept as segments.
An obligor may have `loading_<factor>` for each factor of `market.toml`.
"""


def column_reference() -> str:
    """The whole page as Markdown."""
    return "\n".join([_HEAD, *(_table(name, columns) for name, columns in TAPES.items())])


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
