"""The market: everything a path needs that is not a loan. One frozen, strict tree, read from market.toml.

Symbols in the descriptions are those of docs/model.md. Rates and volatilities are a year, times are months from the
start date (month 0), money is US dollars, shares are fractions.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(ge=-0.5, le=5)]
Speed = Annotated[float, Field(ge=0, le=100)]
Volatility = Annotated[float, Field(ge=0, le=10)]
Positive = Annotated[float, Field(gt=0, le=1e9)]
NonNegative = Annotated[float, Field(ge=0, le=1e9)]
LogShift = Annotated[float, Field(ge=-20, le=20)]
Months = Annotated[int, Field(ge=-600, le=1200)]
Name = Annotated[str, Field(min_length=1, max_length=100)]

MAX_LAUNCHES = 32


def check_correlation(matrix: list[list[float]], size: int) -> None:
    """Raise ValueError unless the matrix is a positive definite correlation matrix of the given size."""
    if len(matrix) != size or any(len(row) != size for row in matrix):
        raise ValueError(f"correlation must be {size} rows of {size} numbers")
    array = np.array(matrix, dtype=np.float64)
    if not np.array_equal(array, array.T):
        raise ValueError("correlation must be symmetric")
    if not np.all(np.diag(array) == 1):
        raise ValueError("the diagonal of correlation must be 1")
    if np.linalg.eigvalsh(array)[0] < 1e-9:
        raise ValueError("correlation is not positive definite; shrink its off-diagonal entries")


def check_beta(mean_name: str, mean: float, sd_name: str, sd: float) -> None:
    """Raise ValueError unless a Beta distribution with this mean and standard deviation exists (sd 0: the mean)."""
    if sd > 0 and not sd * sd < mean * (1 - mean):
        raise ValueError(f"{sd_name} is {sd}; with {mean_name} {mean} it must be below sqrt(mean·(1-mean))")


class Table(BaseModel):
    """A table of market.toml: strict types, no unknown keys, no infinities, never changed after reading."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)

    def replace(self, **changes: Any) -> Self:
        """A copy with the given fields changed, validated again.

        Raises:
            pydantic.ValidationError: a new value breaks a rule.
        """
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self).model_validate(fields | changes)


class BaseRate(Table):
    """The lender's base curve (SOFR): forward rates a year by month, linear between knots, flat outside."""

    months: list[Annotated[int, Field(ge=0, le=1200)]] = Field(default=[0], min_length=1)
    rates: list[Rate] = Field(min_length=1)

    @model_validator(mode="after")
    def _curve(self) -> Self:
        if len(self.months) != len(self.rates):
            raise ValueError(
                f"months has {len(self.months)} entries and rates {len(self.rates)}; give one rate a month"
            )
        if any(b <= a for a, b in pairwise(self.months)):
            raise ValueError("months must increase")
        return self


class Regimes(Table):
    """The market's regimes (2.1): names, demand means m_z and the yearly transition rates Q, row = from."""

    names: list[Name] = Field(default=["normal"], min_length=1, max_length=8)
    means: list[Annotated[float, Field(ge=-5, le=5)]] = [0.0]
    transitions: list[list[Annotated[float, Field(ge=0, le=100)]]] = [[0.0]]
    initial: Name = "normal"

    @model_validator(mode="after")
    def _square(self) -> Self:
        n = len(self.names)
        if len(set(self.names)) != n:
            raise ValueError("names must differ from each other")
        if len(self.means) != n:
            raise ValueError(f"means has {len(self.means)} entries; give one for each of the {n} names")
        if len(self.transitions) != n or any(len(row) != n for row in self.transitions):
            raise ValueError(f"transitions must be {n} rows of {n} rates a year; the diagonal is 0")
        if any(row[i] != 0 for i, row in enumerate(self.transitions)):
            raise ValueError("the diagonal of transitions must be 0: give only the rates from one regime to another")
        if self.initial not in self.names:
            raise ValueError(f"initial is {self.initial!r}; it must be one of {', '.join(self.names)}")
        return self


