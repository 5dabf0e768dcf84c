"""Counts of machine code: what is counted is what is there, and the headers' functions stay as short as they are."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpuloan_mc.engines import cuda_sources
from gpuloan_mc.errors import EnvironmentProblem

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def sass() -> Any:
    """The script as a module, where its tools are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        module = importlib.import_module("sass")
        try:
            module.cuda_sources.nvrtc()
            importlib.import_module("disassembly").nvdisasm()
        except (EnvironmentProblem, module.NoDisassembler) as missing:
            pytest.skip(str(missing))
        yield module


@pytest.fixture(scope="module")
def functions(sass):
    """Kernels around single functions, and their sizes."""
    return sass.kernels_of(sass.FUNCTIONS, "functions.cu", "sm_90")


def code(kernel: Any) -> list[tuple[str, str]]:
    return [(i.predicate + i.operation, i.operands) for i in kernel.instructions]


def test_line_numbers_change_no_instruction(sass, functions):
    options = (*cuda_sources.OPTIONS, "-arch=sm_90", f"-I{sass.KERNELS}")
    plain = sass.disassembled(cuda_sources.nvrtc().compile(sass.FUNCTIONS, "functions.cu", options, "cubin").data)
    assert {name: code(kernel) for name, kernel in plain.items()} == {n: code(k) for n, k in functions[0].items()}


# Slots and cycles of the half-rate pipe that NVRTC 13 needs, a few more allowed: a division or a comparison that comes
# back where there was none is seen.
BUDGETS = {"exp": (18, 10), "log": (24, 12), "normal": (62, 28), "at_score": (19, 14), "pay": (20, 16), "philox": (66, 84),
           "normal_cdf": (68, 26), "threshold": (24, 14)}  # fmt: skip


@pytest.mark.parametrize("name", BUDGETS)
def test_a_function_stays_short(name, sass, functions):
    kernels, sizes = functions
    cost = sass.of_headers(kernels[f"of_{name}"], sass.Weights(sass.RATES, {}))
    slots, alu = BUDGETS[name]
    assert (0.7 * slots, 0.7 * alu) <= (cost.slots, cost.alu)
    assert cost.slots <= slots and cost.alu <= alu, cost
    assert sizes[f"of_{name}"].spilled_bytes == 0 and sizes[f"of_{name}"].registers > 0


def test_the_months_are_a_loop_and_its_parts_are_named(sass, functions):
    kernel = functions[0]["of_months"]
    assert len(kernel.loops) == 1
    parts = sass.split(kernel, sass.Weights({}, {}))
    (loop,) = (part for name, part in parts.items() if name.startswith("loop"))
    assert {"pay", "is_short", "entry"} <= loop.keys()
    assert sum(cost.slots for part in parts.values() for cost in part.values()) == kernel.called
    assert sass.total(loop.values()).wavefronts == 4  # one row of a month's table


def test_rates_of_lanes_and_of_gathered_lanes(sass, functions):
    def slots(rates: dict[str, float], dense: dict[str, float]) -> float:
        return sass.of_headers(functions[0]["of_normal"], sass.Weights(rates, dense)).slots

    always, never = slots({}, {}), slots({"quantile_tail": 0.0}, {})
    assert never < always
    assert slots({"quantile_tail": 0.0034}, {}) == pytest.approx(never + (always - never) * (1 - 0.9966**32))
    assert slots({}, {"quantile_tail": 0.25}) == pytest.approx(never + (always - never) * 0.25)


