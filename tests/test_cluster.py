"""Runs on Dask workers: the integers of one process, tasks of a few numbers, and workers that are refused by name."""

import importlib.util
import logging
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import cloudpickle
import distributed
import numpy as np
import pytest
from click.testing import CliRunner

from gpuloan_mc import cli, cluster, cluster_worker, crew
from gpuloan_mc.cluster import connected
from gpuloan_mc.crew import Crew
from gpuloan_mc.errors import EnvironmentProblem, UsageError
from gpuloan_mc.simulation import resume, simulate

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import tests


@pytest.fixture(autouse=True)
def all_are_heard(monkeypatch):
    """A busy machine must not let a run begin before every worker has said what it is."""
    monkeypatch.setattr(crew, "_WAIT_FOR_OTHERS", 300.0)


@pytest.fixture(scope="module")
def client():
    """Two workers of one thread."""
    options = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "silence_logs": logging.CRITICAL}
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, scheduler_kwargs={"dashboard": False}, **options) as workers,
        distributed.Client(workers) as found,
    ):
        yield found


@pytest.fixture
def book(busy_book):
    world, portfolio = busy_book()
    return portfolio, world


def run(book, n_paths=400, **options):
    return simulate(*book, n_paths=n_paths, seed=5, **({"engine": "numpy", "chunk": 40} | options))


@pytest.fixture
def patched(client):
    """A function that changes something on one worker until the test ends; its address."""
    changed = []

    def patch(change, which=0):
        address = sorted(client.scheduler_info(n_workers=-1)["workers"])[which]
        client.run(change, workers=[address])
        changed.append(address)
        return address

    yield patch
    if changed:
        client.run(_fresh, workers=changed)


def _fresh():
    import importlib

    from gpuloan_mc import cluster_worker

    importlib.reload(cluster_worker)


def test_the_integers_of_one_process(client, book, tmp_path):
    done = []
    found = run(book, cluster=client, out=tmp_path / "run", progress=lambda n, of: done.append((n, of)))
    alone = run(book)
    assert found.digest == alone.digest
    assert found.figures == alone.figures
    np.testing.assert_array_equal(found.prices, alone.prices)
    assert found.loans.equals(alone.loans)
    assert done[0] == (0, 400) and done[-1] == (400, 400)
    assert [n for n, _ in done] == sorted(n for n, _ in done)
    assert found.engine == "numpy"
    assert found.engine_reason == "asked for; on 2 Dask workers (numpy)"


def test_a_run_goes_on_and_is_extended_on_a_cluster(client, book, tmp_path):
    def stop(done, _):
        if done >= 120:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(book, out=tmp_path / "run", progress=stop)
    assert resume(tmp_path / "run", cluster=client, engine="numpy", chunk=50).digest == run(book).digest
    longer = resume(tmp_path / "run", extend_paths=600, cluster=client, engine="numpy")
    assert longer.digest == run(book, 600).digest


def test_tasks_are_small_and_the_plan_travels_once_to_a_worker(client, book, monkeypatch):
    sizes, plans = [], []
    submit = client.submit

    def seen(function, *arguments, workers, **options):
        if function is cluster_worker.take_plan:
            plans.append(workers)
        else:
            sizes.append(len(pickle.dumps((function, arguments))))
        return submit(function, *arguments, workers=workers, **options)

    monkeypatch.setattr(client, "submit", seen)
    run(book, cluster=client)
    assert len(sizes) > 10
    assert max(sizes) < 1024
    assert len(plans) == 2 and plans[0] != plans[1]


def test_some_chunks_are_run_twice(client, book, monkeypatch):
    asked = []
    submit = client.submit
    monkeypatch.setattr(client, "submit", lambda f, *a, **k: asked.append((f, a, k["workers"])) or submit(f, *a, **k))
    monkeypatch.setattr(crew, "_CHECK_EVERY", 5)
    found = run(book, cluster=client)
    where = {}
    for f, a, workers in asked:
        if f is cluster_worker.run_chunk:
            where.setdefault(a[2], []).append(workers[0])
    twice = {first for first, workers in where.items() if len(workers) == 2}
    assert twice >= {0, 40}
    assert len(twice) == 3  # the first two and every fifth of ten
    assert all(len(set(workers)) == len(workers) for workers in where.values())
    assert found.digest == run(book).digest


