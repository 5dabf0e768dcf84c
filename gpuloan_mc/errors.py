"""What can go wrong, as sentences: where it is, what was found, what the rule is and the way out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .text import printable

EXIT_OK = 0
EXIT_USAGE = 2
EXIT_INPUT = 3
EXIT_ENVIRONMENT = 4
EXIT_INTERRUPTED = 5
EXIT_NOT_CONVERGED = 6
EXIT_BUG = 70


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a run; its text says what is known by then."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding about the inputs; `rule` is an id of docs/input-rules.md.

    `row` is the line of a CSV file, else the row's number from 1; None: the file as a whole. `column` is a tape's column
    or a place in market.toml such as gpu.generations[2].name. `value` is what was found, shortened and harmless.
    """

    file: str
    message: str
    rule: str
    row: int | None = None
    column: str = ""
    value: str = ""

    def __post_init__(self) -> None:
        for name in ("file", "message", "column", "value"):
            object.__setattr__(self, name, printable(getattr(self, name)))

    @property
    def where(self) -> str:
        """file:line of a CSV file, file: row of other tapes, file:place of market.toml, or the file."""
        if self.row is not None:
            return f"{self.file}:{self.row}" if self.file.endswith(".csv") else f"{self.file}: row {self.row}"
        return f"{self.file}:{self.column}" if self.column and self.file.endswith(".toml") else self.file

    def __str__(self) -> str:
        return f"{self.where}: {self.message} [{self.rule}]"


class BrokenRule(ValueError):
    """A rule between the values of market.toml; `rule` is its id, `place` the key within the table that is at fault."""

    def __init__(self, rule: str, place: str, message: str) -> None:
        super().__init__(message)
        self.rule, self.place = rule, place


class GpuLoanError(Exception):
    """An error that the user can mend; its text is the whole story."""

    exit_code = EXIT_USAGE


class UsageError(GpuLoanError):
    """A wrong argument or option."""

    exit_code = EXIT_USAGE


class EnvironmentProblem(GpuLoanError):
    """Something is missing on this machine."""

    exit_code = EXIT_ENVIRONMENT


class InputRejected(GpuLoanError):
    """The book was refused; `problems` holds every finding, not just the first."""

    exit_code = EXIT_INPUT

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        noun = "problem" if len(self.problems) == 1 else "problems"
        super().__init__("\n".join([f"{len(self.problems)} {noun} in the inputs:", *problem_lines(self.problems)]))


def problem_lines(problems: Sequence[Problem], shown_per_rule: int = 20) -> list[str]:
    """The problems as lines: the first of each rule, then how many more there are."""
    lines: list[str] = []
    counts: dict[str, int] = {}
    for problem in problems:
        counts[problem.rule] = counts.get(problem.rule, 0) + 1
        if counts[problem.rule] <= shown_per_rule:
            lines.append(str(problem))
    more = {rule: count - shown_per_rule for rule, count in counts.items() if count > shown_per_rule}
    return lines + [f"... and {count} more of [{rule}]" for rule, count in more.items()]
