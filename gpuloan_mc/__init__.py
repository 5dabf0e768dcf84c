"""Loss distributions of loans secured by GPUs: prices, tenants, borrowers and fire sales in one simulation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .comparison import Stress as Stress
    from .comparison import stress as stress
    from .errors import GpuLoanError as GpuLoanError
    from .errors import InputRejected as InputRejected
    from .market import Market as Market
    from .portfolio import Portfolio as Portfolio
    from .prices import Prices as Prices
    from .prices import simulate_prices as simulate_prices
    from .result import Result as Result
    from .run_comparison import RunComparison as RunComparison
    from .run_comparison import compare as compare
    from .saved_run import SavedRun as SavedRun
    from .scenario import Scenario as Scenario
    from .scenario import scenarios as scenarios
    from .sensitivity import Sensitivities as Sensitivities
    from .sensitivity import sensitivities as sensitivities
    from .simulation import simulate as simulate

_HOMES = {
    "GpuLoanError": "errors",
    "InputRejected": "errors",
    "Market": "market",
    "Portfolio": "portfolio",
    "Prices": "prices",
    "Result": "result",
    "RunComparison": "run_comparison",
    "SavedRun": "saved_run",
    "Scenario": "scenario",
    "Sensitivities": "sensitivity",
    "Stress": "comparison",
    "compare": "run_comparison",
    "scenarios": "scenario",
    "sensitivities": "sensitivity",
    "simulate": "simulation",
    "simulate_prices": "prices",
    "stress": "comparison",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used, so that the command line starts quickly."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value
