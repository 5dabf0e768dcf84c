"""Children that are killed, or whose k-th call to the system fails; run as a script, so that forking is safe.

python forks.py faults FOLDER          every call of a run fails once: a JSON object a fault on stdout
python forks.py kills FOLDER N SEED    N runs, killed at random moments and resumed until they are done
"""

from __future__ import annotations

import datetime
import errno
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from gpuloan_mc import SavedRun, files, run_folder
from gpuloan_mc.errors import GpuLoanError
from gpuloan_mc.market import Market
from gpuloan_mc.portfolio import Portfolio
from gpuloan_mc.simulation import resume, simulate

N_PATHS, CHUNK, SEED, OLD_SEED = 240, 60, 7, 6
CALLS = ("open", "write", "fsync", "replace")
REFUSED, CUT_OFF, BUG = 10, 42, 70
TIMINGS = ("manifest.json", "summary.json")


def small_book() -> Portfolio:
    """Six loans that default often."""
    market = Market.model_validate(
        {
            "start_date": datetime.date(2024, 11, 30),
            "horizon_months": 12,
            "hazard_classes": [{"name": "pool", "hazard": 0.3}],
        }
    )
    terms = {"balance_usd": 1e6, "rate": 0.05, "term_months": 12, "lgd": 0.45, "lgd_sd": 0.2}
    loans = [{"loan_id": f"L{i}", "borrower_id": f"B{i}"} | terms for i in range(6)]
    obligors = [{"obligor_id": f"B{i}", "hazard_class": "pool"} for i in range(6)]
    return Portfolio.from_frames(market=market, loans=pd.DataFrame(loans), obligors=pd.DataFrame(obligors))


def forked(work: Callable[[], Any], told: Path) -> int:
    """The id of a child, leader of a group, that does the work; what it returns or is refused with is written to `told`.

    Whatever may start threads is done in children: threads do not outlive a fork.
    """
    child = os.fork()
    if child == 0:
        code, answer = 0, None
        try:
            answer = work()
        except GpuLoanError as error:
            code, answer = REFUSED, str(error)
        except BaseException as error:
            code, answer = BUG, f"{type(error).__name__}: {error}"
        told.write_text(json.dumps(answer))
        os._exit(code)
    os.setpgid(child, child)
    return child


