"""NVRTC compiles the headers for every architecture, without a driver; their PTX holds nothing that could differ."""

from __future__ import annotations

import re
from typing import Literal

import pytest

from gpuloan_mc.engines import cuda_sources
from gpuloan_mc.errors import EnvironmentProblem

from . import headers, ptx

ARCHITECTURES = [75, 80, 90, 100, 120]
CENTS = ("call_to_cents", "call_discounted")
KERNELS = headers.kernel_root() / "simulate.cu"
SOURCES = {"headers": headers.device_source()}
if KERNELS.is_file():
    SOURCES["simulate.cu"] = KERNELS.read_text(encoding="utf-8")


def compiled(source: str, architecture: int, form: Literal["cubin", "ptx"]) -> cuda_sources.Code:
    """Code and log, with the options of a run."""
    try:
        compiler = cuda_sources.nvrtc()
    except EnvironmentProblem as missing:
        pytest.skip(str(missing))
    target = f"-arch={'compute' if form == 'ptx' else 'sm'}_{architecture}"
    return compiler.compile(source, "headers.cu", (*cuda_sources.OPTIONS, target, f"-I{headers.kernel_root()}"), form)


def ptx_of(source: str) -> str:
    return compiled(source, 90, "ptx").data.decode()


@pytest.mark.parametrize("number", ARCHITECTURES)
@pytest.mark.parametrize("source", SOURCES)
def test_it_compiles_without_a_word(source, number):
    code = compiled(SOURCES[source], number, "cubin")
    assert ptx.complaints(code.log) == []
    assert ptx.spilled_bytes(code.log) == 0
    assert code.data.startswith(b"\x7fELF")


@pytest.fixture(scope="module", params=SOURCES)
def module(request) -> tuple[str, str]:
    """A source's name and its PTX."""
    return request.param, ptx_of(SOURCES[request.param])


def test_every_entry_is_in_the_ptx(module):
    name, text = module
    entries = set(re.findall(r'extern "C" __global__ void(?:\s+__\w+\([^)]*\))*\s+(\w+)\(', SOURCES[name]))
    assert entries and entries <= ptx.bodies(text).keys()
    if name == "headers":
        assert entries == {f"call_{f.name}" for f in headers.functions().values()}


def test_the_ptx_is_without_fault(module):
    name, text = module
    assert ptx.faults(text, CENTS if name == "headers" else ptx.bodies(text)) == []
    assert "fma.rn.f32" in {operation for body in ptx.bodies(text).values() for operation, _ in ptx.instructions(body)}


# --- the checks see what they look for --------------------------------------------------------------------------------

FAULTY = {
    "float* x": {
        "x[0] = x[1] * x[2] + x[3];": "takes a product",
        "x[0] = x[3] - x[1] * x[2];": "takes a product",
        "x[0] = -(x[1] * x[2]) - x[3];": "takes a product",
        "x[0] = __fdividef(x[1], x[2]);": "approximate",
        "x[0] = __expf(x[1]);": "approximate",
        "atomicAdd(x, x[1]);": "adds floats",
        "x[0] = x[1] * 0.1;": "is float64",
    },
    "double* x": {"atomicAdd(x, x[1]);": "adds floats", "x[0] = x[1] * x[2] + x[3];": "takes a product"},
}


@pytest.mark.parametrize("argument, statement", [(a, s) for a, some in FAULTY.items() for s in some])
def test_a_fault_is_seen(argument, statement):
    source = f'extern "C" __global__ void faulty({argument}) {{ {statement} }}'
    found = ptx.faults(ptx_of(source), ("faulty",) if "double" in argument else ())
    assert any(FAULTY[argument][statement] in fault for fault in found), found


def test_exact_products_may_meet_a_sum():
    source = 'extern "C" __global__ void exact(float* x) { x[0] = 0.5f * x[1] + x[2]; }'
    assert ptx.faults(ptx_of(source)) == []


def test_a_log_that_says_more_is_a_complaint():
    code = compiled('extern "C" __global__ void f(float* x) { int unused; x[0] = 1; }', 90, "cubin")
    assert ptx.complaints(code.log) != []
    assert ptx.spilled_bytes("ptxas   .     8 bytes stack frame, 12 bytes spill stores, 16 bytes spill loads") == 28
