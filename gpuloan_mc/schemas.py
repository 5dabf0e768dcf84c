"""Every file of a run folder, column by column: what writers cast to, and what docs/schema.md is written from."""

from __future__ import annotations

import dataclasses
import inspect
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from . import plan as plan_module
from .plan import CAUSES, Plan

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

SCHEMA_VERSION = 2

Kind = Literal["int64", "int32", "float64", "string", "decimal", "bool_"]


@dataclass(frozen=True, slots=True)
class Field:
    """A column. A name with <gpu> or <column> in it stands for one column each."""

    name: str
    kind: Kind
    meaning: str


@dataclass(frozen=True, slots=True)
class FileSchema:
    """A Parquet file of a run folder."""

    what: str
    fields: tuple[Field, ...]

    @property
    def fixed(self) -> tuple[Field, ...]:
        """The columns whose names are known."""
        return tuple(f for f in self.fields if "<" not in f.name)

    def field_of(self, column: str) -> Field:
        """The field that a column of this file belongs to: its own, else the first pattern that fits.

        Raises:
            KeyError: none does.
        """
        for field in self.fixed:
            if field.name == column:
                return field
        for field in self.fields:
            pattern = re.sub("<[a-z]+>", ".*", re.escape(field.name).replace(r"\<", "<").replace(r"\>", ">"))
            if re.fullmatch(pattern, column, re.DOTALL):
                return field
        raise KeyError(column)


def _f(name: str, kind: Kind, meaning: str) -> Field:
    return Field(name, kind, meaning)


_LOSS = (
    _f("ead_cents", "decimal", "Σ exposure at default over paths"),
    _f("lgd", "float64", "loss given default: Σ loss / Σ exposure; missing without a default"),
    _f("lgd_se", "float64", "its standard error (ratio of means); missing below two defaults"),
    _f("loss_cents", "decimal", "Σ loss over paths; over all rows it is the sum of paths.parquet's loss_cents"),
    _f("expected_loss_usd", "float64", "mean loss of a path"),
    _f("expected_loss_se_usd", "float64", "its standard error"),
)

PRICE_POINTS = (0.05, 0.25, 0.50, 0.75, 0.95)


def price_columns(gpu: str) -> list[str]:
    """The price columns of a generation in timeline.parquet."""
    figures = [*(f"p{round(100 * p):02}" for p in PRICE_POINTS), "mean", "mean_se"]
    return [f"{kind}_{gpu}_{figure}" for kind in ("contract", "spot") for figure in figures]


_PRICE_FIGURES = [*(f"{p:.0%} point" for p in PRICE_POINTS), "mean", "standard error of the mean"]
_POINTS_TEXT = "of the paths' {} price of a chip's hour, dollars; first `price_paths` paths"

FILES: dict[str, FileSchema] = {
    "paths.parquet": FileSchema(
        "A row a path, in path order.",
        (
            _f("path", "int64", "number, from 0"),
            _f("loss_cents", "int64", "loss, undiscounted"),
            _f("discounted_loss_cents", "int64", "discounted from the default months on the base curve"),
            _f("defaulted_balance_cents", "int64", "Σ exposure at default"),
            _f("largest_loss_cents", "int64", "largest loss of one loan"),
            _f("defaults", "int32", "loans in default"),
        ),
    ),
    "loans.parquet": FileSchema(
        "A row a loan, by id.",
        (
            _f("loan_id", "string", "the tape's"),
            _f("borrower_id", "string", "the tape's"),
            _f("balance_usd", "float64", "drawn at month 0"),
            _f("commitment_usd", "float64", "drawn and undrawn at month 0"),
            _f("defaults", "int64", "paths in which the loan defaults by the horizon"),
            _f("pd", "float64", "their share"),
            _f("pd_se", "float64", "its standard error"),
            _f("mean_ead_usd", "float64", "mean exposure of the defaults; missing without one"),
            *_LOSS,
            *(_f(f"defaults_{cause}", "int64", f"defaults by the cause {cause}") for cause in CAUSES),
            *(_f(f"loss_cents_{cause}", "decimal", f"Σ loss of the defaults by the cause {cause}") for cause in CAUSES),
            _f("segment_<column>", "string", "the loan's value in a column of the user's own"),
        ),
    ),
    "timeline.parquet": FileSchema(
        "A row a month, from month 1 to the horizon. Price points of the first `price_paths` paths stand between the "
        "points 0.5 percentage points lower and higher with 95 % confidence at 10,000 paths (1 at the middle).",
        (
            _f("month", "int64", "from the start date"),
            _f("defaults", "int64", "Σ defaults of the month over paths"),
            _f("default_rate", "float64", "share of the loans that default in the month, mean over paths"),
            _f("default_rate_se", "float64", "its standard error"),
            *_LOSS,
            *(_f(f"defaults_{cause}", "int64", f"defaults by the cause {cause}") for cause in CAUSES),
            *(_f(f"loss_cents_{cause}", "decimal", f"Σ loss of the defaults by the cause {cause}") for cause in CAUSES),
            _f("price_paths", "int64", "paths behind the price points: the run's first, at most 10,000"),
            *(
                _f(name, "float64", f"{what} {_POINTS_TEXT.format(name.split('_')[0])}")
                for name, what in zip(price_columns("<gpu>"), 2 * _PRICE_FIGURES, strict=True)
            ),
        ),
    ),
    "segments.parquet": FileSchema(
        "A row a value of each column of the user's own on the loan tape; within a column the rows add up to the book.",
        (
            _f("column", "string", "name of the column"),
            _f("value", "string", "its value; blank cells are one value"),
            _f("loans", "int64", "loans with it"),
            _f("balance_usd", "float64", "drawn at month 0"),
            _f("commitment_usd", "float64", "drawn and undrawn at month 0"),
            _f("defaults", "int64", "Σ defaults over paths"),
            _f("default_rate", "float64", "share of the loans that default by the horizon, mean over paths"),
            _f("default_rate_se", "float64", "its standard error"),
            *_LOSS,
        ),
    ),
    "loss_distribution.parquet": FileSchema(
        "A row a level: the loss that is exceeded with probability 1 - level at most.",
        (
            _f("level", "float64", "probability"),
            _f("value_at_risk_cents", "int64", "lower quantile of the loss"),
            _f("low_cents", "int64", "lower bound of its 95 % interval; missing where the paths are too few"),
            _f("high_cents", "int64", "upper bound"),
            _f("expected_shortfall_usd", "float64", "mean of the worst 1 - level (Acerbi and Tasche 2002)"),
            _f("expected_shortfall_se_usd", "float64", "its standard error; missing where one path makes the tail"),
            _f("tail_paths", "int64", "paths that the shortfall averages"),
        ),
    ),
    "rejected.parquet": FileSchema(
        "A row a problem of the inputs: rows left out with `--on-bad-row reject`, or, alone in its folder, why a book was "
        "refused. The rules are in [input-rules.md](input-rules.md).",
        (
            _f("file", "string", "tape or market.toml"),
            _f("row", "int64", "line of a CSV file, else the row's number from 1; missing: the file as a whole"),
            _f("column", "string", "column, or place in market.toml"),
            _f("value", "string", "what was found, shortened"),
            _f("rule", "string", "id of the rule"),
            _f("message", "string", "what was found and the way out"),
        ),
    ),
}

