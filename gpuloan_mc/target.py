"""How sure a run must be before it stops: a measure and the error that it may have."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from . import path_columns, risk
from .contributions import exact_level
from .errors import UsageError
from .reference.arithmetic import I64
from .risk import Moments

MAX_PATHS = 10_000_000  # of a run that names none
_CHUNK = 1024
_FIRST = 20 * _CHUNK


@dataclass(frozen=True, slots=True)
class Target:
    """Half the width of the 95 % interval of a measure, relative to the measure.

    A run with a target looks after 20 chunks of 1,024 paths, and again each time a fifth more are done, until the target is
    reached or the paths that it may take are done. It looks at numbers of paths, never at the clock: where it stops
    depends on book, seed and target alone.

    Attributes:
        measure: el, var:LEVEL or es:LEVEL, such as es:0.999.
        error: in (0, 1), such as 0.01.

    Raises:
        UsageError: no such measure, or the error lies outside (0, 1).
    """

    measure: str
    error: float

    def __post_init__(self) -> None:
        name, _, level = self.measure.partition(":")
        if name not in ("el", "var", "es") or (name == "el") == bool(level):
            raise UsageError(f"measure is {self.measure!r:.40}; it must be el, var:LEVEL or es:LEVEL, such as es:0.999")
        if level:
            exact_level(level)  # type: ignore[arg-type]  # it reads the decimal as it is written
        if not 0 < self.error < 1:
            raise UsageError(f"target error is {self.error!r:.40}; it must lie between 0 and 1, such as 0.01 or 1%")

    def looks(self, n_paths: int) -> Iterator[int]:
        """Numbers of paths after which a run of at most `n_paths` asks whether it may stop; the last is `n_paths`."""
        look = _FIRST
        while look < n_paths:
            yield look
            look = -(-look * 6 // (5 * _CHUNK)) * _CHUNK
        yield n_paths

    def error_of(self, losses: I64) -> float:
        """The measure's relative error on losses (n_paths,), cents; inf where it can't be told."""
        name, _, text = self.measure.partition(":")
        z = risk.standard_errors()
        if name == "el":
            moments = Moments.of(losses)
            return _share(z * moments.standard_error, moments.mean)
        ordered, level = path_columns.ordered(losses), float(text)
        if name == "var":
            low, high = risk.value_at_risk_interval(ordered, level)
            half = math.inf if low is None or high is None else (high - low) / 2
            return _share(half, risk.value_at_risk(ordered, level))
        tail = risk.tails(ordered, [level])[0]
        return _share(z * tail.shortfall_se, tail.shortfall)

    def to_json_dict(self, losses: I64) -> dict[str, Any]:
        """As summary.json has it: what was asked and what the losses gave."""
        found = self.error_of(losses)
        return {
            "measure": self.measure,
            "error": self.error,
            "reached_error": found if math.isfinite(found) else None,
            "reached": found <= self.error,
        }


def _share(half_width: float, figure: float) -> float:
    return half_width / figure if figure > 0 and math.isfinite(half_width) else math.inf
