"""The engine numba-cuda without a GPU: its kernel in numba's simulator, in a process of its own (`pytest --cudasim`)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpuloan_mc.engines.cuda_target import SIMULATOR, choose_package
from gpuloan_mc.errors import EnvironmentProblem

SIMULATED = Path(__file__).with_name("simulated_numba_cuda.py")


def simulator_problem() -> str:
    """Why there is no simulator here; nothing where there is one."""
    try:
        choose_package(simulated=True)
    except EnvironmentProblem as problem:
        return str(problem)
    return ""


def test_the_simulator_gives_the_reference_s_integers():
    """numba looks for the simulator when it is imported, so another process runs the tests of `SIMULATED`."""
    if problem := simulator_problem():
        pytest.skip(problem)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--cudasim", str(SIMULATED)]
    if "GPULOAN_MC_INSTALLED" in os.environ:
        command += ["-o", "pythonpath="]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, env=os.environ | {SIMULATOR: "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
