"""Numbers that were found before are the same numbers, or are found again."""

import os
import shutil

import numpy as np
import pytest

from gpuloan_mc import doctor, kept_numbers, pilot, risk, tables
from gpuloan_mc.engines import code_cache
from gpuloan_mc.frames import DISTRIBUTION_LEVELS
from gpuloan_mc.planning import build_market, build_plan


@pytest.fixture
def store(monkeypatch, tmp_path):
    """The folder of kept numbers, empty."""
    monkeypatch.setattr(kept_numbers, "places", lambda: iter([tmp_path]))
    return tmp_path / kept_numbers.FOLDER


class Finder:
    """A way to find numbers that counts how often it was gone."""

    def __init__(self, numbers):
        self.numbers, self.calls = np.asarray(numbers), 0

    def __call__(self):
        self.calls += 1
        return self.numbers.copy()

    def kept(self, *arguments):
        return kept_numbers.kept("test", arguments, self.numbers.shape, self.numbers.dtype, self)


NUMBERS = [
    np.array([0.1, -0.0, 5e-324, np.nextafter(1, 2)]),
    np.linspace(0, 1, 12, dtype=np.float32).reshape(2, 6),
    np.array([[2**62 + 1, -3]], dtype=np.int64),
    np.zeros((0, 3)),
    np.float64(0.3),
]


@pytest.mark.parametrize("numbers", NUMBERS, ids=lambda n: f"{n.dtype}{n.shape}")
def test_what_is_read_is_what_was_found(store, numbers):
    find = Finder(numbers)
    first, second = find.kept(1, "a"), find.kept(1, "a")
    assert find.calls == 1
    for found in (first, second):
        assert (found.dtype, found.shape, found.tobytes()) == (numbers.dtype, numbers.shape, numbers.tobytes())
        assert not found.flags.writeable
    assert len(os.listdir(store)) == 1


def test_every_argument_the_name_and_the_ground_count(store, monkeypatch):
    find = Finder([1.0])
    for i, arguments in enumerate([(1,), (2,), (1, None), ("1",), (b"1",), (1.0,), (1.0000000000000002,)], start=1):
        find.kept(*arguments)
        assert find.calls == i
    kept_numbers.kept("other", (1,), (1,), np.float64, find)
    assert find.calls == 8
    monkeypatch.setattr(kept_numbers, "ground", lambda: "other sources")
    find.kept(1)
    assert find.calls == 9


def test_the_ground_is_that_of_sources_packages_and_machine(monkeypatch):
    package = os.path.dirname(kept_numbers.__file__)
    assert all(any(kept_numbers.Path(package).glob(pattern)) for pattern in kept_numbers._SOURCES)
    ground = kept_numbers.ground.__wrapped__
    grounds = {ground(), ground()}
    assert len(grounds) == 1
    monkeypatch.setattr(kept_numbers, "processor", lambda: "another")
    grounds.add(ground())
    monkeypatch.setattr(kept_numbers.np, "__version__", "9.9")
    grounds.add(ground())
    monkeypatch.setattr(kept_numbers, "_SOURCES", ("pilot.py",))
    grounds.add(ground())
    monkeypatch.setattr(kept_numbers.importlib.metadata, "version", lambda _: "9.9")
    grounds.add(ground())
    assert len(grounds) == 5


