"""A stand-in for CuPy without a GPU, made of NumPy: its rules for arrays, and CUDA kernels run by a serial shim.

`DeviceArray` is no NumPy array and refuses to mix with one, as CuPy's arrays do. What CuPy 14 lacks (`repeat` with an
array, sorts that are not stable, `maximum.at` for int64) is refused too. Speed, streams, and whatever happens between
threads are not imitated.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
import tempfile
import types
from functools import cache
from pathlib import Path

import numpy as np
from clorg_scale.kernels import graph

FILES = ["symmetrize", "label_modularity", "class_matches", "sample_neighbors", "pair_keys"]
SHIM = Path(__file__).with_name("cuda_shim.h")


RAPIDS = ("cuvs", "pylibcugraph", "cugraph", "cudf", "rmm", "pylibraft")
"""Libraries that take CuPy's arrays by their address on a GPU: they cannot read those of its stand-in."""


class Shim:
    """Kernels of one file as functions of NumPy arrays and Python numbers."""

    def __init__(self, name: str, index: str, folder: Path) -> None:
        kernels = re.findall(r'extern "C" __global__ void (\w+)\(([^)]*)\)', graph.source(name))
        wrappers = []
        for kernel, parameters in kernels:
            names = ", ".join(part.split()[-1].lstrip("*") for part in parameters.split(","))
            wrappers.append(
                f'extern "C" void run_{kernel}(unsigned blocks, unsigned threads, {parameters}) '
                f"{{ launch(blocks, threads, {kernel}, {names}); }}"
            )
        text = f'#define INDEX {index}\n#include "{SHIM}"\n{graph.source(name)}\n' + "\n".join(wrappers)
        program, library = folder / f"{name}.cpp", folder / f"{name}.so"
        program.write_text(text)
        subprocess.run(
            [
                "g++",
                "-O1",
                "-std=c++17",
                "-ffp-contract=off",
                "-shared",
                "-fPIC",
                "-fsanitize=undefined",
                "-fno-sanitize-recover",
                "-o",
                str(library),
                str(program),
            ],
            check=True,
        )
        self.library = ctypes.CDLL(str(library))
        self.types = {kernel: [part.split() for part in p.split(",")] for kernel, p in kernels}

    def __call__(self, kernel, *arguments, blocks=3, threads=4):
        converted = []
        for argument, words in zip(arguments, self.types[kernel], strict=True):
            if isinstance(argument, np.ndarray):
                assert argument.flags.c_contiguous
                converted.append(argument.ctypes.data_as(ctypes.c_void_p))
            elif "unsigned" in words:
                converted.append(ctypes.c_ulonglong(argument))
            else:
                converted.append((ctypes.c_longlong if "long" in words else ctypes.c_int)(argument))
        getattr(self.library, f"run_{kernel}")(blocks, threads, *converted)


@cache
def folder():
    """Holds compiled kernels until the process ends."""
    return tempfile.TemporaryDirectory(prefix="serial-cupy-")


@cache
def compiled(name, index):
    """Kernels of a file for one index type, compiled once a process."""
    return Shim(name, index, Path(tempfile.mkdtemp(dir=folder().name)))


def host(array):
    """NumPy's array of an array of either kind."""
    return array if isinstance(array, np.ndarray) else array.get()


def unwrapped(value):
    """NumPy's view of what an operation is given; host arrays are refused, as by CuPy."""
    if isinstance(value, DeviceArray):
        return value.host
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    if isinstance(value, (tuple, list)):
        return type(value)(unwrapped(part) for part in value)
    return value


def wrapped(value):
    """Results on the device; reductions give arrays without axes, not numbers."""
    if isinstance(value, tuple):
        return tuple(wrapped(part) for part in value)
    return DeviceArray(np.asarray(value)) if isinstance(value, (np.ndarray, np.generic)) else value


