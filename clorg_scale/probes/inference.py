"""Exact inference over the whole graph, layer by layer in ranges of rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clorg_scale.arrays import on_host, row_slices
from clorg_scale.probes.compiled_products import LabelPropagation
from clorg_scale.probes.layers import GraphNetwork, Propagation
from clorg_scale.probes.nodes import Nodes
from clorg_scale.probes.propagate import PropagationMatrix

__all__ = ["NodeRows", "first_layer", "infer", "node_rows"]

NodeRows = Iterable[tuple[slice, Propagation]]
"""Ranges of nodes, and their rows of the matrix."""

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
    wanted: NodeRows | None = None,
) -> Iterator[tuple[slice, Tensor]]:
    """Logits of every node, or of those requested, with all of their neighbors, one range of nodes after the other.

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
    wanted
        Rows of the matrix of some nodes; the last layer is computed for these alone.

    Yields
    ------
    Range of nodes, or of positions among those wanted, and their logits (b, C) on the training device; two (n, hidden)
    arrays are kept beside it.
    """
    last = len(network.layers) - 1
    first, table = first_layer(network, matrix, nodes, shown) if last else (None, None)
    h = _inputs(network, matrix.n, nodes, shown) if table is None else table
    for number in range(last):
        if first is not None:
            z, h, first = network.layers[number](first, h), first.own(h), None
        else:
            z = torch.empty((matrix.n, network.layers[number].bias.numel()), device=h.device, dtype=h.dtype)
            for rows, propagation in _propagations(matrix, nodes, whole, entries):
                z[rows] = network.layers[number](propagation, h)
        variance, mean = torch.var_mean(z, dim=0, correction=0)
        for rows in row_slices(matrix.n, z.shape[1]):
            z[rows] = network.activate(number, z[rows], h[rows] if z.shape[1] == h.shape[1] else None, (mean, variance))
        h = z
    if wanted is None:
        most_rows = max(1, LOGITS // network.layers[last].bias.numel())
        wanted = _propagations(matrix, nodes, whole, entries, most_rows=most_rows)
    for rows, propagation in wanted:
        z = network.layers[last](propagation, h)
        yield rows, network.activate(last, z, propagation.own(h) if z.shape[1] == h.shape[1] else None)


def first_layer(
    network: GraphNetwork, matrix: PropagationMatrix, nodes: Nodes, shown: Tensor
) -> tuple[LabelPropagation | None, Tensor | None]:
    """The first layer's matrix over nodes that are known by their label alone, and the table of the labels' inputs.

    None and None where the network sees features, or the CPU does not train.
    """
    first = None if nodes.features is not None else matrix.by_label(shown)
    if first is None:
        return None, None
    return first, network.embed(torch.arange(nodes.n_classes + 1), None)


def node_rows(matrix: PropagationMatrix, wanted: npt.NDArray[np.int64], n_classes: int, nodes: Nodes) -> NodeRows:
    """Rows of the matrix of some nodes, in ranges of them whose logits are few enough to exist at once."""
    step = max(1, LOGITS // n_classes)
    slices = (slice(start, min(start + step, len(wanted))) for start in range(0, len(wanted), step))
    return ((rows, matrix.chosen(wanted[rows], nodes.device)) for rows in slices)


def _propagations(
    matrix: PropagationMatrix, nodes: Nodes, whole: Propagation | None, entries: int, most_rows: int | None = None
) -> Iterator[tuple[slice, Propagation]]:
    """Ranges of rows, and the matrix in them; all at once where it is on the device already."""
    if whole is not None:
        yield slice(0, matrix.n), whole
        return
    for rows in _row_ranges(on_host(matrix.indptr), entries, most_rows):
        yield rows, matrix.rows(rows, nodes.device)


def _inputs(network: GraphNetwork, n: int, nodes: Nodes, shown: Tensor) -> Tensor:
    """(n, hidden) input of every node, features read in blocks."""
    if nodes.features is None:
        return network.embed(shown, None)
    parts = [network.embed(shown[rows], nodes.read_features(rows)) for rows in row_slices(n, nodes.features.X.shape[1])]
    return torch.cat(parts)


def _row_ranges(indptr: npt.NDArray[Any], entries: int, most_rows: int | None) -> Iterator[slice]:
    """Consecutive ranges of rows, of about so many entries each, and of at most `most_rows` rows."""
    n, start = len(indptr) - 1, 0
    while start < n:
        stop = int(np.searchsorted(indptr, int(indptr[start]) + entries, side="right")) - 1
        stop = min(max(stop, start + 1), start + (most_rows or n), n)
        yield slice(start, stop)
        start = stop
