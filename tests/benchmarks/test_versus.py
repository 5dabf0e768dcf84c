"""Two commits are compared in pairs, only where they compute the same; the page says what the pairs say."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MACHINE = {"cpu": "a CPU", "cores": 2, "memory_gib": 8, "system": "Linux x86_64", "python": "3.12.0"}


@pytest.fixture
def scripts(monkeypatch):
    """The scripts' folder, so that they can be imported as they import each other."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def answer(seconds, digest="same"):
    return {"cpu_seconds": seconds, "wall_seconds": 2 * seconds, "digest": digest}


def pairs_of(versus, *answers):
    """What `paired` makes of answers given in turn."""
    return versus.joined({"before": a, "after": b} for a, b in zip(answers[::2], answers[1::2], strict=True))


def report_of(versus, case):
    """A report with one book and one command."""
    about = {"kind": "versus", "version": "1.0", "note": "", "machine": MACHINE, "packages": {}, "repeats": 3}
    load = {"load_before": [0.5], "load_after": [0.25]}
    commits = {"before": {"commit": "aaaaaaa", "dirty": False}, "after": {"commit": "bbbbbbb", "dirty": True}}
    whole = pairs_of(versus, *({**answer(0), "outside_seconds": s, "engine_seconds": 1.0, "paths": 100_000} for s in (3.0, 1.5)))
    command = whole | versus.ratios(whole, ("outside_seconds", "engine_seconds"))
    return about | load | commits | {"cases": {"small": case}, "commands": {"whole-command": command}}


def small_case(versus):
    pairs = pairs_of(versus, answer(2.0), answer(1.0), answer(3.0), answer(1.0), answer(5.0), answer(2.0))
    about = {"what": "a book", "plain": False, "paths": 1000, "loans": 10, "months": 100, "check_paths": 8, "columns": ["loss"]}
    return about | pairs | versus.ratios(pairs, ("cpu_seconds", "wall_seconds"))


def test_ratios_are_of_pairs(scripts):
    import versus

    figures = small_case(versus)["figures"]["cpu_seconds"]
    assert figures["ratios"] == [2.0, 3.0, 2.5]
    assert (figures["median"], figures["low"], figures["high"]) == (2.5, 2.0, 3.0)
    assert (figures["before"], figures["after"]) == (3.0, 1.0)


def test_checkouts_that_differ_are_not_compared(scripts):
    import versus

    found = pairs_of(versus, answer(2.0), answer(1.0), answer(2.0), answer(1.0, "other"))
    assert found["failed"] == "the two compute different figures"
    assert versus.ratios(found, ("cpu_seconds",)) == {}


def test_a_failure_says_whose_it_is(scripts):
    import versus

    assert pairs_of(versus, answer(2.0), {"failed": "out of memory"})["failed"] == "after: out of memory"


def test_the_page_has_the_ratios(scripts, tmp_path):
    import readme
    import versus

    (tmp_path / "versus.json").write_text(json.dumps(report_of(versus, small_case(versus))))
    page = readme.render(tmp_path)
    assert "`bbbbbbb` with changes against `aaaaaaa`" in page
    (row,) = (line for line in page.splitlines() if line.startswith("| small"))
    assert [cell.strip() for cell in row.split("|")][3:8] == ["3e+03", "1e+03", "2.50 ×", "2.00 to 3.00", "2.50 ×"]
    assert "whole command of 100,000 paths: CPU seconds outside the engine | 3.00   | 1.50  | 2.00 ×" in page


def test_the_page_says_what_failed(scripts, tmp_path):
    import readme
    import versus

    (tmp_path / "versus.json").write_text(json.dumps(report_of(versus, {"what": "a book", "failed": "the two differ"})))
    page = readme.render(tmp_path)
    assert "small failed: the two differ." in page
    assert "| small" not in page


def test_books_that_were_not_run_again_stay(scripts, tmp_path):
    import versus

    first, second = report_of(versus, small_case(versus)), report_of(versus, small_case(versus))
    second["cases"] = {"deep": second["cases"].pop("small")}
    versus.write(first, tmp_path / "a.json")
    versus.write(second, tmp_path / "a.json")
    assert set(json.loads((tmp_path / "a.json").read_text())["cases"]) == {"small", "deep"}
    second["after"] = {"commit": "ccccccc", "dirty": False}
    versus.write(second | {"cases": {}}, tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text())["cases"] == {}


