"""docs/input-rules.md, written from the table of rules and the caps."""

from __future__ import annotations

from .limits import CAPS
from .rules import RULES, Scope

_HEAD = """# What is let in, and what is not

Written from `gpuloan_mc/inputs/rules.py` and `limits.py`; a test keeps it so. Every problem of a book is found in one go
and shown with its place, what was found, a way out and the rule's id; at most 20 of a rule are shown on screen, all of them
are in `rejected.parquet` of `--out` (columns file, row, column, value, rule, message), and the exit code is 3.

`--on-bad-row reject` (in Python `on_bad_row="reject"`) goes on without the rows that break a rule of scope **row**, and
without the rows that depend on them: loans of a rejected obligor, deployments of a rejected loan or tenant, schedule rows
of a rejected loan, and loans of which every deployment or every schedule row was rejected. Rules are then applied again to
what is left, until nothing more goes. Rows, and balance and undrawn in cents, are reconciled: in = accepted + rejected, on
screen and as `portfolio.reconciliation`. All other rules stop the book in either mode.

## Treatments that are not problems

- A UTF-8 byte order mark, Windows and old Mac line ends, blank lines, spaces around cells and headers are accepted.
- Row numbers are the lines of a CSV file on which rows begin, line breaks inside quoted cells counted; elsewhere rows
  count from 1.
- Ids are text: `007` stays `007`, `1e5` stays `1e5`. Whole-number columns of Parquet and frames are ids as they stand;
  float columns are refused as ids.
- Minus zero is zero. A number is ASCII digits with a point and perhaps an exponent. Decimals become the nearest float64.
- Missing is an empty CSV cell, null in Arrow and Parquet, and None, NaN, NA or NaT in pandas. NaN in Arrow and Parquet is
  no number; so are `nan` and `NA` in CSV.
- A formula, HTML or `../` in a name is text. Names and values are shown with control, direction and zero-width characters
  escaped.
- Metadata of Parquet files, pandas' and pickles among it, is not read; nor are columns named `__index_level_0__` and the
  like, or the index of a pandas frame.

## Caps, checked before memory is spent

| what | cap |
|---|---|
"""

_TITLES: dict[Scope, str] = {
    "book": "Files and tables",
    "file": "A tape as a whole",
    "row": "Rows",
    "market": "market.toml",
    "scenario": "Scenarios",
    "pool": "Pools",
    "plan": "Found when a run begins",
    "warning": "Warnings, which stop nothing",
}


def rule_reference() -> str:
    """The whole page as Markdown."""
    caps = "".join(f"| {what} | {cap} |\n" for what, cap in CAPS)
    return "\n".join([_HEAD + caps, *(_section(scope, title) for scope, title in _TITLES.items())])


def _section(scope: Scope, title: str) -> str:
    rows = [f"## {title}", "", "| rule | where | what holds | way out |", "|---|---|---|---|"]
    mine = [rule for rule in RULES.values() if rule.scope == scope]
    return "\n".join([*rows, *(f"| `{r.id}` | {r.tapes} | {r.states} | {r.way_out} |" for r in mine), ""])
