"""The CUDA headers, built by a C++ compiler, against the path functions: bit for bit, however products may be contracted."""

from __future__ import annotations

import ctypes
import importlib
import inspect
import shutil
import subprocess
import zlib
from functools import cache
from typing import Any

import numpy as np
import pytest

from gpuloan_mc import tables
from gpuloan_mc.paths import arithmetic, obligors, primitives

from . import headers

f32, i32, u32, u64 = np.float32, np.int32, np.uint32, np.uint64

FLAGS = {
    "contract off": ["-O2", "-ffp-contract=off"],
    "contract fast": ["-O3", "-ffp-contract=fast", "-march=native"],
}
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wno-unused-function", "-Wno-unused-const-variable"]

NEAR = 1000  # arguments drawn from edges alone
FAR = 6000  # arguments drawn at random
OTHER_NAMES = {"falls_short": "short"}  # a keyword of C++


def python_name(parameter: str) -> str:
    return OTHER_NAMES.get(parameter, parameter)


@cache
def path_functions() -> dict[str, Any]:
    """Path functions by topic and name; the underscore of a private one is Python's."""
    found = {}
    for topic in headers.TOPICS:
        home = importlib.import_module(f"gpuloan_mc.paths.{topic}")
        for name, value in vars(home).items():
            plain = getattr(value, "py_func", value)
            if inspect.isfunction(plain) and plain.__module__ == home.__name__:
                found[f"{topic}.{name.removeprefix('_')}"] = value
    return found


# --- every function has its twin --------------------------------------------------------------------------------------


def test_every_path_function_has_a_header_twin_and_the_other_way_round():
    assert headers.functions().keys() == path_functions().keys()
    assert len(headers.functions()) > 60


@pytest.mark.parametrize("name", headers.functions())
def test_the_twins_take_the_same_arguments(name):
    function = path_functions()[name]
    theirs = inspect.signature(getattr(function, "py_func", function)).parameters
    assert [python_name(p) for p in headers.functions()[name].parameters] == list(theirs)


def test_every_topic_has_a_header():
    files = {file.stem for file in (headers.kernel_root() / "gpuloan").glob("*.cuh")}
    assert files >= {"portable", *headers.TOPICS}


# --- arguments --------------------------------------------------------------------------------------------------------


def near(x: float) -> list[np.float32]:
    """A number, its neighbours, and the same below zero."""
    v = f32(x)
    some = [v, np.nextafter(v, f32(np.inf)), np.nextafter(v, f32(-np.inf))]
    return some + [-w for w in some]


ZEROS = [f32(0.0), f32(-0.0)]
REAL = [*ZEROS, *(v for x in (2.0**-60, 2.0**-20, 0.5, 1, 2.25, 6.5, 8, 24, 40, 64) for v in near(x)), f32(1e-30)]
INFINITE = [f32(np.inf), f32(-np.inf)]
WORDS = [0, 1, 2**8 - 1, 2**8, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 2, 2**32 - 1]
LONG_WORDS = [*WORDS, 2**32, 2**40 - 1, 2**63, 2**64 - 1]
WITH_INFINITIES = ("arithmetic.maximum.a arithmetic.maximum.b arithmetic.minimum.a arithmetic.minimum.b arithmetic.clip.x "
                   "arithmetic.flush.x arithmetic.exp.x arithmetic.normal_cdf.z arithmetic.interpolate.x "
                   "arithmetic.at_score.n arithmetic.exp_parts.x market.spot_price.premium").split()  # fmt: skip

LATENT = tables.tabulate(tables.log_cumulative_hazard(None), -8, 8, 64)
LATENT_T = tables.tabulate(tables.log_cumulative_hazard(4.0), -64, 64, 32)
RISE = np.stack([np.linspace(-8, 8, 1024), np.full(1024, 1.0)]).astype(f32)
ROUGH = np.random.default_rng(5).normal(size=(2, 28 * 64)).astype(f32)
LAGS = np.stack([np.linspace(-20, 30, 1024), np.full(1024, 2.0)]).astype(f32)
SHARES = np.stack([np.linspace(-0.2, 1.2, 1024), np.full(1024, 0.1)]).astype(f32)


