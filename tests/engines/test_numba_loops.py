"""The loops over lanes begin soon: no call tests row after row for overlap before its vector loop."""

import ast
import importlib
from pathlib import Path

import numpy as np
import pytest

from gpuloan_mc.engines import numba_memory

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
ENGINES = Path(numba_memory.__file__).parent
MOST_OVERLAPS = 20  # seta, setb, … of pay_tile: 124 when all its rows came in one array, 18 with rows, terms and scratch apart


@pytest.fixture
def scripts(monkeypatch):
    """The scripts' folder, so that they can be imported as they import each other."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.fixture
def readable(scripts):
    """Skips where the machine code is not what the scripts read."""
    import assembly

    if not assembly.is_readable():
        pytest.skip("assembly of x86-64 with fma")


def vector_loops():
    """Those that the benchmarks list, by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        return {f"{loop.file}.{loop.name}": loop for loop in importlib.import_module("loops").LOOPS}


@pytest.mark.parametrize("name", vector_loops())
def test_a_vector_loop_begins_soon(readable, name):
    """Within the bound of the list: what was counted, and half as much again for CPUs on which LLVM takes another way.

    A loop that loses its vector loop fails too, and so does one that is listed without one and has got it.
    """
    loop = vector_loops()[name]
    found = loop.entrance()
    assert (found is None) == (loop.most is None)
    assert found is None or found.before <= loop.most


def test_the_waterfall_loop_tests_few_rows_for_overlap(readable):
    assert vector_loops()["loans.pay_tile"].entrance().all_overlaps <= MOST_OVERLAPS


def test_rows_of_one_array_are_found_out(readable):
    """What the two tests above are there for: eight rows at places of their own in one array, half of them written."""
    import assembly
    from numba import njit, types

    @njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
    def one_array(rows, a, b, c, d, e, f, g, h, n):
        for i in range(n):
            k = np.uint64(i)
            rows[a + k] = rows[e + k] * rows[f + k]
            rows[b + k] = rows[f + k] * rows[g + k]
            rows[c + k] = rows[g + k] * rows[h + k]
            rows[d + k] = rows[h + k] * rows[e + k]

    one_array.compile((types.Array(types.float32, 1, "C"), *[types.uint64] * 8, types.int64))
    (text,) = one_array.inspect_asm().values()
    found = assembly.entrance(next(iter(assembly.functions(text).values())))
    assert found.all_overlaps > MOST_OVERLAPS
    assert found.before > max(loop.most or 0 for loop in vector_loops().values() if loop.name != "tile_words") / 2


def test_every_loop_that_says_it_vectorises_is_listed():
    listed = {(loop.file, loop.name) for loop in vector_loops().values()}
    said = set()
    for path in ENGINES.glob("numba_*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and "Vectorises" in (ast.get_docstring(node) or ""):
                said.add((path.stem.removeprefix("numba_"), node.name))
    assert {("loans", "pay_tile"), ("obligors", "tile_words")} <= said <= listed


def test_a_mangled_name_is_read(scripts):
    import loops

    assert loops.name_of("_ZN10gpuloan_mc7engines11numba_loans8pay_tileB4v166B58c8tJTIeFIj") == ("loans", "pay_tile")
    assert loops.name_of("_ZN10gpuloan_mc5paths6philox4drawB2v9B58c8t") is None
    assert loops.name_of("cfunc._ZN10gpuloan_mc7engines11numba_loans8pay_tileB4v166") is None
