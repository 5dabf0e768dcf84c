"""Check, then time: every engine's losses must equal the reference's before it is timed.

    python benchmarks/run.py --quick              within five minutes on two cores; writes nothing
    python benchmarks/run.py                      writes benchmarks/results/<machine>-<version>.json and the README
    python benchmarks/run.py --case typical --engine numba
    python benchmarks/run.py --case cold-start --case whole-command --out commands.json
    python benchmarks/run.py --readme             the README again, from the committed results
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cases
import checkout
import commands
import measure
import readme

import gpuloan_mc

RESULTS = measure.HERE / "results"
REFERENCE = "numpy"
ENGINES = (REFERENCE, "numba")
MEMORY_CASE, MEMORY_PATHS = "small", 10_000_000
AGREE = 4.0  # standard errors
COMMAND_REPEATS = 3  # at most: a cold start compiles twice
ENOUGH_PATHS = 200  # below it a standard error says little

Report = dict[str, Any]


def threads_of(engine: str) -> list[int | None]:
    """Numbers of threads to time; None: the engine has no threads to choose."""
    return sorted({1, measure.cores()}) if engine == "numba" else [None]


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0, or 1 where a digest differs, a peer disagrees or a measurement failed."""
    options = _options(arguments)
    if options.readme:
        readme.write(RESULTS, measure.HERE / "README.md")
        return 0
    report = new_report(options)
    chosen = [cases.CASES[name] for name in options.case if name in cases.CASES]
    print(f"gpuloan-mc {gpuloan_mc.__version__} on {report['machine']['cpu']}, {report['machine']['cores']} cores\n")
    print("Equality: digests of the losses against the reference engine, path by path", flush=True)
    for case in chosen:
        report["cases"][case.name] = check(case, options)
    print("\nTimes", flush=True)
    for case in chosen:
        time_case(case, report["cases"][case.name], options)
    for name in options.case:
        if name in commands.MEASUREMENTS:
            report["commands"][name] = time_command(name, options)
    bare = {"threads": sorted({1, measure.cores()}), "seconds": options.seconds / 5, "repeats": options.repeats}
    report["fma"] = measure.child("fma", bare)
    if not options.quick and MEMORY_CASE in report["cases"]:
        report["memory"] = dict(memory(report["cases"][MEMORY_CASE], options))
    report["load_after"] = measure.load()
    print()
    print("\n".join(readme.engine_tables(report)))
    if options.out:
        write(report, options.out)
        if options.out.parent == RESULTS:
            readme.write(RESULTS, measure.HERE / "README.md")
    return 1 if any(failures(report)) else 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few paths and repeats; writes nothing without --out")
    parser.add_argument("--case", action="append", choices=[*cases.CASES, *commands.MEASUREMENTS],
                        help="default: all; quick: the books")
    parser.add_argument("--engine", action="append", help=f"default: {', '.join(ENGINES)}")
    parser.add_argument("--seconds", type=float, help="length of one timed run; default 5, quick 1")
    parser.add_argument("--repeats", type=int, help="timed runs; default 7, quick 3")
    parser.add_argument("--check-paths", type=int, help="paths of the digests; default: the case's own number")
    parser.add_argument("--note", default="", help="a sentence that goes with the figures, such as what else was running")
    parser.add_argument("--out", type=Path, help="JSON file to write, or whose cases are brought up to date")
    parser.add_argument("--readme", action="store_true", help="write README.md from the committed results, run nothing")
    options = parser.parse_args(arguments)
    options.seconds = options.seconds or (1 if options.quick else 5)
    options.repeats = options.repeats or (3 if options.quick else 7)
    options.engine = options.engine or list(ENGINES)
    options.case = options.case or [*cases.CASES, *([] if options.quick else commands.MEASUREMENTS)]
    if not options.quick and options.out is None:
        options.out = RESULTS / f"{measure.slug(measure.machine())}-{gpuloan_mc.__version__}.json"
    return options


def new_report(options: argparse.Namespace) -> Report:
    """A report without cases yet."""
    return {
        "kind": "engines",
        "version": gpuloan_mc.__version__,
        "quick": options.quick,
        "note": options.note,
        "machine": measure.machine(),
        "packages": measure.versions(),
        "load_before": measure.load(),
        "cases": {},
        "commands": {},
    }


