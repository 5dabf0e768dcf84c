"""Two runs side by side: what differs in their inputs, and whether their figures differ beyond their errors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import __version__, risk
from .differences import mean_difference, shortfall_difference_se, value_at_risk_difference_se, value_at_risk_se
from .input_changes import FEW, KeyChange, TapeChange, market_changes, tape_changes
from .plan import CAUSES
from .reference.arithmetic import I64
from .risk import LEVELS, Moments
from .saved_run import SavedRun
from .schemas import SCHEMA_VERSION
from .text import printable, shortened, with_error

if TYPE_CHECKING:
    import pandas as pd

CENTS = 100.0
MILLION = 1e6
NOUNS = {
    "loans": ("loan", "loans"),
    "deployments": ("deployment", "deployments"),
    "obligors": ("obligor", "obligors"),
    "schedules": ("row of schedules", "rows of schedules"),
    "market": ("key", "keys"),
}
GROUPS = ("cause", "year")
LOAN_MONTHS_AGAIN = 200_000_000  # a second or two on two cores
LEAST_PATHS_AGAIN = 256  # of large books, whose spread few paths know

_COLUMNS = [
    "figure",
    "item",
    "value_a",
    "standard_error_a",
    "value_b",
    "standard_error_b",
    "difference",
    "difference_se",
]
_Row = tuple[str, str, float, float, float, float, float, float]


@dataclass(frozen=True)
class RunComparison:
    """What differs between two runs, a before b.

    paired: whether path n of both is the same future but for what was changed: seed, draws and number of paths agree.
    Errors of differences are then those of the difference by path; else each run has its own. Those by cause and year come
    from the first `paired_paths` paths, run again; 0: they are not paired.
    `figures` has a row a figure: figure, item (level, cause or year), value and standard_error of each, difference (b less
    a), difference_se, and beyond: whether the difference is more than 1.96 of its errors; missing where that is not known.
    """

    a: SavedRun
    b: SavedRun
    paired: bool
    paired_paths: int
    tapes: tuple[TapeChange, ...]
    market: tuple[KeyChange, ...]
    figures: pd.DataFrame = field(repr=False)

    @property
    def same_integers(self) -> bool:
        """Whether every path of both loses the same cents."""
        return self.a.digest == self.b.digest

    @property
    def facts(self) -> tuple[tuple[str, str, str], ...]:
        """What differs of how the runs were made: (what, of a, of b)."""
        one, other = _facts(self.a), _facts(self.b)
        return tuple((name, one[name], other[name]) for name in one if one[name] != other[name])

    def sentence(self) -> str:
        """The comparison in one sentence."""
        changes = self._changes()
        if self.same_integers:
            every = f"Same integers: {_every(self.a.n_paths)} the same cents"
            return f"{every}; {', '.join(changes)}." if changes else f"{every}, from the same inputs."
        row = self.figures.iloc[0]
        return f"{_moved(row['difference'], row['difference_se'], row['beyond'])}; {', '.join(changes) or _UNTOLD}."

    def _changes(self) -> list[str]:
        """The inputs' changes, and how the runs were made, in a few words each."""
        found = [words for change in self.tapes for words in _tape_words(change)]
        if self.market:
            found.append(f"market.toml: {_count(len(self.market), 'market')} changed")
        return found + [f"{name} {one} → {other}" for name, one, other in self.facts if name not in ("digest", "plan")]

    def to_json_dict(self) -> dict[str, Any]:
        """What `compare --json` prints (docs/schema.md)."""
        rows = self.figures.astype(object).where(self.figures.notna(), None).to_dict("records")
        return {
            "version": __version__,
            "schema_version": SCHEMA_VERSION,
            "sentence": self.sentence(),
            "same_integers": self.same_integers,
            "paired": self.paired,
            "paired_paths": self.paired_paths,
            "a": _run_dict(self.a),
            "b": _run_dict(self.b),
            "inputs": {change.tape: change.to_json_dict() for change in self.tapes},
            "market": [{"key": c.key, "old": _plain(c.old), "new": _plain(c.new)} for c in self.market],
            "figures": rows,
        }


_UNTOLD = "the inputs are the same, so one of the runs was made by another build of gpuloan_mc: run it again"


