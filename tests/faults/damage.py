"""Faults that are injected so many times: runs killed, and files damaged. Each function checks what holds, and counts."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpuloan_mc import run_folder
from gpuloan_mc.errors import InputRejected, Interrupted, UsageError
from gpuloan_mc.manifest import MANIFEST
from gpuloan_mc.portfolio import Portfolio
from gpuloan_mc.simulation import resume, simulate

FORKS = Path(__file__).parent / "forks.py"
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(run_folder.__file__).parents[1]), "OPENBLAS_NUM_THREADS": "1"}
N, CHUNK, DONE = 240, 40, 120
SECONDS = 2.0


def forks(*arguments):
    done = subprocess.run(
        [sys.executable, FORKS, *map(str, arguments)], capture_output=True, text=True, env=ENVIRONMENT
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def killed(root, n_runs, seed):
    """Runs killed at random moments and resumed until they are done."""
    found = forks("kills", root, n_runs, seed)
    assert len(found) == n_runs
    assert all(line["same"] and line["code"] == 0 for line in found), found
    kills = sum(line["kills"] for line in found)
    assert kills >= n_runs
    return {"runs": n_runs, "kills": kills}


def stop_after(folder, book, seed, paths):
    def stop(done, _):
        if done >= paths:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        simulate(book, book.market, n_paths=N, seed=seed, engine="numpy", chunk=CHUNK, out=folder, progress=stop)


def damaged(chance, how, path, folder, other):
    data = bytearray(path.read_bytes())
    if how == "flipped bit":
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
    elif how == "truncated":
        path.write_bytes(data[: chance.randrange(len(data))])
    elif how == "swapped":
        mate = chance.choice([p for p in (folder / "chunks").iterdir() if p != path])
        path.write_bytes(mate.read_bytes())
        mate.write_bytes(data)
        return {path, mate}
    elif how == "doubled":
        copy = path.with_name(f"{chance.randrange(10**12):013}-{chance.randrange(10**12):013}.chunk")
        copy.write_bytes(data)
        return {copy}
    else:
        shutil.copy(other / "chunks" / path.name, path)
    return {path}


def damaged_chunks(root, unfinished, n, seed):
    """A chunk's file damaged, n times: found, and only its paths are run again."""
    folder, other, digest = unfinished
    chance, kinds = random.Random(seed), ("flipped bit", "truncated", "swapped", "doubled", "of another run")
    for i in range(n):
        copy, kind = root / str(i), kinds[i % len(kinds)]
        shutil.copytree(folder, copy)
        bad = damaged(chance, kind, chance.choice(sorted((copy / "chunks").iterdir())), copy, other)
        gone, ran = [] if kind == "doubled" else bad, []
        found = resume(copy, chunk=CHUNK, progress=lambda done, _: ran.append(done))  # noqa: B023
        assert found.digest == digest, (i, kind)
        assert ran[0] == DONE - CHUNK * len(gone), (i, kind)
        shutil.rmtree(copy)
    return n


def damaged_manifests(root, unfinished, n, seed):
    """A manifest damaged, n times: refused."""
    folder, other, digest = unfinished
    chance, whole = random.Random(seed), (folder / MANIFEST).read_bytes()
    content = whole.rstrip()
    copy = root / "copy"
    shutil.copytree(folder, copy)
    for i in range(n):
        data = bytearray(content)
        if i % 2:
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        else:
            data = data[: chance.randrange(len(data))]
        (copy / MANIFEST).write_bytes(data)
        try:
            same = json.loads(data) == json.loads(whole)  # a blank that became another one
        except ValueError:
            same = False
        if not same:
            with pytest.raises(UsageError):
                resume(copy)
    (copy / MANIFEST).write_bytes((other / MANIFEST).read_bytes())
    assert resume(copy).digest != digest  # the other run's seed, and none of this one's chunks
    return n


def refused(book, file, data):
    """Whether the book with the file's bytes replaced is refused; it must be within the time, and in sentences."""
    before = file.read_bytes()
    file.write_bytes(data)
    start = time.process_time()
    try:
        Portfolio.read(book)
        return False  # a number that is another, perhaps: nothing is wrong with the file
    except InputRejected as problem:
        # another tape is named where the damaged one lacks what it refers to
        assert re.search(r"\w+\.(parquet|csv|toml)", str(problem)), str(problem)
        return True
    finally:
        assert time.process_time() - start < SECONDS
        file.write_bytes(before)


def damaged_tapes(books, truncated, flipped, of_csv, seed):
    """Tapes damaged so many times: refused in sentences, soon. How many were, by kind."""
    csv, parquet = books
    chance = random.Random(seed)
    tapes = sorted(parquet.glob("*.parquet"))
    found = {"truncated": 0, "flipped": 0, "csv": 0}
    for i in range(truncated):
        tape = tapes[i % len(tapes)]
        data = tape.read_bytes()
        found["truncated"] += refused(parquet, tape, data[: len(data) * i // truncated])
    for i in range(flipped):
        tape = tapes[i % len(tapes)]
        data = bytearray(tape.read_bytes())
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        found["flipped"] += refused(parquet, tape, data)
    tapes = sorted(csv.glob("*.csv"))
    for i in range(of_csv):
        tape = tapes[i % len(tapes)]
        data = tape.read_bytes()
        text = data.decode()
        damaged = (
            data[: data.rfind(b",", 0, len(data) * (i + 1) // (of_csv + 1))],  # cut in the middle of a line
            text.replace(",", "," + "x" * 10**6, 1).encode(),
            text.encode("utf-16"),
            text.encode("utf-32"),
            b"\xff\xfe\xfd" + data,
            text.replace(",", ",\x00", 1).encode(),
        )[i % 6]
        found["csv"] += refused(csv, tape, damaged)
    assert found["truncated"] == truncated
    assert found["csv"] == of_csv
    # the others are well-formed files with another number in them, or the bit lies in nothing that is read
    assert found["flipped"] > flipped // 4
    return found
