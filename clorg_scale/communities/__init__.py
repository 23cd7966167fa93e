"""Communities of the affinity graph, and modularity of any labels on it."""

from clorg_scale.communities.detection import Communities, communities
from clorg_scale.communities.modularity import class_weights, modularity

__all__ = ["Communities", "class_weights", "communities", "modularity"]
