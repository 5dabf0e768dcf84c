"""Compiled code that calls other compiled code by its address, so that neither waits for the other to be compiled."""

from __future__ import annotations

from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

MONTHS_NUMBERS = (types.uint64, types.int64, types.int64, types.int64)  # seed, quad, low, high of `run_months`


@intrinsic  # type: ignore[untyped-decorator]
def call_months(
    typing: Any, address: Any, book: Any, work: Any, paths: Any, seed: Any, quad: Any, low: Any, high: Any
) -> Any:
    """Call the `run_months` that lies at `address`, compiled for these structs and `MONTHS_NUMBERS`."""
    kinds = (book, work, paths, *MONTHS_NUMBERS)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = context.call_conv.get_function_type(types.none, kinds)
        function = builder.inttoptr(arguments[0], kind.as_pointer())
        status, _ = context.call_conv.call_function(builder, function, types.none, kinds, arguments[1:])
        with cgutils.if_unlikely(builder, status.is_error):
            context.call_conv.return_status_propagate(builder, status)
        return context.get_dummy_value()

    return types.none(types.int64, *kinds), generate