_COMPARED = (
    _f("figure", "string", "expected_loss, default_rate, value_at_risk or expected_shortfall"),
    _f("level", "float64", "of value_at_risk and expected_shortfall; missing for the others"),
    _f("value", "float64", "dollars; default_rate: share of the loans"),
    _f("standard_error", "float64", "its standard error; missing where the paths are too few for one"),
    _f("difference", "float64", "value less the base's"),
    _f("difference_se", "float64", "standard error of the difference, paths paired ([scenarios.md](scenarios.md))"),
)

COMPARISONS: dict[str, FileSchema] = {
    "stress.parquet": FileSchema(
        "Of `gpuloan-mc stress --out DIR`: a row a scenario and figure, the base first.",
        (_f("scenario", "string", "its name; base: the book as it is"), *_COMPARED),
    ),
    "sensitivities.parquet": FileSchema(
        "Of `gpuloan-mc sensitivities --out DIR`: a row a parameter, end of its range and figure.",
        (
            _f("parameter", "string", "key of market.toml, or column"),
            _f("end", "string", "low or high"),
            _f("setting", "string", "what it is set to, or × what it is scaled by"),
            *_COMPARED,
        ),
    ),
    "grid.parquet": FileSchema(
        "Of `gpuloan-mc grid --out DIR`: a row a pair of values and figure. The runs are in stress.parquet and stress.json.",
        (
            *(
                field
                for axis in ("x", "y")
                for field in (
                    _f(f"{axis}_parameter", "string", "key of market.toml, column, roll_off or force.price.GPU.MONTH"),
                    _f(f"{axis}_how", "string", "set or scale"),
                    _f(axis, "float64", "its value, or factor"),
                )
            ),
            *_COMPARED,
        ),
    ),
    "breakeven.parquet": FileSchema(
        "Of `gpuloan-mc breakeven --out DIR`: a row a level that was run, by level.",
        (
            _f("parameter", "string", "key of market.toml, column, roll_off or force.price.GPU.MONTH"),
            _f("how", "string", "set or scale"),
            _f("level", "float64", "of the parameter, or its factor"),
            _f("value", "float64", "the figure: dollars, or a probability"),
            _f("low", "float64", "lower bound of its 95 % interval; missing where the paths are too few"),
            _f("high", "float64", "upper bound"),
            _f("goal", "float64", "that it is to reach; a share of the commitment is dollars here"),
            _f("tail_paths", "int64", "paths that make the figure; below 50, distrust it"),
        ),
    ),
    "marginal.parquet": FileSchema(
        "Of `gpuloan-mc marginal --out DIR`: a row a figure, dollars. Contributions are those of the loans removed in the book "
        "before, and of the loans added in the book after.",
        (
            _f("figure", "string", "expected_loss, value_at_risk or expected_shortfall"),
            _f("level", "float64", "of value_at_risk and expected_shortfall; missing for the expected loss"),
            _f("before", "float64", "of the book as it is"),
            _f("before_se", "float64", "its standard error; missing where the paths are too few for one"),
            _f("after", "float64", "of the book without the loans removed and with those added"),
            _f("after_se", "float64", "its standard error"),
            _f("difference", "float64", "after less before"),
            _f("difference_se", "float64", "standard error of the difference, paths paired"),
            _f("removed_contribution", "float64", "what the loans removed make of `before`; missing without one"),
            _f("removed_contribution_se", "float64", "its standard error"),
            _f("added_contribution", "float64", "what the loans added make of `after`; missing without one"),
            _f("added_contribution_se", "float64", "its standard error"),
        ),
    ),
}

