"""NVRTC compiles the headers for every architecture, without a driver; their PTX holds nothing that could differ."""

from __future__ import annotations

import re
from typing import Any

import pytest

from . import headers, ptx

nvrtc = pytest.importorskip("cuda.bindings.nvrtc", reason="cuda-bindings is not installed")

ARCHITECTURES = [75, 80, 90, 100, 120]
OPTIONS = [
    "-std=c++17",
    "-fmad=false",
    "-ftz=false",
    "-prec-div=true",
    "-prec-sqrt=true",
    "-default-device",
    "-Xptxas=-v",
]
CENTS = ("call_to_cents", "call_discounted")
KERNELS = headers.kernel_root() / "simulate.cu"
SOURCES = {"headers": headers.device_source()}
if KERNELS.is_file():
    SOURCES["simulate.cu"] = KERNELS.read_text(encoding="utf-8")


def checked(answer: tuple[Any, ...]) -> Any:
    status, *values = answer
    assert status == nvrtc.nvrtcResult.NVRTC_SUCCESS, status
    return values[0] if values else None


def compiled(source: str, architecture: str) -> tuple[str, bytes]:
    """Log and code: PTX for compute_NN, a cubin for sm_NN."""
    program = checked(nvrtc.nvrtcCreateProgram(source.encode(), b"headers.cu", 0, [], []))
    options = [*OPTIONS, f"-arch={architecture}", f"-I{headers.kernel_root()}"]
    (status,) = nvrtc.nvrtcCompileProgram(program, len(options), [o.encode() for o in options])
    log = bytearray(checked(nvrtc.nvrtcGetProgramLogSize(program)))
    checked(nvrtc.nvrtcGetProgramLog(program, log))
    assert status == nvrtc.nvrtcResult.NVRTC_SUCCESS, log.decode()
    is_ptx = architecture.startswith("compute")
    size, read = (
        (nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX) if is_ptx else (nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN)
    )
    code = bytearray(checked(size(program)))
    checked(read(program, code))
    checked(nvrtc.nvrtcDestroyProgram(program))
    return log.decode(), bytes(code)


@pytest.mark.parametrize("number", ARCHITECTURES)
@pytest.mark.parametrize("source", SOURCES)
def test_it_compiles_without_a_word(source, number):
    log, code = compiled(SOURCES[source], f"sm_{number}")
    assert ptx.complaints(log) == []
    assert ptx.spilled_bytes(log) == 0
    assert code.startswith(b"\x7fELF")


@pytest.fixture(scope="module", params=SOURCES)
def module(request) -> tuple[str, str]:
    """A source's name and its PTX."""
    return request.param, compiled(SOURCES[request.param], "compute_90")[1].decode().rstrip("\0")


def test_every_entry_is_in_the_ptx(module):
    name, text = module
    entries = set(re.findall(r'extern "C" __global__ void(?:\s+__\w+\([^)]*\))?\s+(\w+)\(', SOURCES[name]))
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
    found = ptx.faults(compiled(source, "compute_90")[1].decode(), ("faulty",) if "double" in argument else ())
    assert any(FAULTY[argument][statement] in fault for fault in found), found


def test_exact_products_may_meet_a_sum():
    source = 'extern "C" __global__ void exact(float* x) { x[0] = 0.5f * x[1] + x[2]; }'
    assert ptx.faults(compiled(source, "compute_90")[1].decode()) == []


def test_a_log_that_says_more_is_a_complaint():
    log, _ = compiled('extern "C" __global__ void f(float* x) { int unused; x[0] = 1; }', "sm_90")
    assert ptx.complaints(log) != []
    assert ptx.spilled_bytes("ptxas   .     8 bytes stack frame, 12 bytes spill stores, 16 bytes spill loads") == 28
