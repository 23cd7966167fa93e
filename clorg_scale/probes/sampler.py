"""Weighted neighbor sampling on a CSR graph, for training on minibatches of nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import prange

from clorg_scale.arrays import Array
from clorg_scale.errors import InputError
from clorg_scale.numerics.compiler import njit

__all__ = ["Block", "NeighborSampler", "sample_hops"]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


@dataclass(frozen=True)
class Block:
    """Rows of the propagation matrix for some target nodes, over the sampled neighbors only; of NumPy or CuPy.

    Attributes
    ----------
    sources
        (n_sources,) int64 nodes of the columns, the target nodes first; or the labels that these show.
    targets
        Where the targets stand among the sources: the first of them, or each at the label that it shows.
    indptr, indices, values
        CSR rows, int32 and float32, over positions in `sources`; the expectation of the rows is that of the whole
        matrix.
    indptr_t, indices_t, values_t
        The same matrix transposed, which the gradient needs.
    """

    sources: Array
    targets: slice | Array
    indptr: Array
    indices: Array
    values: Array
    indptr_t: Array
    indices_t: Array
    values_t: Array

    @property
    def n_targets(self) -> int:
        """Number of rows."""
        return len(self.indptr) - 1


class Rows(NamedTuple):
    """Rows of a CSR matrix, for compiled code."""

    indptr: npt.NDArray[Any]
    indices: npt.NDArray[Any]
    values: npt.NDArray[np.float32]


class NeighborSampler:
    """Samples `fanout` neighbors of each node without replacement, with probability by weight.

    A row with more than `fanout` entries keeps entry j with probability p_j = min(1, c w_j), c chosen such that
    the p_j sum to `fanout`, by systematic sampling (Madow 1949): one uniform number u per row, and entry j is
    kept when u, u + 1, u + 2, ... falls between the sums of p before and after it. So a row's sample has just
    `fanout` distinct entries, and a kept entry's value w_j / p_j makes the sampled sum over neighbors
    unbiased (Horvitz and Thompson 1952). A shorter row is taken whole. Random numbers are a hash of
    (seed, node), so that a sample does not depend on the number of threads.

    Parameters
    ----------
    indptr, indices, values
        CSR propagation matrix (n, n), values at least 0.
    """

    def __init__(self, indptr: npt.NDArray[Any], indices: npt.NDArray[Any], values: npt.NDArray[np.float32]) -> None:
        self.indptr = indptr
        self.indices = indices
        self.values = values
        self._position = np.full(len(indptr) - 1, -1, dtype=np.int32)
        self._inclusion: dict[int, tuple[npt.NDArray[np.float64], npt.NDArray[np.int32]]] = {}

    def sample(
        self,
        seeds: npt.NDArray[np.int64],
        fanouts: Sequence[int],
        *,
        seed: int,
        shown: npt.NDArray[np.int64] | None = None,
    ) -> list[Block]:
        """Sample the blocks of a network of ``len(fanouts)`` layers, the one next to the input first.

        Parameters
        ----------
        seeds
            (b,) distinct nodes whose output is wanted: targets of the last block.
        fanouts
            Neighbors per node, for the hop next to the seeds first.
        seed
            Equal seeds give equal samples.
        shown
            (n,) labels. If given, the sources of the first block are these rather than nodes: nodes that the network
            knows by their label alone need no row each, and there are many more of them than labels.
        """
        return sample_hops(self.block, np.ascontiguousarray(seeds, dtype=np.int64), fanouts, seed, shown=shown)

    def block(
        self,
        targets: npt.NDArray[np.int64],
        fanout: int,
        *,
        seed: int,
        shown: npt.NDArray[np.int64] | None = None,
    ) -> Block:
        """Sample one hop: rows of the `targets` (distinct nodes); by the labels `shown` (n,), or by node.

        Raises
        ------
        InputError
            If `fanout` is below 1.
        """
        if fanout < 1:
            raise InputError(f"fanout must be at least 1, not {fanout}.")
        if fanout not in self._inclusion:
            self._inclusion[fanout] = _inclusion_scale(self.indptr, self.values, fanout)
        scale, sizes = self._inclusion[fanout]
        indptr = np.zeros(len(targets) + 1, dtype=np.int32)
        np.cumsum(sizes[targets], out=indptr[1:])
        nodes = np.empty(indptr[-1], dtype=self.indices.dtype)
        values = np.empty(indptr[-1], dtype=np.float32)
        state = np.uint64(seed & 0xFFFFFFFFFFFFFFFF)
        matrix, sample = Rows(self.indptr, self.indices, self.values), Rows(indptr, nodes, values)
        _sample_rows(matrix, scale, targets, state, sample)
        positions: slice | npt.NDArray[np.int64] = slice(0, len(targets))
        if shown is None:
            sources, indices = _renumber(targets, nodes, self._position)
        else:
            sources, positions, indices = np.arange(shown.max() + 1), shown[targets], _labels_of(nodes, shown)
        transposed = _transpose(indptr, indices, values, len(sources))
        return Block(sources, positions, indptr, indices, values, *transposed)


def sample_hops(
    block: Callable[..., Block], targets: Array, fanouts: Sequence[int], seed: int, **of_farthest: Any
) -> list[Block]:
    """Blocks of one hop after the other, each with a seed of its own; the one farthest from the targets first.

    Other arguments are for the block of the farthest hop alone.
    """
    blocks: list[Block] = []
    for hop, fanout in enumerate(fanouts):
        others = of_farthest if hop == len(fanouts) - 1 else {}
        blocks.append(block(targets, fanout, seed=seed * len(fanouts) + hop, **others))
        targets = blocks[-1].sources
    return blocks[::-1]


@njit(parallel=True, cache=True, nogil=True)
def _inclusion_scale(indptr, weights, fanout):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Scale c of each row, infinite where the row is taken whole, and the size of its sample."""
    n = len(indptr) - 1
    scale = np.full(n, np.inf)
    sizes = np.empty(n, dtype=np.int32)
    for node in prange(n):
        row = weights[indptr[node] : indptr[node + 1]]
        if len(row) <= fanout:
            sizes[node] = len(row)
            continue
        n_positive = 0
        for weight in row:
            n_positive += weight > 0
        sizes[node] = min(fanout, n_positive)
        if n_positive <= fanout:
            # Entries of weight 0 are never sampled: a huge finite scale tells them from the rest.
            scale[node] = np.finfo(np.float64).max
            continue
        # c = (fanout - capped) / (sum of the others) grows until no further entry reaches probability 1.
        c, n_capped = 0.0, -1
        while True:
            capped, others = 0, 0.0
            for weight in row:
                if c * weight >= 1:
                    capped += 1
                else:
                    others += weight
            # As many capped as wanted: by rounding, where the others weigh next to nothing.
            if capped == n_capped or capped >= fanout:
                break
            c, n_capped = (fanout - capped) / others, capped
        scale[node] = c
    return scale, sizes