_PATH = _f("path", "int64", "its number in the run")
_TRANCHE = (
    _f("attachment_usd", "float64", "where the layer begins"),
    _f("detachment_usd", "float64", "where it ends; missing: nowhere"),
)

ANSWERS: dict[str, FileSchema] = {
    "replay_loans.parquet": FileSchema(
        "A row a default of the paths replayed, by path, then loan; a path's losses add up to its integer in the run.",
        (
            _PATH,
            _f("loan_id", "string", "the tape's"),
            _f("borrower_id", "string", "the tape's"),
            _f("month", "int64", "of default"),
            _f("cause", "string", "parent, maturity, tenant, payment or covenant"),
            _f("ead_cents", "int64", "exposure at default"),
            _f(
                "mode",
                "string",
                "how it was recovered: fixed or drawn LGD; sale; step-in: at least one contract was kept and nothing came "
                "from a sale; step-in and sale",
            ),
            _f("sale_month", "int64", "when chips were sold; missing for a plain loan"),
            _f("proceeds_cents", "int64", "of the sale, as of its month"),
            _f("loss_cents", "int64", "dated the month of default"),
        ),
    ),
    "replay_parties.parquet": FileSchema(
        "A row a borrower or tenant that defaults, by path, then month.",
        (_PATH, _f("obligor_id", "string", "the tape's"), _f("month", "int64", "of default")),
    ),
    "replay_market.parquet": FileSchema(
        "A row a path and month, from month 0 to the last possible sale.",
        (
            _PATH,
            _f("month", "int64", "from the start date"),
            _f("regime", "string", "of the market"),
            _f("demand", "float64", "M, a logarithm"),
            _f("contract_<gpu>", "float64", "one-year contract price of a chip's hour, dollars"),
            _f("spot_<gpu>", "float64", "spot price of a chip's hour, dollars"),
            _f("overhang_<gpu>", "float64", "V: chips handed back, of the generation's depth"),
            _f("released_<gpu>", "int64", "the book's chips that came back or were sold in the month"),
            _f("utilisation", "float64", "share of hours that chips without a contract are let; only with chips"),
        ),
    ),
    "replay_chip_values.parquet": FileSchema(
        "A row a path, month and vintage of the book's chips.",
        (
            _PATH,
            _f("month", "int64", "from the start date"),
            _f("gpu", "string", "generation"),
            _f("in_service_month", "int64", "of the vintage"),
            _f("value_usd", "float64", "of a chip"),
        ),
    ),
    "replay_launches.parquet": FileSchema(
        "A row a launch before the market's last month.",
        (
            _PATH,
            _f("family", "string", "launches or rival launches"),
            _f("launch", "int64", "number within the family, from 0"),
            _f("month", "float64", "of the launch; not above 0: before the start"),
        ),
    ),
    "contributions.parquet": FileSchema(
        "A row an item, the largest first. The contributions to a figure add up to the portfolio's; so do, in whole cents, "
        "the three sums of losses that they are made of.",
        (
            _f("level", "float64", "of both figures"),
            _f("by", "string", "kind of item"),
            _f("item", "string", "loan, borrower, tenant, generation, cause, year or value of a segment column"),
            _f("expected_shortfall_usd", "float64", "contribution to the expected shortfall: mean loss over the tail"),
            _f("expected_shortfall_se_usd", "float64", "its standard error; missing where one path makes the tail"),
            _f("share", "float64", "of the portfolio's expected shortfall; missing where that is 0"),
            _f(
                "value_at_risk_usd", "float64", "contribution to the value at risk, from the paths in its 95 % interval"
            ),
            _f("value_at_risk_se_usd", "float64", "its standard error"),
            _f("tail_ead_usd", "float64", "mean exposure at default over the tail"),
            _f("losses_beyond_cents", "decimal", "Σ loss over the paths that lose more than the value at risk"),
            _f("losses_tied_cents", "decimal", "Σ loss over the paths that lose just the value at risk"),
            _f("losses_window_cents", "decimal", "Σ loss over the paths in the value at risk's 95 % interval"),
        ),
    ),
    "tail_paths.parquet": FileSchema(
        "The average path of the tail beside the average path: a row a quantity and month.",
        (
            _f("quantity", "string", "such as contract H100, regime glut, loans in default (by the month)"),
            _f("month", "int64", "from the start date"),
            _f("tail_mean", "float64", "mean over paths that lose at least the value at risk"),
            _f("tail_se", "float64", "its standard error"),
            _f("mean", "float64", "mean over the run's first paths"),
            _f("se", "float64", "its standard error"),
            _f("tail_paths", "int64", "paths behind `tail_mean`"),
            _f("paths", "int64", "paths behind `mean`"),
        ),
    ),
    "tranches.parquet": FileSchema(
        "A row a layer of the loss, from the bottom up.",
        (
            *_TRANCHE,
            _f("attachment_share", "float64", "of the book's commitment"),
            _f("detachment_share", "float64", "of the book's commitment"),
            _f("loss_cents", "decimal", "Σ loss over paths"),
            _f("expected_loss_usd", "float64", "mean loss of a path"),
            _f("expected_loss_se_usd", "float64", "its standard error"),
            _f("expected_loss_share", "float64", "of the layer's thickness"),
            _f("expected_loss_share_se", "float64", "its standard error"),
            _f("probability_of_loss", "float64", "share of the paths that reach the layer"),
            _f("probability_of_loss_low", "float64", "lower bound of its 95 % interval (Wilson)"),
            _f("probability_of_loss_high", "float64", "upper bound"),
            _f("probability_of_wipe_out", "float64", "share of the paths that lose all of it"),
            _f("probability_of_wipe_out_low", "float64", "lower bound of its 95 % interval (Wilson)"),
            _f("probability_of_wipe_out_high", "float64", "upper bound"),
            _f("level", "float64", "of the expected shortfall"),
            _f("expected_shortfall_usd", "float64", "mean of the layer's worst 1 - level"),
            _f("expected_shortfall_se_usd", "float64", "its standard error"),
            _f("tail_paths", "int64", "paths that the shortfall averages"),
            _f("paths_with_loss", "int64", "paths that reach the layer; below 50, distrust its figures"),
        ),
    ),
    "tranche_years.parquet": FileSchema(
        "A row a layer and year of default; the years add up to the layer's loss.",
        (
            *_TRANCHE,
            _f("year", "int64", "after the start date, from 1"),
            _f("loss_cents", "decimal", "Σ over paths of what the layer loses in the year"),
            _f("expected_loss_usd", "float64", "mean of a path"),
            _f("expected_loss_se_usd", "float64", "its standard error"),
        ),
    ),
    "waterfall.parquet": FileSchema(
        "A row a tranche of a securitised pool, the most senior first; the last is the residual.",
        (
            _f("tranche", "string", "its name"),
            _f("size_usd", "float64", "what it is owed at closing"),
            _f("expected_loss_usd", "float64", "mean principal that is never paid"),
            _f("expected_loss_se_usd", "float64", "its standard error"),
            _f("expected_loss_share", "float64", "of its size"),
            _f("expected_loss_share_se", "float64", "its standard error"),
            _f("probability_of_loss", "float64", "share of the paths on which some principal is never paid"),
            _f("probability_of_loss_low", "float64", "lower bound of its 95 % interval (Wilson)"),
            _f("probability_of_loss_high", "float64", "upper bound"),
            _f("expected_shortfall_of_interest_usd", "float64", "mean interest that is never paid"),
            _f("expected_shortfall_of_interest_se_usd", "float64", "its standard error"),
            _f("life_years", "float64", "weighted average life of the principal paid, mean of the paths that pay some"),
            _f("life_se_years", "float64", "its standard error"),
            _f("yield", "float64", "a year, compounded monthly, mean of the paths; -1 on a path that pays nothing"),
            _f("yield_se", "float64", "its standard error"),
            _f("yield_low", "float64", "5 % quantile of the paths' yields"),
            _f("paths_with_loss", "int64", "paths on which it loses principal; below 50, distrust its figures"),
            _f("paths", "int64", "paths evaluated"),
        ),
    ),
    "waterfall_months.parquet": FileSchema(
        "A row a tranche and month, means over the paths.",
        (
            _f("tranche", "string", "its name"),
            _f("month", "int64", "from 0, closing; after the horizon only recoveries come in"),
            _f("interest_usd", "float64", "interest paid; to the residual, what is left"),
            _f("principal_usd", "float64", "principal paid"),
            _f("owed_usd", "float64", "what it is owed after the month"),
        ),
    ),
    "rating_stress.parquet": FileSchema(
        "A row a confidence level. Rates are shares of the book's commitment, the recovery rate one of the exposure.",
        (
            _f("level", "float64", "probability that losses stay within `loss_rate`"),
            _f("loss_rate", "float64", "value at risk: protection that holds with this probability"),
            _f("loss_rate_low", "float64", "lower bound of its 95 % interval; missing where the paths are too few"),
            _f("loss_rate_high", "float64", "upper bound"),
            _f("default_rate", "float64", "exposure at default on the paths of that interval"),
            _f("default_rate_se", "float64", "its standard error"),
            _f("recovery_rate", "float64", "1 - loss over exposure on these paths"),
            _f("recovery_rate_se", "float64", "its standard error"),
            _f("window_paths", "int64", "these paths"),
            _f("tail_paths", "int64", "paths beyond the level"),
        ),
    ),
    "convergence.parquet": FileSchema(
        "A row a measure and number of first paths: 2^k and all.",
        (
            _f("measure", "string", "expected_loss, value_at_risk or expected_shortfall"),
            _f("level", "float64", "missing for the expected loss"),
            _f("paths", "int64", "the run's first so many"),
            _f("value_usd", "float64", "the measure on them"),
            _f("standard_error_usd", "float64", "of a value at risk: its interval's width over 3.92"),
            _f("low_usd", "float64", "lower bound of the 95 % interval"),
            _f("high_usd", "float64", "upper bound"),
            _f("tail_paths", "int64", "paths that make the figure"),
            _f("few", "bool_", "fewer than 50 do: distrust it"),
            _f(
                "paths_needed",
                "float64",
                "for the relative error asked for; missing where nothing is known of the error",
            ),
        ),
    ),
    "stability.parquet": FileSchema(
        "A row a measure of the run and of runs of its book with the seeds that follow.",
        (
            _f("measure", "string", "expected_loss, value_at_risk or expected_shortfall"),
            _f("level", "float64", "missing for the expected loss"),
            _f("seeds", "int64", "runs, this one counted"),
            _f("paths", "int64", "of each"),
            _f("value_usd", "float64", "the measure in this run"),
            _f("mean_usd", "float64", "its mean over the seeds"),
            _f("spread_usd", "float64", "its standard deviation over the seeds"),
            _f("standard_error_usd", "float64", "that this run states"),
            _f("stated_error_usd", "float64", "that the runs state: root of the mean square; missing where one states none"),
            _f("ratio", "float64", "spread over stated error; missing without one"),
            _f("ratio_low", "float64", "with errors that are right, 19 ratios out of 20 lie above this (χ²)"),
            _f("ratio_high", "float64", "and below this"),
            _f("agrees", "bool_", "the ratio does, or there is neither spread nor error"),
            _f("tail_paths", "int64", "paths that make the figure in each run"),
            _f("few", "bool_", "fewer than 50 do: distrust it"),
        ),
    ),
}

