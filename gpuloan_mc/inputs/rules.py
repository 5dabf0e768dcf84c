"""Tapes judged: every column converted, every rule of the book checked, all findings at once."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import Problem
from ..market import Market
from .books import suggest
from .columns import MAX_BALANCE_USD, TAPES, Column
from .tapes import Tape

if TYPE_CHECKING:
    import pandas as pd

Mask = NDArray[np.bool_]
Frames = dict[str, "pd.DataFrame"]

MAX_DEPLOYMENTS = 8
MAX_CHIPS = 2**31 - 1
MAX_LGD_KINDS = 256
MAX_NAMES_COMPARED = 2000  # more than that, and 'did you mean' takes too long
_WHOLE = ("months", "count")
_TEXT = ("id", "text", "choice")
_GPU_ONLY = (
    "reserve_usd reserve_months dscr_lockup dscr_default ltv_cap refinance_ltv sweep_share support_usd remoteness"
).split()


class Findings:
    """Problems as they are found."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def add(self, where: str, message: str, rule: str) -> None:
        self.problems.append(Problem(where, message, rule))

    def rows(self, tape: Tape, wrong: Any, rule: str, message: Callable[[int], str]) -> None:
        """A problem for each row where `wrong`; `message` is given the row's position."""
        for position in np.nonzero(np.asarray(wrong, dtype=np.bool_))[0]:
            self.add(tape.row(int(position)), message(int(position)), rule)


# --- columns ----------------------------------------------------------------------------------------------------------


def convert(tape: Tape, findings: Findings, factors: tuple[str, ...]) -> tuple[pd.DataFrame, list[str]]:
    """A tape's typed columns in the order of `columns.TAPES`, and the names of the user's own columns.

    Text is trimmed; numbers are float64, months and counts int64. A blank optional cell takes the default; where there
    is none, text is "", numbers NaN, months 0.
    """
    import pandas as pd

    frame = tape.frame
    headers = [str(h).strip() for h in frame.columns]
    for name in sorted({h for h in headers if headers.count(h) > 1}):
        findings.add(tape.file, f"column {name} stands there twice; keep one", "doubled-column")
    frame = frame.set_axis(headers, axis=1)
    frame = frame.loc[:, ~frame.columns.duplicated()]
    known = [*TAPES[tape.name], *_factor_columns(tape.name, factors)]
    own = _own_columns(tape, headers, [c.name for c in known], findings)
    typed: dict[str, Any] = {}
    for column in known:
        if column.name in frame.columns:
            typed[column.name] = _column(tape, frame[column.name], column, findings)
        elif column.required:
            near = difflib.get_close_matches(column.name, own, n=1)
            hint = f" Is it {near[0]!r}?" if near else ""
            findings.add(tape.file, f"column {column.name} is missing ({column.meaning}).{hint}", "missing-column")
            typed[column.name] = _blank(column, len(frame))
        else:
            typed[column.name] = _blank(column, len(frame))
    for name in own:
        typed[name] = frame[name].map(_as_text).astype(object)
    return pd.DataFrame(typed, index=range(len(frame))), own


def _factor_columns(tape: str, factors: tuple[str, ...]) -> list[Column]:
    if tape != "obligors":
        return []
    others = [f for f in factors if f != "demand"]
    return [Column(f"loading_{f}", "number", False, 0, -0.999, 0.999, f"loading on the factor {f}") for f in others]


def _own_columns(tape: Tape, headers: list[str], known: list[str], findings: Findings) -> list[str]:
    """The user's segment columns of the loan tape; elsewhere, and for near misses of a known name, a problem."""
    own = []
    for header in dict.fromkeys(h for h in headers if h not in known):
        near = difflib.get_close_matches(header, known, n=1, cutoff=0.85)
        if tape.name == "loans" and not near and header and not header.startswith("Unnamed"):
            own.append(header)
        else:
            findings.add(tape.file, f"unknown column {header!r}.{suggest(header, known)}", "unknown-column")
    return own


