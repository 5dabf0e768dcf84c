"""Text from outside made harmless: what a book says is shown, never obeyed."""

from __future__ import annotations

import math

SHOWN_CHARACTERS = 60


def printable(text: str) -> str:
    """The text with every control, direction, zero-width and unpaired character as an escape such as \\x1b."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def shortened(text: str, length: int = SHOWN_CHARACTERS) -> str:
    """At most `length` characters; a cut is marked by dots."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def shown(value: object) -> str:
    """A value as a message quotes it: text between quotes, other things as Python writes them; short and harmless."""
    if isinstance(value, str):
        return repr(shortened(value))
    try:
        return printable(shortened(repr(value)))
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return "a number of thousands of digits"


def figure_and_error(value: float, error: float | None, *, signed: bool = False) -> tuple[str, str]:
    """A figure and its standard error, both to the error's second digit; dots for an error that is not known (None, NaN).

    A figure without an error, or whose error is 0, is shown to four digits.
    """
    known = error is not None and error == error
    if value != value:
        return "…", "…"
    sign = "+" if signed else ""
    if error is None or not known or error == 0:
        places = 3 - math.floor(math.log10(abs(value))) if value else 0
        return f"{value:{sign},.{min(max(places, 0), 12)}f}", "0" if known else "…"
    places = min(1 - math.floor(math.log10(error)), 12)
    digits = f",.{max(places, 0)}f"
    return f"{round(value, places):{sign}{digits}}", f"{round(error, places):{digits}}"


def with_error(value: float, error: float | None, *, signed: bool = False) -> str:
    """`figure_and_error` as one text; dots alone for a figure that is not known."""
    figure, error_text = figure_and_error(value, error, signed=signed)
    return figure if value != value else f"{figure} ± {error_text}"
