"""docs/reliability.md is written from the counts of the last run, and names tests that exist."""

from pathlib import Path

TESTS = Path(__file__).parents[1]


def test_the_page_is_written_from_the_counts(reliability):
    assert reliability.PAGE.read_text() == reliability.page()


def test_every_fault_has_its_counts_and_every_test_exists(reliability):
    assert set(reliability.counts()) == {name for *_, name in reliability.FAULTS}
    for test in [row[2] for row in reliability.FAULTS] + [row[1] for row in reliability.GUARANTEES]:
        file, _, name = test.partition("::")
        assert f"def {name}" in (TESTS / file).read_text(), test