def _range(low: Any, high: Any, per_unit: Any) -> dict[str, np.float32]:
    return {"low": low, "high": high, "per_unit": per_unit}


# What is the same in all calls of a run: a table and what belongs to it.
FIXED: dict[str, list[dict[str, Any]]] = {
    "arithmetic.interpolate": [
        {"table": RISE, **_range(f32(-8), f32(8), f32(64))},
        {"table": ROUGH, **_range(f32(-24), f32(4), f32(64))},
        {"table": LATENT_T, **_range(f32(-64), f32(64), f32(32))},
    ],
    "arithmetic.at_score": [{"table": RISE}, {"table": ROUGH[:, :1024].copy()}],
    "obligors.threshold": [{"table": LATENT, "is_t": i32(0)}, {"table": LATENT_T, "is_t": i32(1)}],
    "obligors.highest_quality": [
        {"table": LATENT, "is_t": i32(0)},
        {"table": LATENT_T, "is_t": i32(1)},
        {"table": np.zeros((2, 1024), f32), "is_t": i32(0)},  # a flat table: no slope to divide by
    ],
    "obligors.group_threshold": [{"table": ROUGH}],
    "recovery.sale_lag": [{"table": LAGS}],
    "recovery.share_of_table": [{"table": SHARES}],
}

# Arguments that are not any float: random ones of a shape, and edges.
LEGAL: dict[str, tuple[Any, list[Any]]] = {
    "arithmetic.log.x": (lambda d, n: np.exp(d.uniform(-80, 80, n)), [1, *near(1)[:3], *near(2.0**-0.5)[:3], 2.0**-126, 3.4e38]),
    "arithmetic.normal_quantile.p": (
        lambda d, n: np.where(d.random(n) < 0.5, d.uniform(1e-6, 0.5, n), np.exp2(d.uniform(-33, -1, n))),
        [2.0**-33, 2.0**-32, 0.5, np.nextafter(f32(0.5), ZEROS[0]), *near(1.6873e-3)[:3], 0.25],
    ),
    "arithmetic.quantile_tail.w": (lambda d, n: d.uniform(5, 23, n), [5, np.nextafter(f32(5), f32(6)), 22.18]),
    "arithmetic.exp_parts.correction": (lambda d, n: d.normal(size=n) * 1e-8, ZEROS),
    "philox.path": (lambda d, n: d.integers(0, 2**40, n, dtype=u64), [0, 1, 2, 3, 4, 2**32 - 1, 2**32, 2**40 - 1]),
    "philox.purpose": (lambda d, n: d.integers(0, 9, n), [0, 8]),
    "philox.step": (lambda d, n: d.integers(0, 2**16, n), [0, 1, 2**16 - 1]),
    "philox.number": (lambda d, n: d.integers(0, 10, n), [0, 9]),
    "philox.place": (lambda d, n: d.integers(0, 4, n), [0, 1, 2, 3]),
    "obligors.log_accumulated.cumulative": (lambda d, n: np.exp(d.uniform(-69, 3, n)), [2.0**-100, 1]),
    "obligors.rank_of.p": (
        lambda d, n: np.where(d.random(n) < 0.5, d.random(n), np.exp2(d.uniform(-60, 0, n))),
        [*ZEROS, 1, *near(1)[:3][2:], *near(2.0**-32)[:3], 2.0**-100],
    ),
    "obligors.mixing": (lambda d, n: d.uniform(0.3, 3, n), [1, 0.3, 20]),
    "obligors.residual_low": (lambda d, n: d.uniform(0.1, 0.5, n), [1e-3, 0.5]),
    "obligors.residual_high": (lambda d, n: d.uniform(0.5, 1, n), [0.5, 1]),
    "obligors.is_t": (lambda d, n: d.integers(0, 2, n), [0, 1]),
    "loans.sweep": (lambda d, n: d.uniform(0, 1, n), [0, 0.25, 1]),
    "recovery.longest": (lambda d, n: d.integers(1, 37, n), [1, 24]),
    "recovery.contract_end": (lambda d, n: d.integers(0, 400, n), [0, 1, 2**31 - 1]),
    "recovery.t": (lambda d, n: d.integers(0, 400, n), [0, 1, 360]),
    "path.commitment": (lambda d, n: d.integers(1, 10**13, n), [1, 100, 2**20, 2**52, 10**13]),
    "path.fraction": (lambda d, n: d.uniform(0, 1.5, n), [*ZEROS, 0.5, 0.25, 2.0**-20, 1, *near(1)[:3], 1e-30]),
    "path.loss": (lambda d, n: d.integers(0, 10**14, n), [0, 1, 3, 2**53, 2**53 - 1]),
    "path.factor": (lambda d, n: d.random(n), [0, 0.5, 0.25, 1]),
}  # fmt: skip


