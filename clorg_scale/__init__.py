"""How embeddings are organized, at scale.

images -> embeddings -> k-NN -> affinity graph -> {RLD, communities, probes} -> report

The functions here are the whole of it; each stage takes plain arrays, or the result of the stage before.
"""

__version__ = "0.1.0"

from typing import TYPE_CHECKING, Any

from clorg_scale import probes
from clorg_scale.affinity import AffinityGraph, affinity_graph
from clorg_scale.analysis import Analysis, Comparison, analyze, compare
from clorg_scale.communities import Communities, communities, modularity
from clorg_scale.errors import InputError, MissingDependencyError
from clorg_scale.issues import Issues, find_issues
from clorg_scale.measures import calinski_harabasz, class_homogeneity
from clorg_scale.neighbors import KNN, knn
from clorg_scale.rld import RLDResult, SubsetRLD, rld, rld_of_subsets
from clorg_scale.spectrum import Spectrum, spectrum
from clorg_scale.store import load_embeddings, save_embeddings

if TYPE_CHECKING:
    from clorg_scale import backbones

__all__ = [
    "KNN",
    "AffinityGraph",
    "Analysis",
    "Communities",
    "Comparison",
    "InputError",
    "Issues",
    "MissingDependencyError",
    "RLDResult",
    "Spectrum",
    "SubsetRLD",
    "affinity_graph",
    "analyze",
    "backbones",
    "calinski_harabasz",
    "class_homogeneity",
    "communities",
    "compare",
    "find_issues",
    "knn",
    "load_embeddings",
    "modularity",
    "probes",
    "rld",
    "rld_of_subsets",
    "save_embeddings",
    "spectrum",
]


def __getattr__(name: str) -> Any:
    """Give `backbones`, which take the seconds that importing PyTorch takes, when they are asked for."""
    if name == "backbones":
        import importlib

        return importlib.import_module("clorg_scale.backbones")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