class Demand(Table):
    """Demand M (2.2): mean reversion κ, volatility σ_M, start M_0 and jumps (λ, share down, mean size)."""

    initial: Annotated[float, Field(ge=-5, le=5)] = 0.0
    mean_reversion: Speed = 0.0
    volatility: Volatility = 0.0
    jumps_per_year: Annotated[float, Field(ge=0, le=12)] = 0.0
    jump_down_share: Share = 0.5
    jump_mean: Annotated[float, Field(ge=0, le=2)] = 0.0


class HazardClass(Table):
    """Obligors of one default-intensity path (3.1).

    Give exactly one of pd_by_year (cumulative PD after 1, 2, ... years), pd_by_month (after 1, 2, ... months) or
    hazard (a constant intensity a year). Beyond the last given PD its last hazard goes on.
    """

    name: Name
    pd_by_year: list[Annotated[float, Field(ge=0, lt=1)]] | None = Field(default=None, min_length=1, max_length=50)
    pd_by_month: list[Annotated[float, Field(ge=0, lt=1)]] | None = Field(default=None, min_length=1, max_length=600)
    hazard: Annotated[float, Field(ge=0, le=20)] | None = None
    regime_multipliers: list[Annotated[float, Field(gt=0, le=1000)]] | None = Field(
        default=None, description="e^a by regime; none given: 1 in every regime"
    )
    demand_sensitivity: LogShift = Field(default=0.0, description="b: the hazard is multiplied by e^(-b M)")
    overhang_sensitivity: LogShift = Field(default=0.0, description="d: the hazard is multiplied by e^(d V)")
    claim_recovery: Share = Field(default=0.0, description="recovery on a defaulted tenant's contract (6.2)")

    @model_validator(mode="after")
    def _one_curve(self) -> Self:
        given = [k for k in ("pd_by_year", "pd_by_month", "hazard") if getattr(self, k) is not None]
        if len(given) != 1:
            raise ValueError(
                f"give exactly one of pd_by_year, pd_by_month, hazard (found {', '.join(given) or 'none'})"
            )
        for key in ("pd_by_year", "pd_by_month"):
            curve = getattr(self, key)
            if curve and any(b < a for a, b in pairwise(curve)):
                raise ValueError(f"{key} is cumulative and must not fall")
        return self


class Dependence(Table):
    """How defaults move together (3.2, 3.3, 3.6): copula, factors and their correlation; the first is demand."""

    copula: Literal["gaussian", "t"] = "gaussian"
    degrees_of_freedom: Annotated[float, Field(ge=3, le=1000)] | None = None
    factors: list[Name] = Field(default=["demand"], min_length=1, max_length=8)
    correlation: list[list[Annotated[float, Field(ge=-1, le=1)]]] | None = None
    grouped: bool = True
    pd: Literal["match", "as-given"] = "match"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.factors[0] != "demand":
            raise ValueError(f"the first factor must be 'demand', not {self.factors[0]!r}")
        if len(set(self.factors)) != len(self.factors):
            raise ValueError("factors must differ from each other")
        if (self.copula == "t") != (self.degrees_of_freedom is not None):
            raise ValueError("degrees_of_freedom belongs to copula = 't', and only to it")
        if self.correlation is not None:
            check_correlation(self.correlation, len(self.factors))
        return self


class Spot(Table):
    """The spot market (2.3, 2.9, 5.3): mean premium over a one-year contract, its mean reversion, noise, and the fee."""

    premium: Annotated[float, Field(gt=0, le=20, description="e^(s_0)")] = 1.0
    mean_reversion: Speed = 0.0
    volatility: Volatility = 0.0
    fee: Share = 0.0


