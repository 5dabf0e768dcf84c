"""What a run says: the path integers, the figures made of them, and the files of a run folder."""

from __future__ import annotations

import importlib.metadata
import io
import json
import math
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import __version__, risk
from .files import empty_folder, toml_text, write_whole
from .inputs.market_file import FILE_NAME
from .inputs.rejected import REJECTED
from .plan import Plan
from .reference.arithmetic import I32, I64
from .risk import LEVELS, Moments, RiskFigures

if TYPE_CHECKING:
    import pandas as pd

    from .market import Market
    from .portfolio import Portfolio

MANIFEST = "manifest.json"
RNG_SCHEME = "philox4x32-10/1"
CENTS = 100.0
_PACKAGES = ("numpy", "scipy", "pandas", "pyarrow", "pydantic")


@dataclass(frozen=True)
class Result:
    """The loss distribution of a book, with every path's integers. Arrays are in cents; properties in dollars."""

    n_paths: int
    seed: int
    engine: str
    engine_reason: str
    seconds: float  # the engine's own time
    loan_steps_per_second: float
    digest: str
    plan_digest: str
    commitment_usd: float
    balance_usd: float
    n_loans: int
    horizon_months: int
    losses: I64 = field(repr=False)
    discounted_losses: I64 = field(repr=False)
    defaulted_balance: I64 = field(repr=False)
    largest_loss: I64 = field(repr=False)
    defaults: I32 = field(repr=False)
    loss_by_year: tuple[Moments, ...] = field(repr=False)
    loss_by_cause: Mapping[str, Moments] = field(repr=False)
    loan_totals: Mapping[str, NDArray[Any]] = field(repr=False)
    plan: Plan = field(repr=False)

    @cached_property
    def figures(self) -> RiskFigures:
        """Risk figures of the losses, in cents."""
        return risk.figures(self.losses)

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
    def loss_std(self) -> float:
        """Standard deviation of the loss."""
        return self.figures.loss_std / CENTS

    @property
    def probability_of_loss(self) -> float:
        """Share of paths with any loss."""
        return self.figures.probability_of_loss

    @property
    def default_rate(self) -> float:
        """Mean share of the loans that default by the horizon."""
        return float(self.defaults.sum(dtype=np.int64)) / (self.n_paths * self.n_loans)

    @property
    def default_rate_se(self) -> float:
        """Standard error of the default rate."""
        return Moments.of(self.defaults.astype(np.int64)).standard_error / self.n_loans

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
            "seconds": self.seconds,
            "loan_steps_per_second": self.loan_steps_per_second,
            "digest": self.digest,
            "plan_digest": self.plan_digest,
            "n_loans": self.n_loans,
            "horizon_months": self.horizon_months,
            "balance": self.balance_usd,
            "commitment": self.commitment_usd,
            "expected_loss": self.expected_loss,
            "expected_loss_se": self.expected_loss_se,
            "expected_discounted_loss": self.expected_discounted_loss,
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
            "default_rate": self.default_rate,
            "default_rate_se": self.default_rate_se,
            "expected_loss_by_year": [m.mean / CENTS for m in self.loss_by_year],
            "expected_loss_by_year_se": [m.standard_error / CENTS for m in self.loss_by_year],
            "expected_loss_by_cause": {k: m.mean / CENTS for k, m in self.loss_by_cause.items()},
            "expected_loss_by_cause_se": {k: m.standard_error / CENTS for k, m in self.loss_by_cause.items()},
        }

    def to_json(self) -> str:
        """`to_json_dict` as text."""
        return json.dumps(self.to_json_dict(), indent=2, allow_nan=False)

    def write(self, folder: str | Path, portfolio: Portfolio, market: Market) -> Path:
        """Write the run folder: manifest.json, summary.json, paths.parquet, inputs/ with the book as read and plan.npz.

        The manifest comes last: a folder that has one is complete. `inputs` is a book that can be run again.

        Raises:
            UsageError: the folder holds something that is not an earlier run, or can't be written.
        """
        target = prepare_run_folder(folder)
        (target / MANIFEST).unlink(missing_ok=True)
        inputs = target / "inputs"
        inputs.mkdir(exist_ok=True)
        for name in ("loans", "deployments", "obligors", "schedules"):
            write_whole(inputs / f"{name}.parquet", _parquet(getattr(portfolio, name)))
        write_whole(inputs / FILE_NAME, toml_text(market.model_dump(exclude_none=True)).encode())
        write_whole(inputs / "plan.npz", self.plan.to_bytes())
        write_whole(target / "paths.parquet", _parquet(self.paths()))
        write_whole(target / "summary.json", (self.to_json() + "\n").encode())
        write_whole(target / MANIFEST, (json.dumps(self._manifest(portfolio), indent=2) + "\n").encode())
        return target

    def paths(self) -> pd.DataFrame:
        """A row a path, in path order: int64 cents and the number of defaults."""
        import pandas as pd

        return pd.DataFrame(
            {
                "path": np.arange(self.n_paths, dtype=np.int64),
                "loss_cents": self.losses,
                "discounted_loss_cents": self.discounted_losses,
                "defaulted_balance_cents": self.defaulted_balance,
                "largest_loss_cents": self.largest_loss,
                "defaults": self.defaults,
            }
        )

    def _manifest(self, portfolio: Portfolio) -> dict[str, Any]:
        return {
            "version": __version__,
            "rng_scheme": RNG_SCHEME,
            "seed": self.seed,
            "n_paths": self.n_paths,
            "engine": self.engine,
            "engine_reason": self.engine_reason,
            "digest": self.digest,
            "plan_digest": self.plan_digest,
            "seconds": self.seconds,
            "sources": dict(portfolio.sources),
            "rows": {name: len(getattr(portfolio, name)) for name in ("loans", "deployments", "obligors", "schedules")},
            "commitment_usd": self.commitment_usd,
            "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
            "python": platform.python_version(),
        }


def prepare_run_folder(folder: str | Path) -> Path:
    """The folder of a run, made if need be; the folder of an earlier run, or of one that was refused, may be used again.

    Raises:
        UsageError: the folder holds something that is not an earlier run, or can't be made.
    """
    return empty_folder(Path(folder), marks=(MANIFEST, REJECTED))


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


def _parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()
