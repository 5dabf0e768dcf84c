"""Where a book is: a folder, or the name of one that comes with the package."""

from __future__ import annotations

import difflib
from pathlib import Path

from ..errors import InputRejected, Problem
from ..text import shortened

MAX_NAMES_SHOWN = 40

_BUNDLED = Path(__file__).parent.parent / "books"


def bundled_books() -> list[str]:
    """Names of the books in the package."""
    return sorted(p.name for p in _BUNDLED.iterdir() if (p / "market.toml").is_file())


def book_folder(book: str | Path) -> Path:
    """The folder of a book: a path, or a bundled book's name (a folder of that name comes first).

    Raises:
        InputRejected: neither exists.
    """
    try:
        if Path(book).is_dir():
            return Path(book)
    except (OSError, ValueError) as error:
        message = f"this is no path of a folder: {getattr(error, 'strerror', None) or error}. Check the path."
        raise InputRejected([Problem(shortened(str(book)), message, "no-book")]) from None
    if str(book) in bundled_books():
        return _BUNDLED / str(book)
    found = f"no such folder, nor a bundled book.{suggest(str(book), bundled_books())}"
    raise InputRejected([Problem(str(book), found, "no-book")])


def suggest(found: str, known: list[str]) -> str:
    """' Did you mean ...?' for the nearest known names, or ' Known: ...'."""
    near = difflib.get_close_matches(found, known, n=2, cutoff=0.6)
    if near:
        return f" Did you mean {' or '.join(near)}?"
    return f" Known: {', '.join(known)}." if 0 < len(known) <= MAX_NAMES_SHOWN else ""
