"""Text from outside made harmless: what a book says is shown, never obeyed."""

from __future__ import annotations

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
