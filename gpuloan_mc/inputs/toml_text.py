"""market.toml as text: sizes and depth judged before it is parsed."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from .limits import MAX_TOML_BYTES, MAX_TOML_DEPTH
from .tapes import Unreadable

# strings and comments, whose brackets and dots mean nothing; an opened string that never ends is left to the parser
_QUOTED = re.compile(r'"""(?:[^\\]|\\.)*?"""|\'\'\'.*?\'\'\'|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|#[^\n]*', re.S)
# begins at a word's first letter and never looks back: a key of a million letters costs one pass
_DOTTED = re.compile(rf"(?<![A-Za-z0-9_-])(?:[A-Za-z0-9_-]++[ \t]*+\.[ \t]*+){{{MAX_TOML_DEPTH}}}")


def parse_toml(data: bytes) -> dict[str, Any]:
    """The document as Python's dicts and lists.

    Raises:
        Unreadable: too large, too deep, not UTF-8, or not TOML.
    """
    if len(data) > MAX_TOML_BYTES:
        raise Unreadable("too-large", f"the file has {len(data):,} bytes; at most {MAX_TOML_BYTES:,} are read")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        kind = "this is UTF-16 text" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "not UTF-8 text"
        raise Unreadable("toml-encoding", f"{kind} (byte {error.start}, line {line})") from None
    _check_depth(text)
    try:
        return tomllib.loads(text)
    except ValueError as error:  # besides TOML's own errors: integers of more than 4,300 digits, years beyond 9999
        raise Unreadable("toml-syntax", f"not valid TOML: {error}") from None


def _check_depth(text: str) -> None:
    """Refuse brackets and dotted keys so deep that parsing them costs more than they can mean."""
    bare = _QUOTED.sub("q", text)
    depth, deepest = 0, 0
    for mark in re.findall(r"[\[\]{}]", bare):
        depth = depth + 1 if mark in "[{" else max(depth - 1, 0)
        deepest = max(deepest, depth)
    dotted = _DOTTED.search(bare)
    if deepest > MAX_TOML_DEPTH or dotted:
        line = bare.count("\n", 0, dotted.start()) + 1 if dotted else None
        place = f"a dotted key of about line {line}" if line else f"brackets, {deepest} of them,"
        raise Unreadable("toml-depth", f"{place} nest deeper than {MAX_TOML_DEPTH}")
