"""The columns of the tapes: one table that reading, checking and the documentation share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .limits import MAX_BALANCE_USD, MAX_CHIPS

Kind = Literal["id", "text", "choice", "money", "number", "months", "count"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a tape. A `default` of None with `required` False means blank: not given."""

    name: str
    kind: Kind
    required: bool
    default: float | int | str | None
    low: float | None
    high: float | None
    meaning: str
    choices: tuple[str, ...] = ()
    above_low: bool = False  # the value must exceed `low`, not just reach it


def _c(
    name: str, kind: Kind, default: float | int | str | None, low: float | None, high: float | None, meaning: str
) -> Column:
    return Column(name, kind, False, default, low, high, meaning)


def _need(
    name: str, kind: Kind, low: float | None, high: float | None, meaning: str, above_low: bool = False
) -> Column:
    return Column(name, kind, True, None, low, high, meaning, (), above_low)


AMORTISATIONS = ("annuity", "linear", "bullet", "schedule")

LOANS = (
    _need("loan_id", "id", None, None, "the loan's name; draws depend on it"),
    _need("borrower_id", "id", None, None, "the parent, an obligor_id"),
    _need("balance_usd", "money", 0, MAX_BALANCE_USD, "drawn balance at month 0"),
    _c("rate", "number", None, -0.5, 2, "all-in interest a year; give this or spread"),
    _c("spread", "number", None, -0.5, 2, "interest a year over the market's base curve; give this or rate"),
    Column("amortisation", "choice", False, "bullet", None, None, "how principal is paid", AMORTISATIONS),
    _need("term_months", "months", 1, 600, "month of maturity"),
    _c(
        "interest_only_months",
        "months",
        0,
        0,
        600,
        "months of interest only, from the first month in which debt service is due",
    ),
    _c("undrawn_usd", "money", 0, 0, MAX_BALANCE_USD, "commitment still to be drawn"),
    _c("draw_month", "months", None, 0, 600, "month at whose opening the undrawn part is drawn; blank or 0: none"),
    _c("reserve_usd", "money", 0, 0, MAX_BALANCE_USD, "debt service reserve at month 0"),
    _c("reserve_months", "number", 0, 0, 120, "the reserve's target, months of debt service"),
    _c("dscr_lockup", "number", 0, 0, 100, "DSCR below which all surplus prepays; 0: never"),
    _c("dscr_default", "number", 0, 0, 100, "DSCR below which a month counts towards covenant default; 0: never"),
    _c("dscr_default_months", "count", 1, 1, 600, "months running below dscr_default that are a default"),
    _c("ltv_cap", "number", 0, 0, 100, "LTV above which all surplus prepays; 0: no cap"),
    _c("refinance_ltv", "number", 0, 0, 100, "largest share of the chips' value refinanced at maturity; 0: never"),
    _c("sweep_share", "number", 0, 0, 1, "share of surplus that prepays"),
    _c("support_usd", "money", 0, 0, MAX_BALANCE_USD, "the parent's support, in total"),
    _c(
        "remoteness", "number", 0, 0, 1, "probability that the borrower's SPV is not pulled in when the parent defaults"
    ),
    _c("guarantee_share", "number", 0, 0, 1, "share of a loss that a guarantor pays"),
    _c("lgd", "number", None, 0, 1, "mean loss given default of a plain loan (one without deployments); needed there"),
    _c("lgd_sd", "number", 0, 0, 0.5, "standard deviation of a Beta LGD; 0: fixed"),
    _c("lgd_loading", "number", 0, 0, 0.999, "loading of the LGD on bad demand"),
)

DEPLOYMENTS = (
    _need("deployment_id", "id", None, None, "the deployment's name; draws depend on it"),
    _need("loan_id", "id", None, None, "the loan it secures"),
    _need("gpu", "text", None, None, "a generation of market.toml"),
    _need("units", "count", 1, MAX_CHIPS, "chips"),
    _c("in_service_month", "months", 0, -600, 600, "month from which the chips earn; 0 or before: in service"),
    _c("tenant_id", "id", None, None, None, "the tenant, an obligor_id; blank: spot market"),
    _c("price_usd_per_hour", "number", None, 0, 1000, "contract price of a chip's hour; needed with a tenant"),
    _c(
        "contract_months",
        "months",
        None,
        0,
        600,
        "months let, from month 0 or from in_service_month if later; needed with a tenant",
    ),
    _c("opex_usd_per_hour", "number", None, 0, 100, "cash cost of a chip's hour; blank: the market's"),
)

OBLIGORS = (
    _need("obligor_id", "id", None, None, "the party's name in the other tapes; draws depend on it"),
    _c("name", "text", "", None, None, "for people"),
    _need("hazard_class", "text", None, None, "a hazard class of market.toml"),
    _c("pd_scale", "number", 1, 0, 1000, "multiplies the class's hazard"),
    _c(
        "default_month",
        "months",
        None,
        0,
        600,
        "month in which the party defaults in every path, whatever is drawn; blank or 0: as drawn",
    ),
    _c(
        "loading_demand",
        "number",
        0,
        -0.999,
        0.999,
        "loading on GPU demand; loading_<factor> for each other factor of market.toml",
    ),
)

SCHEDULES = (
    _need("loan_id", "id", None, None, "a loan with amortisation = schedule"),
    _need("month", "months", 1, 600, "month in which the principal is due"),
    _need("principal_usd", "money", 0, MAX_BALANCE_USD, "scheduled principal"),
)

PRICES = (
    _need("month", "months", -600, 600, "month of the observation, from the start date; before it: below 0"),
    _need("gpu", "text", None, None, "a generation of market.toml"),
    _need("price_usd_per_hour", "number", 0, 1000, "contract price of a chip's hour that was observed", True),
)

TAPES: dict[str, tuple[Column, ...]] = {
    "loans": LOANS,
    "deployments": DEPLOYMENTS,
    "obligors": OBLIGORS,
    "schedules": SCHEDULES,
    "prices": PRICES,  # observed; shown beside what is simulated, and no part of it
}