_NO_DATE = "missing: the losses of a path fall in many months"
_SUMMARY_ID = _f("SummaryId", "int32", "1: the whole book")
_PERIOD = "number of the path, from 1"
_SAMPLES = (
    _f("SampleId", "int32", "1: a path is drawn once"),
    _f("Loss", "float64", "loss of the path, dollars"),
    _f("ImpactedExposure", "float64", "missing: the exposure of a path is not kept"),
)

EXPORTS: dict[str, FileSchema] = {
    "exceedance.parquet": FileSchema(
        "A row a point of the loss distribution: which loss is exceeded how rarely.",
        (
            _f("exceedance_probability", "float64", "of a path's loss over the horizon: 1 - level"),
            _f("return_period", "float64", "its reciprocal: one horizon in so many, not one year"),
            _f("level", "float64", "probability that the loss is not exceeded"),
            _f("loss_cents", "int64", "the loss: value at risk at the level, a lower quantile"),
            _f("low_cents", "int64", "lower bound of its 95 % interval; missing where the paths are too few"),
            _f("high_cents", "int64", "upper bound"),
            _f("expected_shortfall_usd", "float64", "mean of the worst 1 - level"),
            _f("expected_shortfall_se_usd", "float64", "its standard error; missing where one path makes the tail"),
            _f("tail_paths", "int64", "paths that the shortfall averages; below 50, distrust the row"),
        ),
    ),
    "portfolio_splt.parquet": FileSchema(
        "With `--ord`: sample period loss table. A row a path that loses anything, in path order.",
        (
            _f("Period", "int32", _PERIOD),
            _f("PeriodWeight", "float64", "1 / paths of the run"),
            _f("EventId", "int32", "the period's number: all that happens on a path is one event"),
            *(_f(name, "int32", _NO_DATE) for name in ("Year", "Month", "Day", "Hour", "Minute")),
            _SUMMARY_ID,
            *_SAMPLES,
        ),
    ),
    "portfolio_selt.parquet": FileSchema(
        "With `--ord`: sample event loss table. A row a path that loses anything, in path order.",
        (_f("EventId", "int32", _PERIOD), _SUMMARY_ID, *_SAMPLES),
    ),
    "portfolio_ept.parquet": FileSchema(
        "With `--ord`: exceedance probability table. Return periods of exceedance.parquet up to the number of paths.",
        (
            _SUMMARY_ID,
            _f("EPCalc", "int32", "2: full uncertainty, every sample a period of its own"),
            _f("EPType", "int32", "3: AEP, the period's aggregate loss; 4: AEP TVAR, the mean of the losses beyond it"),
            _f("ReturnPeriod", "float64", "periods, each as long as the horizon"),
            _f("Loss", "float64", "dollars; EPType 3: value at risk; 4: expected shortfall"),
        ),
    ),
    "portfolio_palt.parquet": FileSchema(
        "With `--ord`: period average loss table, one row.",
        (
            _SUMMARY_ID,
            _f("SampleType", "int32", "2: of samples"),
            _f("MeanLoss", "float64", "expected loss over the horizon, dollars"),
            _f("SDLoss", "float64", "standard deviation of a path's loss, dollars; missing with one path"),
        ),
    ),
}

