"""What bounds a lane-month of the engine numba: its events, taken away one after another, and its loop's instructions."""

from __future__ import annotations

import dataclasses
import re
import statistics
import time
from typing import Any

import numpy as np

from gpuloan_mc.plan import Plan

Answer = dict[str, Any]
NEVER = 10_000  # months: a contract that outlasts every horizon
AMPLE = np.float32(1000)  # support, of the commitment: no loan runs short
PACKED = r"\bv\w+[ps]s?\b.*%([yz])mm"
LANES = {"y": 8, "z": 16}
STATE_ROWS = 4


def without_defaults(plan: Plan) -> Plan:
    """No party defaults and no loan runs short; contracts still end and loans are still repaid."""
    loans = plan.loans
    return dataclasses.replace(
        plan,
        obligors=dataclasses.replace(plan.obligors, hazard=np.zeros_like(plan.obligors.hazard)),
        loans=dataclasses.replace(
            loans,
            support=np.full_like(loans.support, AMPLE),
            dscr_default=np.zeros_like(loans.dscr_default),
        ),
    )


def without_ends(plan: Plan) -> Plan:
    """Contracts that never end."""
    deployments = plan.deployments
    end = np.full_like(deployments.contract_end, NEVER)
    return dataclasses.replace(plan, deployments=dataclasses.replace(deployments, contract_end=end))


def parts(case: str, seconds: float, repeats: int, seed: int) -> Answer:
    """ns of a loan-month on one thread: with all events, without defaults, and without contract ends as well."""
    import cases

    from gpuloan_mc.planning import build_plan

    plan = build_plan(*cases.CASES[case].book())
    quiet = without_defaults(plan)
    plans = {"all": plan, "no_defaults": quiet, "no_events": without_ends(quiet)}
    return {name: _cost(of, seconds, repeats, seed) for name, of in plans.items()} | {"loop": instructions()}


def _cost(plan: Plan, seconds: float, repeats: int, seed: int) -> float:
    from gpuloan_mc.engines.numba_cpu import NumbaCpu

    engine = NumbaCpu(1)
    engine.run(plan, seed, 0, 64)

    def run(n_paths: int) -> float:
        begin = time.perf_counter()
        engine.run(plan, seed, 0, n_paths)
        return time.perf_counter() - begin

    n_paths = max(64, int(64 * seconds / run(64)) // 4 * 4)
    loan_months = n_paths * plan.n_loans * int(plan.market.horizon)
    return statistics.median(run(n_paths) for _ in range(repeats)) / loan_months * 1e9


def instructions() -> Answer:
    """Instructions of the waterfall's vector loop, and the lanes that one turn of it serves."""
    import loops

    (assembly,) = (loop.compiled() for loop in loops.LOOPS if loop.name == "pay_tile")
    return hottest_loop(assembly)


def hottest_loop(assembly: str) -> Answer:
    """The loop without another inside that has most packed instructions: a label up to the jump back to it.

    The waterfall stores a lane's balance, reserve, support and breaches; the stores tell how many lanes a turn serves.
    """
    best: Answer = {"instructions": 0, "packed": 0, "lanes": 0}
    label, body = "", list[str]()
    for line in map(str.strip, assembly.splitlines()):
        if line.endswith(":"):
            label, body = line[:-1], []
        elif line and not line.startswith((".", "#")):
            body.append(line)
            packed = [m[1] for x in body if (m := re.search(PACKED, x))]
            if re.match(rf"j\w+\s+{re.escape(label)}$", line) and len(packed) > best["packed"]:
                stores = sum("vmovups" in x and x.endswith(")") for x in body)
                lanes = LANES[max(packed)] * (stores // STATE_ROWS)
                best = {"instructions": len(body), "packed": len(packed), "lanes": lanes}
    return best
