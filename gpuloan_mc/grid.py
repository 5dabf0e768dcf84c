"""How two parameters move a book together: every pair of their values, on the same random numbers as the base."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .comparison import TABLE as STRESS_TABLE
from .comparison import Stress, json_rows, stress
from .errors import UsageError
from .files import empty_folder, write_whole
from .market import Market
from .parameter import Change, Parameter, merged
from .portfolio import Portfolio
from .run_folder import parquet_bytes
from .scenario import Scenario
from .schemas import arrow_table

if TYPE_CHECKING:
    import pandas as pd

TABLE = "grid.parquet"
DEFAULT_PATHS = 20_000


@dataclass(frozen=True)
class Axis:
    """A parameter (`Parameter.name`) and the values it takes, set or scaled.

    Raises:
        UsageError: no value, or one twice.
    """

    parameter: str
    values: tuple[float, ...]
    how: Change = "set"

    def __post_init__(self) -> None:
        if not self.values or len(set(self.values)) < len(self.values):
            raise UsageError(f"{self.parameter!s:.60}: name at least one value, and each once")

    @property
    def of(self) -> Parameter:
        """What is moved."""
        return Parameter(self.parameter, self.how)


@dataclass(frozen=True)
class Grid:
    """Figures at every pair of values and their differences from the base (docs/schema.md, grid.parquet)."""

    stress: Stress = field(repr=False)
    x: Axis
    y: Axis
    table: pd.DataFrame = field(repr=False)

    def crossed(
        self, column: str = "value", figure: str = "expected_shortfall", level: float | None = 0.99
    ) -> pd.DataFrame:
        """One column of a figure as a table: a row a value of x, a column a value of y.

        Raises:
            UsageError: there is no such figure or level.
        """
        import pandas as pd

        found = self.stress.figure(figure, level)[column]
        rows = [[found.loc[_name(self.x, v, self.y, w)] for w in self.y.values] for v in self.x.values]
        return pd.DataFrame(rows, index=list(self.x.values), columns=list(self.y.values))

    def to_json_dict(self) -> dict[str, Any]:
        """What `grid --json` prints: that of the stress, and the rows of grid.parquet in its place."""
        return self.stress.to_json_dict() | {"figures": json_rows(self.table)}

    def write(self, folder: str | Path) -> Path:
        """Write grid.parquet, and the runs behind it as those of a stress.

        Raises:
            UsageError: the folder holds something else, or can't be written.
        """
        target = empty_folder(Path(folder), marks=(TABLE, STRESS_TABLE))
        self.stress.write(target)
        write_whole(target / TABLE, parquet_bytes(arrow_table(TABLE, self.table)))
        return target


def grid(
    portfolio: Portfolio,
    market: Market,
    x: Axis,
    y: Axis,
    *,
    n_paths: int | None = None,
    seed: int = 1,
    engine: str = "auto",
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Grid:
    """Run every pair of values of two parameters.

    Args:
        n_paths: a run; None: 20,000. The others: as in `stress`.

    Raises:
        UsageError: the two are one parameter, or an argument is out of range.
        InputRejected: a parameter is unknown, or a pair makes the book invalid; every problem is in the error.
        EnvironmentProblem, Interrupted: as `simulate`.
    """
    if x.parameter == y.parameter:
        raise UsageError(f"both parameters of the grid are {x.parameter}; name two")
    pairs = [(v, w) for v in x.values for w in y.values]
    chosen = [Scenario.of(_name(x, v, y, w), **merged(x.of.changes(v), y.of.changes(w))) for v, w in pairs]
    n = DEFAULT_PATHS if n_paths is None else n_paths
    found = stress(portfolio, market, chosen, n_paths=n, seed=seed, engine=engine, workers=workers, progress=progress)
    return Grid(found, x, y, _table(found, x, y, pairs))


def _name(x: Axis, v: float, y: Axis, w: float) -> str:
    """The scenario of a pair."""
    return f"{x.of.titled(v)}, {y.of.titled(w)}"


def _table(found: Stress, x: Axis, y: Axis, pairs: Sequence[tuple[float, float]]) -> pd.DataFrame:
    import pandas as pd

    first = pd.DataFrame(
        [(_name(x, v, y, w), x.parameter, x.how, v, y.parameter, y.how, w) for v, w in pairs],
        columns=["scenario", "x_parameter", "x_how", "x", "y_parameter", "y_how", "y"],
    )
    return first.merge(found.table, on="scenario").drop(columns="scenario")
