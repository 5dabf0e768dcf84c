"""Path functions against the reference's arrays, bit for bit; interpreted against compiled, bit for bit."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import pkgutil
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpuloan_mc.paths
from gpuloan_mc.paths import arithmetic, lanes, market, obligors, philox, primitives
from gpuloan_mc.reference import arithmetic as reference
from gpuloan_mc.reference import philox as reference_philox
from gpuloan_mc.reference.market import chip_values

f32, i32, u32, u64 = np.float32, np.int32, np.uint32, np.uint64
draw = np.random.default_rng(11)
N = 20_000

EDGES = np.array(
    [0, -0.0, 1, -1, 0.5, 2.0**-60, -(2.0**-61), 40, -40, 41, -41, 6.5, -6.5, 2.25, 1e-30, 8, -8, 64, -64], f32
)
REAL = np.concatenate([EDGES, draw.normal(size=N).astype(f32), draw.uniform(-45, 45, N).astype(f32)])
POSITIVE = np.exp(draw.uniform(-69, 40, N)).astype(f32)
TAILS = np.concatenate([draw.uniform(0, 0.5, N), np.exp2(draw.uniform(-33, -1, N)), [2.0**-33, 0.5]]).astype(f32)
TAILS = TAILS[f32(2.0**-33) <= TAILS]
WORDS = np.concatenate([draw.integers(0, 2**32, N), [0, 1, 2**31 - 1, 2**31, 2**32 - 1]]).astype(u64)


def same_bits(ours: Any, theirs: Any) -> bool:
    """Equal bits; zeros of either sign are one number, for no integer depends on it."""
    a, b = np.asarray(ours), np.asarray(theirs)
    if a.dtype != b.dtype:
        return False
    if a.dtype == f32:
        a, b = (np.where(x == 0, f32(0), x).view(i32) for x in (a, b))
    return bool(np.array_equal(a, b))


def mapped(function: Any, *arrays: Any, dtype: Any = f32) -> Any:
    return np.array([function(*values) for values in zip(*arrays, strict=True)], dtype=dtype)


ARITHMETIC = {
    "exp": (arithmetic.exp, reference.exp, REAL),
    "log": (arithmetic.log, reference.log, POSITIVE),
    "quantile": (arithmetic.normal_quantile, reference.normal_quantile, TAILS),
    "cdf": (arithmetic.normal_cdf, reference.normal_cdf, REAL),
    "flush": (arithmetic.flush, reference.flush, REAL),
}


@pytest.mark.parametrize("name", ARITHMETIC)
def test_arithmetic(name):
    ours, theirs, points = ARITHMETIC[name]
    assert same_bits(mapped(ours, points), theirs(points))


@pytest.mark.parametrize("low, high, per_unit", [(-8, 8, 64), (-24, 4, 64), (-64, 64, 32)])
def test_interpolation(low, high, per_unit):
    table = draw.normal(size=(2, (high - low) * per_unit)).astype(f32)
    x = np.concatenate([REAL, np.arange(low, high, 1 / per_unit).astype(f32)])
    ours = [arithmetic.interpolate(table, v, f32(low), f32(high), f32(per_unit)) for v in x]
    assert same_bits(np.array(ours, f32), reference.interpolate(table, x, low, per_unit))


def test_fma_with_and_without_a_compiler():
    a, b = (draw.integers(2**23, 2**24, N).astype(f32) * f32(2.0**-23) for _ in range(2))
    c = np.round(draw.normal(size=N) * 2**25).astype(f32)  # sums on a coarse grid: many are near a tie

    @primitives.path_function
    def fused(x, y, z):
        return primitives.fma(x, y, z)

    assert same_bits(mapped(fused, a, b, c), reference.fma(a, b, c))
    assert same_bits(mapped(primitives.fma, a[:2000], b[:2000], c[:2000]), reference.fma(a, b, c)[:2000])


def test_draws():
    paths = draw.integers(0, 2**40, 2000).astype(u64)
    entities = draw.integers(0, 2**64, 2000, dtype=u64)
    for purpose, step in ((philox.LOAN, 0), (philox.RENEWAL, 77)):
        ours = np.array(
            [philox.draw(u64(2**63 + 9), p, purpose, u64(step), e) for p, e in zip(paths, entities, strict=True)]
        )
        theirs = reference_philox.words(2**63 + 9, paths, int(purpose), step, entities)
        assert np.array_equal(ours, np.stack(theirs, axis=1))
        one = [
            philox.chosen(philox.draw_four(u64(7), p, purpose, u64(step), e), int(p) & 3)
            for p, e in zip(paths, entities, strict=True)
        ]
        assert np.array_equal(np.array(one, u64), reference_philox.word(7, paths, int(purpose), step, entities))


def test_what_is_made_of_words():
    theirs = WORDS.astype(u32)
    assert same_bits(mapped(philox.normal, WORDS), reference_philox.normal(theirs))
    assert np.array_equal(mapped(philox.rank, WORDS, dtype=u32), reference_philox.rank(theirs))
    assert np.array_equal(mapped(philox.event_word, WORDS, dtype=i32), reference_philox.event_word(theirs))


def test_normals_of_lanes():
    theirs, ours = reference_philox.normal(WORDS.astype(u32)), [lanes.central_normal(w) for w in WORDS]
    far = np.array([is_far for _, is_far in ours])
    assert same_bits(np.array([n for n, _ in ours], f32)[~far], theirs[~far])
    assert np.array_equal(far, np.abs(theirs) > 2.93)  # w = 5 in normal_quantile
    assert 0 < far.sum() < len(WORDS) / 200


def test_chip_values():
    class Plan:
        value_cap, annuity = POSITIVE[:500].reshape(1, -1), POSITIVE[500:1000].reshape(1, -1)
        hourly_cost, scrap_value = POSITIVE[1000:1500].reshape(1, -1), POSITIVE[1500:2000]
        vintage_generation = np.arange(500)

    contract, used = POSITIVE[2000:2500], POSITIVE[2500:2501]
    theirs = chip_values(Plan, 0, contract.reshape(1, -1), used)[0]
    ours = [
        market.chip_value(
            market.yearly_rent(contract[g], used[0], Plan.hourly_cost[0, g], Plan.annuity[0, g]),
            Plan.value_cap[0, g],
            Plan.scrap_value[g],
        )
        for g in range(500)
    ]
    assert same_bits(np.array(ours, f32), theirs)


# --- interpreted = compiled -------------------------------------------------------------------------------------------

TABLE = np.stack([np.linspace(-8, 8, 1024), np.full(1024, 1.0)]).astype(f32)
BY_NAME: dict[str, Any] = {
    "table": lambda d: TABLE, "is_t": lambda d: i32(d.integers(0, 2)), "w": lambda d: u64(d.integers(0, 2**32)),
    "number": lambda d: u64(d.integers(0, 10)),
    "bound": lambda d: u64(d.integers(0, 2**32)), "place": lambda d: int(d.integers(0, 4)),
    "words": lambda d: tuple(u64(x) for x in d.integers(0, 2**32, 4)), "longest": lambda d: i32(24),
    "path": lambda d: u64(d.integers(0, 2**40)), "contract_end": lambda d: i32(d.integers(0, 60)),
    "short": lambda d: bool(d.integers(0, 2)), "matures": lambda d: bool(d.integers(0, 2)),
    "tenant_lost": lambda d: bool(d.integers(0, 2)), "commitment": lambda d: float(d.integers(1, 10**12)),
    "loss": lambda d: np.int64(d.integers(0, 10**14)), "factor": lambda d: f32(d.uniform()),
    "p": lambda d: f32(d.uniform(1e-6, 0.5)), "mixing": lambda d: f32(d.uniform(0.3, 3)),
    "cumulative": lambda d: f32(d.uniform(1e-9, 2)), "residual_low": lambda d: f32(d.uniform(0.1, 0.5)),
    "residual_high": lambda d: f32(d.uniform(0.5, 1)),
    "log.x": lambda d: f32(d.uniform(1e-20, 1e6)), "discounted.factor": lambda d: float(d.uniform()),
    "_quantile_tail.w": lambda d: f32(d.uniform(5, 23)), "months_left.t": lambda d: i32(d.integers(0, 60)),
}  # fmt: skip
BY_NAME |= dict.fromkeys(("c0", "c1", "c2", "c3", "k0", "k1"), BY_NAME["w"])
BY_NAME |= {
    "seed": lambda d: u64(d.integers(0, 2**64, dtype=u64)),
    "entity": lambda d: u64(d.integers(0, 2**64, dtype=u64)),
}
BY_NAME |= {"purpose": lambda d: u64(d.integers(0, 9)), "step": lambda d: u64(d.integers(0, 2**16))}
SUMS = {
    "add_amount",
    "add_product",
    "add_item",
    "add_to_group",
    "add_defaults",
    "close_paths",
}  # the engine's tests hold these
TIMES = 25


def path_functions() -> dict[str, Any]:
    """Every path function, whether or not they are compiled in this process."""
    found = {}
    for module in pkgutil.iter_modules(gpuloan_mc.paths.__path__):
        home = importlib.import_module(f"gpuloan_mc.paths.{module.name}")
        for name, value in vars(home).items():
            plain = getattr(value, "py_func", value)
            mine = inspect.isfunction(plain) and plain.__module__ == home.__name__
            if mine and module.name != "primitives" and name not in SUMS:
                found[f"{module.name}.{name}"] = value
    return found


def results(name: str) -> list[list[str]]:
    """What a path function makes of arguments that depend on its name alone, each number in full."""
    function, short = path_functions()[name], name.split(".")[1]
    d = np.random.default_rng(zlib.crc32(name.encode()))
    signature = inspect.signature(getattr(function, "py_func", function))
    found = []
    for _ in range(TIMES):
        arguments = [
            BY_NAME.get(f"{short}.{n}", BY_NAME.get(n, lambda d: f32(d.normal())))(d) for n in signature.parameters
        ]
        value = function(*arguments)
        numbers = value if isinstance(value, tuple) else (value,)
        found.append([(float(v) + 0.0).hex() for v in numbers])  # -0 is 0
    return found


@pytest.fixture(scope="module")
def interpreted() -> dict[str, Any]:
    """`results` of every path function in a process without a compiler."""
    code = (
        "import importlib.util, json, sys\n"
        "spec = importlib.util.spec_from_file_location('again', sys.argv[1])\n"
        "module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)\n"
        "import numba; assert numba.config.DISABLE_JIT\n"
        "print(json.dumps({name: module.results(name) for name in module.path_functions()}))\n"
    )
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(Path(gpuloan_mc.__file__).parent.parent)}
    command = [sys.executable, "-P", "-W", "error", "-c", code, __file__]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_path_function_is_found(interpreted):
    assert len(path_functions()) > 60
    assert interpreted.keys() == path_functions().keys()


@pytest.mark.parametrize("name", path_functions())
def test_interpreted_is_compiled(name, interpreted):
    assert results(name) == interpreted[name]


def test_no_bound_is_too_low():
    """(3.4) whoever defaults has a rank within the bound: one bound serves a run of obligors."""
    from gpuloan_mc import tables

    for nu in (None, 4.0):
        is_t = i32(nu is not None)
        table = tables.tabulate(tables.log_cumulative_hazard(nu), *((-8, 8, 64) if nu is None else (-64, 64, 32)))
        for _ in range(200):
            log_hazard, mixing = f32(draw.uniform(-12, 2)), f32(draw.uniform(0.3, 3) if nu else 1)
            low, high = np.sort(draw.uniform(-0.8, 0.8, 2)).astype(f32)
            factor = f32(draw.normal())
            residual = np.sort(draw.uniform(0.3, 1, 2)).astype(f32)
            quality = f32(obligors.highest_quality(table, is_t, log_hazard))
            bound = obligors.rank_bound(quality, mixing, f32(obligors.least_loading(low, high, factor) * factor), *residual)
            words = np.append(draw.integers(0, 2**32, 300), [2**31, 2**31 + 1, 0]).astype(u64)
            near = np.clip(int(bound) + draw.integers(-5000, 5000, 100), 0, 2**32 - 1).astype(u64)
            words = np.append(words, near ^ np.where(near < 2**31, u64(2**31), u64(2**32 - 1)))
            for w in words:
                loading, own = f32(draw.uniform(low, high)), f32(draw.uniform(*residual))
                common = primitives.fma(loading, factor, f32(0))
                theta = obligors.threshold(table, is_t, mixing, own, f32(philox.normal(w)), common, f32(0))
                assert log_hazard < theta or philox.rank(w) <= bound
