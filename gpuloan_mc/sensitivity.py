"""Sensitivities by bump: one parameter after another at the ends of its range, on the same random numbers as the base."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .comparison import TABLE as STRESS_TABLE
from .comparison import Stress, first_sentence, json_rows, stress
from .errors import InputRejected, UsageError
from .files import empty_folder, write_whole
from .market import Market
from .parameter import Change, Parameter
from .portfolio import Portfolio
from .run_folder import parquet_bytes
from .scenario import Scenario, stressed
from .schemas import arrow_table

if TYPE_CHECKING:
    import pandas as pd

TABLE = "sensitivities.parquet"
DEFAULT_PATHS = 20_000
_ENDS = ("low", "high")


@dataclass(frozen=True)
class Range:
    """A parameter (`Parameter.name`) and the ends of its range, set or scaled."""

    parameter: str
    low: float
    high: float
    how: Change = "set"
    source: str = ""

    @property
    def of(self) -> Parameter:
        """What is moved."""
        return Parameter(self.parameter, self.how)

    def setting(self, value: float) -> str:
        """What the parameter becomes, as text."""
        return self.of.setting(value)

    def at(self, value: float) -> Scenario:
        """The scenario that sets or scales the parameter (`Parameter.at`)."""
        return self.of.at(value)


_MODEL = "docs/limits.md: what informed people might choose"
_OURS = "judgement without a record; the range is ours"

JUDGEMENT: tuple[Range, ...] = (
    Range("gpu.overhang.impact", 0.3, 2.5, source=_MODEL),
    Range("gpu.recovery.sale_impact", 0.3, 2.5, source=f"{_OURS}: that of the price impact"),
    Range("gpu.generations.*.decline", 0.03, 0.12, source=_MODEL),
    Range("gpu.launches.impact", 0.2, 0.6, source=_MODEL),
    Range("gpu.value.expected_decline", 0.20, 0.25, source=_MODEL),
    Range("gpu.costs.rise", 0.0, 0.03, source=_MODEL),
    Range("gpu.contracts.renewal", 0.7, 1.15, "scale", _OURS),
    Range("gpu.recovery.step_in", 0.5, 0.9, source=_OURS),
    Range("gpu.recovery.performance", 0.7, 0.95, source=_OURS),
    Range("gpu.recovery.opex_stress", 1.0, 1.3, source=_OURS),
    Range("gpu.recovery.lag_mean_months", 4.0, 12.0, source=_OURS),
    Range("gpu.recovery.haircut_mean", 0.10, 0.35, source=_OURS),
    Range("gpu.recovery.sale_cost", 0.03, 0.10, source=_OURS),
    Range("gpu.recovery.storage_share", 0.2, 0.6, source=_OURS),
    Range("hazard_classes.*.hazard", 0.7, 1.5, "scale", _OURS),
    Range("hazard_classes.*.claim_recovery", 0.5, 1.5, "scale", _OURS),
    Range("loans.remoteness", 0.5, 0.8, source=_MODEL),
    Range("loans.dscr_default_months", 3, 12, source=_MODEL),
)


@dataclass(frozen=True)
class Sensitivities:
    """Figures at the ends of each range and their differences from the base (docs/schema.md, sensitivities.parquet).

    `left_out` says which ranges do not fit the book, and why.
    """

    stress: Stress = field(repr=False)
    ranges: tuple[Range, ...]
    table: pd.DataFrame = field(repr=False)
    left_out: tuple[tuple[str, str], ...] = ()

    def tornado(self, figure: str = "expected_shortfall", level: float | None = 0.99) -> pd.DataFrame:
        """A row a parameter, the widest first: settings, differences and their errors at both ends.

        Raises:
            UsageError: there is no such figure or level.
        """
        import pandas as pd

        found = self.stress.figure(figure, level)[["difference", "difference_se"]]
        rows: list[dict[str, Any]] = []
        for item in self.ranges:
            row: dict[str, Any] = {"parameter": item.parameter}
            for end in _ENDS:
                value = getattr(item, end)
                there = found.loc[item.at(value).name]
                row |= {end: item.setting(value), f"difference_{end}": there.iloc[0], f"se_{end}": there.iloc[1]}
            row["span"] = max(abs(row["difference_low"]), abs(row["difference_high"]))
            rows.append(row)
        frame = pd.DataFrame(rows).sort_values(["span", "parameter"], ascending=[False, True], ignore_index=True)
        return frame.drop(columns="span")

    def to_json_dict(self) -> dict[str, Any]:
        """What `sensitivities --json` prints: that of the stress, and the rows of sensitivities.parquet in its place."""
        left_out = [{"parameter": name, "why": why} for name, why in self.left_out]
        return self.stress.to_json_dict() | {"left_out": left_out, "figures": json_rows(self.table)}

    def write(self, folder: str | Path) -> Path:
        """Write sensitivities.parquet, and the runs behind it as those of a stress.

        Raises:
            UsageError: the folder holds something else, or can't be written.
        """
        target = empty_folder(Path(folder), marks=(TABLE, STRESS_TABLE))
        self.stress.write(target)
        write_whole(target / TABLE, parquet_bytes(arrow_table(TABLE, self.table)))
        return target


def sensitivities(
    portfolio: Portfolio,
    market: Market,
    ranges: Sequence[Range] | None = None,
    *,
    n_paths: int | None = None,
    seed: int = 1,
    engine: str = "auto",
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Sensitivities:
    """Run each parameter at both ends of its range, all else as it is.

    Args:
        ranges: None: `JUDGEMENT`, as far as it fits the book. n_paths: a run; None: 20,000. The others: as in `stress`.

    Raises:
        InputRejected: a parameter is unknown, or its value breaks a rule; every problem is in the error.
        UsageError, EnvironmentProblem, Interrupted: as `simulate`.
    """
    fitting, left_out = _fitting(portfolio, market) if ranges is None else (tuple(ranges), [])
    if not fitting:
        raise UsageError("no range fits this book: name a parameter with its range")
    chosen = [item.at(getattr(item, end)) for item in fitting for end in _ENDS]
    n = DEFAULT_PATHS if n_paths is None else n_paths
    found = stress(
        portfolio, market, chosen, n_paths=n, seed=seed, engine=engine, workers=workers, progress=progress
    )  # fmt: skip
    return Sensitivities(found, fitting, _table(found, fitting), tuple(left_out))


def _fitting(portfolio: Portfolio, market: Market) -> tuple[tuple[Range, ...], list[tuple[str, str]]]:
    """The judgements that mean something in this book."""
    fitting: list[Range] = []
    left_out: list[tuple[str, str]] = []
    for item in JUDGEMENT:
        try:
            for end in _ENDS:
                stressed(portfolio, market, [item.at(getattr(item, end))])
        except InputRejected as refused:
            left_out.append((item.parameter, first_sentence(refused)))
        else:
            fitting.append(item)
    return tuple(fitting), left_out


def _table(found: Stress, ranges: Sequence[Range]) -> pd.DataFrame:
    import pandas as pd

    parts = []
    for item in ranges:
        for end in _ENDS:
            value = getattr(item, end)
            rows = found.table[found.table["scenario"] == item.at(value).name].drop(columns="scenario")
            first = {"parameter": item.parameter, "end": end, "setting": item.setting(value)}
            parts.append(pd.DataFrame([first] * len(rows), index=rows.index).join(rows))
    return pd.concat(parts, ignore_index=True)
