"""The profile of a book: what a credit officer asks before any path is simulated."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from . import __version__, breakdown
from .outlook import Outlook

if TYPE_CHECKING:
    import pandas as pd

    from .market import Market
    from .portfolio import Portfolio


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over loans: its mean weighted by balance, the least, the largest, and how many loans have one."""

    mean: float
    low: float
    high: float
    n_loans: int

    @classmethod
    def of(cls, values: pd.Series, weights: pd.Series) -> Spread | None:
        """The spread of the finite values; None where there are none. Weights that are all 0 count as equal."""
        has = np.isfinite(values.to_numpy(np.float64))
        if not has.any():
            return None
        value, weight = values.to_numpy(np.float64)[has], weights.to_numpy(np.float64)[has]
        mean = np.average(value, weights=weight if weight.sum() > 0 else None)
        return cls(float(mean), float(value.min()), float(value.max()), len(value))


@dataclass(frozen=True)
class Profile:
    """A book at month 0. Dollars; shares are fractions; frames are described in `breakdown` and `outlook`.

    DSCR, LTV and reserve months are those of each GPU loan's first month of debt service, at month 0's prices and
    scheduled service (docs/model.md 5.3, 5.6), weighted by the balance then. Contracts count as signed: none is renewed.
    """

    horizon_months: int
    balance_usd: float
    commitment_usd: float
    terms: pd.DataFrame = field(repr=False)  # the loan tape
    gpu_loans: pd.DataFrame = field(repr=False)
    chips: pd.DataFrame = field(repr=False)
    years: pd.DataFrame = field(repr=False)
    maturities: pd.DataFrame = field(repr=False)
    tenants: pd.DataFrame = field(repr=False)
    borrowers: pd.DataFrame = field(repr=False)
    hazard_classes: pd.DataFrame = field(repr=False)
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, portfolio: Portfolio, market: Market) -> Profile:
        """The profile of a checked book.

        Raises:
            InputRejected: the book cannot be planned.
        """
        outlook = Outlook.of(portfolio, market)
        tenants, borrowers = breakdown.tenants(outlook), breakdown.borrowers(outlook)
        return cls(
            horizon_months=market.horizon_months,
            balance_usd=portfolio.balance_usd,
            commitment_usd=portfolio.commitment_usd,
            terms=portfolio.loans,
            gpu_loans=outlook.first_service(),
            chips=breakdown.chips(outlook),
            years=breakdown.years(outlook),
            maturities=breakdown.maturities(outlook),
            tenants=tenants,
            borrowers=borrowers,
            hazard_classes=breakdown.hazard_classes(outlook, tenants, borrowers),
            warnings=portfolio.warnings,
        )

    @property
    def n_chips(self) -> int:
        """Chips that secure loans, in service or to come."""
        return int(self.chips["chips"].sum())

    @property
    def chip_value_usd(self) -> float:
        """Value of all chips at month 0 (docs/model.md 2.11)."""
        return float(self.chips["value_usd"].sum())

    @property
    def contracted_revenue_usd(self) -> float:
        """Rent of all contracts over the months they still run, undiscounted."""
        return float(self.tenants["revenue_usd"].sum())

    @property
    def spot_share(self) -> float | None:
        """Share of the chips that no contract lets at month 0; None: no chips."""
        return 1 - float(self.years["contracted_share"].iloc[0]) if self.n_chips else None

    @property
    def dscr(self) -> Spread | None:
        """NOI / debt service; None: no GPU loan has debt service."""
        return self._spread("dscr")

    @property
    def ltv(self) -> Spread | None:
        """Balance / value of the chips; None: no chip has a value."""
        return self._spread("ltv")

    @property
    def reserve_months(self) -> Spread | None:
        """Reserve at month 0 in months of debt service."""
        return self._spread("reserve_months")

    @property
    def lgd(self) -> Spread | None:
        """Mean LGD of the plain loans; None: there are none."""
        return Spread.of(self.terms["lgd"], self.terms["balance_usd"] + self.terms["undrawn_usd"])

    @property
    def tenant_herfindahl(self) -> float | None:
        """Sum of squared shares of contracted revenue: 1 is one tenant, 1/n is n alike; None: no contracts."""
        return float((self.tenants["share"] ** 2).sum()) if len(self.tenants) else None

    @property
    def borrower_herfindahl(self) -> float:
        """Sum of squared shares of commitment."""
        return float((self.borrowers["share"] ** 2).sum())

    def _spread(self, column: str) -> Spread | None:
        return Spread.of(self.gpu_loans[column], self.gpu_loans["balance_usd"])

    def to_json_dict(self) -> dict[str, Any]:
        """The object that `gpuloan-mc check --json` prints: frames as lists of rows, finite numbers or null."""
        figures = ("dscr", "ltv", "reserve_months", "lgd")
        frames = ("chips", "years", "maturities", "tenants", "borrowers", "hazard_classes")
        return {
            "version": __version__,
            "horizon_months": self.horizon_months,
            "n_loans": len(self.terms),
            "n_gpu_loans": len(self.gpu_loans),
            "balance_usd": self.balance_usd,
            "commitment_usd": self.commitment_usd,
            "n_chips": self.n_chips,
            "chip_value_usd": self.chip_value_usd,
            "contracted_revenue_usd": self.contracted_revenue_usd,
            "spot_share": self.spot_share,
            **{name: _spread_dict(getattr(self, name)) for name in figures},
            **{f"n_{t}": int(self.gpu_loans[t].sum()) for t in ("below_lockup", "below_default", "above_ltv_cap")},
            "tenant_herfindahl": self.tenant_herfindahl,
            "borrower_herfindahl": self.borrower_herfindahl,
            **{name: _rows(getattr(self, name)) for name in frames},
            "warnings": list(self.warnings),
        }


def _spread_dict(spread: Spread | None) -> dict[str, Any] | None:
    if spread is None:
        return None
    return {"mean": spread.mean, "low": spread.low, "high": spread.high, "n_loans": spread.n_loans}


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A frame as JSON can hold it: plain Python values, null where there is no number."""
    return [{str(k): _plain(v) for k, v in row.items()} for row in frame.to_dict("records")]


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
