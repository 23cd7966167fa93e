"""Reports: one self-contained HTML file for an analysis, or for several side by side."""

from clorg_scale.report.page import write_comparison, write_report, write_trajectory

__all__ = ["write_comparison", "write_report", "write_trajectory"]