class Generation(Table):
    """A chip type with one rental market (2.4-2.11)."""

    name: Name
    launch_month: Months = Field(description="volume launch; orders the generations")
    price_usd_per_hour: Annotated[float, Field(gt=0, le=1000, description="one-year contract price P(0)")]
    demand_beta: Annotated[float, Field(ge=-10, le=10)] = 1.0
    decline: Annotated[float, Field(ge=-2, le=2, description="steady fall of the log price, a year (δ)")] = 0.0
    volatility: Volatility = 0.0
    opex_usd_per_hour: Annotated[float, Field(ge=0, le=100)] = 0.0
    depth_chips: Annotated[float, Field(ge=1, le=1e9, description="chips the market absorbs (D)")]
    depth_growth: Annotated[float, Field(ge=-2, le=5)] = 0.0
    cost_when_new_usd: Annotated[float, Field(gt=0, le=1e7)]
    recoverable_share: Share = 1.0
    scrap_share: Share = 0.0
    life_end_month: Months = Field(description="end of the generation's economic life")


class GenerationFactors(Table):
    """The generations' own factors X (2.4): mean reversion, and correlation as decay^|g-h| or as a matrix."""

    mean_reversion: Speed = 0.0
    correlation_decay: Annotated[float, Field(ge=0, lt=1)] | None = None
    correlation: list[list[Annotated[float, Field(ge=-1, le=1)]]] | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.correlation_decay is not None and self.correlation is not None:
            raise ValueError("give correlation_decay or correlation, not both")
        return self


class Launches(Table):
    """A family of launches that make older chips obsolete (2.5, 2.6)."""

    first_month: Annotated[float, Field(ge=-600, le=1200, description="T_0")]
    cadence_months: Annotated[float, Field(ge=0, le=1200)] = 0.0
    lag_mean_months: Annotated[float, Field(ge=0, le=600)] = 0.0
    lag_shape: Annotated[float, Field(gt=0.01, le=1000)] = 1.0
    ramp_months: Annotated[float, Field(ge=1, le=600)] = 1.0
    impact: Annotated[float, Field(ge=0, le=5, description="ψ")]
    gain_mean: Annotated[float, Field(ge=-5, le=5, description="mean log gain of performance μ_R")]
    gain_sd: Annotated[float, Field(ge=0, le=5)] = 0.0

    @model_validator(mode="after")
    def _moves(self) -> Self:
        if self.cadence_months == 0 and self.lag_mean_months == 0:
            raise ValueError("cadence_months and lag_mean_months are both 0: every launch would come in the same month")
        return self


class OutsideExpiry(Table):
    """Chips that come off contracts outside the book in one month (the calendar of 2.7)."""

    gpu: Name
    month: Annotated[int, Field(ge=1, le=1200)]
    units: Annotated[int, Field(ge=0, le=2**31 - 1)]


class Overhang(Table):
    """Released chips press on prices (2.7, 2.8): impact α, absorption κ_V, own weight w, outside calendar."""

    impact: Annotated[float, Field(ge=0, le=20)] = 0.0
    absorption: Speed = 0.0
    own_weight: Share = 1.0
    calendar: list[OutsideExpiry] = []


class Utilisation(Table):
    """Share of hours that uncontracted chips are let: clip(level + slope·M, low, high) (2.10)."""

    level: Share = 1.0
    slope: Annotated[float, Field(ge=-10, le=10)] = 0.0
    low: Share = 0.0
    high: Share = 1.0

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low ({self.low}) exceeds high ({self.high})")
        return self


class Costs(Table):
    """Cash cost of an hour (2.9): its rise a year and the share φ of it below which no price falls (0: no floor)."""

    rise: Annotated[float, Field(ge=-1, le=1)] = 0.0
    floor_share: Annotated[float, Field(ge=0, le=2)] = 0.0


class Value(Table):
    """What a chip is worth to a buyer (2.11): yield, expected decline of rent, and the ageing of the cap ζ."""

    buyers_yield: Annotated[float, Field(ge=0, le=5)]
    expected_decline: Annotated[float, Field(ge=-2, le=5)] = 0.0
    ageing: Annotated[float, Field(ge=0, le=5)] = 0.0