def test_one_worker_alone_checks_nothing_and_ends(client, book, monkeypatch):
    look = client.scheduler_info

    def one(**options):
        found = look(**options)
        return found | {"workers": dict(list(found["workers"].items())[:1])}

    monkeypatch.setattr(client, "scheduler_info", one)
    assert run(book, cluster=client).digest == run(book).digest


def test_a_client_that_was_closed_is_told(client, book, monkeypatch):
    def closed(*_, **__):
        raise RuntimeError("Client is closed")

    monkeypatch.setattr(client, "submit", closed)
    with pytest.raises(EnvironmentProblem, match=r"the Dask scheduler has gone \(Client is closed\)"):
        run(book, cluster=client)


def test_no_deadline_without_a_cluster(book):
    with pytest.raises(UsageError, match="a deadline is for the workers of a cluster"):
        run(book, deadline=3.0)


@pytest.mark.parametrize("options", [{"workers": 2, "engine": "numba"}, {"devices": [0], "engine": "auto"}])
def test_workers_have_their_own_threads_and_devices(client, book, options):
    with pytest.raises(UsageError, match="leave workers and devices away"):
        run(book, cluster=client, **options)


# --- workers that are refused -----------------------------------------------------------------------------------------


def other_version():
    from gpuloan_mc import cluster_worker

    cluster_worker.__version__ = "9.9.9"


def other_scheme():
    from gpuloan_mc import cluster_worker

    cluster_worker.RNG_SCHEME = "pcg64/1"


def wrong_self_test():
    from gpuloan_mc import cluster_worker

    cluster_worker.self_test = lambda engine: "0" * 64


def broken():
    from gpuloan_mc import cluster_worker
    from gpuloan_mc.errors import EnvironmentProblem

    def refuse(name):
        raise EnvironmentProblem("engine cuda: no CUDA driver was found.")

    cluster_worker.choose_engine = refuse


@pytest.mark.parametrize(
    "change, why",
    [
        (other_version, "its gpuloan_mc is 9.9.9, and here it is"),
        (other_scheme, "its rng_scheme is pcg64/1, and here it is philox"),
        (wrong_self_test, "its engine numpy computes other integers than this machine: digest 0000000000000000"),
        (broken, "engine cuda: no CUDA driver was found."),
    ],
)
def test_a_worker_that_does_not_fit_is_refused_by_name(client, book, patched, change, why):
    address, told = patched(change), []
    assert run(book, cluster=client, tell=told.append).digest == run(book).digest
    assert len(told) == 1
    assert told[0].startswith(f"worker {address} is refused: {why}")


def test_no_worker_that_fits_is_an_error(client, book, patched):
    for which in (0, 1):
        patched(other_version, which)
    with pytest.raises(EnvironmentProblem, match=r"no worker of the cluster can take part. tcp://.*9\.9\.9.*; tcp://"):
        run(book, cluster=client)


def test_two_workers_on_one_gpu_are_not_taken(client, book, patched):
    def on_a_gpu():
        from gpuloan_mc import cluster_worker

        cluster_worker._device = lambda engine: "GPU-1234"

    for which in (0, 1):
        patched(on_a_gpu, which)
    told = []
    run(book, cluster=client, tell=told.append)
    assert len(told) == 1
    assert "its GPU GPU-1234 is that of worker tcp://" in told[0]


def test_engines_may_differ_between_workers(client, book, patched):
    def on_numba():
        from gpuloan_mc import cluster_worker

        cluster_worker.choose_engine = lambda engine: ("numba", "asked for")

    patched(on_numba)
    found = run(book, cluster=client)
    assert "(numba, numpy)" in found.engine_reason
    assert found.digest == run(book).digest


# --- where a cluster is -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "where, why",
    [
        ("tcp://example.org:8786", "on a network and not encrypted"),
        ("example.org:8786", "must be local, local:N, tcp://HOST:PORT or tls://HOST:PORT"),
        ("tcp://:1", "must be local"),
        ("tcp://a:b", "must be local"),
        ("http://localhost:8786", "must be local"),
        ("local:0", "from 1 to 1024"),
        ("local:two", "from 1 to 1024"),
        ("local:9999", "from 1 to 1024"),
    ],
)
def test_addresses_are_checked_before_anything_is_reached(where, why):
    with pytest.raises(UsageError, match=why), connected(where):
        pass


