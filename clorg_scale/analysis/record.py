"""Record of an analysis: every number of one model's embeddings, as plain data that goes to JSON and back."""

from __future__ import annotations

import json
from collections.abc import Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from clorg_scale.analysis.plain import Plain, build
from clorg_scale.analysis.summaries import (
    CommunitySummary,
    IssueSummary,
    NeighborSummary,
    PointMap,
    RLDSummary,
    SpectrumSummary,
    StageNote,
    Suspect,
    TableColumns,
)
from clorg_scale.errors import InputError
from clorg_scale.probes.result import ProbeResult
from clorg_scale.probes.study import StudyRow
from clorg_scale.store.atomic import write_whole
from clorg_scale.store.endings import check_ending
from clorg_scale.store.regular import check_fits_memory

__all__ = ["AnalysisRecord"]

FORMAT = "clorg-scale analysis 1"


@dataclass(frozen=True)
class AnalysisRecord(Plain):
    """Every number of one model's embeddings; `clorg_scale.Analysis` adds the report."""

    name: str
    n_points: int
    n_features: int
    n_test: int
    test_source: str
    """Origin of the probes' test points: "given" or "held out" (a stratified share of the points)."""
    classes: list[str]
    class_sizes: list[int]
    n_unlabelled: int
    rld: RLDSummary
    class_homogeneity: dict[int, float]
    """CHI at each k."""
    class_homogeneity_stderr: dict[int, float]
    """Standard error of the sample of points; 0 where every point was asked."""
    calinski_harabasz: float | None
    """None where it is infinite: no point differs from the mean of its class."""
    neighbors: NeighborSummary
    communities: CommunitySummary
    probes: list[ProbeResult]
    point_map: PointMap
    suspects: list[Suspect]
    """Lowest local density first; of many, the first (`issues.n_suspects` counts all)."""
    stages: list[StageNote]
    settings: dict[str, str | int | float | bool | None]
    versions: dict[str, str]
    probe_study: list[StudyRow] = field(default_factory=list)
    """Probes at other shares of labels, numbers of neighbors and temperatures; empty where no study was made."""
    spectrum: SpectrumSummary | None = None
    """None in records of versions that had no spectrum."""
    class_homogeneity_points: int | None = None
    """Labeled points whose neighbors class homogeneity was measured on; None in older records."""
    class_homogeneity_metric: str = "cosine"
    """Metric of those neighbors."""
    columns: dict[str, TableColumns] = field(default_factory=dict)
    """Columns taken and left out, for each of "embeddings", "labels", "test embeddings" and "test labels" that
    `load_embeddings` read from a table."""
    issues: IssueSummary | None = None
    """None in records of versions that had none."""

    def to_json(self, path: str | Path) -> Path:
        """Write everything to a JSON file, whole or not at all."""
        check_ending(path, (".json",))
        text = json.dumps(self.to_dict() | {"format": FORMAT}, indent=1, allow_nan=False)
        with write_whole(path, "w") as file:
            file.write(text + "\n")
        return Path(path)

    @classmethod
    def from_json(cls, path: str | Path) -> Self:
        """Read what `to_json` wrote; `path` may also be the folder that `analyze` wrote.

        Raises
        ------
        InputError
            If the file is missing, truncated, or something else.
        """
        file = Path(path) / "analysis.json" if Path(path).is_dir() else Path(path)
        check_fits_memory(file)
        try:
            document = json.loads(file.read_text(encoding="utf-8"), parse_constant=_refuse)
        except FileNotFoundError:
            raise InputError(f"There is no analysis at {file}; make one with 'clorg-scale analyze'.") from None
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"{file} is not an analysis, or only a part of one ({error}).") from error
        if not isinstance(document, dict) or document.pop("format", None) != FORMAT:
            raise InputError(f"{file} is not an analysis that this version of clorg-scale wrote.")
        try:
            record: Self = build(cls, _renamed(document), "the document")
            record._check_lengths()
        except ValueError as error:
            raise InputError(f"{file} is not a complete analysis ({error}).") from error
        return record

    def _check_lengths(self) -> None:
        """Check that lists which belong together are equally long.

        Raises
        ------
        ValueError
            If they are not.
        """
        rld, points, n_classes = self.rld, self.point_map, len(self.classes)
        per_temperature: list[Sized] = [rld.values, rld.stderr, rld.null_mean, rld.null_std, rld.per_class, rld.purity]
        together: list[tuple[int, list[Sized]]] = [
            (len(rld.temperatures), per_temperature),
            (n_classes, [self.class_sizes, self.communities.class_by_community, *rld.per_class, *rld.purity]),
            (len(points.index), [points.x, points.y, points.class_code, points.community, points.local_density]),
        ]
        if self.spectrum is not None:
            together.append((len(self.spectrum.eigenvalues), [self.spectrum.class_share]))
            together.append((n_classes, [self.spectrum.per_class]))
        for length, lists in together:
            if any(len(values) != length for values in lists):
                raise ValueError("lists that belong together differ in length")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _renamed(document: dict[str, Any]) -> dict[str, Any]:
    """Rename what earlier versions called otherwise: the result in a row of the probes' study was its score."""
    rows = document.get("probe_study")
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, dict) and "score" in row:
            row["result"] = row.pop("score")
    return document
