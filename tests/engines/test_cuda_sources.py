"""Our NVRTC step: options, cache and messages. It needs cuda.bindings and NVRTC, but neither a driver nor a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import gpuloan_mc
from gpuloan_mc.engines import code_cache, cuda_sources
from gpuloan_mc.errors import EnvironmentProblem

SOURCE = """#include "gpuloan/part.cuh"
extern "C" __global__ void f(float* a, const float* b) { a[threadIdx.x] = part(a[threadIdx.x], b[threadIdx.x]); }
"""
HEADER = "inline float part(float a, float b) { return a * b + 1.0f; }\n"


@pytest.fixture
def kernels(monkeypatch, tmp_path):
    """A folder of small sources in the place of the package's, and a cache of its own."""
    pytest.importorskip("cuda.bindings.nvrtc", reason="cuda-bindings is not installed")
    root = tmp_path / "kernels with a space"
    (root / "gpuloan").mkdir(parents=True)
    (root / "simulate.cu").write_text(SOURCE)
    (root / "gpuloan" / "part.cuh").write_text(HEADER)
    monkeypatch.setattr(cuda_sources, "kernel_root", lambda: root)
    monkeypatch.setenv(code_cache.CACHE, str(tmp_path / "cache"))
    return root


def test_the_sources_are_found_in_a_checkout_and_in_a_wheel(monkeypatch, tmp_path):
    package = tmp_path / "gpuloan_mc"
    monkeypatch.setattr(cuda_sources, "__file__", str(package / "engines" / "cuda_sources.py"))
    with pytest.raises(EnvironmentProblem, match=r"sources are missing.*pip install --force-reinstall"):
        cuda_sources.kernel_root()
    for folder in (tmp_path / "kernels", package / "kernels"):  # the wheel's own come first
        folder.mkdir(parents=True)
        (folder / "simulate.cu").write_text("")
        assert cuda_sources.kernel_root() == folder


@pytest.mark.parametrize("target", ["sm_75", "sm_80", "sm_90", "sm_100", "sm_120"])
def test_the_log_holds_registers_and_nothing_else(kernels, target):
    code = cuda_sources.compile_kernels(target)
    assert code.data[:4] == b"\x7fELF"
    assert all(line.startswith("ptxas") for line in code.log.splitlines())
    assert "0 bytes spill stores" in code.log


def test_nothing_is_contracted_or_flushed(kernels):
    code = cuda_sources.compile_kernels("sm_90", "ptx")
    text = code.data.decode()
    assert code.log == ""
    assert "mul.rn.f32" in text or "mul.f32" in text
    assert "fma" not in text
    assert ".ftz" not in text


def test_code_is_kept_by_what_it_depends_on(kernels, monkeypatch):
    first = cuda_sources.cubin("sm_90")
    again = cuda_sources.cubin("sm_90")
    assert (first.was_cached, again.was_cached) == (False, True)
    assert again.path == first.path
    assert cuda_sources.cubin("sm_80").path != first.path
    (kernels / "gpuloan" / "part.cuh").write_text(HEADER + "\n")
    changed = cuda_sources.cubin("sm_90")
    assert not changed.was_cached
    assert changed.path.parent != first.path.parent
    monkeypatch.setattr(cuda_sources, "OPTIONS", (*cuda_sources.OPTIONS, "-DX"))
    assert cuda_sources.cubin("sm_90").path.parent not in (first.path.parent, changed.path.parent)


def test_sources_that_do_not_compile_show_the_log(kernels):
    (kernels / "gpuloan" / "part.cuh").write_text("inline float part(float a, float b) { return c; }\n")
    with pytest.raises(EnvironmentProblem, match=r"NVRTC [\d.]+ can't compile simulate.cu") as caught:
        cuda_sources.cubin("sm_90")
    assert 'identifier "c" is undefined' in str(caught.value)


def test_an_architecture_that_nvrtc_does_not_know_is_an_error(kernels):
    with pytest.raises(EnvironmentProblem, match="can't compile"):
        cuda_sources.compile_kernels("sm_30")


def test_no_folder_for_code_is_an_error_with_a_way_out(kernels, monkeypatch):
    monkeypatch.setattr(cuda_sources, "code_folder", lambda key: None)
    with pytest.raises(EnvironmentProblem, match=r"no folder can be written.*\$GPULOAN_MC_CACHE"):
        cuda_sources.cubin("sm_90")


def test_a_full_disk_is_an_error_with_a_way_out(kernels, monkeypatch):
    monkeypatch.setattr(cuda_sources, "keep", lambda file, data: False)
    with pytest.raises(EnvironmentProblem, match=r"can't be written. Free some space"):
        cuda_sources.cubin("sm_90")


def test_a_missing_compiler_is_an_error_with_a_way_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(EnvironmentProblem, match=r"NVRTC, CUDA's compiler, can't be loaded .*pip install --upgrade"):
        cuda_sources.Nvrtc()


def test_code_is_whole_or_not_there(tmp_path):
    assert code_cache.keep(tmp_path / "a", b"one")
    assert code_cache.keep(tmp_path / "a", b"two")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a", b"two")]
    assert not code_cache.keep(tmp_path / "missing" / "a", b"one")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="rights of files are POSIX's")
def test_others_may_read_the_code_of_a_shared_folder(tmp_path):
    before = os.umask(0o022)
    try:
        assert code_cache.keep(tmp_path / "a", b"one")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


def test_eight_processes_fill_a_cold_cache_at_once(kernels, tmp_path):
    code = (
        "import pathlib, sys; from gpuloan_mc.engines import cuda_sources; root = pathlib.Path(sys.argv[1]);"
        "cuda_sources.kernel_root = lambda: root; print(len(cuda_sources.cubin('sm_90').path.read_bytes()))"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(gpuloan_mc.__file__).parent.parent)}
    command = [sys.executable, "-P", "-W", "error", "-c", code, str(kernels)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(8)]
    sizes = {process.communicate()[0] for process in running}
    assert [process.returncode for process in running] == [0] * 8
    assert len(sizes) == 1
    (folder,) = (tmp_path / "cache").iterdir()
    assert [file.name for file in folder.iterdir()] == ["kernels.sm_90.cubin"]