EXPORT_KEYS: dict[str, str] = {
    "schema_version": "version of this page",
    "version": "of gpuloan_mc that exported",
    "digest": "of the run's losses",
    "plan_digest": "of the run's plan",
    "seed": "of the run",
    "n_paths": "paths of the run",
    "horizon_months": "losses count up to this month",
    "engine": "that computed the losses",
    "commitment": "drawn and undrawn at month 0, dollars",
    "level": "of the contributions, the tranches' shortfall and the convergence",
    "format": "parquet or csv",
    "open_results": "null, or the standard written, NumberOfPeriods (paths) and PeriodLength (the horizon in years)",
    "files": "by file: schema_version, rows, bytes, sha256",
}

COMPARISON_KEYS: dict[str, str] = {
    "version": "of gpuloan_mc that compared",
    "schema_version": "version of this page",
    "sentence": "the comparison in one sentence",
    "same_integers": "whether every path of both loses the same cents",
    "paired": "whether path n of both is the same future (seed, draws and number of paths agree)",
    "paired_paths": "paths that were run again for the errors by cause and year; 0: those are not paired",
    "a": "folder, version, seed, rng_scheme, n_paths, horizon_months, engine, scenarios, digest and plan_digest",
    "b": "the same of the other run",
    "inputs": "by tape that differs: rows added, removed and changed, counted; changed cells by column; the first few of each",
    "market": "keys of market.toml that differ: key, old, new; null: not given",
    "figures": "rows: figure, item (level, cause or year), value and standard_error of a and b, difference (b less a), "
    "difference_se, beyond (its error: more than 1.96 of it; null: not known). Dollars; default_rate: share of the loans",
}

