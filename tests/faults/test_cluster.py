"""Dask workers that die, hang or lie, a scheduler and a client that die: the same digest, or a sentence in time."""

import json
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import cloudpickle
import distributed
import pytest

from gpuloan_mc import cluster, cluster_worker, crew, run_folder
from gpuloan_mc.errors import EnvironmentProblem
from gpuloan_mc.simulation import resume, simulate

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]
cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import tests
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(run_folder.__file__).parents[1])}
COMMAND = [sys.executable, "-P", "-m", "gpuloan_mc.cli"]
N, CHUNK = 240_000, 2_000


@pytest.fixture(autouse=True)
def all_are_heard(monkeypatch):
    """A busy machine must not let a run begin before every worker has said what it is."""
    monkeypatch.setattr(crew, "_WAIT_FOR_OTHERS", 100.0)


@contextmanager
def workers(n=2):
    """A cluster of processes that come back when they die."""
    options = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "silence_logs": logging.CRITICAL}
    with (
        distributed.LocalCluster(n_workers=n, threads_per_worker=1, scheduler_kwargs={"dashboard": False}, **options) as found,
        distributed.Client(found) as client,
    ):
        yield found, client


def run(book, client=None, n_paths=N, **options):
    return simulate(book, book.market, n_paths=n_paths, seed=5, engine="numba", chunk=CHUNK, cluster=client, **options)


@pytest.fixture(scope="module")
def digest(small_book):
    """Of an undisturbed run."""
    return run(small_book).digest


class Counted:
    """Progress of a run: how often each path was counted can't exceed once."""

    def __init__(self):
        self.done, self.has_begun = [], threading.Event()

    def __call__(self, done, of):
        assert done <= of
        self.done.append(done)
        if done:
            self.has_begun.set()
        time.sleep(0.1)  # the run is to last while workers die


