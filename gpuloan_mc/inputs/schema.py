"""What a book may hold, for editors and programs: market.toml as JSON Schema, the tapes' columns as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from .. import __version__
from ..errors import UsageError
from ..files import write_whole
from ..market import Market
from .columns import TAPES
from .market_reference import market_reference
from .reference import KINDS, column_reference
from .tapes import REQUIRED

DIALECT = "https://json-schema.org/draft/2020-12/schema"


class _TomlSchema(GenerateJsonSchema):
    """TOML has no null: a key that may be None is a key that may be left out."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False  # "Jump Mean" says no more than jump_mean

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        found = super().default_schema(schema)
        if found.get("default", ...) is None:
            del found["default"]
        return found

    def encode_default(self, dft: Any) -> Any:
        return _without_none(super().encode_default(dft))


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return value


def market_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of market.toml; every key has a description with its unit.

    Rules between keys, such as lengths that must agree, are checked when the book is read.
    """
    schema = Market.model_json_schema(schema_generator=_TomlSchema)
    return {"$schema": DIALECT, **schema, "title": "market.toml of gpuloan-mc"}


def column_schema() -> dict[str, Any]:
    """The tapes' columns: name, kind, required, default, low, high, meaning, choices, above_low (the low is excluded)."""
    return {
        "version": __version__,
        "kinds": KINDS,
        "tapes": {
            name: {"required": name in REQUIRED, "columns": [asdict(column) for column in columns]}
            for name, columns in TAPES.items()
        },
    }


def schema_files() -> dict[str, str]:
    """Name and text of each file that `gpuloan-mc schema --out` writes."""
    return {
        "market.schema.json": _json(market_schema()),
        "market.md": market_reference(market_schema()),
        "columns.json": _json(column_schema()),
        "columns.md": column_reference(),
    }


def write_schema(folder: str | Path) -> list[Path]:
    """Write the schema files into a folder, made if need be; files of these names are replaced.

    Raises:
        UsageError: the folder can't be made or written.
    """
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{target} can't be used: {error.strerror}; name another folder") from error
    paths = []
    for name, text in schema_files().items():
        write_whole(target / name, text.encode())
        paths.append(target / name)
    return paths


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
