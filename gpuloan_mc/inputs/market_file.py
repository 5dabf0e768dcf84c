"""market.toml: read strictly, with every problem at its place in the file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ..errors import InputRejected, Problem
from ..market import Market
from .books import book_folder, suggest

FILE_NAME = "market.toml"


def market_path(book: str | Path) -> Path:
    """The market file of a book's folder or name, or the file itself.

    Raises:
        InputRejected: there is none.
    """
    path = Path(book)
    if path.is_file():
        return path
    path = book_folder(book) / FILE_NAME
    if not path.is_file():
        raise InputRejected([Problem(str(path), "the file is missing; every book needs one", "no-market")])
    return path


def read_market(book: str | Path) -> Market:
    """The market of a book: a folder, a bundled book's name, or the TOML file.

    Raises:
        InputRejected: no file, no TOML, or values that break a rule; all problems at once.
    """
    path = market_path(book)
    try:
        data = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        problem = Problem(path.name, f"not UTF-8 text (byte {error.start}); save it as UTF-8", "toml-encoding")
        raise InputRejected([problem]) from None
    except tomllib.TOMLDecodeError as error:
        raise InputRejected([Problem(path.name, f"not valid TOML: {error}", "toml-syntax")]) from None
    try:
        return Market.model_validate(data)
    except ValidationError as error:
        raise InputRejected([_problem(path.name, e) for e in error.errors()]) from None


def _problem(file: str, error: ErrorDetails) -> Problem:
    place = toml_path(error["loc"])
    kind, message, found = error["type"], error["msg"], error["input"]
    if kind == "extra_forbidden":
        known = _fields_at(error["loc"][:-1])
        return Problem(f"{file}:{place}", f"unknown key.{suggest(str(error['loc'][-1]), known)}", "unknown-key")
    if kind == "missing":
        return Problem(f"{file}:{place}", "this key is missing and has no default", "missing-key")
    message = message.removeprefix("Value error, ")
    if isinstance(found, (dict, list)) or kind == "value_error":
        return Problem(f"{file}:{place}", message, "value")
    return Problem(f"{file}:{place}", f"found {found!r}. {message}", "value")


def toml_path(loc: tuple[int | str, ...]) -> str:
    """gpu.generations[2].price_usd_per_hour, positions from 1."""
    text = ""
    for part in loc:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".") or "the file"


def _fields_at(loc: tuple[int | str, ...]) -> list[str]:
    model: Any = Market
    for part in loc:
        if isinstance(part, str):
            model = _table_in(model.model_fields[part].annotation)
    return list(model.model_fields)


def _table_in(annotation: Any) -> Any:
    """The pydantic table inside list[...] or ... | None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((t for t in map(_table_in, get_args(annotation)) if t is not None), None)
