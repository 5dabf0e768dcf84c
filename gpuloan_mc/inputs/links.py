"""Ids: that they differ, that what they refer to is there, and what becomes of rows whose parent is not."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..text import shown
from .view import View, is_in

if TYPE_CHECKING:
    import pandas as pd

IDS = {"loans": "loan_id", "deployments": "deployment_id", "obligors": "obligor_id"}

# child tape, its column, parent tape, rule
PARENTS = (
    ("loans", "borrower_id", "obligors", "unknown-borrower"),
    ("deployments", "loan_id", "loans", "unknown-loan"),
    ("deployments", "tenant_id", "obligors", "unknown-tenant"),
    ("schedules", "loan_id", "loans", "unknown-loan"),
)
_NAMED = {"loans": "the loans tape", "obligors": "the obligors tape"}


def folded(text: str) -> str:
    """What two ids have in common that people would take for the same: NFKC, case, zero-width characters, spaces."""
    if text.isascii():
        return text.casefold()
    plain = unicodedata.normalize("NFKC", text).casefold()
    visible = "".join(c for c in plain if unicodedata.category(c) != "Cf")
    return " ".join(unicodedata.normalize("NFKC", visible).split())


def check_links(view: View) -> None:
    """Ids differ and are known. All rows that have values are looked at, those with other problems too."""
    for name in IDS:
        if name in view.tapes:
            _check_ids(view, name)
    if "schedules" in view.tapes:
        rows = view.schedules
        view.report(
            "schedules", rows.duplicated(["loan_id", "month"]), "duplicate-month",
            lambda i: f"month {rows['month'][i]} of loan {shown(rows['loan_id'][i])} stands there before", column="month",
        )  # fmt: skip
    if "prices" in view.tapes:
        seen = view.frames["prices"]
        view.report(
            "prices", seen.duplicated(["gpu", "month"]), "duplicate-price",
            lambda i: f"month {seen['month'][i]} of {shown(seen['gpu'][i])} stands there before", column="month",
        )  # fmt: skip
    for child, column, parent, rule in PARENTS:
        if child in view.tapes:
            _check_known(view, child, column, view.frames[parent][IDS[parent]], _NAMED[parent], rule)
    gpus = [g.name for g in view.market.gpu.generations] if view.market.gpu is not None else []
    if "deployments" in view.tapes and gpus:
        _check_known(view, "deployments", "gpu", gpus, "market.toml's gpu.generations", "unknown-gpu")
    if "prices" in view.tapes:
        _check_known(view, "prices", "gpu", gpus, "market.toml's gpu.generations", "unknown-gpu")
    classes = [c.name for c in view.market.hazard_classes]
    _check_known(view, "obligors", "hazard_class", classes, "market.toml's hazard_classes", "unknown-class")


def _check_ids(view: View, name: str) -> None:
    column = IDS[name]
    ids = view.frames[name][column]
    again = np.asarray(ids.duplicated() & (ids != ""))
    before = "stands there before; ids must differ"
    view.report(
        name, again, "duplicate-id", lambda i: f"{column} {shown(ids[i])} {before}", column=column, even_bad=True
    )
    plain = _folded_all(ids)
    if plain.nunique() == len(ids) - again.sum():
        return
    alike = np.asarray(plain.duplicated() & (plain != "")) & ~again
    first = {key: i for i, key in reversed(list(enumerate(plain)))}

    def found(i: int) -> str:
        other = first[plain[i]]
        row = view.tapes[name].row(int(view.positions[name][other]))
        return f"{column} {shown(ids[i])} looks like {shown(ids[other])} of row {row}"

    view.report(name, alike, "similar-id", found, column=column, even_bad=True)


def _folded_all(ids: pd.Series) -> pd.Series:
    import pyarrow as pa
    import pyarrow.compute as pc

    array = pa.array(ids, type=pa.large_string())
    if pc.all(pc.string_is_ascii(array)).as_py() is not False:
        return pc.utf8_lower(array).to_pandas()  # type: ignore[no-any-return]
    return ids.map(folded)


def _check_known(view: View, name: str, column: str, known: Sequence[str] | pd.Series, place: str, rule: str) -> None:
    values = view.frames[name][column]
    wrong = ~is_in(values, known) & (values != "").to_numpy()
    if not wrong.any():
        return
    names = list(known)
    alike = {folded(k): k for k in names}

    def hint(i: int) -> str:
        same = alike.get(folded(values[i]))
        return f"did you mean {shown(same)}?" if same else view.findings.suggest(rule, values[i], names)

    view.report(
        name,
        wrong,
        rule,
        lambda i: f"{column} {shown(values[i])} is not in {place}",
        column=column,
        hint=hint,
        even_bad=True,
    )


def reject_families(view: View) -> None:
    """Mark rows whose parent is bad, and loans of which every deployment or schedule row is; until none is left."""
    bad = view.findings.bad
    while True:
        before = sum(int(b.sum()) for b in bad.values())
        for child, column, parent, _ in PARENTS:
            if child in view.tapes:
                _reject_children(view, child, column, parent)
        for child in ("deployments", "schedules"):
            _reject_childless(view, child)
        if sum(int(b.sum()) for b in bad.values()) == before:
            return


def _reject_children(view: View, child: str, column: str, parent: str) -> None:
    bad = view.findings.bad
    kept = view.frames[parent].loc[~bad[parent], IDS[parent]]
    values = view.frames[child][column]
    orphan = ~is_in(values, kept) & (values != "").to_numpy() & ~bad[child]
    view.report(
        child, orphan, "parent-rejected", lambda i: f"{column} {shown(values[i])}: that row was rejected", column=column
    )


def _reject_childless(view: View, child: str) -> None:
    bad, loans = view.findings.bad, view.loans["loan_id"]
    owners = view.frames[child]["loan_id"]
    lost = is_in(loans, owners) & ~is_in(loans, owners[~bad[child]]) & ~bad["loans"]
    view.report(
        "loans", lost, "children-rejected", lambda i: f"every row of loan {shown(loans[i])} in {child} was rejected",
        column="loan_id",
    )  # fmt: skip
