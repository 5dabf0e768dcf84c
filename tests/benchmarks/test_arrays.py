"""The array program on arrays of another library: nothing in it is NumPy's own, so CuPy can take NumPy's place.

The arrays here are as strict as a GPU's: NumPy's functions work on them, and mixing them with NumPy's own is an error.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.lib.mixins import NDArrayOperatorsMixin

from gpuloan_mc.planning import build_plan

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def arrays(monkeypatch):
    """The array program as a module."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import arrays

    return arrays



class StrictArray(NDArrayOperatorsMixin):
    """Holds an ndarray; NumPy's functions work on it, mixing it with an ndarray is an error, so is reading it unasked."""

    def __init__(self, array):
        self._array = np.asarray(array)

    def __array_ufunc__(self, ufunc, method, *inputs, out=(), **kwargs):
        if method != "__call__" or ufunc.__name__ not in dir(np):  # CuPy knows NumPy's own functions by their names
            return NotImplemented
        given = tuple(_inner(x) for x in inputs)
        found = ufunc(*given, **kwargs, **({"out": tuple(map(_inner, out))} if out else {}))
        return out[0] if out else _wrapped(found)

    def __array_function__(self, function, types, args, kwargs):
        if function is np.concatenate:
            args = ([_inner(x) for x in args[0]], *args[1:])
        kwargs = {key: None if key == "like" else _inner(value) for key, value in kwargs.items()}
        return _wrapped(function(*(_inner(x) for x in args), **kwargs))

    def __array__(self, *_, **__):
        raise TypeError("an array of the device becomes NumPy's only when it is asked to")

    def __getitem__(self, place):
        return _wrapped(self._array[_places(place)])

    def __setitem__(self, place, value):
        self._array[_places(place)] = _inner(value)

    def __iter__(self):
        return (_wrapped(x) for x in self._array)

    def __len__(self):
        return len(self._array)

    def __bool__(self):
        return bool(self._array)

    def __int__(self):
        return int(self._array)

    @property
    def T(self):
        return StrictArray(self._array.T)

    def __getattr__(self, name):
        if name in ("shape", "size", "dtype", "ndim"):
            return getattr(self._array, name)
        if name in ("sum", "any", "max", "min", "astype", "reshape"):
            method = getattr(self._array, name)
            return lambda *args, **kwargs: _wrapped(method(*map(_inner, args), **{k: _inner(v) for k, v in kwargs.items()}))
        raise AttributeError(name)


def _inner(value):
    if isinstance(value, StrictArray):
        return value._array
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError("an array of NumPy's meets one of the device")
    return value


def _places(place):
    return tuple(map(_inner, place)) if isinstance(place, tuple) else _inner(place)


def _wrapped(found):
    if isinstance(found, tuple):
        return tuple(map(_wrapped, found))
    return StrictArray(found) if isinstance(found, (np.ndarray, np.generic)) else found


class StrictGenerator:
    """NumPy's generator with arrays of the device."""

    def __init__(self, generator):
        self._generator = generator

    def random(self, *args):
        return StrictArray(self._generator.random(*args))

    def standard_normal(self, *args):
        return StrictArray(self._generator.standard_normal(*args))


class StrictSpecial:
    """scipy.special on the device."""

    def __getattr__(self, name):
        import scipy.special

        return lambda x: StrictArray(getattr(scipy.special, name)(_inner(x)))


def strict(library):
    """A library whose arrays live apart from NumPy's."""
    return type(library)(
        asarray=StrictArray,
        generators=lambda seed, n: [StrictGenerator(g) for g in library.generators(seed, n)],
        special=StrictSpecial(),
        values=library.values,
        to_host=lambda array: array._array,
    )


def books():
    """Plans by name."""
    import cases
    import device_tasks

    yield "gpu", build_plan(*device_tasks.gpu_book(40, 30))
    yield "plain, own loadings", build_plan(*device_tasks.plain_book(60, False))
    yield "plain, in groups", build_plan(*device_tasks.plain_book(60, True))
    yield "plain, one loading", build_plan(*cases.pool(60))


def test_it_runs_on_arrays_of_another_library(arrays):
    library = arrays.numpy_library()
    for name, plan in books():
        for method in ("normals", "uniforms"):
            ours = arrays.run(plan, 500, seed=4, library=strict(library), method=method)
            theirs = arrays.run(plan, 500, seed=4, library=library, method=method)
            assert theirs.defaults.any(), name
            np.testing.assert_array_equal(ours.defaults, theirs.defaults)
            np.testing.assert_array_equal(ours.losses, theirs.losses)


def test_mixing_arrays_is_seen():
    with pytest.raises(TypeError, match="meets one of the device"):
        np.add(StrictArray(np.ones(2)), np.ones(2))
    with pytest.raises(TypeError, match="only when it is asked"):
        np.asarray(StrictArray(np.ones(2)))
