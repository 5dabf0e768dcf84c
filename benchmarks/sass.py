"""What the kernels cost on a GPU, counted in its machine code: no GPU is needed, and nothing here is a time.

    python benchmarks/sass.py                          # functions of the headers; simulate.cu where it is there
    python benchmarks/sass.py --rate on_event=0.05     # a function that 5 % of lanes enter in one go round its loop
    python benchmarks/sass.py --dense on_event=0.05    # the same, gathered first: only those lanes' share

The compiler notes a line once where neighbours share it, so a few instructions count for the function before theirs.
A warp that has to handle an event of probability p in any of its 32 lanes does so in 1 - (1-p)^32 of the cases.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from disassembly import Instruction, Kernel, Loop, NoDisassembler, disassembled

from gpuloan_mc.engines import cuda_sources
from gpuloan_mc.errors import EnvironmentProblem

KERNELS = Path(__file__).resolve().parents[1] / "kernels"
LANES = 32
H200_SLOTS = 132 * 128 * 1.755e9  # lane-slots a second: SMs, lanes of each, clock

# Pipes of sm_90 with half of the issue rate: an instruction there takes two cycles of a scheduler.
ALU = frozenset(
    "FMNMX FSETP FSEL FSET SEL ISETP ISET LOP3 LOP PLOP3 SHF SHL SHR LEA IADD3 IADD VIADD IABS IMNMX VIMNMX VIMNMX3 PRMT BMSK "
    "SGXT MOV P2R R2P CS2R I2FP".split()
)
CONVERSIONS = frozenset("I2F F2I F2F FRND MUFU POPC FLO BREV".split())  # a quarter of that rate or less
MEMORY = frozenset("LDS STS ATOMS LDG STG LD ST LDL STL RED ATOMG ATOM SHFL LDSM".split())
WORDS = {"64": 2, "128": 4}

RATES = {"quantile_tail": 0.0034}  # words whose tail probability is below 0.0017, of either sign

# Kernels around single functions: what they load and store is not counted, for it isn't of the headers.
FUNCTIONS = """
#include "gpuloan/market.cuh"
#include "gpuloan/obligors.cuh"
#include "gpuloan/loans.cuh"
#include "gpuloan/recovery.cuh"
#include "gpuloan/path.cuh"
using namespace gpuloan;
#define KERNEL extern "C" __global__ void
#define I (blockIdx.x * blockDim.x + threadIdx.x)

