"""Training and test points of the probes, in one array: training points first."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays import Array, array_module, available_memory, row_slices

__all__ = ["ProbeSplit", "given_split", "held_out_split"]


@dataclass(frozen=True)
class ProbeSplit:
    """Points of the probes.

    Attributes
    ----------
    points
        (n_train + n_test, d), training points first.
    codes
        (n_train + n_test,) class codes, -1 where unlabelled.
    n_train
        Where the test points begin.
    """

    points: Array
    codes: npt.NDArray[np.int64]
    n_train: int


@contextmanager
def given_split(
    train: Array, codes: npt.NDArray[np.int64], test: Array, test_codes: npt.NDArray[np.int64]
) -> Iterator[ProbeSplit]:
    """The user's own test points behind the training points."""
    with _stacked([train, test], [None, None]) as points:
        yield ProbeSplit(points, np.concatenate([codes, test_codes]), len(train))


@contextmanager
def held_out_split(
    embeddings: Array, codes: npt.NDArray[np.int64], *, fraction: float, seed: int
) -> Iterator[ProbeSplit]:
    """A stratified share of the labelled points held out as test points; the unlabelled ones are training points."""
    from clorg_scale.probes.splits import stratified_hold_out

    _, test = stratified_hold_out(codes, fraction, np.random.default_rng(seed))
    kept = np.ones(len(codes), dtype=bool)
    kept[test] = False
    train = np.flatnonzero(kept)
    with _stacked([embeddings, embeddings], [train, test]) as points:
        yield ProbeSplit(points, codes[np.concatenate([train, test])], len(train))


@contextmanager
def _stacked(parts: list[Array], rows: list[npt.NDArray[np.int64] | None]) -> Iterator[Array]:
    """Rows of several arrays in one: in memory, or in a temporary memory map where they would take half of it."""
    xp = array_module(*parts)
    dtype = np.result_type(*(part.dtype for part in parts)).newbyteorder("=")
    chosen = [np.arange(len(part)) if some is None else some for part, some in zip(parts, rows, strict=True)]
    shape = (sum(map(len, chosen)), parts[0].shape[1])
    if xp is not np or np.prod(shape) * dtype.itemsize < available_memory() // 2:
        yield _fill(xp.empty(shape, dtype), parts, chosen)
        return
    with tempfile.TemporaryDirectory(prefix="clorg-scale-") as folder:
        yield _fill(np.lib.format.open_memmap(Path(folder) / "points.npy", "w+", dtype, shape), parts, chosen)


def _fill(stacked: Array, parts: list[Array], chosen: list[npt.NDArray[Any]]) -> Array:
    """Copy the rows block by block; parts in main memory too where the whole is on a GPU."""
    xp = array_module(stacked)
    start = 0
    for part, rows in zip(parts, chosen, strict=True):
        for block in row_slices(len(rows), part.shape[1], itemsize=part.dtype.itemsize):
            taken = rows[block]
            stacked[start : start + len(taken)] = xp.asarray(part[taken])
            start += len(taken)
    return stacked
