"""Analyses of embeddings, from the arrays to a report, and comparisons of several models."""

from clorg_scale.analysis.comparison import Comparison, compare
from clorg_scale.analysis.pipeline import analyze
from clorg_scale.analysis.result import Analysis
from clorg_scale.analysis.track import track

__all__ = ["Analysis", "Comparison", "analyze", "compare", "track"]
