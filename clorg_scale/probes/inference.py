"""Exact inference over the whole graph, layer by layer in ranges of rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clorg_scale.arrays import row_slices
from clorg_scale.probes.layers import GraphNetwork, Propagation
from clorg_scale.probes.nodes import Nodes
from clorg_scale.probes.propagate import PropagationMatrix

__all__ = ["infer", "infer_nodes"]

ENTRIES = 1 << 24
"""Entries of the matrix in one range of rows: 200 MB on the device at a time."""

LOGITS = 1 << 25
"""Logits in one range of rows: 128 MB."""


@torch.no_grad()
def infer(
    network: GraphNetwork,
    matrix: PropagationMatrix,
    nodes: Nodes,
    shown: Tensor,
    *,
    whole: Propagation | None = None,
    entries: int = ENTRIES,
) -> Iterator[tuple[slice, Tensor]]:
    """Logits of every node, with all of its neighbors, one range of nodes after the other.

    Each layer is finished for all nodes before the next begins, so no neighborhood is computed twice and batch
    norm has the statistics of the whole graph, as in full-batch training. The last layer yields its ranges: logits of
    all nodes exist at once only where `whole` is given.

    Parameters
    ----------
    network, matrix, nodes
        The trained network, the graph, the nodes.
    shown
        (n,) labels shown, C where masked.
    whole
        The matrix on the device, where it is already.
    entries
        Approximate number of entries of the matrix in one range of rows.

    Yields
    ------
    Range of nodes, and their logits (b, C) on the training device; two (n, hidden) arrays are kept beside it.
    """
    h = _inputs(network, matrix.n, nodes, shown)
    last = len(network.layers) - 1
    for number in range(last):
        z = torch.empty((matrix.n, network.layers[number].bias.numel()), device=h.device, dtype=h.dtype)
        for rows, propagation in _propagations(matrix, nodes, whole, entries):
            z[rows] = network.layers[number](propagation, h)
        variance, mean = torch.var_mean(z, dim=0, correction=0)
        for rows in row_slices(matrix.n, z.shape[1]):
            z[rows] = network.activate(number, z[rows], h[rows], (mean, variance))
        h = z
    n_classes = network.layers[last].bias.numel()
    for rows, propagation in _propagations(matrix, nodes, whole, entries, most_rows=max(1, LOGITS // n_classes)):
        yield rows, network.activate(last, network.layers[last](propagation, h), h[rows])


def infer_nodes(wanted: npt.NDArray[np.int64], ranges: Iterator[tuple[slice, Tensor]]) -> Tensor:
    """Logits (m, C) of some nodes, ascending, out of those of all."""
    found = []
    for rows, logits in ranges:
        first, last = np.searchsorted(wanted, [rows.start, rows.stop])
        if first < last:
            found.append(logits[torch.from_numpy(wanted[first:last] - rows.start).to(logits.device)])
    return torch.cat(found)


def _propagations(
    matrix: PropagationMatrix, nodes: Nodes, whole: Propagation | None, entries: int, most_rows: int | None = None
) -> Iterator[tuple[slice, Propagation]]:
    """Ranges of rows, and the matrix in them; all at once where it is on the device already."""
    if whole is not None:
        yield slice(0, matrix.n), whole
        return
    for rows in _row_ranges(matrix, entries, most_rows or matrix.n):
        yield rows, matrix.rows(rows, nodes.device)


def _inputs(network: GraphNetwork, n: int, nodes: Nodes, shown: Tensor) -> Tensor:
    """(n, hidden) input of every node, features read in blocks."""
    if nodes.features is None:
        return network.embed(shown, None)
    parts = [network.embed(shown[rows], nodes.read_features(rows)) for rows in row_slices(n, nodes.features.X.shape[1])]
    return torch.cat(parts)


def _row_ranges(matrix: PropagationMatrix, entries: int, most_rows: int) -> Iterator[slice]:
    """Consecutive ranges of at most `most_rows` rows that have about so many entries each."""
    start = 0
    while start < matrix.n:
        stop = int(np.searchsorted(matrix.indptr, matrix.indptr[start] + entries, side="right")) - 1
        stop = min(max(stop, start + 1), start + most_rows, matrix.n)
        yield slice(start, stop)
        start = stop
