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
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from .errors import BrokenRule, BrokenRules
from .market_links import broken_gpu_links, broken_links
from .text import shown

Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(ge=-0.5, le=5)]
Speed = Annotated[float, Field(ge=0, le=100)]
Volatility = Annotated[float, Field(ge=0, le=10)]
Positive = Annotated[float, Field(gt=0, le=1e9)]
NonNegative = Annotated[float, Field(ge=0, le=1e9)]
LogShift = Annotated[float, Field(ge=-20, le=20)]
Months = Annotated[int, Field(ge=-600, le=1200)]


def check_name(name: str) -> str:
    """Raise ValueError unless every character of the name can be shown."""
    if not name.isprintable():
        raise BrokenRule("odd-name", "", f"the name {shown(name)} has a character that can't be shown")
    return name


Name = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(check_name)]

MAX_LAUNCHES = 32


def check_correlation(matrix: list[list[float]], size: int, place: str = "correlation") -> None:
    """Raise ValueError unless the matrix is a positive definite correlation matrix of the given size."""
    if len(matrix) != size or any(len(row) != size for row in matrix):
        raise BrokenRule("correlation", place, f"correlation must be {size} rows of {size} numbers")
    array = np.array(matrix, dtype=np.float64)
    if not np.array_equal(array, array.T):
        i, j = np.argwhere(array != array.T)[0] + 1
        raise BrokenRule(
            "correlation", f"{place}[{i}][{j}]", f"correlation must be symmetric; [{i}][{j}] is not [{j}][{i}]"
        )
    if not np.all(np.diag(array) == 1):
        i = int(np.argmax(np.diag(array) != 1)) + 1
        raise BrokenRule("correlation", f"{place}[{i}][{i}]", "the diagonal of correlation must be 1")
    lowest = float(np.linalg.eigvalsh(array)[0])
    if lowest < 1e-9:
        found = f"correlation is not positive definite: its lowest eigenvalue is {lowest:.3g}"
        raise BrokenRule("correlation", place, f"{found}; shrink its off-diagonal entries")


def check_beta(mean_name: str, mean: float, sd_name: str, sd: float) -> None:
    """Raise ValueError unless a Beta distribution with this mean and standard deviation exists (sd 0: the mean)."""
    if sd > 0 and not sd * sd < mean * (1 - mean):
        raise BrokenRule(
            "beta", sd_name, f"{sd_name} is {sd}; with {mean_name} {mean} it must be below sqrt(mean·(1-mean))"
        )


def _refuse(broken: list[BrokenRule]) -> None:
    if broken:
        raise BrokenRules(broken)


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

    months: list[Annotated[int, Field(ge=0, le=1200)]] = Field(
        default=[0], min_length=1, description="months of the knots, from the start date, increasing"
    )
    rates: list[Rate] = Field(min_length=1, description="forward rate a year at each knot, a fraction (0.046 is 4.6 %)")

    @model_validator(mode="after")
    def _curve(self) -> Self:
        if len(self.months) != len(self.rates):
            raise BrokenRule(
                "lists-differ",
                "rates",
                f"months has {len(self.months)} entries and rates {len(self.rates)}; give one rate a month",
            )
        if any(b <= a for a, b in pairwise(self.months)):
            raise BrokenRule("curve", "months", "months must increase")
        return self


class Regimes(Table):
    """The market's regimes (2.1): names, demand means m_z and the yearly transition rates Q, row = from."""

    names: list[Name] = Field(default=["normal"], min_length=1, max_length=8, description="names of the regimes (2.1)")
    means: list[Annotated[float, Field(ge=-5, le=5)]] = Field(
        default=[0.0], description="mean m_z that log demand reverts to in each regime (2.2)"
    )
    transitions: list[list[Annotated[float, Field(ge=0, le=100)]]] = Field(
        default=[[0.0]], description="rates Q a year from one regime (row) to another (column); the diagonal is 0 (2.1)"
    )
    initial: Name = Field(default="normal", description="name of the regime z_0 of month 0")

    @model_validator(mode="after")
    def _square(self) -> Self:
        n = len(self.names)
        if len(set(self.names)) != n:
            raise BrokenRule("doubled-name", "names", "names must differ from each other")
        if len(self.means) != n:
            raise BrokenRule(
                "lists-differ", "means", f"means has {len(self.means)} entries; give one for each of the {n} names"
            )
        if len(self.transitions) != n or any(len(row) != n for row in self.transitions):
            raise BrokenRule(
                "lists-differ", "transitions", f"transitions must be {n} rows of {n} rates a year; the diagonal is 0"
            )
        if any(row[i] != 0 for i, row in enumerate(self.transitions)):
            raise BrokenRule(
                "transitions",
                "transitions",
                "the diagonal of transitions must be 0: give only the rates from one regime to another",
            )
        if self.initial not in self.names:
            raise BrokenRule(
                "unknown-name", "initial", f"initial is {self.initial!r}; it must be one of {', '.join(self.names)}"
            )
        return self


