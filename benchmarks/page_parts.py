"""Pieces of a Markdown page."""

from __future__ import annotations


def table(head: str, rows: list[list[str]]) -> list[str]:
    """A Markdown table; the columns of `head` are separated by |."""
    columns = [c.strip() for c in head.split("|")]
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)) + " |"

    return [line(columns), "|" + "|".join("-" * (w + 2) for w in widths) + "|", *map(line, rows), ""]


def mib(n: float) -> str:
    """Bytes as MiB."""
    return f"{n / 2**20:,.0f}"


def share(x: float) -> str:
    """A fraction in percent."""
    return f"{100 * x:.2g} %" if x < 0.1 else f"{100 * x:.0f} %"