class Contracts(Table):
    """Contracts (5.2, 5.3): share of the price that is paid, renewal probability by regime, term and discount."""

    paid_share: Share = 1.0
    renewal: list[Share] = Field(description="probability by regime")
    renewal_term_months: Annotated[int, Field(ge=1, le=600)] = 12
    renewal_discount: Share = 0.0


class Recovery(Table):
    """After a default (6.1-6.4)."""

    step_in: Share = 0.0
    performance: Share = 1.0
    opex_stress: Annotated[float, Field(ge=0, le=10)] = 1.0
    lenders_yield: Annotated[float, Field(ge=0, le=5)] = 0.0
    lag_mean_months: Annotated[float, Field(gt=0, le=120)] = 1.0
    lag_shape: Annotated[float, Field(gt=0.01, le=1000)] = 1.0
    lag_max_months: Annotated[int, Field(ge=1, le=120)] = 24
    haircut_mean: Annotated[float, Field(ge=0, lt=1)] = 0.0
    haircut_sd: Annotated[float, Field(ge=0, lt=1)] = 0.0
    sale_cost: Share = 0.0
    sale_impact: Annotated[float, Field(ge=0, le=20, description="α_s")] = 0.0
    storage_share: Annotated[float, Field(ge=0, le=10)] = 0.0

    @model_validator(mode="after")
    def _beta(self) -> Self:
        check_beta("haircut_mean", self.haircut_mean, "haircut_sd", self.haircut_sd)
        return self


class GpuMarket(Table):
    """The GPU part of the market; needed as soon as a loan is secured by chips."""

    spot: Spot = Spot()
    generations: list[Generation] = Field(min_length=1, max_length=32)
    generation_factors: GenerationFactors = GenerationFactors()
    launches: Launches | None = None
    rival_launches: Launches | None = None
    overhang: Overhang = Overhang()
    utilisation: Utilisation = Utilisation()
    costs: Costs = Costs()
    value: Value
    contracts: Contracts
    recovery: Recovery = Recovery()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [g.name for g in self.generations]
        if len(set(names)) != len(names):
            raise ValueError("two generations have the same name")
        for expiry in self.overhang.calendar:
            if expiry.gpu not in names:
                raise ValueError(f"overhang.calendar names gpu {expiry.gpu!r}; known are {', '.join(names)}")
        matrix = self.generation_factors.correlation
        if matrix is not None:
            check_correlation(matrix, len(names))
        return self


class Market(Table):
    """The whole of market.toml."""

    start_date: datetime.date
    horizon_months: Annotated[int, Field(ge=1, le=600)]
    base_rate: BaseRate = BaseRate(rates=[0.0])
    regimes: Regimes = Regimes()
    demand: Demand = Demand()
    hazard_classes: list[HazardClass] = Field(min_length=1, max_length=64)
    dependence: Dependence = Dependence()
    gpu: GpuMarket | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        n = len(self.regimes.names)
        names = [c.name for c in self.hazard_classes]
        if len(set(names)) != len(names):
            raise ValueError("two hazard_classes have the same name")
        for item in self.hazard_classes:
            if item.regime_multipliers is not None and len(item.regime_multipliers) != n:
                raise ValueError(
                    f"hazard class {item.name!r} has {len(item.regime_multipliers)} regime_multipliers; "
                    f"give one for each of the {n} regimes"
                )
        if self.gpu is not None and len(self.gpu.contracts.renewal) != n:
            raise ValueError(f"gpu.contracts.renewal needs one probability for each of the {n} regimes")
        return self

    @property
    def digest(self) -> str:
        """sha256 of the market as canonical JSON: sorted keys, no blanks, every value written out."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    @classmethod
    def read(cls, path: str | Path) -> Market:
        """The market of a book: a folder with market.toml, the file itself, or a bundled book's name.

        Raises:
            InputRejected: the file is missing, not TOML, or breaks a rule; every problem is in the error.
        """
        from .inputs.market_file import read_market

        return read_market(path)
