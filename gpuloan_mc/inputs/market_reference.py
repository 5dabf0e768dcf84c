"""The reference of market.toml, docs/market.md, written from its JSON Schema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]

_HEAD = """# Keys of market.toml

Written from `gpuloan_mc/market.py`; a test keeps it so. Money is US dollars, rates and volatilities are a year, times are
months from the start date (month 0), shares are fractions; numbers in parentheses are equations of docs/model.md.
A key with a default may be left out: features are off by default, and a table may be left out if none of its keys is needed.

`gpuloan-mc schema --out DIR` writes this page and `market.schema.json`, the same as JSON Schema. An editor that knows it
completes keys, shows these descriptions and marks mistakes as you type: in VS Code or any editor with Even Better TOML
(Taplo), write the schema beside `market.toml` and make this the file's first line:

```toml
#:schema ./market.schema.json
```

Rules between keys (lengths that must agree, curves that must rise) are checked when the book is read.
"""


def market_reference(schema: Schema) -> str:
    """The page as Markdown, tables in the order in which market.toml is best written.

    Args:
        schema: the JSON Schema of the market, as `schema.market_schema` gives it.
    """
    return "\n".join([_HEAD, *(_section(*part) for part in _tables(schema, schema, "", "market.toml"))])


def _tables(root: Schema, table: Schema, place: str, title: str) -> Iterator[tuple[str, Schema, Schema]]:
    """(title, table, root) of a table and, after it, of the tables inside it."""
    yield title, table, root
    for name, key in table["properties"].items():
        inner = f"{place}.{name}" if place else name
        if (found := _reference(root, key)) is not None:
            yield from _tables(root, found, inner, f"[{inner}]")
        elif (found := _reference(root, key.get("items", {}))) is not None:
            yield from _tables(root, found, inner, f"[[{inner}]]")


def _reference(root: Schema, key: Schema) -> Schema | None:
    """The table that a key points to, bare or wrapped by a default."""
    pointer = key.get("$ref") or next((part["$ref"] for part in key.get("allOf", ()) if "$ref" in part), None)
    return None if pointer is None else root["$defs"][pointer.rsplit("/", 1)[1]]


def _section(title: str, table: Schema, root: Schema) -> str:
    about = " ".join(table["description"].split())
    rows = [f"## {title}", "", about, "", "| key | type | default | range | meaning |", "|---|---|---|---|---|"]
    needed = table.get("required", ())
    for name, key in table["properties"].items():
        inside = _reference(root, key) is not None
        default = "needed" if name in needed else "" if inside else _default(key)
        kind = "table" if inside else _kind(root, key)
        rows.append(f"| `{name}` | {kind} | {default} | {_range(key)} | {key['description'].replace('|', '&#124;')} |")
    return "\n".join([*rows, ""])


def _default(key: Schema) -> str:
    if "default" not in key:
        return "not given"
    value = key["default"]
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else f"{value}"


def _kind(root: Schema, key: Schema) -> str:
    if key["type"] == "array":
        table = _reference(root, key["items"]) is not None
        return (
            "tables" if table else f"list of {'list' if key['items'].get('type') == 'array' else key['items']['type']}s"
        )
    return str(key.get("format", key["type"]))


def _range(key: Schema) -> str:
    """The limits of a number, or of the numbers in a list."""
    while key.get("type") == "array":
        key = key["items"]
    if "enum" in key:
        return ", ".join(key["enum"])
    low, high = key.get("minimum", key.get("exclusiveMinimum")), key.get("maximum", key.get("exclusiveMaximum"))
    if low is None or high is None:
        return ""
    above = "above " if "exclusiveMinimum" in key else ""
    return f"{above}{low:g} to {'below ' if 'exclusiveMaximum' in key else ''}{high:g}"