KERNEL of_philox(uint4* out, const u64* paths, u64 seed, u32 step, u64 entity) {
    const Words w = draw(seed, paths[I], RENEWAL, step, entity);
    out[I] = make_uint4(w.w0, w.w1, w.w2, w.w3);
}
KERNEL of_exp(float* x) { x[I] = gpuloan::exp(x[I]); }
KERNEL of_log(float* x) { x[I] = gpuloan::log(x[I]); }
KERNEL of_normal(float* out, const u32* w) { out[I] = normal(w[I]); }
KERNEL of_normal_cdf(float* x) { x[I] = normal_cdf(x[I]); }
KERNEL of_at_score(float* x, const float* table) { x[I] = at_score(table, x[I]); }
KERNEL of_threshold(float* x, const float* table, float residual, const float* common, float log_scale) {
    x[I] = threshold(table, 0, ONE, residual, x[I], common[I], log_scale);
}
KERNEL of_group_threshold(u32* out, const float* table, const float* log_h, float log_scale, const float* common, float inverse) {
    out[I] = group_threshold(table, log_h[I], log_scale, ONE, common[I], inverse);
}
KERNEL of_cents(i64* out, const float* fraction, double commitment) { out[I] = to_cents(commitment, fraction[I]); }
KERNEL of_pay(Funds* funds, const float* principal, const float* service, const float* income, float months, float sweep) {
    const Funds f = funds[I];
    funds[I] = pay(f.balance, f.reserve, f.support, principal[I], service[I], income[I], months, sweep);
}
// a loan of two deployments that pays month after month: state in registers, spot prices and rates uniform
KERNEL of_months(Funds* funds, const float4* terms, const float4* contracts, const float4* months, i32 n_months) {
    const float4 term = terms[I], contract = contracts[I];
    Funds f = funds[I];
    #pragma unroll 1
    for (i32 t = 0; t < n_months; ++t) {
        const float4 month = months[t];
        const float rate = monthly_rate(ONE, month.x, term.x);
        const float service = debt_service(f.balance, rate, term.y);
        const float first = add_revenue(ZERO, contract.x, contract.y, month.y);
        const float income = add_revenue(first, contract.z, contract.w, month.z);
        if (is_short(shortfall(service, income), f.reserve, f.support)) break;
        f = pay(f.balance, f.reserve, f.support, term.y, service, income, term.z, term.w);
    }
    funds[I] = f;
}
"""


@dataclass
class Cost:
    """Of a lane, in issue slots; `alu` in cycles of its half-rate pipe, `wavefronts` if every lane loads its own."""

    slots: float = 0
    alu: float = 0
    conversions: float = 0
    wavefronts: float = 0

    def add(self, instruction: Instruction, weight: float) -> None:
        self.slots += weight
        self.alu += 2 * weight * (instruction.kind in ALU)
        self.conversions += weight * (instruction.kind in CONVERSIONS)
        if instruction.kind in MEMORY:
            widths = (WORDS[part] for part in instruction.operation.split(".")[1:] if part in WORDS)
            self.wavefronts += weight * next(widths, 1)

    @property
    def limit(self) -> float:
        """Times a second an H200 could do it at best."""
        return H200_SLOTS / max(self.slots, self.alu, 4 * self.wavefronts, 1e-9)


@dataclass(frozen=True)
class Sizes:
    """What the compiler says of a kernel."""

    registers: int
    spilled_bytes: int


# --- where an instruction belongs -------------------------------------------------------------------------------------


WITH_TWIN = r"GPULOAN_FUNCTION|KERNEL|extern \"C\"|__device__|static|inline"  # how a function of theirs begins
EVERY = WITH_TWIN + "|GPULOAN_DEVICE"


@cache
def _definitions(file: str, kinds: str) -> list[tuple[int, str]]:
    """First line and name of each function that a source defines."""
    lines = Path(file).read_text(encoding="utf-8").splitlines() if Path(file).is_file() else []
    pattern = re.compile(rf"^(?:{kinds}|template)\b[^;=]*?\b(\w+)\($|^(?:{kinds})\b.*?\b(\w+)\(")
    found = ((n, pattern.match(line)) for n, line in enumerate(lines, 1))
    return [(n, m[1] or m[2]) for n, m in found if m]


def function_at(file: str, line: int, kinds: str = WITH_TWIN) -> str:
    """The function around a source line; an entry kernel, whose text may not be a file, has none."""
    names = [name for first, name in _definitions(file, kinds) if first <= line]
    return names[-1] if names else ""


def functions_of(instruction: Instruction) -> tuple[str, ...]:
    """Functions of kernels/ that an instruction comes from, the outermost first, the entry left out."""
    inner = instruction.frames[:-1]
    return tuple(name for file, line in reversed(inner) if (name := function_at(file, line)))


# --- counting ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Weights:
    """Shares of the cases in which functions run: `rates` of a lane, `dense` of gathered lanes."""

    rates: dict[str, float]
    dense: dict[str, float]

    def of(self, names: Iterable[str]) -> float:
        weight = 1.0
        for name in names:
            if name in self.rates:
                weight *= 1 - (1 - self.rates[name]) ** LANES
            weight *= self.dense.get(name, 1.0)
        return weight


def split(kernel: Kernel, weights: Weights) -> dict[str, dict[str, Cost]]:
    """Cost by loop and outermost function; `entry` for the kernel's own lines."""
    found: dict[str, dict[str, Cost]] = {}
    for position, instruction in enumerate(kernel.instructions[: kernel.called]):
        names = functions_of(instruction)
        part = found.setdefault(_loop_name(kernel, kernel.innermost(position)), {})
        part.setdefault(names[0] if names else "entry", Cost()).add(instruction, weights.of(names))
    return found


def _loop_name(kernel: Kernel, loop: Loop | None) -> str:
    if loop is None:
        return "once"
    lines = [kernel.instructions[p].frames[-1][1] for p in loop.body if kernel.instructions[p].frames]
    return (
        f"loop at {kernel.instructions[loop.head].address:#06x}, lines {min(lines, default=0)}-{max(lines, default=0)}"
    )


def total(costs: Iterable[Cost]) -> Cost:
    """The sum."""
    whole = Cost()
    for cost in costs:
        whole.slots += cost.slots
        whole.alu += cost.alu
        whole.conversions += cost.conversions
        whole.wavefronts += cost.wavefronts
    return whole


