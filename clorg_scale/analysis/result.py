"""`Analysis`: the record of an analysis with its report."""

from __future__ import annotations

from pathlib import Path

from clorg_scale.analysis.record import AnalysisRecord
from clorg_scale.report import write_report
from clorg_scale.store.endings import check_ending

__all__ = ["Analysis"]


class Analysis(AnalysisRecord):
    """Every number of one model's embeddings.

    Written by `clorg_scale.analyze`; `to_json`, `from_json` and `report` take it to a file, back, and to a page.
    """

    def report(self, path: str | Path) -> Path:
        """Write the self-contained HTML report."""
        check_ending(path, (".html", ".htm"))
        return write_report(self, path)
