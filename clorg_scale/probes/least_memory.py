"""Least memory of each probe, checked before an analysis begins."""

from __future__ import annotations

from clorg_scale.probes import fitting, planning, propagation

__all__ = ["least_memory"]


def least_memory(name: str, n: int, n_features: int, n_classes: int, k: int) -> int:
    """Bytes that a probe needs at least beside embeddings and graph, on a graph of k neighbors; 0 where it bounds none.

    Parameters
    ----------
    name
        One of `clorg_scale.probes.PROBES`. The k-NN probe keeps to a limit as the search does.
    n, n_features, n_classes
        Points, features, classes.
    k
        Neighbors; a symmetric graph has at most 2 n k entries.
    """
    nnz = 2 * n * k
    if name == "linear":
        return fitting.memory_needed(n, n_features, n_classes)
    if name == "label_propagation":
        return propagation.memory_needed(n, nnz, n_classes, propagation.chosen_scores(n, n_classes))
    if name in ("gcn", "sage"):
        size = planning.GraphSize(n, nnz, n_classes, 0, planning.DEFAULT_HIDDEN, planning.DEFAULT_LAYERS)
        fanouts = planning.fanouts_by_degree(n, nnz, size.n_layers)
        return min(planning.full_batch_bytes(size), planning.batch_bytes(size, planning.SMALLEST_BATCH, fanouts))
    return 0
