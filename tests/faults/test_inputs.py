"""Damaged books: cut off, bits flipped, in another encoding, too deep, too long. Each is refused in sentences, soon."""

import resource
import shutil
import subprocess
import sys

import pandas as pd
import pytest

from .damage import damaged_tapes, refused

pytestmark = pytest.mark.faults
TRUNCATED, FLIPPED, OF_CSV, OF_TOML = 64, 200, 24, 12


def test_damaged_tapes_are_refused_in_sentences(books, record):
    found = damaged_tapes(books, TRUNCATED, FLIPPED, OF_CSV, seed=8)
    files = TRUNCATED + FLIPPED + OF_CSV + OF_TOML
    record("damaged inputs", files=files, refused=sum(found.values()) + OF_TOML)


@pytest.mark.parametrize("i", range(OF_TOML))
def test_damaged_markets_are_refused_in_sentences(books, i):
    file = books[0] / "market.toml"
    text = file.read_text()
    damaged = (
        text[: len(text) // 3],
        "a = " + "[" * 200_000 + "]" * 200_000,
        "a" + ".a" * 100_000 + " = 1",
        "a = " + "{b = " * 10_000 + "1" + "}" * 10_000,
        "[a" + "]\n[a" * 20_000 + "]",
        'x = "' + "y" * (2**20 + 1) + '"',
        "x = 1e999999999",
        "x = " + "9" * 100_000,
        "\x00" * 1000,
        text + "\nhorizon_months = 12\nhorizon_months = 13",
        text.encode("utf-16").decode("latin-1"),
        text + "\n[no_such_part]\nx = 1",
    )[i]
    assert refused(books[0], file, damaged.encode())


def test_a_bomb_takes_no_memory(tmp_path, books):
    """Gigabytes of zeros in a few bytes: refused within a GiB."""
    book = tmp_path / "book"
    shutil.copytree(books[1], book)
    rows = 1_900_000
    zeros = pd.DataFrame({f"c{i}": pd.Series(0.0, index=range(rows)) for i in range(26)})
    zeros.insert(0, "loan_id", "A" * 500)
    zeros.to_parquet(book / "loans.parquet", index=False, compression="zstd")
    assert (book / "loans.parquet").stat().st_size < 2**20

    def limited():
        resource.setrlimit(resource.RLIMIT_DATA, (2**30, 2**30))

    command = [sys.executable, "-c", "from gpuloan_mc.cli import main; main()", "check", str(book)]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limited, timeout=60)
    assert done.returncode == 3, done.stderr
    assert "loans.parquet" in done.stderr
    assert "Traceback" not in done.stderr
