"""README.md of the benchmarks, made of the JSON files in results/ and of nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import device_page
import versus_page
from page_parts import load_lines, mib, share, table

Report = dict[str, Any]

HEAD = """# Benchmarks

```
python benchmarks/run.py --quick     # equality, then ratios, within five minutes on two cores; writes nothing
python benchmarks/run.py             # the same with enough repeats; writes results/<machine>-<version>.json and this page
python benchmarks/versus.py --before CHECKOUT    # this commit against an earlier one, in turn; writes results/versus-*.json
python benchmarks/loops.py           # what a call executes before each vector loop begins; writes results/loops-*.json
python benchmarks/peers.py           # other packages side by side, in an environment that the script makes
python benchmarks/device.py          # on a GPU machine: tests, digests, memory, sanitizer, times; within eight minutes
python benchmarks/sass.py            # what the kernels cost, counted in their machine code: needs no GPU, times nothing
python benchmarks/all_in.py          # the same of a loan-month, by phase, events and market with it
python benchmarks/run.py --readme    # this page again, from results/
```

An engine is timed only after the digest of its losses has equalled the reference engine's. The array program
(`arrays.py`) is the same model in NumPy, as a good quant would write it; its times are left out where its expected loss
or number of defaults differs from the engine's by more than four standard errors. Every measurement has a process of
its own. Times are medians of repeated runs of the engine itself, without reading the book and planning; `±` is half the
range over the median. A loan-step is a loan in a month of the horizon, dead or alive; a live loan-month one whose loan
still lives. Compile time is that of the first run in a process, from whatever cache there was.

This page is generated from the files in `results/`; every figure in it was measured by these scripts.
"""

# Targets of the engine numba on two cores: reach, aim.
TARGETS = {"typical": (2e8, 3.5e8), "plain-own": (2.5e8, 5e8), "plain": (7e8, 1e9)}
ARRAYS_TARGET, LARGE_TARGET, THREADS_TARGET, MEMORY_TARGET, PEER_TARGET = 15, 1.3, 0.9, 600e6, 20


BEGIN, END = "<!-- speeds: made by benchmarks/run.py --readme -->\n", "<!-- end of speeds -->\n"
HEADLINES = {"typical": "live_loan_months_per_second", "plain": "loan_draws_per_second"}


def write(results: Path, readme: Path) -> None:
    """Write the page, and the speeds in the project's README."""
    readme.write_text(render(results))
    front = readme.parent.parent / "README.md"
    front.write_text(with_speeds(front.read_text(), results))


def with_speeds(page: str, results: Path) -> str:
    """The project's README with the speeds of the results between its two marks."""
    before, rest = page.split(BEGIN)
    return before + BEGIN + "\n".join(["", *speeds(results), ""]) + END + rest.split(END)[1]


def speeds(results: Path) -> list[str]:
    """Each engine's two figures on each machine: GPU loans in the full model, plain loans in groups."""
    rows = []
    for report in _reports(results):
        if report["kind"] == "engines":
            rows += _headline_rows(report)
    head = "engine | machine | threads | GPU loans: live loan-months/s | plain loans: draws/s"
    return table(head, rows)[:-1] if rows else ["No speed has been measured yet."]


def _headline_rows(report: Report) -> Iterator[list[str]]:
    cases = [report["cases"].get(name, {}) for name in HEADLINES]
    engines = dict.fromkeys(e["engine"] for case in cases for e in case.get("engines", []) if "median_seconds" in e)
    for engine in engines:
        fastest = [best(case, (engine,)) if case else None for case in cases]
        figures = [f"{f[unit]:.2g}" if f else "" for f, unit in zip(fastest, HEADLINES.values(), strict=True)]
        threads = next(str(f["threads"] or 1) for f in fastest if f)
        yield [f"`{engine}`", f"{report['machine']['cpu']}, {report['machine']['cores']} cores", threads, *figures]


def _reports(results: Path) -> list[Report]:
    return [json.loads(f.read_text()) for f in sorted(results.glob("*.json"))]


