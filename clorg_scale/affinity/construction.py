"""`affinity_graph`: weights for the pairs that a k-NN table keeps."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from clorg_scale.affinity.graph import AffinityGraph
from clorg_scale.affinity.symmetrize import EdgeBlock, Edges, Symmetrize, undirected_edges
from clorg_scale.affinity.weights_cpu import exponential_weights, log_row_sums_cpu
from clorg_scale.arrays import Array, array_module, within_device_memory
from clorg_scale.errors import InputError
from clorg_scale.neighbors import KNN

__all__ = ["affinity_graph", "log_row_sums", "rld_weights"]

Weighting = Literal["rld", "laplacian", "gaussian", "cosine", "binary"]

_WEIGHTINGS = ("rld", "laplacian", "gaussian", "cosine", "binary")


@within_device_memory("the affinity graph", "use a k-NN table in main memory")
def affinity_graph(
    knn: KNN,
    *,
    temperature: float = 0.1,
    weighting: Weighting = "rld",
    symmetrize: Symmetrize = "max",
    mean_distance: float | None = None,
) -> AffinityGraph:
    r"""Build the symmetric affinity graph of a k-NN table.

    The lists are made undirected first, then weighted: every weight is a function of the pair, and the sums r
    run over the edges that are kept, so that they do not depend on who listed whom.

    Parameters
    ----------
    knn
        Table of all points (`clorg_scale.knn`, or your own through `KNN.from_arrays`).
    temperature
        T > 0, the scale of the weights in units of `mean_distance`.
    weighting
        With x_ij = d_ij / (mu T): "rld" n^2 E_ij^2 / (r_i r_j), E_ij = exp(-x_ij), r_i the sum of E_ij over the
        kept edges (arXiv 2305.10229); "laplacian" E_ij; "gaussian" exp(-x_ij^2 / 2); "cosine" max(0, cos), for
        a cosine table; "binary" 1.
    symmetrize
        Which pairs are edges: "max" if either point lists the other; "mean" the same, with half the weight
        where only one does (the paper's (A + A^T) / 2); "mutual" only if both do.
    mean_distance
        mu, the mean distance of *all* pairs of points, in the metric of the table. Default: the table's own estimate;
        for a table that has none (`KNN.from_arrays`) the mean of the kept distances, which is smaller: the same T
        gives a smaller scale.

    Returns
    -------
    AffinityGraph
        NumPy or CuPy, as the table.

    Raises
    ------
    InputError
        If the temperature or mean distance is not positive, a name is unknown, the metric does not fit the weighting,
        the table is of a sample or lists neighbors that are not points, or all weights are 0.
    """
    _check(knn, temperature, weighting, mean_distance)
    edges = undirected_edges(knn, symmetrize)
    xp = array_module(edges.distances)
    scale = temperature * _mean_distance(knn, edges, mean_distance)
    log_r = log_row_sums(edges, scale) if weighting == "rld" else None
    if xp is np and weighting in ("rld", "laplacian", "gaussian"):
        weights = exponential_weights(edges, scale, squared=weighting == "gaussian", log_r=log_r)
        if edges.in_both is not None:
            weights[~edges.in_both] *= np.float32(0.5)
    else:
        weights = xp.empty(len(edges.indices), dtype=np.float32)
        for block in edges.blocks():
            values = _weights(block, weighting, scale, log_r)
            if edges.in_both is not None:
                values *= xp.where(edges.in_both[block.entries], 1.0, 0.5)
            weights[block.entries] = values
    if len(weights) and not bool(weights.any()):
        raise InputError(
            f"All {weighting} weights are 0 in float32: temperature {temperature} is too small for these distances; "
            "use a larger one, or weighting='rld'."
            if weighting != "cosine"
            else "All cosine weights are 0: no point has a positive cosine with a neighbor; use weighting='rld'."
        )
    return AffinityGraph(edges.indptr, edges.indices, weights, knn)


def _weights(block: EdgeBlock, weighting: Weighting, scale: float, log_r: Array | None) -> Array:
    """(b,) float64 weights of the edges of a block, before they are halved for one direction."""
    distances = block.distances
    xp = array_module(distances)
    if weighting == "binary":
        return xp.ones(len(distances))
    if weighting == "cosine":
        return xp.maximum(0.0, 1.0 - distances)
    if weighting == "rld":
        return rld_weights(block, scale, log_r)
    return xp.exp(-distances / scale if weighting == "laplacian" else -((distances / scale) ** 2) / 2)


def log_row_sums(edges: Edges, scale: float) -> Array:
    """(n,) float64 log of the sum of exp(-distance / scale) over the edges of each node; -inf for one without edges.

    The largest term is taken out of each sum first, so that no scale is too small.
    """
    xp = array_module(edges.distances)
    if xp is np:
        return log_row_sums_cpu(edges, scale)
    result = xp.full(edges.n_nodes, -xp.inf)
    for block in edges.blocks():
        exponents = -block.distances / scale
        highest = result[block.rows]
        xp.maximum.at(highest, block.own_row, exponents)
        sums = block.row_sums(xp.exp(exponents - highest[block.own_row]))
        result[block.rows] = highest + xp.log(xp.maximum(sums, 1.0))
    return result


def rld_weights(block: EdgeBlock, scale: float, log_r: Array) -> Array:
    """(b,) float64 n^2 E_ij^2 / (r_i r_j), computed in logarithms, so that no temperature is too small.

    Parameters
    ----------
    block
        Some edges.
    scale
        mu T.
    log_r
        (n,) result of `log_row_sums` at that scale.
    """
    xp = array_module(log_r)
    # One sum, whichever end comes first: the matrix is symmetric to the last bit.
    log_sums = log_r[block.rows][block.own_row] + log_r[block.indices]
    return xp.exp(2 * math.log(block.edges.n_nodes) - 2 * (block.distances / scale) - log_sums)


def _mean_distance(knn: KNN, edges: Edges, given: float | None) -> float:
    """Mu; where all distances are 0, any scale gives weights of E = 1."""
    for known in (given, knn.mean_distance):
        if known:
            return known
    return (edges.unit * float(edges.distances.mean(dtype=np.float64)) if len(edges.indices) else 0.0) or 1.0


def _check(knn: KNN, temperature: float, weighting: str, mean_distance: float | None) -> None:
    """Refuse options that have no meaning."""
    if not (np.isfinite(temperature) and temperature > 0):
        raise InputError(f"The temperature must be a positive number, not {temperature}.")
    if weighting not in _WEIGHTINGS:
        raise InputError(f"weighting must be one of {', '.join(_WEIGHTINGS)}, not {weighting!r}.")
    if mean_distance is not None and not (np.isfinite(mean_distance) and mean_distance > 0):
        raise InputError(f"The mean distance must be a positive number, not {mean_distance}.")
    if weighting == "cosine" and knn.metric != "cosine":
        raise InputError(f"Cosine weights need a table of the cosine metric, not of {knn.metric!r}.")
    if weighting not in ("cosine", "binary") and knn.metric == "inner_product":
        raise InputError(f"Inner products are not distances; use weighting='binary', not {weighting!r}.")
