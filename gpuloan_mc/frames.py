"""The tables of a result: loans, months, segments, and the loss distribution. Each adds up to the book's integers."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from . import risk
from .errors import UsageError
from .plan import CAUSES
from .planning import generation_order
from .reference.arithmetic import F64, I64
from .schemas import PRICE_POINTS, price_columns
from .totals import Totals, as_float, whole

if TYPE_CHECKING:
    import pandas as pd

    from .questions import Questions
    from .result import Result

CENTS = 100.0


def loans(result: Result) -> pd.DataFrame:
    """loans.parquet: a row a loan, by id."""
    import pandas as pd

    tape, total, n = result.portfolio.loans, result.by_loan, result.n_paths
    pd_ = total.defaults / n
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_ead = np.where(total.defaults > 0, as_float(total.ead) / total.defaults, np.nan) / CENTS
    columns: dict[str, Any] = {
        "loan_id": tape["loan_id"],
        "borrower_id": tape["borrower_id"],
        "balance_usd": tape["balance_usd"],
        "commitment_usd": tape["balance_usd"] + tape["undrawn_usd"],
        "defaults": total.defaults,
        "pd": pd_,
        "pd_se": _mean_se(n, total.defaults.astype(np.float64), total.defaults_squared.astype(np.float64)),
        "mean_ead_usd": mean_ead,
        **_losses(total, n),
        **{f"defaults_{cause}": result.loan_cause_defaults[:, i] for i, cause in enumerate(CAUSES)},
        **{f"loss_cents_{cause}": _exact(result.loan_cause_loss[:, :, i]) for i, cause in enumerate(CAUSES)},
        **{f"segment_{name}": tape[name] for name in result.portfolio.segment_columns},
    }
    return pd.DataFrame(columns)


def timeline(result: Result) -> pd.DataFrame:
    """timeline.parquet: a row a month."""
    import pandas as pd

    groups, n, months = result.plan.groups, result.n_paths, result.horizon_months
    total = result.by_group.take(groups["month"])
    by_cause = result.by_group.take(groups["month_cause"])
    columns: dict[str, Any] = {
        "month": np.arange(1, months + 1),
        "defaults": total.defaults,
        **_default_rate(total, n, np.full(months, result.n_loans)),
        **_losses(total, n),
        **{f"defaults_{cause}": by_cause.defaults[i :: len(CAUSES)] for i, cause in enumerate(CAUSES)},
        **{f"loss_cents_{cause}": _exact(by_cause.loss[:, i :: len(CAUSES)]) for i, cause in enumerate(CAUSES)},
        "price_paths": np.full(months, len(result.prices)),
    }
    for g, gpu in enumerate(_generations(result)):
        prices = result.prices[:, 1:, :, g].astype(np.float64)
        figures = [*np.quantile(prices, PRICE_POINTS, axis=0), prices.mean(axis=0), _errors(prices)]
        values = np.stack(figures).transpose(2, 0, 1).reshape(-1, months)  # those of contract prices, then of spot
        columns |= dict(zip(price_columns(gpu), values, strict=True))
    return pd.DataFrame(columns)


def _errors(sample: F64) -> F64:
    """Standard errors of means over the first axis; nan with one path."""
    if len(sample) < 2:
        return np.full(sample.shape[1:], np.nan)
    return np.asarray(sample.std(axis=0, ddof=1) / np.sqrt(len(sample)))


def _generations(result: Result) -> list[str]:
    """Names in the order of the plan."""
    gpu = result.portfolio.market.gpu
    return [] if gpu is None else [gpu.generations[i].name for i in generation_order(gpu)]


def segments(result: Result, columns: tuple[str, ...] = ()) -> pd.DataFrame:
    """segments.parquet: a row a value of the user's own columns.

    Raises:
        UsageError: no such column.
    """
    import pandas as pd

    known = result.portfolio.segment_columns
    for column in columns:
        if column not in known:
            raise UsageError(
                f"{column!r} is not a segment column of this book; it has {', '.join(known) or 'none'}. "
                "Add the column to the loan tape and run again"
            )
    parts = [_segment(result, column) for column in columns or known]
    return pd.concat(parts, ignore_index=True) if parts else _no_segments(result)


def _segment(result: Result, column: str) -> pd.DataFrame:
    import pandas as pd

    portfolio, n = result.portfolio, result.n_paths
    i = portfolio.segment_columns.index(column)
    total = result.by_group.take(result.plan.groups[f"segment_{i}"])
    values = portfolio.segment_values(column)
    codes, size = result.plan.segments[i], len(values)
    count = np.bincount(codes, minlength=size)
    balance = np.bincount(codes, portfolio.loans["balance_usd"].to_numpy(np.float64), size)
    undrawn = np.bincount(codes, portfolio.loans["undrawn_usd"].to_numpy(np.float64), size)
    return pd.DataFrame(
        {
            "column": column,
            "value": values,
            "loans": count,
            "balance_usd": balance,
            "commitment_usd": balance + undrawn,
            "defaults": total.defaults,
            **_default_rate(total, n, count),
            **_losses(total, n),
        }
    )


def _no_segments(result: Result) -> pd.DataFrame:
    import pandas as pd

    from .schemas import FILES

    return pd.DataFrame({f.name: [] for f in FILES["segments.parquet"].fields})


DISTRIBUTION_LEVELS = tuple(
    round(x, 6)
    for x in (
        *np.arange(1, 99) / 100, *np.arange(990, 999) / 1000, *np.arange(9990, 10_000) / 10_000, 0.99999,
    )
)  # fmt: skip


def loss_distribution(run: Questions) -> pd.DataFrame:
    """loss_distribution.parquet: a row a level."""
    import pandas as pd

    rows = []
    intervals = risk.value_at_risk_intervals(run.ordered, DISTRIBUTION_LEVELS)
    for tail, (low, high) in zip(risk.tails(run.ordered, DISTRIBUTION_LEVELS), intervals, strict=True):
        rows.append(
            (tail.level, tail.value_at_risk, low, high, tail.shortfall / CENTS, tail.shortfall_se / CENTS, tail.paths)
        )
    names = "level value_at_risk_cents low_cents high_cents expected_shortfall_usd expected_shortfall_se_usd tail_paths"
    frame = pd.DataFrame(rows, columns=names.split())
    return frame.astype({"low_cents": "Int64", "high_cents": "Int64"})


def exceedance(run: Questions) -> pd.DataFrame:
    """exceedance.parquet: the points of the loss distribution by exceedance probability and return period."""
    points = run.loss_distribution.rename(columns={"value_at_risk_cents": "loss_cents"})
    beyond = [1 - Fraction(str(level)) for level in points["level"]]  # of the level as written: 0.001, not 0.00100…01
    points.insert(0, "exceedance_probability", [float(p) for p in beyond])
    points.insert(1, "return_period", [float(1 / p) for p in beyond])
    return points


def _default_rate(total: Totals, n_paths: int, n_loans: I64) -> dict[str, Any]:
    """Mean share of the loans in default, and its error."""
    first, second = total.defaults.astype(np.float64), total.defaults_squared.astype(np.float64)
    return {"default_rate": first / n_paths / n_loans, "default_rate_se": _mean_se(n_paths, first, second) / n_loans}


def _losses(total: Totals, n: int) -> dict[str, Any]:
    """EAD, LGD and loss with their errors."""
    ead, loss = as_float(total.ead), as_float(total.loss)
    squared = as_float(total.loss_squared)
    with np.errstate(invalid="ignore", divide="ignore"):
        lgd = np.where(ead > 0, loss / ead, np.nan)
        residual = np.maximum(squared - 2 * lgd * as_float(total.ead_loss) + lgd**2 * as_float(total.ead_squared), 0)
        lgd_se = np.where(total.defaults > 1, np.sqrt(residual * (n / max(n - 1, 1))) / ead, np.nan)
    return {
        "ead_cents": _exact(total.ead),
        "lgd": lgd,
        "lgd_se": lgd_se,
        "loss_cents": _exact(total.loss),
        "expected_loss_usd": loss / n / CENTS,
        "expected_loss_se_usd": _mean_se(n, loss, squared) / CENTS,
    }


def _mean_se(n: int, total: F64, squared: F64) -> F64:
    """Standard error of a mean from a sum and a sum of squares over n paths; nan with one path."""
    if n < 2:
        return np.full(total.shape, np.nan)
    return np.sqrt(np.maximum(squared - total * total / n, 0) / (n - 1) / n)


def _exact(digits: I64) -> Any:
    """Whole numbers as int64, or as Python's integers where one does not fit."""
    numbers = whole(digits)
    return np.array(numbers, dtype=np.int64 if max(numbers, default=0) < 2**63 else object)
