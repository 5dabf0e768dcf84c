"""A replayed path told in a dozen lines: the events that matter most, in the order of months."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .plan import CAUSES
from .reference.arithmetic import F32, I32
from .reference.obligors import NEVER
from .text import printable, shortened

if TYPE_CHECKING:
    from .replay import Replay

MAX_EVENTS = 10  # between the headline and the last line
MAX_NAME = 32

_WHY = {
    "parent": "its borrower falls",
    "maturity": "it can't repay at maturity",
    "tenant": "a tenant's default took its rent",
    "payment": "earnings, reserve and support don't cover what is due",
    "covenant": "earnings stay below the covenant",
}


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened; the weightiest are told."""

    month: int
    weight: float  # dollars, or what stands for them
    text: str


def story(replay: Replay, place: int) -> list[str]:
    """The path at a place of the replay, a line an event. Names are shortened and harmless.

    Loans weigh their loss, parties what their loans lose and what their chips are worth, turns of the market a share of
    the path's loss by how long they last; the price's low and the peak of returned chips are told where there are chips.
    """
    path = _Path(replay, place)
    events = sorted(path.events(), key=lambda e: (-e.weight, e.month, e.text))[:MAX_EVENTS]
    told = sorted(events, key=lambda e: (e.month, -e.weight, e.text))
    return [path.headline(), *(f"month {e.month}: {e.text}{path.price_at(e.month)}" for e in told), path.ending()]


