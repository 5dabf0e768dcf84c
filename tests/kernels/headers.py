"""The functions of kernels/gpuloan/*.cuh as their text declares them, and sources that call each over arrays."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

import gpuloan_mc

TOPICS = "arithmetic philox market obligors loans recovery path".split()

_SCALARS = {
    "float": np.float32,
    "double": np.float64,
    "i32": np.int32,
    "u32": np.uint32,
    "i64": np.int64,
    "u64": np.uint64,
}
_STRUCTS = {
    "ExpParts": (np.float32, 2),
    "ValueAndRest": (np.float32, 2),
    "Words": (np.uint32, 4),
    "Funds": (np.float32, 3),
}

_FUNCTION = re.compile(r"^GPULOAN_FUNCTION\s+(\w+)\s+(\w+)\(([^)]*)\)", re.MULTILINE)
_CONSTANTS = re.compile(r"^constexpr \w+ ([^;]*);", re.MULTILINE)


@dataclass(frozen=True)
class HeaderFunction:
    """A function of a header: types are C++'s names for them."""

    topic: str
    result: str
    name: str
    types: tuple[str, ...]
    parameters: tuple[str, ...]


def kernel_root() -> Path:
    """The CUDA sources of the package under test, installed or in a checkout."""
    package = Path(gpuloan_mc.__file__).parent
    installed = package / "kernels"
    return installed if installed.is_dir() else package.parent / "kernels"


def text(topic: str) -> str:
    return (kernel_root() / "gpuloan" / f"{topic}.cuh").read_text(encoding="utf-8")


@cache
def functions() -> dict[str, HeaderFunction]:
    """Every function of the topics, by topic and name."""
    found = {}
    for topic in TOPICS:
        for result, name, inside in _FUNCTION.findall(text(topic)):
            parts = [" ".join(p.split()).rsplit(maxsplit=1) for p in inside.split(",")]
            types, parameters = zip(*parts, strict=True)
            found[f"{topic}.{name}"] = HeaderFunction(topic, result, name, types, parameters)
    return found


@cache
def constants() -> dict[str, str]:
    """Topic of every named constant outside functions."""
    found = {}
    for topic in TOPICS:
        for inside in _CONSTANTS.findall(text(topic)):
            found |= dict.fromkeys(re.findall(r"(\w+) = ", inside), topic)
    return found


def is_table(type_: str) -> bool:
    return type_.endswith("*")


def layout(type_: str) -> tuple[np.dtype, tuple[int, ...]]:
    """dtype and shape of one value."""
    if type_ in _STRUCTS:
        dtype, n = _STRUCTS[type_]
        return np.dtype(dtype), (n,)
    return np.dtype(np.bool_ if type_ == "bool" else _SCALARS[type_]), ()


def _call(f: HeaderFunction) -> tuple[str, str]:
    """Parameters of an entry that takes arrays, and its statement for element i."""
    columns = [t if is_table(t) else f"const {t}*" for t in f.types]
    declared = ", ".join([f"{f.result}* out", *(f"{t} {p}" for t, p in zip(columns, f.parameters, strict=True))])
    values = ", ".join(p if is_table(t) else f"{p}[i]" for t, p in zip(f.types, f.parameters, strict=True))
    return declared, f"out[i] = gpuloan::{f.name}({values});"


def _source(lines: list[str]) -> str:
    return "\n".join([*(f'#include "gpuloan/{t}.cuh"' for t in TOPICS), "using namespace gpuloan;", *lines, ""])


def host_source() -> str:
    """C++ whose `call_NAME(calls, out, ...)` calls a function that often; `constants` in their order above."""
    lines = []
    for f in functions().values():
        declared, statement = _call(f)
        lines.append(
            f'extern "C" void call_{f.name}(i64 calls, {declared}) {{ for (i64 i = 0; i < calls; ++i) {statement} }}'
        )
    values = ", ".join(f"static_cast<double>({name})" for name in constants())
    lines.append(f'extern "C" {{ extern const double constants[]; const double constants[] = {{{values}}}; }}')
    # what the flags do to a product that meets a sum: no header has one
    lines.append(
        'extern "C" void call_unfused(i64 calls, float* out, const float* a, const float* b, const float* c) '
        "{ for (i64 i = 0; i < calls; ++i) out[i] = a[i] * b[i] + c[i]; }"
    )
    return _source(lines)


def device_source() -> str:
    """CUDA with a kernel `call_NAME` for each function: one element a thread."""
    lines = []
    for f in functions().values():
        declared, statement = _call(f)
        body = f"const i32 i = blockIdx.x * blockDim.x + threadIdx.x; {statement}"
        lines.append(f'extern "C" __global__ void call_{f.name}({declared}) {{ {body} }}')
    return _source(lines)
