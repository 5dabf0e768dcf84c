"""The part of README.md that compares two commits, and the figures of the whole program that run.py measures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from page_parts import load_lines, table

Report = dict[str, Any]
# The books that are small, then the others; whatever else was measured follows.
SMALL = ("small", "small-10", "small-100", "plain-100")
FIGURES = {
    "first_paths_seconds": "first run: seconds to the first paths",
    "paths_seconds": "first run: seconds to all {paths:,} paths",
    "compile_cpu_seconds": "first run: CPU seconds of compiling",
    "outside_seconds": "whole command of {paths:,} paths: CPU seconds outside the engine",
    "engine_seconds": "whole command of {paths:,} paths: CPU seconds of the engine",
}


def summary(found: Report) -> str:
    """One line of what a comparison found."""
    parts = (f"{name} {f['median']:.2f} × ({f['low']:.2f} to {f['high']:.2f})" for name, f in found["figures"].items())
    return f"{len(found['pairs'])} pairs: " + ", ".join(parts)


def versus_tables(report: Report) -> list[str]:
    """Books small and others, the first run and the whole command, of a report of versus.py."""
    names = [*(n for n in SMALL if n in report["cases"]), *(n for n in report["cases"] if n not in SMALL)]
    lines = [f"{_commit(report['after'])} against {_commit(report['before'])}, engine numba.", *load_lines(report)]
    lines += [f"{name} failed: {why}.\n" for name, why in _failures(report)]
    small = [n for n in names if n in SMALL]
    others = [n for n in names if n not in SMALL]
    for title, some in (("Small books", small), ("Other books", others)):
        rows = [_case(name, report["cases"][name]) for name in some if "figures" in report["cases"][name]]
        if rows:
            head = "case | book | ns/loan-step before | after | CPU time, before / after | range | wall, before / after | pairs"
            lines += [f"### {title}: one thread\n", *table(head, rows)]
    if any("figures" in c for c in report["cases"].values()):
        lines += [
            "A pair is a process of each, which run the same paths in turn; of each the least of its runs counts. Ratios are",
            "medians of the pairs.",
            f"Before a book was timed, {_columns(report)} of its paths were equal.\n",
        ]
    rows = list(_commands(report))
    if rows:
        lines += ["### First run and whole command\n", *table("what | before | after | before / after | range | pairs", rows)]
        lines += [*_method(report), ""]
    return lines


def command_tables(found: dict[str, Report]) -> list[str]:
    """The first run and the whole command of a report of run.py: medians."""
    rows = [[label, f"{middle:.2f}"] for label, middle in _medians(found)]
    lost = [f"{name} failed: {entry['failed']}.\n" for name, entry in found.items() if "failed" in entry]
    return ["### First run and whole command\n", *lost, *(table("what | median", rows) if rows else []), *_texts(found), ""]


def _medians(found: dict[str, Report]) -> Iterator[tuple[str, float]]:
    for entry in found.values():
        for figure, middle in entry.get("medians", {}).items():
            yield FIGURES[figure].format(paths=entry["paths"]), middle


def _commit(about: Report) -> str:
    return f"`{about['commit']}`" + (" with changes" if about["dirty"] else "")


def _failures(report: Report) -> Iterator[tuple[str, str]]:
    for kind in ("cases", "commands"):
        yield from ((name, entry["failed"]) for name, entry in report[kind].items() if "failed" in entry)


def _columns(report: Report) -> str:
    names = next(c["columns"] for c in report["cases"].values() if "columns" in c)
    return "the digests of " + ", ".join(f"`{name}`" for name in names)


def _case(name: str, case: Report) -> list[str]:
    cpu, wall = case["figures"]["cpu_seconds"], case["figures"]["wall_seconds"]
    steps = case["paths"] * case["loans"] * case["months"]
    costs = [f"{cpu[side] / steps * 1e9:.3g}" for side in ("before", "after")]
    return [
        name, case["what"], *costs, f"{cpu['median']:.2f} ×", f"{cpu['low']:.2f} to {cpu['high']:.2f}",
        f"{wall['median']:.2f} ×", str(len(case["pairs"])),
    ]  # fmt: skip


def _commands(report: Report) -> Iterator[list[str]]:
    for entry in report["commands"].values():
        for figure, f in entry.get("figures", {}).items():
            label = FIGURES[figure].format(paths=entry["pairs"][0]["after"]["paths"])
            yield [
                label, f"{f['before']:.2f}", f"{f['after']:.2f}", f"{f['median']:.2f} ×", f"{f['low']:.2f} to {f['high']:.2f}",
                str(len(entry["pairs"])),
            ]  # fmt: skip


def _method(report: Report) -> list[str]:
    return _texts(report["commands"])


def _texts(found: dict[str, Report]) -> list[str]:
    """How the measurements that were made are made."""
    lines = []
    if "cold-start" in found:
        lines += [
            "First run: `gpuloan-mc run neocloud-2024`, engine auto, from a folder without machine code; wall time from the",
            "start of the command. Compiling: CPU of getting the engine ready there, less that of getting it ready again.",
        ]
    if "whole-command" in found:
        lines += [
            "Whole command: `gpuloan-mc run neocloud-2024 --out R` with machine code; CPU of the process, less that while the",
            "engine runs paths.",
        ]
    return lines
