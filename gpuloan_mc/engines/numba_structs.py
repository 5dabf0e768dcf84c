"""Named arrays passed to compiled code as one pointer.

numba passes a named tuple of arrays as seven values an array, in every call: a hundred arrays made the engine take
minutes to compile. A Struct is a table of addresses and shapes; `struct.field` in compiled code reads it.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.core.datamodel.registry import register_default
from numba.core.pythonapi import NativeValue, unbox
from numba.core.typing.templates import AttributeTemplate
from numba.core.typing.typeof import typeof_impl
from numba.extending import infer_getattr, lower_getattr_generic
from numba.np import numpy_support
from numba.np.arrayobj import make_array, populate_array

_WORD = 8  # bytes of a place in the table


class Struct:
    """A named tuple of contiguous arrays, scalars and Structs, as compiled code reads it. Keeps them alive."""

    def __init__(self, values: Any) -> None:
        self.values = values
        fields: list[Any] = []
        words: list[int] = []
        for name, value in values._asdict().items():
            kind, entry = _entry(value)
            fields.append((name, len(words), kind))
            words += entry
        self.schema = tuple(fields)
        self.name = type(values).__name__
        self.table = np.array(words, dtype=np.int64)
        self.numba_type = StructType(self.name, self.schema)  # asked for at every call

    @property
    def address(self) -> int:
        """Where the table lies."""
        return int(self.table.ctypes.data)


def _entry(value: Any) -> tuple[Any, list[int]]:
    """Kind of a field, and its words: address and shape of an array, a scalar's bits, the address of a Struct."""
    if isinstance(value, Struct):
        return ("struct", value.name, value.schema), [value.address]
    if isinstance(value, np.ndarray):
        if not value.flags.c_contiguous:
            raise ValueError("a Struct holds contiguous arrays only")
        return ("array", value.dtype.str, value.ndim, value.flags.writeable), [int(value.ctypes.data), *value.shape]
    bits = np.zeros(1, np.int64)
    bits.view(value.dtype)[0] = value
    return ("scalar", value.dtype.str), [int(bits[0])]


class StructType(types.Type):
    """Type of a Struct with these fields: (name, place in the table, kind)."""

    def __init__(self, name: str, schema: Any) -> None:
        self.schema = schema
        self.places = {field: (place, kind) for field, place, kind in schema}
        digest = hashlib.sha256(repr(schema).encode()).hexdigest()[:8]
        super().__init__(name=f"Struct({name}.{digest})")

    @property
    def key(self) -> Any:
        """Equal fields: equal types."""
        return self.name

    def type_of(self, kind: Any) -> Any:
        """The numba type of a field."""
        if kind[0] == "struct":
            return StructType(kind[1], kind[2])
        scalar = numpy_support.from_dtype(np.dtype(kind[1]))
        return scalar if kind[0] == "scalar" else types.Array(scalar, kind[2], "C", readonly=not kind[3])


@register_default(StructType)
class _StructModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, ir.IntType(64).as_pointer())


@typeof_impl.register(Struct)
def _typeof(value: Struct, c: Any) -> StructType:
    return value.numba_type


@unbox(StructType)
def _unbox(typ: StructType, obj: Any, c: Any) -> NativeValue:
    address = c.pyapi.object_getattr_string(obj, "address")
    number = c.pyapi.long_as_longlong(address)
    c.pyapi.decref(address)
    return NativeValue(c.builder.inttoptr(number, ir.IntType(64).as_pointer()))


@infer_getattr
class _StructAttributes(AttributeTemplate):  # type: ignore[misc]
    key = StructType

    def generic_resolve(self, typ: StructType, attr: str) -> Any:
        return typ.type_of(typ.places[attr][1]) if attr in typ.places else None


@lower_getattr_generic(StructType)
def _get(context: Any, builder: Any, typ: StructType, table: Any, attr: str) -> Any:
    place, kind = typ.places[attr]
    field = typ.type_of(kind)
    words = ir.IntType(64)

    def constant(pointer: Any) -> Any:
        # nothing writes to a table while compiled code runs: LLVM need not read it again after each store
        value = builder.load(pointer)
        value.set_metadata("invariant.load", builder.module.add_metadata([]))
        return value

    def word(k: int) -> Any:
        return constant(builder.gep(table, [ir.Constant(words, place + k)]))

    if kind[0] == "struct":
        return builder.inttoptr(word(0), words.as_pointer())
    if kind[0] == "scalar":
        pointer = builder.gep(table, [ir.Constant(words, place)])
        return constant(builder.bitcast(pointer, context.get_value_type(field).as_pointer()))
    shape = [word(1 + k) for k in range(field.ndim)]
    itemsize = np.dtype(kind[1]).itemsize
    strides = [ir.Constant(words, itemsize)]
    for length in reversed(shape[1:]):
        strides.insert(0, builder.mul(strides[0], length))
    array = make_array(field)(context, builder)
    data = builder.inttoptr(word(0), context.get_value_type(field.dtype).as_pointer())
    populate_array(
        array,
        data=data,
        shape=cgutils.pack_array(builder, shape, words),
        strides=cgutils.pack_array(builder, strides, words),
        itemsize=ir.Constant(words, itemsize),
        meminfo=None,  # the Struct keeps the memory: nothing is counted
    )
    return array._getvalue()
