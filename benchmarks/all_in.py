"""What a month of a loan costs on a GPU with everything in it, counted in the machine code of sm_90; nothing here is a time.

    python benchmarks/all_in.py

Two paths of 1,024 living loans of two deployments on a block of 256 threads, their parties all watched. Three sums. `executed`:
every instruction as often as a warp issues it on such a book (issues.py, which needs g++), its loans taken as if all lived to the
end; events come in 5 % of its loan-months. `least` and `most` need no book: every instruction is weighted by the warps that run
it, all eight where every turn of the month, or of the path, comes by, in a phase of events as many as its events fill; `least`
counts of a phase's loops what each pass comes by, `most` all branches of each pass, of either side, and what comes before a loop
as often as the loop. Shared out over the months: what a path does once, the months after the horizon in which chips are still
sold, and what `draw_ahead` draws, a thread a path.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import ceil, exp, prod

import issues
import sass
from disassembly import Kernel, Loop, NoDisassembler

from gpuloan_mc.errors import EnvironmentProblem

KERNEL, AHEAD_KERNEL = "simulate_pair_128", "draw_ahead"
Costs = dict[str, list[float]]  # by phase: least and most
LOANS, MONTHS, AFTER, WARPS, SLOTS, PARTIES = 1024, 84, 24, 8, 2, 640  # AFTER: months after the horizon
PATHS, LANES = 2, 16  # of a block; of a warp, a path's
GENERATIONS, LAUNCHES = 4, 5
EIGHT = 8  # watched parties that a thread looks at at once
HITS, DUE, MATURITIES, DEFAULTS = 0.012, 0.02, 0.008, 0.005  # events of a loan-month; with the sales, 5 % together
SHARE = sass.LANES / LOANS / MONTHS / PATHS  # of a loan-month in what a warp of a block does once
COPIES = 4  # of the loop over lanes (kernels/gpuloan/lanes.cuh), which has versions for
VERSIONS = 3  # books of one deployment, of two, and all others: one of them runs


def warps_of(events: float) -> float:
    """Mean number of warps that the events of a block's paths, Poisson by month, keep busy, a lane each."""
    mean, at_most, chance = 0.0, 0.0, exp(-events)
    for known in range(ceil(events + 12 * events**0.5 + 12)):
        at_most += chance
        if known % LANES == 0:
            mean += 1 - at_most**PATHS  # that one of them has more
        chance *= events / (known + 1)
    return mean


@dataclass(frozen=True)
class Phase:
    """Warps that pass a phase's loops in a month, and trips of a loop within."""

    warps: float
    inner: float = SLOTS


PHASES = {
    "mean_overhang": Phase(GENERATIONS),  # a chain that every lane follows
    "step_market": Phase(1),
    "watch": Phase(ceil(PARTIES / EIGHT / LANES), 1),  # of eight neighbours hardly two fall in a month
    "lose_contracts": Phase(warps_of(HITS * LOANS)),
    "parent_defaults": Phase(warps_of(HITS * LOANS)),
    "parties_default": Phase(warps_of(HITS * LOANS)),
    "step_contracts": Phase(warps_of(DUE * LOANS)),
    "look_ahead": Phase(1),
    "open_loans": Phase(warps_of(MATURITIES * LOANS)),
    "mature_loans": Phase(warps_of(MATURITIES * LOANS)),
    "open_workouts": Phase(warps_of(DEFAULTS * LOANS)),
}
ONCE = {  # what comes once a path
    "start_loans": Phase(LOANS / LANES),
    "start_contracts": Phase(SLOTS * LOANS / LANES),
    "start_lists": Phase(PARTIES / LANES),  # the longest
    "start_market": Phase(1),
    "draw_watched": Phase(PARTIES / LANES),
    "decide_early": Phase(0),
    "list_early": Phase(0),
    "decide_late": Phase(0),
    "count_plain_loans": Phase(0),
    "settle_defaults": Phase(ceil(DEFAULTS * LOANS * MONTHS / LANES)),
}
AHEAD = {  # trips of the loops of draw_ahead, the outermost first
    "draw_demand": (MONTHS + AFTER,),
    "draw_hazards": (0,),  # the book's chips move all of them
    "draw_factors": (1, 2),
    "draw_launches": (1, LAUNCHES),
    "draw_premium": (MONTHS + AFTER,),
    "add_obsolescence": (MONTHS + AFTER, 1, LAUNCHES, GENERATIONS),
    "draw_generations": (MONTHS + AFTER, GENERATIONS, 1),
}
LANES_LOOP, OTHER = "pay_loans", "between the phases"
LOOP, ONCE_A_PATH, LATER, DRAWN = f"{LANES_LOOP}, its loop", "once a path", "after the horizon", "drawn ahead"


