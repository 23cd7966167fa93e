"""Training and test points of the probes, in one array: training points first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays import Array, array_module, row_slices
from clorg_scale.arrays.spool import gather_blocks

__all__ = ["ProbeSplit", "given_split", "held_out_split", "stacked"]


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
        Number of training points: the row of the first test point.
    order
        (n_train + n_test,) rows of the analysis that these are; None where the test points are others.
    """

    points: Array
    codes: npt.NDArray[np.int64]
    n_train: int
    order: npt.NDArray[np.int64] | None = None


def given_split(
    train: Array, codes: npt.NDArray[np.int64], test: Array, test_codes: npt.NDArray[np.int64]
) -> ProbeSplit:
    """Put the user's own test points after the training points."""
    return ProbeSplit(stacked(train, test), np.concatenate([codes, test_codes]), len(train))


def stacked(first: Array, second: Array) -> Array:
    """Rows of one array followed by those of another; in an unnamed file where they are large."""
    return _stacked([first, second], [np.arange(len(first)), np.arange(len(second))])


def held_out_split(embeddings: Array, codes: npt.NDArray[np.int64], *, fraction: float, seed: int) -> ProbeSplit:
    """Hold out a stratified share of the labeled points as test points; the unlabelled ones are training points."""
    from clorg_scale.probes.splits import stratified_hold_out

    _, test = stratified_hold_out(codes, fraction, np.random.default_rng(seed))
    kept = np.ones(len(codes), dtype=bool)
    kept[test] = False
    train = np.flatnonzero(kept)
    points = _stacked([embeddings, embeddings], [train, test])
    order = np.concatenate([train, test])
    return ProbeSplit(points, codes[order], len(train), order)


def _stacked(arrays: list[Array], chosen: list[npt.NDArray[np.int64]]) -> Array:
    """Stack rows of several arrays; an array that is large against the free memory lies in an unnamed file."""
    dtype = np.result_type(*(array.dtype for array in arrays)).newbyteorder("=")
    shape = (sum(map(len, chosen)), arrays[0].shape[1])
    xp = array_module(*arrays)
    if xp is np:
        return gather_blocks(_blocks(arrays, chosen), shape, dtype)
    stacked, start = xp.empty(shape, dtype), 0
    for block in _blocks(arrays, chosen):
        stacked[start : start + len(block)] = xp.asarray(block)
        start += len(block)
    return stacked


def _blocks(arrays: list[Array], chosen: list[npt.NDArray[np.int64]]) -> Iterator[Array]:
    """Yield the rows block by block, each where its array is: in main memory or on a GPU."""
    for array, rows in zip(arrays, chosen, strict=True):
        for block in row_slices(len(rows), array.shape[1], itemsize=array.dtype.itemsize):
            yield array[rows[block]]