def test_a_loop_whose_rare_part_lies_behind_it():
    """A branch back from code behind the loop belongs to the loop."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        disassembly = importlib.import_module("disassembly")
    text = "\n".join(
        [".text.k:", "/*0000*/ MOV R1, RZ ;", ".L_x_1:", "/*0010*/ FADD R1, R1, 1 ;", "/*0020*/ @P1 BRA `(.L_x_3) ;",
         ".L_x_2:", "/*0030*/ @P0 BRA `(.L_x_1) ;", "/*0040*/ EXIT ;", ".L_x_3:", "/*0050*/ FMUL R1, R1, 2 ;",
         "/*0060*/ BRA `(.L_x_2) ;", ".L_x_4:", "/*0070*/ BRA `(.L_x_4);", "/*0080*/ NOP;"]
    )  # fmt: skip
    kernel = disassembly.parsed(text)["k"]
    assert [i.operation for i in kernel.instructions] == "MOV FADD BRA BRA EXIT FMUL BRA".split()
    (loop,) = kernel.loops
    assert loop.head == 1 and loop.body == {1, 2, 3, 5, 6}
    assert kernel.innermost(4) is None and kernel.innermost(5) == loop
    assert kernel.always(loop) == {1, 2, 3} and kernel.before(6) == {0, 1, 2, 5, 6}
    assert kernel.together() == [[range(0, 1), range(4, 5)], [range(1, 3), range(3, 4)], [range(5, 7)]]


def test_the_script_says_what_it_counts(sass, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(
        "sys.argv", ["sass.py", "--json", str(tmp_path / "counts.json"), "--rate", "quantile_tail=0.01"]
    )
    assert sass.main() == 0
    out = capsys.readouterr().out
    assert "of_philox" in out and "loop at" in out and "quantile_tail': 0.01" in out
    told = json.loads((tmp_path / "counts.json").read_text())
    assert told["cost"]["of_months"] and told["sizes"]["of_pay"]["spilled_bytes"] == 0


def test_without_tools_it_says_which(sass, monkeypatch, capsys):
    def missing() -> str:
        raise sass.NoDisassembler("nvdisasm is not installed: pip install nvidia-cuda-nvdisasm")

    monkeypatch.setattr("disassembly.nvdisasm", missing)
    monkeypatch.setattr("sys.argv", ["sass.py"])
    assert sass.main() == 4
    assert "pip install" in capsys.readouterr().err


@pytest.fixture(scope="module")
def all_in(sass):
    """The script as a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        return importlib.import_module("all_in")


def test_warps_that_events_fill(all_in):
    assert all_in.warps_of(1e-6) == pytest.approx(2e-6, rel=1e-4)  # of either path
    assert all_in.warps_of(3) == pytest.approx(1 - np.exp(-6), abs=1e-6)  # 17 of them never come
    largest = 600 + (600 / np.pi) ** 0.5  # of two paths
    assert all_in.warps_of(600) == pytest.approx(largest / 16 + 15 / 32, abs=0.05)  # the last warp is half full


@pytest.mark.slow
def test_a_month_of_a_loan_stays_short(all_in, capsys):
    if shutil.which("g++") is None:
        pytest.skip("issues are counted with g++: there is none")
    assert all_in.main() == 0
    table, _, rest = capsys.readouterr().out.partition("\nexecuted: ")
    told = {line[:28].strip(): [float(x) for x in line[28:].split()] for line in table.splitlines()[3:]}
    assert all_in.PHASES.keys() < told.keys() and told["once a path"][0] > 2
    (least, executed, most), loop = told["all-in"], told["pay_loans, its loop"]
    assert 55 < loop[0] <= 62.5 and loop[0] < least < 83 and most < 117
    assert loop[0] < loop[1] < 64 and least < executed < 111
    assert float(rest.split()[0]) > 90  # % of it placed by its own line
    assert 4.5 < float(rest.split()[-1]) < 5.5  # events, % of loan-months


def test_without_a_compiler_it_says_so(all_in, monkeypatch, capsys):
    def missing(*_: Any) -> None:
        raise all_in.issues.NoCompiler("g++ is not installed")

    monkeypatch.setattr(all_in.sass, "kernels_of", lambda *_: ({}, {}))
    monkeypatch.setattr(all_in, "all_in", lambda _: {})
    monkeypatch.setattr(all_in, "executed", missing)
    assert all_in.main() == 4
    assert capsys.readouterr().err == "g++ is not installed\n"


def test_lines_are_told_by_statement_and_by_what_is_written_out(all_in):
    text = (all_in.sass.KERNELS / "gpuloan" / "credit.cuh").read_text().splitlines()
    called = next(n for n, line in enumerate(text, 1) if "normal(w), common_part(" in line)
    assert all_in.issues.statement_of("credit.cuh", called) == called - 1
    assert all_in.issues.statement_of("credit.cuh", called - 1) == called - 1
    text = (all_in.sass.KERNELS / "gpuloan" / "philox.cuh").read_text().splitlines()
    rounds = next(n for n, line in enumerate(text, 1) if "number < 10" in line)
    assert all_in.issues.written_out("philox.cuh") == {rounds}
    assert all_in.issues.is_loop("philox.cuh", rounds) and not all_in.issues.is_loop("credit.cuh", called)
