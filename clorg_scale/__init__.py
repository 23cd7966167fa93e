"""How embeddings are organised, at scale.

images -> embeddings -> k-NN -> affinity graph -> {RLD, communities, probes} -> report

The functions here are the whole of it; each stage takes plain arrays, or the result of the stage before.
"""

__version__ = "0.1.0"

from clorg_scale import probes
from clorg_scale.affinity import AffinityGraph, affinity_graph
from clorg_scale.analysis import Analysis, Comparison, analyze, compare
from clorg_scale.communities import Communities, communities, modularity
from clorg_scale.errors import InputError, MissingDependencyError
from clorg_scale.measures import calinski_harabasz, class_homogeneity
from clorg_scale.neighbors import KNN, knn
from clorg_scale.rld import RLDResult, rld
from clorg_scale.store import load_embeddings, save_embeddings

__all__ = [
    "KNN",
    "AffinityGraph",
    "Analysis",
    "Communities",
    "Comparison",
    "InputError",
    "MissingDependencyError",
    "RLDResult",
    "affinity_graph",
    "analyze",
    "calinski_harabasz",
    "class_homogeneity",
    "communities",
    "compare",
    "knn",
    "load_embeddings",
    "modularity",
    "probes",
    "rld",
    "save_embeddings",
]
