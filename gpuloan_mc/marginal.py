"""What loans add to a book: it is run with and without them on the same random numbers.

A loan's contribution is its own share of the book's figure; its marginal effect is what the figure does when it goes. The
two differ: a loan diversifies, shares tenants, and its chips press on the prices that the other loans recover.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import __version__, risk
from .answers import write_study
from .apportion import Items
from .comparison import compared, json_rows
from .contributions import contributions_of
from .errors import UsageError
from .inputs.books import suggest
from .inputs.columns import TAPES
from .portfolio import Portfolio
from .questions import Questions
from .reference.arithmetic import I64
from .result import CENTS, Result
from .risk import Moments
from .schemas import SCHEMA_VERSION
from .simulation import simulate
from .text import shown

if TYPE_CHECKING:
    import pandas as pd

MANIFEST = "marginal.json"
TABLE = "marginal.parquet"


@dataclass(frozen=True)
class Marginal:
    """A book before and after loans are removed and added, and what those loans lose themselves.

    `own_before` and `own_after`: (n_paths,) cents that the removed loans lose in the book before, the added ones in the book
    after. Where no loan presses on another, the book's loss moves by them and no more, on every path.
    """

    removed: tuple[str, ...]
    added: tuple[str, ...]
    before: Result = field(repr=False)
    after: Result = field(repr=False)
    own_before: I64 = field(repr=False)
    own_after: I64 = field(repr=False)

    @property
    def others(self) -> Moments:
        """What the other loans lose after less before, by path, cents: the effect that passes through prices and parties."""
        return Moments.of((self.after.losses - self.own_after) - (self.before.losses - self.own_before))

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row a figure and level (docs/schema.md, marginal.parquet)."""
        import pandas as pd

        names = ["figure", "level", "after", "after_se", "difference", "difference_se"]
        frame = pd.DataFrame([row[1:] for row in compared("after", self.after, self.before)], columns=names)
        frame = frame[frame["figure"] != "default_rate"].reset_index(drop=True)
        base = [row[3:5] for row in compared("before", self.before, self.before) if row[1] != "default_rate"]
        frame.insert(2, "before", [value for value, _ in base])
        frame.insert(3, "before_se", [error for _, error in base])
        for name, run, ids, own in (
            ("removed", self.before, self.removed, self.own_before),
            ("added", self.after, self.added, self.own_after),
        ):
            pairs = list(_contributions(run, ids, own)) if ids else [(math.nan, math.nan)] * len(frame)
            frame[f"{name}_contribution"] = [value for value, _ in pairs]
            frame[f"{name}_contribution_se"] = [error for _, error in pairs]
        return frame

    def to_json_dict(self) -> dict[str, Any]:
        """What `marginal --json` prints: dollars, finite numbers or null (docs/schema.md)."""
        others = self.others
        return {
            "version": __version__,
            "schema_version": SCHEMA_VERSION,
            "seed": self.before.seed,
            "n_paths": self.before.n_paths,
            "engine": self.before.engine,
            "removed": list(self.removed),
            "added": list(self.added),
            "digests": [self.before.digest, self.after.digest],
            "commitments": [self.before.commitment_usd, self.after.commitment_usd],
            "others_expected_loss_difference": others.mean / CENTS,
            "others_expected_loss_difference_se": others.standard_error / CENTS if others.n > 1 else None,
            "figures": json_rows(self.table),
        }

    def write(self, folder: str | Path) -> Path:
        """Write marginal.parquet and marginal.json into a new, empty or earlier such folder.

        Raises:
            UsageError: it holds something else, or can't be written.
        """
        return write_study(folder, {TABLE: self.table}, MANIFEST, self.to_json_dict())


def marginal(
    run: Questions,
    remove: Sequence[str] = (),
    add: Portfolio | str | Path | None = None,
    *,
    workers: int | None = None,
) -> Marginal:
    """The book of a run without some loans, with others, or both, on the run's own paths.

    Draws are keyed by ids, so every party, price and loan that stays draws what it drew before.

    Args:
        remove, add: as in `changed_book`. workers: as in `simulate`.

    Raises:
        UsageError, InputRejected: as `changed_book`; UsageError: the run is not what its book gives again.
    """
    book, removed, added = changed_book(run.portfolio, remove, add)
    before = run if isinstance(run, Result) else _again(run, workers)
    after = simulate(book, book.market, n_paths=before.n_paths, seed=before.seed, engine=before.engine, workers=workers)
    return Marginal(removed, added, before, after, _own_losses(before, removed), _own_losses(after, added))