def check_path(months: list[int], values: list[float], name: str) -> None:
    """Raise ValueError unless the months increase and there is one value for each."""
    if len(months) != len(values):
        raise BrokenRule(
            "lists-differ", name, f"months has {len(months)} entries and {name} {len(values)}; give one each month"
        )
    if any(b <= a for a, b in pairwise(months)):
        raise BrokenRule("curve", "months", "months must increase")


class ForcedDemand(Table):
    """A path that log demand M takes in every path from the first month to the last, whatever is drawn (2.2)."""

    months: list[Annotated[int, Field(ge=1, le=1200)]] = Field(
        min_length=1, description="months of the knots, from the start date, increasing"
    )
    levels: list[Annotated[float, Field(ge=-5, le=5)]] = Field(
        min_length=1, description="log demand at each knot; straight lines between them"
    )
    after: Literal["hold", "model"] = Field(
        default="model", description="after the last month: hold its level, or go on from it by (2.2)"
    )

    @model_validator(mode="after")
    def _path(self) -> Self:
        check_path(self.months, self.levels, "levels")
        return self


class Demand(Table):
    """Demand M (2.2): mean reversion κ, volatility σ_M, start M_0 and jumps (λ, share down, mean size)."""

    initial: Annotated[float, Field(ge=-5, le=5)] = Field(
        default=0.0, description="log demand M_0 at month 0; 0 is normal (2.2)"
    )
    mean_reversion: Speed = Field(default=0.0, description="speed κ of log demand, a year (2.2)")
    volatility: Volatility = Field(default=0.0, description="volatility σ_M of log demand, a year (2.2)")
    jumps_per_year: Annotated[float, Field(ge=0, le=12)] = Field(
        default=0.0, description="jump intensity λ, jumps a year; at most one falls in a month (2.2)"
    )
    jump_down_share: Share = Field(default=0.5, description="probability p_down that a jump is a fall (2.2)")
    jump_mean: Annotated[float, Field(ge=0, le=2)] = Field(
        default=0.0, description="mean size of a jump of log demand, exponentially distributed (2.2)"
    )
    forced: ForcedDemand | None = Field(
        default=None, description="a path of log demand that replaces the drawn one; not given: none"
    )


_CURVES = ("pd_by_year", "pd_by_month", "hazard")


