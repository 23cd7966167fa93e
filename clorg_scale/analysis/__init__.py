"""The whole way from embeddings to a report, and models side by side."""

from clorg_scale.analysis.comparison import Comparison, compare
from clorg_scale.analysis.pipeline import analyze
from clorg_scale.analysis.result import Analysis

__all__ = ["Analysis", "Comparison", "analyze", "compare"]
