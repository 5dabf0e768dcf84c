"""What can go wrong, as sentences: where it is, what was found, what the rule is and the way out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
    """One finding about the inputs. `where` is file:row, file or file:path.in.toml; `rule` a short stable id."""

    where: str
    message: str
    rule: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message} [{self.rule}]"


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
    shown_per_rule = 20

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self._text())

    def _text(self) -> str:
        lines: list[str] = []
        counts: dict[str, int] = {}
        for problem in self.problems:
            counts[problem.rule] = counts.get(problem.rule, 0) + 1
            if counts[problem.rule] <= self.shown_per_rule:
                lines.append(str(problem))
        for rule, count in counts.items():
            if count > self.shown_per_rule:
                lines.append(f"... and {count - self.shown_per_rule} more of [{rule}]")
        noun = "problem" if len(self.problems) == 1 else "problems"
        return "\n".join([f"{len(self.problems)} {noun} in the inputs:", *lines])