class HazardClass(Table):
    """Obligors of one default-intensity path (3.1).

    Give exactly one of pd_by_year (cumulative PD after 1, 2, ... years), pd_by_month (after 1, 2, ... months) or
    hazard (a constant intensity a year). Beyond the last given PD its last hazard goes on.
    """

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": [curve]} for curve in _CURVES]})

    name: Name = Field(description="name that the hazard_class column of the obligors uses")
    pd_by_year: list[Annotated[float, Field(ge=0, lt=1)]] | None = Field(
        default=None,
        min_length=1,
        max_length=50,
        description="cumulative probability of default after 1, 2, ... years (3.1)",
    )
    pd_by_month: list[Annotated[float, Field(ge=0, lt=1)]] | None = Field(
        default=None,
        min_length=1,
        max_length=600,
        description="cumulative probability of default after 1, 2, ... months (3.1)",
    )
    hazard: Annotated[float, Field(ge=0, le=20)] | None = Field(
        default=None, description="constant default intensity h, a year (3.1)"
    )
    regime_multipliers: list[Annotated[float, Field(gt=0, le=1000)]] | None = Field(
        default=None, description="factor e^a on the hazard in each regime; none given: 1 in every regime (3.1)"
    )
    demand_sensitivity: LogShift = Field(
        default=0.0, description="b: the hazard is multiplied by e^(-b M), M the log demand (3.1)"
    )
    overhang_sensitivity: LogShift = Field(
        default=0.0, description="d: the hazard is multiplied by e^(d V), V the mean overhang (3.1)"
    )
    claim_recovery: Share = Field(
        default=0.0, description="share recovered of a contract that a tenant of this class ended by its default (6.2)"
    )

    @model_validator(mode="after")
    def _one_curve(self) -> Self:
        given = [k for k in _CURVES if getattr(self, k) is not None]
        if len(given) != 1:
            raise BrokenRule(
                "one-of",
                given[0] if given else "hazard",
                f"give exactly one of {', '.join(_CURVES)} (found {', '.join(given) or 'none'})",
            )
        for key in ("pd_by_year", "pd_by_month"):
            curve = getattr(self, key)
            if curve and any(b < a for a, b in pairwise(curve)):
                raise BrokenRule("curve", key, f"{key} is cumulative and must not fall")
        return self