def anything(name: str, type_: str) -> tuple[Any, list[Any]]:
    """Random values of a type and its edges."""
    if type_ == "float":
        edges = REAL + INFINITE * (name in WITH_INFINITIES)
        return lambda d, n: d.normal(size=n) * np.exp2(d.integers(-12, 7, n)), edges
    if type_ == "bool":
        return lambda d, n: d.integers(0, 2, n), [0, 1]
    if type_ == "u64":
        return lambda d, n: d.integers(0, 2**64, n, dtype=u64), LONG_WORDS
    assert type_ == "u32", (name, type_)
    return lambda d, n: d.integers(0, 2**32, n), WORDS


def column(function: headers.HeaderFunction, type_: str, parameter: str, d: np.random.Generator) -> Any:
    """Values of one parameter: at random, then of its edges."""
    name, dtype, shape = f"{function.topic}.{function.name}.{parameter}", *headers.layout(type_)
    if shape:
        return d.integers(0, 2**32, (FAR + NEAR, *shape)).astype(dtype)
    random, edges = LEGAL.get(name) or LEGAL.get(f"{function.topic}.{parameter}") or anything(name, type_)
    chosen = np.array(edges, dtype=dtype)[d.integers(0, len(edges), NEAR)]
    chosen[: len(edges)] = edges  # each at least once
    return np.concatenate([random(d, FAR).astype(dtype), chosen])


def arguments(name: str) -> list[list[Any]]:
    """Runs of a function: for each parameter a table, or a value for each call."""
    function, d = headers.functions()[name], np.random.default_rng(zlib.crc32(name.encode()))
    runs = []
    for fixed in FIXED.get(name, [{}]):
        columns = []
        for type_, parameter in zip(function.types, function.parameters, strict=True):
            value = fixed.get(parameter)
            if value is None:
                value = column(function, type_, parameter, d)
            elif not headers.is_table(type_):
                value = np.full(FAR + NEAR, value)
            columns.append(value)
        runs.append(columns)
    return runs


# --- Python's answers, and C++'s --------------------------------------------------------------------------------------


def python_values(type_: str, values: Any) -> Any:
    """What the path function takes: words are uint64 there."""
    if headers.is_table(type_):
        return [values] * (FAR + NEAR)
    if type_ == "Words":
        return [tuple(u64(w) for w in row) for row in values]
    return values.astype(u64) if type_ == "u32" else values


@cache
def expected(name: str) -> list[Any]:
    """The path function's answers, a run at a time."""
    function, path_function = headers.functions()[name], path_functions()[name]
    dtype, _ = headers.layout(function.result)
    found = []
    for columns in arguments(name):
        values = [python_values(t, c) for t, c in zip(function.types, columns, strict=True)]
        found.append(np.array([path_function(*row) for row in zip(*values, strict=True)], dtype=dtype))
    return found