def test_a_case_of_two_checkouts_runs_end_to_end(scripts):
    """The two are this one: the children, the equality of what they compute, and positive figures of each pair."""
    import argparse

    import checkout
    import versus

    sides = dict.fromkeys(versus.SIDES, checkout.Checkout(checkout.here()))
    found = versus.compared("small-10", sides, argparse.Namespace(seconds=0.02, pairs=1, repeats=1, cold_pairs=1))
    assert "failed" not in found
    assert found["loans"] == 10
    assert found["figures"]["cpu_seconds"]["median"] > 0


def test_a_checkout_says_what_was_changed(scripts, tmp_path):
    """But not that results were written into it."""
    import checkout

    def git(*arguments):
        who = ("-c", "user.name=n", "-c", "user.email=n@example.org")
        return subprocess.run(["git", "-C", tmp_path, *who, *arguments], check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    (tmp_path / "code.py").write_text("1\n")
    git("add", "code.py")
    git("commit", "-qm", "one")
    at = checkout.Checkout(tmp_path)
    assert at.about() == {"commit": git("rev-parse", "--short", "HEAD").strip(), "dirty": False}
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    (tmp_path / "benchmarks" / "results" / "a.json").write_text("{}")
    assert not at.about()["dirty"]
    (tmp_path / "code.py").write_text("2\n")
    assert at.about()["dirty"]


def test_of_a_process_its_least_run_counts(scripts):
    import versus

    found = versus.least([answer(2.0), answer(1.0), answer(3.0)])
    assert (found["cpu_seconds"], found["wall_seconds"], found["median_cpu_seconds"]) == (1.0, 2.0, 2.0)
    assert versus.least([answer(2.0), {"failed": "out of memory"}])["failed"] == "out of memory"


def test_a_process_that_ends_says_why(scripts):
    """Before it is ready, so that there is nobody to ask."""
    import checkout
    import versus

    with checkout.Checkout(checkout.here()).serving("timed", {"case": "no such case", "paths": 4}, versus.SCRIPT) as ask:
        assert ask()["failed"] == "KeyError: 'no such case'"
        assert ask()["failed"] == "KeyError: 'no such case'"


def test_another_package_than_the_checkouts_is_refused(scripts, tmp_path):
    import checkout
    import versus

    elsewhere = {"root": str(tmp_path), "case": "small-10", "paths": 4}
    found = checkout.Checkout(checkout.here()).child("digest", elsewhere, versus.SCRIPT)
    assert "not the checkout's" in found["failed"]
    assert str(tmp_path) not in json.dumps(found)


def test_the_engine_is_a_part_of_the_whole_command(scripts):
    import checkout
    import commands

    found = commands.whole_command(checkout.Checkout(checkout.here()))
    assert 0 < found["engine_seconds"] < found["cpu_seconds"]
    assert found["outside_seconds"] == pytest.approx(found["cpu_seconds"] - found["engine_seconds"])
    assert found["paths"] == commands.WHOLE_PATHS


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_cold_start_is_measured(scripts):
    import checkout
    import commands

    found = commands.cold_start(checkout.Checkout(checkout.here()))
    assert 0 < found["first_paths"] <= found["paths"] == commands.FIRST_PATHS
    assert 0 < found["first_paths_seconds"] <= found["paths_seconds"]
    assert found["compile_cpu_seconds"] > 0


def test_events_of_paths_are_read(scripts):
    import commands

    lines = ['{"event": "paths", "paths": 0}\n', "a warning\n", '{"event": "note"}\n', '{"event": "paths", "paths": 128}\n']
    assert [paths for _, paths in commands._paths_done(lines, 0.0)] == [128]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found in /proc")
def test_what_a_command_leaves_behind_is_waited_for(scripts):
    import commands

    with subprocess.Popen(["sh", "-c", f"{sys.executable} -c 'import time; time.sleep(2)' &"], start_new_session=True) as process:
        process.wait()
        assert commands._runs(process.pid)
        commands._let_end(process.pid)
        assert not commands._runs(process.pid)
