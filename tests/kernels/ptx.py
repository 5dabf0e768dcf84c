"""What PTX must not hold, and what a compiler's log may (docs/model.md 1)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

_BODY = re.compile(r"\.(?:entry|func)\s+(?:\([^)]*\)\s*)?(\w+)\s*\(.*?\)[^{;]*\{(.*?)\n\}", re.DOTALL)
_INSTRUCTION = re.compile(r"^\s*(?:@!?%\w+\s+)?([a-z][\w.]*)\s+([^;]*);", re.MULTILINE)
_APPROXIMATE = re.compile(r"\.(approx|ftz)\b")
_FLOAT_ATOMIC = re.compile(r"^(atom|red)\b.*\.(f16|f16x2|bf16|f32|f64)\b")
_FLOAT = re.compile(r"0[fF]([0-9a-fA-F]{8})|0[dD]([0-9a-fA-F]{16})")
_CENTS = re.compile(r"^(mul\.rn\.f64|cvt\..*|(ld|st)\..*|(mov|selp)\.f64)$")  # a product, rounded to an integer: no sum
_QUIET = re.compile(r"^(ptxas info\s*:.*|ptxas\s+\.\s+\d+ bytes stack frame.*|\s*\d+ bytes stack frame.*|\s*)$")
_SPILLS = re.compile(r"(\d+) bytes spill (?:stores|loads)")


def bodies(ptx: str) -> dict[str, str]:
    """Text of each kernel and function."""
    return {name: body for name, body in _BODY.findall(ptx)}


def instructions(body: str) -> Iterator[tuple[str, list[str]]]:
    """Operation and operands of each instruction, the result first."""
    for operation, operands in _INSTRUCTION.findall(body):
        yield operation, [o.strip() for o in operands.split(",")]


def is_power_of_two(operand: str) -> bool:
    """Whether an operand is a constant a product with which is exact."""
    found = _FLOAT.fullmatch(operand)
    if not found:
        return False
    single, double = found.groups()
    mantissa = int(single, 16) & 0x7FFFFF if single else int(double, 16) & 0xFFFFFFFFFFFFF
    return mantissa == 0


def contractible(body: str) -> list[str]:
    """Sums with a product for an operand, by whatever moves and signs it comes. A product with 2^k is exact: no matter."""
    products: dict[str, str] = {}
    moved: dict[str, set[str]] = {}
    sums = []
    for operation, (result, *operands) in instructions(body):
        kind, width = operation.split(".")[0], operation.rsplit(".", 1)[-1]
        if width not in ("f32", "f64"):
            continue
        if kind == "mul" and not any(map(is_power_of_two, operands)):
            products[result] = operation
        elif kind in ("mov", "neg"):
            moved.setdefault(result, set()).update(operands)
        elif kind in ("add", "sub"):
            sums.append((operation, result, operands))
    found = []
    for operation, result, operands in sums:
        found += [
            f"{operation} {result} takes a product, {source}"
            for o in operands
            for source in _sources(o, moved) & products.keys()
        ]
    return found


def _sources(register: str, moved: dict[str, set[str]]) -> set[str]:
    """Registers whose value this one may hold, but for the sign."""
    reached, open_ = {register}, [register]
    while open_:
        for source in moved.get(open_.pop(), set()) - reached:
            reached.add(source)
            open_.append(source)
    return reached


def faults(ptx: str, doubles: Collection[str] = ()) -> list[str]:
    """What must not be in a module's PTX; `doubles` names the kernels that turn fractions into cents."""
    found = []
    for name, body in bodies(ptx).items():
        for operation, _ in instructions(body):
            if _APPROXIMATE.search(operation):
                found.append(f"{name}: {operation} is approximate or flushes")
            if _FLOAT_ATOMIC.search(operation):
                found.append(f"{name}: {operation} adds floats in any order")
            if ".f64" in operation and (name not in doubles or not _CENTS.match(operation)):
                found.append(f"{name}: {operation} is float64")
        found += [f"{name}: {fault}" for fault in contractible(body)]
    return found


def complaints(log: str) -> list[str]:
    """Lines of a compiler's log that are more than what -Xptxas=-v says of registers and sizes."""
    return [line for line in log.replace("\0", "").splitlines() if not _QUIET.match(line)]


def spilled_bytes(log: str) -> int:
    """Bytes stored and loaded because registers ran out, all kernels together."""
    return sum(map(int, _SPILLS.findall(log)))
