"""How often a warp issues each instruction of a kernel: the kernels run on the emulated device (tests/kernels), g++ counts.

g++ builds simulate.cu so that every basic block says when a thread comes by, the blocks' lines and callers in the debug
information (tests/kernels/issues.cpp). The lanes of a warp that stand at one block count once, those at others wait: both
sides of a branch cost. An instruction of the machine code knows its line and callers too; those that no way in or out
divides are issued as often as each other, which is what most of their lines say.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import cases
import numpy as np
from disassembly import Kernel

from gpuloan_mc import Market
from gpuloan_mc.plan import Plan
from gpuloan_mc.planning import build_plan

KERNELS = Path(__file__).resolve().parents[1] / "kernels"
EMULATED = Path(__file__).resolve().parents[1] / "tests" / "kernels"
OPTIONS = ("-O0", "-g", "-fsanitize-coverage=trace-pc")
PATHS, RATE_PATHS = 32, 8
LOANS, MONTHS, SENSITIVITY = 1024, 84, 0.5
PARTIES = {"neocloud": 170, "investment-grade": 200, "ai-lab": 70, "start-up": 200}
Chain = tuple[tuple[str, int], ...]  # file and line, the innermost first
TARGETS = ("portable.cuh", "team.cuh")  # functions of a line, other lines for other compilers
OTHERS_VOTE = 0.01  # of a line that was not counted, for what its callers' says
SAME = 0.03  # counts that differ by less agree


class NoCompiler(Exception):
    """g++ or its binutils are not here."""


def book() -> Plan:
    """1,024 loans of two deployments, every party's hazard moved by the book's own chips."""
    market = Market.read(cases.BUNDLED)
    classes = [{**kind.model_dump(), "overhang_sensitivity": SENSITIVITY} for kind in market.hazard_classes]
    return build_plan(*cases.gpu_book(LOANS, MONTHS, market.replace(hazard_classes=classes), PARTIES))


def events_of(plan: Plan) -> dict[str, float]:
    """Events of the book a loan-month, living or not, by kind."""
    rates = cases.rates(plan, cases.SEED, RATE_PATHS)
    return {name: rates["live_share"] * rates[name] for name in cases.EVENTS}


# --- lines ------------------------------------------------------------------------------------------------------------


@cache
def _text(file: str) -> list[str]:
    """A kernel source without comments."""
    found = [path for path in KERNELS.rglob(file)]
    return [re.sub(r"\s*//.*", "", line) for line in found[0].read_text(encoding="utf-8").splitlines()] if found else []


def statement_of(file: str, line: int) -> int:
    """First line of the statement that a line is part of: compilers differ in which they name."""
    text = _text(file)
    while 1 < line <= len(text) and not re.search(r"(^|[;{}]|^\s*GPULOAN_\w+|^#.*|^template.*)$", text[line - 2]):
        line -= 1
    return line


def is_loop(file: str, line: int) -> bool:
    """Whether a statement is that of a loop."""
    text = _text(file)
    return 1 <= line <= len(text) and re.search(r"\b(for|while) \(", text[line - 1]) is not None


@cache
def written_out(file: str) -> set[int]:
    """Lines of loops that a GPU's compiler writes out whole."""
    text, found = _text(file), set()
    for n, line in enumerate(text):
        if re.search(r"^\s*GPULOAN_UNROLLED$|^#pragma unroll$", line):
            first = next(k for k in range(n + 1, len(text)) if "for (" in text[k])
            indent = text[first].index("for")
            has_body = text[first].endswith("{")
            last = next(k for k in range(first, len(text)) if not has_body or text[k][:indent + 1] == " " * indent + "}")
            found.update(range(first + 1, last + 2))
    return found


def _chain(frames: Any) -> Chain:
    return tuple((name := Path(file).name, statement_of(name, line)) for file, line in frames)


def _whole(chain: Chain) -> Chain:
    """What stands around the loops that are written out: it comes by as often as each of their passes does in full."""
    inside = [k for k, (file, line) in enumerate(chain) if line in written_out(file)]
    return chain[inside[-1] + 1 :] if inside else chain


# --- counting ---------------------------------------------------------------------------------------------------------


def _said(*command: str, given: str = "") -> str:
    return subprocess.run(command, input=given, capture_output=True, text=True, check=True).stdout


