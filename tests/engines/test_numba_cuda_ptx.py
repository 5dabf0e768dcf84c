"""The kernel of the engine numba-cuda and every twin compile for sm_90, without a driver, to the instructions meant."""

from __future__ import annotations

import inspect
import re
import types
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from gpuloan_mc.engines.cuda_target import CLASSIC, Target, choose_package, is_simulated, load_target
from gpuloan_mc.errors import EnvironmentProblem

ARCHITECTURE = (9, 0)
IN_CENTS = {
    "rank_of",
    "to_cents",
    "discounted",
    "group_threshold",
    "rank_bound",
}  # float64 by docs/model.md 1.4 and 3.6


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    """numba-cuda, told of a device that is not there: it asks for one when a twin calls another."""
    if is_simulated():
        pytest.skip("the simulator compiles nothing")
    try:
        package = choose_package()
    except EnvironmentProblem as problem:
        pytest.skip(str(problem))
    if package != CLASSIC:
        pytest.skip(f"{package} does not compile without a driver; {CLASSIC} does")
    loaded = load_target()
    device = types.SimpleNamespace(compute_capability=ARCHITECTURE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("numba.cuda.dispatcher.get_current_device", lambda: device)
        yield loaded


def instructions(ptx: str) -> Counter[str]:
    """How often each instruction stands in the text."""
    return Counter(re.findall(r"^\s+(?:@!?%p\d+\s+)?([a-z][a-z0-9_]*(?:[.:]+[a-zA-Z0-9_:]+)*)", ptx, re.MULTILINE))


def assert_exact(found: Counter[str]) -> None:
    """Nothing approximate, nothing flushed to zero, no float atomics; roots and quotients rounded correctly."""
    for name in found:
        assert "approx" not in name
        assert ".ftz" not in name
        assert not re.match(r"(atom|red)\..*\.f(16|32|64)", name)
        if name.startswith(("sqrt", "div", "fma", "rcp")) and ".f" in name:
            assert ".rn." in name


def array_types(values: Any) -> Any:
    from numba.cuda import types as numba_types
    from numba.cuda.np import numpy_support

    arrays = [numba_types.Array(numpy_support.from_dtype(value.dtype), value.ndim, "C") for value in values]
    return numba_types.NamedTuple(arrays, type(values))


@pytest.fixture(scope="module")
def kernel_ptx(target) -> str:
    """The whole kernel."""
    from numba import cuda
    from numba.cuda import types as numba_types

    from gpuloan_mc.engines.numba_cuda_layout import device_book, device_work
    from gpuloan_mc.engines.numba_cuda_loops import run_paths
    from gpuloan_mc.engines.numba_cuda_memory import Results
    from gpuloan_mc.engines.twins import Twins
    from gpuloan_mc.planning import build_plan
    from gpuloan_mc.portfolio import Portfolio

    portfolio = Portfolio.read("neocloud-2024")
    book = device_book(build_plan(portfolio, portfolio.market))
    results = Results(np.zeros((1, 6), np.int64), np.zeros(1, np.int64), np.zeros((1, 1, 2, 1), np.float32))
    arguments = [array_types(part) for part in (book, device_work(book, 4, 1), results)]
    arguments += [numba_types.uint64, numba_types.uint64, numba_types.int64]
    ptx, _ = cuda.compile_ptx(Twins(target).rebuilt(run_paths), tuple(arguments), cc=ARCHITECTURE)
    return str(ptx)


@pytest.fixture(scope="module")
def kernel(kernel_ptx) -> Counter[str]:
    """Instructions of the whole kernel."""
    return instructions(kernel_ptx)


def test_the_arguments_fit_in_four_kilobytes(kernel_ptx):
    """What a kernel may take before CUDA 12.1."""
    entry = kernel_ptx[kernel_ptx.index(".entry") :]
    words = re.findall(r"\.param\s+(?:\.align\s+\d+\s+)?\.[usbf](\d+)", entry[: entry.index("\n{")])
    assert 0 < sum(int(bits) // 8 for bits in words) <= 4096


def test_the_kernel_is_exact(kernel):
    assert_exact(kernel)
    assert kernel["fma.rn.f32"] > 100
    assert kernel["bar.sync"] + kernel["barrier.sync"] >= 10


def test_the_kernel_adds_no_float64(kernel):
    """Money is a product rounded once: float64 is multiplied, rounded, compared and converted, nothing else."""
    wide = {name for name in kernel if ".f64" in name}
    allowed = re.compile(r"(mul\.rn|mul|cvt\.\S+|ld\.\S+|mov|setp\.\w+|selp)\.f64|cvt\.\S+|(ld|st)\.\S+|mov\.f64")
    assert {name for name in wide if not allowed.fullmatch(name)} == set()


def path_functions() -> dict[str, Any]:
    from gpuloan_mc.paths import arithmetic, loans, market, obligors, path, philox, recovery

    found = {}
    for module in (arithmetic, loans, market, obligors, path, philox, recovery):
        found |= {
            n: f for n, f in vars(module).items() if getattr(f, "py_func", None) and f.__module__ == module.__name__
        }
    return found


FUNCTIONS = path_functions()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_twins_are_exact_and_float32(target, name):
    from numba import cuda
    from numba.cuda import types as numba_types

    from gpuloan_mc.engines.twins import Twins

    table, words = numba_types.Array(numba_types.float32, 2, "C"), numba_types.UniTuple(numba_types.uint64, 4)
    kinds = {"F32": table, "Words": words, "bool": numba_types.boolean, "int": numba_types.int32}
    kinds |= {f"np.{n}": getattr(numba_types, n) for n in ("float32", "float64", "int32", "int64", "uint64")}
    function = FUNCTIONS[name].py_func
    arguments = tuple(kinds[str(p.annotation)] for p in inspect.signature(function).parameters.values())
    ptx, _ = cuda.compile_ptx(Twins(target).rebuilt(function), arguments, device=True, cc=ARCHITECTURE)
    found = instructions(ptx)
    assert_exact(found)
    if name not in IN_CENTS:
        assert [i for i in found if "f64" in i] == []
