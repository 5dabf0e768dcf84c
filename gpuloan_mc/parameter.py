"""One number of a book that is moved by name: a key of market.toml, a column of a tape, or what has a name of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from .errors import UsageError
from .scenario import Scenario

Change = Literal["set", "scale"]

TAPES = ("loans", "deployments", "obligors")
ROLL_OFF = "roll_off"
FORCED_PRICE = "force.price."


@dataclass(frozen=True)
class Parameter:
    """What is moved, and whether it is set or scaled.

    `name` is a dotted key of market.toml (gpu.overhang.impact), a tape's column (loans.remoteness), or one of

    - roll_off: the share of contracts that are not renewed when they expire, in every regime;
    - force.price.GPU.MONTH, such as force.price.H100.12: the contract price of a chip's hour from that month on, dollars, in
      every path; before it the price is the model's.

    These two are set, never scaled.
    """

    name: str
    how: Change = "set"

    def setting(self, value: float) -> str:
        """What the parameter becomes, as text."""
        return f"{'× ' if self.how == 'scale' else ''}{value:g}"

    def titled(self, value: float) -> str:
        """The parameter and what it becomes: a scenario's name."""
        return f"{self.name} {self.setting(value)}"

    def at(self, value: float) -> Scenario:
        """The scenario that sets or scales the parameter.

        Raises:
            InputRejected: the value is no number.
            UsageError: a parameter that can't be scaled is, or force.price names no month.
        """
        return Scenario.of(self.titled(value), **self.changes(value))

    def changes(self, value: float) -> dict[str, Any]:
        """The tables of that scenario, as in its TOML."""
        number = int(value) if self.how == "set" and float(value).is_integer() else float(value)
        tape, _, column = self.name.partition(".")
        if tape in TAPES:
            return {tape: [{self.how: {column: number}}]}
        if self.name == ROLL_OFF:
            self._check_set()
            return {"market": {"set": {"gpu.contracts.renewal.*": 1 - number}}}
        if self.name.startswith(FORCED_PRICE):
            self._check_set()
            return {"force": {"price": [self._forced_price(float(value))]}}
        return {"market": {self.how: {self.name: number}}}

    def _forced_price(self, usd_per_hour: float) -> dict[str, Any]:
        gpu, _, month = self.name.removeprefix(FORCED_PRICE).rpartition(".")
        if not gpu or not (month.isascii() and month.isdigit()):
            raise UsageError(
                f"parameter {self.name!r:.60} names no month; write force.price.GPU.MONTH, such as force.price.H100.12"
            )
        return {"gpu": gpu, "months": [int(month)], "usd_per_hour": [usd_per_hour], "after": "hold"}

    def _check_set(self) -> None:
        if self.how != "set":
            raise UsageError(f"parameter {self.name!r:.60} can't be scaled; give its values without the x")


def merged(*parts: dict[str, Any]) -> dict[str, Any]:
    """The tables of several changes as those of one scenario: tables are joined, lists one after the other."""
    found: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            mine = found.get(key)
            if isinstance(mine, dict):
                found[key] = merged(mine, value)
            elif isinstance(mine, list):
                found[key] = [*mine, *value]
            else:
                found[key] = value
    return found
