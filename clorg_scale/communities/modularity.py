r"""Newman modularity of given labels on a weighted graph; NumPy or CuPy alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from clorg_scale.affinity import AffinityGraph
from clorg_scale.affinity.symmetrize import row_blocks, row_numbers
from clorg_scale.arrays import UNLABELLED, Array, array_module, encode_labels, on_host
from clorg_scale.errors import InputError

__all__ = ["ClassWeights", "class_weights", "modularity"]


@dataclass(frozen=True)
class ClassWeights:
    """Sums of weights that modularity is computed from.

    Attributes
    ----------
    within
        (C,) float64 W_c: sum of the weights between points of class c (each edge counted from both ends).
    degrees
        (C,) float64 K_c: sum of all weights at points of class c.
    total
        2m: sum of all weights of the graph.
    """

    within: Array
    degrees: Array
    total: float

    def modularity(self, resolution: float = 1.0) -> float:
        """Sum over classes of W_c / 2m - resolution (K_c / 2m)^2."""
        return float((self.within / self.total - resolution * (self.degrees / self.total) ** 2).sum())


def modularity(
    graph: AffinityGraph, labels: Any, *, resolution: float = 1.0, unlabelled: int | str | None = UNLABELLED
) -> float:
    r"""Modularity of labels on the graph (Newman 2004; Reichardt & Bornholdt 2006 for the resolution).

    .. math:: Q = \sum_c \left[ \frac{W_c}{2m} - \gamma \left(\frac{K_c}{2m}\right)^2 \right]

    Parameters
    ----------
    graph
        The affinity graph.
    labels
        (n,) classes or communities, one or more, integers or strings.
    resolution
        gamma >= 0.
    unlabelled
        The label of points that count in 2m and belong to no class; None: every label, -1 too, is a class.

    Raises
    ------
    InputError
        If labels do not fit the graph, it has no edges, or the resolution is negative.
    """
    if not resolution >= 0:
        raise InputError(f"The resolution must not be negative, not {resolution}.")
    encoded = encode_labels(labels, graph.n_nodes, unlabelled=unlabelled, fewest=1)
    return class_weights(graph, encoded.codes, len(encoded.names)).modularity(resolution)


def class_weights(graph: AffinityGraph, codes: Array, n_classes: int) -> ClassWeights:
    """Weights within and at each class.

    Parameters
    ----------
    graph
        The affinity graph.
    codes
        (n,) int64 in -1 .. n_classes - 1.
    n_classes
        Number of classes C.
    """
    sums = _sums_on_cpu if array_module(graph.weights) is np else _sums_on_gpu
    found = sums(graph, codes, n_classes)
    if not found.total > 0:
        raise InputError("The graph has no edges; modularity is not defined on it.")
    return found


def _sums_on_cpu(graph: AffinityGraph, codes: Array, n_classes: int) -> ClassWeights:
    """The sums of a NumPy graph."""
    codes = on_host(codes)
    within, degrees, total = np.zeros(n_classes), np.zeros(n_classes), 0.0
    for rows, entries in row_blocks(graph.indptr):
        weights = graph.weights[entries].astype(np.float64)
        bounds = graph.indptr[rows.start : rows.stop + 1]
        ends, others = codes[rows][row_numbers(bounds - bounds[0])], codes[graph.indices[entries]]
        labeled, same = ends >= 0, (ends == others) & (ends >= 0)
        within += np.bincount(ends[same], weights=weights[same], minlength=n_classes)
        degrees += np.bincount(ends[labeled], weights=weights[labeled], minlength=n_classes)
        total += float(weights.sum())
    return ClassWeights(within, degrees, total)


def _sums_on_gpu(graph: AffinityGraph, codes: Array, n_classes: int) -> ClassWeights:
    """The sums of a CuPy graph, by the CUDA kernel."""
    from clorg_scale.kernels.graph import label_sums

    weights = graph.weights
    if weights.dtype != np.float32:  # beyond its range; modularity is the same for weights in other units
        weights = (weights / weights.max()).astype(np.float32)
    own = array_module(graph.weights).asarray(codes, dtype=np.int32)
    return ClassWeights(*label_sums(graph.indptr, graph.indices, weights, own, n_classes))