def compare(a: SavedRun | str | Path, b: SavedRun | str | Path) -> RunComparison:
    """What changed from run a to run b, each a run read back or its folder.

    Raises:
        UsageError: a folder is no run's, was not finished, comes from another version, or was changed or damaged.
    """
    one, other = (run if isinstance(run, SavedRun) else SavedRun.read(run) for run in (a, b))
    paired = one.seed == other.seed and one.n_paths == other.n_paths
    again = _paths_again(one, other) if paired and one.plan.digest != other.plan.digest else 0
    return RunComparison(
        a=one,
        b=other,
        paired=paired,
        paired_paths=again,
        tapes=tape_changes(one.portfolio, other.portfolio),
        market=market_changes(one.portfolio.market, other.portfolio.market),
        figures=_figures(one, other, paired, again),
    )


# figures --------------------------------------------------------------------------------------------------------------


def _figures(a: SavedRun, b: SavedRun, paired: bool, again: int) -> pd.DataFrame:
    import pandas as pd

    rows = [*_means(a, b, paired), *_tails(a, b, paired), *_by_group(a, b, again)]
    frame = pd.DataFrame(rows, columns=_COLUMNS)
    known = frame["difference_se"].notna() & frame["difference"].notna()
    frame["beyond"] = (frame["difference"].abs() > risk.standard_errors() * frame["difference_se"]).astype("boolean").where(known)
    return frame


def _row(figure: str, item: str, a: tuple[float, float], b: tuple[float, float], error: float | None) -> _Row:
    """A figure of both, each (value, standard error), and its difference; no paired error: the two are independent."""
    return figure, item, *a, *b, b[0] - a[0], math.hypot(a[1], b[1]) if error is None else error


def _means(a: SavedRun, b: SavedRun, paired: bool) -> Iterator[_Row]:
    """Expected loss and default rate."""
    losses, rates = None, None
    if paired:
        losses = mean_difference(b.losses, a.losses).standard_error / CENTS
        # shares of each book's own loans, over one denominator
        shares = mean_difference(b.defaults.astype(np.int64) * a.n_loans, a.defaults.astype(np.int64) * b.n_loans)
        rates = shares.standard_error / (a.n_loans * b.n_loans)
    loss_a, loss_b = ((r.figures.expected_loss / CENTS, r.figures.expected_loss_se / CENTS) for r in (a, b))
    yield _row("expected_loss", "", loss_a, loss_b, losses)
    rate_a, rate_b = (_default_rate(run) for run in (a, b))
    yield _row("default_rate", "", rate_a, rate_b, rates)


def _default_rate(run: SavedRun) -> tuple[float, float]:
    moments = Moments.of(run.defaults)
    return moments.mean / run.n_loans, moments.standard_error / run.n_loans


def _tails(a: SavedRun, b: SavedRun, paired: bool) -> Iterator[_Row]:
    """Value at risk and expected shortfall at every level."""
    for level in LEVELS:
        error = value_at_risk_difference_se(b, a, level) / CENTS if paired else None
        mine, other = (
            (run.figures.value_at_risk[level] / CENTS, value_at_risk_se(run, level) / CENTS) for run in (a, b)
        )
        yield _row("value_at_risk", f"{level:g}", mine, other, error)
    for level in LEVELS:
        error = shortfall_difference_se(b, a, level) / CENTS if paired else None
        mine, other = (
            (run.figures.expected_shortfall[level] / CENTS, run.figures.expected_shortfall_se[level] / CENTS)
            for run in (a, b)
        )
        yield _row("expected_shortfall", f"{level:g}", mine, other, error)


def _by_group(a: SavedRun, b: SavedRun, again: int) -> Iterator[_Row]:
    """Expected loss by cause and by year, as the runs gave it; a year that one does not reach is missing there."""
    paired = _group_errors(a, b, again) if again else {}
    same = a.digest == b.digest and a.plan.digest == b.plan.digest
    nothing = math.nan, math.nan
    for kind in GROUPS:
        figure = f"expected_loss_by_{kind}"
        mine, other = (_named(run, figure) for run in (a, b))
        names = list(mine if len(mine) >= len(other) else other)
        errors = paired.get(kind, [0.0 if same else None] * len(names))
        for name, error in zip(names, errors, strict=True):
            yield _row(figure, name, mine.get(name, nothing), other.get(name, nothing), error)


def _named(run: SavedRun, figure: str) -> dict[str, tuple[float, float]]:
    """(value, standard error) by cause or year, from the run's summary."""
    values, errors = run.summary[figure], run.summary[f"{figure}_se"]
    names = list(values) if isinstance(values, dict) else [str(year) for year in range(1, len(values) + 1)]
    pairs = ((values[n], errors[n]) for n in names) if isinstance(values, dict) else zip(values, errors, strict=True)
    return {n: (value, math.nan if error is None else error) for n, (value, error) in zip(names, pairs, strict=True)}


