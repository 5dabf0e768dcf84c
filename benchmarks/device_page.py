"""The page of a GPU machine's report: what was equal, what failed, and the times beside what was asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from page_parts import share, table

Report = dict[str, Any]

# Targets on an H200: seconds to reach and to aim at for a case's paths.
TARGETS = {
    "plain-groups": (100_000, 0.006, 0.004),
    "plain-own": (100_000, 0.014, 0.006),
    "small": (1_000_000, 0.1, 0.045),
    "typical": (1_000_000, 0.6, 0.4),
    "typical-half": (1_000_000, 0.45, 0.3),
    "large": (1_000_000, 10.0, 7.0),
}
AGAINST_CUDA = {"numba-cuda": "within 2 (1.3)", "array program": "25 (40) or more"}
# instructions a loan-month of the loop over lanes, as sass.py counts them for sm_90 (docs/engines.md)
COUNTED = {"typical": 76, "typical-half": 76}
PARTS = ("tests", "equality", "memory", "sanitizer", "start", "cases")


def gpu_name(report: Report) -> str:
    """The card, or that there is none."""
    return str(report["device"].get("name", "no GPU"))


def device_tables(report: Report) -> list[str]:
    """The page: one table a part."""
    return [
        *_about(report),
        "### Parts\n",
        *table("part | outcome | seconds", [_part(report, p) for p in PARTS if p in report]),
        *(f"- {line}" for line in failures(report)),
        "",
        *_equality(report.get("equality", {})),
        *_start(report.get("start", {})),
        *_cases(report.get("cases", {})),
    ]


def _about(report: Report) -> list[str]:
    device, machine = report["device"], report["machine"]
    lines = []
    if "name" in device:
        lines.append(
            f"{device['gpus']} × {device['name']}, {device['memory.total']} MiB ({device['memory.used']} in use), driver "
            f"{device['driver_version']}, SM clock {device['clocks.sm']} of at most {device['clocks.max.sm']} MHz, power limit "
            f"{device['power.limit']} W, {device['temperature.gpu']} °C, compute mode {device['compute_mode']}."
        )
    else:
        lines.append(f"The card is unknown: {device['failed']}.")
    packages = ", ".join(f"{k} {v}" for k, v in report["packages"].items())
    lines.append(f"{machine['cpu']}, {machine['cores']} cores; Python {machine['python']}, {packages}.")
    return [*lines, *([report["note"]] if report["note"] else []), ""]


def outcome(part: Report) -> str:
    """A part in a few words."""
    if "failed" in part:
        return f"failed: {part['failed']}"
    if "outcome" in part:
        return str(part["outcome"])
    entries = {k: v for group in ("books", "cases") for k, v in part.get(group, {}).items()}
    bad = list(_bad(part))
    return "; ".join(bad) if bad else f"{len(entries)} done" if entries else "done"


def failures(report: Report) -> Iterator[str]:
    """What must not be passed over in silence."""
    for name in PARTS:
        yield from (f"{name}: {text}" for text in _bad(report.get(name, {})))


def _bad(part: Report) -> Iterator[str]:
    if "failed" in part:
        yield str(part["failed"])
    if part.get("outcome") == "DIFFERS":
        yield "DIFFERS"
    for book, found in part.get("books", {}).items():
        if found.get("outcome") != "equal":
            yield f"{book}: {found.get('failed', found.get('outcome'))}"
    for case, entry in part.get("cases", {}).items():
        for engine, found in entry.items():
            if engine != "what" and found.get("equality") != "equal":
                yield f"{case}, {engine}: {found.get('failed', found.get('equality'))}"
    for stage in ("cold", "warm"):
        if "failed" in part.get(stage, {}):
            yield f"{stage}: {part[stage]['failed']}"


def _part(report: Report, name: str) -> list[str]:
    text = "failed" if any(_bad(report[name])) else outcome(report[name])
    return [name, text, f"{report.get(f'{name}_seconds', 0):.0f}"]


def _equality(part: Report) -> list[str]:
    if "books" not in part:
        return []
    rows = []
    for book, found in part["books"].items():
        digests = found.get("digests", {})
        one = next(iter(digests.values()), "")[:16]
        rows.append([book, str(found.get("loans", "")), ", ".join(digests), found.get("outcome", "failed"), one])
    head = f"### Digests of {part['paths']:,} paths, GPU engines {part['repeats']} times\n"
    return [head, *table("book | loans | engines | outcome | digest", rows)]


def _start(part: Report) -> list[str]:
    rows = [
        [stage, f"{s['paths']:,}", f"{s['compile']:.2f}", f"{s['seconds']:.3g}", f"{s['wall_seconds']:.2f}"]
        for stage in ("cold", "warm")
        if "wall_seconds" in (s := dict(part.get(stage, {})))
    ]
    head = "kernels | paths | compile or load s | paths s | wall s"
    return ["### The first run of a process\n", *table(head, rows)] if rows else []


def _cases(part: Report) -> list[str]:
    rows = [
        _case(name, entry, engine)
        for name, entry in part.get("cases", {}).items()
        for engine, found in entry.items()
        if engine != "what" and "median_seconds" in found
    ]
    if not rows:
        return []
    head = (
        "case | book | engine | live share | paths | first s | wall s | ± | kernels s | loan-steps/s | live loan-months/s "
        "| limit's slots a live loan-month | counted loop, of the limit | reach (aim) s"
    )
    clocks = part.get("clocks", {})
    seen = f"SM clock while the cases ran: {clocks['least']:.0f} to {clocks['most']:.0f} MHz.\n" if clocks else ""
    return ["### Times\n", *table(head, rows), seen]


def _case(name: str, entry: Report, engine: str) -> list[str]:
    what, found = entry["what"], entry[engine]
    paths, reach, aim = TARGETS.get(name, (0, 0.0, 0.0))
    target = f"{reach:g} ({aim:g})" if found["paths"] == paths and engine == "cuda" else ""
    each = entry.get("cuda", {}).get("paths_per_second")
    if engine in AGAINST_CUDA and each:
        target = f"{each / found['paths_per_second']:.1f} × cuda's time; {AGAINST_CUDA[engine]}"
    kernels, limit = found["kernel_seconds"], found["issue_limit_slots"]
    months = found["paths"] * found["loans"] * found["months"] * found["live_share"]
    slots = kernels * limit / months if kernels and limit else 0.0
    busy = share(COUNTED[name] / slots) if slots and name in COUNTED else ""
    return [
        name, what, engine, share(found["live_share"]), f"{found['paths']:,}", f"{found['first_seconds']:.3g}",
        f"{found['median_seconds']:.3g}", f"{50 * found['spread']:.0f} %", f"{kernels:.3g}" if kernels else "",
        f"{found['loan_steps_per_second']:.3g}", f"{found['live_loan_months_per_second']:.3g}",
        f"{slots:.0f}" if slots else "", busy, target,
    ]  # fmt: skip

