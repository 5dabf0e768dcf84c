"""docs/reliability.md from docs/reliability.json, the counts of the last run of the fault tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"
COUNTS = DOCS / "reliability.json"
PAGE = DOCS / "reliability.md"

# fault or guarantee, what holds, its test, and the name of its counts ("": the test counts nothing)
FAULTS = [
    ("the process is killed (SIGKILL) at random moments and resumed until done", "the same digest, the same files to the "
     "byte", "faults/test_runs.py::test_killed_at_random_moments_and_resumed", "killed"),
    ("each open, write, fsync and rename of a run in turn fails (ENOSPC, EIO), is cut short, or is the process's last",
     "every file is the old one or the new one; an error names file, errno and free bytes; the run goes on to the same files",
     "faults/test_runs.py::test_every_call_to_the_system_fails_once", "calls"),
    ("the same of a run that adds paths to a finished one", "the same",
     "faults/test_runs.py::test_every_call_to_the_system_fails_once", "calls of extensions"),
    ("a full disk: a limit on file sizes", "exit 4; without the limit, `resume` gives the same digest",
     "faults/test_runs.py::test_a_full_disk", "full"),
    ("a chunk's file with a flipped bit, cut off, swapped, doubled or of another run", "found, and only its paths are run again",
     "faults/test_runs.py::test_damaged_chunks_are_run_again_and_no_others", "chunks"),
    ("a manifest with a flipped bit or cut off", "refused in a sentence",
     "faults/test_runs.py::test_damaged_manifests_are_refused", "manifests"),
    ("two resumes of a folder at once", "one goes on, the other exits 4", "faults/test_runs.py::test_two_resumes_at_once",
     "locks"),
    ("a lock that a killed process left", "does not matter; one of another machine is told",
     "faults/test_runs.py::test_stale_locks", "stale"),
    ("SIGTERM", "the run ends within 2 s with exit 5, tells the figures so far and how to go on",
     "faults/test_runs.py::test_a_signal_stops_a_run_that_goes_on_later", "signal SIGTERM"),
    ("Ctrl-C", "the same", "faults/test_runs.py::test_a_signal_stops_a_run_that_goes_on_later", "signal SIGINT"),
    ("odd locales, time zones, masks, homes, names, a working folder that has gone, a forked child",
     "the same digest, or a sentence", "faults/test_surroundings.py::test_a_child_forked_after_a_run", "surroundings"),
    ("a book's files cut off, with flipped bits, in other encodings, too deep or too long", "refused in sentences, within 2 s",
     "faults/test_inputs.py::test_damaged_tapes_are_refused_in_sentences", "damaged inputs"),
    ("little memory of the host, in steps",
     "the same digest, or exit 4 and a sentence; Arrow may abort where its tables find no room",
     "faults/test_surroundings.py::test_little_memory_of_the_host", "host memory"),
    ("the n-th allocation on a (fake) device fails", "smaller chunks and the same integers; where even the plan has no room, MiB "
     "needed and free", "faults/test_surroundings.py::test_an_allocation_on_the_device_fails", "device memory"),
    ("a Dask worker is killed every 1 to 3 s", "the same digest, no chunk counted twice",
     "faults/test_cluster.py::test_workers_killed_every_few_seconds", "worker killed"),
    ("a Dask worker hangs", "given up at the deadline; the same digest", "faults/test_cluster.py::test_workers_that_hang",
     "worker hangs"),
    ("the Dask scheduler is killed", "exit 4 within a minute; `resume` on another cluster gives the same digest",
     "faults/test_cluster.py::test_the_scheduler_is_killed", "scheduler killed"),
    ("the client of a cluster is killed", "`resume` gives the same digest",
     "faults/test_cluster.py::test_the_client_is_killed", "client killed"),
    ("a Dask worker with a flipped bit on the way or in its result, another version or another book",
     "refused or caught, and named", "faults/test_cluster.py::test_a_wrong_integer_stops_the_run_and_names_the_worker",
     "worker lies"),
    ("all Dask workers die again and again", "an error after five tries of a chunk, with the last words of each",
     "faults/test_cluster.py::test_all_workers_die_again_and_again", "all die"),
]  # fmt: skip
GUARANTEES = [
    ("the same integers on every engine, at any chunk size", "test_invariance.py"),
    ("the same integers and files wherever a first run changes over from numpy to numba",
     "test_first_run.py::test_a_run_that_switches_has_the_integers_of_one_that_does_not"),
    ("a compiler that is killed ends the run with exit 4", "test_first_run.py::test_a_child_that_is_killed_is_seen"),
    ("a compiler ends with a run that is stopped, fails or is killed",
     "test_first_run.py::test_a_child_ends_with_its_parent_and_leaves_nothing"),
    ("a stopped run goes on to the same files", "test_ledger.py::test_a_stopped_run_goes_on_to_the_same_files"),
    ("paths are added exactly: the files of a fresh run", "test_ledger.py::test_paths_are_added_exactly"),
    ("a run goes on only with its own book, seed, random numbers and version",
     "test_ledger.py::test_a_changed_book_seed_or_version_is_refused"),
    ("space is looked at before the start", "test_ledger.py::test_a_disk_too_small_is_told_before_the_start"),
    ("`verify` finds a path that another machine computed otherwise",
     "test_ledger.py::test_verify_names_the_path_that_is_another"),
    ("a finished run whose files were changed is refused", "test_saved_run.py::test_a_changed_file_is_named"),
]  # fmt: skip

_HEAD = """# What a run survives

Written from `tests/faults/page.py` and `docs/reliability.json`, the counts of the last `pytest -m faults --record-faults`.

A run with `--out DIR` works through its paths in chunks. The chunks of about a second, in long runs of 2 % of the time so far
(at most a minute), share a file. It is written under another name, brought to the disk, moved into place, and the folder is
brought to the disk; then it counts. A killed run loses what was not in a file yet. `gpuloan-mc resume DIR` reads what is
there, each file against its SHA-256, runs what is missing, and writes the files that the undisturbed run would have written.

`run` and `resume` with `--progress json` tell their events to machines, a JSON object a line on stderr, each with `event` and
`seconds` since the start: `paths` (`paths` done, `of` all) after each chunk, `note` (`text`: a file of finished paths that is
damaged, a worker that is refused or given up), then `done`, or `stopped` (`text`, `exit_code`). Where the engine numba is
compiled for the run: `compiling` (`text`, `engine`, `meanwhile`: the engine that runs paths until then, null where the run waits)
and `compiled` (`text`, `engine`, `after`: seconds that it took, `meanwhile_paths`: paths that were done by then).

"""


def counts() -> dict[str, dict[str, Any]]:
    """The counts by name."""
    found: dict[str, dict[str, Any]] = json.loads(COUNTS.read_text()) if COUNTS.exists() else {}
    return found


def keep(name: str, found: dict[str, Any]) -> None:
    """Put a test's counts into the file and write the page."""
    COUNTS.write_text(json.dumps(counts() | {name: found}, indent=2, sort_keys=True) + "\n")
    PAGE.write_text(page())


def page() -> str:
    """docs/reliability.md."""
    known = counts()
    lines = ["| fault | what holds | counts | test |", "|---|---|---|---|"]
    for fault, holds, test, name in FAULTS:
        told = ", ".join(f"{value:,} {key}" for key, value in known.get(name, {}).items())
        lines.append(f"| {fault} | {holds} | {told} | `tests/{test}` |")
    lines += ["", "| guarantee | test |", "|---|---|"]
    lines += [f"| {what} | `tests/{test}` |" for what, test in GUARANTEES]
    return _HEAD + "\n".join(lines) + "\n"
