"""Exact inference over the whole graph, layer by layer in ranges of rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from clorg_scale.arrays import row_slices
from clorg_scale.probes.layers import GraphNetwork, Propagation
from clorg_scale.probes.nodes import Nodes
from clorg_scale.probes.propagate import PropagationMatrix

__all__ = ["infer"]

ENTRIES = 1 << 24
"""Entries of the matrix in one range of rows: 200 MB on the device at a time."""


@torch.no_grad()
def infer(
    network: GraphNetwork,
    matrix: PropagationMatrix,
    nodes: Nodes,
    shown: Tensor,
    *,
    whole: Propagation | None = None,
    entries: int = ENTRIES,
) -> Tensor:
    """Logits of every node, with all of its neighbors.

    Each layer is finished for all nodes before the next begins, so no neighborhood is computed twice and batch
    norm has the statistics of the whole graph, as in full-batch training.

    Parameters
    ----------
    network, matrix, nodes
        The trained network, the graph, the nodes.
    shown
        (n,) labels shown, C where masked.
    whole
        The matrix on the device, where it is there already.
    entries
        About how many entries of the matrix one range of rows has.

    Returns
    -------
    (n, C) on the training device; beside it, two (n, hidden) arrays are held.
    """
    h = _inputs(network, matrix.n, nodes, shown)
    last = len(network.layers) - 1
    for number in range(last + 1):
        if whole is not None:
            z = network.layers[number](whole, h)
        else:
            z = torch.empty((matrix.n, network.layers[number].bias.numel()), device=h.device, dtype=h.dtype)
            for rows in _row_ranges(matrix, entries):
                z[rows] = network.layers[number](matrix.rows(rows, nodes.device), h)
        statistics = None
        if number < last:
            variance, mean = torch.var_mean(z, dim=0, correction=0)
            statistics = mean, variance
        for rows in row_slices(matrix.n, z.shape[1]):
            z[rows] = network.activate(number, z[rows], h[rows], statistics)
        h = z
    return h


def _inputs(network: GraphNetwork, n: int, nodes: Nodes, shown: Tensor) -> Tensor:
    """(n, hidden) input of every node, features read in blocks."""
    if nodes.features is None:
        return network.embed(shown, None)
    parts = [network.embed(shown[rows], nodes.read_features(rows)) for rows in row_slices(n, nodes.features.X.shape[1])]
    return torch.cat(parts)


def _row_ranges(matrix: PropagationMatrix, entries: int) -> Iterator[slice]:
    """Consecutive ranges of rows that have about so many entries each."""
    start = 0
    while start < matrix.n:
        stop = int(np.searchsorted(matrix.indptr, matrix.indptr[start] + entries, side="right")) - 1
        stop = min(max(stop, start + 1), matrix.n)
        yield slice(start, stop)
        start = stop
