"""A run in the names of Open Results Data (ORD) 1, the open standard of catastrophe models' results, curated by Oasis LMF.

https://github.com/OasisLMF/ODS_OpenResultsData. A path is a period, and all that happens on it one event with one sample;
docs/downstream.md says what each column holds and what has no meaning here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import UsageError
from .frames import exceedance
from .questions import Questions

if TYPE_CHECKING:
    import pandas as pd

STANDARD = "ORD 1"
MAX_PERIODS = 2**31 - 1
FULL_UNCERTAINTY = 2
AEP, AEP_TVAR = 3, 4
SAMPLED = 2
CENTS = 100.0


def tables(run: Questions) -> dict[str, pd.DataFrame]:
    """The sample period, sample event, exceedance probability and average loss tables, by name (docs/schema.md).

    Raises:
        UsageError: the run has more paths than ORD has numbers for periods.
    """
    if run.n_paths > MAX_PERIODS:
        raise UsageError(
            f"the run has {run.n_paths:,} paths; ORD numbers periods up to {MAX_PERIODS:,}. Export without the ORD tables, "
            "or run the book with fewer paths"
        )
    periods = _period_losses(run)
    events = periods[["EventId", "SummaryId", "SampleId", "Loss", "ImpactedExposure"]]
    return {
        "portfolio_splt": periods,
        "portfolio_selt": events,
        "portfolio_ept": _exceedance(run),
        "portfolio_palt": _average(run),
    }


def metadata(run: Questions) -> dict[str, Any]:
    """What a reader of the tables must know besides: the standard, how many periods there are and how long one is, years."""
    return {"standard": STANDARD, "NumberOfPeriods": run.n_paths, "PeriodLength": run.horizon_months / 12}


def _period_losses(run: Questions) -> pd.DataFrame:
    """Losses above zero alone, as ORD has them."""
    import pandas as pd

    paths = np.nonzero(run.losses)[0]
    number = (paths + 1).astype(np.int32)
    unknown = pd.array([None] * len(paths), dtype="Int32")
    return pd.DataFrame(
        {
            "Period": number,
            "PeriodWeight": 1 / run.n_paths,
            "EventId": number,
            **{name: unknown for name in ("Year", "Month", "Day", "Hour", "Minute")},
            "SummaryId": np.int32(1),
            "SampleId": np.int32(1),
            "Loss": run.losses[paths] / CENTS,
            "ImpactedExposure": np.nan,
        }
    )


def _exceedance(run: Questions) -> pd.DataFrame:
    """Value at risk and expected shortfall at every return period that the run has a period for."""
    import pandas as pd

    points = exceedance(run)
    points = points[points["return_period"] <= run.n_paths]
    losses = {AEP: points["loss_cents"] / CENTS, AEP_TVAR: points["expected_shortfall_usd"]}
    parts = [
        pd.DataFrame(
            {
                "SummaryId": np.int32(1),
                "EPCalc": np.int32(FULL_UNCERTAINTY),
                "EPType": np.int32(kind),
                "ReturnPeriod": points["return_period"],
                "Loss": loss,
            }
        )
        for kind, loss in losses.items()
    ]
    return pd.concat(parts, ignore_index=True)


def _average(run: Questions) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(
        {
            "SummaryId": np.int32(1),
            "SampleType": np.int32(SAMPLED),
            "MeanLoss": [run.figures.expected_loss / CENTS],
            "SDLoss": [run.figures.loss_std / CENTS],
        }
    )
