"""`Analysis`: the record of an analysis with its report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from clorg_scale.analysis.record import AnalysisRecord
from clorg_scale.report import write_report
from clorg_scale.store.endings import check_ending

if TYPE_CHECKING:
    from clorg_scale.report.image_sources import ImageSource

__all__ = ["Analysis"]


class Analysis(AnalysisRecord):
    """Every number of one model's embeddings.

    Written by `clorg_scale.analyze`; `to_json`, `from_json` and `report` take it to a file, back, and to a page.
    """

    def report(self, path: str | Path, *, images: str | Path | ImageSource | None = None) -> Path:
        """Write the self-contained HTML report; of very large maps, the points are written to a file beside it.

        Parameters
        ----------
        path
            File to write.
        images
            The images of the points, in their order: a folder (with a subfolder for each class, or without), an idx
            file or a Parquet file. The report shows those of suspicious points with their nearest neighbors, of the
            most similar points of different classes, and of members of each community.
        """
        check_ending(path, (".html", ".htm"))
        return write_report(self, path, images=images)
