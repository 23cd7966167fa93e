"""Relative Local Density: exact, sampled, or on the sparse graph."""

from clorg_scale.rld.compute import rld
from clorg_scale.rld.result import RLDResult
from clorg_scale.rld.subsets import SubsetRLD, rld_of_subsets

__all__ = ["RLDResult", "SubsetRLD", "rld", "rld_of_subsets"]
