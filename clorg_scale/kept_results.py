"""Large results of a stage that stay where they were computed until the next stage takes them.

On a cluster that is the worker, which spills them to its disk where they exceed its memory; a worker that is lost takes
them with it, and Dask computes them again. In one process they are in memory, and beyond `IN_MEMORY` in a temporary
file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from math import prod
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from clorg_scale.distributed import Map, WorkerMap

__all__ = ["Kept", "hand_over", "map_keeping", "with_kept"]

IN_MEMORY = 256 << 20
"""Bytes of kept arrays that one process has in memory."""


Kept = Any
"""Reference to a kept array or a value handed over: a future of Dask, the value, or a position in a temporary file."""

WithKept = tuple[Any, ...]
"""A chunk, and what stands for values that were kept or handed over; tasks are called with a tuple of the values."""


def hand_over(ordered_map: Map, value: Any) -> Kept:
    """Give the tasks of several stages a value that goes to each worker once."""
    return ordered_map.hand_over(value) if isinstance(ordered_map, WorkerMap) else value


def map_keeping(ordered_map: Map, task: Callable[[Any], Any], chunks: Iterable[WithKept]) -> Iterator[tuple[Any, Kept]]:
    """Apply a task that returns a result and an array; yield results, and what stands for arrays, in order."""
    if isinstance(ordered_map, WorkerMap):
        yield from ordered_map.keeping(task, chunks)
        return
    spill = _Spill()
    for result, array in ordered_map(task, map(_values, chunks)):
        yield result, spill.put(array)


def with_kept(ordered_map: Map, task: Callable[[Any], Any], chunks: Iterable[WithKept]) -> Iterable[Any]:
    """Results of a task, in order."""
    if isinstance(ordered_map, WorkerMap):
        results: Iterable[Any] = ordered_map.with_kept(task, chunks)
        return results
    return ordered_map(task, map(_values, chunks))


def _values(chunk: WithKept) -> tuple[Any, ...]:
    return tuple(kept.read() if isinstance(kept, _InFile) else kept for kept in chunk)


class _InFile(NamedTuple):
    """An array in a temporary file."""

    file: Any
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def read(self) -> npt.NDArray[Any]:
        """Read it."""
        self.file.seek(self.offset)
        return np.fromfile(self.file, self.dtype, prod(self.shape)).reshape(self.shape)


class _Spill:
    """Keeps arrays in memory up to a size, then in a file that goes with the last of them."""

    def __init__(self) -> None:
        self.in_memory, self._file = 0, cast("Any", None)

    def put(self, array: npt.NDArray[Any]) -> Kept:
        """Keep an array."""
        if self.in_memory + array.nbytes <= IN_MEMORY:
            self.in_memory += array.nbytes
            return array
        if self._file is None:
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  closed with the last reference
        offset = self._file.seek(0, 2)
        np.ascontiguousarray(array).tofile(self._file)
        return _InFile(self._file, offset, array.shape, array.dtype)
