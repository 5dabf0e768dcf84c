"""Which package the engine numba-cuda compiles with, decided on fake sets of packages."""

from __future__ import annotations

import dataclasses
import sys
import types

import numpy as np
import pytest

from gpuloan_mc.engines import cuda_target
from gpuloan_mc.engines.cuda_target import CLASSIC, INSTALL, INSTALL_CLASSIC, MLIR, Target, choose_package
from gpuloan_mc.engines.twins import DEVICE, Twins
from gpuloan_mc.errors import EnvironmentProblem
from gpuloan_mc.paths.arithmetic import log, maximum, normal_quantile
from gpuloan_mc.paths.primitives import fma
from gpuloan_mc.paths.recovery import exposure


def packages(**versions: str):
    return {name.replace("_", "-"): version for name, version in versions.items()}.get


def refusal(**versions: str) -> str:
    simulated = versions.pop("simulated", "") == "yes"
    with pytest.raises(EnvironmentProblem) as caught:
        choose_package(packages(**versions), simulated)
    return str(caught.value)


@pytest.mark.parametrize("numpy", ["2.0.0", "2.4.6", "2.5.0", "2.10.1", "3.0"])
def test_mlir_comes_first_whatever_the_numpy(numpy):
    assert choose_package(packages(numba_cuda_mlir="0.6.0", numba_cuda="0.30.4", numba="0.68.1", numpy=numpy)) == MLIR


@pytest.mark.parametrize("numpy", ["1.26.4", "2.0.0", "2.4.6", "2.4.0rc1"])
def test_numba_cuda_with_a_numpy_below_2_5(numpy):
    assert choose_package(packages(numba_cuda="0.30.4", numba="0.68.1", numpy=numpy)) == CLASSIC


@pytest.mark.parametrize("numpy", ["2.5.0", "2.5.0rc1", "2.10", "3.0.0"])
def test_numba_cuda_with_a_newer_numpy_is_refused_with_the_line_that_mends_it(numpy):
    text = refusal(numba_cuda="0.30.4", numba="0.68.1", numpy=numpy)
    assert f"numba-cuda 0.30.4 fails with NumPy {numpy}" in text
    assert INSTALL in text
    assert INSTALL_CLASSIC in refusal(numba_cuda="0.30.4", numpy=numpy, simulated="yes")


def test_the_target_that_numba_brings_is_refused_with_the_reason():
    text = refusal(numba="0.68.1", numpy="2.4.6")
    assert "numba brings itself crashes on NVIDIA drivers from 580" in text
    assert "pip install 'numba-cuda-mlir[cu13]'" in text
    assert "engine 'numba'" in text
    assert "580" not in refusal(numpy="2.4.6")


def test_the_simulator_is_numba_cudas():
    assert choose_package(packages(numba_cuda_mlir="0.6.0", numba_cuda="0.30.4", numpy="2.4.6"), True) == CLASSIC
    assert "the simulator ($NUMBA_ENABLE_CUDASIM)" in refusal(numba_cuda_mlir="0.6.0", numpy="2.4.6", simulated="yes")


@pytest.mark.parametrize("value, simulated", [("", False), ("0", False), ("1", True)])
def test_the_simulator_is_asked_for_by_the_environment(monkeypatch, value, simulated):
    monkeypatch.setenv(cuda_target.SIMULATOR, value)
    assert cuda_target.is_simulated() is simulated


@pytest.mark.parametrize("package, module", [(MLIR, "numba_cuda_mlir"), (CLASSIC, "numba.cuda")])
def test_a_package_that_cannot_be_imported_is_a_sentence(monkeypatch, package, module):
    monkeypatch.delenv(cuda_target.SIMULATOR, raising=False)
    monkeypatch.setattr(cuda_target, "choose_package", lambda **_: package)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(EnvironmentProblem, match=rf"{package}.* can't be imported.*{module}.*pip install"):
        cuda_target.load_target()


def fake_target():
    """A target that compiles nothing and records what it was asked for."""
    cuda = types.SimpleNamespace(
        asked=[], jit=lambda **options: lambda f: cuda.asked.append((f.__name__, options)) or f
    )
    cuda.fma = lambda a, b, c: ("fma", a, b, c)
    return Target(MLIR, cuda, types.SimpleNamespace(float_as_int="bits of x"), False)


def uses_the_device(x):
    return DEVICE.place, maximum(x, x)


def test_twins_are_rebuilt_once():
    target = fake_target()
    twins = Twins(target)
    twin = twins.of(normal_quantile)
    assert twin.__code__ is normal_quantile.py_func.__code__
    assert twins.of(normal_quantile) is twin
    assert twin.__globals__["log"] is twins.of(log)
    names = {name for name, _ in target.cuda.asked}
    assert names == {
        "_quantile_centre",
        "_quantile_tail",
        "log",
        "normal_quantile",
        "_fma",
        "_float_bits",
        "_bits_float",
        "_square_root",
    }
    assert len(target.cuda.asked) == len(names)
    assert all(options == {"device": True} for _, options in target.cuda.asked)


def test_primitives_become_the_devices():
    twins = Twins(fake_target())
    assert twins.of(exposure)(2, 3) == ("fma", 2, 3, 2)
    assert twins.of(log).__globals__["float_bits"].__globals__["LIBDEVICE"].float_as_int == "bits of x"


def test_the_simulator_interprets_primitives_as_they_are():
    target = fake_target()
    twins = Twins(dataclasses.replace(target, simulated=True))
    assert twins.of(exposure).__globals__["fma"] is fma
    assert target.cuda.asked == []


def test_twins_hold_the_targets_module_and_leave_the_original_alone():
    target = fake_target()
    target.cuda.place = 7
    assert Twins(target).of(uses_the_device)(np.float32(2)) == (7, np.float32(2))
    assert uses_the_device.__globals__["DEVICE"] is DEVICE
    assert normal_quantile.py_func.__globals__["fma"] is fma