DAMAGE = {
    "empty": lambda data: b"",
    "truncated": lambda data: data[:-1],
    "longer": lambda data: data + b"\0",
    "a bit of the content": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "a bit of the seal": lambda data: bytes([data[0] ^ 1]) + data[1:],
    "zeros": lambda data: bytes(len(data)),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_found_again(store, damage):
    find = Finder([0.25, 0.5])
    find.kept()
    (file,) = store.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert find.kept().tolist() == [0.25, 0.5]
    assert find.calls == 2
    assert file.read_bytes() == whole


def test_a_file_under_another_name_is_found_again(store):
    find, other = Finder([1.0]), Finder([2.0])
    find.kept("mine")
    (mine,) = store.iterdir()
    other.kept("other")
    (foreign,) = set(store.iterdir()) - {mine}
    shutil.copy(foreign, mine)
    assert find.kept("mine") == 1.0
    assert find.calls == 2


def test_a_folder_in_a_files_place_is_no_number(store):
    find = Finder([1.0])
    find.kept()
    (file,) = store.iterdir()
    file.unlink()
    file.mkdir()
    assert find.kept() == 1.0


def test_numbers_are_found_each_time_where_nothing_can_be_written(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.undo()
    monkeypatch.setenv(code_cache.CACHE, str(tmp_path / "file"))
    find = Finder([1.0])
    assert [*find.kept(), *find.kept()] == [1.0, 1.0]
    assert find.calls == 2
    assert kept_numbers.folder() is None


def test_doctor_shows_the_folder(store, monkeypatch):
    Finder([1.0]).kept()
    assert doctor._numbers_line() == f"numbers found before: {store}, 1 files"
    monkeypatch.setattr(kept_numbers, "places", lambda: iter(()))
    assert "no folder can be written" in doctor._numbers_line()


def test_a_second_place_is_read_and_written_where_the_first_cannot_be(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(kept_numbers, "places", lambda: iter([tmp_path / "file", tmp_path / "second"]))
    find = Finder([1.0])
    find.kept()
    find.kept()
    assert find.calls == 1
    assert kept_numbers.folder() == tmp_path / "second" / kept_numbers.FOLDER


def test_what_is_not_finite_or_too_long_is_not_kept(store):
    endless, long = Finder([np.inf]), Finder(np.zeros(kept_numbers.MOST_BYTES // 8 + 1))
    for find in (endless, long):
        assert np.array_equal(find.kept(), find.kept())
        assert find.calls == 2
    assert not store.exists()


def test_numbers_of_another_shape_or_kind_are_refused(store):
    with pytest.raises(TypeError, match=r"float64 \(1,\) was found; float64 \(2,\) was expected"):
        kept_numbers.kept("test", (), (2,), np.float64, Finder([1.0]))
    with pytest.raises(TypeError, match="float32"):
        kept_numbers.kept("test", (), (1,), np.float32, Finder([1.0]))


def test_the_oldest_files_go_when_there_are_too_many(store, monkeypatch):
    monkeypatch.setattr(kept_numbers, "MOST_FILES", 8)
    monkeypatch.setattr(kept_numbers, "_LEFT", 5)
    find = Finder([1.0])
    for i in range(9):
        find.kept(i)
        for file in store.iterdir():
            os.utime(file, ns=(file.stat().st_mtime_ns - 10**9,) * 2)
    assert len(list(store.iterdir())) == 5
    calls = find.calls
    for i in range(4, 9):
        find.kept(i)
    assert find.calls == calls
    find.kept(0)
    assert find.calls == calls + 1


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_a_plan_of_kept_numbers_is_the_plan(store, monkeypatch, busy_book):
    world, portfolio = busy_book()
    pilot._kept.clear()
    first = build_plan(portfolio, world)
    files = {file.name for file in store.iterdir()}
    pilot._kept.clear()
    with monkeypatch.context() as patch:
        patch.setattr(pilot, "demand_path", None)
        patch.setattr(tables, "tabulate", None)
        second = build_plan(portfolio, world)
    assert second.digest == first.digest
    assert {file.name for file in store.iterdir()} == files
    shutil.rmtree(store)
    monkeypatch.undo()
    pilot._kept.clear()
    assert build_plan(portfolio, world).digest == first.digest


def test_another_market_has_other_hazards(store, busy_book):
    world, _ = busy_book()

    def hazards(market):
        return pilot.matched_hazards(market, build_market(market, [], sells_chips=False))

    classes = world.hazard_classes
    markets = [
        world,
        world.replace(demand=world.demand.replace(volatility=0.31)),
        world.replace(regimes=world.regimes.replace(transitions=[[0, 0.5], [0.9, 0]])),
        world.replace(horizon_months=29),
        world.replace(hazard_classes=[classes[0].replace(demand_sensitivity=1.01), *classes[1:]]),
        world.replace(gpu=world.gpu.replace(overhang=world.gpu.overhang.replace(absorption=1.1))),
    ]
    known = 0
    for market in markets:
        pilot._kept.clear()
        found = hazards(market)
        files = len(list(store.iterdir()))
        assert files > known or market is markets[-1]  # its calendar is empty: no chips press on anybody
        known = files
        pilot._kept.clear()
        assert hazards(market).tobytes() == found.tobytes()
        assert len(list(store.iterdir())) == known


def test_many_tables_are_those_of_each(store):
    kinds = [(0.4, 0.1), (0.6, 0.2), (0.5, 0.0)]
    each = np.stack([tables.score_table(tables.beta_score, *kind) for kind in kinds])
    for _ in range(2):
        assert tables.score_tables(tables.beta_score, kinds).tobytes() == each.tobytes()
    assert len(list(store.iterdir())) == len(kinds) + 1


@pytest.mark.parametrize("n", [1, 2, 60, 5000])
def test_intervals_of_many_levels_are_those_of_each(store, n):
    losses = np.arange(n) * 7
    each = [risk.value_at_risk_interval(losses, level) for level in DISTRIBUTION_LEVELS]
    for _ in range(2):
        assert risk.value_at_risk_intervals(losses, DISTRIBUTION_LEVELS) == each
    assert len(list(store.iterdir())) == 1
