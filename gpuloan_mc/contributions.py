"""What the tail is made of: contributions to expected shortfall and to value at risk, from tail paths run again.

Nothing as large as paths × loans is held: tail paths are run a chunk at a time and only exact sums are kept. Contributions
are fractions of whole cents, and add up to the portfolio's own figure exactly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from . import risk
from .apportion import Items, items
from .engines.base import Events
from .errors import UsageError
from .path_columns import where
from .questions import Questions
from .reference.arithmetic import I64
from .totals import Totals, whole

if TYPE_CHECKING:
    import pandas as pd

CENTS = 100


@dataclass(frozen=True, slots=True)
class Tail:
    """Which paths make the figures at a level, and with what weight.

    The worst (1 - level)·n paths make the expected shortfall. Those above the value at risk q count in full; those that
    lose exactly q share what is left to fill the tail, equally: weight `tie_weight` each. The window of the value at risk
    holds every path whose loss lies in q's own distribution-free 95 % interval, each with weight 1.
    """

    level: Fraction
    n_paths: int
    value_at_risk: int  # q, cents
    beyond: I64  # paths that lose more
    tied: I64  # paths that lose q
    tie_weight: Fraction
    window: I64  # paths around q
    mass: Fraction  # (1 - level)·n

    @classmethod
    def of(cls, losses: I64, ordered: I64, level: float) -> Tail:
        """The tail of losses (n_paths,), cents, which `ordered` holds in rising order.

        Raises:
            UsageError: the level lies outside (0, 1).
        """
        exact = exact_level(level)
        n = len(losses)
        quantile = risk.value_at_risk(ordered, level)
        low, high = risk.value_at_risk_interval(ordered, level)
        low, high = ordered[0] if low is None else low, ordered[-1] if high is None else high
        beyond = where(losses, lambda x: x > quantile)
        tied = where(losses, lambda x: x == quantile)
        window = where(losses, lambda x: (x >= low) & (x <= high))
        mass = (1 - exact) * n
        weight = (mass - len(beyond)) / len(tied)
        return cls(exact, n, quantile, beyond, tied, weight, window, mass)

    @property
    def paths(self) -> int:
        """Paths that the shortfall averages, as `risk.tail_paths` counts them."""
        return math.ceil(self.mass)


@dataclass(frozen=True)
class Contributions:
    """Contributions at a level by items of a kind; `table` holds them as a frame.

    `shortfall` and `window_means` are exact, in cents: the first add up to the portfolio's expected shortfall, the second
    to the mean loss of the window around its value at risk.
    """

    by: str
    tail: Tail
    names: list[str]
    shortfall: list[Fraction]
    shortfall_se: list[float]  # cents
    window_means: list[Fraction]
    window_se: list[float]  # cents
    ead: list[Fraction] = field(repr=False)  # mean exposure at default in the tail, cents
    losses_beyond: list[int] = field(repr=False)  # Σ cents over the paths beyond the value at risk
    losses_tied: list[int] = field(repr=False)  # over the paths that lose it
    losses_window: list[int] = field(repr=False)  # over the window

    @property
    def expected_shortfall(self) -> Fraction:
        """The portfolio's, cents, exactly: the sum of the contributions."""
        return sum(self.shortfall, Fraction(0))

    @property
    def value_at_risk(self) -> list[Fraction]:
        """Contributions to the value at risk, cents: its amount in the proportions of the window's paths; exact sum."""
        total = sum(self.window_means, Fraction(0))
        return [m * self.tail.value_at_risk / total if total else Fraction(0) for m in self.window_means]

    @property
    def herfindahl(self) -> float:
        """Σ of squared shares in the expected shortfall: 1/n for n equal items, 1 for a single one; nan without loss."""
        total = self.expected_shortfall
        return float(sum((c / total) ** 2 for c in self.shortfall)) if total else math.nan

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row an item, the largest first (docs/schema.md, contributions.parquet)."""
        import pandas as pd

        total, var = self.expected_shortfall, self.value_at_risk
        scale = [float(v / m) if m else 0.0 for v, m in zip(var, self.window_means, strict=True)]
        frame = pd.DataFrame(
            {
                "level": float(self.tail.level),
                "by": self.by,
                "item": self.names,
                "expected_shortfall_usd": [float(c) / CENTS for c in self.shortfall],
                "expected_shortfall_se_usd": [e / CENTS for e in self.shortfall_se],
                "share": [float(c / total) if total else math.nan for c in self.shortfall],
                "value_at_risk_usd": [float(c) / CENTS for c in var],
                "value_at_risk_se_usd": [e * k / CENTS for e, k in zip(self.window_se, scale, strict=True)],
                "tail_ead_usd": [float(e) / CENTS for e in self.ead],
                "losses_beyond_cents": self.losses_beyond,
                "losses_tied_cents": self.losses_tied,
                "losses_window_cents": self.losses_window,
            }
        )
        order = np.lexsort((np.arange(len(frame)), -frame["expected_shortfall_usd"].to_numpy()))
        return frame.iloc[order].reset_index(drop=True)


def contributions(run: Questions, level: float, by: str) -> Contributions:
    """Contributions at a level by items of a kind.

    Raises:
        UsageError: no such level or kind.
    """
    return contributions_of(run, level, {by: items(run, by)})[0]


def contributions_of(run: Questions, level: float, kinds: Mapping[str, Items]) -> list[Contributions]:
    """Contributions at a level by the items of each kind, named; the tail's paths are run again once for all kinds.

    Expected shortfall (Tasche 2000): an item's mean loss over the tail, weighted as in `Tail`. Its standard error is that
    of the mean excess over what the item loses when the portfolio loses q, from the window, over 1 - level: the component
    of the estimator of Manistre and Hancock (2005). Like theirs it knows only the tail that was drawn.
    Value at risk: an item's mean over the window, scaled so that the items add up to q; its error is that of the mean.

    Raises:
        UsageError: no such level.
    """
    tail = Tail.of(run.losses, run.ordered, level)
    sums = _sums(run, tail, list(kinds.values()))
    return [_of_kind(tail, by, kind.names, found) for (by, kind), found in zip(kinds.items(), sums, strict=True)]


def _of_kind(tail: Tail, by: str, names: list[str], sums: dict[str, Totals]) -> Contributions:
    beyond, tied, window = (sums[name] for name in ("beyond", "tied", "window"))
    b, t, w = (whole(part.loss) for part in (beyond, tied, window))
    n_window = len(tail.window)
    means = [Fraction(x, n_window) for x in w]
    total = sum(means, Fraction(0))
    at_quantile = [m * tail.value_at_risk / total if total else Fraction(0) for m in means]
    ead = zip(whole(beyond.ead), whole(tied.ead), strict=True)
    return Contributions(
        by=by,
        tail=tail,
        names=names,
        shortfall=[(x + tail.tie_weight * y) / tail.mass for x, y in zip(b, t, strict=True)],
        shortfall_se=_shortfall_errors(tail, beyond, tied, at_quantile),
        window_means=means,
        window_se=[
            risk.Moments(n_window, x, s).standard_error for x, s in zip(w, whole(window.loss_squared), strict=True)
        ],
        ead=[(x + tail.tie_weight * y) / tail.mass for x, y in ead],
        losses_beyond=b,
        losses_tied=t,
        losses_window=w,
    )


def _shortfall_errors(tail: Tail, beyond: Totals, tied: Totals, at_quantile: list[Fraction]) -> list[float]:
    """Standard errors in cents; nan where a single path makes the tail."""
    n, weight = tail.n_paths, tail.tie_weight
    errors = []
    sums = (whole(x) for x in (beyond.loss, beyond.loss_squared, tied.loss, tied.loss_squared))
    for b, bb, t, tt, m in zip(*sums, at_quantile, strict=True):
        first = b - len(tail.beyond) * m + weight * (t - len(tail.tied) * m)
        second = bb - 2 * m * b + len(tail.beyond) * m**2 + weight**2 * (tt - 2 * m * t + len(tail.tied) * m**2)
        variance = (second - first**2 / n) / (n - 1) if n > 1 else Fraction(0)
        errors.append(math.sqrt(variance / n) / float(1 - tail.level) if tail.paths > 1 else math.nan)
    return errors


def _sums(run: Questions, tail: Tail, kinds: list[Items]) -> list[dict[str, Totals]]:
    """By kind, exact sums by item over the paths beyond q, at q, and in the window; paths that lose nothing add nothing."""
    parts = {"beyond": tail.beyond, "tied": tail.tied, "window": tail.window}
    found = [{name: Totals.zeros(len(kind.names)) for name in parts} for kind in kinds]
    again = np.unique(np.concatenate(list(parts.values())))
    for chunk, events in run.checked_events(again[run.losses[again] > 0]):
        members = {name: np.isin(chunk, paths) for name, paths in parts.items()}
        for kind, sums in zip(kinds, found, strict=True):
            rows = _by_item(kind, events)
            for name, member in members.items():
                of_part = member[rows[0]]
                sums[name] += Totals.of(len(kind.names), *(column[of_part] for column in rows[1:]))
    return found


def _by_item(kind: Items, events: Events) -> tuple[I64, I64, I64, I64, I64]:
    """(path, item, defaults, EAD, loss), one row a path and item that has a default."""
    path, item, ead, loss = kind.split(events)
    key, inverse = np.unique(path * len(kind.names) + item, return_inverse=True)
    sums = [np.zeros(len(key), dtype=np.int64) for _ in range(3)]
    for total, values in zip(sums, (np.ones_like(ead), ead, loss), strict=True):
        np.add.at(total, inverse.reshape(-1), values)
    return key // len(kind.names), key % len(kind.names), sums[0], sums[1], sums[2]


def exact_level(level: float) -> Fraction:
    """The level as the decimal that it prints as.

    Raises:
        UsageError: it lies outside (0, 1).
    """
    try:
        exact = Fraction(str(level))
    except (ValueError, ZeroDivisionError):
        exact = Fraction(0)
    if not 0 < exact < 1:
        raise UsageError(f"level is {level!s:.40}; it must lie between 0 and 1, such as 0.99")
    return exact
