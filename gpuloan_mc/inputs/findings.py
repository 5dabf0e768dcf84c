"""Problems as they are found, and which rows they make bad."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import Problem
from ..text import printable, shown
from .books import suggest
from .limits import MAX_LISTED_PER_RULE, MAX_SUGGESTIONS_PER_RULE
from .rules import RULES, sentence
from .tapes import Tape

Mask = NDArray[np.bool_]
MAX_NAMES_COMPARED = 2000
MAX_NAME_COMPARED = 100


class Findings:
    """All problems of a book's tapes; `bad` holds the rows that have one."""

    def __init__(self, tapes: Collection[Tape]) -> None:
        self._listed: list[Problem] = []
        self._unlisted: Counter[tuple[str, str]] = Counter()
        self._counts: Counter[str] = Counter()
        self._suggested: dict[str, dict[str, str]] = {}
        masks = [{t.name: np.zeros(t.n_rows, dtype=np.bool_) for t in tapes} for _ in range(3)]
        self.bad, self.skip, self.unreadable = (
            masks  # rows with a problem; without values; with money that is no number
        )

    @property
    def problems(self) -> list[Problem]:
        """Every problem; where a rule is broken more often than is listed, the last one counts the rest."""
        rest = [
            Problem(file, f"{n:,} more rows break this rule; they are not listed one by one", rule)
            for (file, rule), n in self._unlisted.items()
        ]
        return self._listed + rest

    def stopping(self) -> list[Problem]:
        """The problems that are not about one row: these stop the book in any case."""
        return [p for p in self._listed if RULES[p.rule].scope != "row"]

    def file(self, file: str, rule: str, found: str, *, column: str = "", value: str = "", hint: str = "") -> None:
        """A problem of a file as a whole."""
        self._listed.append(Problem(file, sentence(rule, found, hint), rule, None, column, value))

    def rows(
        self,
        tape: Tape,
        wrong: Any,
        rule: str,
        found: Callable[[int], str],
        *,
        column: str = "",
        values: Any = None,
        hint: Callable[[int], str] | None = None,
        positions: NDArray[np.int64] | None = None,
    ) -> None:
        """A problem for each row where `wrong`. `found`, `hint` and `values` are asked by place in `wrong`.

        `positions` are the rows' places in the tape, if `wrong` covers only some of them.
        """
        places = np.flatnonzero(np.asarray(wrong, dtype=np.bool_))
        rows = places if positions is None else positions[places]
        if rule != "ragged-row":
            seen = ~self.skip[tape.name][rows]
            places, rows = places[seen], rows[seen]
        self.bad[tape.name][rows] = True
        room = max(0, MAX_LISTED_PER_RULE - self._counts[rule])
        self._counts[rule] += len(places)
        if len(places) > room:
            self._unlisted[tape.file, rule] += len(places) - room
        for place, row in zip(places[:room].tolist(), rows[:room].tolist(), strict=True):
            value = "" if values is None else _bare(values[place])
            text = sentence(rule, found(place), hint(place) if hint else "")
            self._listed.append(Problem(tape.file, text, rule, tape.row(row), column, value))

    def suggest(self, rule: str, value: str, known: Sequence[str]) -> str:
        """' Did you mean ...?'; for the first values of a rule only, as looking is slow."""
        cache = self._suggested.setdefault(rule, {})
        if value not in cache:
            if len(cache) >= MAX_SUGGESTIONS_PER_RULE or len(value) > MAX_NAME_COMPARED:
                return ""
            cache[value] = suggest(value, list(known) if len(known) <= MAX_NAMES_COMPARED else [])
        return cache[value].strip()


def _bare(value: Any) -> str:
    """A value for the table of rejected rows: as found, without quotes."""
    text = shown(value)
    return printable(text[1:-1]) if isinstance(value, str) else text


def nearest(name: str, known: Sequence[str], cutoff: float = 0.6) -> str | None:
    """The known name most like this one."""
    if len(name) > MAX_NAME_COMPARED:
        return None
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=cutoff)), None)
