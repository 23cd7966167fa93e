"""How embeddings are organized, at scale.

images -> embeddings -> k-NN -> affinity graph -> {RLD, communities, probes} -> report

The functions here are the whole of it; each stage takes plain arrays, or the result of the stage before.
"""

import importlib
from typing import TYPE_CHECKING, Any

from clorg_scale import probes
from clorg_scale.affinity import AffinityGraph, affinity_graph
from clorg_scale.analysis import Analysis, Comparison, analyze, compare, track
from clorg_scale.communities import Communities, communities, modularity
from clorg_scale.errors import InputError, MissingDependencyError
from clorg_scale.issues import Issues, find_issues
from clorg_scale.measures import calinski_harabasz, class_homogeneity
from clorg_scale.neighbors import KNN, knn
from clorg_scale.rld import RLDResult, SubsetRLD, rld, rld_of_subsets
from clorg_scale.spectrum import Spectrum, spectrum
from clorg_scale.store import load_embeddings, save_embeddings
from clorg_scale.version import __version__

if TYPE_CHECKING:
    from clorg_scale import backbones, datasets, plot, sc, studies
    from clorg_scale.scoring import scorers
    from clorg_scale.transformer import KNeighborsTransformer

__all__ = [
    "KNN",
    "AffinityGraph",
    "Analysis",
    "Communities",
    "Comparison",
    "InputError",
    "Issues",
    "KNeighborsTransformer",
    "MissingDependencyError",
    "RLDResult",
    "Spectrum",
    "SubsetRLD",
    "__version__",
    "affinity_graph",
    "analyze",
    "backbones",
    "calinski_harabasz",
    "class_homogeneity",
    "communities",
    "compare",
    "datasets",
    "find_issues",
    "knn",
    "load_embeddings",
    "modularity",
    "plot",
    "probes",
    "rld",
    "rld_of_subsets",
    "save_embeddings",
    "sc",
    "scorers",
    "spectrum",
    "studies",
    "track",
]


# Imported at first use: PyTorch takes seconds, scikit-learn, matplotlib and SciPy's statistics some tenths of one.
_MODULES = ("backbones", "datasets", "plot", "sc", "studies")
_HOME = {"KNeighborsTransformer": "transformer", "scorers": "scoring"}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
