"""The command line as its user meets it."""

import json
import os
import re
import resource
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from click.testing import CliRunner

from gpuloan_mc import cli, doctor, simulation
from gpuloan_mc.inputs.books import bundled_books

# -P and this path: the package under test, not whatever lies in the working directory
PYTHON = [sys.executable, "-P", "-W", "error"]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(cli.__file__).parent.parent)}
pytestmark = pytest.mark.usefixtures("machine_code")


def gpuloan_mc(*arguments, code=0, cwd=None):
    command = [*PYTHON, "-m", "gpuloan_mc.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=ENVIRONMENT, cwd=cwd)
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done


def test_help_is_quick_and_imports_nothing_heavy():
    times = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        gpuloan_mc("--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) < 0.4
    code = "import sys, gpuloan_mc.cli; print([m for m in ('numpy', 'pandas', 'scipy', 'pydantic', 'rich') if m in sys.modules])"
    loaded = subprocess.run([*PYTHON, "-c", code], capture_output=True, text=True, check=True, env=ENVIRONMENT)
    assert loaded.stdout.strip() == "[]"


def in_python(code, **environment):
    """What a program printed last; -P and the path as for the command line."""
    done = subprocess.run(
        [*PYTHON, "-c", code], capture_output=True, text=True, timeout=300, env=ENVIRONMENT | environment
    )
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    return done.stdout.splitlines()[-1]


RUN_AND_LOOK = """
import atexit, gc, sys
from gpuloan_mc.cli import main
sys.argv = ["gpuloan-mc", "run", "neocloud-2024", "--paths", "16", "--engine", "numpy", "--json", "--out", {out!r}]
atexit.register(lambda: print({look}))
gc.collect()
before = sum(g["collections"] for g in gc.get_stats())
main()
"""


def test_a_run_on_numbers_found_before_does_without_scipy(tmp_path):
    look = "*[m for m in ('scipy', 'scipy.linalg', 'scipy.special') if m in sys.modules], 'are loaded'"
    found = [
        in_python(RUN_AND_LOOK.format(out=str(tmp_path / out), look=look), GPULOAN_MC_CACHE=str(tmp_path / "cache"))
        for out in ("cold", "warm")
    ]
    assert found == ["scipy scipy.linalg scipy.special are loaded", "are loaded"]
    files = {file.relative_to(tmp_path / "cold") for file in (tmp_path / "cold").rglob("*") if file.is_file()}
    timed = {Path("manifest.json"), Path("summary.json")}
    assert timed < files
    for file in files - timed:
        assert (tmp_path / "cold" / file).read_bytes() == (tmp_path / "warm" / file).read_bytes(), file
    cold, warm = (json.loads((tmp_path / out / "summary.json").read_text()) for out in ("cold", "warm"))
    for key in ("seconds", "compile_seconds", "timings", "loan_steps_per_second"):
        del cold[key], warm[key]
    assert cold == warm


def test_a_short_run_looks_for_cycles_neither_before_nor_at_its_end(tmp_path):
    look = "sum(g['collections'] for g in gc.get_stats()) - before, gc.get_freeze_count()"
    code = RUN_AND_LOOK.format(out=str(tmp_path / "out"), look=look)
    collections, frozen = map(int, in_python(code).split())
    assert collections == 0
    assert frozen > 100_000


def test_run_json_is_one_object_and_repeats():
    one, other = (
        json.loads(gpuloan_mc("run", "vasicek-100", "--paths", 500, "--json", "--chunk", c).stdout) for c in (7, 500)
    )
    assert one["digest"] == other["digest"]
    assert one["n_paths"] == 500
    assert one["engine"] == "numba"


def test_run_prints_a_table_and_writes_a_folder(tmp_path):
    done = gpuloan_mc("run", "vasicek-100", "--paths", 500, "--out", tmp_path / "out")
    assert "expected loss" in done.stdout
    assert "digest" in done.stdout
    assert (tmp_path / "out" / "manifest.json").is_file()


def test_bad_input_exits_3_with_every_problem(tmp_path):
    (tmp_path / "loans.csv").write_text(
        "loan_id,borrower_id,balance_usd,rate,term_months,lgd\nA,B,10,70,12,0.5\nA,C,-1,0.1,x,0.5\n"
    )
    (tmp_path / "obligors.csv").write_text("obligor_id,hazard_class\nB,good\n")
    (tmp_path / "market.toml").write_text(
        'start_date = 2024-11-30\nhorizon_months = 12\n[[hazard_classes]]\nname = "good"\nhazard = 0.1\n'
    )
    text = gpuloan_mc("run", tmp_path, code=3).stderr
    for part in (
        "loans.csv:2: rate is 70",
        "loans.csv:3: balance_usd is -1",
        "'x'",
        "duplicate-id",
        "unknown-borrower",
    ):
        assert part in text


def test_a_bad_market_names_the_place_and_the_meant_key(tmp_path):
    (tmp_path / "market.toml").write_text(
        'start_date = 2024-11-30\nhorizon_months = 0\n[[hazard_classes]]\nname = "good"\nhazzard = 0.1\n'
    )
    text = gpuloan_mc("run", tmp_path, code=3).stderr
    assert "market.toml:horizon_months" in text
    assert "market.toml:hazard_classes[1].hazzard: unknown key. Did you mean hazard?" in text


@pytest.mark.parametrize(
    "arguments, code",
    [
        (["run"], 2),
        (["run", "vasicek-100", "--seed", "-1"], 2),
        (["run", "vasicek-100", "--seed", str(2**64)], 2),
        (["run", "vasicek-100", "--engine", "gpu"], 2),
        (["run", "no-such-book"], 3),
        (["prices", "vasicek-100"], 2),
        (["doctor"], 0),
        (["--version"], 0),
    ],
)
def test_exit_codes(arguments, code):
    gpuloan_mc(*arguments, code=code)


def stopped(monkeypatch, *arguments):
    """Exit code of the command line run in this process."""
    monkeypatch.setattr(sys, "argv", ["gpuloan-mc", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code


@pytest.mark.parametrize(
    "error, code, text",
    [
        (KeyboardInterrupt(), 5, "stopped"),
        (MemoryError("8 TiB"), 4, "not enough memory: 8 TiB. Ask for fewer --paths"),
        (ZeroDivisionError("by nought"), 70, "a bug in gpuloan-mc: ZeroDivisionError: by nought\nPlease report"),
    ],
)
def test_whatever_stops_a_run_is_a_sentence_and_a_code(monkeypatch, capsys, error, code, text):
    def broken(*_, **__):
        raise error

    monkeypatch.delenv("GPULOAN_MC_DEBUG", raising=False)
    monkeypatch.setattr(simulation, "simulate", broken)
    assert stopped(monkeypatch, "run", "vasicek-100") == code
    shown = capsys.readouterr()
    assert text in shown.err
    assert "Traceback" not in shown.err
    assert shown.out == ""


def test_debug_shows_where_a_bug_is(monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setenv("GPULOAN_MC_DEBUG", "1")
    monkeypatch.setattr(simulation, "simulate", broken)
    monkeypatch.setattr(sys, "argv", ["gpuloan-mc", "run", "vasicek-100"])
    with pytest.raises(ZeroDivisionError):
        cli.main()


def test_a_folder_that_cannot_be_written_is_refused_before_the_run(monkeypatch, capsys, tmp_path):
    def late(*_, **__):
        raise AssertionError("the run has begun")

    (tmp_path / "notes.txt").write_text("mine")
    monkeypatch.setattr(simulation, "build_plan", late)
    below = tmp_path / "notes.txt" / "out"
    for folder, text in ((tmp_path, "is not empty"), (below, "can't be used: Not a directory")):
        assert stopped(monkeypatch, "run", "vasicek-100", "--out", folder) == 2
        assert text in capsys.readouterr().err


@pytest.mark.parametrize(
    "versions, text", [({}, "numpy is missing"), ({"numpy": "1.26.4"}, "numpy is 1.26.4, too old")]
)
def test_doctor_names_what_is_missing_or_old(monkeypatch, capsys, versions, text):
    true_version = doctor.importlib.metadata.version

    def version(name):
        if name == "numpy" and name not in versions:
            raise PackageNotFoundError(name)
        return versions.get(name) or true_version(name)

    monkeypatch.setattr(doctor.importlib.metadata, "version", version)
    assert stopped(monkeypatch, "doctor") == 4
    assert text in capsys.readouterr().err


def test_one_path_has_no_error_and_says_so():
    found = json.loads(gpuloan_mc("run", "vasicek-100", "--paths", 1, "--json").stdout)
    assert found["expected_loss_se"] is None
    table = gpuloan_mc("run", "vasicek-100", "--paths", 1).stdout
    assert "± …" in table
    assert re.search(r"\bnan\b", table) is None
    assert "rests on fewer than 50 paths" in table


def test_brackets_in_a_name_are_text(tmp_path):
    for name in ("[red]book", "[", ":smile:"):
        gpuloan_mc("example", name, "--loans", 5, cwd=tmp_path)
        assert gpuloan_mc("run", name, "--paths", 5, cwd=tmp_path).stdout.startswith(f"{name}: loss to month")


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_reader_that_stops_early_is_no_error(form):
    read, write = os.pipe()
    os.close(read)  # every write to the pipe fails from now on
    command = [*PYTHON, "-m", "gpuloan_mc.cli", "run", "vasicek-100", "--paths", "10", *form]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=300, env=ENVIRONMENT)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_run_folder_holds_a_book_that_runs_again(tmp_path):
    first = gpuloan_mc("run", "neocloud-2024", "--paths", 20, "--json", "--out", tmp_path / "out").stdout
    again = gpuloan_mc("run", tmp_path / "out" / "inputs", "--paths", 20, "--json").stdout
    for key in ("digest", "plan_digest"):
        assert json.loads(first)[key] == json.loads(again)[key]


def test_prices_by_generation():
    found = json.loads(gpuloan_mc("prices", "neocloud-2024", "--paths", 300, "--json").stdout)
    assert list(found) == ["n_paths", "contract", "spot", "chip_value", "regimes"]
    month = found["contract"]["H100"]["12"]
    assert month["p05"] < month["p50_ci"][0] < month["p50"] < month["p50_ci"][1] < month["p95"]
    assert sum(r["share"] for r in found["regimes"]["12"].values()) == pytest.approx(1)
    assert "H100" in gpuloan_mc("prices", "neocloud-2024", "--paths", 50).stdout


def test_an_example_book_runs(tmp_path):
    gpuloan_mc("example", tmp_path / "a")
    gpuloan_mc("example", tmp_path / "b", "--loans", 12, "--seed", 3)
    gpuloan_mc("example", tmp_path / "a", code=2)
    for name in ("a", "b"):
        assert json.loads(gpuloan_mc("run", tmp_path / name, "--paths", 20, "--json").stdout)["n_loans"] >= 12
    bundled = gpuloan_mc("run", "neocloud-2024", "--paths", 20, "--json").stdout
    copied = gpuloan_mc("run", tmp_path / "a", "--paths", 20, "--json").stdout
    assert json.loads(bundled)["digest"] == json.loads(copied)["digest"]


def test_both_books_are_bundled():
    assert bundled_books() == ["neocloud-2024", "vasicek-100"]


def test_a_scenario_is_named_wherever_it_was_applied():
    chain = ["--scenario", "lab_failure", "--scenario", "no_feedback"]
    found = json.loads(gpuloan_mc("run", "neocloud-2024", "--paths", 20, *chain, "--json").stdout)
    assert found["scenarios"] == ["lab_failure", "no_feedback"]
    done = gpuloan_mc("check", "neocloud-2024", "--scenario", "overlong_debt")
    assert done.stdout.startswith("neocloud-2024 under overlong_debt: the book")


def test_what_only_the_stressed_book_is_warned_of_is_said(tmp_path):
    (tmp_path / "longer.toml").write_text("[[loans]]\nshift = { term_months = 40 }\n")
    calm = gpuloan_mc("run", "neocloud-2024", "--paths", 5).stderr
    done = gpuloan_mc("run", "neocloud-2024", "--paths", 5, "--scenario", tmp_path / "longer.toml")
    assert "warning, under the scenario: about" in done.stderr
    assert "under the scenario" not in calm


BREAK_EVEN = ["breakeven", "vasicek-100", "--from", "0.1", "--to", "0.9", "--es", "0.95=2e6", "--paths", 300, "--engine", "numpy",
              "--steps", 6]  # fmt: skip
GRID = ["grid", "vasicek-100", "--paths", 100, "--engine", "numpy"]


def test_a_stress_prints_two_tables_and_writes_a_folder(tmp_path):
    arguments = ["stress", "vasicek-100", "--paths", 200, "--engine", "numpy"]
    done = gpuloan_mc(*arguments, "--out", tmp_path / "S")
    assert "less the base, paths paired" in done.stdout
    assert "left out: lab_failure: no obligor 'ai-lab-1' in this book" in done.stdout.replace("\n", " ")
    assert sorted(p.name for p in (tmp_path / "S").iterdir()) == ["stress.json", "stress.parquet"]
    again = json.loads(gpuloan_mc(*arguments, "--json").stdout)
    written = json.loads((tmp_path / "S" / "stress.json").read_text())
    assert [run["digest"] for run in again["runs"]] == [run["digest"] for run in written["runs"]]


def test_sensitivities_print_a_tornado(tmp_path):
    done = gpuloan_mc("sensitivities", "vasicek-100", "--paths", 100, "--engine", "numpy", "--out", tmp_path / "T",
                      "--bump", "obligors.pd_scale=x0.5:2", "--bump", "loans.lgd=0.3:0.6")  # fmt: skip
    assert "obligors.pd_scale" in done.stdout
    assert (tmp_path / "T" / "sensitivities.parquet").is_file()


def test_a_break_even_prints_its_interval(tmp_path):
    done = gpuloan_mc(*BREAK_EVEN, "--parameter", "loans.lgd", "--seed", 5, "--out", tmp_path / "B")
    assert re.search(r"ES 95 % reaches 2 million dollars at loans.lgd 0\.\d+ \(95 %: 0\.\d+ to 0\.\d+\)", done.stdout)
    assert "few paths: the tail at" in done.stdout
    assert sorted(p.name for p in (tmp_path / "B").iterdir()) == ["breakeven.json", "breakeven.parquet"]
    arguments = ["--parameter", "obligors.pd_scale", "--from", "x1", "--to", "x8", "--paths", 300, "--json"]
    found = json.loads(gpuloan_mc("breakeven", "vasicek-100", *arguments, "--tranche", "0.02:0.05", "--probability", 0.2,
                                  "--engine", "numpy", "--steps", 4).stdout)  # fmt: skip
    assert found["how"] == "scale" and 1 < found["low"] < found["value"] < found["high"] < 8
    assert found["reading"]["goal"] == 0.2


def test_a_grid_prints_two_tables_and_writes_a_folder(tmp_path):
    done = gpuloan_mc(*GRID, "--x", "loans.lgd=0.3,0.6", "--y", "obligors.pd_scale=x1,2", "--out", tmp_path / "G")
    assert "less the base, paths paired" in done.stdout and "× 2" in done.stdout
    assert "few paths: the tail at 99 %" in done.stdout
    assert sorted(p.name for p in (tmp_path / "G").iterdir()) == ["grid.parquet", "stress.json", "stress.parquet"]


def test_a_loan_is_removed_and_its_effect_printed(tmp_path):
    arguments = ["marginal", "vasicek-100", "--remove", "L001", "--remove", "L002", "--paths", 300, "--engine", "numpy"]
    page = gpuloan_mc(*arguments, "--out", tmp_path / "M").stdout
    for text in ("2 loans removed", "removed: L001, L002", "expected loss of the other loans, after less before: +0 ± 0"):
        assert text in " ".join(page.split())
    assert "few paths: the tail at 95 %, 99 %, 99.9 %, 99.97 %" in page
    found = json.loads(gpuloan_mc(*arguments, "--json").stdout)
    assert found == json.loads((tmp_path / "M" / "marginal.json").read_text())
    assert found["others_expected_loss_difference"] == 0


@pytest.mark.parametrize(
    "arguments, code, text",
    [
        (["run", "vasicek-100", "--scenario", "lab_failur"], 3, "Did you mean lab_failure?"),
        (
            ["check", "vasicek-100", "--scenario", "lab_failure"],
            3,
            "lab_failure.toml:force.default[1].obligor: no obligor",
        ),
        (["stress", "vasicek-100", "--scenario", "nothing.toml"], 3, "nothing.toml: no such scenario file"),
        (["stress", "vasicek-100", "--level", "0.5"], 2, "0.5"),
        (["stress", "vasicek-100", "--out", "."], 2, "is not empty"),
        (["sensitivities", "vasicek-100", "--bump", "loans.lgd=high"], 2, "is no KEY=LOW:HIGH"),
        (["sensitivities", "vasicek-100", "--bump", "loans.lgdd=0:1"], 3, "Did you mean lgd"),
        (["breakeven", "vasicek-100", "--parameter", "loans.lgd", "--from", "0.1", "--to", "0.9"], 2, "name one goal"),
        ([*BREAK_EVEN, "--parameter", "loans.lgdd"], 3, "Did you mean lgd"),
        ([*BREAK_EVEN, "--parameter", "loans.lgd", "--to", "x2"], 2, "one end of the range is a factor"),
        ([*BREAK_EVEN, "--parameter", "loans.lgd", "--to", "much"], 2, "'much' is no number"),
        ([*BREAK_EVEN, "--parameter", "loans.lgd", "--es", "0.99=lots"], 2, "is no LEVEL=LIMIT"),
        ([*BREAK_EVEN, "--parameter", "loans.lgd", "--es", "1.5=0.1"], 2, "level is 1.5; it must lie between 0 and 1"),
        ([*BREAK_EVEN, "--parameter", "loans.lgd", "--tranche", "0:0.1"], 2, "name one goal"),
        ([*BREAK_EVEN, "--parameter", "loans.lgd", "--probability", "0.1"], 2, "--probability is a tranche's"),
        ([*BREAK_EVEN, "--parameter", "loans.lgd", "--es", "0.99=0.9"], 2, "does not lie between"),
        ([*BREAK_EVEN, "--parameter", "loans.lgd", "--to", "1.5"], 3, "lgd"),
        ([*BREAK_EVEN, "--parameter", "force.price.H100.12"], 3, "this market has no [gpu] part"),
        ([*GRID, "--x", "loans.lgd=0.1,high", "--y", "obligors.pd_scale=1,2"], 2, "is no KEY=V1,V2"),
        ([*GRID, "--x", "loans.lgd=0.1,0.1", "--y", "obligors.pd_scale=1,2"], 2, "each once"),
        ([*GRID, "--x", "loans.lgd=0.1", "--y", "loans.lgd=0.2"], 2, "name two"),
        ([*GRID, "--x", "loans.lgd=0.1", "--y", "obligor.pd_scale=1,2"], 3, "unknown key 'obligor'"),
        (["marginal", "vasicek-100", "--paths", "50"], 2, "name loans to remove, or a book to add"),
        (["marginal", "vasicek-100", "--paths", "50", "--remove", "L1O1"], 2, "no loan 'L1O1' in this book. Did you"),
        (["marginal", "vasicek-100", "--paths", "50", "--add", "vasicek-100"], 2, "both books have 'L001'; rename it"),
        (["marginal", "vasicek-100", "--paths", "50", "--add", "nothing"], 3, "nothing"),
    ],
)
def test_bad_scenarios_are_sentences(tmp_path, arguments, code, text):
    (tmp_path / "mine.txt").write_text("x")
    assert text in gpuloan_mc(*arguments, code=code, cwd=tmp_path).stderr


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The folder of a run."""
    folder = tmp_path_factory.mktemp("saved") / "R"
    gpuloan_mc("run", "neocloud-2024", "--paths", 400, "--out", folder)
    return folder


def test_replay_shows_paths_and_writes_them(saved, tmp_path):
    done = gpuloan_mc("replay", saved, "--worst", 2, "--out", tmp_path / "out", "--format", "csv").stdout
    assert len(re.findall(r"path \d+: [\d,.]+ dollars lost", done)) == 2
    assert sorted(p.name for p in (tmp_path / "out").glob("*.csv")) == [
        f"replay_{name}.csv" for name in ("chip_values", "launches", "loans", "market", "parties")
    ]
    story = gpuloan_mc("replay", saved, "--path", 17, "--explain").stdout.splitlines()
    assert story[0].startswith("path 17 loses ")


@pytest.mark.parametrize(
    "arguments, text",
    [
        (["replay"], "name paths with --path N"),
        (["replay", "--path", "1", "--worst", "1"], "name paths with --path N"),
        (["replay", "--path", "400"], "no path 400 in this run; its paths are 0 to 399"),
        (["replay", "--worst", "401"], "worst is 401"),
        (["contributions", "--level", "1"], "level is 1.0; it must lie between 0 and 1"),
        (["contributions", "--by", "[red]"], "it must be one of loan, borrower"),
        (["tranches"], "ask for something: --tranche"),
        (["tranches", "--tranche", "0.3:0.1"], "is inverted"),
        (["tranches", "--target-pd", "2"], "target is 2.0"),
        (["convergence", "--target", "0"], "target is 0.0"),
        (["convergence", "--seeds", "1"], "1 is not in the range 2<=x<=1000"),
        (["export"], "Missing option '--out'"),
        (["export", "--out", "X", "--level", "2"], "level is 2.0; it must lie between 0 and 1"),
        (["compare"], "Missing argument 'RUN_B'"),
        (["compare", "nowhere"], "nowhere is no folder; name a folder written by gpuloan-mc run"),
    ],
)
def test_wrong_questions_get_a_sentence(saved, arguments, text):
    command, *rest = arguments
    error = " ".join(gpuloan_mc(command, saved, *rest, code=2).stderr.split())
    assert text in error


def test_questions_of_no_run_get_a_sentence(tmp_path):
    for command in ("replay", "contributions", "tranches", "convergence", "export", "compare"):
        more = {"replay": ["--path", 1], "tranches": ["--tranche", "0:1"], "export": ["--out", tmp_path / "X"],
                "compare": [tmp_path]}.get(command, [])  # fmt: skip
        assert "is no folder" in gpuloan_mc(command, tmp_path / "none", *more, code=2).stderr


def test_contributions_tranches_and_convergence_print_pages(saved, tmp_path):
    page = gpuloan_mc("contributions", saved, "--by", "cause", "--tail-paths").stdout
    assert "contributions at 99 % by cause, millions of dollars" in page
    assert "few paths: the tail at 99 % rests on fewer than 50 paths" in page
    assert "Herfindahl index" in page and "contract H100" in page
    page = gpuloan_mc("tranches", saved, "--tranche", "0:0.1", "--tranche", "0.1:", "--by-year", "--target-pd", 0.05,
                      "--target-el", 0.05, "--stress", 0.9, "--out", tmp_path / "out").stdout  # fmt: skip
    for part in ("tranches of the loss", "expected loss by year", "at most 0.05: attach at", "losses by confidence level"):
        assert part in page
    assert "few paths: the tail at 99 % rests on fewer than 50 paths" in page
    lines = page.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("probability of loss at most 0.05: attach at"))
    assert any("few paths: the tail at" in line for line in lines[at + 1 : at + 3])  # 400 paths, 20 beyond
    assert "ES 99 %" in gpuloan_mc("convergence", saved).stdout
    page = gpuloan_mc("convergence", saved, "--seeds", 3, "--out", tmp_path / "sure").stdout
    assert "3 seeds of 400 paths" in page and "few paths: the tail at 99 %" in page
    assert (tmp_path / "sure" / "stability.parquet").is_file()


@pytest.mark.parametrize(
    "options, text",
    [
        (["--measure", "el"], "--measure and --max-paths go with --target-error"),
        (["--target-error", "much"], "--target-error is 'much'; it must be a share such as 1% or 0.01"),
        (["--target-error", "0%"], "target error is 0.0; it must lie between 0 and 1"),
        (["--target-error", "1%", "--measure", "mean"], "measure is 'mean'"),
        (["--target-error", "1%", "--paths", "10"], "give --max-paths instead of --paths"),
    ],
)
def test_targets_that_make_no_sense(options, text):
    assert text in gpuloan_mc("run", "vasicek-100", *options, code=2).stderr


def test_a_run_to_a_target_says_what_it_reached(tmp_path):
    command = ["run", "vasicek-100", "--measure", "el", "--max-paths", 40_000, "--json"]
    done = gpuloan_mc(*command, "--target-error", "4%")
    assert json.loads(done.stdout)["n_paths"] == 20_480
    assert re.search(r"el: error [\d.]+% of the figure .* after 20,480 paths; 4.000% was asked for", done.stderr)
    done = gpuloan_mc(*command, "--target-error", "0.1%", "--out", tmp_path / "out", code=6)
    assert json.loads(done.stdout)["target"]["reached"] is False
    assert "after all 40,000 paths; 0.100% needs more --max-paths" in done.stderr
    done = gpuloan_mc("verify", tmp_path / "out", "--sample", 3)
    assert re.search(r"[\d,]+ paths of 40,000 run again by engine numba: every integer agrees", done.stdout)


def test_a_folder_that_is_no_run_is_told(tmp_path):
    for command in ("resume", "verify"):
        assert "has no readable manifest.json; name a folder" in gpuloan_mc(command, tmp_path, code=2).stderr


def test_events_are_objects_for_machines(tmp_path, capsys, monkeypatch):
    out = tmp_path / "run"
    command = ["run", "vasicek-100", "--engine", "numpy", "--paths", "300", "--chunk", "100", "--out", str(out), "--json"]
    done = CliRunner().invoke(cli.cli, [*command, "--progress", "json"])
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert [e["event"] for e in events] == ["paths"] * 4 + ["done"]
    assert [e["paths"] for e in events[:-1]] == [0, 100, 200, 300]
    assert all(e["seconds"] >= 0 for e in events)
    refused = CliRunner().invoke(cli.cli, ["resume", str(tmp_path / "nothing"), "--progress", "json"])
    (event,) = [json.loads(line) for line in refused.stderr.splitlines()]
    assert (event["event"], event["exit_code"]) == ("stopped", 2)
    assert "is no folder" in event["text"]