def of_headers(kernel: Kernel, weights: Weights) -> Cost:
    """Cost of what comes from the headers, loads and stores of the kernel around them apart."""
    parts = split(kernel, weights).values()
    return total(cost for part in parts for name, cost in part.items() if name != "entry")


def sizes(log: str) -> dict[str, Sizes]:
    """Registers and spilled bytes by kernel, of what -Xptxas=-v says."""
    found = {}
    for part in log.split("Compiling entry function '")[1:]:
        registers = re.search(r"Used (\d+) registers", part)
        spilled = sum(map(int, re.findall(r"(\d+) bytes spill", part)))
        found[part.split("'")[0]] = Sizes(int(registers[1]) if registers else 0, spilled)
    return found


def kernels_of(source: str, name: str, architecture: str) -> tuple[dict[str, Kernel], dict[str, Sizes]]:
    """Machine code of a source with the options of a run, and lines for the disassembler, which change no instruction."""
    options = (*cuda_sources.OPTIONS, "-lineinfo", f"-arch={architecture}", f"-I{KERNELS}")
    code = cuda_sources.nvrtc().compile(source, name, options, "cubin")
    return disassembled(code.data), sizes(code.log)


# --- telling ----------------------------------------------------------------------------------------------------------


HEAD = f"{'':44}{'slots':>8}{'ALU cycles':>12}{'conversions':>13}{'wavefronts':>12}{'H200 limit/s':>14}"


def row(name: str, cost: Cost) -> str:
    return (
        f"{name:44}{cost.slots:8.1f}{cost.alu:12.1f}{cost.conversions:13.1f}{cost.wavefronts:12.1f}{cost.limit:14.2e}"
    )


def report(kernel: Kernel, size: Sizes, weights: Weights) -> Iterator[str]:
    """A kernel, loop by loop and function by function."""
    yield f"{kernel.name}: {size.registers} registers, {size.spilled_bytes} bytes spilled"
    for loop, part in split(kernel, weights).items():
        yield row(f"  {loop}", total(part.values()))
        for name, cost in sorted(part.items(), key=lambda item: -item[1].slots):
            yield row(f"    {name}", cost)
    rest = len(kernel.instructions) - kernel.called
    if rest:
        yield f"  {rest} instructions of subroutines (slow paths of / and sqrt) are not counted"


def stated(pairs: list[str]) -> dict[str, float]:
    return {name: float(value) for name, _, value in (pair.partition("=") for pair in pairs)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="sm_90")
    parser.add_argument(
        "--rate", action="append", default=[], metavar="FUNCTION=P", help="entered by this share of lanes"
    )
    parser.add_argument("--dense", action="append", default=[], metavar="FUNCTION=P", help="the same, lanes gathered")
    parser.add_argument("--kernel", help="only this entry of simulate.cu")
    parser.add_argument("--json", type=Path, help="write the counts here too")
    asked = parser.parse_args()
    weights = Weights(RATES | stated(asked.rate), stated(asked.dense))
    try:
        functions, function_sizes = kernels_of(FUNCTIONS, "functions.cu", asked.arch)
        simulate = KERNELS / "simulate.cu"
        entries, entry_sizes = {}, {}
        if simulate.is_file():
            entries, entry_sizes = kernels_of(simulate.read_text(encoding="utf-8"), str(simulate), asked.arch)
    except (NoDisassembler, EnvironmentProblem) as problem:
        print(problem, file=sys.stderr)
        return 4
    counted = {name: of_headers(kernel, weights) for name, kernel in functions.items()}
    print(f"{asked.arch}, a lane's share of a warp; rates of lanes: {weights.rates}, dense: {weights.dense}\n\n{HEAD}")
    for name, cost in counted.items():
        print(row(f"{name} ({function_sizes[name].registers} registers)", cost))
    print()
    print("\n".join(report(functions["of_months"], function_sizes["of_months"], weights)))
    for name, kernel in entries.items():
        if asked.kernel in (None, name):
            print("\n" + "\n".join(report(kernel, entry_sizes[name], weights)))
    if asked.json:
        split_ = {name: split(kernel, weights) for name, kernel in (functions | entries).items()}
        told = {
            n: {loop: {f: asdict(c) for f, c in part.items()} for loop, part in p.items()} for n, p in split_.items()
        }
        size = {name: asdict(s) for name, s in (function_sizes | entry_sizes).items()}
        asked.json.write_text(
            json.dumps({"architecture": asked.arch, "weights": asdict(weights), "sizes": size, "cost": told})
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