# --- equality ---------------------------------------------------------------------------------------------------------


def check(case: cases.Case, options: argparse.Namespace) -> Report:
    """The case's facts, the reference's digest and whether each engine has the same."""
    paths = options.check_paths or (case.quick_check_paths if options.quick else case.check_paths)
    about = measure.child("facts", {"case": case.name, "n_paths": paths})
    reference = _digests(case, REFERENCE, paths)
    report = {"what": case.what, "plain": case.plain, **about, "check_paths": paths, "reference": reference, "engines": []}
    report["load"] = measure.load()
    _say(case.name, "reference", f"{paths} paths, {reference.get('failed') or reference['digests'][0][:16]}")
    for engine in options.engine:
        for threads, state in _compared(case, engine, paths, reference):
            report["engines"].append({"engine": engine, "threads": threads, **state})
            _say(case.name, _name(engine, threads), state["equality"])
    return report


def _digests(case: cases.Case, engine: str, paths: int) -> Report:
    return measure.child("check", {"case": case.name, "engine": engine, "threads": threads_of(engine), "paths": paths})


def _compared(case: cases.Case, engine: str, paths: int, reference: Report) -> Iterator[tuple[int | None, Report]]:
    threads = threads_of(engine)
    if not measure.is_there(engine):
        yield threads[-1], {"equality": "absent: not in this version"}
        return
    got = reference if engine == REFERENCE else _digests(case, engine, paths)
    for position, count in enumerate(threads):
        if "failed" in got or "failed" in reference:
            yield count, {"equality": f"not compared: {got.get('failed') or reference.get('failed')}"}
            continue
        same = got["digests"][position] == reference["digests"][0]
        yield count, {
            "equality": "equal" if same else "DIFFERS",
            "digest": got["digests"][position],
            "first_compile_seconds": got["compile_seconds"],
        }


# --- times ------------------------------------------------------------------------------------------------------------


def time_case(case: cases.Case, report: Report, options: argparse.Namespace) -> None:
    """Times of each engine that is equal, then of the array program if it agrees with the best of them."""
    if "failed" in report:
        return
    common = {"case": case.name, "seconds": options.seconds, "repeats": options.repeats}
    common["live_share"] = report["rates"]["live_share"]
    for entry in report["engines"]:
        if entry["equality"] == "equal":
            entry |= _timed(entry, report, common, options.quick)
            _say(case.name, _name(entry["engine"], entry["threads"]), _speed(entry))
    timed = [e for e in report["engines"] if "figures" in e]
    best = max((e["figures"] for e in [*timed, report["reference"]] if "figures" in e), key=lambda f: f["paths"], default=None)
    methods = ("normals", "uniforms") if case.name == "plain" else ("normals",)
    report["arrays"] = []
    for method in methods:
        for threads in sorted({1, measure.cores()}):
            entry = {"method": method, "threads": threads}
            entry |= measure.child("arrays", common | entry | {"start": 64})
            if "failed" not in entry:
                entry |= agreement(entry["figures"], best)
            report["arrays"].append(entry)
            _say(case.name, f"arrays {method} {threads}t", f"{_speed(entry)}  {entry.get('agreement', '')}")
    if not case.plain and any(e["engine"] == "numba" for e in timed):
        spend = {"case": case.name, "seconds": options.seconds / 2, "repeats": options.repeats}
        report["parts"] = measure.child("parts", spend)


def _timed(entry: Report, report: Report, common: Report, quick: bool) -> Report:
    """Times of an engine; in a quick run the reference's are those of its digest."""
    if entry["engine"] != REFERENCE:
        more = {"engine": entry["engine"], "threads": entry["threads"], "start": report["check_paths"]}
        return measure.child("engine", common | more)
    if not quick:
        return measure.child("engine", common | {"engine": REFERENCE, "threads": None, "start": 1})
    known = report["reference"]
    speeds = measure.timing(
        [known["seconds"]], report["check_paths"], report["loans"], report["months"], common["live_share"]
    )
    return {**speeds, "compile_seconds": 0.0, "peak_memory": known["peak_memory"], "figures": known["figures"]}


