"""Stresses: the base and scenarios of it on the same random numbers, and how far apart they are."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import __version__
from .answers import write_study
from .arguments import MAX_PATHS, MAX_SEED, whole_number
from .differences import (
    mean_difference,
    shortfall_difference_se,
    value_at_risk_difference_se,
    value_at_risk_se,
)
from .errors import InputRejected, Problem, UsageError
from .market import Market
from .portfolio import Portfolio
from .result import CENTS, Result
from .risk import LEVELS
from .scenario import Scenario, as_scenario, scenarios, stressed
from .schemas import SCHEMA_VERSION
from .simulation import simulate
from .text import printable, shown

if TYPE_CHECKING:
    import pandas as pd

Progress = Callable[[int, int], None]

BASE = "base"
MANIFEST = "stress.json"
TABLE = "stress.parquet"
DEFAULT_PATHS = 50_000
_COLUMNS = ["scenario", "figure", "level", "value", "standard_error", "difference", "difference_se"]


@dataclass(frozen=True)
class StressRun:
    """One run of a stress. Digests: of the scenario (empty: the base), of the losses and of the plan."""

    scenario: str
    scenario_digest: str
    digest: str
    plan_digest: str
    seconds: float


@dataclass(frozen=True)
class Stress:
    """Figures of the base and of each scenario, and their differences from the base (docs/schema.md, stress.parquet).

    `left_out` says of bundled scenarios that do not fit the book why.
    """

    seed: int
    n_paths: int
    engine: str
    commitment_usd: float
    table: pd.DataFrame = field(repr=False)
    runs: tuple[StressRun, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()

    @classmethod
    def read(cls, folder: str | Path) -> Stress:
        """The stress of a folder that `write` or `gpuloan-mc stress --out` filled, from its stress.json.

        Raises:
            UsageError: it is no stress's folder, comes from another version, or is damaged.
        """
        import pandas as pd

        found = _manifest(Path(folder))
        try:
            table = pd.DataFrame(found["figures"], columns=_COLUMNS)
            return cls(
                seed=int(found["seed"]),
                n_paths=int(found["n_paths"]),
                engine=str(found["engine"]),
                commitment_usd=float(found["commitment"]),
                table=table.astype({name: "float64" for name in _COLUMNS[2:]}),
                runs=tuple(_run_of(run) for run in found["runs"]),
                left_out=tuple((str(left["scenario"]), str(left["why"])) for left in found["left_out"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{folder}: {MANIFEST} is damaged. Run gpuloan-mc stress BOOK --out DIR again") from error

    def figure(self, figure: str, level: float | None = None) -> pd.DataFrame:
        """The rows of one figure, by scenario: value, standard_error, difference, difference_se.

        Raises:
            UsageError: there is no such figure or level.
        """
        rows = self.table[self.table["figure"] == figure]
        rows = rows[rows["level"].isna()] if level is None else rows[rows["level"] == level]
        if rows.empty:
            raise UsageError(f"no figure {figure!r} at level {level}; see the table's columns figure and level")
        return rows.set_index("scenario").drop(columns=["figure", "level"])

    def to_json_dict(self) -> dict[str, Any]:
        """What `stress --json` prints: dollars and shares, finite numbers or null."""
        return {
            "version": __version__,
            "schema_version": SCHEMA_VERSION,
            "seed": self.seed,
            "n_paths": self.n_paths,
            "engine": self.engine,
            "commitment": self.commitment_usd,
            "runs": [asdict(run) for run in self.runs],
            "left_out": [{"scenario": name, "why": why} for name, why in self.left_out],
            "figures": json_rows(self.table),
        }

    def write(self, folder: str | Path) -> Path:
        """Write stress.parquet and stress.json into a new, empty or earlier stress's folder.

        Raises:
            UsageError: it holds something else, or can't be written.
        """
        return write_study(folder, {TABLE: self.table}, MANIFEST, self.to_json_dict())


def _manifest(folder: Path) -> dict[str, Any]:
    """stress.json of a folder, of this version's kind and with at least the base's run."""
    try:
        found = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError) as error:
        kind = "is no folder" if not folder.is_dir() else f"has no readable {MANIFEST}"
        raise UsageError(f"{folder} {kind}; name a folder written by gpuloan-mc stress BOOK --out DIR") from error
    if not isinstance(found, dict) or not found.get("runs"):
        raise UsageError(f"{folder}: {MANIFEST} is damaged. Run gpuloan-mc stress BOOK --out DIR again")
    if found.get("schema_version") != SCHEMA_VERSION:
        raise UsageError(
            f"{folder} comes from gpuloan_mc {printable(str(found.get('version'))):.20}: its schema_version is "
            f"{shown(found.get('schema_version'))}, and this version reads {SCHEMA_VERSION}. Run the stress again with --out"
        )
    return found


def _run_of(run: dict[str, Any]) -> StressRun:
    return StressRun(
        scenario=str(run["scenario"]),
        scenario_digest=str(run["scenario_digest"]),
        digest=str(run["digest"]),
        plan_digest=str(run["plan_digest"]),
        seconds=float(run["seconds"]),
    )


def stress(
    portfolio: Portfolio,
    market: Market,
    chosen: Sequence[Scenario | str | Path] | None = None,
    *,
    n_paths: int | None = None,
    seed: int = 1,
    engine: str = "auto",
    workers: int | None = None,
    progress: Progress | None = None,
) -> Stress:
    """Run the base and each scenario on the same paths.

    Args:
        portfolio: the book.
        market: its market.
        chosen: scenarios, each applied to the base on its own; None: every bundled one that fits the book.
        n_paths: futures a scenario, 1 … 2^40; None: 50,000.
        seed: of all of them.
        engine: as in `simulate`; workers: likewise.
        progress: called with (paths done, paths in all), all scenarios counted.

    Raises:
        InputRejected: a scenario is unknown, or makes the book invalid; the problems of all of them are in the error.
        UsageError, EnvironmentProblem, Interrupted: as `simulate`.
    """
    n_paths = whole_number("n_paths", DEFAULT_PATHS if n_paths is None else n_paths, 1, MAX_PATHS)
    seed = whole_number("seed", seed, 0, MAX_SEED)
    if market != portfolio.market:
        portfolio = portfolio.replace(market=market)
    worlds, left_out = _worlds(portfolio, market, chosen)
    total = n_paths * (1 + len(worlds))

    def run(i: int, book: Portfolio, world: Market) -> Result:
        told = None if progress is None else after(progress, i * n_paths, total)
        return simulate(book, world, n_paths=n_paths, seed=seed, engine=engine, workers=workers, progress=told)

    base = run(0, portfolio, market)
    rows, runs = compared(BASE, base, base), [_run(BASE, "", base)]
    for i, (scenario, book, world) in enumerate(worlds, start=1):
        result = run(i, book, world)
        rows += compared(scenario.name, result, base)
        runs.append(_run(scenario.name, scenario.digest, result))
    return Stress(seed, n_paths, base.engine, base.commitment_usd, _frame(rows), tuple(runs), tuple(left_out))


def after(progress: Progress, before: int, total: int) -> Progress:
    """Progress of one run among all of them."""
    return lambda done, _: progress(before + done, total)


def _worlds(
    portfolio: Portfolio, market: Market, chosen: Sequence[Scenario | str | Path] | None
) -> tuple[list[tuple[Scenario, Portfolio, Market]], list[tuple[str, str]]]:
    """Each scenario's book and market; bundled ones that were not asked for are left out where they do not fit."""
    names = [name for name in scenarios() if name != BASE] if chosen is None else list(chosen)
    worlds: list[tuple[Scenario, Portfolio, Market]] = []
    problems: list[Problem] = []
    left_out: list[tuple[str, str]] = []
    for name in names:
        try:
            scenario = as_scenario(name)
            book, world = stressed(portfolio, market, [scenario])
            worlds.append((scenario, book, world))
        except InputRejected as refused:
            if chosen is None:
                left_out.append((str(name), first_sentence(refused)))
            else:
                problems += refused.problems
    problems += _doubled([scenario for scenario, _, _ in worlds])
    if problems:
        raise InputRejected(problems)
    return worlds, left_out


