"""Points in class order, centered and rounded, a panel at a time; distances to all points and of random pairs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays import Array, array_module, column_means, on_host, row_block
from clorg_scale.arrays.mapped import location_or_array
from clorg_scale.arrays.scale import computing_dtype
from clorg_scale.errors import InputError
from clorg_scale.numerics.compiled import centered_rows, has_compiled_path, pair_lengths
from clorg_scale.rld.types import Floats, Integers

__all__ = [
    "NEAR",
    "ClassOrderedPoints",
    "ColumnDistances",
    "computing_dtype",
    "distances_to_all",
    "pair_sample",
    "positive_mean",
    "random_pairs",
]

NEAR = 1e-3
"""Pairs with d^2 below this share of |x_i|^2 + |x_j|^2 have lost digits to cancellation and are recomputed."""

PAIR_BLOCK = 2**23
"""Coordinates of random pairs gathered at once."""

_CHUNK_ROWS = 256
"""Rows converted at a time where compiled code cannot read the dtype; keeps the float64 copy in cache."""


class ClassOrderedPoints:
    """The embeddings seen in the order of their classes.

    Nothing is copied but the panel asked for: rows are gathered from the embeddings where they lie (a memory map,
    any dtype), centered in float64 so that an offset common to all points costs no digits, and rounded.

    `embeddings`: (n, d) as `clorg_scale.arrays.as_embeddings` returns; `codes`: (n,) of C classes, -1 where unlabelled.

    Attributes
    ----------
    order
        (n,) int64, row of the embeddings at each position: by class, unlabelled points first.
    starts
        (C + 1,) int64, first position of each class; the last entry is n.
    mean
        (d,) float64, subtracted from every point.
    dtype
        float64 where the embeddings are float64 or wide integers, float32 otherwise.
    """

    def __init__(self, embeddings: Array, codes: Integers, n_classes: int, *, mean: Array | None = None) -> None:
        self.on_gpu = array_module(embeddings) is not np
        self.embeddings = embeddings if self.on_gpu else np.asarray(embeddings)
        self.n_points: int = embeddings.shape[0]
        self.n_features: int = embeddings.shape[1]
        self.order = np.argsort(codes, kind="stable")
        self.codes = codes[self.order]
        self.starts = np.searchsorted(self.codes, np.arange(n_classes + 1))
        self.mean = column_means(embeddings) if mean is None else mean
        self.dtype = computing_dtype(embeddings.dtype)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "embeddings": location_or_array(self.embeddings)}

    def rows_alone(self) -> ClassOrderedPoints:
        """The same for `rows`, without the order of the classes: nothing in it grows with the number of points."""
        alone, none = object.__new__(ClassOrderedPoints), np.empty(0, dtype=np.int64)
        alone.__dict__.update(self.__dict__, order=none, codes=none)
        return alone

    def rows(
        self,
        which: Integers,
        dtype: npt.DTypeLike | None = None,
        *,
        space: npt.NDArray[Any] | None = None,
    ) -> npt.NDArray[Any]:
        """Centered coordinates of given rows of the embeddings, in the embeddings' own array library.

        On the host they are written to `space`, if given: memory that was written before costs a fraction of new.
        """
        if self.on_gpu:
            xp = array_module(self.embeddings)
            block: npt.NDArray[Any] = row_block(
                self.embeddings, xp.asarray(which), dtype=dtype or self.dtype, mean=self.mean
            )
            return block
        if space is None:
            space = np.empty((len(which), self.n_features), dtype=self.dtype if dtype is None else dtype)
        out = space[: len(which)]
        if has_compiled_path(self.embeddings):
            centered_rows(self.embeddings, which, self.mean, out)
        else:
            for begin in range(0, len(which), _CHUNK_ROWS):
                chunk = slice(begin, begin + _CHUNK_ROWS)
                out[chunk] = row_block(self.embeddings, which[chunk], dtype=out.dtype, mean=self.mean)
        return out

    def same_class(self, start: int, stop: int, other_start: int) -> tuple[Integers, Integers]:
        """For positions start..stop, where their class begins and ends, counted from `other_start`."""
        codes = self.codes[start:stop]
        labeled = codes >= 0
        first = np.where(labeled, self.starts[codes], 0) - other_start
        last = np.where(labeled, self.starts[np.minimum(codes + 1, len(self.starts) - 1)], 0) - other_start
        return first, last


class ColumnDistances(NamedTuple):
    """Distances (b, p) of some points to those in a slice of all, and which pairs are near (see `NEAR`)."""

    columns: slice
    distances: Any
    near: Any


def distances_to_all(rows: Integers, x: Any, blocks: Iterable[tuple[int, Any]], xp: Any) -> Iterator[ColumnDistances]:
    """Distances of points at positions `rows` (b,), `x` (b, d), to all, a block at a time; infinite to themselves.

    `blocks`: first position and (p, d) coordinates of consecutive blocks of all points, of the library `xp`.
    """
    norms, doubled = xp.einsum("ij,ij->i", x, x), -2 * x
    for start, y in blocks:
        total = norms[:, None] + xp.einsum("ij,ij->i", y, y)
        squares = doubled @ y.T
        squares += total
        near = squares < NEAR * total
        distances = xp.sqrt(squares.clip(0))
        itself = np.flatnonzero((rows >= start) & (rows < start + len(y)))
        distances[xp.asarray(itself), xp.asarray(rows[itself] - start)] = np.inf
        yield ColumnDistances(slice(start, start + len(y)), distances, near)


def positive_mean(mu: float) -> float:
    """A mean distance; refuses that of points that are all the same."""
    if not mu > 0:
        raise InputError("All points are identical (their mean distance is 0); RLD is not defined for them.")
    return mu


def random_pairs(n: int, seed: int, wanted: int) -> tuple[Integers, Integers]:
    """Both ends of about `wanted` pairs i, i + shift of random permutations (every pair at most once a shift).

    Each permutation has every point twice, so that how far a point is from all others cancels out.
    """
    rng = np.random.default_rng(seed)
    ends: list[tuple[Integers, Integers]] = []
    count = 0
    while count < min(wanted, n * (n - 1) // 2):
        chosen = rng.permutation(n)[: min(n, wanted - count + 1)]
        ends.append((chosen, np.roll(chosen, int(rng.integers(1, len(chosen))))))
        count += len(chosen)
    first, second = (np.concatenate(side) for side in zip(*ends, strict=True))
    return first, second


def pair_sample(points: ClassOrderedPoints, seed: int, wanted: int) -> Floats:
    """Distances of `random_pairs`, taken as rows of the embeddings."""
    first, second = random_pairs(points.n_points, seed, wanted)
    if not points.on_gpu and has_compiled_path(points.embeddings):
        return pair_lengths(points.embeddings, first, second)
    step = max(1, PAIR_BLOCK // points.n_features)
    lengths = []
    for start in range(0, len(first), step):
        both = np.concatenate([first[start : start + step], second[start : start + step]])
        ends = np.arange(len(both) // 2)
        lengths.append(pair_lengths(on_host(points.rows(both)), ends, ends + len(ends)))
    return np.concatenate(lengths)