def render(results: Path) -> str:
    """The page of a folder of results."""
    reports = _reports(results)
    lines = [HEAD]
    for report in reports:
        kinds = {
            "engines": engine_tables, "peers": peer_tables, "device": device_page.device_tables,
            "versus": versus_page.versus_tables, "loops": loop_tables,
        }  # fmt: skip
        title = {
            "engines": "Engines", "peers": "Peers", "device": "GPU", "versus": "Before and after", "loops": "Vector loops",
        }[report["kind"]]  # fmt: skip
        where = device_page.gpu_name(report) if report["kind"] == "device" else report["machine"]["cpu"]
        lines += [f"## {title}: {where}, version {report['version']}\n", *kinds[report["kind"]](report), ""]
    if not reports:
        lines.append("There are no results yet.\n")
    return "\n".join(lines).rstrip() + "\n"


# --- engines ----------------------------------------------------------------------------------------------------------


def engine_tables(report: Report) -> list[str]:
    """Equality, ratios, cases and speeds of a report of run.py."""
    cases = {name: case for name, case in report["cases"].items() if "failed" not in case}
    lost = [f"Case {n} failed: {c['failed']}.\n" for n, c in report["cases"].items() if "failed" in c]
    return [
        *load_lines(report),
        *lost,
        "### Equality\n",
        *table("case | engine | threads | paths | digest", list(_equality(cases))),
        "### Ratios\n",
        *(f"- {line}" for line in ratios(report)),
        "\n### Cases\n",
        *table(
            "case | book | loans | live share | live months with an event | obligor hits | contract ends | repayments "
            "| defaults | sales",
            [_rates(name, case) for name, case in cases.items()],
        ),
        "Events are per live loan-month, counted on the reference engine.\n",
        "### Speed\n",
        *table(
            "case | engine | threads | paths/s | loan-steps/s | live loan-months/s | ns/loan-step | ± | peak MiB "
            "| compile s",
            [row for name, case in cases.items() for row in _speeds(name, case)],
        ),
        *_fma(report),
        *_parts(cases),
        *(versus_page.command_tables(report["commands"]) if report.get("commands") else []),
    ]


def _equality(cases: dict[str, Report]) -> Iterator[list[str]]:
    for name, case in cases.items():
        for e in case["engines"]:
            yield [name, e["engine"], str(e["threads"] or 1), f"{case['check_paths']:,}", e["equality"]]
        for a in case.get("arrays", []):
            z = f" ({a['expected_loss_z']:+.1f}, {a['defaults_z']:+.1f} s.e.)" if "expected_loss_z" in a else ""
            paths = f"{a['paths']:,}" if "paths" in a else ""
            outcome = a.get("agreement") or f"failed: {a['failed']}"
            yield [name, f"arrays, {a['method']}", str(a["threads"]), paths, outcome + z]


def _rates(name: str, case: Report) -> list[str]:
    r = case["rates"]
    events = ("with_event", "obligor_hits", "contract_ends", "repayments", "defaults", "sales")
    return [name, case["what"], f"{case['loans']:,}", share(r["live_share"]), *(share(r[e]) for e in events)]


def timed(case: Report) -> Iterator[tuple[str, Report]]:
    """What was timed, engines and array programs, with a name."""
    for e in case["engines"]:
        if "median_seconds" in e:
            yield e["engine"], e
    for a in case.get("arrays", []):
        if "median_seconds" in a and a["agreement"] != "DISAGREES":
            yield f"arrays, {a['method']}", a


def _speeds(name: str, case: Report) -> Iterator[list[str]]:
    for who, e in timed(case):
        yield [
            name, who, str(e["threads"] or 1), f"{e['paths_per_second']:.3g}", f"{e['loan_steps_per_second']:.3g}",
            f"{e['live_loan_months_per_second']:.3g}", f"{e['ns_per_loan_step']:.3g}", f"{50 * e['spread']:.0f} %",
            mib(e["peak_memory"]), f"{e['compile_seconds']:.1f}" if "compile_seconds" in e else "",
        ]  # fmt: skip