class _Path:
    """One path of a replay."""

    def __init__(self, replay: Replay, place: int) -> None:
        self.replay, self.place, self.names = replay, place, replay.names
        self.plan, self.history = replay.names.plan, replay.history
        rows = replay.defaults
        self.rows = np.nonzero(rows.path == place)[0]
        self.months, self.losses = rows.month[self.rows], rows.loss[self.rows]
        self.total = int(self.losses.sum())
        self.scale = max(self.total, 1) / 1e4  # one per cent of the loss, dollars
        units = np.bincount(
            self.plan.deployments.generation, self.plan.deployments.units, len(self.plan.market.demand_beta)
        )
        self.main = int(units.argmax()) if units.any() else None  # the generation with most of the book's chips
        self.default_months: I32 = self.history.default_months[place]

    def headline(self) -> str:
        """What the path costs."""
        lent = self.names.portfolio.commitment_usd
        number, n_loans = int(self.replay.paths[self.place]), self.plan.n_loans
        return (
            f"path {number} loses {_dollars(self.total / 100)}, {self.total / 100 / lent:.1%} of what is lent or committed; "
            f"{len(self.rows)} of {n_loans} loans default"
        )

    def ending(self) -> str:
        """Why and when, in all."""
        if not len(self.rows):
            return "no loan defaults"
        rows = self.replay.defaults
        causes = np.bincount(rows.cause[self.rows], self.losses, len(CAUSES))
        years = np.bincount((self.months - 1) // 12, self.losses)
        if not self.total:
            return "every default is made whole"
        cause, year = CAUSES[int(causes.argmax())], int(years.argmax()) + 1
        return (
            f"in all: {causes.max() / self.total:.0%} of the loss comes by the cause {cause}, "
            f"{years.max() / self.total:.0%} of it in year {year}"
        )

    def price_at(self, month: int) -> str:
        """The main generation's spot price in a month."""
        if self.main is None:
            return ""
        spot = float(self.history.spot[month, self.place, self.main])
        return f"; {_name(self.names.generations[self.main])} spot {spot:.2f}"

    def events(self) -> list[Event]:
        """Everything worth telling."""
        return [*self._loans(), *self._parties(), *self._regimes(), *self._launches(), *self._extremes()]

    def _loans(self) -> list[Event]:
        found = []
        for i in self.rows:
            rows = self.replay.defaults
            loss, owed, name = int(rows.loss[i]), int(rows.ead[i]), _name(self.names.loans[rows.loan[i]])
            text = f"loan {name} defaults, {_WHY[CAUSES[rows.cause[i]]]}: {_dollars(owed / 100)} owed"
            text += f", {_dollars(loss / 100)} lost" if loss else ", nothing lost"
            if rows.proceeds[i]:
                text += (
                    f", its chips sold in month {int(rows.sale_month[i])} for {_dollars(int(rows.proceeds[i]) / 100)}"
                )
            found.append(Event(int(rows.month[i]), loss / 100 + owed / 1e6, text))
        return found

    def _parties(self) -> list[Event]:
        """Tenants by what their chips' loans lose, borrowers by what their loans lose after them."""
        by_loan = np.zeros(self.plan.n_loans)
        by_loan[self.replay.defaults.loan[self.rows]] = self.losses / 100
        when = np.full(self.plan.n_loans, NEVER)
        when[self.replay.defaults.loan[self.rows]] = self.months
        deployments = self.plan.deployments
        mine: dict[str, list[int]] = {}
        for place, borrower in enumerate(self.names.borrowers):
            mine.setdefault(borrower, []).append(place)
        by_tenant = np.argsort(deployments.tenant, kind="stable")  # books of many parties: no search for each of them
        first = np.searchsorted(deployments.tenant[by_tenant], np.arange(len(self.default_months) + 1))
        found = []
        for column in np.nonzero(self.default_months < NEVER)[0]:
            name, month = _name(self.names.obligors[column]), int(self.default_months[column])
            let = by_tenant[first[column] : first[column + 1]]
            let = let[deployments.contract_end[let] >= month]
            loans = np.unique(self.plan.loans.index[deployments.loan[let]])
            if len(let):
                hit = float(by_loan[loans][when[loans] >= month].sum())
                chips = int(deployments.units[let].sum())
                text = f"tenant {name} defaults on contracts signed for {chips:,} chips"
                found.append(Event(month, hit + self.scale + chips, text))
                continue
            borrowed = np.array(mine.get(self.names.obligors[column], []), dtype=np.int64)
            hit = float(by_loan[borrowed][when[borrowed] == month].sum())
            if len(borrowed):
                found.append(Event(month, 0.5 * hit, f"borrower {name} defaults"))
        return found

    def _regimes(self) -> list[Event]:
        regimes: I32 = self.history.regimes[: int(self.plan.market.horizon) + 1, self.place]
        turns = np.nonzero(np.diff(regimes))[0] + 1
        ends = np.append(turns[1:], len(regimes))[: len(turns)]
        return [
            Event(
                int(t),
                0.3 * self.scale * float(end - t),
                f"the market turns to {_name(self.names.regimes[regimes[t]])}, for {_months(int(end - t))}",
            )
            for t, end in zip(turns, ends, strict=True)
        ]

    def _launches(self) -> list[Event]:
        months: F32 = self.history.launch_months[:, :, self.place]
        horizon, found = int(self.plan.market.horizon), []
        for family, launch in np.argwhere(np.isfinite(months)):
            month = int(np.ceil(months[family, launch]))
            if 1 <= month <= horizon:
                text = "new chips are launched" if family == 0 else "rivals launch chips"
                found.append(Event(month, 0.5 * self.scale, text))
        return found

    def _extremes(self) -> list[Event]:
        """By the last default: the low of the main generation's contract price, the month in which most chips come back."""
        if self.main is None or not len(self.rows):
            return []
        end = int(self.months.max()) + 1
        contract = self.history.contract[:end, self.place, self.main].astype(np.float64)
        low, gpu = int(contract.argmin()), _name(self.names.generations[self.main])
        found = []
        if low:
            fall = contract[low] / contract[0] - 1
            text = f"{gpu} contracts reach their low of {contract[low]:.2f} dollars an hour, {fall:+.0%} from the start"
            found.append(Event(low, 50 * self.scale, text))
        released = self.history.released[:end, self.place].sum(axis=1)
        if released.max():
            month = int(released.argmax())
            text = f"{int(released[month]):,} of the book's chips come back to the market, more than in any other month"
            found.append(Event(month, 50 * self.scale, text))
        return found


def _name(text: str) -> str:
    return shortened(printable(text), MAX_NAME)


def _months(n: int) -> str:
    return f"{n} month{'' if n == 1 else 's'}"


def _dollars(amount: float) -> str:
    if amount >= 1e9:
        return f"{amount / 1e9:.2f} billion dollars"
    return f"{amount / 1e6:.1f} million dollars" if amount >= 1e6 else f"{amount:,.0f} dollars"