def _paths_again(a: SavedRun, b: SavedRun) -> int:
    """How many paths of both are run again to learn how losses by cause and year move together."""
    if {a.version, b.version} != {__version__}:
        return 0  # another version's paths may not come out again
    loan_months = max(run.n_loans * run.horizon_months for run in (a, b))
    return min(a.n_paths, max(LEAST_PATHS_AGAIN, LOAN_MONTHS_AGAIN // loan_months))


def _group_errors(a: SavedRun, b: SavedRun, again: int) -> dict[str, list[float]]:
    """Standard errors of the differences by cause and year over all paths, with the spread of the first `again`, dollars."""
    years = -(-max(a.horizon_months, b.horizon_months) // 12)
    one, other = (_losses_by_group(run, again, years) for run in (a, b))
    spreads = {kind: Moments.columns(other[kind] - one[kind]) for kind in GROUPS}
    return {
        kind: [m.standard_deviation / math.sqrt(a.n_paths) / CENTS for m in columns]
        for kind, columns in spreads.items()
    }


def _losses_by_group(run: SavedRun, n_paths: int, years: int) -> dict[str, I64]:
    """Losses of the first paths by cause (n_paths, causes) and year of default (n_paths, years), cents."""
    found = {"cause": np.zeros((n_paths, len(CAUSES)), np.int64), "year": np.zeros((n_paths, years), np.int64)}
    for chunk, events in run.checked_events(np.nonzero(run.losses[:n_paths])[0]):
        path = chunk[events.path]
        np.add.at(found["cause"], (path, events.cause), events.loss)
        np.add.at(found["year"], (path, (events.month - 1) // 12), events.loss)
    return found


# words ----------------------------------------------------------------------------------------------------------------


def _facts(run: SavedRun) -> dict[str, str]:
    """How a run was made, as text."""
    found = _run_dict(run)
    return {
        "seed": str(found["seed"]),
        "paths": f"{found['n_paths']:,}",
        "months": str(found["horizon_months"]),
        "scenarios": ", ".join(printable(shortened(name)) for name in found["scenarios"]) or "none",
        "version": printable(shortened(found["version"])),
        "draws": printable(shortened(found["rng_scheme"])),
        "engine": printable(shortened(found["engine"])),
        "digest": found["digest"][:16],
        "plan": found["plan_digest"][:16],
    }


def _run_dict(run: SavedRun) -> dict[str, Any]:
    return {
        "folder": str(run.folder),
        "version": run.version,
        "seed": run.seed,
        "rng_scheme": str(run.manifest["rng_scheme"]),
        "n_paths": run.n_paths,
        "horizon_months": run.horizon_months,
        "engine": run.engine,
        "scenarios": [f"{name} ({digest[:8]})" for name, digest in run.scenarios],
        "digest": run.digest,
        "plan_digest": run.plan.digest,
    }


def _every(n_paths: int) -> str:
    return "its one path loses" if n_paths == 1 else f"all {n_paths:,} paths lose"


def _moved(difference: float, error: float, beyond: Any) -> str:
    """EL rose by 1.23 ± 0.10 million dollars, beyond its error."""
    if difference == 0:
        return "EL is the same, though paths lose other cents"
    amount = with_error(abs(difference) / MILLION, error / MILLION)
    size = f"EL {'rose' if difference > 0 else 'fell'} by {amount} million dollars"
    if error != error:
        return f"{size}, which one path can't judge"
    return f"{size}, {'beyond' if beyond else 'within'} its error"


def _tape_words(change: TapeChange) -> Iterator[str]:
    counts = {"added": len(change.added), "removed": len(change.removed), "changed": change.n_changed}
    yield from (f"{_count(n, change.tape)} {what}" for what, n in counts.items() if n)
    for what, columns in (("added", change.columns_added), ("removed", change.columns_removed)):
        if columns:
            yield f"{change.tape}: column {', '.join(printable(shortened(c)) for c in columns[:FEW])} {what}"


def _count(n: int, of: str) -> str:
    """1 loan, 2 loans."""
    return f"{n:,} {NOUNS[of][n != 1]}"


def _plain(value: Any) -> Any:
    """The value as JSON has it."""
    return value if value is None or isinstance(value, (bool, int, float, str, list)) else str(value)
