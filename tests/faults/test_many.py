"""The faults of test_runs.py and test_inputs.py, many times over."""

import pytest

from .damage import damaged_chunks, damaged_manifests, damaged_tapes, killed

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(3600)]


def test_150_runs_killed_at_random_moments(tmp_path):
    killed(tmp_path, n_runs=150, seed=11)


def test_5000_damaged_files_of_runs(tmp_path, unfinished):
    assert damaged_chunks(tmp_path, unfinished, n=1000, seed=12) + damaged_manifests(
        tmp_path, unfinished, n=4000, seed=13
    ) == 5000


def test_2000_damaged_books(books):
    damaged_tapes(books, truncated=400, flipped=1500, of_csv=100, seed=18)
