"""The vector loops of the engine numba, each compiled alone, and what a call executes before its vector loop begins.

    python benchmarks/loops.py            writes benchmarks/results/loops-<machine>-<version>.json and the README
    python benchmarks/loops.py --print    writes nothing
    python benchmarks/loops.py --engine   of every function of the whole engine, where callers inline some: a minute

Where LLVM can't know that two rows don't overlap, a call tests every pair of them before the vector loop. A tile has few
lanes, so many tests cost more than the loop does. LLVM's remarks say "vectorized" all the same, so the machine code is counted.

LOOPS is the one list: this page, the README's and tests/engines/test_numba_loops.py go through it. A new loop over lanes is a
line there; a test finds loops whose docstring says "Vectorises." and that aren't in it.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from importlib import import_module
from typing import Any
from unittest import mock

import assembly
import measure
import readme
from assembly import Entrance

import gpuloan_mc

RESULTS = measure.HERE / "results"
ELEMENTS = {
    "u8": "uint8", "u32": "uint32", "u64": "uint64", "i32": "int32", "i64": "int64", "f32": "float32", "f64": "float64",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class VectorLoop:
    """A function that loops over lanes. Types of its arguments: `f32`, an array `f32[:]`, one that nobody writes `R f32[:,:]`,
    a thread's memory `work` or a part of the book, such as `lanes`.

    `most`: instructions on the way to the vector loop, about half as many again as were counted on AVX-512, for other CPUs have
    other ways; overlap tests of all rows would be several times as many. None: LLVM makes no vector loop of it.
    """

    file: str  # of gpuloan_mc/engines, after numba_
    name: str
    arguments: str
    most: int | None = 60

    @property
    def dispatcher(self) -> Any:
        """The function as the engine calls it."""
        return getattr(import_module(f"gpuloan_mc.engines.numba_{self.file}"), self.name)

    def compiled(self) -> str:
        """Its assembly, compiled alone with the engine's options."""
        from numba import njit

        options = {key: value for key, value in self.dispatcher.targetoptions.items() if key != "nopython"}
        alone = njit(**options)(self.dispatcher.py_func)
        alone.compile(tuple(type_of(name) for name in self.arguments.split("; ")))
        (text,) = alone.inspect_asm().values()
        return str(text)

    def entrance(self) -> Entrance | None:
        """What a call executes before the vector loop; None: there is none."""
        (lines,) = (f for symbol, f in assembly.functions(self.compiled()).items() if name_of(symbol) == (self.file, self.name))
        return assembly.entrance(lines)


def type_of(name: str) -> Any:
    """The numba type of an argument."""
    from numba import types

    if name in structs():
        return structs()[name]
    element, _, shape = name.removeprefix("R ").partition("[")
    scalar = getattr(types, ELEMENTS[element])
    return types.Array(scalar, shape.count(":"), "C", readonly=name.startswith("R ")) if shape else scalar


@cache
def structs() -> dict[str, Any]:
    """Types of a thread's memory and of the parts of a book: those of any book."""
    from gpuloan_mc import Portfolio
    from gpuloan_mc.engines.numba_layout import lay_out
    from gpuloan_mc.engines.numba_layout import structs as as_structs
    from gpuloan_mc.engines.numba_memory import memory
    from gpuloan_mc.engines.numba_structs import Struct
    from gpuloan_mc.planning import build_plan

    portfolio = Portfolio.read("vasicek-100")
    book = lay_out(build_plan(portfolio, portfolio.market))
    parts = as_structs(book).values._asdict()
    return {"work": Struct(memory(book)).numba_type} | {name: part.numba_type for name, part in parts.items()}


def name_of(symbol: str) -> tuple[str, str] | None:
    """File, after numba_, and name of an engine's function from numba's mangled one: each part has its length in front."""
    parts, rest = [], symbol.removeprefix("_ZN")
    while found := re.match(r"\d+", rest):
        end = found.end() + int(found[0])
        parts.append(rest[found.end() : end])
        rest = rest[end:]
    is_engine = len(parts) >= 4 and parts[:2] == ["gpuloan_mc", "engines"]
    return (parts[2].removeprefix("numba_"), parts[3]) if is_engine and symbol.startswith("_ZN") else None


