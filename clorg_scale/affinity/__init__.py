"""From a k-NN table to a symmetric, weighted, sparse affinity graph, and on to other libraries."""

from clorg_scale.affinity.construction import affinity_graph
from clorg_scale.affinity.graph import AffinityGraph

__all__ = ["AffinityGraph", "affinity_graph"]
