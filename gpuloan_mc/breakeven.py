"""The level of a parameter at which the tail reaches a limit, or a tranche first loses; always the same random numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import __version__, risk
from .answers import write_study
from .arguments import MAX_PATHS, MAX_SEED, whole_number
from .comparison import Progress, after, json_rows
from .contributions import exact_level
from .errors import UsageError
from .market import Market
from .portfolio import Portfolio
from .result import CENTS, Result
from .schemas import SCHEMA_VERSION
from .sensitivity import Range
from .simulation import simulate
from .tranches import layer

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_PATHS = 20_000
FIRST_LOSS = 0.01
MANIFEST = "breakeven.json"
TABLE = "breakeven.parquet"
MAX_STEPS = 50


@dataclass(frozen=True, slots=True)
class Reading:
    """A target's figure at one level of the parameter with its 95 % interval, and the goal it is to reach.

    `low` and `high` are nan where the paths are too few. `tail_paths`: how many make the figure.
    """

    value: float
    low: float
    high: float
    goal: float
    tail_paths: int


@dataclass(frozen=True)
class ShortfallLimit:
    """The expected shortfall at a level reaches a limit: a share of the commitment up to 1, dollars above.

    Raises:
        UsageError: the level lies outside (0, 1), or the limit is not above 0.
    """

    level: float
    limit: float

    def __post_init__(self) -> None:
        exact_level(self.level)
        if not 0 < self.limit < math.inf:
            raise UsageError(
                f"the limit is {self.limit:g}; it must be above 0: up to 1 a share of the commitment, else dollars"
            )

    @property
    def figure(self) -> str:
        """What is compared with the goal."""
        return f"ES {100 * self.level:g} %"

    def read(self, result: Result) -> Reading:
        """The shortfall of a run, dollars."""
        tail = risk.tails(result.ordered, [self.level])[0]
        value, reach = tail.shortfall / CENTS, risk.standard_errors() * tail.shortfall_se / CENTS
        goal = self.limit * result.commitment_usd if self.limit <= 1 else self.limit
        return Reading(value, value - reach, value + reach, goal, tail.paths)


@dataclass(frozen=True)
class TrancheLoss:
    """A tranche begins to lose: its probability of loss reaches `probability`, by default one future in a hundred.

    `tranche` is a text or pair as `Questions.tranches` takes it; shares are of the commitment at each level. The first
    single path that loses would be no answer: it comes sooner the more paths there are.

    Raises:
        UsageError: the tranche is none, or the probability lies outside (0, 1).
    """

    tranche: str | tuple[float, float | None]
    probability: float = FIRST_LOSS

    def __post_init__(self) -> None:
        layer(self.tranche, 1e6)  # refused now rather than after the first run
        if not 0 < self.probability < 1:
            raise UsageError(f"probability is {self.probability:g}; it must lie between 0 and 1, such as 0.01")

    @property
    def figure(self) -> str:
        """What is compared with the goal."""
        name = (
            self.tranche
            if isinstance(self.tranche, str)
            else ":".join("" if x is None else f"{x:g}" for x in self.tranche)
        )
        return f"probability that tranche {name} loses"

    def read(self, result: Result) -> Reading:
        """The share of a run's paths that reach the tranche, with Wilson's interval."""
        attachment = layer(self.tranche, result.commitment_usd).attachment
        hit = int(np.count_nonzero(result.losses > attachment))
        low, high = risk.wilson_interval(hit, result.n_paths)
        return Reading(hit / result.n_paths, low, high, self.probability, hit)


Target = ShortfallLimit | TrancheLoss


@dataclass(frozen=True)
class BreakEven:
    """The level of a parameter at which a figure reaches its goal.

    `value` is the answer on the paths that were run, to `step`; `low` and `high` are a 95 % interval for it: the levels at
    which the figure's own interval stops holding the goal. None: the interval goes beyond the range that was searched, or
    the paths are too few for one. `reading` is the figure at `value`. `table` has a row a level that was run (docs/schema.md,
    breakeven.parquet).
    """

    between: Range
    target: Target
    value: float
    low: float | None
    high: float | None
    step: float
    reading: Reading
    n_paths: int
    seed: int
    engine: str
    table: pd.DataFrame = field(repr=False)

    def to_json_dict(self) -> dict[str, Any]:
        """What `breakeven --json` prints (docs/schema.md)."""
        reading = {key: None if value != value else value for key, value in asdict(self.reading).items()}
        return {
            "version": __version__,
            "schema_version": SCHEMA_VERSION,
            "seed": self.seed,
            "n_paths": self.n_paths,
            "engine": self.engine,
            "parameter": self.between.parameter,
            "how": self.between.how,
            "figure": self.target.figure,
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "step": self.step,
            "reading": reading,
            "levels": json_rows(self.table),
        }

    def write(self, folder: str | Path) -> Path:
        """Write breakeven.parquet and breakeven.json into a new, empty or earlier break-even's folder.

        Raises:
            UsageError: it holds something else, or can't be written.
        """
        return write_study(folder, {TABLE: self.table}, MANIFEST, self.to_json_dict())


def break_even(
    portfolio: Portfolio,
    market: Market,
    between: Range,
    target: Target,
    *,
    n_paths: int | None = None,
    seed: int = 1,
    steps: int = 10,
    engine: str = "auto",
    workers: int | None = None,
    progress: Progress | None = None,
) -> BreakEven:
    """Halve a parameter's range until the level is found at which a figure reaches its goal, and likewise its interval.

    The paths are the same at every level, so the figure moves with the parameter alone.

    Args:
        between: the parameter and two levels of it, on either side of the goal.
        target: the figure and its goal.
        n_paths: a run; None: 20,000. steps: halvings, 1 … 50; 10 leave a thousandth of the range. The others: as in
            `stress`.

    Raises:
        UsageError: both ends lie on the same side of the goal, or an argument is out of range.
        InputRejected: the parameter is unknown, or a level of it makes the book invalid.
        EnvironmentProblem, Interrupted: as `simulate`.
    """
    n_paths = whole_number("n_paths", DEFAULT_PATHS if n_paths is None else n_paths, 1, MAX_PATHS)
    seed, steps = whole_number("seed", seed, 0, MAX_SEED), whole_number("steps", steps, 1, MAX_STEPS)
    if not -math.inf < between.low < between.high < math.inf:
        raise UsageError(
            f"the range of {between.parameter} goes from {between.low:g} to {between.high:g}; it must go up"
        )
    known: dict[float, Reading] = {}
    most = (3 * steps + 3) * n_paths  # no more paths than that
    engines: set[str] = set()

    def at(level: float) -> Reading:
        if level not in known:
            told = None if progress is None else after(progress, len(known) * n_paths, most)
            result = simulate(portfolio, market, n_paths=n_paths, seed=seed, engine=engine, workers=workers,
                              scenarios=[between.at(level)], progress=told)  # fmt: skip
            engines.add(result.engine)
            known[level] = target.read(result)
        return known[level]

    ends = at(between.low), at(between.high)
    value = _crossing(lambda level: at(level).value - at(level).goal, between, steps)
    if value is None:
        raise UsageError(_out_of_reach(between, target, *ends))
    bounds = [
        _crossing(lambda level: at(level).high - at(level).goal, between, steps),
        _crossing(lambda level: at(level).low - at(level).goal, between, steps),
    ]
    low, high = bounds if ends[0].value < ends[1].value else reversed(bounds)
    reading, step = at(value), (between.high - between.low) / 2**steps
    return BreakEven(
        between, target, value, low, high, step, reading, n_paths, seed, engines.pop(), _table(between, known)
    )


def _crossing(excess: Callable[[float], float], between: Range, steps: int) -> float | None:
    """Where an excess over a goal changes its sign, by halving; None: not between the ends, or not known there."""
    low, high = between.low, between.high
    first, last = excess(low), excess(high)
    if first != first or last != last or (first < 0) == (last < 0):
        return None
    for _ in range(steps):
        middle = (low + high) / 2
        low, high = (middle, high) if (excess(middle) < 0) == (first < 0) else (low, middle)
    return (low + high) / 2


def _out_of_reach(between: Range, target: Target, first: Reading, last: Reading) -> str:
    shown = [
        f"{reading.value:,.4g}" if reading.goal < 1 else f"{reading.value:,.0f} dollars" for reading in (first, last)
    ]
    goal = f"{first.goal:g}" if first.goal < 1 else f"{first.goal:,.0f} dollars"
    return (
        f"{target.figure} is {shown[0]} at {between.parameter} {between.setting(between.low)} and {shown[1]} at "
        f"{between.setting(between.high)}: {goal} does not lie between; widen the range or move the goal"
    )


def _table(between: Range, known: dict[float, Reading]) -> pd.DataFrame:
    import pandas as pd

    rows = [{"level": level, **asdict(reading)} for level, reading in sorted(known.items())]
    frame = pd.DataFrame(rows)
    frame.insert(0, "parameter", between.parameter)
    frame.insert(1, "how", between.how)
    return frame
