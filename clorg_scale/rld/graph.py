"""The graph method: modularity of the class labels on the sparse affinity graph, at each temperature.

Not RLD itself. Only the k nearest neighbors' edges are there, so the pairs between classes that make RLD fall
toward T = 1 are missing; on 20,000 Fashion-MNIST images RLD is .057 at T = 1 and this number .66. It is what
Louvain and Leiden maximize on that graph.
"""

from __future__ import annotations

from clorg_scale.affinity.construction import log_row_sums, rld_weights
from clorg_scale.affinity.symmetrize import undirected_edges
from clorg_scale.arrays import Array, array_module
from clorg_scale.neighbors import KNN
from clorg_scale.rld.types import Floats

__all__ = ["graph_sums"]


def graph_sums(knn: KNN, codes: Array, temperatures: Floats, mean_distance: float) -> tuple[Array, Array]:
    """(t, n) float64 affinities of each point on the symmetrized graph: to all neighbors, and to those of its class.

    `codes`: (n,) class codes, -1 where unlabelled; `mean_distance`: mu of all pairs of points.
    """
    edges = undirected_edges(knn, "max")
    xp = array_module(edges.distances)
    codes = xp.asarray(codes)
    k = xp.empty((len(temperatures), knn.n_points))
    w = xp.empty_like(k)
    for t, temperature in enumerate(temperatures):
        scale = mean_distance * float(temperature)
        log_r = log_row_sums(edges, scale)
        for block in edges.blocks():
            own = codes[block.rows][block.own_row]
            weights = rld_weights(block, scale, log_r)
            k[t, block.rows] = block.row_sums(weights)
            w[t, block.rows] = block.row_sums(weights * ((own == codes[block.indices]) & (own >= 0)))
    return k, w