def best(case: Report, names: tuple[str, ...], threads: int | None = None) -> Report | None:
    """The fastest of what was timed under names that start so, on a number of threads or any."""
    found = [
        e
        for who, e in timed(case)
        if who.startswith(names) and (threads is None or (e["threads"] or 1) == threads)
    ]
    return max(found, key=lambda e: e["paths_per_second"], default=None)


def ratios(report: Report) -> Iterator[str]:
    """What was reached, beside the targets."""
    cases, cores = report["cases"], report["machine"]["cores"]
    engines = dict.fromkeys(e["engine"] for c in cases.values() for e in c.get("engines", []) if "median_seconds" in e)
    for engine in engines:
        for name, case in cases.items():
            yield from _case_ratios(engine, name, case, report.get("fma", {}), cores)
        yield from _size_ratio(engine, cases)
        peak = report.get("memory", {}).get(engine, {}).get("peak_memory")
        if peak:
            yield f"{engine}: {peak / 1e6:.0f} MB at most at 10⁷ paths of the bundled book (below {MEMORY_TARGET / 1e6:.0f})"
    if not engines:
        yield "nothing was timed"


def _case_ratios(engine: str, name: str, case: Report, fma: Report, cores: int) -> Iterator[str]:
    ours = best(case, (engine,))
    if ours is None or engine == "numpy":
        return
    parts = []
    if name in TARGETS:
        unit, key = ("loan-draws", "loan_draws") if case["plain"] else ("live loan-months", "live_loan_months")
        reach, aim = TARGETS[name]
        parts.append(f"{ours[f'{key}_per_second']:.3g} {unit} a second (reach {reach:g}, aim {aim:g})")
    for other, target in (("arrays", f" (at least {ARRAYS_TARGET})" if name == "typical" else ""), ("numpy", "")):
        theirs = best(case, (other,))
        if theirs:
            ratio = ours["paths_per_second"] / theirs["paths_per_second"]
            who = "the array program" if other == "arrays" else "numpy"
            parts.append(f"{ratio:.3g} × {who}{target}")
    one, all_ = best(case, (engine,), 1), best(case, (engine,), cores)
    if one and all_ and cores > 1 and "gain" in fma:
        gain = all_["paths_per_second"] / one["paths_per_second"]
        parts.append(
            f"{cores} threads gain {gain:.2f} ×, {gain / fma['gain']:.2f} of a bare fma loop's {fma['gain']:.2f} × "
            f"(at least {THREADS_TARGET})"
        )
    yield f"{engine}, {name}: " + "; ".join(parts)


def _size_ratio(engine: str, cases: dict[str, Report]) -> Iterator[str]:
    pair = [best(cases[name], (engine,)) if name in cases else None for name in ("typical", "large")]
    if pair[0] and pair[1]:
        ratio = pair[0]["live_loan_months_per_second"] / pair[1]["live_loan_months_per_second"]
        yield f"{engine}: a live loan-month costs {ratio:.2f} × at 16,384 loans what it costs at 1,024 (at most {LARGE_TARGET})"


def _fma(report: Report) -> list[str]:
    fma = report.get("fma", {})
    if "gain" not in fma:
        return []
    speeds = ", ".join(f"{s:.3g} with {n}" for n, s in zip(fma["threads"], fma["fma_per_second"], strict=True))
    return [f"A bare float32 fma loop, multiply-adds a second by threads: {speeds}; gain {fma['gain']:.2f} ×.", ""]


def _parts(cases: dict[str, Report]) -> list[str]:
    """What bounds the engine numba: its events, taken away one after another."""
    found = {name: case["parts"] for name, case in cases.items() if "all" in case.get("parts", {})}
    if not found:
        return []
    rows = [
        [
            name, f"{p['all']:.2f}", f"{p['no_events']:.2f}", f"{p['no_defaults'] - p['no_events']:.2f}",
            f"{p['all'] - p['no_defaults']:.2f}",
        ]
        for name, p in found.items()
    ]  # fmt: skip
    loop = next(iter(found.values()))["loop"]
    return [
        "### What a loan-month is spent on: engine numba, one thread\n",
        *table("case | ns/loan-step | lane loops, market, draws | contract ends | defaults, hits, sales", rows),
        f"Differences of runs of the same book without defaults, and without contract ends as well. The waterfall's loop "
        f"takes {loop['instructions']} instructions for {loop['lanes']} lanes, {loop['packed']} of them packed.\n",
    ]


