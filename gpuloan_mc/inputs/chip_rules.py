"""Rules of deployments and of obligors' loadings."""

from __future__ import annotations

import numpy as np

from ..text import shown
from .limits import MAX_CHIPS, MAX_DEPLOYMENTS, MAX_VINTAGES
from .view import View


def check_obligors(view: View) -> None:
    """What the factors explain of an obligor's quality is less than all of it."""
    dependence, obligors = view.market.dependence, view.frames["obligors"]
    loadings = np.column_stack([obligors[f"loading_{f}"].to_numpy(np.float64) for f in dependence.factors])
    loadings = np.where(view.good["obligors"][:, None], loadings, 0)
    matrix = np.array(dependence.correlation or np.eye(len(dependence.factors)), dtype=np.float64)
    explained = np.einsum("ij,jk,ik->i", loadings, matrix, loadings)
    view.report(
        "obligors", explained > 0.9999, "loadings",
        lambda i: f"the loadings explain {explained[i]:.4f} of the variance; it must be below 1", column="loading_demand",
    )  # fmt: skip


def check_deployments(view: View) -> None:
    """Contract terms of each deployment; number and first service of each loan's."""
    if "deployments" not in view.tapes or not len(view.deployments):
        return
    deployments, loans = view.deployments, view.loans
    let = deployments["tenant_id"] != ""
    priced, timed = deployments["price_usd_per_hour"].notna(), deployments["contract_months"] > 0
    view.report(
        "deployments", let & ~(priced & timed), "contract",
        lambda i: "a tenant needs price_usd_per_hour and contract_months", column="tenant_id",
    )  # fmt: skip
    view.report(
        "deployments", ~let & (priced | timed), "contract",
        lambda i: "price_usd_per_hour and contract_months need a tenant_id", column="tenant_id",
    )  # fmt: skip
    sound = view.sound("deployments").groupby("loan_id")
    counts = sound.size().reindex(loans["loan_id"]).fillna(0).to_numpy()
    view.report(
        "loans", counts > MAX_DEPLOYMENTS, "too-many-deployments",
        lambda i: f"the loan has {counts[i]:.0f} deployments; at most {MAX_DEPLOYMENTS}", column="loan_id",
    )  # fmt: skip
    first = sound["in_service_month"].min().reindex(loans["loan_id"]).fillna(0).to_numpy()
    view.report(
        "loans", first > loans["term_months"].to_numpy(), "service-after-term",
        lambda i: f"no chip is in service before month {first[i]:.0f}, after the loan's term", column="term_months",
    )  # fmt: skip


def check_chip_totals(view: View) -> None:
    """What only all deployments together can break."""
    if "deployments" not in view.tapes:
        return
    if view.market.gpu is None and len(view.deployments):
        view.file("deployments", "no-gpu-market", "the book has deployments, but market.toml has no [gpu] part")
    sound = view.sound("deployments")
    for name, chips in sound.groupby("gpu")["units"].sum().items():
        if chips > MAX_CHIPS:
            found = f"{chips:,} chips of {shown(name)} in the book; at most {MAX_CHIPS:,}"
            view.file("deployments", "too-many-chips", found, column="units")
    vintages = len(sound[["gpu", "in_service_month"]].drop_duplicates())
    if vintages > MAX_VINTAGES:
        found = f"the book has {vintages} vintages (gpu, in_service_month); at most {MAX_VINTAGES}"
        view.file("deployments", "too-many-vintages", found, column="in_service_month")
