"""Where a parameter brings the tail to a limit, and how two parameters move it together; always the same random numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import UsageError
from .market import Market
from .portfolio import Portfolio
from .result import Result
from .risk import LEVELS
from .sensitivity import Range
from .simulation import simulate

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_PATHS = 20_000


@dataclass(frozen=True)
class BreakEven:
    """The level of a parameter at which the expected shortfall reaches a limit: it lies from `low` to `high`.

    `shortfall_usd` and its error are of `value`, the middle. The paths are the same at every level, so the bracket is as
    narrow as asked for; what another seed would move it by, the error over the slope tells.
    """

    parameter: str
    value: float
    low: float
    high: float
    shortfall_usd: float
    shortfall_se_usd: float | None
    runs: int


def break_even(
    portfolio: Portfolio,
    market: Market,
    between: Range,
    limit_usd: float,
    *,
    level: float = 0.99,
    n_paths: int = DEFAULT_PATHS,
    seed: int = 1,
    steps: int = 10,
    engine: str = "auto",
    workers: int | None = None,
) -> BreakEven:
    """Halve a parameter's range until the level is found at which the expected shortfall is the limit.

    Args:
        between: the parameter and two levels of it, on either side of the limit. steps: halvings; 10 leave a thousandth.

    Raises:
        UsageError: both ends lie on the same side of the limit, or an argument is out of range.
        InputRejected: a level of the parameter makes the book invalid.
    """
    _check_level(level)
    if not 1 <= steps <= 50:
        raise UsageError(f"steps is {steps}; it must be from 1 to 50")

    def at(value: float) -> Result:
        return simulate(
            portfolio, market, n_paths=n_paths, seed=seed, engine=engine, workers=workers, scenarios=[between.at(value)]
        )

    low, high = between.low, between.high
    ends = [at(value).expected_shortfall[level] for value in (low, high)]
    if (ends[0] < limit_usd) == (ends[1] < limit_usd):
        raise UsageError(
            f"ES {100 * level:g} % is {ends[0]:,.0f} dollars at {low:g} and {ends[1]:,.0f} at {high:g}: "
            f"the limit of {limit_usd:,.0f} does not lie between; widen the range or move the limit"
        )
    for _ in range(steps):
        middle = (low + high) / 2
        below = at(middle).expected_shortfall[level] < limit_usd
        low, high = (middle, high) if below == (ends[0] < limit_usd) else (low, middle)
    value = (low + high) / 2
    last = at(value)
    shortfall, error = last.expected_shortfall[level], last.expected_shortfall_se[level]
    return BreakEven(between.parameter, value, low, high, shortfall, error, steps + 3)


def grid(
    portfolio: Portfolio,
    market: Market,
    first: tuple[Range, Sequence[float]],
    second: tuple[Range, Sequence[float]],
    *,
    level: float = 0.99,
    n_paths: int = DEFAULT_PATHS,
    seed: int = 1,
    engine: str = "auto",
    workers: int | None = None,
) -> pd.DataFrame:
    """A row a pair of levels of two parameters: expected loss and shortfall, each with its error, dollars.

    The columns of the parameters have their names; a range's ends are not read, only its parameter and how it is set.

    Raises:
        UsageError: the two are one parameter, or an argument is out of range.
        InputRejected: a level makes the book invalid.
    """
    import pandas as pd

    _check_level(level)
    (a, a_values), (b, b_values) = first, second
    if a.parameter == b.parameter:
        raise UsageError(f"both parameters of the grid are {a.parameter}; name two")
    rows = []
    for x in a_values:
        for y in b_values:
            result = simulate(
                portfolio,
                market,
                n_paths=n_paths,
                seed=seed,
                engine=engine,
                workers=workers,
                scenarios=[a.at(x), b.at(y)],
            )
            shortfall, error = result.expected_shortfall[level], result.expected_shortfall_se[level]
            rows.append((x, y, result.expected_loss, result.expected_loss_se, shortfall, error))
    names = ["expected_loss", "expected_loss_se", "expected_shortfall", "expected_shortfall_se"]
    return pd.DataFrame(rows, columns=[a.parameter, b.parameter, *names])


def _check_level(level: float) -> None:
    if level not in LEVELS:
        raise UsageError(f"level is {level}; it must be one of {', '.join(map(str, LEVELS))}")
