"""Rules of loans and of their schedules."""

from __future__ import annotations

import numpy as np

from ..text import shown
from .limits import MAX_BALANCE_USD, MAX_LGD_KINDS
from .view import View, is_in


def check_loans(view: View) -> None:
    """Rate, draw, amounts, LGD, schedule of each loan."""
    _terms(view)
    _lgd(view)
    _schedules(view)


def _terms(view: View) -> None:
    loans = view.loans
    given = loans["rate"].notna().astype(int) + loans["spread"].notna()
    view.report(
        "loans", given != 1, "rate-or-spread",
        lambda i: f"exactly one of rate and spread is needed; {'both are' if given[i] else 'neither is'} given", column="rate",
    )  # fmt: skip
    draws, month = loans["undrawn_usd"] > 0, loans["draw_month"]
    view.report(
        "loans", draws & (month == 0), "draw-month", lambda i: "undrawn_usd needs a draw_month", column="draw_month"
    )
    view.report(
        "loans",
        ~draws & (month > 0),
        "draw-month",
        lambda i: "draw_month needs an undrawn_usd above 0",
        column="draw_month",
    )
    view.report(
        "loans", draws & (month > loans["term_months"]), "draw-month",
        lambda i: f"draw_month is {month[i]}, after the loan's term", column="draw_month",
    )  # fmt: skip
    nothing = loans["balance_usd"] + loans["undrawn_usd"] < 0.01
    view.report(
        "loans", nothing, "no-balance", lambda i: "balance_usd and undrawn_usd are both 0", column="balance_usd"
    )


def _lgd(view: View) -> None:
    loans, secured = view.loans, view.secured
    lgd, sd, given = loans["lgd"], loans["lgd_sd"], loans["lgd"].notna()
    view.report(
        "loans", ~secured & ~given, "lgd-missing", lambda i: "a loan without deployments needs lgd", column="lgd"
    )
    view.report(
        "loans", secured & (given | (sd > 0) | (loans["lgd_loading"] != 0)), "lgd-of-gpu-loan",
        lambda i: "the loan has deployments, and lgd, lgd_sd or lgd_loading", column="lgd",
    )  # fmt: skip
    view.report(
        "loans", (sd > 0) & given & (sd**2 >= lgd * (1 - lgd)), "lgd-sd",
        lambda i: f"lgd_sd is {sd[i]:g}; with lgd {lgd[i]:g} it must be below {np.sqrt(lgd[i] * (1 - lgd[i])):.4g}",
        column="lgd_sd",
    )  # fmt: skip


def _schedules(view: View) -> None:
    loans, schedules = view.loans, view.schedules
    missing = (loans["amortisation"] == "schedule") & ~is_in(loans["loan_id"], schedules["loan_id"])
    view.report(
        "loans", missing, "no-schedule", lambda i: "amortisation is schedule, but the schedules tape has no row for it",
        column="amortisation",
    )  # fmt: skip
    if "schedules" not in view.tapes:
        return
    owner = schedules["loan_id"]
    mine = view.sound("loans").set_index("loan_id").reindex(owner)
    known = mine["term_months"].notna().to_numpy()
    other = known & (mine["amortisation"] != "schedule").to_numpy()
    view.report(
        "schedules", other, "not-scheduled", lambda i: f"the amortisation of loan {shown(owner[i])} is not schedule",
        column="loan_id",
    )  # fmt: skip
    late = known & (schedules["month"].to_numpy() > mine["term_months"].fillna(0).to_numpy())
    view.report(
        "schedules", late, "after-term", lambda i: f"month {schedules['month'][i]} lies after the term of loan {shown(owner[i])}",
        column="month",
    )  # fmt: skip
    paid = (
        view.sound("schedules").groupby("loan_id")["principal_usd"].sum().reindex(loans["loan_id"]).fillna(0).to_numpy()
    )
    owed = (loans["balance_usd"] + loans["undrawn_usd"]).fillna(0).to_numpy()
    view.report(
        "loans", paid > owed + 0.005, "over-scheduled",
        lambda i: f"the schedule pays {paid[i]:.2f}, more than the {owed[i]:.2f} lent", column="balance_usd",
    )  # fmt: skip


def check_loan_totals(view: View) -> None:
    """What only all loans together can break."""
    if not view.tapes["loans"].n_rows:
        view.file("loans", "no-loans", "there is no loan in it")
    loans = view.sound("loans")
    total = float((loans["balance_usd"] + loans["undrawn_usd"]).sum())
    if total > MAX_BALANCE_USD:
        found = f"the book is {total:g} dollars; at most {MAX_BALANCE_USD:g} are let in"
        view.file("loans", "book-size", found, column="balance_usd")
    random = ~view.secured[view.good["loans"]] & (loans["lgd_sd"] > 0).to_numpy()
    kinds = loans.loc[random, ["lgd", "lgd_sd"]].drop_duplicates()
    if len(kinds) > MAX_LGD_KINDS:
        found = f"{len(kinds)} distinct pairs of lgd and lgd_sd; at most {MAX_LGD_KINDS}"
        view.file("loans", "lgd-kinds", found, column="lgd_sd")
