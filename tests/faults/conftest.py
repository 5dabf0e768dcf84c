"""Counts of faults, kept for docs/reliability.md, and the small book that they run."""

import importlib.util
from pathlib import Path

import pytest


def load(name):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


page = load("page")


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


@pytest.fixture(scope="module")
def small_book():
    """Six loans that default often."""
    return load("forks").small_book()
