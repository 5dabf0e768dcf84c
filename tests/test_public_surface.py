"""What users may import. To export a name is to edit this list."""

import os
from pathlib import Path

import gpuloan_mc

PUBLIC = [
    "GpuLoanError", "InputRejected", "Market", "Portfolio", "Prices", "Result", "RunComparison", "SavedRun", "Scenario",
    "Sensitivities", "Stress", "compare", "scenarios", "sensitivities", "simulate", "simulate_prices", "stress", "__version__",
]  # fmt: skip


def test_the_public_surface_is_this_list():
    assert list(gpuloan_mc.__all__) == PUBLIC
    assert all(getattr(gpuloan_mc, name) is not None for name in PUBLIC)
    assert callable(gpuloan_mc.simulate)


def test_the_installed_package_is_tested_when_asked_for():
    home = Path(gpuloan_mc.__file__).resolve()
    if os.environ.get("GPULOAN_MC_INSTALLED"):
        assert "site-packages" in home.parts
    else:
        assert home.is_file()
