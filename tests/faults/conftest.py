"""Counts of faults, kept for docs/reliability.md."""

import importlib.util
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location("page", Path(__file__).parent / "page.py")
page = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(page)


@pytest.fixture
def record(request):
    """Take a test's counts; `pytest -m faults --record-faults` writes them into the page."""

    def take(name, **counts):
        if request.config.getoption("--record-faults"):
            page.keep(name, counts)

    return take


@pytest.fixture
def reliability():
    """The page's module."""
    return page
