"""A book cut by what can go wrong together: chips, years, parties, hazard classes. Frames for `profile`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .outlook import Outlook
from .planning import generation_order
from .tables import monthly_hazards

if TYPE_CHECKING:
    import pandas as pd


def chips(outlook: Outlook) -> pd.DataFrame:
    """Chips by generation and whole years in service, newest generation first.

    Columns: gpu, age_years (-1: not yet in service), chips, share (of the book's chips), value_usd at month 0, value_share.
    """
    import pandas as pd

    deployments, gpu = outlook.plan.deployments, outlook.market.gpu
    names = [gpu.generations[i].name for i in generation_order(gpu)] if gpu is not None else []
    age = np.where(deployments.in_service > 0, -1, -deployments.in_service // 12)
    frame = pd.DataFrame(
        {
            "generation": deployments.generation,
            "age_years": age,
            "chips": deployments.units,
            "value_usd": deployments.units * outlook.chip_values_usd,
        }
    )
    found = frame.groupby(["generation", "age_years"], as_index=False).sum()
    found = found.sort_values(["generation", "age_years"], ascending=[False, True], ignore_index=True)
    found.insert(0, "gpu", pd.Series([names[g] for g in found.pop("generation")], dtype=object))
    found.insert(3, "share", _shares(found["chips"]))
    return found.assign(value_share=_shares(found["value_usd"]))


def years(outlook: Outlook) -> pd.DataFrame:
    """Debt against contracts at the start (year 0) and at the end of each year until the last loan matures.

    Columns: year; debt_usd, scheduled to be owed then; off_contract_usd, the part of it that rests on chips whose contract
    has ended by then or that never had one (a loan's debt spread over its chips); contracted_share of all chips;
    ending_chips, whose contract ends in the year; revenue_usd, contracted for the year.
    """
    import pandas as pd

    units, rent, end = outlook.plan.deployments.units, outlook.monthly_rent_usd, outlook.contract_end
    rows = []
    for year in range(outlook.n_years + 1):
        month = 12 * year
        let = end > month
        ending = (end > month - 12) & (end <= month)
        revenue = rent @ outlook.months_paid(month - 11, month).astype(np.float64)
        rows.append(
            {
                "year": year,
                "debt_usd": float(outlook.owed(month).sum()),
                "off_contract_usd": _off_contract(outlook, month),
                "contracted_share": float(units[let].sum() / units.sum()) if len(units) else np.nan,
                "ending_chips": int(units[ending].sum()) if year else 0,
                "revenue_usd": float(revenue) if year else 0.0,
            }
        )
    return pd.DataFrame(rows)


def _off_contract(outlook: Outlook, month: int) -> float:
    """Debt of the GPU loans after `month` on chips without a contract."""
    deployments, n_loans = outlook.plan.deployments, len(outlook.plan.loans.index)
    off = np.where(outlook.contract_end <= month, deployments.units, 0)
    share = np.bincount(deployments.loan, off, n_loans) / np.bincount(deployments.loan, deployments.units, n_loans)
    return float(outlook.owed(month)[outlook.plan.loans.index] @ share)


def maturities(outlook: Outlook) -> pd.DataFrame:
    """Loans by the year in which they mature.

    Columns: year, loans, commitment_usd today, last_payment_usd (principal due in the month of maturity).
    """
    import pandas as pd

    loans = outlook.portfolio.loans
    term = loans["term_months"].to_numpy(np.int64)
    frame = pd.DataFrame(
        {
            "year": (term + 11) // 12,
            "loans": 1,
            "commitment_usd": loans["balance_usd"] + loans["undrawn_usd"],
            "last_payment_usd": outlook.principal[np.arange(len(term)), term],
        }
    )
    return frame.groupby("year", as_index=False).sum()


def tenants(outlook: Outlook) -> pd.DataFrame:
    """Tenants by contracted revenue: obligor_id, name, hazard_class, chips, revenue_usd (months to run), share."""
    import pandas as pd

    tape = outlook.portfolio.deployments.sort_values(["loan_id", "deployment_id"])  # the plan's order
    frame = pd.DataFrame(
        {
            "obligor_id": tape["tenant_id"].to_numpy(object),
            "chips": outlook.plan.deployments.units,
            "revenue_usd": outlook.monthly_rent_usd * outlook.months_paid(1),
        }
    )
    return _by_size(outlook, frame[frame["obligor_id"] != ""], "revenue_usd")


def borrowers(outlook: Outlook) -> pd.DataFrame:
    """Borrowers by commitment: obligor_id, name, hazard_class, loans, commitment_usd, share."""
    import pandas as pd

    loans = outlook.portfolio.loans
    frame = pd.DataFrame(
        {
            "obligor_id": loans["borrower_id"],
            "loans": 1,
            "commitment_usd": loans["balance_usd"] + loans["undrawn_usd"],
        }
    )
    return _by_size(outlook, frame, "commitment_usd")


def _by_size(outlook: Outlook, frame: pd.DataFrame, size: str) -> pd.DataFrame:
    parties = outlook.portfolio.obligors[["obligor_id", "name", "hazard_class"]]
    totals = frame.groupby("obligor_id", as_index=False).sum()
    found = parties.merge(totals, on="obligor_id")
    found = found.sort_values([size, "obligor_id"], ascending=[False, True], ignore_index=True)
    return found.assign(share=_shares(found[size]))


def hazard_classes(outlook: Outlook, tenants: pd.DataFrame, borrowers: pd.DataFrame) -> pd.DataFrame:
    """Hazard classes in the market's order, those that the book uses.

    Columns: hazard_class, pd_1_year and pd_horizon (as given, at pd_scale 1), borrowers, commitment_share, tenants,
    revenue_share.
    """
    import pandas as pd

    classes, horizon = outlook.market.hazard_classes, outlook.market.horizon_months
    names, n_months = [c.name for c in classes], max(horizon, 12)
    hazards = [monthly_hazards(c.pd_by_year, c.pd_by_month, c.hazard, n_months) for c in classes]
    pds = -np.expm1(-np.cumsum(hazards, axis=1))
    frame = pd.DataFrame({"hazard_class": names, "pd_1_year": pds[:, 12], "pd_horizon": pds[:, horizon]})
    for count, share, parties in (("borrowers", "commitment_share", borrowers), ("tenants", "revenue_share", tenants)):
        of_class = parties.groupby("hazard_class")["share"]
        frame[count] = of_class.size().reindex(names, fill_value=0).to_numpy(np.int64)
        frame[share] = of_class.sum().reindex(names, fill_value=0.0).to_numpy(np.float64)
    return frame[(frame["borrowers"] > 0) | (frame["tenants"] > 0)].reset_index(drop=True)


def _shares(values: pd.Series) -> pd.Series:
    total = values.sum()
    return values / total if total > 0 else values * 0.0