class Dependence(Table):
    """How defaults move together (3.2, 3.3, 3.6): copula, factors and their correlation; the first is demand."""

    copula: Literal["gaussian", "t"] = Field(
        default="gaussian", description="copula of the obligors' latent quality (3.3)"
    )
    degrees_of_freedom: Annotated[float, Field(ge=3, le=1000)] | None = Field(
        default=None, description="degrees of freedom ν of the t copula; needed with it, and only with it (3.3)"
    )
    factors: list[Name] = Field(
        default=["demand"],
        min_length=1,
        max_length=8,
        description="names of the credit factors, demand first; column loading_<name> is an obligor's loading on one (3.3)",
    )
    correlation: list[list[Annotated[float, Field(ge=-1, le=1)]]] | None = Field(
        default=None, description="correlation ρ of the factors, rows in their order; none given: independent (3.3)"
    )
    grouped: bool = Field(
        default=True, description="decide obligors that only borrow plain loans by groups (3.6): same law, faster"
    )
    pd: Literal["match", "as-given"] = Field(
        default="match",
        description="match: hazards scaled so that mean default probabilities are those given (3.2); as-given: left alone",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.factors[0] != "demand":
            raise BrokenRule(
                "market-choice", "factors[1]", f"the first factor must be 'demand', not {self.factors[0]!r}"
            )
        if len(set(self.factors)) != len(self.factors):
            raise BrokenRule("doubled-name", "factors", "factors must differ from each other")
        if (self.copula == "t") != (self.degrees_of_freedom is not None):
            raise BrokenRule(
                "one-of", "degrees_of_freedom", "degrees_of_freedom belongs to copula = 't', and only to it"
            )
        if self.correlation is not None:
            check_correlation(self.correlation, len(self.factors))
        return self


class Spot(Table):
    """The spot market (2.3, 2.9, 5.3): mean premium over a one-year contract, its mean reversion, noise, and the fee."""

    premium: Annotated[float, Field(gt=0, le=20)] = Field(
        default=1.0,
        description="ratio e^(s_0) of the spot to the one-year contract price at month 0, and in the median (2.9)",
    )
    mean_reversion: Speed = Field(default=0.0, description="speed κ_c of the log premium, a year (2.3)")
    volatility: Volatility = Field(default=0.0, description="volatility σ_c of the log premium, a year (2.3)")
    fee: Share = Field(default=0.0, description="marketplace's share of spot revenue (5.3)")


class Generation(Table):
    """A chip type with one rental market (2.4-2.11)."""

    name: Name = Field(description="name that the gpu column of the deployments uses")
    launch_month: Months = Field(description="month of volume launch, from the start date; orders the generations")
    price_usd_per_hour: Annotated[float, Field(gt=0, le=1000)] = Field(
        description="one-year contract price P(0) of a chip, dollars an hour at month 0 (2.9)"
    )
    demand_beta: Annotated[float, Field(ge=-10, le=10)] = Field(
        default=1.0, description="β: move of the log price for one of log demand (2.9)"
    )
    decline: Annotated[float, Field(ge=-2, le=2)] = Field(
        default=0.0, description="δ: steady fall of the log price, a year (2.9)"
    )
    volatility: Volatility = Field(
        default=0.0, description="volatility σ_X of the generation's own factor, a year (2.4)"
    )
    opex_usd_per_hour: Annotated[float, Field(ge=0, le=100)] = Field(
        default=0.0, description="cash cost of a chip, dollars an hour at month 0, let or not (2.9, 5.3)"
    )
    depth_chips: Annotated[float, Field(ge=1, le=1e9)] = Field(
        description="depth D of the market at month 0: chips it absorbs (2.7)"
    )
    depth_growth: Annotated[float, Field(ge=-2, le=5)] = Field(
        default=0.0, description="growth of the log depth, a year (2.7)"
    )
    cost_when_new_usd: Annotated[float, Field(gt=0, le=1e7)] = Field(
        description="all-in cost of a new chip, dollars (2.11)"
    )
    recoverable_share: Share = Field(
        default=1.0, description="share of the cost when new that a used chip can fetch at most (2.11)"
    )
    scrap_share: Share = Field(
        default=0.0, description="share of the cost when new below which no chip's value falls (2.11)"
    )
    life_end_month: Months = Field(
        description="month in which the generation's economic life ends, from the start date (2.11)"
    )


class GenerationFactors(Table):
    """The generations' own factors X (2.4): mean reversion, and correlation as decay^|g-h| or as a matrix."""

    mean_reversion: Speed = Field(default=0.0, description="speed κ_X of the generations' own factors, a year (2.4)")
    correlation_decay: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        default=None,
        description="ρ: factors of generations g and h correlate by ρ^|g-h| in launch order; not given: independent (2.4)",
    )
    correlation: list[list[Annotated[float, Field(ge=-1, le=1)]]] | None = Field(
        default=None,
        description="their correlation as a matrix, rows in the order of the generations in this file (2.4)",
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.correlation_decay is not None and self.correlation is not None:
            raise BrokenRule("one-of", "correlation", "give correlation_decay or correlation, not both")
        return self


class Launches(Table):
    """A family of launches that make older chips obsolete (2.5, 2.6)."""

    first_month: Annotated[float, Field(ge=-600, le=1200)] = Field(
        description="month T_0 of the first launch, from the start date (2.6)"
    )
    cadence_months: Annotated[float, Field(ge=0, le=1200)] = Field(
        default=0.0, description="months between launches without lag (2.6)"
    )
    lag_mean_months: Annotated[float, Field(ge=0, le=600)] = Field(
        default=0.0, description="mean of the Gamma lag added to each cadence, months (2.6)"
    )
    lag_shape: Annotated[float, Field(gt=0.01, le=1000)] = Field(
        default=1.0, description="shape of the Gamma lag; higher is more regular (2.6)"
    )
    ramp_months: Annotated[float, Field(ge=1, le=600)] = Field(
        default=1.0, description="months over which a launch takes effect on prices (2.5)"
    )
    impact: Annotated[float, Field(ge=0, le=5)] = Field(
        description="ψ: fall of older chips' log price for one of log gain (2.6)"
    )
    gain_mean: Annotated[float, Field(ge=-5, le=5)] = Field(
        description="mean μ_R of a launch's log gain of performance (2.6)"
    )
    gain_sd: Annotated[float, Field(ge=0, le=5)] = Field(
        default=0.0, description="standard deviation σ_R of the log gain (2.6)"
    )

    @model_validator(mode="after")
    def _moves(self) -> Self:
        if self.cadence_months == 0 and self.lag_mean_months == 0:
            raise BrokenRule(
                "standstill",
                "cadence_months",
                "cadence_months and lag_mean_months are both 0: every launch would come in the same month",
            )
        return self


class OutsideExpiry(Table):
    """Chips that come off contracts outside the book in one month (the calendar of 2.7)."""

    gpu: Name = Field(description="name of the generation (2.7)")
    month: Annotated[int, Field(ge=1, le=1200)] = Field(
        description="month in which the chips come to market, from the start date (2.7)"
    )
    units: Annotated[int, Field(ge=0, le=2**31 - 1)] = Field(description="chips that come to market (2.7)")


class ForcedPrice(Table):
    """A path that one generation's contract price takes in every path, whatever is drawn or released (2.9)."""

    gpu: Name = Field(description="name of the generation")
    months: list[Annotated[int, Field(ge=0, le=1200)]] = Field(
        min_length=1, description="months of the knots, from the start date, increasing"
    )
    usd_per_hour: list[Annotated[float, Field(gt=0, le=1000)]] = Field(
        min_length=1, description="one-year contract price at each knot; its logarithm goes straight between them"
    )
    after: Literal["hold", "model"] = Field(
        default="hold", description="after the last month: hold its price, or go back to (2.9)"
    )

    @model_validator(mode="after")
    def _path(self) -> Self:
        check_path(self.months, self.usd_per_hour, "usd_per_hour")
        return self


class Overhang(Table):
    """Released chips press on prices (2.7, 2.8): impact α, absorption κ_V, own weight w, outside calendar."""

    impact: Annotated[float, Field(ge=0, le=20)] = Field(
        default=0.0, description="α: fall of the log price when the overhang is one depth of the market (2.9)"
    )
    absorption: Speed = Field(default=0.0, description="speed κ_V at which released chips are absorbed, a year (2.7)")
    own_weight: Share = Field(
        default=1.0, description="weight w of a generation's own overhang against the mean of all (2.8)"
    )
    calendar: list[OutsideExpiry] = Field(
        default=[], description="chips that come off contracts outside the book (2.7)"
    )


class Utilisation(Table):
    """Share of hours that uncontracted chips are let: clip(level + slope·M, low, high) (2.10)."""

    level: Share = Field(default=1.0, description="share u_0 of hours let at log demand 0 (2.10)")
    slope: Annotated[float, Field(ge=-10, le=10)] = Field(
        default=0.0, description="u_1: change of the share for one of log demand (2.10)"
    )
    low: Share = Field(default=0.0, description="least share u_min (2.10)")
    high: Share = Field(default=1.0, description="largest share u_max (2.10)")

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.low > self.high:
            raise BrokenRule("order", "low", f"low ({self.low}) exceeds high ({self.high})")
        return self


class Costs(Table):
    """Cash cost of an hour (2.9): its rise a year and the share φ of it below which no price falls (0: no floor)."""

    rise: Annotated[float, Field(ge=-1, le=1)] = Field(
        default=0.0, description="rise of the log cash cost, a year (2.9)"
    )
    floor_share: Annotated[float, Field(ge=0, le=2)] = Field(
        default=0.0, description="φ: no contract price falls below this share of the cash cost; 0: no floor (2.9)"
    )


class Value(Table):
    """What a chip is worth to a buyer (2.11): yield, expected decline of rent, and the ageing of the cap ζ."""

    buyers_yield: Annotated[float, Field(ge=0, le=5)] = Field(
        description="yield a year that a buyer of used chips asks (2.11)"
    )
    expected_decline: Annotated[float, Field(ge=-2, le=5)] = Field(
        default=0.0, description="fall of rent a year that a buyer expects, a continuous rate (2.11)"
    )
    ageing: Annotated[float, Field(ge=0, le=5)] = Field(
        default=0.0, description="ζ: fall of the log of the value's cap with age, a year (2.11)"
    )


class Contracts(Table):
    """Contracts (5.2, 5.3): share of the price that is paid, renewal probability by regime, term and discount."""

    paid_share: Share = Field(default=1.0, description="share of a contract's hours that is paid (5.3)")
    renewal: list[Share] = Field(
        description="probability in each regime that a tenant renews at the end of its contract (5.2)"
    )
    renewal_term_months: Annotated[int, Field(ge=1, le=600)] = Field(
        default=12, description="months of a renewal (5.2)"
    )
    renewal_discount: Share = Field(
        default=0.0, description="discount of a renewal to the contract price of the day, a fraction (5.2)"
    )


class Recovery(Table):
    """After a default (6.1-6.4)."""

    step_in: Share = Field(
        default=0.0, description="probability p_step that the lender steps in and keeps live contracts (6.2)"
    )
    performance: Share = Field(default=1.0, description="share of a kept contract's margin that comes in (6.2)")
    opex_stress: Annotated[float, Field(ge=0, le=10)] = Field(
        default=1.0, description="factor on cash costs after step-in (6.2)"
    )
    lenders_yield: Annotated[float, Field(ge=0, le=5)] = Field(
        default=0.0, description="yield y_L a year at which recoveries are discounted, a continuous rate (6)"
    )
    lag_mean_months: Annotated[float, Field(gt=0, le=120)] = Field(
        default=1.0, description="mean of the Gamma lag from default to sale, months (6.3)"
    )
    lag_shape: Annotated[float, Field(gt=0.01, le=1000)] = Field(
        default=1.0, description="shape of the Gamma lag (6.3)"
    )
    lag_max_months: Annotated[int, Field(ge=1, le=120)] = Field(default=24, description="longest lag, months (6.3)")
    haircut_mean: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0, description="mean of the Beta haircut on chips in a forced sale, a fraction of their value (6.3)"
    )
    haircut_sd: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0, description="standard deviation of the haircut, a fraction; 0: fixed (6.3)"
    )
    sale_cost: Share = Field(default=0.0, description="cost of a sale, a fraction of the proceeds (6.3)")
    sale_impact: Annotated[float, Field(ge=0, le=20)] = Field(
        default=0.0, description="α_s: fall of the log proceeds when a loan's chips are one depth of their market (6.3)"
    )
    storage_share: Annotated[float, Field(ge=0, le=10)] = Field(
        default=0.0, description="cost of idle chips until the sale, a fraction of their cash cost (6.3)"
    )

    @model_validator(mode="after")
    def _beta(self) -> Self:
        check_beta("haircut_mean", self.haircut_mean, "haircut_sd", self.haircut_sd)
        return self


