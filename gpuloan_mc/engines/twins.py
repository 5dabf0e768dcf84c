"""Device twins: the path functions, rebuilt from their own source for a CUDA target.

A compiled path function belongs to numba's CPU target, which no CUDA target accepts. Its bytecode says nothing of a
target: what it calls stands in its globals. A twin is the same bytecode with other globals, where callees are their
twins, primitives the device's instructions, and `DEVICE` the target's module.
"""

from __future__ import annotations

from types import CodeType, FunctionType
from typing import Any

from ..paths import primitives
from .cuda_target import Target

DEVICE: Any = object()  # in the globals of kernels: stands for the module of the target, which is known at run time
_PRIMITIVES = ("fma", "float_bits", "bits_float")


class Twins:
    """The twins of one target; each function has one."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._made: dict[Any, Any] = {}
        self._places: list[tuple[Any, Any]] = [(DEVICE, target.cuda)]
        self._places += [(getattr(primitives, n), target.primitives[n]) for n in _PRIMITIVES if target.primitives]

    def kernel(self, function: Any, **options: Any) -> Any:
        """A kernel of the target; it returns nothing."""
        return self._target.cuda.jit(**options)(self._rebuilt(function))

    def of(self, function: Any) -> Any:
        """The device function that does what a path function, or a function of a kernel's module, does."""
        source = getattr(function, "py_func", function)
        if source not in self._made:
            self._made[source] = self._device(self._rebuilt(source))
        return self._made[source]

    def _device(self, function: FunctionType) -> Any:
        if not self._target.simulated:
            return self._target.cuda.jit(device=True)(function)
        # The simulator swaps its module into the globals at every call, which is slow: only where they hold it.
        uses_module = any(value is self._target.cuda for value in function.__globals__.values())
        return self._target.cuda.jit(device=True)(function) if uses_module else function

    def _rebuilt(self, function: FunctionType) -> FunctionType:
        """The same code over the globals that it names, each replaced by what it is on the device."""
        known = function.__globals__
        here = {name: self._replaced(known[name]) for name in sorted(_names(function.__code__)) if name in known}
        here |= {"__builtins__": known["__builtins__"], "__name__": function.__module__}
        rebuilt = FunctionType(function.__code__, here, function.__name__, function.__defaults__, function.__closure__)
        rebuilt.__module__, rebuilt.__doc__ = function.__module__, function.__doc__
        return rebuilt

    def _replaced(self, value: Any) -> Any:
        for place, device in self._places:
            if value is place:
                return device
        if any(value is getattr(primitives, name) for name in _PRIMITIVES):
            return value  # the simulator interprets their bodies
        return self.of(value) if isinstance(value, FunctionType) or hasattr(value, "py_func") else value


def _names(code: CodeType) -> set[str]:
    """Names that a function and the functions inside it look up."""
    inner = [_names(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return set(code.co_names).union(*inner)
