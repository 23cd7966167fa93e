"""Record of an analysis: every number of one model's embeddings, as plain data that goes to JSON and back."""

from __future__ import annotations

from collections.abc import Callable, Sized
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from clorg_scale.analysis.stages import read_result
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
from clorg_scale.neighbors import KNN
from clorg_scale.probes.result import ProbeResult
from clorg_scale.probes.study import StudyRow
from clorg_scale.results.plain import Plain
from clorg_scale.results.result import Columns, Result
from clorg_scale.results.stored import beside, read_document, read_stored, write_stored

__all__ = ["AnalysisRecord"]

FORMAT = "clorg-scale analysis 2"

FORMAT_OF_LISTS = "clorg-scale analysis 1"
"""Earlier format, with all arrays as lists in the JSON."""


@dataclass(frozen=True)
class AnalysisRecord(Result, Plain):
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
    points: dict[str, npt.NDArray[Any]] = field(default_factory=dict, compare=False, repr=False, metadata=beside())
    """Values of every point, (n_points,) each, by name: "class_code", "community", "local_density" at the temperature
    of the map, and, where there is a map, the positions "map_x" and "map_y"; empty in older records."""

    class_mixing: npt.NDArray[np.float64] | None = field(default=None, compare=False, repr=False, metadata=beside())
    """(C, C) share of the affinity of each class in the graph that goes to each class; a row sums to one, or is zero
    for a class without an edge. None in older records."""

    def to_dict(self) -> dict[str, Any]:
        """Nested dictionaries and lists, as in a JSON file; everything but `points` and `class_mixing`."""
        return asdict(replace(self, points={}, class_mixing=None), dict_factory=_without_arrays)

    def to_json(self, path: str | Path) -> Path:
        """Write a JSON file with the numbers, and beside it the arrays: both of them, or none.

        ``analysis.json`` has its arrays in ``analysis_arrays.npz``. `clorg_scale.analysis.SCHEMA` is the path of the
        JSON schema.
        """
        return write_stored(self, path, FORMAT)

    @classmethod
    def from_json(cls, path: str | Path) -> Self:
        """Read what `to_json` wrote; `path` may also be the folder that `analyze` wrote.

        Raises
        ------
        InputError
            If the file is missing, truncated, or something else, or its arrays are missing or those of another
            analysis.
        """
        file = Path(path) / "analysis.json" if Path(path).is_dir() else Path(path)
        if not file.exists():
            raise InputError(f"There is no analysis at {file}; make one with 'clorg-scale analyze'.")
        document = read_document(file, "an analysis")
        if document.pop("format", None) not in (FORMAT, FORMAT_OF_LISTS):
            raise InputError(f"{file} is not an analysis that this version of clorg-scale wrote.")
        record = read_stored(cls, file, _renamed(document), "an analysis")
        try:
            record._check_lengths()
        except ValueError as error:
            raise InputError(f"{file} is not an analysis, or was changed by hand ({error}).") from error
        return record.stored_in(file.parent)

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

    def quantities(self) -> dict[str, float | int | None]:
        """Every quantity that models are compared by, in the order of a report."""
        rows: dict[str, float | int | None] = {}
        for temperature, value in zip(self.rld.temperatures, self.rld.values, strict=True):
            rows[f"RLD, T = {temperature:g}"] = value
        for k, value in self.class_homogeneity.items():
            rows[f"CHI, k = {k}"] = value
        rows["Calinski-Harabasz"] = self.calinski_harabasz
        rows["modularity of classes"] = self.communities.class_modularity
        rows["modularity of communities"] = self.communities.modularity
        rows["communities"] = self.communities.n_communities
        rows["NMI of communities and classes"] = self.communities.nmi
        rows |= self._spectrum_quantities()
        for probe in self.probes:
            rows[f"accuracy, {probe.name}"] = probe.accuracy
        return rows | self._issue_quantities()

    def _issue_quantities(self) -> dict[str, float | int | None]:
        """Numbers of issues of the data set."""
        found = self.issues
        if found is None:
            return {}
        rows: dict[str, float | int | None] = {
            "points unlike their neighbors": found.n_suspects,
            "near-duplicates": found.n_near_duplicates,
            "outliers": found.n_outliers,
        }
        if found.n_test_in_train is not None:
            rows["test points among the points"] = found.n_test_in_train
        return rows

    def _spectrum_quantities(self) -> dict[str, float | int | None]:
        """Clusters of the graph, and the share of the classes that as many eigenvectors hold as there are classes."""
        found = self.spectrum
        if found is None or not found.eigenvalues:
            return {}
        m = min(len(self.classes), len(found.eigenvalues))
        return {
            "clusters by the eigengap": found.n_clusters,
            f"share of the classes in {m} eigenvectors": found.class_share[m - 1],
        }

    def _tables(self) -> dict[str, Callable[[], Columns]]:
        return {
            "quantities": self._by_quantity,
            "classes": self._by_class,
            "probes": lambda: _columns([probe.row() for probe in self.probes]),
            "probe study": lambda: _columns([row.row() for row in self.probe_study]),
            "points": lambda: self.points,
            "map": self._mapped_points,
            "suspects": lambda: _columns([suspect.to_dict() for suspect in self.suspects]),
            "stages": lambda: _columns([note.to_dict() for note in self.stages]),
        }

    def _by_quantity(self) -> Columns:
        found = self.quantities()
        return {"quantity": list(found), "value": list(found.values())}

    def _by_class(self) -> Columns:
        columns: dict[str, Any] = {"class": self.classes, "size": self.class_sizes}
        for at, temperature in enumerate(self.rld.temperatures):
            columns[f"purity, T = {temperature:g}"] = self.rld.purity[at]
            columns[f"contribution, T = {temperature:g}"] = self.rld.per_class[at]
        return columns

    def _mapped_points(self) -> Columns:
        names = ("index", "x", "y", "class_code", "community", "local_density")
        return {"row" if name == "index" else name: getattr(self.point_map, name) for name in names}

    def _line(self) -> str:
        scales = sorted(zip(self.rld.temperatures, self.rld.values, strict=True))
        ends = [f"RLD {value:.4f} at T = {at:g}" for at, value in dict.fromkeys((scales[0], scales[-1]))]
        return f"{self.name!r}: {self.n_points:,} points, {len(self.classes):,} classes; {', '.join(ends)}"

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
            (self.n_points, list(self.points.values())),
        ]
        if self.spectrum is not None:
            together.append((len(self.spectrum.eigenvalues), [self.spectrum.class_share]))
            together.append((n_classes, [self.spectrum.per_class]))
        for length, lists in together:
            if any(len(values) != length for values in lists):
                raise ValueError("lists that belong together differ in length")


def _columns(rows: list[dict[str, Any]]) -> Columns:
    """Columns of a table of rows with the same names."""
    return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}


def _without_arrays(entries: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in entries if name not in ("points", "class_mixing")}


def _renamed(document: dict[str, Any]) -> dict[str, Any]:
    """Rename entries of earlier versions: the result in a row of the probes' study was called its score."""
    rows = document.get("probe_study")
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, dict) and "score" in row:
            row["result"] = row.pop("score")
    return document