def pointer(array: Any) -> ctypes.c_void_p:
    return array.ctypes.data_as(ctypes.c_void_p)


def called(library: ctypes.CDLL, name: str, result: str, columns: list[Any]) -> Any:
    """A function's answers from C++."""
    dtype, shape = headers.layout(result)
    out = np.empty((FAR + NEAR, *shape), dtype=dtype)
    library[f"call_{name}"](ctypes.c_longlong(FAR + NEAR), pointer(out), *(pointer(c) for c in columns))
    return out


@pytest.fixture(scope="module", params=FLAGS)
def library(request, tmp_path_factory):
    """The headers built by a C++ compiler; any warning is an error."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ here to build the headers with")
    folder = tmp_path_factory.mktemp("headers")
    source, built = folder / "headers.cpp", folder / "headers.so"
    source.write_text(headers.host_source())
    flags = ["-std=c++17", *FLAGS[request.param], *WARNINGS, "-fPIC", "-shared", f"-I{headers.kernel_root()}"]
    done = subprocess.run([compiler, *flags, str(source), "-o", str(built)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = ctypes.CDLL(str(built))
    loaded.contracts = request.param == "contract fast"
    return loaded


def bits(values: Any) -> Any:
    return values.view({4: u32, 8: u64, 1: np.uint8}[values.dtype.itemsize])


@pytest.mark.parametrize("name", headers.functions())
def test_the_header_has_the_path_functions_bits(name, library):
    function = headers.functions()[name]
    for columns, theirs in zip(arguments(name), expected(name), strict=True):
        ours = called(library, function.name, function.result, columns)
        assert ours.shape == theirs.shape
        wrong = np.flatnonzero((bits(ours) != bits(theirs)).reshape(len(ours), -1).any(axis=1))
        told = [
            [c if headers.is_table(t) else c[k] for t, c in zip(function.types, columns, strict=True)]
            for k in wrong[:3]
        ]
        assert not len(wrong), f"{len(wrong)} calls, such as {told}: {ours[wrong[:3]]}, not {theirs[wrong[:3]]}"


def test_constants(library):
    values = (ctypes.c_double * len(headers.constants())).in_dll(library, "constants")
    for (name, topic), value in zip(headers.constants().items(), values, strict=True):
        theirs = getattr(importlib.import_module(f"gpuloan_mc.paths.{topic}"), name)
        assert value == float(theirs), name


def test_the_flags_contract_what_they_may(library):
    """Else equal bits under both would say nothing."""
    a, b, c = (np.random.default_rng(k).normal(size=FAR + NEAR).astype(f32) for k in range(3))
    ours = called(library, "unfused", "float", [a, b, c])
    if not library.contracts:
        assert np.array_equal(ours, a * b + c)
        return
    if np.array_equal(ours, a * b + c):
        pytest.skip("this processor has no fused multiply-add, or the compiler does not use it")
    assert np.array_equal(ours, [primitives.fma(*row) for row in zip(a, b, c, strict=True)])


def test_every_word_of_an_event_keeps_its_place():
    """An event of probability 0 never happens, of 1 always: 24 bits against thresholds 0 and 2^24 (1.7)."""
    from gpuloan_mc.reference.philox import event_threshold

    never, always = event_threshold([0.0, 1.0])
    assert (never, always) == (0, 2**24)
    for word in WORDS:
        assert never <= path_functions()["philox.event_word"](u64(word)) < always


def test_edges_are_met():
    """The cases above reach what they are there for."""
    mixed = np.signbit(arguments("arithmetic.maximum")[0][0]) & (arguments("arithmetic.maximum")[0][0] == 0)
    assert mixed.any()
    qualities = np.concatenate(expected("obligors.highest_quality"))
    assert {-1e6, 1e6} <= set(qualities.tolist())
    assert {0, obligors.LARGEST_RANK} <= set(expected("obligors.rank_of")[0].tolist())
    assert arithmetic.normal_quantile(f32(2.0**-33)) > 6