STRESS_KEYS: dict[str, str] = {
    "version": "of gpuloan_mc",
    "schema_version": "version of this page",
    "seed": "of every run",
    "n_paths": "paths of every run",
    "engine": "that computed the losses",
    "commitment": "of the base: drawn and undrawn at month 0, dollars",
    "runs": "by scenario, the base first: digests of the scenario, of the losses and of the plan; the engine's seconds",
    "left_out": "bundled scenarios that do not fit the book, and why",
    "figures": "the rows of stress.parquet",
}

BREAKEVEN_KEYS: dict[str, str] = {
    "version": "of gpuloan_mc",
    "schema_version": "version of this page",
    "seed": "of every run",
    "n_paths": "paths of every run",
    "engine": "that computed the losses",
    "parameter": "that was moved",
    "how": "set or scale",
    "figure": "that was to reach a goal",
    "value": "the level, or factor, of the parameter at which it does",
    "low": "lower bound of a 95 % interval for it; null: beyond the range, or the paths are too few",
    "high": "upper bound",
    "step": "how finely the range was halved",
    "reading": "the figure there: value, its 95 % interval, the goal and the paths that make it",
    "levels": "the rows of breakeven.parquet",
}

MARGINAL_KEYS: dict[str, str] = {
    "version": "of gpuloan_mc",
    "schema_version": "version of this page",
    "seed": "of both runs",
    "n_paths": "paths of both runs",
    "engine": "that computed the losses",
    "removed": "ids of the loans that went",
    "added": "ids of the loans that joined",
    "digests": "of the losses before and after",
    "commitments": "before and after, dollars",
    "others_expected_loss_difference": "expected loss of the loans in both books, after less before, dollars",
    "others_expected_loss_difference_se": "its standard error, paths paired",
    "figures": "the rows of marginal.parquet",
}

MANIFEST_KEYS: dict[str, str] = {
    "schema_version": "version of this page",
    "complete": "true once every file of the run is there",
    "version": "of gpuloan_mc",
    "rng_scheme": "how draws are made; runs of different schemes differ in every path",
    "seed": "of the run",
    "n_paths": "paths of the run; of an unfinished one with a target, at most",
    "target": "the error to run to: measure and error; null without one",
    "horizon_months": "defaults count in months 1 to this one",
    "engine": "that was named or chosen; `engine_paths` tells of others, whose losses are the same",
    "engine_reason": "why that one",
    "engine_paths": "which engine ran which paths, one row per range: engine, first_path, n_paths",
    "digest": "of the losses: sha256 of the sha256s of blocks of 65,536 losses (int64 cents, little-endian, path order)",
    "plan_digest": "sha256 of the plan's arrays",
    "market_digest": "sha256 of the market as canonical JSON",
    "scenarios": "name and digest of each scenario, in the order applied; market and inputs are those after them",
    "pool": "sha256 of the structure of inputs/pool.toml as canonical JSON; null without a pool",
    "inputs": "by tape: file, sha256 of its bytes (null: not from a file), rows accepted",
    "reconciliation": "rows and cents that came in, were accepted and were rejected",
    "money": "balance, undrawn and commitment of the loans, cents",
    "timings": "seconds by stage",
    "packages": "versions",
    "python": "version",
    "host": "system, machine, processor, cores; null with --no-host",
    "files": "by file: bytes and sha256",
    "checksum": "sha256 of the other keys as JSON, keys sorted, no blanks",
}