def status(child: int) -> int:
    """Its exit status; minus the signal where one ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def answer(told: Path) -> Any:
    """What a child has told."""
    return json.loads(told.read_text()) if told.exists() else ""


def in_child(root: Path, work: Callable[[], Any]) -> Any:
    """What a child returns that does the work undisturbed."""
    told = root / "told.json"
    code = status(forked(work, told))
    if code:
        raise RuntimeError(f"{code}: {answer(told)}")
    return answer(told)


class Faulty(files.System):
    """The system, whose k-th call fails in a way: an errno's name, short (half is written), or exit (right after the call)."""

    def __init__(self, k: int, how: str) -> None:
        self.k, self.how, self.calls = k, how, list[str]()

    def __getattribute__(self, name: str) -> Any:
        real = object.__getattribute__(self, name)
        return (lambda *arguments: self.call(name, real, arguments)) if name in CALLS else real

    def call(self, name: str, real: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """The call itself, or its failure."""
        self.calls.append(name)
        if len(self.calls) != self.k + 1:
            return real(*arguments)
        if self.how == "short" and name == "write":
            file, data = arguments
            return real(file, data[: max(1, len(data) // 2)])
        if self.how == "exit":
            real(*arguments)
            os._exit(CUT_OFF)
        number = getattr(errno, self.how)
        raise OSError(number, os.strerror(number))


def contents(folder: Path) -> dict[str, str]:
    """sha256 of each whole file but those with timings."""
    found = (p for p in folder.rglob("*") if p.is_file() and p.name not in TIMINGS)
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in found}


def run(book: Portfolio, folder: Path, seed: int, n_paths: int = N_PATHS) -> str:
    """Run the book into the folder; the digest."""
    return simulate(
        book, book.market, n_paths=n_paths, seed=seed, engine="numpy", chunk=CHUNK, out=folder, host=False
    ).digest


def go_on(book: Portfolio, folder: Path) -> str:
    """Bring the run to its end, whatever state its folder is in; its digest."""
    try:
        found = resume(folder)
    except GpuLoanError as error:
        if not any(
            text in str(error) for text in ("before its first path", "has no readable manifest", "is no folder")
        ):
            raise
        return run(book, folder, SEED)
    return found.digest


def faults(root: Path, extends: bool) -> Iterator[dict[str, Any]]:
    """A run over an earlier one, or one that adds paths to it, each of whose calls fails once."""
    book, old, new = small_book(), root / "old", root / "new"
    first = (N_PATHS // 3, SEED) if extends else (N_PATHS, OLD_SEED)
    digests = tuple(
        in_child(root, lambda: run(book, folder, seed, paths))  # noqa: B023
        for folder, paths, seed in ((old, *first), (new, N_PATHS, SEED))
    )
    states = contents(old), contents(new)

    def work(folder: Path) -> str:
        return resume(folder, extend_paths=N_PATHS, chunk=CHUNK).digest if extends else run(book, folder, SEED)

    for k, call in enumerate(in_child(root, lambda: counted(work, old, root / "counted"))):
        for how in ("exit", ("ENOSPC", "EIO")[k % 2], *(["short"] if call == "write" else [])):
            folder, told = root / f"{k}-{how}", root / f"{k}-{how}.json"
            shutil.copytree(old, folder)
            files.SYSTEM = Faulty(k, how)
            code = status(forked(lambda: work(folder), told))  # noqa: B023
            files.SYSTEM = files.System()
            left = in_child(root, lambda: judged(book, folder, states, digests))  # noqa: B023
            yield {"k": k, "call": call, "how": how, "code": code, "message": answer(told)} | left


def counted(work: Callable[[Path], str], old: Path, folder: Path) -> list[str]:
    """The calls of a run over an earlier one, in order."""
    shutil.copytree(old, folder)
    files.SYSTEM = found = Faulty(-1, "")
    work(folder)
    return found.calls


def judged(
    book: Portfolio, folder: Path, states: tuple[dict[str, str], ...], digests: tuple[str, ...]
) -> dict[str, Any]:
    """What a fault has left: files that are neither old nor new, and whether the run can be brought to its end."""
    found = {
        name: d for name, d in contents(folder).items() if not name.startswith("chunks/") and "/." not in f"/{name}"
    }
    strange = [name for name, digest in found.items() if digest not in {state.get(name) for state in states}]
    try:
        digest = SavedRun.read(folder).digest
        state = "old" if digest == digests[0] else "new"
    except GpuLoanError as error:
        state = "unfinished" if "not finished" in str(error) else str(error)
        digest = go_on(book, folder)
    same = digest == digests[state != "old"]
    return {
        "state": state,
        "strange": strange,
        "same": same and (state != "unfinished" or contents(folder) == states[1]),
    }


def kills(root: Path, n_runs: int, seed: int) -> Iterator[dict[str, Any]]:
    """Runs killed at random moments and resumed until they are done."""
    book, chance = small_book(), random.Random(seed)
    took = []
    for k in range(3):  # the shortest: a machine that was busy for a moment would kill too late
        start = time.perf_counter()
        digest = in_child(root, lambda: run(book, root / f"whole {k}", SEED))  # noqa: B023
        took.append(time.perf_counter() - start)
    seconds, new = min(took), contents(root / "whole 0")
    for i in range(n_runs):
        folder, told, n_kills, code = root / f"run {i}", root / f"{i}.json", 0, -signal.SIGKILL
        child = forked(lambda: run(book, folder, SEED), told)  # noqa: B023
        while code == -signal.SIGKILL:
            time.sleep(chance.uniform(0, 1.2 * seconds))
            os.killpg(child, signal.SIGKILL)
            code = status(child)
            if code == -signal.SIGKILL:
                n_kills += 1
                child = forked(lambda: go_on(book, folder), told)  # noqa: B023
        yield {"kills": n_kills, "code": code, "same": answer(told) == digest and contents(folder) == new}


def main() -> None:
    """The script."""
    run_folder._SECONDS = 0.0  # type: ignore[attr-defined]  # a file a chunk
    kind, root = sys.argv[1], Path(sys.argv[2])
    found = faults(root, kind == "extensions") if kind != "kills" else kills(root, int(sys.argv[3]), int(sys.argv[4]))
    for line in found:
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
