"""Machine code of a CUDA kernel as nvdisasm shows it: instructions, where each comes from, and loops."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

_SECTION = re.compile(r"^\.text\.(\w+):")
_FRAME = re.compile(r'//## File "([^"]*)", line (\d+)')
_LABEL = re.compile(r"^(\.L_\w+|\$\w+):")
_INSTRUCTION = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+(?:@(!?U?P\w+)\s+)?([A-Z][\w.]*)\s*([^;]*);")
_TARGET = re.compile(r"`\(([^)]+)\)")
_BARRIER = re.compile(r"\bB\d+\b")


class NoDisassembler(Exception):
    """nvdisasm is not here."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction; `frames` are the source lines it comes from, the innermost first."""

    address: int
    predicate: str
    operation: str
    operands: str
    frames: tuple[tuple[str, int], ...]

    @property
    def kind(self) -> str:
        return self.operation.split(".")[0]


@dataclass(frozen=True, slots=True)
class Loop:
    """Positions in `Kernel.instructions` that a loop runs through, the first its head."""

    head: int
    body: frozenset[int]


@dataclass
class Kernel:
    """A kernel's code; `labels` are positions of instructions. `called`: where its subroutines start, if it has any."""

    name: str
    instructions: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)

    @cached_property
    def called(self) -> int:
        starts = [p for label, p in self.labels.items() if label.startswith("$") and p > 0]
        return min(starts, default=len(self.instructions))

    @cached_property
    def loops(self) -> list[Loop]:
        """Natural loops, outer before inner."""
        found: dict[int, set[int]] = {}
        before = self._before()
        for i, following in enumerate(self._after):
            for head in following:
                if self._dominators[i] >> head & 1 and self.instructions[i].address != self.instructions[head].address:
                    found.setdefault(head, {head}).update(_reaching(i, head, before))
        loops = [Loop(head, frozenset(body)) for head, body in found.items()]
        return sorted(loops, key=lambda loop: (-len(loop.body), loop.head))

    @cached_property
    def blocks(self) -> list[range]:
        """Positions that follow one another without a way in or out between them, subroutines apart."""
        ends = {i + 1 for i, after in enumerate(self._after) if after != [i + 1]}
        targets = {j for i, after in enumerate(self._after) for j in after if j != i + 1}
        starts = sorted(p for p in {0} | ends | targets if p < self.called)
        return [range(*pair) for pair in zip(starts, [*starts[1:], self.called], strict=True)]

    def together(self) -> list[list[range]]:
        """Blocks that are passed equally often: in one loop, the first on every way to the others and they on every way on."""
        found: dict[tuple[int, Loop | None], list[range]] = {}
        firsts: list[int] = []
        for block in self.blocks:
            loop = self.innermost(block[0])
            with_it = (
                p for p in firsts
                if self._dominators[block[0]] >> p & 1 and self._followers[p] >> block[0] & 1 and self.innermost(p) == loop
            )  # fmt: skip
            first = next(with_it, block[0])
            if first == block[0]:
                firsts.append(first)
            found.setdefault((first, loop), []).append(block)
        return list(found.values())

    def always(self, loop: Loop) -> set[int]:
        """Positions that every turn of a loop comes by."""
        turns = (i for i in loop.body if loop.head in self._after[i])
        return set.intersection(*(self.before(i) for i in turns)) & loop.body

    def before(self, position: int) -> set[int]:
        """Positions that lie on every way to one."""
        return {p for p in range(len(self.instructions)) if self._dominators[position] >> p & 1}

    def innermost(self, position: int) -> Loop | None:
        return next((loop for loop in reversed(self.loops) if position in loop.body), None)

    @cached_property
    def _after(self) -> list[list[int]]:
        """Positions that may follow each."""
        return [list(self._following(i)) for i in range(len(self.instructions))]

    def _following(self, i: int) -> Iterator[int]:
        instruction = self.instructions[i]
        target = _TARGET.search(instruction.operands)
        jumps = instruction.kind in ("BRA", "EXIT", "RET", "BSYNC")
        if instruction.kind == "BRA" and target:
            yield self.labels[target[1]]
        elif instruction.kind == "BSYNC":
            yield self._reconvergence(i)
        if (not jumps or instruction.predicate) and i + 1 < len(self.instructions):
            yield i + 1

    def _reconvergence(self, i: int) -> int:
        """Where the lanes that a BSYNC gathers go on: its BSSY says so."""
        barrier = _BARRIER.search(self.instructions[i].operands)
        for instruction in reversed(self.instructions[:i]):
            if instruction.kind == "BSSY" and barrier and barrier[0] in instruction.operands:
                target = _TARGET.search(instruction.operands)
                if target:
                    return self.labels[target[1]]
        return i + 1

    def _before(self) -> list[list[int]]:
        before: list[list[int]] = [[] for _ in self.instructions]
        for i, following in enumerate(self._after):
            for j in following:
                before[j].append(i)
        return before

    @cached_property
    def _dominators(self) -> list[int]:
        """Positions that lie on every way to each, as bits of an integer."""
        return _on_every_way(range(len(self.instructions)), self._before(), {0})

    @cached_property
    def _followers(self) -> list[int]:
        """Positions that lie on every way from each to the end."""
        ends = {i for i, after in enumerate(self._after) if not after or self.instructions[i].kind in ("EXIT", "RET")}
        return _on_every_way(range(len(self.instructions) - 1, -1, -1), self._after, ends)