@contextmanager
def meanwhile(work):
    """`work(stop)` in a thread while the block runs; `stop` is set at its end."""
    stop = threading.Event()
    thread = threading.Thread(target=work, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_workers_killed_every_few_seconds(small_book, digest, record):
    chance, kills = random.Random(4), []

    def kill(stop):
        while len(kills) < 10 and not stop.wait(chance.uniform(1, 3)):
            # one that has started: Dask's keeper gives up a worker that dies while it starts
            up = [n for n in found.workers.values() if n.worker_address in found.scheduler.workers and n.pid]
            if up:
                nanny = chance.choice(up)
                with suppress(ProcessLookupError):  # gone just now
                    os.kill(nanny.pid, signal.SIGKILL)
                    kills.append(nanny.pid)

    counted, runs = Counted(), 0
    while len(kills) < 10 or not runs:
        with workers() as (found, client), meanwhile(kill):
            try:
                while len(kills) < 10 or not runs:
                    assert run(small_book, client, progress=counted).digest == digest
                    runs += 1
            except EnvironmentProblem as problem:  # Dask's keepers may give up all workers: then a new cluster
                assert "worker" in str(problem)
    assert counted.done.count(N) == runs
    record("worker killed", kills=len(kills), runs=runs)


def test_workers_that_hang(small_book, digest, record):
    hung = []
    for _ in range(4):
        told = []
        with workers() as (found, client):
            pids = [nanny.pid for nanny in found.workers.values()]

            counted = Counted()

            def hang(stop, pids=pids, counted=counted):
                counted.has_begun.wait()
                os.kill(pids[0], signal.SIGSTOP)
                hung.append(pids[0])

            with meanwhile(hang):
                start = time.monotonic()
                assert run(small_book, client, deadline=6.0, tell=told.append, progress=counted).digest == digest
                assert time.monotonic() - start < 60
            os.kill(pids[0], signal.SIGKILL)
        assert any("no answer in 6 s" in line for line in told), told
    record("worker hangs", stopped=len(hung))


@contextmanager
def cluster_of_its_own(tmp_path, n=2):
    """A scheduler and workers as processes that nobody brings back: their address, and the scheduler's process."""
    file = tmp_path / f"scheduler-{time.monotonic_ns()}.json"
    options = ["--scheduler-file", str(file)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": ENVIRONMENT, "cwd": tmp_path}
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler", *options, "--port", "0", "--no-dashboard"]
    processes = [subprocess.Popen([*dask, "--host", "127.0.0.1"], **quiet)]
    try:
        while not file.exists():
            time.sleep(0.1)
        dask = [sys.executable, "-m", "distributed.cli.dask_worker", *options, "--no-dashboard"]
        worker = [*dask, "--nthreads", "1", "--no-nanny"]
        processes += [subprocess.Popen(worker, **quiet) for _ in range(n)]
        yield json.loads(file.read_text())["address"], processes[0]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def begin(book, address, out, paths, **options):
    """The command line, when it has some chunks on the disk."""
    command = ["run", str(book), "--paths", str(paths), "--seed", "5", "--engine", "numba", "--chunk", str(CHUNK)]
    command += ["--dask", address, "--out", str(out)]
    with open(f"{out}.stderr", "w") as errors:
        process = subprocess.Popen([*COMMAND, *command], stdout=subprocess.DEVNULL, stderr=errors, env=ENVIRONMENT, **options)
    while process.poll() is None and len(list((out / "chunks").glob("*.chunk"))) < 2:
        time.sleep(0.05)
    return process


LONG = 3_000_000


@pytest.fixture(scope="module")
def long_digest():
    from gpuloan_mc.portfolio import Portfolio

    book = Portfolio.read("vasicek-100")
    return simulate(book, book.market, n_paths=LONG, seed=5, engine="numba").digest


def test_the_scheduler_is_killed(tmp_path, long_digest, record):
    for k in range(2):
        out = tmp_path / str(k)
        with cluster_of_its_own(tmp_path) as (address, scheduler):
            process = begin("vasicek-100", address, out, LONG)
            scheduler.kill()
            start = time.monotonic()
            assert process.wait(60) == 4
            assert time.monotonic() - start < 60
        told = Path(f"{out}.stderr").read_text()
        assert "the Dask scheduler has gone" in told
        assert f"gpuloan-mc resume {out}" in told
        assert "Traceback" not in told
        with cluster_of_its_own(tmp_path) as (address, _), cluster.connected(address) as client:
            assert resume(out, engine="numba", cluster=client).digest == long_digest
    record("scheduler killed", times=2)


def test_the_client_is_killed(tmp_path, long_digest, record):
    with cluster_of_its_own(tmp_path) as (address, _):
        for k in range(2):
            out = tmp_path / str(k)
            process = begin("vasicek-100", address, out, LONG)
            process.kill()
            process.wait()
            with cluster.connected(address) as client:
                assert resume(out, engine="numba", cluster=client).digest == long_digest
    record("client killed", times=2)


def test_ctrl_c_stops_a_cluster_that_was_started_for_the_run(tmp_path, long_digest):
    """A terminal sends it to the workers too: they tell nothing."""
    out = tmp_path / "run"
    process = begin("vasicek-100", "local:2", out, LONG, start_new_session=True)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == 5
    first, last = Path(f"{out}.stderr").read_text().splitlines()
    assert first.startswith("stopped after ")
    assert last == f"go on with: gpuloan-mc resume {out}"
    assert resume(out, engine="numba").digest == long_digest


# --- workers that lie -------------------------------------------------------------------------------------------------


def flipped_on_the_way():
    from gpuloan_mc import cluster_worker

    true = cluster_worker.run_chunk

    def flipped(*arguments):
        answer = bytearray(true(*arguments))
        answer[len(answer) // 2] ^= 1
        return bytes(answer)

    cluster_worker.run_chunk = flipped


def flipped_before_the_digest():
    from gpuloan_mc import cluster_worker

    true = cluster_worker.chunk_parts

    def wrong(key, chunk):
        chunk.table.loss[0] ^= 1
        return true(key, chunk)

    cluster_worker.chunk_parts = wrong


def another_version():
    from gpuloan_mc import cluster_worker

    cluster_worker.__version__ = "0.0.1"


def another_version_later():
    from gpuloan_mc import cluster_worker

    true = cluster_worker.RunKey
    cluster_worker.RunKey = lambda version, *others: true("0.0.1", *others)


def another_book():
    from gpuloan_mc import cluster_worker

    cluster_worker.take_plan = lambda content, digest: f"the plan arrived with digest {'0' * 64}, not {digest}"


def another_book_later():
    from gpuloan_mc import cluster_worker

    true = cluster_worker.RunKey
    cluster_worker.RunKey = lambda version, scheme, digest, seed: true(version, scheme, "0" * 64, seed)


@pytest.mark.parametrize(
    "lie, why",
    [
        (flipped_on_the_way, "is given up: its answer is damaged"),
        (another_version, "is refused: its gpuloan_mc is 0.0.1"),
        (another_version_later, "is given up: its answer is of another run: its version is '0.0.1'"),
        (another_book, "is given up: the plan arrived with digest 0000"),
        (another_book_later, "is given up: its answer is of another run: its plan_digest is '0000"),
    ],
)
def test_a_worker_that_lies_is_caught_by_name(small_book, digest, lie, why):
    told = []
    with workers() as (_, client):
        address = next(iter(client.scheduler_info(n_workers=-1)["workers"]))
        client.run(lie, workers=[address])
        assert run(small_book, client, tell=told.append).digest == digest
    assert [line for line in told if line.startswith(f"worker {address} {why}")], told


def test_a_wrong_integer_stops_the_run_and_names_the_worker(small_book, record):
    with workers() as (_, client):
        address = next(iter(client.scheduler_info(n_workers=-1)["workers"]))
        client.run(flipped_before_the_digest, workers=[address])
        with pytest.raises(EnvironmentProblem, match=f"worker {address} computes other integers than worker tcp://"):
            run(small_book, client)
    record("worker lies", cases=6)


def die(*_):
    os._exit(3)


die.__module__ = "__main__"  # so that its code travels: Dask sends the name of what it finds in a module


def test_all_workers_die_again_and_again(small_book, monkeypatch, record):
    monkeypatch.setattr(cluster_worker, "run_chunk", die)
    with workers() as (_, client):
        start = time.monotonic()
        with pytest.raises(EnvironmentProblem, match=r"paths 0 to \d+.* failed 5 times:\nworker tcp://.*: it has gone"):
            run(small_book, client, n_paths=CHUNK)
        assert time.monotonic() - start < 120
    record("all die", times=1)