# --- loops ------------------------------------------------------------------------------------------------------------


def loop_tables(report: Report) -> list[str]:
    """What stands before the vector loop of each function of a report of loops.py."""
    return [
        "Instructions that a call of a loop over lanes executes before its vector loop begins, in the machine code of the loop",
        "compiled alone: all of them on the shortest way there, the conditional jumps among them, and those that set a byte by",
        "unsigned order (`seta`, `setb`, …), two for each pair of rows that may overlap. Lanes that fill no turn are scalar.\n",
        *table(
            "loop | instructions before | jumps | overlap tests | packed instructions | lanes a turn",
            [_loop(row) for row in report["loops"]],
        ),
    ]


def _loop(row: Report) -> list[str]:
    name, e = f"`{row['file']}.{row['name']}`", row["entrance"]
    if e is None:
        return [name, "no vector loop", "", "", "", ""]
    return [name, *(str(e[key]) for key in ("before", "tests", "overlaps", "packed")), str(e["lanes"] or "all")]


# --- peers ------------------------------------------------------------------------------------------------------------


def peer_tables(report: Report) -> list[str]:
    """Speed, memory and answers of a report of peers.py."""
    lines = load_lines(report)
    lines += [f"- {text}" for text in report["method"]] + [""]
    for copula, books in report["copulas"].items():
        for book in books:
            lines += [f"### {book['loans']:,} loans, {copula} copula\n"]
            rows = [_exact(book), *(_peer(p, book) for p in book["peers"])]
            lines += table("program | paths | seconds | loan-draws/s | peak MiB | EL % | VaR 99.9 % | ES 99.9 %", rows)
            lines += [f"- {line}" for line in _against_peers(book)] + [""]
    lines += ["### Packages\n", *(f"- {p['name']}: {p['what']}" for p in report["peers"]), ""]
    return lines


def _exact(book: Report) -> list[str]:
    e = book["exact"]
    if "failed" in e:
        return ["exact mixture", "", "", "", "", e["failed"], "", ""]
    return ["exact mixture", "", "", "", "", *(f"{100 * e[k]:.4f}" for k in ("el", "var", "es"))]


def _peer(p: Report, book: Report) -> list[str]:
    if "failed" in p:
        return [p["name"], "", p["failed"], "", mib(p["peak_memory"]) if "peak_memory" in p else "", "", "", ""]
    el = f"{100 * p['el']:.4f} ± {100 * p['el_se']:.4f}"
    return [
        p["name"], f"{p['paths']:,}", f"{p['median_seconds']:.3g}", f"{p['loan_draws_per_second']:.3g}",
        mib(p["peak_memory"]), el, f"{100 * p['var']:.4f}", f"{100 * p['es']:.4f}",
    ]  # fmt: skip


def _against_peers(book: Report) -> Iterator[str]:
    timed = [p for p in book["peers"] if "median_seconds" in p]
    ours = [p for p in timed if p["ours"] and "numpy" not in p["name"]]
    arrays = [p for p in timed if p["program"] == "numpy_arrays"]
    packages = [p for p in timed if not p["ours"] and p not in arrays]
    for what, theirs in (("peer", arrays + packages), ("package", packages)):
        if ours and theirs:
            fast, other = (max(x, key=lambda p: p["loan_draws_per_second"]) for x in (ours, theirs))
            ratio = fast["loan_draws_per_second"] / other["loan_draws_per_second"]
            yield f"{fast['name']} against the fastest {what}, {other['name']}: {ratio:.3g} × (at least {PEER_TARGET})"
