"""Training and test points of the probes, in one array: training points first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays import Array, array_module, row_slices
from clorg_scale.arrays.spool import gather_blocks

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


def given_split(
    train: Array, codes: npt.NDArray[np.int64], test: Array, test_codes: npt.NDArray[np.int64]
) -> ProbeSplit:
    """The user's own test points behind the training points."""
    points = _stacked([train, test], [np.arange(len(train)), np.arange(len(test))])
    return ProbeSplit(points, np.concatenate([codes, test_codes]), len(train))


def held_out_split(embeddings: Array, codes: npt.NDArray[np.int64], *, fraction: float, seed: int) -> ProbeSplit:
    """A stratified share of the labeled points held out as test points; the unlabelled ones are training points."""
    from clorg_scale.probes.splits import stratified_hold_out

    _, test = stratified_hold_out(codes, fraction, np.random.default_rng(seed))
    kept = np.ones(len(codes), dtype=bool)
    kept[test] = False
    train = np.flatnonzero(kept)
    points = _stacked([embeddings, embeddings], [train, test])
    return ProbeSplit(points, codes[np.concatenate([train, test])], len(train))


def _stacked(parts: list[Array], chosen: list[npt.NDArray[np.int64]]) -> Array:
    """Rows of several arrays in one: where it is large against the free memory, in an unnamed file."""
    dtype = np.result_type(*(part.dtype for part in parts)).newbyteorder("=")
    shape = (sum(map(len, chosen)), parts[0].shape[1])
    xp = array_module(*parts)
    if xp is np:
        return gather_blocks(_blocks(parts, chosen), shape, dtype)
    stacked, start = xp.empty(shape, dtype), 0
    for block in _blocks(parts, chosen):
        stacked[start : start + len(block)] = xp.asarray(block)
        start += len(block)
    return stacked


def _blocks(parts: list[Array], chosen: list[npt.NDArray[np.int64]]) -> Iterator[Array]:
    """The rows block by block; parts in main memory too where the whole is on a GPU."""
    for part, rows in zip(parts, chosen, strict=True):
        for block in row_slices(len(rows), part.shape[1], itemsize=part.dtype.itemsize):
            yield part[rows[block]]