def checked(name, function):
    """One of NumPy's functions or methods, on device arrays."""

    def call(*args, **kwargs):
        if kwargs.get("kind") not in (None, "stable"):
            raise ValueError("kind can only be None or 'stable'")
        if name == "repeat" and isinstance(args[-1], DeviceArray):
            raise ValueError("cupy.ndaray cannot be specified as `repeats` argument.")
        if name == "lexsort" and not isinstance(args[0], DeviceArray):
            raise AttributeError("'tuple' object has no attribute 'ndim'")
        if name == "bincount" and args[0].host.size and not isinstance(kwargs.get("weights", args[0]), DeviceArray):
            raise TypeError("weights must be a cupy.ndarray")
        return wrapped(function(*unwrapped(args), **{key: unwrapped(value) for key, value in kwargs.items()}))

    return call


class DeviceArray(np.lib.mixins.NDArrayOperatorsMixin):
    """An array that only its own kind and `get` can read."""

    __module__ = "cupy"

    def __init__(self, host):
        self.host = host

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        if method == "at" and (ufunc is not np.maximum or inputs[0].dtype == np.int64):
            raise TypeError(f"cupy.{ufunc.__name__}.at does not support this")
        outs = kwargs.get("out", ())
        result = getattr(ufunc, method)(*unwrapped(inputs), **{key: unwrapped(value) for key, value in kwargs.items()})
        return outs[0] if outs else wrapped(result)

    def __array__(self, *args, **kwargs):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        found = getattr(self.host, name)
        return checked(name, found) if callable(found) else wrapped(found) if isinstance(found, np.ndarray) else found

    def __getitem__(self, key):
        return wrapped(self.host[DeviceArray._index(key)])

    def __setitem__(self, key, value):
        self.host[DeviceArray._index(key)] = unwrapped(value)

    @staticmethod
    def _index(key):
        """CuPy takes host arrays as indices."""
        parts = key if isinstance(key, tuple) else (key,)
        parts = tuple(part.host if isinstance(part, DeviceArray) else part for part in parts)
        return parts if isinstance(key, tuple) else parts[0]

    def __len__(self):
        return len(self.host)

    def __iter__(self):
        return (wrapped(part) for part in self.host)

    def __bool__(self):
        return bool(self.host)

    def __int__(self):
        return int(self.host)

    def __float__(self):
        return float(self.host)

    def __index__(self):
        return self.host.__index__()

    def get(self):
        """A copy in main memory."""
        return np.array(self.host)


def on_device(make):
    """A function that makes device arrays of anything, host arrays too."""

    def call(data, *args, **kwargs):
        return DeviceArray(make(data.host if isinstance(data, DeviceArray) else data, *args, **kwargs))

    return call


class At:
    """A ufunc that scatters."""

    def __init__(self, ufunc):
        self.ufunc = ufunc

    def __call__(self, *args, **kwargs):
        return checked(self.ufunc.__name__, self.ufunc)(*args, **kwargs)

    def at(self, array, indices, values=None):
        array.__array_ufunc__(self.ufunc, "at", array, indices, values)


def serial_cupy():
    """A module to be imported as CuPy; g++ compiles its kernels when they are asked for."""

    class RawModule:
        def __init__(self, code, options):
            name = next(name for name in FILES if graph.source(name) == code)
            (define,) = (option for option in options if option.startswith("-DINDEX="))
            self.shim = compiled(name, define.partition("=")[2])

        def get_function(self, kernel):
            def run(grid, block, arguments):
                module.launched.append(kernel)
                assert all(isinstance(argument, (DeviceArray, np.generic)) for argument in arguments)
                self.shim(kernel, *map(unwrapped, arguments), blocks=grid[0], threads=block[0])

            return run

    module = types.ModuleType("cupy")
    module.launched = []
    module.RawModule, module.ndarray = RawModule, DeviceArray
    module.asnumpy = lambda array: array.get()
    for name in ("zeros", "empty", "ones", "full", "arange", "asarray", "array", "ascontiguousarray"):
        setattr(module, name, on_device(getattr(np, name)))
    module.maximum = At(np.maximum)

    def other(name):
        found = getattr(np, name)
        return checked(name, found) if callable(found) and not isinstance(found, type) else found

    module.__getattr__ = other
    return module


def hide_rapids(monkeypatch):
    """Make every import of a library of RAPIDS fail, as where it is not installed."""
    for name in list(sys.modules):
        if name.partition(".")[0] in RAPIDS:
            monkeypatch.delitem(sys.modules, name)
    for name in RAPIDS:
        monkeypatch.setitem(sys.modules, name, None)
