"""The benchmarks run, check before they time, and their page says what their results say."""

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gpuloan_mc

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def python(*arguments):
    """A script's run with the package under test, warnings as errors."""
    environment = os.environ | {"PYTHONPATH": str(Path(gpuloan_mc.__file__).parent.parent), "PYTHONWARNINGS": "error"}
    return subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, env=environment)


@pytest.fixture
def scripts(monkeypatch):
    """The scripts' folder, so that they can be imported as they import each other."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The report of the smallest case."""
    out = tmp_path_factory.mktemp("results") / "small.json"
    options = "--quick --case small --engine numpy --engine numba --engine nothing --seconds 0.1 --repeats 1"
    done = python(BENCHMARKS / "run.py", *options.split(), "--check-paths", 256, "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(out.read_text())


def test_the_smallest_case_runs_end_to_end(report):
    case = report["cases"]["small"]
    numpy, *numba, absent = case["engines"]
    assert all(e["equality"] == "equal" and e["paths_per_second"] > 0 for e in (numpy, *numba))
    assert {e["engine"] for e in numba} == {"numba"}
    # which of the two is slower is no matter for a test: each ran for a tenth of a second on a machine that others use
    assert min(case["parts"]["all"], case["parts"]["no_events"]) > 0
    assert case["parts"]["loop"]["lanes"] >= 8 or platform.machine() not in ("x86_64", "AMD64")
    assert absent["equality"] == "absent: not in this version"
    assert 0 < case["rates"]["live_share"] < 1
    assert all(a["agreement"] == "agrees" for a in case["arrays"])


def test_the_parts_of_a_loan_month_are_what_they_are_called(scripts):
    """No default in the one book, and no contract's end either in the other: whatever differs in time is theirs."""
    import bounds
    import cases

    from gpuloan_mc.engines.numpy_reference import NumpyReference
    from gpuloan_mc.planning import build_plan

    plan = build_plan(*cases.CASES["small"].book())
    quiet = bounds.without_defaults(plan)
    still = bounds.without_ends(quiet)
    reference, paths = NumpyReference(), np.arange(64)
    assert reference.run(plan, 1, 0, 64).defaults.sum() > 0
    assert reference.run(quiet, 1, 0, 64).defaults.sum() == reference.run(still, 1, 0, 64).defaults.sum() == 0
    assert reference.replay(quiet, 1, paths).history.released.sum() > 0
    assert reference.replay(still, 1, paths).history.released.sum() == 0


def test_a_report_names_no_host(report):
    assert not re.search(rf"\b{re.escape(platform.node())}\b", json.dumps(report))


def test_an_engine_that_differs_is_not_timed(report, scripts):
    import argparse

    import cases
    import run

    case = report["cases"]["small"] | {"engines": [{"engine": "other", "threads": None, "equality": "DIFFERS"}]}
    options = argparse.Namespace(seconds=0.01, repeats=1, quick=True)
    run.time_case(cases.CASES["small"], case, options)
    assert "median_seconds" not in case["engines"][0]
    assert list(run.failures({"cases": {"small": case}})) == ["small: other differs"]


def test_a_report_is_rendered(report, scripts, tmp_path):
    import readme

    (tmp_path / "small.json").write_text(json.dumps(report))
    page = readme.render(tmp_path)
    assert "| small | numpy" in page
    assert f"{report['cases']['small']['check_paths']}" in page


def test_the_readme_is_made_of_the_committed_results(scripts):
    import readme

    results = BENCHMARKS / "results"
    assert (BENCHMARKS / "README.md").read_text() == readme.render(results)
    front = (BENCHMARKS.parent / "README.md").read_text()
    assert front == readme.with_speeds(front, results)


def test_the_books_are_the_same_each_time(scripts):
    import cases

    from gpuloan_mc.planning import build_plan

    for make in (lambda: cases.gpu_book(12, 24), lambda: cases.pool(10, own_loadings=True, grouped=False)):
        assert build_plan(*make()).digest == build_plan(*make()).digest


@pytest.mark.parametrize("copula", ["gaussian", "t"])
@pytest.mark.parametrize(
    ("program", "options"),
    [
        ("numpy_arrays", {"method": "normals"}),
        ("numpy_arrays", {"method": "uniforms"}),
        ("ours", {"engine": "numpy", "threads": None, "grouped": True}),
    ],
)
def test_programs_of_peers_agree_with_the_exact_answer(scripts, copula, program, options):
    import peers

    job = {"name": program, "program": program, "loans": 50, "paths": 4000, "copula": copula, "batch": 2000}
    done = python(BENCHMARKS / "peers.py", "run", json.dumps(job | {"options": list(options.items())}))
    assert done.stderr == ""
    answer, exact = json.loads(done.stdout), peers.exact(50, copula)
    assert answer["paths"] == 4000
    assert abs(answer["el"] - exact["el"]) < 4 * answer["el_se"]
