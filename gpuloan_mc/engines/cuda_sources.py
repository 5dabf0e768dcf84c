"""The CUDA kernels' sources, and our own step from them to machine code: NVRTC through cuda.bindings.

CuPy's compile step is not used: it flushes subnormals to zero whatever it is told, and its cache does not see changed
headers. Ours states every option that can change a bit, needs neither driver nor GPU, and keeps the code by a digest of
sources, options, architecture and NVRTC's version.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from ..errors import EnvironmentProblem
from .code_cache import CACHE, code_folder, keep

ENTRY = "simulate.cu"
OPTIONS = (
    "-std=c++17",
    "-fmad=false",  # a product meets a sum in an explicit fmaf or not at all
    "-ftz=false",  # stated, though they are the compiler's own choice
    "-prec-div=true",
    "-prec-sqrt=true",
    "-default-device",  # functions of the headers need no mark of their own
    "-Xptxas=-v",  # registers and spills in the log
)
OLDEST = (7, 5)  # compute capability
TEGRA = (87, 101, 110)  # boards whose code no other GPU runs: Orin and Thor, which CUDA 12 counts as 10.1
_REPAIR = "pip install --upgrade 'gpuloan-mc[cuda13]', or [cuda12] for a driver that does not know CUDA 13"


@dataclass(frozen=True, slots=True)
class Code:
    """Machine code or PTX, and what the compiler had to say."""

    data: bytes
    log: str


@dataclass(frozen=True, slots=True)
class Cubin:
    """Machine code in a file, and what it took to get it."""

    path: Path
    seconds: float
    was_cached: bool


class Nvrtc:
    """NVIDIA's run-time compiler.

    Raises:
        EnvironmentProblem: cuda.bindings or its library is missing or broken.
    """

    def __init__(self) -> None:
        try:
            from cuda.bindings import nvrtc

            self._nvrtc: Any = nvrtc
            self.version: tuple[int, int] = self._call(nvrtc.nvrtcVersion())
            self.architectures: tuple[int, ...] = tuple(self._call(nvrtc.nvrtcGetSupportedArchs()))
        except Exception as error:  # the package, its library or the library's version: each fails in its own way
            raise EnvironmentProblem(
                f"engine cuda: NVRTC, CUDA's compiler, can't be loaded ({type(error).__name__}: {_first_line(error)}). "
                f"Install it with: {_REPAIR}."
            ) from error

    def compile(self, source: str, name: str, options: tuple[str, ...], form: Literal["cubin", "ptx"]) -> Code:
        """Compile a source.

        Raises:
            EnvironmentProblem: it does not compile; the text has the compiler's log.
        """
        nvrtc = self._nvrtc
        program = self._call(nvrtc.nvrtcCreateProgram(source.encode(), name.encode(), 0, [], []))
        try:
            (status,) = nvrtc.nvrtcCompileProgram(program, len(options), [o.encode() for o in options])
            log = self._text(program, nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog).decode().rstrip("\0\n")
            if int(status) != 0:
                raise EnvironmentProblem(
                    f"engine cuda: NVRTC {dotted(self.version)} can't compile {name} ({status.name}):\n{log[:4000]}\n"
                    f"Please report it. {WAY_OUT}"
                )
            if form == "ptx":
                return Code(self._text(program, nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX).rstrip(b"\0"), log)
            return Code(self._text(program, nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN), log)
        finally:
            nvrtc.nvrtcDestroyProgram(program)

    @staticmethod
    def _call(answer: tuple[Any, ...]) -> Any:
        """What a call gave besides its status."""
        status, *values = answer
        if int(status) != 0:
            raise RuntimeError(status.name)
        return tuple(values) if len(values) != 1 else values[0]

    def _text(self, program: Any, size_of: Any, read: Any) -> bytes:
        text = bytes(self._call(size_of(program)))
        self._call(read(program, text))
        return text


WAY_OUT = "Engine 'numba' (--engine numba) gives the same figures."


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:300]


def dotted(version: tuple[int, ...]) -> str:
    """A version as people write it."""
    return ".".join(map(str, version))


@cache
def nvrtc() -> Nvrtc:
    """NVRTC, loaded once.

    Raises:
        EnvironmentProblem: it is missing or broken.
    """
    return Nvrtc()


# --- sources ----------------------------------------------------------------------------------------------------------


def kernel_root() -> Path:
    """The folder of the CUDA sources: in an installed package, or in a checkout.

    Raises:
        EnvironmentProblem: neither has them.
    """
    package = Path(__file__).parent.parent
    for folder in (package / "kernels", package.parent / "kernels"):
        if (folder / ENTRY).is_file():
            return folder
    raise EnvironmentProblem(
        f"engine cuda: the CUDA sources are missing from this installation ({package}). "
        f"Install it again with: pip install --force-reinstall --no-deps gpuloan-mc. {WAY_OUT}"
    )


def sources() -> dict[str, str]:
    """The sources by path below the root."""
    root = kernel_root()
    files = sorted(file for pattern in ("*.cu", "**/*.cuh") for file in root.glob(pattern))
    return {file.relative_to(root).as_posix(): file.read_text(encoding="utf-8") for file in files}


def architecture(capability: tuple[int, int], known: tuple[int, ...]) -> str | None:
    """The newest architecture known to the compiler whose code this compute capability runs, as in sm_90; or None.

    A later minor number runs the code of an earlier one, except to and from the boards of `TEGRA`.
    """
    major, minor = capability
    own = 10 * major + minor
    if own in known or own in TEGRA:
        fitting = [a for a in known if a == own]
    else:
        fitting = [a for a in known if a // 10 == major and a < own and a not in TEGRA]
    return f"sm_{max(fitting)}" if fitting and capability >= OLDEST else None


# --- compiling --------------------------------------------------------------------------------------------------------


def compile_kernels(target: str, form: Literal["cubin", "ptx"] = "cubin") -> Code:
    """The kernels compiled for an architecture such as sm_90, with the options that runs use. Nothing is cached.

    Raises:
        EnvironmentProblem: NVRTC is missing, or they do not compile.
    """
    root = kernel_root()
    gpu = target if form == "cubin" else target.replace("sm_", "compute_")
    options = (*OPTIONS, f"-arch={gpu}", f"-I{root}")
    return nvrtc().compile((root / ENTRY).read_text(encoding="utf-8"), ENTRY, options, form)


def key(target: str) -> str:
    """Digest of what the machine code depends on: sources, options, architecture and NVRTC's version."""
    sha = hashlib.sha256()
    for name, text in sources().items():
        sha.update(f"{name} {len(text)}\n{text}".encode())
    sha.update("\n".join((*OPTIONS, target, dotted(nvrtc().version))).encode())
    return sha.hexdigest()[:20]


def cubin(target: str) -> Cubin:
    """The kernels' machine code for an architecture, from the cache or compiled now.

    Raises:
        EnvironmentProblem: NVRTC is missing, they do not compile, or no folder can be written.
    """
    start = time.perf_counter()
    folder = code_folder(key(target))
    if folder is None:
        raise EnvironmentProblem(
            f"engine cuda: no folder can be written for compiled kernels. Name one in ${CACHE}. {WAY_OUT}"
        )
    file = folder / f"kernels.{target}.cubin"
    was_cached = file.is_file()
    if not was_cached and not keep(file, compile_kernels(target).data):
        raise EnvironmentProblem(
            f"engine cuda: {file} can't be written. Free some space or name another folder in ${CACHE}. {WAY_OUT}"
        )
    return Cubin(file, time.perf_counter() - start, was_cached)
