"""Pieces of a Markdown page."""

from __future__ import annotations

from typing import Any


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


def load_lines(report: dict[str, Any]) -> list[str]:
    """Machine, versions, load before and after, and the note of a report."""
    m = report["machine"]
    packages = ", ".join(f"{k} {v}" for k, v in report["packages"].items())
    lines = [
        f"{m['cpu']}, {m['cores']} cores, {m['memory_gib']} GiB, {m['system']}; Python {m['python']}, {packages}.",
        f"Load of the machine before and after: {report['load_before'][0]}, {report['load_after'][0]}.",
    ]
    if report.get("quick"):
        lines.append("A quick run: few repeats.")
    return [*lines, *([report["note"]] if report["note"] else []), ""]
