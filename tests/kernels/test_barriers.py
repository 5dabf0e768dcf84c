"""The emulated device shows a missing barrier: without it some order of threads gives other integers."""

from __future__ import annotations

import ctypes
import importlib.util
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gpuloan_mc.engines.numpy_reference import NumpyReference
from gpuloan_mc.planning import build_plan

HERE = Path(__file__).parent


def _module(path: Path) -> Any:
    name = f"kernels_{path.stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


DEVICE = _module(HERE / "test_emulated_device.py")
EMULATED, EQUALITY = DEVICE.EMULATED, DEVICE.EQUALITY
WALK = (EMULATED.KERNELS / "gpuloan" / "walk.cuh").read_text()
MONTH = WALK[WALK.index("void step_month") : WALK.index("void walk_path")]
BARRIERS = range(MONTH.count("w.team.sync();"))

pytestmark = pytest.mark.skipif(
    EMULATED.compiler() is None, reason="the emulated device is built by g++: there is none"
)


def without(barrier: int, folder: Path) -> Path:
    """The kernels without one of a month's barriers."""
    sources = folder / "kernels"
    shutil.copytree(EMULATED.KERNELS, sources)
    places = [m.start() for m in re.finditer(re.escape("w.team.sync();"), MONTH)]
    month = MONTH[: places[barrier]] + MONTH[places[barrier] + len("w.team.sync();") :]
    (sources / "gpuloan" / "walk.cuh").write_text(WALK.replace(MONTH, month))
    target = folder / "emulated.so"
    options = [o for o in EMULATED.OPTIONS if o != "-O2"] + (EMULATED.FMA if EMULATED.has_fma() else [])
    command = ["g++", "-O1", *options, f"-I{sources}", f"-I{HERE}", str(HERE / "emulated.cpp"), "-o", str(target)]
    subprocess.run(command, check=True)
    return target


@pytest.mark.slow
@pytest.mark.parametrize("barrier", BARRIERS)
def test_a_missing_barrier_shows(barrier, busy_book, tmp_path):
    world, portfolio = busy_book()
    # tenants too are watched month by month
    classes = [c.model_copy(update={"overhang_sensitivity": 0.5}) for c in world.hazard_classes]
    plan = build_plan(portfolio, world.model_copy(update={"hazard_classes": classes}))
    (tmp_path / "plan").write_bytes(pickle.dumps(plan))
    command = [sys.executable, __file__, str(without(barrier, tmp_path)), str(tmp_path / "plan")]
    done = subprocess.run(command, capture_output=True, text=True)
    # what was not written yet is garbage, as an index too: then it may end by a signal
    assert done.returncode < 0 or (done.returncode, done.stdout.strip()) == (0, "other integers"), done.stderr


def run_broken(library: str, plan_file: str) -> None:
    """Says whether some order of threads shows: in a process of its own."""
    plan = pickle.loads(Path(plan_file).read_bytes())
    expected = NumpyReference().run(plan, 7, 3, 60)
    found = []
    for kernel in ("8 lanes", "pair of 128"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(EMULATED, "library", lambda: ctypes.CDLL(library))
            for name, value in DEVICE.MAPPINGS[kernel].items():
                patch.setattr(DEVICE.cuda_mapping, name, value)
            found += [
                EQUALITY.differences(EMULATED.run_emulated(plan, 7, 3, 60, order=order), expected) for order in range(4)
            ]
    print("other integers" if any(found) else "the same")


if __name__ == "__main__":
    run_broken(*sys.argv[1:])
