"""Issues of a data set: suspicious labels, near-duplicates, outliers, classes that overlap."""

from clorg_scale.issues.find import find_issues
from clorg_scale.issues.result import Issues

__all__ = ["Issues", "find_issues"]
