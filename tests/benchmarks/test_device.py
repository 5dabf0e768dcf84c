"""The acceptance of a GPU machine, run on a fake GPU whose kernels are the reference engine: its structure, not its figures."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import gpuloan_mc

HERE = Path(__file__).parent
BENCHMARKS = HERE.parents[1] / "benchmarks"


def device(out, *options, seam=True, **environment):
    """Exit code, output and report of benchmarks/device.py."""
    package = str(Path(gpuloan_mc.__file__).parent.parent)
    environment = os.environ | {"PYTHONPATH": package, "PYTHONWARNINGS": "error"} | environment
    if seam:
        environment["GPULOAN_MC_BENCHMARK_SEAM"] = str(HERE / "device_seam.py")
    command = [sys.executable, str(BENCHMARKS / "device.py"), *options, "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=500)
    assert done.stderr == ""
    return done.returncode, done.stdout, json.loads(out.read_text())


PARTS = "--part equality --part memory --part sanitizer --part start --part cases".split()
SMALL = "--book vasicek-100 --book t-copula --case small --paths 200 --check-paths 80".split()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of every part but the tests."""
    return device(tmp_path_factory.mktemp("device") / "report.json", *PARTS, *SMALL, PATH="/usr/bin:/bin")


def test_every_part_runs_on_a_fake_gpu(whole):
    code, shown, report = whole
    assert code == 0, shown
    assert {name: "failed" in report[name] for name in ("equality", "memory", "start", "cases")} == dict.fromkeys(
        ("equality", "memory", "start", "cases"), False
    )


def test_digests_are_compared_with_the_reference(whole):
    _, _, report = whole
    for book in ("vasicek-100", "t-copula"):
        found = report["equality"]["books"][book]
        assert found["outcome"] == "equal"
        assert set(found["digests"]) >= {"numpy", "numba", "cuda"}
        assert len(set(found["digests"].values())) == 1


def test_memory_is_kept_to_and_refused_below(whole):
    _, _, report = whole
    memory = report["memory"]
    assert memory["outcome"] == "equal within a limit, refused below it"
    assert memory["free"]["digest"] == memory["64 MiB"]["digest"]
    assert "MiB needed" in memory["1 MiB"]["refused"]


def test_cases_are_checked_then_timed_by_wall_and_events(whole):
    _, shown, report = whole
    case = report["cases"]["cases"]["small"]["cuda"]
    assert case["equality"] == "equal"
    assert len(case["seconds"]) == 3
    assert 0 < case["kernel_seconds"] <= max(case["seconds"]) + case["first_seconds"]
    assert 0 < case["live_share"] <= 1
    assert "| small" in shown
    assert report["start"]["cold"]["digest"] == report["start"]["warm"]["digest"]