def changed_book(
    portfolio: Portfolio, remove: Sequence[str] = (), add: Portfolio | str | Path | None = None
) -> tuple[Portfolio, tuple[str, ...], tuple[str, ...]]:
    """A book without some loans and with others; the ids of those that went and of those that joined.

    Args:
        remove: ids of loans; their deployments and schedules go with them, their parties stay.
        add: a book whose loans join, as a portfolio, a folder or a bundled book's name. Its market is not read. A party
            that both books have must be the same in both.

    Raises:
        UsageError: nothing is asked for, no such loan, none is left, or an id is in both books.
        InputRejected: the added book breaks a rule, or the two together do.
    """
    if isinstance(remove, str):
        remove = [remove]
    if not len(remove) and add is None:
        raise UsageError("name loans to remove, or a book to add")
    removed = _known([str(i) for i in portfolio.loans["loan_id"]], remove)
    tapes = _without(portfolio, removed)
    added: tuple[str, ...] = ()
    if add is not None:
        other = add if isinstance(add, Portfolio) else Portfolio.read(add, portfolio.market)
        added = tuple(str(i) for i in other.loans["loan_id"])
        tapes = _joined(tapes, other)
    if not len(tapes["loans"]):
        raise UsageError("no loan is left in the book; remove fewer")
    return portfolio.replace(**tapes), removed, added


def _known(loans: list[str], ids: Sequence[str]) -> tuple[str, ...]:
    """The ids, each once."""
    found = tuple(dict.fromkeys(str(i) for i in ids))
    for name in found:
        if name not in loans:
            raise UsageError(f"no loan {shown(name)} in this book.{suggest(name, loans)}")
    return found


def _without(portfolio: Portfolio, ids: tuple[str, ...]) -> dict[str, Any]:
    """The tapes without some loans."""
    tapes = {name: getattr(portfolio, name) for name in TAPES}
    of_loans = {name: frame for name, frame in tapes.items() if "loan_id" in frame.columns}
    return tapes | {name: frame[~frame["loan_id"].isin(ids)] for name, frame in of_loans.items()}


_ID = {"loans": "loan_id", "deployments": "deployment_id", "obligors": "obligor_id"}


def _joined(mine: dict[str, Any], other: Portfolio) -> dict[str, Any]:
    """The tapes of both books; a party of both stands once."""
    import pandas as pd

    found = {}
    for name, frame in mine.items():
        theirs = getattr(other, name)
        if name in _ID:
            both = sorted(set(frame[_ID[name]]) & set(theirs[_ID[name]]))
            if both and name == "obligors":
                _check_same(frame, theirs, both)
                theirs = theirs[~theirs["obligor_id"].isin(both)]
            elif both:
                raise UsageError(
                    f"{name}: both books have {shown(both[0])}; rename it in one of them, or remove the loan"
                )
        parts = [part for part in (frame, theirs) if len(part)]
        found[name] = pd.concat(parts, ignore_index=True) if parts else frame
    return found


def _check_same(mine: pd.DataFrame, theirs: pd.DataFrame, ids: list[str]) -> None:
    columns = [c for c in mine.columns if c in theirs.columns]
    pair = [frame.set_index("obligor_id", drop=False).loc[ids, columns] for frame in (mine, theirs)]
    same = (pair[0] == pair[1]) | (pair[0].isna() & pair[1].isna())
    if not same.to_numpy().all():
        row, column = np.argwhere(~same.to_numpy())[0]
        values = " and ".join(shown(str(frame.iloc[row, column])) for frame in pair)
        raise UsageError(
            f"obligor {shown(ids[row])}: {columns[column]} is {values} in the two books; give the added book the same party, "
            "or another id"
        )


def _again(run: Questions, workers: int | None) -> Result:
    """A saved run as a result."""
    found = simulate(run.portfolio, run.portfolio.market, n_paths=run.n_paths, seed=run.seed, workers=workers)
    if not np.array_equal(found.losses, run.losses):
        raise UsageError(
            "the run's book gives other losses when it is run again. Run the book again with --out, then ask again"
        )
    return found


def _own_losses(run: Result, ids: tuple[str, ...]) -> I64:
    """What some loans lose on each path, cents."""
    own = np.zeros(run.n_paths, dtype=np.int64)
    if not ids:
        return own
    mine = np.isin(run.names.loans, ids)
    for chunk, events in run.checked_events(np.nonzero(run.losses > 0)[0]):
        of_mine = mine[events.loan]
        np.add.at(own, chunk[events.path[of_mine]], events.loss[of_mine])
    return own


def _contributions(run: Result, ids: tuple[str, ...], own: I64) -> Iterator[tuple[float, float]]:
    """The loans' contributions and their errors, dollars: to the mean, then to VaR and to ES by level."""
    mean = Moments.of(own)
    yield mean.mean / CENTS, mean.standard_error / CENTS
    n = run.n_loans
    kind = Items(
        ["these", "others"], np.arange(n + 1), (~np.isin(run.names.loans, ids)).astype(np.int64), np.ones(n, np.int64)
    )
    tails = [contributions_of(run, level, {"loan": kind})[0].table for level in risk.LEVELS]
    for figure in ("value_at_risk", "expected_shortfall"):
        for table in tails:
            these = table[table["item"] == "these"]
            yield these[f"{figure}_usd"].item(), these[f"{figure}_se_usd"].item()