def agreement(theirs: Report, ours: Report | None) -> Report:
    """Whether expected loss and number of defaults are the same within errors; both are sample means."""
    if ours is None or min(theirs["paths"], ours["paths"]) < ENOUGH_PATHS:
        return {"agreement": "not checked: too few paths"}
    z = {}
    for name in ("expected_loss", "defaults"):
        error = (theirs[f"{name}_se"] ** 2 + ours[f"{name}_se"] ** 2) ** 0.5
        z[f"{name}_z"] = round((theirs[name] - ours[name]) / error, 2)
    agrees = max(map(abs, z.values())) < AGREE
    return {"agreement": "agrees" if agrees else "DISAGREES", **z, "compared_with_paths": ours["paths"]}


def memory(case: Report, options: argparse.Namespace) -> Iterator[tuple[str, Report]]:
    """Peak memory of MEMORY_PATHS paths of the bundled book, of each engine that is fast enough for it."""
    for entry in case["engines"]:
        if entry.get("paths_per_second", 0) * 600 > MEMORY_PATHS and entry["threads"] in (None, measure.cores()):
            arguments = {"case": MEMORY_CASE, "engine": entry["engine"], "threads": [entry["threads"]]}
            yield entry["engine"], measure.child("check", arguments | {"paths": MEMORY_PATHS})


def time_command(name: str, options: argparse.Namespace) -> Report:
    """A measurement of the whole program, a few times, and its medians."""
    measured, figures = commands.MEASUREMENTS[name]
    here = checkout.Checkout(checkout.here())
    here.child("warm_up", {}, commands.SCRIPT)
    runs = [measured(here) for _ in range(min(options.repeats, COMMAND_REPEATS))]
    lost = next((run for run in runs if "failed" in run), None)
    if lost:
        _say(name, "", f"failed: {lost['failed']}")
        return {"failed": lost["failed"]}
    medians = {figure: statistics.median(run[figure] for run in runs) for figure in figures}
    _say(name, "", ", ".join(f"{figure} {middle:.2f}" for figure, middle in medians.items()))
    return {"runs": runs, "medians": medians, "paths": runs[0]["paths"]}


# --- saying and writing -----------------------------------------------------------------------------------------------


def _name(engine: str, threads: int | None) -> str:
    return engine if threads is None else f"{engine} {threads}t"


def _say(case: str, who: str, what: str) -> None:
    print(f"  {case:13} {who:20} {what}", flush=True)


def _speed(entry: Report) -> str:
    if "failed" in entry:
        return f"failed: {entry['failed']}"
    return (
        f"{entry['live_loan_months_per_second']:.3g} live loan-months/s, {entry['ns_per_loan_step']:.3g} ns/loan-step, "
        f"{entry['paths']:,} paths in {entry['median_seconds']:.2f} s ± {entry['spread'] / 2:.0%}"
    )


def failures(report: Report) -> Iterator[str]:
    """What must not be passed over in silence."""
    yield from (f"{name}: {c['failed']}" for name, c in report.get("commands", {}).items() if "failed" in c)
    for name, case in report["cases"].items():
        parts = [case, case["reference"], *case["engines"], *case.get("arrays", []), case.get("parts", {})]
        yield from (f"{name}: {p['failed']}" for p in parts if "failed" in p)
        yield from (f"{name}: {e['engine']} differs" for e in case["engines"] if e["equality"] == "DIFFERS")
        yield from (f"{name}: {e['equality']}" for e in case["engines"] if e["equality"].startswith("not compared"))
        yield from (f"{name}: arrays" for a in case.get("arrays", []) if a.get("agreement") == "DISAGREES")


def write(report: Report, file: Path) -> None:
    """Write the report; cases of an earlier one of this version and machine that were not run again stay."""
    if file.is_file():
        earlier = json.loads(file.read_text())
        if (earlier["version"], earlier["machine"]) == (report["version"], report["machine"]):
            report["cases"] = earlier["cases"] | report["cases"]
            report["commands"] = earlier.get("commands", {}) | report["commands"]
            report.setdefault("memory", earlier.get("memory", {}))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