def test_a_report_is_a_section_of_the_page(whole, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import readme

    _, _, report = whole
    (tmp_path / "device.json").write_text(json.dumps(report))
    page = readme.render(tmp_path)
    assert "## GPU: " in page
    assert "| vasicek-100" in page


def test_without_a_gpu_it_says_so_and_fails(tmp_path):
    options = ["--part", "equality", "--book", "vasicek-100", "--part", "cases", "--case", "small"]
    code, shown, report = device(tmp_path / "report.json", *options, seam=False, CUDA_VISIBLE_DEVICES="")
    assert code == 1
    assert report["cases"]["failed"].startswith("engine cuda: ")
    assert "- cases: engine cuda: " in shown


def test_a_part_out_of_time_is_told_and_the_report_written(tmp_path):
    code, shown, report = device(tmp_path / "report.json", "--part", "start", "--total", "1")
    assert code == 1
    assert "no time left" in report["start"]["failed"]
    assert "- start: no time left" in shown


@pytest.mark.parametrize(
    "part, text",
    [
        ({"failed": "x"}, "x"),
        ({"outcome": "DIFFERS"}, "DIFFERS"),
        ({"books": {"a": {"outcome": "DIFFERS"}}}, "a: DIFFERS"),
        ({"books": {"a": {"failed": "out of memory"}}}, "a: out of memory"),
        ({"cases": {"a": {"what": "w", "cuda": {"equality": "DIFFERS"}}}}, "a, cuda: DIFFERS"),
        ({"cold": {"failed": "x"}}, "cold: x"),
    ],
)
def test_nothing_that_differs_is_passed_over(monkeypatch, part, text):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import device_page

    assert list(device_page.failures({"memory": part})) == [f"memory: {text}"]


SLOW_SEAM = """
import runpy, sys, time

def install():
    runpy.run_path({seam!r})["install"]()
    if sys.argv[1] == "digests" and '"cuda"' in sys.argv[2]:
        import gpuloan_mc
        simulate, calls = gpuloan_mc.simulate, []
        def slow(*a, **k):
            calls.append(1)
            if len(calls) > 3:  # three of the first book
                time.sleep(600)
            return simulate(*a, **k)
        gpuloan_mc.simulate = slow
"""


def test_an_engine_that_hangs_loses_itself_alone(tmp_path, monkeypatch):
    """What it said before stays, and the other engines are compared."""
    seam = tmp_path / "seam.py"
    seam.write_text(SLOW_SEAM.format(seam=str(HERE / "device_seam.py")))
    options = "--part equality --book vasicek-100 --book t-copula --check-paths 40 --total 26".split()
    code, shown, report = device(tmp_path / "report.json", *options, GPULOAN_MC_BENCHMARK_SEAM=str(seam), seam=False)
    assert code == 1
    books = report["equality"]["books"]
    assert books["vasicek-100"]["outcome"] == "equal"
    assert set(books["vasicek-100"]["digests"]) == {"numpy", "numba", "cuda"}
    assert set(books["t-copula"]["digests"]) == {"numpy", "numba"}
    assert "t-copula: cuda: not finished in" in shown


def test_a_command_ends_with_all_that_it_started(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import measure

    script = f"sleep 300 & echo $! > {tmp_path}/pid; echo early; wait"
    with pytest.raises(subprocess.TimeoutExpired) as late:
        measure.bounded(["sh", "-c", script], 1.0)
    assert late.value.output == "early\n"
    stat = Path(f"/proc/{int((tmp_path / 'pid').read_text())}/stat")
    for _ in range(100):
        if not stat.exists() or stat.read_text().split(")")[1].split()[0] == "Z":
            return
        time.sleep(0.1)
    pytest.fail("it runs on")


def test_time_is_kept_for_the_cases(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import device

    now = [0.0]
    monkeypatch.setattr(device.time, "monotonic", lambda: now[0])
    clock = device.Clock(465, list(device.PARTS))
    for part in device.PARTS:
        clock.begin(part)
        if part == "cases":
            assert clock.limit() > device.CASES - 5
        else:
            now[0] += clock.limit() + 0.5  # all that it may take, and a bit
    assert now[0] < 465 - device.CASES + 5


def test_the_array_program_stands_beside_engine_cuda(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import arrays
    import device_page
    import device_tasks

    monkeypatch.setattr(arrays, "cupy_library", arrays.numpy_library)
    simulate = gpuloan_mc.simulate
    monkeypatch.setattr(gpuloan_mc, "simulate", lambda *a, engine, **k: simulate(*a, engine="numba", **k))
    monkeypatch.setitem(device_tasks.TIMED, "typical", device_tasks.Timed("few loans", lambda: device_tasks.gpu_book(30, 30), 16))
    found = device_tasks.array_program("typical", 600, 2)
    assert found["equality"] == "equal"
    assert len(found["seconds"]) == 2
    cuda = found | {"kernel_seconds": 0.5, "issue_limit_slots": 1e9, "paths_per_second": 30 * found["paths_per_second"]}
    rows = device_page._cases({"cases": {"typical": {"what": "few loans", "cuda": cuda, "array program": found}}})
    assert "30.0 × cuda's time; 25 (40) or more" in "\n".join(rows)