def _as_text(value: Any) -> str:
    """A cell as trimmed text; whole floats of Parquet and frames lose their .0; missing is empty."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    text = str(value).strip()
    return "" if text == "<NA>" else text


def _blank(column: Column, n: int) -> Any:
    if column.kind in _TEXT:
        return np.full(n, column.default if column.default is not None else "", dtype=object)
    if column.kind in _WHOLE:
        return np.full(n, column.default or 0, dtype=np.int64)
    return np.full(n, np.nan if column.default is None else column.default, dtype=np.float64)


def _column(tape: Tape, cells: pd.Series, column: Column, findings: Findings) -> Any:
    if column.kind in _TEXT:
        return _text_column(tape, cells, column, findings)
    return _number_column(tape, cells, column, findings)


def _text_column(tape: Tape, cells: pd.Series, column: Column, findings: Findings) -> Any:
    text = cells.map(_as_text).to_numpy(object)
    blank = text == ""
    if column.required:
        findings.rows(tape, blank, "blank", lambda i: f"{column.name} is blank; it is needed ({column.meaning})")
    elif column.default:
        text = np.where(blank, column.default, text)
    if column.choices:
        wrong = ~np.isin(text.astype(str), column.choices)
        options = list(column.choices)
        findings.rows(
            tape, wrong, "choice",
            lambda i: f"{column.name} is {text[i]!r}; it must be one of {', '.join(options)}.{suggest(text[i], options)}",
        )  # fmt: skip
    return text


def _number_column(tape: Tape, cells: pd.Series, column: Column, findings: Findings) -> Any:
    import pandas as pd

    if pd.api.types.is_bool_dtype(cells):
        cells = cells.map(str)
    if pd.api.types.is_numeric_dtype(cells):
        text = cells
        values = cells.to_numpy(np.float64, na_value=np.nan)
        blank = np.isnan(values)
    else:
        text = cells.map(_as_text)
        blank = (text == "").to_numpy(np.bool_)
        values = pd.to_numeric(text.where(~blank, None), errors="coerce").to_numpy(np.float64, na_value=np.nan)
    shown = text.to_numpy(object)
    bad = ~blank & ~np.isfinite(values)
    findings.rows(tape, bad, "not-a-number", lambda i: f"{column.name} is {shown[i]!r}, which is not a finite number")
    if column.required:
        findings.rows(tape, blank, "blank", lambda i: f"{column.name} is blank; it is needed ({column.meaning})")
    good = ~blank & ~bad
    _check_range(tape, column, values, shown, good, findings)
    if column.kind in _WHOLE:
        broken = good & (values != np.rint(values))
        findings.rows(tape, broken, "not-whole", lambda i: f"{column.name} is {shown[i]}; it must be a whole number")
        whole = np.where(good, np.clip(np.rint(np.where(good, values, 0)), -(2**62), 2**62), column.default or 0)
        return whole.astype(np.int64)
    return np.where(good, values, np.nan if column.default is None else column.default)


def _check_range(tape: Tape, column: Column, values: Any, shown: Any, good: Mask, findings: Findings) -> None:
    low = -np.inf if column.low is None else column.low
    high = np.inf if column.high is None else column.high
    below = values <= low if column.above_low else values < low
    with np.errstate(invalid="ignore"):
        outside = good & (below | (values > high))
    bounds = f"{'(' if column.above_low else '['}{low:g}, {high:g}]"

    def message(i: int) -> str:
        text = f"{column.name} is {shown[i]}; it must lie in {bounds}."
        if column.kind == "number" and column.high is not None and column.high <= 2 and high < values[i] <= 100:
            text += f" Give it as a fraction: {values[i] / 100:g}, not {shown[i]}."
        return text

    findings.rows(tape, outside, "out-of-range", message)


# --- the book ---------------------------------------------------------------------------------------------------------


def check_book(tapes: dict[str, Tape], frames: Frames, market: Market, findings: Findings) -> None:
    """Rules that join columns, tapes and the market; those on amounts only once every cell is sound by itself."""
    sound = not findings.problems
    _unique(tapes, frames, findings)
    _references(tapes, frames, market, findings)
    if not sound:
        return
    _loan_rules(tapes["loans"], frames, market, findings)
    _plain_rules(tapes["loans"], frames, findings)
    _schedule_rules(tapes, frames, findings)
    _loading_rules(tapes["obligors"], frames["obligors"], market, findings)
    if len(frames["deployments"]):
        _deployment_rules(tapes["deployments"], tapes["loans"], frames, market, findings)


def _unique(tapes: dict[str, Tape], frames: Frames, findings: Findings) -> None:
    for name, column in (("loans", "loan_id"), ("deployments", "deployment_id"), ("obligors", "obligor_id")):
        if name in tapes:
            _unique_ids(tapes[name], frames[name][column], findings)
    if not len(frames["loans"]):
        findings.add(tapes["loans"].file, "there is no loan in it", "no-loans")
    if "schedules" in tapes:
        rows = frames["schedules"]
        again = rows.duplicated(["loan_id", "month"])
        findings.rows(
            tapes["schedules"],
            again,
            "duplicate-month",
            lambda i: f"month {rows['month'][i]} of loan {rows['loan_id'][i]} stands there before; add the amounts up",
        )


def _unique_ids(tape: Tape, ids: pd.Series, findings: Findings) -> None:
    again = ids.duplicated() & (ids != "")
    findings.rows(tape, again, "duplicate-id", lambda i: f"{ids.name} {ids[i]!r} stands there before; ids must differ")


def _references(tapes: dict[str, Tape], frames: Frames, market: Market, findings: Findings) -> None:
    obligors = list(frames["obligors"]["obligor_id"])
    loans = list(frames["loans"]["loan_id"])
    gpus = [g.name for g in market.gpu.generations] if market.gpu is not None else []
    classes = [c.name for c in market.hazard_classes]
    links: list[tuple[str, str, list[str], str, str]] = [
        ("loans", "borrower_id", obligors, "the obligors tape", "unknown-borrower"),
        ("deployments", "loan_id", loans, "the loans tape", "unknown-loan"),
        ("deployments", "tenant_id", obligors, "the obligors tape", "unknown-tenant"),
        ("deployments", "gpu", gpus, "market.toml's gpu.generations", "unknown-gpu"),
        ("obligors", "hazard_class", classes, "market.toml's hazard_classes", "unknown-class"),
        ("schedules", "loan_id", loans, "the loans tape", "unknown-loan"),
    ]
    for name, column, known, place, rule in links:
        if name in tapes:
            _known(tapes[name], frames[name][column], known, place, rule, findings)


def _known(tape: Tape, values: pd.Series, known: list[str], place: str, rule: str, findings: Findings) -> None:
    wrong = ~values.isin(set(known)) & (values != "")
    near = known if len(known) < MAX_NAMES_COMPARED else []
    findings.rows(
        tape, wrong, rule, lambda i: f"{values.name} {values[i]!r} is not in {place}.{suggest(values[i], near)}"
    )


def _loan_rules(tape: Tape, frames: Frames, market: Market, findings: Findings) -> None:
    loans = frames["loans"]
    both = loans["rate"].isna() == loans["spread"].isna()
    findings.rows(tape, both, "rate-or-spread", lambda i: "give exactly one of rate and spread")
    draws = loans["undrawn_usd"] > 0
    findings.rows(tape, draws & (loans["draw_month"] == 0), "draw-month", lambda i: "undrawn_usd needs a draw_month")
    findings.rows(
        tape, ~draws & (loans["draw_month"] > 0), "draw-month", lambda i: "draw_month needs an undrawn_usd above 0"
    )
    late = loans["draw_month"] > loans["term_months"]
    findings.rows(tape, late, "draw-month", lambda i: f"draw_month is {loans['draw_month'][i]}, after the loan's term")
    commitment = loans["balance_usd"] + loans["undrawn_usd"]
    findings.rows(
        tape, commitment < 0.01, "no-balance", lambda i: "balance_usd and undrawn_usd are both 0; drop the row"
    )
    if commitment.sum() > MAX_BALANCE_USD:
        findings.add(
            tape.file, f"the book is {commitment.sum():g} dollars; at most {MAX_BALANCE_USD:g} are let in", "book-size"
        )


def _secured(frames: Frames) -> Any:
    return frames["loans"]["loan_id"].isin(set(frames["deployments"]["loan_id"]))


def _plain_rules(tape: Tape, frames: Frames, findings: Findings) -> None:
    loans, secured = frames["loans"], _secured(frames)
    given = loans["lgd"].notna()
    findings.rows(
        tape, ~secured & ~given, "lgd-missing", lambda i: "a loan without deployments needs lgd; give it, or its chips"
    )
    findings.rows(
        tape, secured & (given | (loans["lgd_sd"] > 0) | (loans["lgd_loading"] != 0)), "lgd-of-gpu-loan",
        lambda i: "lgd, lgd_sd and lgd_loading are for loans without deployments; here the chips decide: leave them blank",
    )  # fmt: skip
    spread = loans["lgd_sd"] > 0
    impossible = spread & given & (loans["lgd_sd"] ** 2 >= loans["lgd"] * (1 - loans["lgd"]))
    findings.rows(
        tape, impossible, "lgd-sd",
        lambda i: f"lgd_sd is {loans['lgd_sd'][i]:g}; with lgd {loans['lgd'][i]:g} it must be below "
        f"{np.sqrt(loans['lgd'][i] * (1 - loans['lgd'][i])):.4g}",
    )  # fmt: skip
    kinds = loans.loc[spread & ~secured, ["lgd", "lgd_sd"]].drop_duplicates()
    if len(kinds) > MAX_LGD_KINDS:
        message = f"{len(kinds)} distinct pairs of lgd and lgd_sd; at most {MAX_LGD_KINDS}: round them"
        findings.add(tape.file, message, "lgd-kinds")


def _schedule_rules(tapes: dict[str, Tape], frames: Frames, findings: Findings) -> None:
    loans, schedules = frames["loans"], frames["schedules"]
    asked = loans["amortisation"] == "schedule"
    missing = asked & ~loans["loan_id"].isin(set(schedules["loan_id"]))
    findings.rows(
        tapes["loans"],
        missing,
        "no-schedule",
        lambda i: "amortisation is schedule, but the schedules tape has no row for it",
    )
    if "schedules" not in tapes:
        return
    tape, by_id = tapes["schedules"], loans.drop_duplicates("loan_id").set_index("loan_id")
    mine = by_id.reindex(schedules["loan_id"])
    known = schedules["loan_id"].isin(by_id.index).to_numpy()
    other = known & (mine["amortisation"] != "schedule").to_numpy()
    findings.rows(
        tape, other, "not-scheduled", lambda i: f"the amortisation of loan {schedules['loan_id'][i]} is not schedule"
    )
    late = known & (schedules["month"].to_numpy() > mine["term_months"].to_numpy())
    findings.rows(
        tape,
        late,
        "after-term",
        lambda i: f"month {schedules['month'][i]} lies after the term of loan {schedules['loan_id'][i]}",
    )
    paid = schedules.groupby("loan_id")["principal_usd"].sum().reindex(loans["loan_id"]).to_numpy()
    owed = (loans["balance_usd"] + loans["undrawn_usd"]).to_numpy()
    with np.errstate(invalid="ignore"):
        over = paid > owed + 0.005
    findings.rows(
        tapes["loans"],
        over,
        "over-scheduled",
        lambda i: f"the schedule pays {paid[i]:.2f}, more than the {owed[i]:.2f} lent",
    )


def _loading_rules(tape: Tape, obligors: pd.DataFrame, market: Market, findings: Findings) -> None:
    factors = market.dependence.factors
    loadings = np.column_stack([obligors[f"loading_{f}"].to_numpy(np.float64) for f in factors])
    matrix = np.array(market.dependence.correlation or np.eye(len(factors)), dtype=np.float64)
    explained = np.einsum("ij,jk,ik->i", loadings, matrix, loadings)
    findings.rows(
        tape, explained > 0.9999, "loadings",
        lambda i: f"the loadings explain {explained[i]:.4f} of the variance; it must be below 1: lower them",
    )  # fmt: skip


def _deployment_rules(tape: Tape, loan_tape: Tape, frames: Frames, market: Market, findings: Findings) -> None:
    deployments, loans = frames["deployments"], frames["loans"]
    if market.gpu is None:
        findings.add(tape.file, "the book has deployments, but market.toml has no [gpu] part; add it", "no-gpu-market")
    let = deployments["tenant_id"] != ""
    priced, timed = deployments["price_usd_per_hour"].notna(), deployments["contract_months"] > 0
    findings.rows(
        tape, let & ~(priced & timed), "contract", lambda i: "a tenant needs price_usd_per_hour and contract_months"
    )
    findings.rows(
        tape, ~let & (priced | timed), "contract",
        lambda i: "price_usd_per_hour and contract_months need a tenant_id; leave all three blank for the spot market",
    )  # fmt: skip
    counts = deployments["loan_id"].value_counts().reindex(loans["loan_id"]).fillna(0).to_numpy()
    findings.rows(
        loan_tape, counts > MAX_DEPLOYMENTS, "too-many-deployments",
        lambda i: f"the loan has {counts[i]:.0f} deployments; at most {MAX_DEPLOYMENTS}: join those of one tenant and age",
    )  # fmt: skip
    first = deployments.groupby("loan_id")["in_service_month"].min().reindex(loans["loan_id"]).to_numpy()
    with np.errstate(invalid="ignore"):
        late = first > loans["term_months"].to_numpy()
    findings.rows(
        loan_tape,
        late,
        "service-after-term",
        lambda i: f"no chip is in service before month {first[i]:.0f}, after the loan's term",
    )
    for name, chips in deployments.groupby("gpu")["units"].sum().items():
        if chips > MAX_CHIPS:
            findings.add(tape.file, f"{chips} chips of {name} in the book; at most {MAX_CHIPS}", "too-many-chips")


def warnings(frames: Frames) -> tuple[str, ...]:
    """What is let in but has no effect: terms of GPU loans on plain loans."""
    loans, plain = frames["loans"], ~_secured(frames)
    lines = []
    for column in _GPU_ONLY:
        used = plain & (loans[column] != 0)
        if used.any():
            loan = loans.loc[used, "loan_id"].iloc[0]
            lines.append(f"{column} has no effect on loans without deployments: {used.sum()} loans, first {loan}")
    return tuple(lines)
