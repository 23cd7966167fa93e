"""`affinity_graph`: weights for the pairs that a k-NN table keeps."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from clorg_scale.affinity.edges import Edges, Symmetrize, edges_of, log_row_sums, to_csr
from clorg_scale.affinity.graph import AffinityGraph
from clorg_scale.arrays import Array, array_module
from clorg_scale.errors import InputError
from clorg_scale.neighbors import KNN

__all__ = ["affinity_graph", "rld_weights"]

Weighting = Literal["rld", "laplacian", "gaussian", "cosine", "binary"]

_WEIGHTINGS = ("rld", "laplacian", "gaussian", "cosine", "binary")


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
        mu, the mean distance of *all* pairs of points. Default: the table's own estimate; for a table that has
        none (`KNN.from_arrays`) the mean of the kept distances, which is smaller: the same T looks less far.

    Returns
    -------
    AffinityGraph
        NumPy or CuPy, as the table.

    Raises
    ------
    InputError
        If the temperature or mean distance is not positive, a name is unknown, the metric does not fit the
        weighting, or the table is of a sample.
    """
    _check(knn, temperature, weighting, mean_distance)
    edges = edges_of(knn, symmetrize)
    xp = array_module(edges.distances)
    if weighting == "binary":
        weights = xp.ones(len(edges.distances))
    elif weighting == "cosine":
        weights = xp.maximum(0.0, 1.0 - edges.distances)
    else:
        scale = temperature * _mean_distance(knn, edges, mean_distance)
        if weighting == "rld":
            weights = rld_weights(edges, edges.distances / scale)
        elif weighting == "laplacian":
            weights = xp.exp(-edges.distances / scale)
        else:
            weights = xp.exp(-((edges.distances / scale) ** 2) / 2)
    return AffinityGraph(*to_csr(edges, weights * edges.shares))


def rld_weights(edges: Edges, scaled_distances: Array) -> Array:
    """(e,) float64 n^2 E_ij^2 / (r_i r_j) of the edges, computed in logarithms: no temperature is too small."""
    xp = array_module(scaled_distances)
    log_r = log_row_sums(edges, -scaled_distances)
    return xp.exp(2 * math.log(edges.n_nodes) - 2 * scaled_distances - (log_r[edges.i] + log_r[edges.j]))


def _mean_distance(knn: KNN, edges: Edges, given: float | None) -> float:
    """Mu; where all distances are 0, any scale gives weights of E = 1."""
    for known in (given, knn.mean_distance):
        if known:
            return known
    return (float(edges.distances.mean()) if len(edges.i) else 0.0) or 1.0


def _check(knn: KNN, temperature: float, weighting: str, mean_distance: float | None) -> None:
    """Refuse what has no meaning."""
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
