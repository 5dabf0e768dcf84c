"""What the command line prints with: tables, counts and errors as text. Only what is used is imported."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import click


def table(title: str, *columns: str) -> Any:
    """An empty table; its first column is text, the others are numbers."""
    from rich.table import Table

    found = Table(title=title, title_justify="left", header_style="bold")
    for i, column in enumerate(columns):
        found.add_column(column, justify="left" if i == 0 else "right")
    return found


def show(*items: Any) -> None:
    """Print tables and lines, 100 columns wide where the output is no terminal."""
    from rich.console import Console

    # names come from the book: brackets and colons in them are text, not markup
    console = Console(width=None if sys.stdout.isatty() else 100, markup=False, emoji=False)
    with console.capture() as shown:
        for item in items:
            console.print(item, highlight=False)
    encoding = sys.stdout.encoding or "utf-8"  # a terminal of another alphabet gets question marks, not an error
    click.echo(shown.get().encode(encoding, errors="replace").decode(encoding), nl=False)


def count(n: int, noun: str) -> str:
    """1 loan, 2 loans."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def plus_minus(error: float | None, style: str = ",.0f") -> str:
    """An error, or dots where the paths are too few for one (None or NaN)."""
    return "± …" if error is None or error != error else f"± {error:{style}}"


def few_paths(tails: Mapping[str, int]) -> list[str]:
    """The warning of tails, by name, that rest on fewer than 50 paths; nothing where there is none."""
    from .risk import FEW_PATHS

    thin = [name for name, paths in tails.items() if paths < FEW_PATHS]
    if not thin:
        return []
    return [f"few paths: the tail at {', '.join(thin)} rests on fewer than {FEW_PATHS} paths; raise --paths"]