def phase_of(kernel: Kernel, position: int, names: Iterable[str] = (*PHASES, LANES_LOOP)) -> str:
    """The phase that an instruction belongs to."""
    found = [sass.function_at(file, line, sass.EVERY) for file, line in kernel.instructions[position].frames]
    return next((name for name in names if name in found), OTHER)


def loops_with(kernel: Kernel, has: set[str], lacks: str = "") -> list[Loop]:
    """The loops with these phases and without that, the outermost first."""
    phases = {loop: {phase_of(kernel, p) for p in loop.body} for loop in kernel.loops}
    return [loop for loop, found in phases.items() if has <= found and lacks not in found]


@dataclass(frozen=True)
class Lanes:
    """The loop over lanes: where it is, and what of it a living loan of two deployments that pays comes by."""

    body: frozenset[int]
    paying: set[int]

    @property
    def a_loan(self) -> float:
        return len(self.paying) / COPIES


def lanes_of(kernel: Kernel) -> Lanes:
    """The loop's version for two deployments."""
    found = []
    for loop in kernel.loops:
        stores = [p for p in loop.body if kernel.instructions[p].operation == "STS.128"]
        loads = sum(kernel.instructions[p].operation == "LDG.E.128" for p in loop.body)
        if len(stores) == COPIES and loads == COPIES * (SLOTS + 1):
            ways = (kernel.before(store) & loop.body | {store + 1} for store in stores)  # and the branch after it
            found.append(Lanes(loop.body, kernel.always(loop).union(*ways)))
    if len(found) != 1:
        raise SystemExit(f"{len(found)} loops look like that of two deployments; mend {__file__}")
    return found[0]


def named(
    kernel: Kernel, turn: Loop, phases: dict[str, Phase], without: Iterable[Loop] = ()
) -> Iterator[tuple[int, str, list[Loop]]]:
    """Positions of a loop's turn, the phase of each and the loops around it within the turn."""
    always, loops = kernel.always(turn), [loop for loop in kernel.loops if loop.body < turn.body]
    name = OTHER
    for position in sorted(turn.body.difference(*(loop.body for loop in without))):
        around, own = [x for x in loops if position in x.body], phase_of(kernel, position, (*phases, LANES_LOOP))
        if own != OTHER or position in always:
            name = own  # else, what the compiler took out of a phase's loop, as what stands before it
        yield position, LOOP if name == LANES_LOOP and around else name, around


def a_turn(kernel: Kernel, turn: Loop, phases: dict[str, Phase], without: Iterable[Loop] = ()) -> Costs:
    """By phase, the least and the most instructions of all warps in a turn of a loop; of the loop over lanes nothing."""
    always = kernel.always(turn)
    by_pass = {loop.head: kernel.always(loop) for loop in kernel.loops if loop.body < turn.body}
    costs: Costs = defaultdict(lambda: [0.0, 0.0])
    for position, name, around in named(kernel, turn, phases, without):
        if name == LOOP:
            continue
        phase = phases.get(name, Phase(WARPS))
        if position in always:
            warps, is_sure = float(WARPS), True
        elif name == LANES_LOOP:
            warps, is_sure = WARPS / VERSIONS, True
        else:
            warps = phase.warps * phase.inner ** max(len(around) - 1, 0)
            is_sure = bool(around) and all(position in by_pass[loop.head] for loop in around)
        costs[name][0] += warps * is_sure
        costs[name][1] += warps
    return costs


def drawn_ahead(kernel: Kernel) -> list[float]:
    """The least and the most instructions of a path's thread in `draw_ahead`."""
    cost = [0.0, 0.0]
    by_pass = {loop.head: kernel.always(loop) for loop in kernel.loops}
    for position in range(kernel.called):
        around = [loop for loop in kernel.loops if position in loop.body]
        trips = AHEAD.get(phase_of(kernel, position, AHEAD), ())
        times = prod(trips[: len(around)])
        cost[0] += times * all(position in by_pass[loop.head] for loop in around)
        cost[1] += times
    return cost


@dataclass(frozen=True)
class Turns:
    """The loops of the kernel that go through the paths, a path's months, and the months after the horizon."""

    path: Loop
    month: Loop
    after: Loop


def turns_of(kernel: Kernel) -> Turns:
    *_, month = loops_with(kernel, {"step_market", LANES_LOOP})
    after, *_ = loops_with(kernel, {"step_market"}, LANES_LOOP)
    return Turns([loop for loop in kernel.loops if month.body < loop.body][-1], month, after)


