"""Issues as tables of other programs: pandas, CSV, Parquet, JSON, cleanlab's Datalab, FiftyOne."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from clorg_scale.errors import require
from clorg_scale.store.atomic import write_whole
from clorg_scale.store.endings import check_ending

__all__ = ["ISSUE_FILES", "SEPARATORS", "check_packages", "cleanlab_columns", "data_frame", "fiftyone_fields", "write"]

SEPARATORS = {".csv": ",", ".tsv": "\t"}

ISSUE_FILES = (*SEPARATORS, ".parquet", ".json")
"""Endings of files that issues are written to."""

BLOCK_ROWS = 2**16


class PointIssues(Protocol):
    """Contents of a file of issues: columns of all points, or everything as JSON."""

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """One row for each point, by column."""

    def to_json(self, path: str | Path) -> Path:
        """Write the tables and arrays."""


def check_packages(path: Path | str | None) -> None:
    """Import what writing this file needs, before anything is computed.

    Raises
    ------
    MissingDependencyError
        If it is not installed.
    """
    if path is not None and Path(path).suffix.lower() == ".parquet":
        require("pyarrow.parquet", extra="interop", purpose="Writing .parquet files")


def write(issues: PointIssues, path: Path | str, endings: tuple[str, ...] = ISSUE_FILES) -> Path:
    """Write all points (.csv, .tsv, .parquet), or the tables of issues and all arrays beside them (.json).

    The files appear whole or not at all.

    Raises
    ------
    InputError
        If the ending is another one, or the file cannot be written.
    MissingDependencyError
        For .parquet without pyarrow.
    """
    ending = check_ending(path, endings)
    check_packages(path)
    if ending == ".parquet":
        _write_parquet(issues.columns(), path)
    elif ending == ".json":
        issues.to_json(path)
    else:
        _write_text(issues.columns(), path, SEPARATORS[ending])
    return Path(path)


def _write_text(columns: dict[str, npt.NDArray[Any]], path: Path | str, separator: str) -> None:
    """Write columns with a header; empty cells for NaN and for no set."""
    n = len(next(iter(columns.values())))
    with write_whole(path, "w") as file:
        writer = csv.writer(file, delimiter=separator, lineterminator="\n")
        writer.writerow(columns)
        for start in range(0, n, BLOCK_ROWS):
            cells = [_text(name, column[start : start + BLOCK_ROWS]) for name, column in columns.items()]
            writer.writerows(zip(*cells, strict=True))


def _text(name: str, column: npt.NDArray[Any]) -> list[str]:
    if column.dtype.kind == "f":
        return ["" if np.isnan(value) else f"{value:.7g}" for value in column.tolist()]
    if name == "near_duplicate_set":
        return ["" if value < 0 else str(value) for value in column.tolist()]
    if column.dtype.kind == "b":
        return ["true" if value else "false" for value in column.tolist()]
    return [str(value) for value in column.tolist()]


def _write_parquet(columns: dict[str, npt.NDArray[Any]], path: Path | str) -> None:
    """Write columns; null for NaN, for no set and for no label."""
    pyarrow = require("pyarrow", extra="interop", purpose="Writing .parquet files")
    parquet = require("pyarrow.parquet", extra="interop", purpose="Writing .parquet files")
    missing = {name: _missing(name, column) for name, column in columns.items()}
    table = pyarrow.table({name: pyarrow.array(column, mask=missing[name]) for name, column in columns.items()})
    with write_whole(path) as file:
        parquet.write_table(table, file)


def _missing(name: str, column: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    if column.dtype.kind == "f":
        return np.asarray(np.isnan(column))
    if name == "near_duplicate_set":
        return np.asarray(column < 0)
    return np.asarray(column == "") if column.dtype.kind == "U" else np.zeros(len(column), dtype=bool)


def data_frame(columns: dict[str, Any]) -> Any:
    """`pandas.DataFrame` of columns.

    Raises
    ------
    MissingDependencyError
        If pandas is not installed.
    """
    pandas = require("pandas", extra="interop", purpose="A data frame of issues")
    return pandas.DataFrame(columns)


def cleanlab_columns(points: Mapping[str, npt.NDArray[Any]]) -> dict[str, Any]:
    """Columns of cleanlab's Datalab: of each kind whether it is an issue and a score between 0 and 1, low for an issue.

    `points`: columns of all points. `outlier_score` is 1 / (1 + isolation max(1, factor)), `near_duplicate_score`
    1 - exp(-d / d'), with the distance d to the nearest point and its median d'; `near_duplicate_sets` holds the other
    members of a point's set.
    """
    nearest, set_of = points["nearest_distance"], points["near_duplicate_set"]
    middle = float(np.median(nearest))
    spread = points["isolation"].astype(np.float64) * np.maximum(points["outlier_factor"], 1)
    return {
        "is_label_issue": points["is_label_issue"],
        "label_score": points["label_score"],
        "given_label": points["given_label"],
        "predicted_label": points["suggested_label"],
        "is_outlier_issue": points["is_outlier"],
        "outlier_score": 1 / (1 + spread),
        "is_near_duplicate_issue": set_of >= 0,
        "near_duplicate_score": 1 - np.exp(-nearest / middle) if middle > 0 else (nearest > 0).astype(float),
        "near_duplicate_sets": _other_members(set_of),
    }


def _other_members(set_of: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    """The other points of each point's set; an empty array for a point in none."""
    members = np.flatnonzero(set_of >= 0)
    members = members[np.argsort(set_of[members], kind="stable")]
    groups = np.split(members, np.flatnonzero(np.diff(set_of[members])) + 1) if len(members) else []
    found = [np.empty(0, np.int64)] * len(set_of)
    for group in groups:
        for point in group:
            found[point] = group[group != point]
    return found


def fiftyone_fields(points: Mapping[str, npt.NDArray[Any]]) -> dict[str, list[Any]]:
    """Lists of plain values for `fiftyone.Dataset.set_values`; None where there is nothing to say.

    `points`: columns of all points. `mistakenness` is FiftyOne's name for a score of suspicious labels that is high for
    suspicious ones.
    """
    values = {name: column.tolist() for name, column in points.items()}
    return {
        "label_issue": values["is_label_issue"],
        "mistakenness": [None if score != score else 1 - score for score in values["label_score"]],
        "suggested_label": [name or None for name in values["suggested_label"]],
        "suggested_confidence": values["suggested_score"],
        "outlier": values["is_outlier"],
        "outlier_factor": values["outlier_factor"],
        "isolation": values["isolation"],
        "near_duplicate_set": [None if number < 0 else number for number in values["near_duplicate_set"]],
    }
