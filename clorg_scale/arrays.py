"""Taking what users hand in: embeddings and labels of any array library, checked once, never copied whole.

Every stage starts here. `as_embeddings` gives a 2-D array that can be read block by block, `row_block` turns
rows of it into the contiguous floats that kernels want, `encode_labels` turns labels of any kind into codes.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from clorg_scale.errors import InputError

__all__ = [
    "Array",
    "ClassLabels",
    "Device",
    "array_module",
    "as_embeddings",
    "available_memory",
    "column_means",
    "encode_labels",
    "parse_memory",
    "resolve_device",
    "row_block",
    "row_slices",
]

Array = Any
"""A NumPy array (memory maps included) or a CuPy array."""

Device = Literal["auto", "cpu", "cuda"]

UNLABELLED = -1
"""Label code of a point that belongs to no class."""

BLOCK_BYTES = 32 << 20
"""Bytes of one block where embeddings are read through once; large against a disk read, small against memory."""


@dataclass(frozen=True)
class ClassLabels:
    """Labels as codes.

    Attributes
    ----------
    codes
        (n,) int64, position of each point's class in `classes`; -1 where unlabelled.
    classes
        (C,) the class labels as handed in, sorted.
    """

    codes: npt.NDArray[np.int64]
    classes: npt.NDArray[Any]

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """(C,) points in each class."""
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self.classes)).astype(np.int64)


def array_module(*arrays: Array) -> ModuleType:
    """The array library of `arrays`: CuPy if any of them lives on a GPU, NumPy otherwise."""
    if any(type(array).__module__.partition(".")[0] == "cupy" for array in arrays):
        return importlib.import_module("cupy")
    return np


def resolve_device(device: Device = "auto") -> Literal["cpu", "cuda"]:
    """Choose where to compute.

    Parameters
    ----------
    device
        ``"auto"`` takes the GPU when CuPy sees one, the CPU otherwise.

    Raises
    ------
    InputError
        If ``"cuda"`` is asked for and no GPU can be used, or the name is unknown.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"device must be 'auto', 'cpu' or 'cuda', not {device!r}.")
    if device == "cpu":
        return "cpu"
    problem = _gpu_problem()
    if problem is None:
        return "cuda"
    if device == "cuda":
        raise InputError(
            f"device='cuda' was asked for, but {problem}; use device='cpu', or run 'clorg-scale doctor' to see what is missing."
        )
    return "cpu"


def _gpu_problem() -> str | None:
    """Why no GPU can be used, or None where one can."""
    if importlib.util.find_spec("cupy") is None:
        return "CuPy is not installed (pip install 'clorg-scale[cuda13]')"
    try:
        count = importlib.import_module("cupy").cuda.runtime.getDeviceCount()
    except Exception as error:  # CuPy raises its own classes, which cannot be named where it is absent
        return f"CuPy finds no usable GPU ({error})"
    return None if count else "no GPU was found"


def as_embeddings(embeddings: Any, *, name: str = "embeddings") -> Array:
    """Take embeddings of any array library as a 2-D array of real numbers, without copying them.

    Parameters
    ----------
    embeddings
        (n, d); NumPy arrays and memory maps of any real dtype, byte order and strides, torch tensors, CuPy
        arrays, anything with DLPack or ``__cuda_array_interface__``, data frames, nested lists.
    name
        What to call it in error sentences.

    Returns
    -------
    (n, d) NumPy or CuPy array that shares memory with the input wherever the libraries allow.

    Raises
    ------
    InputError
        If it is not two-dimensional, not numeric, or has fewer than 3 rows or no column.
    """
    array = _as_array(embeddings, name)
    if array.dtype == object:
        raise InputError(f"The {name} hold Python objects, not numbers; hand in a numeric (n, d) array.")
    if array.dtype.kind not in "fiub":
        raise InputError(f"The {name} have dtype {array.dtype}; real numbers are needed.")
    if array.ndim != 2:
        raise InputError(
            f"The {name} have shape {tuple(array.shape)}; two dimensions (points, features) are needed."
        )
    if array.shape[0] < 3 or array.shape[1] < 1:
        raise InputError(
            f"The {name} have shape {tuple(array.shape)}; at least 3 points with at least 1 feature are needed."
        )
    return array


def _as_array(data: Any, name: str) -> Array:
    """Any array-like as NumPy or CuPy, sharing memory where possible."""
    if isinstance(data, np.ndarray):
        return data
    if type(data).__module__.partition(".")[0] == "cupy":
        return data
    if hasattr(data, "__cuda_array_interface__"):
        return importlib.import_module("cupy").asarray(data)
    if type(data).__module__.partition(".")[0] == "torch":
        data = data.detach()
        return data.float().numpy() if "bfloat16" in str(data.dtype) else data.numpy()
    try:
        return np.asarray(data)
    except (ValueError, TypeError) as error:
        raise InputError(f"The {name} cannot be read as an array: {error}.") from error


