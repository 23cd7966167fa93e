"""`Analysis`: the record of an analysis with its report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from clorg_scale.analysis.record import AnalysisRecord
from clorg_scale.analysis.stages import read_result
from clorg_scale.neighbors import KNN
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

    @classmethod
    def from_json(cls, path: str | Path) -> Self:
        """Read what `to_json` wrote; `path` may also be the folder that `analyze` wrote.

        Raises
        ------
        InputError
            If the file is missing, truncated, or something else.
        """
        record = super().from_json(path)
        return record.stored_in(Path(path) if Path(path).is_dir() else Path(path).parent)

    def stored_in(self, folder: Path) -> Self:
        """Read the k-NN table from this folder when it is needed, instead of keeping it."""
        object.__setattr__(self, "_folder", folder)
        object.__setattr__(self, "_neighbors", None)
        return self

    def with_changes(self, **changes: Any) -> Self:
        """Copy with other values of fields, and the same k-NN table."""
        changed = replace(self, **changes)
        for name in ("_folder", "_neighbors"):
            object.__setattr__(changed, name, getattr(self, name, None))
        return changed

    def with_neighbors(self, table: KNN) -> Self:
        """Keep the k-NN table of the points at hand, for `neighbor_table`."""
        object.__setattr__(self, "_neighbors", table)
        return self

    def neighbor_table(self) -> KNN | None:
        """k-NN table of the points: at hand, or from the folder of the results; None where it is not there any more."""
        at_hand: KNN | None = getattr(self, "_neighbors", None)
        folder: Path | None = getattr(self, "_folder", None)
        file = None if self.issues is None else self.issues.neighbors_file
        if at_hand is not None or folder is None or file is None:
            return at_hand
        # The name comes from a file that others may have written: nothing outside the folder is read.
        table = read_result(folder / Path(file).name, KNN)
        return table if table is not None and table.n_points == self.n_points else None
