"""Relative Local Density: exact, sampled, or on the sparse graph."""

from clorg_scale.rld.relative_local_density import rld
from clorg_scale.rld.result import RLDResult

__all__ = ["RLDResult", "rld"]
