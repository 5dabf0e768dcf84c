"""x86-64 assembly of a compiled function: its basic blocks, its vector loop, and what a call executes before it."""

from __future__ import annotations

import heapq
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

# vaddps, vfmadd213pd, vpmuludq, vpcmpgtd …: sums, products, comparisons. Not moves, broadcasts and shuffles, which stand
# before a loop too.
_PACKED = re.compile(
    r"v(add|sub|mul|div|fn?m(add|sub)\d+|min|max|cmp\w*|sqrt|rndscale|round|and|andn|or|xor)p[sd]\s"
    r"|vp(add|sub|mul|cmp|min|max|and|andn|or|xor|srl|sll|sra|ro[lr]|ternlog|blendv|blendm)\w*\s"
)
_WIDE = re.compile(r"%[yz]mm")
_FOUR = re.compile(r"v(f\w+|mul|add|sub|max|min)ps\s.*%xmm")  # four lanes: months of four paths, a chain; one lane has "ss"
_STORE = re.compile(r"vmov\w+\s+%[yz]mm\d+, [^(]*\((?!%rsp|%rbp)")  # a register spilled to the stack is no store
_JUMP = re.compile(r"j(\w+)\s+(\S+)$")
_OVERLAP = re.compile(r"set(a|b|ae|be)\s")


def is_readable() -> bool:
    """Whether compiled code of this CPU is what is read here: x86-64 with fma."""
    about = Path("/proc/cpuinfo")
    return platform.machine() == "x86_64" and about.exists() and " fma " in about.read_text()


@dataclass(slots=True)
class Block:
    """Instructions that run one after another; a call does not end a block."""

    label: str
    code: list[str] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)

    @property
    def packed(self) -> int:
        """Instructions that compute on vectors of 256 bits or more or on four float32, or store such vectors."""
        return sum(is_packed(line) for line in self.code)


@dataclass(frozen=True, slots=True)
class Entrance:
    """What a call executes on the shortest way from its entry to the vector loop."""

    before: int  # instructions
    tests: int  # conditional jumps among them
    overlaps: int  # seta, setb, setae, setbe: two for a pair of rows that may overlap
    packed: int  # packed instructions of the loop
    lanes: int  # that one turn of it serves; 0: all is unrolled
    all_overlaps: int  # seta, … of the whole function


def is_packed(line: str) -> bool:
    """Whether an instruction computes on a vector or stores one; zeroing a register is neither."""
    if _STORE.match(line):
        return True
    if _FOUR.match(line):
        return True
    found = _PACKED.match(line)
    if not found or not _WIDE.search(line):
        return False
    registers = re.findall(r"%\w+", line)
    return not ("xor" in found[0] and len(registers) == 3 and registers[0] == registers[1])


def functions(assembly: str) -> dict[str, list[str]]:
    """Lines of each function, by symbol."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in assembly.splitlines():
        symbol = re.match(r"([\w.$]+):", line)
        if symbol and not symbol[1].startswith(".L"):
            lines = found.setdefault(symbol[1], [])
        else:
            lines.append(line.strip())
    return found


def blocks(lines: list[str]) -> list[Block]:
    """Basic blocks in the order of the text."""
    found = [Block("")]
    for line in lines:
        label = re.match(r"(\.L\w+):", line)
        if label:
            found.append(Block(label[1]))
        elif line and not line.startswith((".", "#")):
            found[-1].code.append(line)
            if _JUMP.match(line) or line.startswith("ret"):
                found.append(Block(""))
    places = {block.label: k for k, block in enumerate(found) if block.label}
    for k, block in enumerate(found):
        last = block.code[-1] if block.code else ""
        jump = _JUMP.match(last)
        if jump and jump[2] in places:
            block.targets.append(places[jump[2]])
        if k + 1 < len(found) and not last.startswith(("jmp", "ret")):
            block.targets.append(k + 1)
    return found


def loops(code: list[Block]) -> Iterator[range]:
    """Blocks from a label to a jump back to it, without another such loop inside; LLVM lays an inner loop out in one piece."""
    backward = [range(t, k + 1) for k, block in enumerate(code) for t in block.targets if t <= k]
    for loop in backward:
        if not any(other != loop and other.start >= loop.start and other.stop <= loop.stop for other in backward):
            yield loop


def entrance(lines: list[str]) -> Entrance | None:
    """From the entry to the loop with most packed instructions, or to the first of them where all is unrolled. None: scalar."""
    code = blocks(lines)
    best = max(loops(code), key=lambda loop: sum(code[k].packed for k in loop), default=range(0))
    packed = sum(code[k].packed for k in best)
    lanes = _step([line for k in best for line in code[k].code]) if packed else 0
    goals = {best.start} if packed else {k for k, block in enumerate(code) if block.packed}
    if not goals:
        return None
    way = _way(code, goals)
    done = [line for k in way[:-1] for line in code[k].code]
    if not packed:
        end = code[way[-1]]
        done += end.code[: next(i for i, line in enumerate(end.code) if is_packed(line))]
        packed = sum(block.packed for block in code)
    return Entrance(
        before=len(done),
        tests=sum(bool(_JUMP.match(line)) and not line.startswith("jmp") for line in done),
        overlaps=sum(bool(_OVERLAP.match(line)) for line in done),
        packed=packed,
        lanes=lanes,
        all_overlaps=sum(bool(_OVERLAP.match(line)) for line in lines),
    )


def _step(body: list[str]) -> int:
    """What the counter of a loop grows by: of the counters, the one that the last comparison is about."""
    compared = next((line for line in reversed(body) if line.startswith(("cmp", "add", "sub", "inc"))), "")
    counters = re.findall(r"%\w+", compared)
    for line in body:
        grows = re.match(r"(add|sub)q\s+\$(-?\d+), (%\w+)$", line)
        if grows and grows[3] in counters:
            return abs(int(grows[2]))
    return 0


def _way(code: list[Block], goals: set[int]) -> list[int]:
    """Blocks from the entry to the nearest goal, by instructions."""
    queue: list[tuple[int, list[int]]] = [(0, [0])]
    seen: set[int] = set()
    while queue:
        spent, way = heapq.heappop(queue)
        at = way[-1]
        if at in goals:
            return way
        if at in seen:
            continue
        seen.add(at)
        for following in code[at].targets:
            heapq.heappush(queue, (spent + len(code[at].code), [*way, following]))
    raise ValueError("the vector loop can't be reached from the function's entry")
