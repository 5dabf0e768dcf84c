"""The command line as its user meets it."""

import json
import subprocess
import sys
import time

import pytest

from gpuloan_mc.inputs.books import bundled_books


def gpuloan_mc(*arguments, code=0):
    done = subprocess.run(
        [sys.executable, "-m", "gpuloan_mc.cli", *map(str, arguments)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done


def test_help_is_quick_and_imports_nothing_heavy():
    times = []
    for _ in range(5):
        start = time.perf_counter()
        gpuloan_mc("--help")
        times.append(time.perf_counter() - start)
    assert min(times) < 0.4
    code = "import sys, gpuloan_mc.cli; print([m for m in ('numpy', 'pandas', 'scipy', 'pydantic', 'rich') if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


def test_run_json_is_one_object_and_repeats():
    one, other = (
        json.loads(gpuloan_mc("run", "vasicek-100", "--paths", 500, "--json", "--chunk", c).stdout) for c in (7, 500)
    )
    assert one["digest"] == other["digest"]
    assert one["n_paths"] == 500
    assert one["engine"] == "numpy"


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


def test_prices_by_generation():
    found = json.loads(gpuloan_mc("prices", "neocloud-2024", "--paths", 300, "--json").stdout)
    assert list(found) == ["contract", "spot", "chip_value"]
    low, middle, high = found["contract"]["H100"]["12"]
    assert low < middle < high
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