SUMMARY_KEYS: dict[str, str] = {
    "version": "of gpuloan_mc",
    "n_paths": "paths",
    "seed": "of the run",
    "engine": "that was named or chosen; `engine_paths` tells of others, whose losses are the same",
    "engine_reason": "why that one",
    "engine_paths": "which engine ran which paths, one row per range: engine, first_path, n_paths",
    "seconds": "the engine's own time",
    "compile_seconds": "layout and compiling, or loading what was compiled before; not in `seconds`",
    "timings": "seconds by stage",
    "loan_steps_per_second": "loans × months × paths a second",
    "digest": "of the losses",
    "plan_digest": "of the plan",
    "scenarios": "names, in the order applied",
    "target": "measure, error asked for, error reached (half a 95 % interval, relative), reached; null without a target",
    "waterfall": "a list of objects, a tranche each, with the columns of waterfall.parquet; null where no pool was run",
    "n_loans": "loans",
    "horizon_months": "defaults count in months 1 to this one",
    "balance": "drawn at month 0",
    "commitment": "drawn and undrawn at month 0",
    "expected_loss": "mean loss of a path, undiscounted",
    "expected_loss_se": "its standard error",
    "expected_discounted_loss": "mean loss, discounted from the default months on the base curve",
    "expected_discounted_loss_se": "its standard error",
    "loss_std": "standard deviation of the loss",
    "loss_std_se": "its standard error",
    "probability_of_loss": "share of paths with any loss",
    "probability_of_loss_ci": "its 95 % interval (Wilson)",
    "value_at_risk": "by level: lower quantile of the loss",
    "value_at_risk_ci": "by level: its distribution-free 95 % interval; null where the paths are too few for a bound",
    "expected_shortfall": "by level: mean of the worst 1 - level (Acerbi and Tasche 2002)",
    "expected_shortfall_se": "by level: its standard error; null where one path makes the tail",
    "tail_paths": "by level: paths that the shortfall averages; below 50, distrust it and its error",
    "largest_path_loss": "largest loss of a path",
    "largest_loan_loss": "largest loss of one loan in a path",
    "defaulted_balance": "mean of a path's exposure at default",
    "defaulted_balance_se": "its standard error",
    "expected_defaults": "mean number of loans that default by the horizon",
    "expected_defaults_se": "its standard error",
    "default_rate": "mean share of the loans that default by the horizon",
    "default_rate_se": "its standard error",
    "expected_loss_by_year": "by year of default",
    "expected_loss_by_year_se": "their standard errors",
    "expected_loss_by_cause": "by cause of default",
    "expected_loss_by_cause_se": "their standard errors",
}


def arrow_table(file: str, frame: pd.DataFrame) -> pa.Table:
    """A frame as the Arrow table that the file's schema asks for.

    Raises:
        KeyError: the frame lacks a column, or has one that the schema does not know.
    """
    import pyarrow as pa

    schema = (FILES | COMPARISONS | ANSWERS | EXPORTS)[file]
    missing = [f.name for f in schema.fixed if f.name not in frame.columns]
    if missing:
        raise KeyError(f"{file} lacks {', '.join(missing)}")
    arrays = {name: _array(schema.field_of(name).kind, frame[name]) for name in map(str, frame.columns)}
    table = pa.table(arrays)
    return table.replace_schema_metadata({"gpuloan_mc": file, "schema_version": str(SCHEMA_VERSION)})


def _array(kind: Kind, values: Any) -> Any:
    import pyarrow as pa

    if kind == "decimal":
        return pa.array([int(v) for v in values], type=pa.decimal128(38, 0))
    if kind == "string":
        return pa.array([str(v) for v in values], type=pa.string())
    return pa.array(values, type=getattr(pa, kind)(), from_pandas=True)


# --- docs/schema.md ---------------------------------------------------------------------------------------------------

_HEAD = """# Files of a run

Written from `gpuloan_mc/schemas.py`; a test keeps it so. Schema version {version}: a column is added under the same
version, none is renamed, retyped or removed without a new one. Parquet files carry the version in their metadata.
`decimal` is decimal128(38, 0): whole cents that may outgrow 64 bits when summed over paths. Money is US dollars or, where
the name says so, cents. `missing` is null.

A run folder is written by `gpuloan-mc run BOOK --out DIR`. No file in it is ever half-written; `manifest.json` says
`"complete": true` once all are there. Until then the folder holds the book, an unfinished manifest (what is not known is null)
and `chunks/`, a file a range of finished paths; `gpuloan-mc resume DIR` goes on from there. `totals.bin` holds the exact totals
of a finished run and what the tranches of a pool get, from which `resume --extend-paths` adds more paths: until they are done,
it lies in `chunks/` with `paths.parquet`. A run with `--pool` has `inputs/pool.toml` and the tables waterfall.parquet and
waterfall_months.parquet too. With R the run's folder, one line reads a table:

<!-- read -->
```python
pandas.read_parquet(f"{{R}}/loans.parquet").nlargest(5, "expected_loss_usd")
polars.read_parquet(f"{{R}}/segments.parquet").sort("expected_loss_usd")
duckdb.sql(f"select month, sum(loss_cents) / 100 from '{{R}}/timeline.parquet' group by month order by month")
```
"""