def _on_every_way(order: range, neighbours: list[list[int]], starts: set[int]) -> list[int]:
    """By position, those that every way from a start comes by, as bits of an integer; those that no way reaches have none."""
    everything = (1 << len(order)) - 1
    found = [1 << i if i in starts else everything for i in range(len(order))]
    changed = True
    while changed:
        changed = False
        for i in order:
            if i in starts:
                continue
            common = everything if neighbours[i] else 0
            for j in neighbours[i]:
                common &= found[j]
            if (new := common | 1 << i) != found[i]:
                found[i], changed = new, True
    return found


def _reaching(last: int, head: int, before: list[list[int]]) -> set[int]:
    """Positions from which `last` is reached without passing the head."""
    reached, open_ = {head, last}, [last]
    while open_:
        for j in before[open_.pop()]:
            if j not in reached:
                reached.add(j)
                open_.append(j)
    return reached


def nvdisasm() -> str:
    """Path of the disassembler, of the package nvidia-cuda-nvdisasm or on PATH.

    Raises:
        NoDisassembler: there is none.
    """
    spec = importlib.util.find_spec("nvidia")
    for folder in spec.submodule_search_locations or [] if spec else []:
        for found in sorted(Path(folder).glob("*/bin/nvdisasm*")):
            return str(found)
    if found_on_path := shutil.which("nvdisasm"):
        return found_on_path
    raise NoDisassembler("nvdisasm is not installed: pip install nvidia-cuda-nvdisasm")


def disassembled(cubin: bytes) -> dict[str, Kernel]:
    """Every kernel of a cubin that was compiled with -lineinfo.

    Raises:
        NoDisassembler: nvdisasm is not installed.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernels.cubin"
        file.write_bytes(cubin)
        command = [nvdisasm(), "-c", "-gi", str(file)]
        return parsed(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def parsed(text: str) -> dict[str, Kernel]:
    """Kernels of nvdisasm's text."""
    kernels: dict[str, Kernel] = {}
    kernel, frames, is_fresh = None, [], False
    for line in text.splitlines():
        if line.lstrip().startswith(".section"):
            kernel = None
        elif section := _SECTION.match(line):
            kernel = kernels.setdefault(section[1], Kernel(section[1]))
            frames, is_fresh = [], False
        elif kernel is None:
            continue
        elif frame := _FRAME.search(line):
            frames = [*frames, (frame[1], int(frame[2]))] if is_fresh else [(frame[1], int(frame[2]))]
            is_fresh = True
        elif label := _LABEL.match(line):
            kernel.labels[label[1]] = len(kernel.instructions)
        elif found := _INSTRUCTION.match(line):
            is_fresh = False
            address, predicate, operation, operands = found.groups()
            if operation != "NOP":
                where = tuple(frames)
                kernel.instructions.append(Instruction(int(address, 16), predicate or "", operation, operands, where))
    for kernel in kernels.values():
        _trim(kernel)
    return kernels


def _trim(kernel: Kernel) -> None:
    """Drop the branch to itself that fences a kernel's end."""
    end = kernel.instructions
    own = {label for label, p in kernel.labels.items() if p == len(end) - 1}
    if end and end[-1].kind == "BRA" and any(label in end[-1].operands for label in own):
        end.pop()
