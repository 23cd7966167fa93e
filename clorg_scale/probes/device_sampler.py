"""The neighbor sampler where the graph lies on a GPU: the same samples as the CPU's, and nothing leaves the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays import Array
from clorg_scale.errors import InputError, require
from clorg_scale.probes.sampler import Block, sample_hops

__all__ = ["DeviceNeighborSampler"]


class DeviceNeighborSampler:
    """Samples as `NeighborSampler` does, row for row, with the kernels of `clorg_scale.kernels.graph`.

    Only the order of a block's sources differs: those that are no targets are ascending.

    Parameters
    ----------
    indptr, indices, values
        CSR propagation matrix (n, n), values at least 0; of NumPy or CuPy.
    """

    def __init__(self, indptr: Array, indices: Array, values: Array) -> None:
        cupy = require("cupy", extra="cuda13", purpose="sampling neighbors on a GPU")
        self.xp: Any = cupy
        self.indptr, self.indices, self.values = (cupy.asarray(part) for part in (indptr, indices, values))
        self._position = cupy.full(len(self.indptr) - 1, -1, dtype=np.int32)
        self._inclusion: dict[int, tuple[Array, Array]] = {}

    def sample(self, seeds: npt.NDArray[np.int64], fanouts: Sequence[int], *, seed: int) -> list[Block]:
        """Sample the blocks of a network of ``len(fanouts)`` layers (see `NeighborSampler.sample`), in CuPy arrays."""
        return sample_hops(self.block, self.xp.asarray(np.ascontiguousarray(seeds, dtype=np.int64)), fanouts, seed)

    def block(self, targets: Array, fanout: int, *, seed: int) -> Block:
        """Sample one hop: rows of the `targets` (distinct nodes).

        Raises
        ------
        InputError
            If `fanout` is below 1.
        """
        from clorg_scale.kernels import graph

        if fanout < 1:
            raise InputError(f"fanout must be at least 1, not {fanout}.")
        if fanout not in self._inclusion:
            self._inclusion[fanout] = graph.inclusion_scale(self.indptr, self.values, fanout)
        indptr, nodes, values = graph.sample_rows(
            self.indptr, self.indices, self.values, self._inclusion[fanout], targets, seed=seed
        )
        sources, indices = self._renumbered(targets, nodes)
        transposed = self._transposed(indptr, indices, values, sources)
        return Block(sources, slice(0, len(targets)), indptr, indices, values, *transposed)

    def _renumbered(self, targets: Array, nodes: Array) -> tuple[Array, Array]:
        """Nodes of the block, targets first, and for each sampled entry its position among them."""
        xp, n = self.xp, len(targets)
        self._position[targets] = xp.arange(n, dtype=np.int32)
        others = xp.unique(nodes[self._position[nodes] < 0]).astype(np.int64)
        self._position[others] = xp.arange(n, n + len(others), dtype=np.int32)
        positions = self._position[nodes]
        sources = xp.concatenate([targets, others])
        self._position[sources] = np.int32(-1)
        return sources, positions

    def _transposed(self, indptr: Array, indices: Array, values: Array, sources: Array) -> tuple[Array, Array, Array]:
        """The block transposed, in CSR form."""
        xp = self.xp
        rows = xp.searchsorted(indptr[1:], xp.arange(len(indices), dtype=indptr.dtype), side="right")
        by_column = xp.argsort(indices, kind="stable")
        starts = xp.searchsorted(indices[by_column], xp.arange(len(sources) + 1, dtype=indices.dtype))
        return starts.astype(np.int32), rows[by_column].astype(np.int32), values[by_column]
