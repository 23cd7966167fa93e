"""Figures for papers, drawn by matplotlib (extra ``plot``).

Each function takes a result, an `Analysis` or a `Comparison`, draws on `ax` or on a new figure of the width of a
column (85 mm, 8 pt), and returns the axes. `save_figures` writes all of them, as ``clorg-scale figures`` does.
"""

from clorg_scale.plot.curves import class_homogeneity, rld, spectrum, trajectory
from clorg_scale.plot.files import save_figures
from clorg_scale.plot.scatter import point_map
from clorg_scale.plot.tables import mixing, probes

__all__ = ["class_homogeneity", "mixing", "point_map", "probes", "rld", "save_figures", "spectrum", "trajectory"]
