"""Runs in folders under faults: killed, cut off, damaged, run twice at once, on a full disk. Each loses time, never a cent."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest

from gpuloan_mc.errors import EnvironmentProblem, GpuLoanError, Interrupted
from gpuloan_mc.lock import LOCK, FolderLock
from gpuloan_mc.simulation import resume

from .damage import ENVIRONMENT, damaged_chunks, damaged_manifests, forks, killed

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("a_file_a_chunk", "machine_code")]
COMMAND = [sys.executable, "-P", "-W", "error", "-m", "gpuloan_mc.cli"]


def test_killed_at_random_moments_and_resumed(tmp_path, record):
    record("killed", **killed(tmp_path, n_runs=20, seed=1))


@pytest.mark.parametrize("kind", ["faults", "extensions"])
def test_every_call_to_the_system_fails_once(tmp_path, record, kind):
    """Of a run over an earlier one, and of one that adds paths to a finished one."""
    found = forks(kind, tmp_path)
    for line in found:
        assert line["strange"] == [], line
        assert line["same"], line
        assert line["state"] in ("old", "unfinished", "new"), line
        if line["how"] in ("ENOSPC", "EIO"):
            assert line["code"] == 10, line
            assert f"({line['how']})" in line["message"], line
            assert "can't be written: " in line["message"], line
            assert "bytes are free there" in line["message"], line
        else:
            assert line["code"] == {"exit": 42, "short": 0}[line["how"]], line
    calls = {line["k"] for line in found}
    assert calls == set(range(len(calls)))
    assert {line["call"] for line in found} == {"open", "write", "fsync", "replace"}
    assert {line["state"] for line in found} == {"old", "unfinished", "new"}
    record({"faults": "calls", "extensions": "calls of extensions"}[kind], calls=len(calls), faults=len(found))


def test_damaged_chunks_are_run_again_and_no_others(tmp_path, unfinished, record):
    record("chunks", damaged=damaged_chunks(tmp_path, unfinished, n=200, seed=2))


def test_damaged_manifests_are_refused(tmp_path, unfinished, record):
    record("manifests", damaged=damaged_manifests(tmp_path, unfinished, n=160, seed=3))


def test_two_resumes_at_once(tmp_path, unfinished, record):
    for i in range(5):
        copy = tmp_path / str(i)
        shutil.copytree(unfinished[0], copy)
        refused = []

        def meanwhile(done, _):
            second = subprocess.run([*COMMAND, "resume", copy], capture_output=True, text=True, env=ENVIRONMENT)  # noqa: B023
            refused.append((second.returncode, second.stderr))  # noqa: B023
            raise KeyboardInterrupt

        with pytest.raises(Interrupted):
            resume(copy, progress=meanwhile)
        code, text = refused[0]
        assert code == 4
        assert f"is being written by process {os.getpid()} on " in text
        assert resume(copy).digest == unfinished[2]
    record("locks", pairs=5)


def test_stale_locks(tmp_path, unfinished, record):
    stale = [b"", b"{", json.dumps({"pid": os.getpid(), "host": os.uname().nodename, "boot": "another"}).encode()]
    for i, data in enumerate([*stale, b"[1]", json.dumps({"pid": 1, "host": os.uname().nodename}).encode()]):
        copy = tmp_path / str(i)
        shutil.copytree(unfinished[0], copy)
        (copy / LOCK).write_bytes(data)
        assert resume(copy).digest == unfinished[2]
        assert not (copy / LOCK).exists()
    (copy / LOCK).write_text(json.dumps({"pid": 1, "host": "elsewhere"}))
    with pytest.raises(EnvironmentProblem, match="process 1 on elsewhere; if that has ended, delete"):
        resume(copy)
    record("stale", locks=5)


def test_a_lock_is_one_processs(tmp_path):
    with FolderLock(tmp_path):
        with (
            pytest.raises(EnvironmentProblem, match=f"is being written by process {os.getpid()}"),
            FolderLock(tmp_path),
        ):
            pass
        assert (tmp_path / LOCK).exists()
    with FolderLock(tmp_path):
        pass
    assert not (tmp_path / LOCK).exists()


def test_a_full_disk(tmp_path, record):
    whole = gpuloan_mc("run", "vasicek-100", "--paths", 20_000, "--engine", "numpy", "--json")
    digest = json.loads(whole.stdout)["digest"]
    limits, resumed = (1_000, 10_000, 60_000, 100_000, 120_000, 300_000), 0
    for i, limit in enumerate(limits):
        out = tmp_path / f"out {i}"
        done = gpuloan_mc(
            "run", "vasicek-100", "--paths", 20_000, "--engine", "numpy", "--out", out, code=4, limit=limit
        )
        assert "(EFBIG); " in done.stderr
        assert "bytes are free there. Free some space" in done.stderr
        try:
            found = resume(out)
        except GpuLoanError as error:
            assert "before its first path" in str(error) or "no readable manifest" in str(error)
            continue
        assert found.digest == digest
        resumed += 1
    assert resumed >= 3
    record("full", disks=len(limits), resumed=resumed)


def gpuloan_mc(*arguments, code=0, limit=None):
    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=300, env=ENVIRONMENT,
        preexec_fn=None if limit is None else small_files,
    )  # fmt: skip
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_a_run_that_goes_on_later(tmp_path, number, record):
    out = tmp_path / "out"
    options = ["vasicek-100", "--engine", "numpy", "--paths", "60000", "--chunk", "500"]
    process = subprocess.Popen(
        [*COMMAND, "run", *options, "--out", out, "--progress", "json", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
    )  # fmt: skip
    lines = [json.loads(process.stderr.readline()) for _ in range(4)]
    assert [line["paths"] for line in lines] == [0, 500, 1000, 1500]
    assert all(set(line) == {"event", "paths", "of", "seconds"} and line["of"] == 60_000 for line in lines)
    start = time.perf_counter()
    process.send_signal(number)
    shown, told = process.communicate(timeout=60)
    seconds = time.perf_counter() - start
    assert process.returncode == 5
    assert shown == ""
    events = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
    assert (events[-1]["event"], events[-1]["exit_code"]) == ("stopped", 5)
    assert "of 60,000 paths: expected loss" in events[-1]["text"]
    assert "of 60,000 paths: expected loss" in next(line for line in told.splitlines() if not line.startswith("{"))
    assert told.rstrip().endswith(f"go on with: gpuloan-mc resume {out}")
    assert seconds < 2
    found = json.loads(gpuloan_mc("resume", out, "--json").stdout)
    whole = json.loads(gpuloan_mc("run", *options, "--json").stdout)
    assert found["digest"] == whole["digest"]
    record(f"signal {number.name}", seconds=round(seconds, 1))
