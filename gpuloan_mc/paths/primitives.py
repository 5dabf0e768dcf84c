"""What depends on the target: fused multiply-add, bits of a float, root, rounding, and how a path function is compiled.

Each has a plain Python body for the interpreter and becomes one instruction when compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils, errors
from numba.extending import intrinsic, overload

from ..reference import arithmetic as reference

F = TypeVar("F", bound=Callable[..., Any])


def path_function(function: F) -> F:
    """Compile a function of scalars.

    NumPy's error model: Python's keeps a branch for division by zero, and a loop that calls it stays scalar.
    """
    return njit(error_model="numpy", no_cfunc_wrapper=True)(function)  # type: ignore[no-any-return]


def lane_function(function: F) -> F:
    """A path function that loops over lanes call: always inlined, for a call keeps a loop scalar."""
    return njit(error_model="numpy", forceinline=True, no_cfunc_wrapper=True)(function)  # type: ignore[no-any-return]


def fma(a: np.float32, b: np.float32, c: np.float32) -> np.float32:
    """a·b + c rounded once."""
    return np.float32(reference.fma(a, b, c))


def float_bits(x: np.float32) -> np.int32:
    """The 32 bits of a float32 as an integer."""
    return np.float32(x).view(np.int32)


def bits_float(bits: np.int32) -> np.float32:
    """The float32 of these 32 bits."""
    return np.int32(bits).view(np.float32)


@path_function
def square_root(x: np.float32) -> np.float32:
    """Correctly rounded."""
    return np.sqrt(x)  # type: ignore[no-any-return]


@path_function
def round_up(x: np.float32) -> np.float32:
    """The least whole number that is not below x."""
    return np.ceil(x)  # type: ignore[no-any-return]


@path_function
def nearest(x: np.float64) -> np.float64:
    """The nearest whole number, ties to even."""
    return np.rint(x)  # type: ignore[no-any-return]


def lowest_byte(bytes_: np.uint64) -> int:
    """Place of the lowest byte that is not 0, of a number that is not 0."""
    number = int(bytes_)
    return ((number & -number).bit_length() - 1) >> 3


def prefetch(rows: Any, row: Any, column: Any) -> None:
    """Ask for the cache line of an entry of a matrix, or of a vector, whose row is 0; changes nothing."""


@intrinsic
def _prefetch(typingctx: Any, address: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], ir.IntType(8).as_pointer())
        i32 = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, i32, i32, i32])
        function = builder.module.declare_intrinsic("llvm.prefetch", [pointer.type], kind)
        builder.call(function, [pointer, i32(1), i32(3), i32(1)])  # to write, to every cache, data
        return context.get_dummy_value()

    return types.void(types.intp), codegen


@overload(prefetch)
def _compiled_prefetch(rows: Any, row: Any, column: Any) -> Any:
    size = rows.dtype.bitwidth // 8

    def of_matrix(rows: Any, row: Any, column: Any) -> Any:
        _prefetch(rows.ctypes.data + (row * rows.shape[1] + column) * size)

    def of_vector(rows: Any, row: Any, column: Any) -> Any:
        _prefetch(rows.ctypes.data + np.int64(column) * size)

    return of_vector if rows.ndim == 1 else of_matrix


@intrinsic
def _trailing_zeros(typingctx: Any, x: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.cttz(args[0], cgutils.true_bit)

    return types.uint64(types.uint64), codegen


@overload(lowest_byte)
def _compiled_lowest_byte(bytes_: Any) -> Any:
    def body(bytes_: Any) -> Any:
        return np.int64(_trailing_zeros(bytes_) >> np.uint64(3))

    return body


@intrinsic
def _fused(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    if (a, b, c) != (types.float32,) * 3:
        raise errors.NumbaTypeError(f"fma takes three float32, not {a}, {b}, {c}")
    signature = types.float32(types.float32, types.float32, types.float32)
    return signature, lambda context, builder, sig, args: builder.fma(*args)


def _reinterpreted(source: Any, target: Any) -> Any:
    @intrinsic
    def reinterpret(typingctx: Any, x: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return builder.bitcast(args[0], context.get_value_type(target))

        return target(source), codegen

    return reinterpret


_bits_of = _reinterpreted(types.float32, types.int32)
_float_of = _reinterpreted(types.int32, types.float32)


@overload(fma)
def _compiled_fma(a: Any, b: Any, c: Any) -> Any:
    def body(a: Any, b: Any, c: Any) -> Any:
        return _fused(a, b, c)

    return body


@overload(float_bits)
def _compiled_float_bits(x: Any) -> Any:
    def body(x: Any) -> Any:
        return _bits_of(x)

    return body


@overload(bits_float)
def _compiled_bits_float(bits: Any) -> Any:
    def body(bits: Any) -> Any:
        return _float_of(bits)

    return body
