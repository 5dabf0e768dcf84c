"""The header of a tape: which columns are there, which are the user's own, which are neither."""

from __future__ import annotations

from ..text import shown
from .cells import Cells
from .columns import Column
from .findings import Findings, nearest
from .tapes import Tape


def check_header(tape: Tape, known: list[str], cells: dict[str, Cells], findings: Findings) -> list[str]:
    """Problems of the header; and the user's own columns, which only the loan tape has."""
    headers = [name for name, _ in tape.columns]
    for name in sorted({h for h in headers if h and headers.count(h) > 1}):
        findings.file(tape.file, "doubled-column", f"column {shown(name)} stands there twice", column=name)
    for place in [i for i, h in enumerate(headers, start=1) if not h]:
        findings.file(tape.file, "blank-header", f"column {place} has no name")
    own = []
    for header in dict.fromkeys(h for h in headers if h and h not in known):
        if not header.isprintable():
            findings.file(
                tape.file, "unknown-column", f"the column name {shown(header)} has a character that can't be shown"
            )
        elif tape.name == "loans" and nearest(header.lower(), known, 0.85) is None:
            own.append(header)
        else:
            near = nearest(header.lower(), known)
            hint = f"did you mean {near}?" if near else f"known are {', '.join(known)}"
            findings.file(tape.file, "unknown-column", f"unknown column {shown(header)}", column=header, hint=hint)
    return own


def report_missing(tape: Tape, column: Column, own: list[str], findings: Findings) -> None:
    """A needed column is not there; perhaps one of the user's own is meant."""
    near = nearest(column.name, own)
    found = f"column {column.name} is missing ({column.meaning})"
    findings.file(tape.file, "missing-column", found, column=column.name, hint=f"Is it {near!r}?" if near else "")
