"""Damaged books: cut off, bits flipped, in another encoding, too deep, too long. Each is refused in sentences, soon."""

import random
import re
import resource
import shutil
import subprocess
import sys
import time

import pandas as pd
import pytest

from gpuloan_mc.errors import InputRejected
from gpuloan_mc.example import write_example
from gpuloan_mc.portfolio import Portfolio

pytestmark = pytest.mark.faults
SECONDS = 2.0
TRUNCATED, FLIPPED, OF_CSV, OF_TOML = 64, 200, 24, 12


@pytest.fixture(scope="module")
def books(tmp_path_factory):
    """A book with CSV tapes, and the same with Parquet."""
    csv, parquet = (tmp_path_factory.mktemp(name) / "book" for name in ("csv", "parquet"))
    write_example(csv, n_loans=30, seed=2)
    shutil.copytree(csv, parquet)
    for tape in parquet.glob("*.csv"):
        pd.read_csv(tape).to_parquet(tape.with_suffix(".parquet"), index=False)
        tape.unlink()
    for book in (csv, parquet):
        Portfolio.read(book)
    return csv, parquet


def refused(book, file, data):
    """Whether the book with the file's bytes replaced is refused; it must be within the time, and in sentences."""
    before = file.read_bytes()
    file.write_bytes(data)
    start = time.perf_counter()
    try:
        Portfolio.read(book)
        return False  # a number that is another, perhaps: nothing is wrong with the file
    except InputRejected as problem:
        # another tape is named where the damaged one lacks what it refers to
        assert re.search(r"\w+\.(parquet|csv|toml)", str(problem)), str(problem)
        return True
    finally:
        assert time.perf_counter() - start < SECONDS
        file.write_bytes(before)


def test_damaged_tapes_are_refused_in_sentences(books, record):
    csv, parquet = books
    chance = random.Random(8)
    tapes = sorted(parquet.glob("*.parquet"))
    found = {"truncated": 0, "flipped": 0, "csv": 0}
    for i in range(TRUNCATED):
        tape = tapes[i % len(tapes)]
        data = tape.read_bytes()
        found["truncated"] += refused(parquet, tape, data[: len(data) * i // TRUNCATED])
    for i in range(FLIPPED):
        tape = tapes[i % len(tapes)]
        data = bytearray(tape.read_bytes())
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        found["flipped"] += refused(parquet, tape, data)
    tapes = sorted(csv.glob("*.csv"))
    for i in range(OF_CSV):
        tape = tapes[i % len(tapes)]
        data = tape.read_bytes()
        text = data.decode()
        damaged = (
            data[: data.rfind(b",", 0, len(data) * (i + 1) // (OF_CSV + 1))],  # cut in the middle of a line
            text.replace(",", "," + "x" * 10**6, 1).encode(),
            text.encode("utf-16"),
            text.encode("utf-32"),
            b"\xff\xfe\xfd" + data,
            text.replace(",", ",\x00", 1).encode(),
        )[i % 6]
        found["csv"] += refused(csv, tape, damaged)
    assert found["truncated"] == TRUNCATED
    assert found["csv"] == OF_CSV
    # the others are well-formed files with another number in them, or the bit lies in nothing that is read
    assert found["flipped"] > FLIPPED // 4
    record("damaged inputs", files=TRUNCATED + FLIPPED + OF_CSV + OF_TOML, refused=sum(found.values()) + OF_TOML)


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
