"""Before and after: the engine numba of an earlier checkout and of this one, in turn, on one thread.

    python benchmarks/versus.py --before CHECKOUT     writes benchmarks/results/versus-<commit>-<machine>-<version>.json, README
    python benchmarks/versus.py --before CHECKOUT --case small --case cold-start --pairs 2 --out versus.json

CHECKOUT is a folder with an earlier commit (`git worktree add CHECKOUT COMMIT`). Every column of the paths must be equal
before anything is timed. A pair is a process of each that run the same paths in turn, a short while at a time, so that a busy
machine slows both; its ratio is that of their CPU times, of each the least of its repeats.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cases
import checkout
import commands
import measure
import readme
import versus_page
from checkout import Checkout

import gpuloan_mc

Report = dict[str, Any]
RESULTS = measure.HERE / "results"
SCRIPT = Path(__file__)
COLUMNS = ("loss", "discounted_loss", "defaulted_balance", "largest_loss", "defaults")
SIDES = ("before", "after")


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0, or 1 where a column differs or a measurement failed."""
    options = _options(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        cache = options.cache or Path(temporary)
        roots = {"before": options.before.resolve(), "after": checkout.here()}
        sides = {side: Checkout(root, cache / side) for side, root in roots.items()}
        report = new_report(sides, options)
        _warm(sides)
        for name in options.case:
            report["cases" if name in cases.CASES else "commands"][name] = compared(name, sides, options)
    report["load_after"] = measure.load()
    print("\n" + "\n".join(versus_page.versus_tables(report)))
    write(report, options.out)
    return 1 if any("failed" in entry for kind in ("cases", "commands") for entry in report[kind].values()) else 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = [*cases.CASES, *commands.MEASUREMENTS]
    parser.add_argument("--before", type=Path, required=True, metavar="CHECKOUT", help="folder of the earlier commit")
    parser.add_argument("--case", action="append", choices=every, help="default: all")
    parser.add_argument("--pairs", type=int, default=7, help="default 7")
    parser.add_argument("--cold-pairs", type=int, default=5, help="pairs of cold-start, which compiles twice a side; default 5")
    parser.add_argument("--seconds", type=float, default=0.1, help="length of a timed run of the later one; default 0.1")
    parser.add_argument("--repeats", type=int, default=25, help="timed runs of a process, of which the least counts; default 25")
    parser.add_argument("--cache", type=Path, help="folder that keeps both checkouts' machine code; default: a new one")
    parser.add_argument("--note", default="", help="a sentence that goes with the figures, such as what else was running")
    parser.add_argument("--out", type=Path, help="JSON file to write, or whose cases are brought up to date")
    options = parser.parse_args(arguments)
    options.case = options.case or every
    return options


def new_report(sides: dict[str, Checkout], options: argparse.Namespace) -> Report:
    """A report without cases yet."""
    return {
        "kind": "versus",
        "version": gpuloan_mc.__version__,
        "note": options.note,
        "machine": measure.machine(),
        "packages": measure.versions(),
        **{side: at.about() for side, at in sides.items()},
        "repeats": options.repeats,
        "load_before": measure.load(),
        "cases": {},
        "commands": {},
    }


def _warm(sides: dict[str, Checkout]) -> None:
    """Machine code of both, so that no timed process compiles."""
    for side, at in sides.items():
        found = at.child("warm_up", {}, commands.SCRIPT)
        print(f"{side}: {found.get('failed') or 'machine code is there'}", flush=True)


# --- pairs ------------------------------------------------------------------------------------------------------------


def compared(name: str, sides: dict[str, Checkout], options: argparse.Namespace) -> Report:
    """A case, or a measurement of the whole program, of both checkouts in pairs."""
    load = measure.load()
    found = _case(name, sides, options) if name in cases.CASES else _command(name, sides, options)
    print(f"  {name:14} {found.get('failed') or versus_page.summary(found)}", flush=True)
    return {**found, "load_before": load, "load_after": measure.load()}


def _case(name: str, sides: dict[str, Checkout], options: argparse.Namespace) -> Report:
    case = cases.CASES[name]
    checks = {side: at.child("digest", {"case": name, "paths": case.check_paths}, SCRIPT) for side, at in sides.items()}
    failed = failure(checks)
    if failed:
        return {"what": case.what, **failed}
    work = sides["after"].child("size", {"case": name, "seconds": options.seconds}, SCRIPT)
    if "failed" in work:
        return {"what": case.what, **work}
    pairs = joined(in_turn(sides, {"case": name, "paths": work["paths"]}, options.repeats) for _ in range(options.pairs))
    about = {"what": case.what, "plain": case.plain, **work, "check_paths": case.check_paths, "columns": list(COLUMNS)}
    return about | pairs | ratios(pairs, ("cpu_seconds", "wall_seconds"))


def _command(name: str, sides: dict[str, Checkout], options: argparse.Namespace) -> Report:
    measured, figures = commands.MEASUREMENTS[name]
    n = options.cold_pairs if name == "cold-start" else options.pairs
    pairs = joined({side: measured(at) for side, at in sides.items()} for _ in range(n))
    return pairs | ratios(pairs, figures)


def in_turn(sides: dict[str, Checkout], arguments: Report, repeats: int) -> dict[str, Report]:
    """A process of each, which run the paths in turn: each one's least CPU and wall seconds."""
    with ExitStack() as stack:
        ask = {side: stack.enter_context(at.serving("timed", arguments, SCRIPT)) for side, at in sides.items()}
        runs = [{side: ask[side]() for side in sides} for _ in range(repeats)]
    return {side: least([run[side] for run in runs]) for side in sides}


def least(runs: list[Report]) -> Report:
    """Of the runs of a process."""
    failed = next((run for run in runs if "failed" in run), None)
    if failed:
        return failed
    figures = {figure: min(run[figure] for run in runs) for figure in ("cpu_seconds", "wall_seconds")}
    middle = statistics.median(run["cpu_seconds"] for run in runs)
    return figures | {"digest": runs[0]["digest"], "median_cpu_seconds": middle, "runs": len(runs)}


def joined(answers: Iterable[dict[str, Report]]) -> Report:
    """The pairs; {"failed": why} from the first on in which one fails or differs from its other."""
    pairs: list[dict[str, Report]] = []
    for pair in answers:
        failed = failure(pair)
        if failed:
            return {**failed, "pairs": pairs}
        pairs.append(pair)
    return {"pairs": pairs}


def failure(pair: dict[str, Report]) -> Report:
    """Why the two can't be compared, or nothing: one has failed, or they differ in what they computed."""
    failed = next((f"{side}: {answer['failed']}" for side, answer in pair.items() if "failed" in answer), None)
    if failed:
        return {"failed": failed}
    same = pair["before"]["digest"] == pair["after"]["digest"]
    return {} if same else {"failed": "the two compute different figures"}


def ratios(found: Report, figures: tuple[str, ...]) -> Report:
    """For each figure the ratio before / after of each pair, its median and range, and the medians of both sides."""
    pairs = found["pairs"]
    if "failed" in found or not pairs:
        return {}
    answer = {}
    for figure in figures:
        each = [pair["before"][figure] / pair["after"][figure] for pair in pairs]
        answer[figure] = {
            "ratios": each,
            "median": statistics.median(each),
            "low": min(each),
            "high": max(each),
            **{side: statistics.median(pair[side][figure] for pair in pairs) for side in SIDES},
        }
    return {"figures": answer}


# --- in the child -----------------------------------------------------------------------------------------------------


def _engine(root: str, case: str) -> tuple[Any, Any]:
    """The engine on one thread and the case's plan, ready."""
    checkout.must_be(root)
    from gpuloan_mc.engines.numba_cpu import NumbaCpu
    from gpuloan_mc.planning import build_plan

    engine, plan = NumbaCpu(1), build_plan(*cases.CASES[case].book())
    engine.prepare(plan)
    return engine, plan


def _digest(table: Any) -> str:
    """Of the columns of paths."""
    sha = hashlib.sha256()
    for name in COLUMNS:
        sha.update(getattr(table, name).tobytes())
    return sha.hexdigest()


def digest(root: str, case: str, paths: int) -> Report:
    """The digest of the columns of the first paths."""
    engine, plan = _engine(root, case)
    return {"digest": _digest(engine.run(plan, measure.SEED, 0, paths))}


def size(root: str, case: str, seconds: float) -> Report:
    """Paths that fill so many seconds, and the size of the book."""
    engine, plan = _engine(root, case)

    def run(n: int) -> float:
        begin = time.process_time()
        engine.run(plan, measure.SEED, 0, n)
        return time.process_time() - begin

    run(4)
    n = 4
    while (spent := run(n)) < seconds / 4 and n < measure.MAX_PATHS:
        n *= 4
    paths = max(4, int(n * seconds / spent) // 4 * 4)
    return {"paths": paths, "loans": plan.n_loans, "months": int(plan.market.horizon)}


def timed(root: str, case: str, paths: int) -> Iterator[Report]:
    """CPU and wall seconds of a run of these paths, again and again, after one of a quarter of them."""
    engine, plan = _engine(root, case)
    engine.run(plan, measure.SEED, 0, paths // 4)
    yield {"paths": paths}
    while True:
        begin, start = time.process_time(), time.perf_counter()
        table = engine.run(plan, measure.SEED, 0, paths)
        seconds = {"cpu_seconds": time.process_time() - begin, "wall_seconds": time.perf_counter() - start}
        yield seconds | {"digest": _digest(table)}


def serve(answers: Iterator[Report]) -> None:
    """Say that it is ready, then an answer for each line that comes."""
    print(json.dumps(next(answers)), flush=True)
    for _ in sys.stdin:
        print(json.dumps(next(answers)), flush=True)


TASKS: dict[str, Callable[..., Report]] = {f.__name__: f for f in (digest, size)}


# --- writing ----------------------------------------------------------------------------------------------------------


def write(report: Report, file: Path | None) -> None:
    """Write the report, by default among the results, and the page; cases of one of the same commits that were not run stay."""
    place = file or RESULTS / f"versus-{report['before']['commit']}-{measure.slug(report['machine'])}-{report['version']}.json"
    if place.is_file():
        earlier = json.loads(place.read_text())
        if all(earlier[key] == report[key] for key in (*SIDES, "machine")):
            report["cases"] = earlier["cases"] | report["cases"]
            report["commands"] = earlier["commands"] | report["commands"]
    place.write_text(json.dumps(report, indent=1) + "\n")
    if place.parent == RESULTS:
        readme.write(RESULTS, measure.HERE / "README.md")


if __name__ == "__main__":
    if sys.argv[1:2] == ["timed"]:
        serve(timed(**json.loads(sys.argv[2])))
    elif sys.argv[1:2] and sys.argv[1] in TASKS:
        print(json.dumps(TASKS[sys.argv[1]](**json.loads(sys.argv[2]))))
    else:
        sys.exit(main())
