"""A book as it stands: its plan read at month 0, with scheduled debt and contracts as signed. No path is simulated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .market import Market
from .plan import Plan
from .planning import build_plan, loan_schedules
from .reference import loans as reference_loans
from .reference import market as reference_market
from .reference.arithmetic import F64, I32, I64

if TYPE_CHECKING:
    import pandas as pd

    from .portfolio import Portfolio

CENTS = 100.0
_ANY_SEED = 0  # month 0 has no draws: every path and seed agree on it
_PATHS = reference_market.path_numbers(0, 1)


@dataclass(frozen=True)
class Outlook:
    """A planned book, its scheduled balances and the prices of month 0.

    `opening` and `closing` are dollars (n_loans, n_months + 1), rows as in the loan tape: the balance on which a
    month's interest runs, and what is owed when the month is over, before the next month's draw. The months reach
    to the end of all debt, also beyond the market's horizon.
    """

    portfolio: Portfolio
    market: Market
    plan: Plan
    opening: F64
    principal: F64
    closing: F64
    prices: reference_market.Prices | None  # None: no chips

    @classmethod
    def of(cls, portfolio: Portfolio, market: Market) -> Outlook:
        """The outlook of a book.

        Raises:
            InputRejected: the book cannot be planned.
        """
        loans, horizon = portfolio.loans, market.horizon_months
        as_given = market.replace(dependence=market.dependence.replace(pd="as-given"))  # nobody defaults: no pilot
        served = int(portfolio.deployments.groupby("loan_id")["in_service_month"].min().to_numpy().max(initial=1))
        plan = build_plan(portfolio, as_given.replace(horizon_months=max(served, horizon)))
        first = np.ones(len(loans), dtype=np.int64)
        first[plan.loans.index] = plan.loans.first_month
        to_the_end = as_given.replace(horizon_months=max(int(loans["term_months"].max()), horizon))
        opening, principal = loan_schedules(loans, portfolio, first, to_the_end)
        dollars = (loans["balance_usd"] + loans["undrawn_usd"]).to_numpy(np.float64)[:, None]
        opening, principal = opening * dollars, principal * dollars
        prices = _month_0(plan) if len(plan.loans.index) else None
        return cls(portfolio, market, plan, opening, principal, _closing(opening, loans), prices)

    @property
    def n_years(self) -> int:
        """Years until the last loan matures, the last one rounded up."""
        return -(-int(self.portfolio.loans["term_months"].max()) // 12)

    @property
    def commitment_usd(self) -> F64:
        """Balance and undrawn of the GPU loans, (n_gpu_loans,)."""
        return np.asarray(self.plan.loans.commitment_cents / CENTS)

    @property
    def contract_end(self) -> I64:
        """Last month that each deployment's contract pays, (n_deployments,); 0: spot market."""
        deployments = self.plan.deployments
        return np.where(deployments.tenant >= 0, deployments.contract_end, 0).astype(np.int64)

    @property
    def monthly_rent_usd(self) -> F64:
        """What each deployment's contract pays a month, (n_deployments,) dollars; 0: spot market (docs/model.md 5.3)."""
        deployments = self.plan.deployments
        share = deployments.hours.astype(np.float64) * deployments.contract_rate
        return np.asarray(share * self.commitment_usd[deployments.loan])

    @property
    def chip_values_usd(self) -> F64:
        """Value at month 0 of one chip of each deployment, (n_deployments,) (docs/model.md 2.11)."""
        if self.prices is None:
            return np.zeros(0)
        return np.asarray(self.prices.values[0, self.plan.deployments.vintage], dtype=np.float64)

    def owed(self, month: int) -> F64:
        """Scheduled debt of each loan after a month, (n_loans,) dollars; 0 when the months are over."""
        return self.closing[:, month] if month < self.closing.shape[1] else np.zeros(len(self.closing))

    def months_paid(self, first: int, last: int | None = None) -> I64:
        """Months from `first` to `last` (None: without end) that each deployment's contract pays, (n_deployments,)."""
        end = self.contract_end if last is None else np.minimum(self.contract_end, last)
        return np.maximum(end - np.maximum(self.plan.deployments.start, first) + 1, 0)

    def first_service(self) -> pd.DataFrame:
        """GPU loans in the first month in which debt service is due, at the prices of month 0: a row a loan, by id.

        Columns: loan_id, month; in dollars balance_usd (opening), income_usd (NOI), service_usd (interest and scheduled
        principal), value_usd (chips then in service), reserve_usd; dscr, ltv, reserve_months, not finite where the
        divisor is 0; below_lockup, below_default, above_ltv_cap by the tests of docs/model.md (5.4) and (5.5).
        """
        import pandas as pd

        loans, place = self.plan.loans, self.plan.loans.index
        month, balance = loans.first_month, self.opening[place, loans.first_month]
        rate, income, value = self._month_of_each_loan(month)
        frame = pd.DataFrame(
            {
                "loan_id": self.portfolio.loans["loan_id"].to_numpy(object)[place],
                "month": month,
                "balance_usd": balance,
                "income_usd": income * self.commitment_usd,
                "service_usd": balance * rate + self.principal[place, month],
                "value_usd": value * self.commitment_usd,
                "reserve_usd": loans.reserve * self.commitment_usd,
            }
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            return frame.assign(
                dscr=frame["income_usd"] / frame["service_usd"],
                ltv=frame["balance_usd"] / frame["value_usd"],
                reserve_months=frame["reserve_usd"] / frame["service_usd"],
                below_lockup=frame["income_usd"] < loans.dscr_lockup * frame["service_usd"],
                below_default=frame["income_usd"] < loans.dscr_default * frame["service_usd"],
                above_ltv_cap=(loans.ltv_cap > 0) & (frame["balance_usd"] > loans.ltv_cap * frame["value_usd"]),
            )

    def _month_of_each_loan(self, month: I32) -> tuple[F64, F64, F64]:
        """Rate, NOI and chips' value of each GPU loan in its own month, at month 0's prices; fractions of commitment."""
        plan, n_loans = self.plan, len(month)
        rate, income, value = np.zeros((3, n_loans))
        if self.prices is None:
            return rate, income, value
        state, chains = reference_loans.initial_loans(plan, _ANY_SEED, _PATHS), reference_loans.slots(plan.loans)
        for t in np.unique(month):
            due = month == t
            rate[due] = reference_loans.monthly_rates(plan, t)[due]
            income[due] = reference_loans.net_income(plan, t, state, self.prices, chains)[0, due]
            value[due] = reference_loans.collateral(plan, t, self.prices, chains, n_loans)[0, due]
        return rate, income, value


def _month_0(plan: Plan) -> reference_market.Prices:
    state = reference_market.initial_state(plan.market, len(_PATHS))
    launched = reference_market.launches(plan.market, _ANY_SEED, _PATHS)
    demand = np.full(len(_PATHS), plan.market.initial_demand)
    return reference_market.prices(plan.market, 0, demand, state, launched)


def _closing(opening: F64, loans: pd.DataFrame) -> F64:
    """What is owed after each month: the next opening balance without its draw; nothing after the last month."""
    closing = np.zeros_like(opening)
    closing[:, :-1] = opening[:, 1:]
    drawn = np.nonzero((loans["draw_month"] > 0).to_numpy())[0]
    before = loans["draw_month"].to_numpy(np.int64)[drawn] - 1
    closing[drawn, before] -= loans["undrawn_usd"].to_numpy(np.float64)[drawn]
    return np.maximum(closing, 0)  # 1e-17 of a commitment may be left of a difference
