"""The structs of plan.cuh lie in memory as cuda_layout.py and cuda_mapping.py write them: offset by offset."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpuloan_mc.engines import cuda_layout, cuda_mapping
from gpuloan_mc.engines.cuda_layout import lay_out
from gpuloan_mc.planning import build_plan
from gpuloan_mc.portfolio import Portfolio
from gpuloan_mc.reference.market import MAX_LAUNCHES
from gpuloan_mc.reference.philox import ROUNDS

HERE = Path(__file__).parent
KERNELS = HERE.parents[1] / "kernels"


def _emulated() -> Any:
    if "kernels_emulated" not in sys.modules:
        spec = importlib.util.spec_from_file_location("kernels_emulated", HERE / "emulated.py")
        assert spec is not None and spec.loader is not None
        sys.modules["kernels_emulated"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["kernels_emulated"])
    return sys.modules["kernels_emulated"]


EMULATED = _emulated()


@pytest.fixture(scope="module", params=["vasicek-100", "neocloud-2024"])
def layout(request: Any) -> Any:
    portfolio = Portfolio.read(request.param)
    return lay_out(build_plan(portfolio, portfolio.market))


def described(layout: Any) -> dict[str, tuple[int, int]]:
    """Offset and size of every field as Python has them."""
    plan = cuda_layout.plan_type(layout.parts)
    found = {"Plan": (0, plan.itemsize)}
    for part in plan.names:
        inner, start = plan.fields[part][0], plan.fields[part][1]
        for name in inner.names:
            found[f"Plan.{part}.{name}"] = (start + inner.fields[name][1], inner.fields[name][0].itemsize)
    run = cuda_mapping.run_type(list(cuda_mapping.buffers(layout, 8, EMULATED.DEVICE)))
    found["Run"] = (0, run.itemsize)
    for name in run.names:
        found[f"Run.{name}"] = (run.fields[name][1], run.fields[name][0].itemsize)
    return found


@pytest.mark.skipif(EMULATED.compiler() is None, reason="offsets are read by g++: there is none")
def test_offsets(layout, tmp_path):
    python = described(layout)
    lines = []
    for name in python:
        struct, _, field = name.partition(".")
        if field:
            size = f"sizeof(gpuloan::{struct}::{field})" if struct == "Run" else f"sizeof(plan.{field})"
            lines.append(f'std::printf("{name} %zu %zu\\n", offsetof(gpuloan::{struct}, {field}), {size});')
        else:
            lines.append(f'std::printf("{name} 0 %zu\\n", sizeof(gpuloan::{struct}));')
    source = tmp_path / "offsets.cpp"
    source.write_text(
        '#include <cstddef>\n#include <cstdio>\n#include "gpuloan/plan.cuh"\nint main() {\n'
        "[[maybe_unused]] gpuloan::Plan plan{};\n" + "\n".join(lines) + "\n}\n"
    )
    subprocess.run(
        ["g++", "-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{KERNELS}", str(source), "-o", tmp_path / "offsets"],
        check=True,
    )
    printed = subprocess.run([tmp_path / "offsets"], check=True, capture_output=True, text=True).stdout
    compiled = {n: (int(o), int(s)) for n, o, s in (line.split() for line in printed.splitlines())}
    assert compiled == python


def test_no_field_is_left_out(layout):
    """Fields that the header has and Python lacks would shift nothing at a struct's end."""
    text = re.sub(r"//.*", "", (KERNELS / "gpuloan" / "plan.cuh").read_text())
    counts = {}
    for struct, body in re.findall(r"struct (\w+) \{(.*?)\};", text, re.DOTALL):
        counts[struct] = sum(line.count(",") + 1 for line in body.split(";") if line.strip())
    names = {part: part.capitalize() for part in layout.parts} | {"memory": "Places"}
    assert {n: counts[names[n]] for n in layout.parts} == {n: len(part) for n, part in layout.parts.items()}


def test_addresses_and_scalars_arrive(layout):
    arrays = layout.arrays
    addresses = {name: 16 * (k + 1) for k, name in enumerate(arrays)}
    record = np.frombuffer(layout.struct(addresses), cuda_layout.plan_type(layout.parts))[0]
    for name, address in addresses.items():
        part, field = name.split(".")
        assert record[part][field] == address
        assert arrays[name].flags.c_contiguous
    assert record["size"]["horizon"] == layout.plan.market.horizon
    assert record["market"]["overhang_decay"] == layout.plan.market.overhang_decay


def test_rows_of_deployments():
    text = (KERNELS / "gpuloan" / "memory.cuh").read_text()
    body = re.search(r"Deployment \{(.*?)\};", text, re.DOTALL)
    assert body is not None
    fields = [(kind, name) for kind, names in re.findall(r"(\w+) ([\w, ]+);", body[1]) for name in names.split(", ")]
    kinds = {"i32": np.dtype(np.int32), "float": np.dtype(np.float32)}
    assert [(name, kinds[kind]) for kind, name in fields] == [
        (name, cuda_layout.DEPLOYMENT[name]) for name in cuda_layout.DEPLOYMENT.names or ()
    ]


def constant(file: str, name: str) -> float:
    """A constant of a header."""
    text = (KERNELS / "gpuloan" / file).read_text()
    match = re.search(rf"\b{name} = ([^,;]+)[,;]", text)
    assert match is not None
    return float(match[1])


def test_constants_of_both_sides():
    from gpuloan_mc.paths import tally

    assert constant("tally.cuh", "COLUMNS") == tally.LOAN_COLUMNS == tally.GROUP_COLUMNS
    assert constant("tally.cuh", "HIGH") == tally.HIGH
    assert constant("tally.cuh", "BY_CAUSE") == tally.BY_CAUSE
    assert (constant("tally.cuh", "E_L"), constant("tally.cuh", "L_SQUARED")) == (tally.E_L, tally.L_SQUARED)
    assert (constant("tally.cuh", "D"), constant("tally.cuh", "D_SQUARED")) == (tally.D, tally.D_SQUARED)
    assert constant("tally.cuh", "L") == tally.L
    assert constant("demand.cuh", "MAX_LAUNCHES") == MAX_LAUNCHES
    assert constant("plan.cuh", "ROUNDS") == ROUNDS
    assert constant("memory.cuh", "N_COUNTERS") == cuda_layout.COUNTERS
    assert constant("memory.cuh", "TILE") == cuda_layout.TILE
    for name in ("DRAWS", "BEGINS", "MATURES", "OPENING_BITS"):
        assert constant("lanes.cuh", name) == getattr(cuda_layout, name)
    assert constant("plain.cuh", "QUEUE") * 12 == cuda_mapping.QUEUE_BYTES
