"""Layers of the book's loss: what each loses, how likely, when, and where protection must begin.

Losses are laid to layers from the bottom up. A layer from A to D loses min(loss, D) - min(loss, A) on each path, whole cents:
layers that cover everything lose together what the book loses, on every path. Pro-rata, each bears its share of every loss.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from . import risk
from .contributions import Tail, exact_level
from .errors import UsageError
from .questions import Questions
from .reference.arithmetic import I64
from .risk import Moments
from .totals import Totals, as_float

if TYPE_CHECKING:
    import pandas as pd

CENTS = 100
Allocation = Literal["sequential", "pro-rata"]
ALLOCATIONS = ("sequential", "pro-rata")
MAX_CENTS = 2**62
_WAY_OUT = "write a tranche as attachment:detachment, such as 0.1:0.3 (shares) or 5000000:20000000 (dollars)"


@dataclass(frozen=True, slots=True)
class Layer:
    """From `attachment` to `detachment`, cents; no detachment: everything above."""

    attachment: int
    detachment: int | None

    @property
    def thickness(self) -> int | None:
        """What it can lose, cents; None: without a bound."""
        return None if self.detachment is None else self.detachment - self.attachment

    def losses(self, losses: I64) -> I64:
        """What it loses on each path, cents."""
        top = MAX_CENTS if self.detachment is None else self.detachment
        found: I64 = np.minimum(losses, top) - np.minimum(losses, self.attachment)
        return found

    def share_of(self, losses: I64, commitment: int) -> I64:
        """What it loses where every layer bears its share of the commitment in each loss, cents.

        Bounds are rounded, not layers: layers that cover the commitment lose together what the book loses.
        """
        top = commitment if self.detachment is None else min(self.detachment, commitment)
        lost = np.minimum(losses, commitment).astype(np.float64)
        low, high = (np.rint(lost * (min(x, commitment) / commitment)) for x in (self.attachment, top))
        found: I64 = (high - low).astype(np.int64)
        return found


@dataclass(frozen=True)
class Tranches:
    """Layers of a run's loss, from the bottom up; `table` holds their figures."""

    run: Questions = field(repr=False)
    layers: tuple[Layer, ...]
    level: float
    allocation: Allocation = "sequential"

    @classmethod
    def of(
        cls, run: Questions, tranches: Sequence[Any], *, level: float = 0.99, allocation: Allocation = "sequential"
    ) -> Tranches:
        """Layers from pairs or texts, in any order; allocation: losses from the bottom up, or pro-rata.

        Raises:
            UsageError: a layer is inverted or overlaps another, or is no layer; or the level lies outside (0, 1).
        """
        exact_level(level)
        if allocation not in ALLOCATIONS:
            raise UsageError(f"allocation is {allocation!s:.40}; it must be {' or '.join(ALLOCATIONS)}")
        if not len(tranches):
            raise UsageError(f"no tranche is named; {_WAY_OUT}")
        layers = sorted((layer(t, run.commitment_usd) for t in tranches), key=lambda x: x.attachment)
        for below, above in pairwise(layers):
            if below.detachment is None or below.detachment > above.attachment:
                top = "the top" if below.detachment is None else f"{below.detachment / CENTS:,.0f}"
                raise UsageError(
                    f"a tranche from {below.attachment / CENTS:,.0f} to {top} dollars overlaps one from "
                    f"{above.attachment / CENTS:,.0f}; let one end where the other begins"
                )
        return cls(run, tuple(layers), level, allocation)

    def _losses(self, layer: Layer, losses: I64) -> I64:
        if self.allocation == "pro-rata":
            return layer.share_of(losses, round(self.run.commitment_usd * CENTS))
        return layer.losses(losses)

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row a layer (docs/schema.md, tranches.parquet)."""
        import pandas as pd

        return pd.DataFrame([self._row(x) for x in self.layers])

    def _row(self, layer: Layer) -> dict[str, Any]:
        losses, n = self._losses(layer, self.run.losses), self.run.n_paths
        moments, ordered = Moments.of(losses), np.sort(losses)
        tail = risk.tails(ordered, [self.level])[0]
        hit = int(np.count_nonzero(losses))
        gone = 0 if layer.thickness is None else int(np.count_nonzero(losses == layer.thickness))
        lent, width = self.run.commitment_usd, layer.thickness
        low, high = risk.wilson_interval(hit, n)
        gone_low, gone_high = risk.wilson_interval(gone, n)
        return {
            "attachment_usd": layer.attachment / CENTS,
            "detachment_usd": math.nan if layer.detachment is None else layer.detachment / CENTS,
            "attachment_share": layer.attachment / CENTS / lent,
            "detachment_share": math.nan if layer.detachment is None else layer.detachment / CENTS / lent,
            "loss_cents": moments.total,
            "expected_loss_usd": moments.mean / CENTS,
            "expected_loss_se_usd": moments.standard_error / CENTS,
            "expected_loss_share": math.nan if width is None else moments.mean / width,
            "expected_loss_share_se": math.nan if width is None else moments.standard_error / width,
            "probability_of_loss": hit / n,
            "probability_of_loss_low": low,
            "probability_of_loss_high": high,
            "probability_of_wipe_out": math.nan if width is None else gone / n,
            "probability_of_wipe_out_low": math.nan if width is None else gone_low,
            "probability_of_wipe_out_high": math.nan if width is None else gone_high,
            "level": self.level,
            "expected_shortfall_usd": tail.shortfall / CENTS,
            "expected_shortfall_se_usd": tail.shortfall_se / CENTS,
            "tail_paths": tail.paths,
            "paths_with_loss": hit,
        }

    @cached_property
    def by_year(self) -> pd.DataFrame:
        """A row a layer and year of default: the years add up to the layer's loss (tranche_years.parquet).

        Paths that reach the lowest layer are run again: the loss of each by the end of each year decides what a layer has
        lost by then.
        """
        import pandas as pd

        n_years = -(-self.run.horizon_months // 12)
        zero = Moments(0, 0, 0)
        found = [[zero] * n_years for _ in self.layers]
        reached = 0 if self.allocation == "pro-rata" else min(x.attachment for x in self.layers)
        again = np.nonzero(self.run.losses > reached)[0]
        for chunk, events in self.run.checked_events(again):
            by_end = np.zeros((len(chunk), n_years), dtype=np.int64)
            np.add.at(by_end, (events.path, (events.month - 1) // 12), events.loss)
            by_end = by_end.cumsum(axis=1)
            for layer, moments in zip(self.layers, found, strict=True):
                in_year = np.diff(self._losses(layer, by_end), axis=1, prepend=0)
                moments[:] = [a + b for a, b in zip(moments, Moments.columns(in_year), strict=True)]
        rows = []
        for layer, moments in zip(self.layers, found, strict=True):
            for year, m in enumerate(moments, start=1):
                all_paths = Moments(self.run.n_paths, m.total, m.total_of_squares)  # the other paths add nothing
                rows.append(
                    {
                        "attachment_usd": layer.attachment / CENTS,
                        "detachment_usd": math.nan if layer.detachment is None else layer.detachment / CENTS,
                        "year": year,
                        "loss_cents": m.total,
                        "expected_loss_usd": all_paths.mean / CENTS,
                        "expected_loss_se_usd": all_paths.standard_error / CENTS,
                    }
                )
        return pd.DataFrame(rows)


def layer(tranche: Any, commitment_usd: float) -> Layer:
    """A layer from a pair of numbers or a text "0.1:0.3"; "0.3:" goes to the top.

    A tranche whose detachment is at most 1 is in shares of the book's commitment, any other in dollars; so is one without
    a detachment by its attachment.

    Raises:
        UsageError: it is none.
    """
    shown = f"tranche {tranche!s:.40}"
    low, high = _bounds(tranche, shown)
    if not low >= 0 or not (high is None or math.isfinite(high)) or not math.isfinite(low):
        raise UsageError(f"{shown}: a tranche begins at 0 or above and ends at a finite number; {_WAY_OUT}")
    if high is not None and high <= low:
        raise UsageError(f"{shown} is inverted: it ends at or below its attachment; {_WAY_OUT}")
    is_share = (low if high is None else high) <= 1
    if not is_share and 0 < low < 1:
        raise UsageError(f"{shown} mixes a share with dollars; {_WAY_OUT}")
    unit = commitment_usd * CENTS if is_share else CENTS
    if max(low, high or 0) * unit > MAX_CENTS:
        raise UsageError(f"{shown} is beyond any book; {_WAY_OUT}")
    attachment = round(low * unit)
    detachment = None if high is None else round(high * unit)
    if detachment == attachment:
        raise UsageError(f"{shown} is thinner than a cent; {_WAY_OUT}")
    return Layer(attachment, detachment)


def _bounds(tranche: Any, shown: str) -> tuple[float, float | None]:
    parts = tranche.split(":") if isinstance(tranche, str) else tranche
    try:
        low, high = parts
        return float(low), None if high is None or high == "" else float(high)
    except (TypeError, ValueError, OverflowError):
        raise UsageError(f"{shown} is no tranche; {_WAY_OUT}") from None


def thickness_sweep(
    run: Questions, attachment: float, thicknesses: Sequence[float], *, level: float = 0.99
) -> pd.DataFrame:
    """Layers from one attachment that differ in thickness: the columns of `Tranches.table`, a row a thickness.

    Raises:
        UsageError: as for tranches.
    """
    import pandas as pd

    rows = [Tranches.of(run, [(attachment, attachment + t)], level=level).table for t in thicknesses]
    if not rows:
        raise UsageError("no thickness is named; name at least one, such as 0.05")
    return pd.concat(rows, ignore_index=True)


@dataclass(frozen=True, slots=True)
class Attachment:
    """Where protection must begin, dollars, with a 95 % interval; None: the paths are too few for a bound.

    paths_beyond: paths that lose more than that; below 50, distrust it.
    """

    target: float
    attachment_usd: float
    low_usd: float | None
    high_usd: float | None
    paths_beyond: int


def attachment_for_probability(run: Questions, probability: float) -> Attachment:
    """The lowest attachment that the loss exceeds with at most this probability: a quantile and its interval.

    Raises:
        UsageError: the probability lies outside (0, 1).
    """
    level = float(1 - _target(probability))
    low, high = risk.value_at_risk_interval(run.ordered, level)
    return _attachment(run, probability, risk.value_at_risk(run.ordered, level), low, high)


def attachment_for_expected_loss(run: Questions, share: float, detachment: float = 1.0) -> Attachment:
    """The lowest attachment for which the layer up to `detachment` loses at most this share of its thickness on average.

    The bounds are the attachments at which the expected loss less, or plus, 1.96 of its standard errors meets the target.
    Found by bisection, to the cent: the share is the mean probability over the layer that losses pass a point, so it falls
    as the attachment rises.

    Raises:
        UsageError: the share lies outside (0, 1), the detachment is no bound, or no layer below it is good enough.
    """
    target = float(_target(share))
    top = layer((0, detachment), run.commitment_usd).detachment
    assert top is not None
    z = risk.standard_errors()

    def lowest(errors: float) -> int | None:
        """The lowest attachment with expected loss + errors standard errors within the target."""

        def good(attachment: int) -> bool:
            width = top - attachment
            moments = Moments.of(Layer(attachment, top).losses(run.losses))
            error = 0.0 if moments.n < 2 else moments.standard_error
            return moments.mean + errors * error <= target * width

        if not good(top - 1):
            return None
        bad, fine = -1, top - 1
        while fine - bad > 1:
            middle = (bad + fine) // 2
            bad, fine = (bad, middle) if good(middle) else (middle, fine)
        return fine

    found, low, high = lowest(0), lowest(-z), lowest(z)
    if found is None:
        raise UsageError(
            f"no tranche up to {top / CENTS:,.0f} dollars has an expected loss of at most {share:g} of its thickness: losses "
            "go beyond it too often. Name a higher detachment or a higher target"
        )
    return _attachment(run, share, found, low, high)


def _attachment(run: Questions, target: float, found: int, low: int | None, high: int | None) -> Attachment:
    low_usd, high_usd = (None if x is None else x / CENTS for x in (low, high))
    return Attachment(target, found / CENTS, low_usd, high_usd, int(np.count_nonzero(run.losses > found)))


def _target(probability: float) -> Fraction:
    try:
        exact = Fraction(str(probability))
    except (ValueError, ZeroDivisionError):
        exact = Fraction(0)
    if not 0 < exact < 1:
        raise UsageError(f"target is {probability!s:.40}; it must lie between 0 and 1, such as 0.001")
    return exact


def rating_stress(run: Questions, levels: Sequence[float]) -> pd.DataFrame:
    """Default rate, recovery rate and loss rate by confidence level (rating_stress.parquet).

    The loss rate is the value at risk over the commitment. Defaults and recoveries are those of the paths in its 95 %
    interval: exposure at default over the commitment, and 1 - loss over exposure; their errors are those of the means of
    these paths, and know nothing of the interval's own width.

    Raises:
        UsageError: a level lies outside (0, 1).
    """
    import pandas as pd

    lent = run.commitment_usd * CENTS
    rows = []
    for level in sorted(levels):
        tail = Tail.of(run.losses, run.ordered, level)
        low, high = risk.value_at_risk_interval(run.ordered, level)
        total, n = _window_totals(run, tail.window), len(tail.window)
        (ead,), (loss,) = as_float(total.ead), as_float(total.loss)
        (ead2,), (cross,), (loss2,) = (as_float(x) for x in (total.ead_squared, total.ead_loss, total.loss_squared))
        severity = loss / ead if ead else math.nan
        residual = max(loss2 - 2 * severity * cross + severity**2 * ead2, 0.0) if ead else math.nan
        spread = max(ead2 - ead * ead / n, 0.0) / (n - 1) / n if n > 1 else math.nan
        rows.append(
            {
                "level": level,
                "loss_rate": tail.value_at_risk / lent,
                "loss_rate_low": math.nan if low is None else low / lent,
                "loss_rate_high": math.nan if high is None else high / lent,
                "default_rate": ead / n / lent,
                "default_rate_se": math.sqrt(spread) / lent,
                "recovery_rate": 1 - severity,
                "recovery_rate_se": math.sqrt(residual * n / (n - 1)) / ead if ead and n > 1 else math.nan,
                "window_paths": n,
                "tail_paths": tail.paths,
            }
        )
    return pd.DataFrame(rows)


def _window_totals(run: Questions, paths: I64) -> Totals:
    """Sums over the paths of a path's EAD and loss."""
    total = Totals.zeros(1)
    for chunk, events in run.checked_events(paths):
        sums = [np.zeros(len(chunk), dtype=np.int64) for _ in range(3)]
        for column, values in zip(sums, (np.ones_like(events.ead), events.ead, events.loss), strict=True):
            np.add.at(column, events.path, values)
        total += Totals.of(1, np.zeros(len(chunk), dtype=np.int64), *sums)
    return total
