"""How embeddings are organised, at scale.

images -> embeddings -> k-NN -> affinity graph -> {RLD, communities, probes} -> report

The functions here are the whole of it; each stage takes plain arrays, or the result of the stage before.
"""

from clorg_scale.errors import InputError, MissingDependencyError
from clorg_scale.rld import RLDResult, rld

__version__ = "0.1.0"

__all__ = [
    "InputError",
    "MissingDependencyError",
    "RLDResult",
    "rld",
]