def _doubled(chosen: list[Scenario]) -> list[Problem]:
    """Names that stand for two scenarios, or for the base."""
    names = [BASE, *(s.name for s in chosen if s.content.model_fields_set - {"about", "source"} or s.name != BASE)]
    twice = sorted({name for name in names if names.count(name) > 1})
    message = "two scenarios have this name. Rename one, or ask for it once."
    return [Problem(name, message, "doubled-name") for name in twice]


def _run(name: str, scenario_digest: str, result: Result) -> StressRun:
    return StressRun(name, scenario_digest, result.digest, result.plan_digest, result.seconds)


def compared(name: str, result: Result, base: Result) -> list[tuple[str, str, float, float, float, float, float]]:
    """Rows of a run beside a base on the same paths: scenario, figure, level, value, standard_error, difference, difference_se.

    Expected loss, default rate, then value at risk and expected shortfall by level; dollars, and shares of the base's loans.
    """
    paired = mean_difference(result.losses, base.losses)
    defaults = mean_difference(result.defaults.astype(np.int64), base.defaults.astype(np.int64))
    n, nan = base.n_loans, math.nan
    rows = [
        (name, "expected_loss", nan, result.expected_loss, result.expected_loss_se,
         paired.mean / CENTS, paired.standard_error / CENTS),
        (name, "default_rate", nan, result.default_rate, result.default_rate_se,
         defaults.mean / n, defaults.standard_error / n),
    ]  # fmt: skip
    for level in LEVELS:
        value = result.value_at_risk[level]
        error = value_at_risk_difference_se(result, base, level) / CENTS
        mine = value_at_risk_se(result, level) / CENTS
        rows.append((name, "value_at_risk", level, value, mine, value - base.value_at_risk[level], error))
    for level in LEVELS:
        value, own = result.expected_shortfall[level], result.expected_shortfall_se[level]
        error = shortfall_difference_se(result, base, level) / CENTS
        mine = nan if own is None else own
        rows.append((name, "expected_shortfall", level, value, mine, value - base.expected_shortfall[level], error))
    return rows


def _frame(rows: list[Any]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(rows, columns=_COLUMNS)


def json_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as JSON can hold them: what is missing is null."""
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return [{str(key): value for key, value in row.items()} for row in rows]


def first_sentence(refused: InputRejected) -> str:
    """What the first problem found, without its way out."""
    return refused.problems[0].message.partition(". ")[0].removesuffix(".")
