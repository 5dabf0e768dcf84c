"""market.toml: read strictly, with every problem at its place in the file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ..errors import BrokenRule, BrokenRules, InputRejected, Problem
from ..market import Market
from ..market_links import broken_links
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
        raise InputRejected(problems_of_market(path.name, data, error)) from None


def problems_of_market(file: str, data: dict[str, Any], error: ValidationError) -> list[Problem]:
    """Every problem of a market's data, given what pydantic has with it."""
    problems = problems_of_table(file, error, Market)
    # rules between tables, which are not judged while a table is wrong in itself
    told = {p.column for p in problems}
    return problems + [_broken(file, b, "") for b in broken_links(data) if b.place not in told]


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


def problems_of_table(file: str, error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """Every problem that pydantic has with a file of the model's tables."""
    return [p for e in error.errors() for p in _problems(file, e, model)]


def _problems(file: str, error: ErrorDetails, model: type[BaseModel]) -> list[Problem]:
    """What pydantic says at one place: one problem, or the broken rules of a table."""
    broken = error.get("ctx", {}).get("error")
    if isinstance(broken, BrokenRules):
        return [_broken(file, b, toml_path(error["loc"])) for b in broken.broken]
    if isinstance(broken, BrokenRule):
        return [_broken(file, broken, toml_path(error["loc"]))]
    return [_problem(file, error, model)]


def _broken(file: str, broken: BrokenRule, table: str) -> Problem:
    inside = ".".join(part for part in (table, broken.place) if part and part != WHOLE)
    text = str(broken)
    end = "" if text.endswith("?") else "."
    message = f"{text}{end}" if ";" in text or ": " in text else sentence(broken.rule, text)
    return Problem(file, message, broken.rule, None, inside or WHOLE)


def _problem(file: str, error: ErrorDetails, model: type[BaseModel]) -> Problem:
    place, rule = toml_path(error["loc"]), _RULES.get(error["type"], "wrong-type")
    if rule == "unknown-key":
        near = suggest(shortened(str(error["loc"][-1])), _fields_at(model, error["loc"][:-1])).strip()
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


def _fields_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    found: Any = model
    for part in loc:
        if isinstance(part, str):
            found = _table_in(found.model_fields[part].annotation)
    return list(found.model_fields)


def _table_in(annotation: Any) -> Any:
    """The pydantic table inside list[...] or ... | None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((t for t in map(_table_in, get_args(annotation)) if t is not None), None)