def schema_page() -> str:
    """docs/schema.md."""
    parts = [_HEAD.format(version=SCHEMA_VERSION)]
    for file, schema in FILES.items():
        parts.append(_table(file, schema.what, "column", [(f.name, f.kind, f.meaning) for f in schema.fields]))
    parts.append(_table("manifest.json", "What ran, on what, and what came out.", "key", _plain(MANIFEST_KEYS)))
    parts.append(_table("summary.json", "What `run --json` prints. Money in dollars.", "key", _plain(SUMMARY_KEYS)))
    for file, schema in COMPARISONS.items():
        parts.append(_table(file, schema.what, "column", [(f.name, f.kind, f.meaning) for f in schema.fields]))
    parts.append(_table("stress.json", "What `stress --json` prints.", "key", _plain(STRESS_KEYS)))
    parts.append(_table("breakeven.json", "What `breakeven --json` prints.", "key", _plain(BREAKEVEN_KEYS)))
    parts.append(_table("marginal.json", "What `marginal --json` prints.", "key", _plain(MARGINAL_KEYS)))
    parts.append(_INPUTS)
    rows = [(f"{name}", kind, text) for name, kind, text in plan_fields()]
    parts.append(_table("inputs/plan.npz", "The plan: what an engine sees, NumPy arrays.", "array", rows))
    parts.append(_ANSWERS)
    for file, schema in ANSWERS.items():
        parts.append(
            _table(file, schema.what, "column", [(f.name, f.kind.rstrip("_"), f.meaning) for f in schema.fields])
        )
    parts.append(_EXPORTS)
    for file, schema in EXPORTS.items():
        parts.append(_table(file, schema.what, "column", [(f.name, f.kind, f.meaning) for f in schema.fields]))
    parts.append(_table("export.json", "What was exported, of which run.", "key", _plain(EXPORT_KEYS)))
    what = "What `gpuloan-mc compare RUN_A RUN_B --json` prints."
    parts.append(_table("compare --json", what, "key", _plain(COMPARISON_KEYS)))
    return "\n".join(parts)


_INPUTS = """## inputs/

The book as it was read: `loans.parquet`, `deployments.parquet`, `obligors.parquet`, `schedules.parquet`,
`prices.parquet` with the columns of [columns.md](columns.md), defaults filled in, rows by id, and `market.toml`. It is a
book: `gpuloan-mc run DIR/inputs` gives the same digests.
"""


_ANSWERS = """## Answers

`gpuloan-mc replay`, `contributions`, `tranches` and `convergence` ask a run folder. With `--out DIR` their tables are
written into DIR, as Parquet or, with `--format csv`, as text; in Python they are frames with these columns. In text files
cells that a spreadsheet would take for a formula begin with an apostrophe, and control, direction and zero-width characters
are written as escapes such as `\\x1b`: match names by the Parquet files.
"""


_EXPORTS = """## Exports

`gpuloan-mc export RUN --out DIR` writes exceedance.parquet, contributions.parquet (by loan, borrower, tenant, generation,
cause and year), timeline.parquet and convergence.parquet; with `--tranche` tranches.parquet, with `--stress` stress.parquet,
with `--ord` the tables whose names begin with `portfolio_`, described with their mapping in [downstream.md](downstream.md).
"""


def _plain(keys: dict[str, str]) -> list[tuple[str, str, str]]:
    return [(name, "", text) for name, text in keys.items()]


def _table(name: str, what: str, first: str, rows: list[tuple[str, str, str]]) -> str:
    typed = any(kind for _, kind, _ in rows)
    lines = [f"## {name}", "", what, ""]
    lines += [f"| {first} | type | meaning |", "|---|---|---|"] if typed else [f"| {first} | meaning |", "|---|---|"]
    lines += [f"| `{n}` | {k} | {m} |" if typed else f"| `{n}` | {m} |" for n, k, m in rows]
    return "\n".join([*lines, ""])


def plan_fields() -> list[tuple[str, str, str]]:
    """(array, type, the comment beside it) of every array of a plan, read from the source of `plan.py`."""
    rows = []
    for part in dataclasses.fields(Plan):
        kind = str(part.type)
        inner = getattr(plan_module, kind, None)
        if not dataclasses.is_dataclass(inner):
            rows.append((part.name, _dtype(kind), _comment(Plan, part.name)))
            continue
        for field in dataclasses.fields(inner):
            rows.append((f"{part.name}.{field.name}", _dtype(str(field.type)), _comment(inner, field.name)))
    return rows


_DTYPES = {"F32": "float32", "F64": "float64", "I32": "int32", "I64": "int64", "U64": "uint64"}


def _dtype(annotation: str) -> str:
    return _DTYPES.get(annotation, annotation.removeprefix("np."))


def _comment(owner: Any, name: str) -> str:
    found = re.search(rf"^    {name}: [^#\n]+# (.*)$", inspect.getsource(owner), re.MULTILINE)
    return found[1].replace("|", "\\|") if found else ""
