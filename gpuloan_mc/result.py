"""What a run says: the path integers and the figures made of them. Files are the run folder's affair."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from . import __version__, frames, risk
from .plan import CAUSES, Plan
from .questions import Questions
from .reference.arithmetic import F32, I32, I64
from .risk import LEVELS, Moments
from .totals import Totals, whole

if TYPE_CHECKING:
    import pandas as pd

    from .inputs.pool_file import PoolFile
    from .ledger import Ledger
    from .payments import Payments
    from .portfolio import Portfolio
    from .target import Target
    from .tranche_cash import TrancheCash

CENTS = 100.0


@dataclass(frozen=True)
class Result(Questions):
    """The loss distribution of a book, with every path's integers. Arrays are in cents; properties in dollars.

    losses, discounted_losses, defaults: (n_paths,). The other columns of a path are in `paths.parquet` of a run folder.
    """

    seed: int
    engine: str
    engine_reason: str
    timings: Mapping[str, float]  # seconds by stage; "paths" is the engine's own time
    digest: str
    portfolio: Portfolio = field(repr=False)
    plan: Plan = field(repr=False)
    losses: I64 = field(repr=False)
    discounted_losses: I64 = field(repr=False)
    defaults: I32 = field(repr=False)
    defaulted_balance: Moments = field(repr=False)
    largest_loss: int = field(repr=False)
    by_loan: Totals = field(repr=False)  # loans by id, as in `portfolio.loans`
    by_group: Totals = field(repr=False)  # groups of `plan.groups`
    loan_cause_defaults: I64 = field(repr=False)  # (n_loans, causes)
    loan_cause_loss: I64 = field(repr=False)  # (digits, n_loans, causes)
    prices: F32 = field(repr=False)  # (price paths, H + 1, 2, G) contract and spot, of the first paths
    engine_paths: tuple[dict[str, Any], ...] = ()  # which engine ran which paths: engine, first_path, n_paths
    scenarios: tuple[tuple[str, str], ...] = ()  # name and digest of each scenario, in the order applied
    target: Target | None = None  # the error that the run was to reach
    pool: PoolFile | None = None  # that the run was one with
    payments: Payments | None = field(repr=False, default=None)  # what its tranches get

    @classmethod
    def of(
        cls,
        ledger: Ledger,
        portfolio: Portfolio,
        plan: Plan,
        *,
        seed: int,
        engine: str,
        engine_reason: str,
        timings: Mapping[str, float],
    ) -> Result:
        """The result of a complete ledger."""
        ledger.freeze()
        return cls(
            seed=seed,
            engine=engine,
            engine_reason=engine_reason,
            timings=timings,
            digest=ledger.digest.hexdigest(),
            portfolio=portfolio,
            plan=plan,
            losses=ledger.losses,
            discounted_losses=ledger.discounted_losses,
            defaults=ledger.defaults,
            defaulted_balance=ledger.defaulted_balance,
            largest_loss=ledger.largest_loss,
            by_loan=ledger.by_loan,
            by_group=ledger.by_group,
            loan_cause_defaults=ledger.loan_cause_defaults,
            loan_cause_loss=ledger.loan_cause_loss,
            prices=ledger.prices,
            engine_paths=ledger.engines.rows,
            payments=ledger.payments,
        )

    @property
    def seconds(self) -> float:
        """The engine's own time: no imports, planning, compiling or files."""
        return self.timings["paths"]

    @property
    def compile_seconds(self) -> float:
        """What the engine did before its first path: layout, and compiling or loading what was compiled before."""
        return self.timings["compile"]

    @property
    def loan_steps_per_second(self) -> float:
        """Loans × months × paths a second, all months up to the horizon counted."""
        return self.n_paths * self.n_loans * self.horizon_months / self.seconds

    @cached_property
    def plan_digest(self) -> str:
        """sha256 of the plan's content."""
        return self.plan.digest

    @property
    def balance_usd(self) -> float:
        """Drawn balance at month 0."""
        return self.portfolio.balance_usd

    def group_losses(self, kind: str) -> tuple[Moments, ...]:
        """Moments of the loss of a path in each group of a kind of `plan.groups`, cents."""
        part = self.by_group.take(self.plan.groups[kind])
        totals = zip(whole(part.loss), whole(part.loss_squared), strict=True)
        return tuple(Moments(self.n_paths, total, squares) for total, squares in totals)

    @cached_property
    def loss_by_year(self) -> tuple[Moments, ...]:
        """Moments of a path's loss by year of default, cents."""
        return self.group_losses("year")

    @cached_property
    def loss_by_cause(self) -> dict[str, Moments]:
        """Moments of a path's loss by cause of default, cents."""
        return dict(zip(CAUSES, self.group_losses("cause"), strict=True))

    @cached_property
    def loans(self) -> pd.DataFrame:
        """A row a loan: PD, LGD, EAD and expected loss with their errors (docs/schema.md, loans.parquet)."""
        return frames.loans(self)

    @cached_property
    def timeline(self) -> pd.DataFrame:
        """A row a month: defaults, losses, price points (docs/schema.md, timeline.parquet)."""
        return frames.timeline(self)

    def segments(self, *columns: str) -> pd.DataFrame:
        """A row a value of the named columns of the loan tape; none named: all of the user's own (segments.parquet).

        Raises:
            UsageError: no such column.
        """
        return frames.segments(self, columns)

    @property
    def expected_loss(self) -> float:
        """Mean loss, undiscounted."""
        return self.figures.expected_loss / CENTS

    @property
    def expected_loss_se(self) -> float:
        """Standard error of the mean loss."""
        return self.figures.expected_loss_se / CENTS

    @property
    def expected_discounted_loss(self) -> float:
        """Mean loss, discounted to month 0 on the base curve."""
        return risk.mean(self.discounted_losses) / CENTS

    @property
    def expected_discounted_loss_se(self) -> float:
        """Standard error of the mean discounted loss."""
        return risk.standard_error(self.discounted_losses) / CENTS

    @property
    def loss_std(self) -> float:
        """Standard deviation of the loss."""
        return self.figures.loss_std / CENTS

    @property
    def probability_of_loss(self) -> float:
        """Share of paths with any loss."""
        return self.figures.probability_of_loss

    @cached_property
    def _defaults(self) -> Moments:
        return Moments.of(self.defaults)

    @property
    def expected_defaults(self) -> float:
        """Mean number of loans that default by the horizon."""
        return self._defaults.mean

    @property
    def expected_defaults_se(self) -> float:
        """Standard error of the mean number of defaults."""
        return self._defaults.standard_error

    @property
    def default_rate(self) -> float:
        """Mean share of the loans that default by the horizon."""
        return self._defaults.mean / self.n_loans

    @property
    def default_rate_se(self) -> float:
        """Standard error of the default rate."""
        return self._defaults.standard_error / self.n_loans

    @property
    def expected_loss_by_year(self) -> list[float]:
        """Mean loss by year of default."""
        return [m.mean / CENTS for m in self.loss_by_year]

    @property
    def expected_loss_by_cause(self) -> dict[str, float]:
        """Mean loss by cause of default."""
        return {cause: m.mean / CENTS for cause, m in self.loss_by_cause.items()}

    @property
    def value_at_risk(self) -> dict[float, float]:
        """Lower quantile of the loss by level."""
        return {level: value / CENTS for level, value in self.figures.value_at_risk.items()}

    @property
    def value_at_risk_ci(self) -> dict[float, tuple[float | None, float | None]]:
        """Distribution-free 95 % intervals of the quantiles; None: the paths are too few for a bound."""
        return {k: (_dollars(low), _dollars(high)) for k, (low, high) in self.figures.value_at_risk_ci.items()}

    @property
    def expected_shortfall(self) -> dict[float, float]:
        """Mean of the worst 1 - level of losses (Acerbi and Tasche 2002) by level."""
        return {level: value / CENTS for level, value in self.figures.expected_shortfall.items()}

    @property
    def expected_shortfall_se(self) -> dict[float, float | None]:
        """Standard errors of the expected shortfall; None where a single path makes the tail."""
        errors = self.figures.expected_shortfall_se.items()
        return {level: None if math.isnan(value) else value / CENTS for level, value in errors}

    def summary(self) -> pd.DataFrame:
        """Figures with their errors: index figure; columns value, standard_error, low, high (95 %), dollars or shares."""
        import pandas as pd

        figures = self.figures
        rows: list[tuple[str, float, float | None, float | None, float | None]] = [
            ("expected_loss", self.expected_loss, self.expected_loss_se, None, None),
            ("loss_std", self.loss_std, figures.loss_std_se / CENTS, None, None),
            ("probability_of_loss", self.probability_of_loss, None, *figures.probability_of_loss_ci),
            ("expected_discounted_loss", self.expected_discounted_loss, self.expected_discounted_loss_se, None, None),
            ("expected_defaults", self.expected_defaults, self.expected_defaults_se, None, None),
            ("default_rate", self.default_rate, self.default_rate_se, None, None),
        ]
        for level in LEVELS:
            rows.append((f"value_at_risk_{level}", self.value_at_risk[level], None, *self.value_at_risk_ci[level]))
        for level in LEVELS:
            shortfall, error = self.expected_shortfall[level], self.expected_shortfall_se[level]
            rows.append((f"expected_shortfall_{level}", shortfall, error, None, None))
        for year, moments in enumerate(self.loss_by_year, start=1):
            rows.append(
                (f"expected_loss_year_{year}", moments.mean / CENTS, moments.standard_error / CENTS, None, None)
            )
        for cause, moments in self.loss_by_cause.items():
            rows.append((f"expected_loss_{cause}", moments.mean / CENTS, moments.standard_error / CENTS, None, None))
        frame = pd.DataFrame(rows, columns=["figure", "value", "standard_error", "low", "high"]).set_index("figure")
        return frame.astype("float64")

    @cached_property
    def paid(self) -> TrancheCash | None:
        """What the tranches of the pool that was run get; None: there was none."""
        return None if self.pool is None else self.waterfall(self.pool)

    def to_json_dict(self) -> dict[str, Any]:
        """The object that `gpuloan-mc run --json` prints: money in dollars, finite numbers or null."""
        return {key: _finite(value) for key, value in self._json_fields().items()}

    def _json_fields(self) -> dict[str, Any]:
        figures = self.figures
        return {
            "version": __version__,
            "n_paths": self.n_paths,
            "seed": self.seed,
            "engine": self.engine,
            "engine_reason": self.engine_reason,
            "engine_paths": list(self.engine_paths),
            "seconds": self.seconds,
            "compile_seconds": self.compile_seconds,
            "timings": dict(self.timings),
            "loan_steps_per_second": self.loan_steps_per_second,
            "digest": self.digest,
            "plan_digest": self.plan_digest,
            "scenarios": [name for name, _ in self.scenarios],
            "target": None if self.target is None else self.target.to_json_dict(self.losses),
            "waterfall": None if self.paid is None else self.paid.table.to_dict("records"),
            "n_loans": self.n_loans,
            "horizon_months": self.horizon_months,
            "balance": self.balance_usd,
            "commitment": self.commitment_usd,
            "expected_loss": self.expected_loss,
            "expected_loss_se": self.expected_loss_se,
            "expected_discounted_loss": self.expected_discounted_loss,
            "expected_discounted_loss_se": self.expected_discounted_loss_se,
            "loss_std": self.loss_std,
            "loss_std_se": figures.loss_std_se / CENTS,
            "probability_of_loss": self.probability_of_loss,
            "probability_of_loss_ci": list(figures.probability_of_loss_ci),
            "value_at_risk": _by_level(self.value_at_risk),
            "value_at_risk_ci": {k: list(v) for k, v in _by_level(self.value_at_risk_ci).items()},
            "expected_shortfall": _by_level(self.expected_shortfall),
            "expected_shortfall_se": _by_level(self.expected_shortfall_se),
            "tail_paths": _by_level(figures.tail_paths),
            "largest_path_loss": figures.max_loss / CENTS,
            "largest_loan_loss": self.largest_loss / CENTS,
            "defaulted_balance": self.defaulted_balance.mean / CENTS,
            "defaulted_balance_se": self.defaulted_balance.standard_error / CENTS,
            "expected_defaults": self.expected_defaults,
            "expected_defaults_se": self.expected_defaults_se,
            "default_rate": self.default_rate,
            "default_rate_se": self.default_rate_se,
            "expected_loss_by_year": self.expected_loss_by_year,
            "expected_loss_by_year_se": [m.standard_error / CENTS for m in self.loss_by_year],
            "expected_loss_by_cause": self.expected_loss_by_cause,
            "expected_loss_by_cause_se": {k: m.standard_error / CENTS for k, m in self.loss_by_cause.items()},
        }

    def to_json(self) -> str:
        """`to_json_dict` as text."""
        return json.dumps(self.to_json_dict(), indent=2, allow_nan=False)


def _finite(value: Any) -> Any:
    """The value as JSON can hold it: an error that one path can't give (NaN) is null."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _dollars(cents: int | None) -> float | None:
    return None if cents is None else cents / CENTS


def _by_level(values: Mapping[float, Any]) -> dict[str, Any]:
    return {f"{level:g}": value for level, value in values.items()}
