"""Inputs of the graph probes: a graph, labels, a mask of training nodes; checked once for all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays import (
    UNLABELLED,
    Array,
    ClassLabels,
    array_module,
    encode_labels,
    on_host,
    warn_of_lookalike,
)
from clorg_scale.errors import InputError

__all__ = ["labeled_test_nodes", "masked_accuracy", "node_mask", "node_numbers", "read_graph", "training_codes"]


def read_graph(graph: Any) -> tuple[Array, Array, Array]:
    """CSR arrays (indptr, indices, weights) of an `AffinityGraph` or a SciPy or CuPy sparse matrix.

    Raises
    ------
    InputError
        If it is neither, is not square or symmetric, or holds weights that are no real numbers, negative, NaN or
        infinite.
    """
    if hasattr(graph, "tocsr"):
        # Sums and differences of small integers would wrap around.
        graph = graph.astype(np.float64).tocsr() if graph.dtype.kind in "iub" else graph.tocsr()
        if not graph.has_canonical_format:
            graph = graph.copy()
            graph.sum_duplicates()
        if graph.shape[0] != graph.shape[1]:
            raise InputError(f"The graph has shape {graph.shape}; an adjacency matrix is square.")
        if abs(graph - graph.T).sum() > 1e-5 * abs(graph).sum():
            raise InputError("The graph is not symmetric; pass for example graph.maximum(graph.T).")
        arrays = graph.indptr, graph.indices, graph.data
    elif hasattr(graph, "indptr") and hasattr(graph, "weights"):
        arrays = graph.indptr, graph.indices, graph.weights
    else:
        raise InputError(f"The graph is a {type(graph).__name__}; pass an AffinityGraph or a SciPy sparse matrix.")
    weights = arrays[2]
    if weights.dtype.kind not in "fiub":
        raise InputError(f"The graph has weights of dtype {weights.dtype}; they must be real numbers.")
    if len(weights):
        xp = array_module(weights)
        if not bool(xp.isfinite(weights).all()) or float(weights.min()) < 0:
            raise InputError("The graph has weights that are negative, NaN or infinite; repair or remove them.")
    return arrays


def node_mask(mask: Any, n_nodes: int, *, name: str) -> npt.NDArray[np.bool_]:
    """Check a mask over the nodes.

    Raises
    ------
    InputError
        If it is not (n,) booleans.
    """
    mask = on_host(mask)
    if mask.dtype != np.bool_ or mask.shape != (n_nodes,):
        raise InputError(
            f"The {name} has shape {mask.shape} and dtype {mask.dtype}; "
            f"one boolean for each of the {n_nodes} nodes is needed."
        )
    return np.asarray(mask)


def node_numbers(nodes: Any, n_nodes: int) -> npt.NDArray[np.int64]:
    """Check numbers of nodes.

    Raises
    ------
    InputError
        If they are not (m,) whole numbers from 0 to n - 1.
    """
    nodes = on_host(nodes)
    if nodes.ndim != 1 or nodes.dtype.kind not in "iu":
        raise InputError(f"nodes has shape {nodes.shape} and dtype {nodes.dtype}; node numbers (m,) are needed.")
    if len(nodes) and not (nodes.min() >= 0 and nodes.max() < n_nodes):
        raise InputError(f"nodes must be numbers from 0 to {n_nodes - 1}, not from {nodes.min()} to {nodes.max()}.")
    return np.asarray(nodes, dtype=np.int64)


def training_codes(
    labels: Any, train_mask: Any, n_nodes: int, unlabelled: int | str | None = UNLABELLED
) -> ClassLabels:
    """Codes of the training nodes' labels, -1 for every other node: test labels go no further than here.

    Raises
    ------
    InputError
        If labels or mask do not fit the graph, there is no labeled training node, or a class has none.
    """
    mask = node_mask(train_mask, n_nodes, name="train_mask")
    encoded = encode_labels(labels, n_nodes, unlabelled=unlabelled, warn=False)
    if not isinstance(labels, ClassLabels):  # test nodes may well be labeled -1
        warn_of_lookalike(ClassLabels(encoded.codes[mask], encoded.names), unlabelled)
    codes = np.where(mask, encoded.codes, -1)
    if not (codes >= 0).any():
        raise InputError("No node of train_mask has a label; at least one of each class is needed.")
    absent = np.flatnonzero(np.bincount(codes[codes >= 0], minlength=len(encoded.names)) == 0)
    if len(absent):
        listed = ", ".join(repr(encoded.names[code].item()) for code in absent[:5])
        raise InputError(
            f"{len(absent)} of {len(encoded.names)} classes {'has' if len(absent) == 1 else 'have'} no training node "
            f"({listed}{', ...' if len(absent) > 5 else ''}); add some to train_mask, or label their nodes -1."
        )
    return ClassLabels(codes, encoded.names)


def labeled_test_nodes(
    labels: Any, test_mask: Any, training: ClassLabels
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Nodes of a test mask, none without one, and their codes in the training classes' numbering; -1 for another class.

    Raises
    ------
    InputError
        If the mask does not fit the graph.
    """
    if test_mask is None:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    n_nodes = len(training.codes)
    test = np.flatnonzero(node_mask(test_mask, n_nodes, name="test_mask"))
    encoded = encode_labels(labels, n_nodes, unlabelled=None, warn=False)
    known = {label: code for code, label in enumerate(training.names.tolist())}
    numbering = np.array([known.get(label, -1) for label in encoded.names.tolist()], dtype=np.int64)
    return test, numbering[encoded.codes[test]]


def masked_accuracy(
    predicted: npt.NDArray[Any], labels: Any, mask: Any, unlabelled: int | str | None = UNLABELLED
) -> float:
    """Share of correctly predicted nodes among the labeled nodes of a mask.

    Raises
    ------
    InputError
        If labels or mask do not fit the predictions, or no labeled node is in the mask.
    """
    mask = node_mask(mask, len(predicted), name="mask")
    encoded = encode_labels(labels, len(predicted), unlabelled=unlabelled, warn=False)
    scored = mask & (encoded.codes >= 0)
    if not scored.any():
        raise InputError("The mask holds no labeled node; accuracy needs at least one.")
    return float(np.mean(predicted[scored] == encoded.names[encoded.codes[scored]]))