class GpuMarket(Table):
    """The GPU part of the market; needed as soon as a loan is secured by chips."""

    spot: Spot = Field(default=Spot(), description="spot market")
    generations: list[Generation] = Field(min_length=1, max_length=32, description="chip types, one table each")
    generation_factors: GenerationFactors = Field(
        default=GenerationFactors(), description="what moves single generations"
    )
    launches: Launches | None = Field(
        default=None, description="launches of the makers of the chips above; not given: none"
    )
    rival_launches: Launches | None = Field(
        default=None, description="a second family of launches that hits all chips (2.6); not given: none"
    )
    overhang: Overhang = Field(default=Overhang(), description="pressure of released chips on prices")
    forced_prices: list[ForcedPrice] = Field(
        default=[], max_length=32, description="price paths that replace the simulated ones, one table a generation"
    )
    utilisation: Utilisation = Field(default=Utilisation(), description="hours let on the spot market")
    costs: Costs = Field(default=Costs(), description="cash costs")
    value: Value = Field(description="value of chips to a buyer")
    contracts: Contracts = Field(description="contracts and renewals")
    recovery: Recovery = Field(default=Recovery(), description="recovery after a default")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _refuse(broken_gpu_links(self.model_dump()))
        matrix = self.generation_factors.correlation
        if matrix is not None:
            check_correlation(matrix, len(self.generations), "generation_factors.correlation")
        return self


class Market(Table):
    """The whole of market.toml."""

    start_date: datetime.date = Field(description="date of month 0")
    horizon_months: Annotated[int, Field(ge=1, le=600)] = Field(
        description="horizon H, months: defaults count in months 1 to H"
    )
    base_rate: BaseRate = Field(default=BaseRate(rates=[0.0]), description="the lender's base curve")
    regimes: Regimes = Field(default=Regimes(), description="regimes of the market")
    demand: Demand = Field(default=Demand(), description="log demand for GPU hours")
    hazard_classes: list[HazardClass] = Field(
        min_length=1, max_length=64, description="default intensities of borrowers and tenants, one table each"
    )
    dependence: Dependence = Field(default=Dependence(), description="how defaults move together")
    gpu: GpuMarket | None = Field(
        default=None, description="prices and values of chips; needed as soon as a loan has deployments"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _refuse(broken_links(self.model_dump()))
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
