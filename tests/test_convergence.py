"""Measures against paths, and the paths that an error needs."""

import math

import numpy as np
import pytest

from gpuloan_mc import risk
from gpuloan_mc.convergence import convergence, paths_needed
from gpuloan_mc.errors import UsageError


def losses(n):
    return np.floor(np.random.default_rng(1).exponential(1e8, n)).astype(np.int64)


def test_each_row_is_the_measure_of_the_first_paths():
    sample = losses(5000)
    frame = convergence(sample, [0.95, 0.99])
    assert sorted(set(frame["paths"])) == [64, 128, 256, 512, 1024, 2048, 4096, 5000]
    row = frame[(frame["measure"] == "expected_shortfall") & (frame["level"] == 0.99) & (frame["paths"] == 2048)].iloc[
        0
    ]
    figures = risk.figures(sample[:2048])
    assert row["value_usd"] == figures.expected_shortfall[0.99] / 100
    assert row["standard_error_usd"] == figures.expected_shortfall_se[0.99] / 100
    assert row["tail_paths"] == 21 and row["few"]
    last = frame[frame["paths"] == 5000].set_index("measure")
    assert last.loc["expected_loss", "value_usd"] == risk.mean(sample) / 100
    assert not last.loc["expected_loss", "few"]


def test_paths_needed_fall_as_the_square_of_the_error():
    assert paths_needed(1000, 50.0, 1.0, 0.01) == 4000
    assert paths_needed(1000, 50.0, 0.0, 0.01) == 1000
    assert math.isnan(paths_needed(1000, 0.0, 1.0, 0.01)) and math.isnan(paths_needed(1000, 5.0, math.nan, 0.01))
    sample = losses(40_000)
    needed = convergence(sample[:10_000], [], 0.005).iloc[-1]["paths_needed"]
    assert needed == pytest.approx(40_000, rel=0.05)  # an exponential's deviation is its mean
    assert risk.standard_error(sample) / risk.mean(sample) == pytest.approx(0.005, rel=0.05)


def test_one_path_knows_no_error():
    frame = convergence(np.array([5]), [0.99])
    assert frame["paths"].tolist() == [1, 1, 1]
    assert frame["paths_needed"].isna().all()


@pytest.mark.parametrize("arguments", [([0.99], 0), ([0.99], 1), ([0.99], math.nan), ([1.0], 0.01), ([-1], 0.01)])
def test_targets_and_levels_outside_are_refused(arguments):
    with pytest.raises(UsageError, match="between 0 and 1"):
        convergence(losses(10), *arguments)