def all_in(kernels: dict[str, Kernel]) -> dict[str, tuple[float, float]]:
    """By phase, the least and the most instructions of a lane a loan-month."""
    kernel, turns = kernels[KERNEL], turns_of(kernels[KERNEL])
    by_month = a_turn(kernel, turns.month, PHASES)
    costs = {name: [MONTHS * SHARE * warps for warps in cost] for name, cost in by_month.items()}
    costs[LOOP] = [lanes_of(kernel).a_loan] * 2
    once, later = a_turn(kernel, turns.path, ONCE, (turns.month, turns.after)), a_turn(kernel, turns.after, PHASES)
    costs[ONCE_A_PATH] = [SHARE * sum(cost[k] for cost in once.values()) for k in range(2)]
    costs[LATER] = [SHARE * AFTER * sum(cost[k] for cost in later.values()) for k in range(2)]
    costs[DRAWN] = [instructions / LOANS / MONTHS for instructions in drawn_ahead(kernels[AHEAD_KERNEL])]
    return {name: (least, most) for name, (least, most) in costs.items()}


def rows_of(kernel: Kernel) -> list[str]:
    """By position, the row of the table that it counts in."""
    turns = turns_of(kernel)
    rows = [LATER if p in turns.after.body else ONCE_A_PATH for p in range(kernel.called)]
    for position, name, _ in named(kernel, turns.month, PHASES):
        rows[position] = name
    return rows


@dataclass(frozen=True)
class Executed:
    """Instructions of a lane a loan-month by phase, the share of them whose own line or loop was counted, the book's events."""

    by_phase: dict[str, float]
    exact: float
    events: dict[str, float]


def executed(kernels: dict[str, Kernel]) -> Executed:
    """What warps issue on the book of issues.py, every loan taken as alive."""
    plan, lanes = issues.book(), lanes_of(kernels[KERNEL])
    share = PATHS * SHARE / issues.PATHS
    by_phase: dict[str, float] = defaultdict(float)
    exact = 0.0
    for name, at_once in ((KERNEL, PATHS), (AHEAD_KERNEL, issues.PATHS)):
        weights, is_exact = issues.placed(kernels[name], issues.issues_of(name, plan, at_once))
        rows = rows_of(kernels[name]) if name == KERNEL else [DRAWN] * kernels[name].called
        for position, (row, weight) in enumerate(zip(rows, weights, strict=True)):
            cost = share * weight
            if name == KERNEL and position in lanes.body:
                cost = (1.0 if position in lanes.paying else cost) / COPIES
            by_phase[row] += cost
            exact += cost * (is_exact[position] or (name == KERNEL and position in lanes.paying))
    return Executed(dict(by_phase), exact / sum(by_phase.values()), issues.events_of(plan))


def main() -> int:
    simulate = sass.KERNELS / "simulate.cu"
    try:
        kernels, sizes = sass.kernels_of(simulate.read_text(encoding="utf-8"), str(simulate), "sm_90")
        bounds, run = all_in(kernels), executed(kernels)
    except (NoDisassembler, issues.NoCompiler, EnvironmentProblem) as problem:
        print(problem, file=sys.stderr)
        return 4
    print_table(bounds, run, sizes[KERNEL].registers)
    return 0


def print_table(bounds: dict[str, tuple[float, float]], run: Executed, registers: int) -> None:
    events = 100 * (HITS + DUE + MATURITIES + 2 * DEFAULTS)
    print(f"{KERNEL}, {registers} registers: a lane's slots a loan-month, events in {events:.0f} % of them\n")
    print(f"{'':28}{'least':>8}{'executed':>10}{'most':>8}")
    costs = {name: (least, run.by_phase.get(name, 0.0), most) for name, (least, most) in bounds.items()}
    costs = dict(sorted(costs.items(), key=lambda item: -item[1][1]))
    for name, cost in (costs | {"all-in": tuple(map(sum, zip(*costs.values(), strict=True)))}).items():
        print(f"{name:28}{cost[0]:8.1f}{cost[1]:10.1f}{cost[2]:8.1f}")
    print(f"\nexecuted: {100 * run.exact:.0f} % of it on instructions whose own line was counted, the others as those around;")
    told = ", ".join(f"{name} {100 * rate:.2f}" for name, rate in run.events.items())
    print(f"the book's events, % of loan-months: {told}; together {100 * sum(run.events.values()):.2f}")


if __name__ == "__main__":
    sys.exit(main())
