"""market.toml: read strictly, with every problem at its place in the file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ..errors import BrokenRule, InputRejected, Problem
from ..market import Market
from ..text import shortened, shown
from .books import book_folder, suggest
from .limits import MAX_TOML_BYTES
from .rules import sentence
from .tapes import Unreadable, read_bytes
from .toml_text import parse_toml

FILE_NAME = "market.toml"
WHOLE = "the file"


def market_path(book: str | Path) -> Path:
    """The market file of a book's folder or name, or the file itself.

    Raises:
        InputRejected: there is none.
    """
    if _is_file(Path(book)):
        return Path(book)
    path = book_folder(book) / FILE_NAME
    if not os.path.lexists(path):
        raise InputRejected([Unreadable("no-market", "the file is missing; every book needs one").problem(str(path))])
    return path


def _is_file(path: Path) -> bool:
    """Whether something other than a folder is there; a pipe or a dead link is refused when it is read."""
    try:
        return path.suffix == ".toml" and os.path.lexists(path) and not path.is_dir()
    except (OSError, ValueError):  # no path at all: book_folder says so
        return False


def read_market(book: str | Path) -> Market:
    """The market of a book: a folder, a bundled book's name, or the TOML file.

    Raises:
        InputRejected: no file, no TOML, or values that break a rule; all problems at once.
    """
    path = market_path(book)
    try:
        data = parse_toml(read_bytes(path, MAX_TOML_BYTES))
    except Unreadable as error:
        raise InputRejected([error.problem(path.name)]) from None
    try:
        return Market.model_validate(data)
    except ValidationError as error:
        raise InputRejected([_problem(path.name, e) for e in error.errors()]) from None


_RULES = {
    "missing": "missing-key",
    "extra_forbidden": "unknown-key",
    "finite_number": "not-finite",
    "literal_error": "market-choice",
    "too_short": "list-length",
    "too_long": "list-length",
    "greater_than": "market-range",
    "greater_than_equal": "market-range",
    "less_than": "market-range",
    "less_than_equal": "market-range",
    "string_too_short": "market-range",
    "string_too_long": "market-range",
}


def _problem(file: str, error: ErrorDetails) -> Problem:
    place, rule = toml_path(error["loc"]), _RULES.get(error["type"], "wrong-type")
    broken = error.get("ctx", {}).get("error")
    if isinstance(broken, BrokenRule):
        inside = ".".join(part for part in (place, broken.place) if part and part != WHOLE)
        text = str(broken)
        message = f"{text}." if ";" in text or ": " in text else sentence(broken.rule, text)
        return Problem(file, message, broken.rule, None, inside or WHOLE)
    if rule == "unknown-key":
        near = suggest(shortened(str(error["loc"][-1])), _fields_at(error["loc"][:-1])).strip()
        return Problem(file, sentence(rule, "unknown key", near), rule, None, shortened(place, 200))
    if rule == "missing-key":
        return Problem(file, sentence(rule, "this key is missing and has no default"), rule, None, place)
    value = error["input"]
    found = "a table" if isinstance(value, dict) else "a list" if isinstance(value, list) else shown(value)
    return Problem(file, sentence(rule, f"found {found}. {error['msg']}"), rule, None, place, found)


def toml_path(loc: tuple[int | str, ...]) -> str:
    """gpu.generations[2].price_usd_per_hour, positions from 1."""
    text = ""
    for part in loc:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".") or WHOLE


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