def row_slices(
    n_rows: int, n_features: int, *, itemsize: int = 4, block_bytes: int = BLOCK_BYTES
) -> Iterator[slice]:
    """Cut `n_rows` into consecutive slices of about `block_bytes` each."""
    step = max(1, block_bytes // max(1, n_features * itemsize))
    for start in range(0, n_rows, step):
        yield slice(start, min(n_rows, start + step))


def row_block(
    embeddings: Array,
    rows: slice | npt.NDArray[np.integer[Any]],
    *,
    dtype: npt.DTypeLike = np.float32,
    mean: Array | None = None,
) -> Array:
    """Rows of the embeddings as contiguous floats.

    Parameters
    ----------
    embeddings
        (n, d) as `as_embeddings` returns.
    rows
        Slice or (b,) row numbers.
    dtype
        Float type of the result.
    mean
        (d,) float64, subtracted in float64 before the cast, so that an offset common to all points costs no
        digits in a lower precision.

    Returns
    -------
    (b, d) C-contiguous array of `dtype`, in native byte order.
    """
    xp = array_module(embeddings)
    block = embeddings[rows]
    if mean is None:
        return xp.ascontiguousarray(block, dtype=dtype)
    return xp.ascontiguousarray(block.astype(np.float64) - mean, dtype=dtype)


def column_means(embeddings: Array, *, name: str = "embeddings") -> Array:
    """Mean of every feature in float64, in one pass that also checks that all values are finite.

    Parameters
    ----------
    embeddings
        (n, d) as `as_embeddings` returns.

    Returns
    -------
    (d,) float64 of the same array library.

    Raises
    ------
    InputError
        If values are NaN or infinite; says how many rows, and which come first.
    """
    xp = array_module(embeddings)
    total = xp.zeros(embeddings.shape[1], dtype=np.float64)
    bad: list[int] = []
    n_bad = 0
    for rows in row_slices(*embeddings.shape, itemsize=8):
        block = embeddings[rows].astype(np.float64)
        sums = block.sum(axis=0)
        if not bool(xp.isfinite(sums).all()):
            wrong = xp.flatnonzero(~xp.isfinite(block).all(axis=1))
            n_bad += int(wrong.size)
            bad += [rows.start + int(row) for row in wrong[: 5 - len(bad)]]
        total += sums
    if n_bad:
        listed = ", ".join(map(str, bad)) + (", ..." if n_bad > len(bad) else "")
        raise InputError(
            f"The {name} hold NaN or infinite values in {n_bad} of {embeddings.shape[0]} rows (rows {listed}); "
            "remove or repair these rows."
        )
    return total / embeddings.shape[0]


def encode_labels(labels: Any, n_points: int, *, name: str = "labels") -> ClassLabels:
    """Class labels of any kind as codes.

    Parameters
    ----------
    labels
        (n,) integers, whole-numbered floats, booleans or strings; the integer -1 means unlabelled.
    n_points
        Number of embeddings they belong to.

    Raises
    ------
    InputError
        If the length differs, floats are not whole numbers, or fewer than two classes are there.
    """
    array = _as_array(labels, name)
    if array_module(array) is not np:
        array = array.get()
    if array.ndim == 2 and 1 in array.shape:
        array = array.reshape(-1)
    if array.ndim != 1 or len(array) != n_points:
        raise InputError(
            f"The {name} have shape {tuple(array.shape)}, but there are {n_points} embeddings; one label per row is needed."
        )
    if array.dtype == object:
        array = _object_labels(array, name)
    if array.dtype.kind == "f":
        whole = np.isfinite(array) & (array == np.floor(array))
        if not whole.all():
            first = int(np.flatnonzero(~whole)[0])
            raise InputError(
                f"The {name} are floats that are not whole numbers (the first is {array[first]} at row {first}); "
                "class labels must be integers or strings."
            )
        array = array.astype(np.int64)
    if array.dtype.kind not in "iubSU":
        raise InputError(f"The {name} have dtype {array.dtype}; class labels must be integers or strings.")
    classes, codes = np.unique(array, return_inverse=True)
    codes = codes.reshape(-1).astype(np.int64)
    if array.dtype.kind == "i" and len(classes) and classes[0] == UNLABELLED:
        classes, codes = classes[1:], codes - 1
    if len(classes) < 2:
        raise InputError(f"The {name} hold {len(classes)} class; at least two classes are needed.")
    return ClassLabels(codes, classes)


def _object_labels(array: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    """Python strings or integers out of an object array (a data-frame column)."""
    if all(isinstance(label, str) for label in array):
        return array.astype(str)
    if all(isinstance(label, (int, np.integer)) for label in array):
        return array.astype(np.int64)
    raise InputError(f"The {name} mix Python objects; class labels must be all integers or all strings.")


_UNITS = {
    "": 1,
    "k": 10**3,
    "m": 10**6,
    "g": 10**9,
    "t": 10**12,
    "ki": 2**10,
    "mi": 2**20,
    "gi": 2**30,
    "ti": 2**40,
}


def parse_memory(limit: str | int | None) -> int | None:
    """Bytes of a memory limit such as ``"8GB"``, ``"512MiB"`` or a number of bytes; None stays None.

    Raises
    ------
    InputError
        If it cannot be read as a positive amount of memory.
    """
    if limit is None:
        return None
    if isinstance(limit, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?\s*", limit.lower())
        if match is None:
            raise InputError(
                f"The memory limit {limit!r} is not an amount of memory; write for example '8GB'."
            )
        limit = int(float(match[1]) * _UNITS[match[2] or ""])
    if limit <= 0:
        raise InputError(f"The memory limit must be positive, not {limit}.")
    return limit


def available_memory() -> int:
    """Bytes of main memory that can be taken now."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:  # noqa: PTH123
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
