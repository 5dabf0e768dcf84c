"""What a month of a loan costs on a GPU with everything in it, counted in the machine code of sm_90; nothing here is a time.

    python benchmarks/all_in.py

A path of 1,024 living loans of two deployments on a block of 128 threads. Every instruction of a month is weighted by the
warps that run it: all four where every turn of the month comes by; in a phase of events as many warps as its events fill.
Two sums: `least` counts of a phase's loops what each pass comes by, `most` all branches of each pass, of either side, and what
comes before a loop as often as the loop. The market's few generations count as one pass.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from dataclasses import dataclass
from math import ceil, exp

import sass
from disassembly import Kernel, Loop, NoDisassembler

from gpuloan_mc.errors import EnvironmentProblem

KERNEL = "simulate_block_128"
LOANS, WARPS, SLOTS, PARTIES = 1024, 4, 2, 640
FOUR = 4  # watched parties that a thread looks at at once
HITS, DUE, MATURITIES, DEFAULTS, SALES = 0.012, 0.02, 0.008, 0.005, 0.005  # events of a loan-month: 5 % together
COPIES = 4  # of the loop over lanes (kernels/gpuloan/lanes.cuh), which has versions for
VERSIONS = 3  # books of one deployment, of two, and all others: one of them runs


def warps_of(events: float) -> float:
    """Mean number of warps that events, Poisson by month, keep busy, a lane each."""
    mean, chance = 0.0, exp(-events)
    for known in range(ceil(events + 12 * events**0.5 + 12)):
        mean += ceil(known / sass.LANES) * chance
        chance *= events / (known + 1)
    return mean


@dataclass(frozen=True)
class Phase:
    """Warps that pass a phase's loops in a month, and trips of a loop within."""

    warps: float
    inner: float = SLOTS


PHASES = {
    "step_market": Phase(1),
    "watch": Phase(ceil(PARTIES / FOUR / sass.LANES), 1),  # of four neighbours hardly two fall in a month
    "lose_contracts": Phase(warps_of(HITS * LOANS)),
    "parent_defaults": Phase(warps_of(HITS * LOANS)),
    "parties_default": Phase(warps_of(HITS * LOANS)),
    "step_contracts": Phase(warps_of(DUE * LOANS)),
    "look_ahead": Phase(1),
    "open_loans": Phase(warps_of(MATURITIES * LOANS)),
    "mature_loans": Phase(warps_of(MATURITIES * LOANS)),
    "open_workouts": Phase(warps_of(DEFAULTS * LOANS)),
    "settle_sales": Phase(warps_of(SALES * LOANS)),
}
LANES_LOOP, OTHER = "pay_loans", "between the phases"


def phase_of(kernel: Kernel, position: int) -> str:
    """The phase that an instruction belongs to."""
    names = [sass.function_at(file, line, sass.EVERY) for file, line in kernel.instructions[position].frames]
    return next((name for name in (*PHASES, LANES_LOOP) if name in names), OTHER)


def month_of(kernel: Kernel) -> Loop:
    """The loop over the months up to the horizon: the last of the largest, paths around it."""
    phases = {"step_market", LANES_LOOP}
    return [loop for loop in kernel.loops if phases <= {phase_of(kernel, p) for p in loop.body}][-1]


def a_loan(kernel: Kernel) -> float:
    """Instructions of the loop over lanes on a living loan of two deployments that pays."""
    found = []
    for loop in kernel.loops:
        stores = [p for p in loop.body if kernel.instructions[p].operation == "STS.128"]
        loads = sum(kernel.instructions[p].operation == "LDG.E.128" for p in loop.body)
        if len(stores) == COPIES and loads == COPIES * (SLOTS + 2):
            ways = (kernel.before(store) & loop.body | {store + 1} for store in stores)  # and the branch after it
            found.append(len(kernel.always(loop).union(*ways)) / COPIES)
    if len(found) != 1:
        raise SystemExit(f"{len(found)} loops look like that of two deployments; mend {__file__}")
    return found[0]


def all_in(kernel: Kernel) -> dict[str, tuple[float, float]]:
    """By phase, the least and the most instructions of a lane a loan-month."""
    month = month_of(kernel)
    always, loops = kernel.always(month), [loop for loop in kernel.loops if loop.body < month.body]
    by_pass = {loop.head: kernel.always(loop) for loop in loops}
    costs: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    costs[f"{LANES_LOOP}, its loop"] = [a_loan(kernel)] * 2
    for position in month.body:
        name, around = phase_of(kernel, position), [loop for loop in loops if position in loop.body]
        if name == LANES_LOOP and around:
            continue
        phase = PHASES.get(name, Phase(WARPS))
        if position in always:
            warps, is_sure = float(WARPS), True
        elif name == LANES_LOOP:
            warps, is_sure = WARPS / VERSIONS, True
        else:
            warps = phase.warps * phase.inner ** max(len(around) - 1, 0)
            is_sure = bool(around) and all(position in by_pass[loop.head] for loop in around)
        share = warps * sass.LANES / LOANS
        costs[name][0] += share * is_sure
        costs[name][1] += share
    return {name: (least, most) for name, (least, most) in costs.items()}


def main() -> int:
    simulate = sass.KERNELS / "simulate.cu"
    try:
        kernels, sizes = sass.kernels_of(simulate.read_text(encoding="utf-8"), str(simulate), "sm_90")
    except (NoDisassembler, EnvironmentProblem) as problem:
        print(problem, file=sys.stderr)
        return 4
    costs = all_in(kernels[KERNEL])
    events = 100 * (HITS + DUE + MATURITIES + DEFAULTS + SALES)
    print(f"{KERNEL}, {sizes[KERNEL].registers} registers: a lane's slots a loan-month, events in {events:.0f} % of them\n")
    print(f"{'':28}{'least':>8}{'most':>8}")
    for name, (least, most) in sorted(costs.items(), key=lambda item: -item[1][1]):
        print(f"{name:28}{least:8.1f}{most:8.1f}")
    print(f"{'all-in':28}{sum(c[0] for c in costs.values()):8.1f}{sum(c[1] for c in costs.values()):8.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