DESK = "f64[:]"  # of the waterfall: rows of 64 lanes, most of them at constant places
LOOPS = (
    VectorLoop("loans", "pay_tile", "work; u64; u64; u64; i64", 165),
    VectorLoop("loans", "add_slot", "work; u64; u64; i64; f32", 85),
    VectorLoop("loans", "add_mixed_slot", "work; lanes; i64; u64; u64; i64", 170),
    VectorLoop("loans", "share_rates", "f32[:]; R f32[:,:]; u64; i64; u64; i64; f32"),
    VectorLoop("loans", "share_cost", "f32[:]; u64; u64; i64; f32"),
    VectorLoop("loans", "clear_revenue", "f32[:]; i64", None),  # a call of memset
    VectorLoop("cash", "tile_due", "f32[:]; u64; u64; R f64[:]; u64; i64"),
    VectorLoop("cash", "tile_balance", "f32[:]; u64; R f64[:]; u64; i64"),
    # most of it is the key schedule of Philox, the same for all lanes
    VectorLoop("obligors", "tile_words", "R u64[:]; R u64[:]; u32[:]; u64; i64; u64; i64", 225),
    VectorLoop("obligors", "compare_words", "u32[:]; u32[:]; u8[:]"),
    VectorLoop("obligors", "fill", "u32[:]; i64; i64; u32"),
    VectorLoop("loops", "copy_from", "f32[:]; u64; R f32[:]"),
    VectorLoop("loops", "copy_rows", "i32[:,:]; R i32[:,:]", 80),
    VectorLoop("loops", "fill_row", "i32[:,:]; i64; i32"),
    VectorLoop("draws", "draw_months", "u32[:]; u64; u64; u64; u64; u64", 260),
    VectorLoop("draws", "draw_shared_months", "u32[:]; u64; u64; u64; u64", 275),
    VectorLoop("draws", "central_normals", "u32[:]; u64; f32[:]; u64; u8[:]; u64", 225),
    VectorLoop("market", "chain_demand_rows", "f32[:]; f32[:]; f32[:]; f32[:]; i64; i64; f32; f32", 95),
    VectorLoop("market", "chain_sums", "f32[:]; f32[:]; i64"),
    VectorLoop("market", "chain_decay", "f32[:]; f32[:]; i64; f32; f32"),
    VectorLoop("market", "repeat_four", "f32[:]; i64", None),  # four lanes are stored a month, nothing is computed
    VectorLoop("market", "ramp_up", "f32[:]; f32[:]; i64; f32"),
    VectorLoop("market", "add_ramp", "f32[:]; f32[:]; f32[:]; i64; f32"),
    VectorLoop("market", "use_months", "f32[:]; f32[:]; i64; f32; f32; f32; f32"),
    VectorLoop("market", "add_premium", "f32[:]; f32[:]; i64; f32"),
    VectorLoop("market", "mix", "f32[:]; f32[:]; i64; f32"),
    VectorLoop("market", "price_outside", "f32[:]; f32[:]; f32; R f32[:]; f32[:]; f32[:]; i64", 85),
    VectorLoop("hazards", "chain_hazard", "f32[:]; f32[:]; R f32[:]; f32[:]; f32[:]; i64; f32; f32", 250),
    VectorLoop("hazards", "hazard_block", "abreast; work; i64; i64", 150),
    VectorLoop("prices", "add_chips", "abreast; work; i64; i64; i64; f32", 125),
    VectorLoop("prices", "price_block", "abreast; work; i64; i64; f32; f32; f32", 120),
    # LLVM unrolls these two before it could vectorise them
    VectorLoop("waterfall", "fill", f"{DESK}; u64; f64", None),
    VectorLoop("waterfall", "copy", f"{DESK}; u64; u64", None),
    VectorLoop("waterfall", "add", f"{DESK}; u64; u64"),
    VectorLoop("waterfall", "any_of", f"{DESK}; u64"),
    VectorLoop("waterfall", "collect", f"{DESK}; f64; f64; f64"),
    VectorLoop("waterfall", "accrue", f"{DESK}; u64; f64"),
    VectorLoop("waterfall", "owe_fees", f"{DESK}; f64; f64"),
    VectorLoop("waterfall", "pay_from_all", f"{DESK}; u64; u64", 120),
    VectorLoop("waterfall", "pay_from_income", f"{DESK}; u64; u64"),
    VectorLoop("waterfall", "measure_shortage", f"{DESK}; f64"),
    VectorLoop("waterfall", "measure_cover", f"{DESK}; f64"),
    VectorLoop("waterfall", "choose_income", f"{DESK}; u64"),
    VectorLoop("waterfall", "set_aside", DESK),
    VectorLoop("waterfall", "put_back", DESK),
    VectorLoop("waterfall", "repay", f"{DESK}; u64; u64"),
    VectorLoop("waterfall", "move_to_reserve", f"{DESK}; f64"),
    VectorLoop("waterfall", "find_share", DESK),
    VectorLoop("waterfall", "repay_share", f"{DESK}; u64", 85),
    VectorLoop("waterfall", "join", f"{DESK}; u64; u64; f64", 110),
    VectorLoop("waterfall", "total", f"{DESK}; u64; i64"),
    VectorLoop("waterfall", "weigh", f"{DESK}; u64; f64"),
    VectorLoop("waterfall", "horner", f"{DESK}; u64"),
    VectorLoop("waterfall", "step_discount", f"{DESK}; f64"),
)


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0, or 1 where this CPU's assembly can't be read."""
    options = _options(arguments)
    if not assembly.is_readable():
        print("only the assembly of x86-64 with fma is read here")
        return 1
    if options.engine:
        for (file, name), found in of_engine():
            print(f"{file + '.' + name:28} {found}")
        return 0
    report = new_report()
    print("\n".join(readme.loop_tables(report)))
    if not options.print:
        place = RESULTS / f"loops-{measure.slug(report['machine'])}-{report['version']}.json"
        place.write_text(json.dumps(report, indent=1) + "\n")
        readme.write(RESULTS, measure.HERE / "README.md")
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--print", action="store_true", help="write nothing")
    parser.add_argument("--engine", action="store_true", help="every function of the engine, from its own assembly")
    return parser.parse_args(arguments)


def new_report() -> dict[str, Any]:
    """Every loop of LOOPS."""
    rows = []
    for loop in LOOPS:
        found = loop.entrance()
        rows.append({"file": loop.file, "name": loop.name, "entrance": None if found is None else asdict(found)})
    about = {"kind": "loops", "version": gpuloan_mc.__version__, "machine": measure.machine(), "packages": measure.versions()}
    return {**about, "loops": rows}


def of_engine() -> Iterator[tuple[tuple[str, str], Entrance]]:
    """Functions of the whole engine that hold a vector loop, their own or one that they inline."""
    for symbol, lines in assembly.functions(engine_assembly()).items():
        name, found = name_of(symbol), assembly.entrance(lines)
        if name is not None and found is not None:
            yield name, found


def engine_assembly() -> str:
    """The engine's, compiled anew: machine code from a cache has no assembly."""
    from numba import njit

    from gpuloan_mc import Portfolio
    from gpuloan_mc.engines import numba_cpu
    from gpuloan_mc.planning import build_plan

    portfolio = Portfolio.read("neocloud-2024")
    with mock.patch.object(numba_cpu, "compiled") as compiled:
        numba_cpu.NumbaCpu(1).prepare(build_plan(portfolio, portfolio.market))
    function, signature = compiled.call_args.args
    entry = njit(error_model="numpy", nogil=True)(function)
    entry.compile(signature)
    (text,) = entry.inspect_asm().values()
    return str(text)


if __name__ == "__main__":
    sys.exit(main())