@dataclass(frozen=True)
class Function:
    """A kernel as g++ built it: its place, and which statements each of its blocks has."""

    library: str
    name: str

    @cached_property
    def place(self) -> tuple[int, int]:
        """Address in the library, and bytes."""
        found = re.search(rf"^(\w+) (\w+) T {self.name}$", _said("nm", "-S", self.library), re.M)
        assert found, self.name
        return int(found[1], 16), int(found[2], 16)

    def blocks(self) -> dict[int, set[Chain]]:
        """Statements by what the block's call gives as its place: the address after the call, from the function's own."""
        block_of = dict(self._addresses())
        told = _said("addr2line", "-a", "-i", "-e", self.library, given="\n".join(map(hex, block_of)))
        blocks = defaultdict(set)
        for part in told.split("\n0x"):
            address, *frames = part.splitlines()
            lines = [found.groups() for frame in frames if (found := re.match(r"(.*):(\d+)", frame))]
            if lines:
                chain = _chain((file, int(line)) for file, line in lines)
                blocks[block_of[int(address, 16)]].add(chain)
        return blocks

    def _addresses(self) -> Iterator[tuple[int, int]]:
        """Addresses of the instructions, and each one's block."""
        block, is_next = -1, False
        code = _said("objdump", "-d", "--no-show-raw-insn", f"--disassemble={self.name}", self.library)
        for address, what in re.findall(r"^\s+([0-9a-f]+):\s+(.*)", code, re.M):
            if is_next:
                block = int(address, 16) - self.place[0]
            if block >= 0:
                yield int(address, 16), block
            is_next = "__sanitizer_cov_trace_pc" in what


def issues_of(kernel: str, plan: Plan, at_once: int) -> dict[Chain, set[float]]:
    """By statement, how often warps issue each of its blocks, all paths together, `at_once` of them a launch.

    Raises:
        NoCompiler: no g++ or no binutils.
    """
    sys.path.insert(0, str(EMULATED))
    import emulated

    try:
        library = emulated.library(*OPTIONS, source="issues.cpp")
        function = Function(library._name, kernel)
        first, size = ctypes.cast(getattr(library, kernel), ctypes.c_void_p), function.place[1]
        blocks = function.blocks()
    except FileNotFoundError as missing:
        raise NoCompiler(f"{missing.filename} is not installed: issues are counted with g++, nm, objdump and addr2line") from None
    finally:
        sys.path.remove(str(EMULATED))
    counts = np.zeros(size, np.uint64)
    for path in range(0, PATHS, at_once):
        library.watch_function(first, size)
        emulated.run_emulated(plan, cases.SEED, path, at_once, kernels=library)
        library.add_issues(counts.ctypes.data_as(ctypes.c_void_p))
    found = defaultdict(set)
    for block, chains in blocks.items():
        for chain in chains:
            found[chain].add(float(counts[block]))
    return {chain: _without_sums(of_chain) if is_loop(*chain[0]) else of_chain for chain, of_chain in found.items()}


def _without_sums(counts: set[float]) -> set[float]:
    """A loop's comparison runs on entry and after each pass; a GPU has it at both places."""
    return {n for n in counts if not any(a > 0 and n - a > 0 and n - a in counts - {n} for a in counts)} or counts


# --- placing ----------------------------------------------------------------------------------------------------------


def _of_line(issues: dict[Chain, set[float]], frames: Any) -> tuple[set[float], bool]:
    """Counts of an instruction's statement, or of the nearest of its callers that has any; whether it was its own."""
    chain = own = _whole(_chain(frames))
    while chain and chain not in issues:
        chain = chain[1:]
    missed = len(own) - len(chain)
    return issues.get(chain, set()), missed == 0 or (missed == 1 and own[0][0] in TARGETS)


def _count(lines: list[tuple[set[float], bool]], limit: float) -> float:
    """What most lines say of blocks that are issued no more often than `limit`."""
    votes: Counter[float] = Counter()
    for counts, own in lines:
        possible = [n for n in counts if n <= (1 + SAME) * limit]
        for n in possible:
            votes[n] += (1.0 if own else OTHERS_VOTE) / len(possible)
    return max(votes, key=lambda n: (votes[n], n), default=0.0 if limit == float("inf") else limit)


def placed(kernel: Kernel, issues: dict[Chain, set[float]]) -> tuple[list[float], list[bool]]:
    """By position, how often warps issue it, and whether its own line says so.

    Of the counts that the lines of a block say, and of blocks that come with it, the one most often said; no more than of a
    block of the same loop that every way to it comes by: a compiler moves lines out of loops.
    """
    weights, is_exact = [0.0] * kernel.called, [False] * kernel.called
    done: list[tuple[int, Any]] = []  # first positions of blocks, and the loops around them
    for blocks in sorted(kernel.together(), key=lambda blocks: len(kernel.before(blocks[0][0]))):
        lines = {p: _of_line(issues, kernel.instructions[p].frames) for block in blocks for p in block}
        first, loop = blocks[0][0], kernel.innermost(blocks[0][0])
        before = kernel.before(first)
        limit = min((weights[p] for p, around in done if around == loop and p in before), default=float("inf"))
        count = _count(list(lines.values()), limit)
        done.append((first, loop))
        for p, (counts, own) in lines.items():
            weights[p], is_exact[p] = count, own and any(abs(n - count) <= SAME * count for n in counts)
    return weights, is_exact
