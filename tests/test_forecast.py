"""What `gpuloan-mc plan` says before a run."""

import json
import sys

import numpy as np
import pytest

from gpuloan_mc import cli
from gpuloan_mc.engines import cuda_setup
from gpuloan_mc.engines.cuda_setup import Machine
from gpuloan_mc.errors import EnvironmentProblem, UsageError
from gpuloan_mc.forecast import _duration, forecast
from gpuloan_mc.ledger import Ledger, ledger_bytes
from gpuloan_mc.planning import build_plan
from gpuloan_mc.portfolio import Portfolio


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    """A machine without a driver."""
    monkeypatch.setattr(cuda_setup, "look", lambda: Machine(None, ()))


@pytest.fixture(scope="module")
def book():
    portfolio = Portfolio.read("vasicek-100")
    return portfolio, portfolio.market


@pytest.mark.parametrize("engine", ["numba", "numpy", "auto"])
def test_time_and_memory_of_engines_that_run_here(book, engine):
    found = forecast(*book, n_paths=1000, engine=engine)
    assert found.engine == ("numba" if engine == "auto" else engine)
    assert 0 < found.chunk <= 1000
    assert 0 < found.pilot_paths <= 1000
    assert found.seconds > 0
    assert found.device_bytes == ()
    assert found.host_bytes > 0


def test_the_time_grows_with_the_paths(book):
    one, other = (forecast(*book, n_paths=n, engine="numba").seconds for n in (100_000, 10_000_000))
    assert 20 < other / one < 500  # 100, but for the machine's other work


def test_a_gpu_that_is_not_here_is_unmeasured_and_laid_out_all_the_same(book):
    one, two = (forecast(*book, n_paths=100_000, engine="cuda", devices=d) for d in (None, [0, 1]))
    assert one.seconds is None
    assert "no CUDA driver" in one.unmeasured
    assert "unmeasured on this device" in one.lines()[-1]
    assert len(one.device_bytes) == 1
    assert len(two.device_bytes) == 2
    assert one.device_bytes[0] / 3 < two.device_bytes[0] < one.device_bytes[0]
    with pytest.raises(EnvironmentProblem, match="numba-cuda"):
        forecast(*book, engine="numba-cuda")


def test_temporary_files_are_told(book):
    few, many = forecast(*book, n_paths=1000, engine="numpy"), forecast(*book, n_paths=10**9, engine="numpy", chunk=50)
    assert few.file_bytes == 0
    assert "temporary" not in "".join(few.lines())
    assert many.file_bytes == 36 * 10**9
    assert many.result_bytes < 10**9
    assert "34,333 MiB of temporary files in " in "".join(many.lines())


def test_bytes_of_results_are_those_of_the_ledger(busy_book):
    world, portfolio = busy_book()
    plan = build_plan(portfolio, world)
    ledger = Ledger(plan, 500)
    arrays = [ledger.losses, np.sort(ledger.losses), ledger.discounted_losses, ledger.defaults, ledger.prices]
    arrays += [ledger.loan_cause_defaults, ledger.loan_cause_loss, *ledger.by_loan.arrays(), *ledger.by_group.arrays()]
    assert ledger_bytes(plan, 500) == sum(a.nbytes for a in arrays)


def test_arguments_are_checked_as_for_a_run(book):
    for options in ({"n_paths": 0}, {"engine": "gpu"}, {"chunk": 0}, {"devices": [0, 0]}, {"workers": 0}):
        with pytest.raises(UsageError):
            forecast(*book, **options)


def test_the_command_prints_lines_or_json(monkeypatch, capsys):
    def shown(*options):
        monkeypatch.setattr(sys, "argv", ["gpuloan-mc", "plan", "vasicek-100", "--paths", "5000", *options])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert stop.value.code == 0
        return capsys.readouterr().out

    lines = shown().splitlines()
    assert lines[0] == "engine numba (auto: numba; no CUDA driver was found)"
    assert lines[1].startswith("5,000 paths in chunks of at most ")
    assert lines[3].startswith("expected time: ")
    found = json.loads(shown("--json", "--engine", "cuda", "--devices", "0,1", "--chunk", "1000"))
    assert found["chunk"] == 1000
    assert found["seconds"] is None
    assert len(found["device_bytes"]) == 2


@pytest.mark.parametrize("seconds, text", [(0.0123, "0.012 s"), (42.4, "42 s"), (600, "10 min"), (36_000, "10.0 h")])
def test_durations_are_for_people(seconds, text):
    assert _duration(np.float64(seconds)) == text