def test_a_network_of_ones_own_may_be_allowed(monkeypatch):
    def refuse(*_, **__):
        raise OSError("no route")

    monkeypatch.setattr(distributed, "Client", refuse)
    with (
        pytest.raises(EnvironmentProblem, match=r"no Dask scheduler answers at tcp://10.0.0.1:8786: no route"),
        connected("tcp://10.0.0.1:8786", insecure_network=True),
    ):
        pass


def test_without_dask_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(EnvironmentProblem, match=r"pip install 'gpuloan-mc\[dask\]'"), connected("local"):
        pass


def test_the_command_line(client, tmp_path):
    where = client.scheduler.address
    options = ["--paths", "30000", "--engine", "numba", "--json"]
    found = CliRunner().invoke(cli.cli, ["run", "vasicek-100", *options, "--dask", where, "--out", str(tmp_path / "r")])
    assert found.exit_code == 0, found.output
    alone = CliRunner().invoke(cli.cli, ["run", "vasicek-100", *options])
    digest = next(line for line in alone.stdout.splitlines() if '"digest"' in line)
    assert digest in found.stdout
    longer = ["resume", str(tmp_path / "r"), "--extend-paths", "40000", "--dask", where, "--deadline", "120"]
    assert CliRunner().invoke(cli.cli, longer).exit_code == 0
    for option in ("--deadline=3", "--insecure-network"):
        refused = CliRunner().invoke(cli.cli, ["run", "vasicek-100", option])
        assert isinstance(refused.exception, UsageError)


def test_nothing_of_dask_is_imported_unasked():
    assert importlib.util.find_spec("distributed") is not None
    script = "import sys, gpuloan_mc.simulation, gpuloan_mc.cli; sys.exit('distributed' in sys.modules)"
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", script]) == 0


def test_a_crew_tells_why_a_chunk_fails(client, book, monkeypatch):
    """Five tries, then the worker's last lines."""

    def fails(*_):
        return "Traceback:\n  the bottom line"

    monkeypatch.setattr(cluster_worker, "run_chunk", fails)
    with pytest.raises(EnvironmentProblem) as told:
        run(book, n_paths=40, cluster=client)
    assert "paths 0 to 39 failed 5 times" in str(told.value) or "no worker of the cluster" in str(told.value)
    assert "the bottom line" in str(told.value)


def test_work_is_not_given_to_a_crew_of_nobody(client):
    crew = Crew(client, "numpy")
    assert crew.engine == "numpy"


def test_the_page_s_script_prints_what_it_says(tmp_path):
    text = (Path(__file__).parents[1] / "docs" / "cluster.md").read_text()
    script, output = (
        re.search(rf"<!-- {name} -->\n```\w+\n(.*?)```", text, re.S)[1] for name in ("python", "output")
    )
    (tmp_path / "script.py").write_text(script)
    environment = os.environ | {"PYTHONPATH": str(Path(cluster.__file__).parents[1])}
    done = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, env=environment)
    assert (done.stdout, done.stderr) == (output, "")
    first = next(line for line in text.splitlines() if line.startswith("gpuloan-mc run "))
    assert CliRunner().invoke(cli.cli, first.split()[1:]).exit_code == 0


def test_a_worker_without_the_package_is_refused_and_lives(client, book, tmp_path):
    """A worker of another environment: there gpuloan_mc can't be imported."""
    (tmp_path / "gpuloan_mc").mkdir()
    (tmp_path / "gpuloan_mc" / "__init__.py").write_text("raise ImportError('no package of this name')")
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", client.scheduler.address, "--nthreads", "1", "--no-nanny"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": tmp_path}
    process = subprocess.Popen(
        [*worker, "--no-dashboard", "--host", "127.0.0.1"], env=os.environ | {"PYTHONPATH": str(tmp_path)}, **quiet
    )
    try:
        client.wait_for_workers(3, timeout=60)
        told = []
        assert run(book, cluster=client, tell=told.append).digest == run(book).digest
        assert len(told) == 1
        assert "is refused: it can't import gpuloan_mc: no package of this name" in told[0]
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