@njit(parallel=True, cache=True, nogil=True)
def _sample_rows(matrix, scale, targets, seed, sample):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Fill in neighbors and values of every row of the sample."""
    indptr, indices, weights = matrix
    starts, nodes, values = sample
    for row in prange(len(targets)):
        node = targets[row]
        out, end, c = starts[row], starts[row + 1], scale[node]
        first, last = indptr[node], indptr[node + 1]
        if c == np.inf:
            nodes[out:end] = indices[first:last]
            values[out:end] = weights[first:last]
            continue
        random_bits = _hash(seed + _GOLDEN * np.uint64(node + 1))
        # Below 1 by more than rounding of the running sum, so that all `fanout` marks are reached.
        mark = (np.float64(random_bits >> np.uint64(11)) + 0.5) * 2.0**-53 * (1 - 1e-9)
        least = np.float32(1 / c)
        reached = 0.0
        entry = first
        while out < end and entry < last:
            # Written always, kept or overwritten without a branch: which it is cannot be predicted.
            reached += min(1.0, c * np.float64(weights[entry]))
            nodes[out] = indices[entry]
            values[out] = max(weights[entry], least)  # w / min(1, c w)
            kept = reached > mark
            mark += kept
            out += kept
            entry += 1
        if out < end:
            begin = starts[row]
            _take_last(indices[first:last], weights[first:last], nodes[begin : out + 1], values[begin : out + 1], least)


@njit(cache=True, nogil=True)
def _take_last(indices, weights, nodes, values, least):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Fill the last entry of a sample with the last one of the row that is not in it.

    Needed where two marks fell, by rounding, within one entry at the very end.
    """
    for entry in range(len(indices) - 1, -1, -1):
        if weights[entry] > 0 and indices[entry] not in nodes[:-1]:
            nodes[-1] = indices[entry]
            values[-1] = max(weights[entry], least)
            return


@njit(cache=True, nogil=True)
def _hash(x):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Mix the bits of a 64-bit number: SplitMix64's finalizer (Steele, Lea, Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    return x ^ (x >> np.uint64(31))


@njit(parallel=True, cache=True, nogil=True)
def _labels_of(nodes, shown):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Labels that some nodes show."""
    labels = np.empty(len(nodes), dtype=np.int32)
    for entry in prange(len(nodes)):
        labels[entry] = shown[nodes[entry]]
    return labels


@njit(cache=True, nogil=True)
def _renumber(targets, nodes, position):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Number the nodes by first appearance, targets first; `position` is all -1 before and after."""
    sources = np.empty(min(len(position), len(targets) + len(nodes)), dtype=np.int64)
    n_sources = 0
    for node in targets:
        position[node] = n_sources
        sources[n_sources] = node
        n_sources += 1
    local = np.empty(len(nodes), dtype=np.int32)
    for entry, node in enumerate(nodes):
        number = position[node]
        if number < 0:
            number = n_sources
            position[node] = number
            sources[number] = node
            n_sources += 1
        local[entry] = number
    sources = sources[:n_sources].copy()
    for node in sources:
        position[node] = -1
    return sources, local


@njit(cache=True, nogil=True)
def _transpose(indptr, indices, values, n_columns):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Transpose a CSR matrix by counting."""
    starts = np.zeros(n_columns + 1, dtype=np.int32)
    for column in indices:
        starts[column + 1] += 1
    for column in range(n_columns):
        starts[column + 1] += starts[column]
    fill = starts[:-1].copy()
    rows = np.empty(len(indices), dtype=np.int32)
    moved = np.empty_like(values)
    for row in range(len(indptr) - 1):
        for entry in range(indptr[row], indptr[row + 1]):
            slot = fill[indices[entry]]
            fill[indices[entry]] += 1
            rows[slot] = row
            moved[slot] = values[entry]
    return starts, rows, moved
