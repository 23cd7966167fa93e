"""Result of `find_issues`: scores of every point, and tables of the issues."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from clorg_scale.counted import counted
from clorg_scale.issues.duplicates import Duplicates
from clorg_scale.results.result import Columns, Result
from clorg_scale.results.stored import beside

__all__ = ["Issues", "table_of"]

Table = npt.NDArray[np.void]

_TABLES = ("label_issues", "suggested_labels", "near_duplicates", "leaks", "outliers", "class_overlap", "look_alikes")
"""Attributes that are tables of issues."""


@dataclass(frozen=True)
class Issues(Result):
    """Suspicious points of a data set.

    Attributes hold one value for each of the n points; `label_issues`, `near_duplicates`, `leaks`, `outliers`,
    `class_overlap` and `look_alikes` are tables of those that are issues, the worst first, as structured arrays:
    `table["index"]` is a column, `to_frame("outliers")` a data frame.

    Attributes
    ----------
    classes
        (C,) names of the classes.
    given
        (n,) code of the given label; -1 where unlabelled.
    label_score
        (n,) float32 calibrated probability of the given label: small values are
        suspicious. Not the probability that the label is right: look-alikes of two classes have small values too. NaN
        where unlabelled, and where no other point has this label.
    is_label_issue
        (n,) whether another class is as probable as it usually is for points with its label (confident learning).
    suggested
        (n,) code of the most probable class, of unlabelled points too.
    suggested_score
        (n,) float32 its probability.
    outlier_factor
        (n,) float32 local outlier factor of the k neighbors; about 1 inside a cluster.
    isolation
        (n,) float32 mean distance to the k neighbors over its median.
    is_outlier
        (n,) whether either is large (1.5; Tukey's outer fence).
    duplicates
        Sets of near-duplicates, of points and test points.
    overlap_pairs, overlap_shares
        (p, 2) codes of two classes, and (p, 3) their overlap and each one's share of affinity that goes to the other.
    look_alike_pairs, look_alike_distances
        (p, 2) the most similar points of different classes, and (p,) how far apart they are.
    test_given
        (m,) code of the label of each test point, -1 where unlabelled; None without a test set.
    details
        How it was computed: k, temperature, weights of graph and probe, index, recall.
    """

    classes: list[str]
    given: npt.NDArray[np.int64] = field(metadata=beside())
    label_score: npt.NDArray[np.float32] = field(metadata=beside())
    is_label_issue: npt.NDArray[np.bool_] = field(metadata=beside())
    suggested: npt.NDArray[np.int64] = field(metadata=beside())
    suggested_score: npt.NDArray[np.float32] = field(metadata=beside())
    outlier_factor: npt.NDArray[np.float32] = field(metadata=beside())
    isolation: npt.NDArray[np.float32] = field(metadata=beside())
    is_outlier: npt.NDArray[np.bool_] = field(metadata=beside())
    duplicates: Duplicates
    overlap_pairs: npt.NDArray[np.int64] = field(metadata=beside())
    overlap_shares: npt.NDArray[np.float64] = field(metadata=beside())
    look_alike_pairs: npt.NDArray[np.int64] = field(metadata=beside())
    look_alike_distances: npt.NDArray[np.float64] = field(metadata=beside())
    test_given: npt.NDArray[np.int64] | None = field(default=None, metadata=beside())
    details: dict[str, Any] = field(default_factory=dict)

    _derived: ClassVar[tuple[str, ...]] = ("n_points", "counts", *_TABLES)

    @property
    def n_points(self) -> int:
        """Points n, without test points."""
        return len(self.given)

    @property
    def label_issues(self) -> Table:
        """Label issues, the least probable label first: index, given_label, suggested_label, label_score."""
        rows = np.flatnonzero(self.is_label_issue)
        rows = rows[np.argsort(self.label_score[rows], kind="stable")]
        return table_of(
            index=rows,
            given_label=self._names(self.given[rows]),
            suggested_label=self._names(self.suggested[rows]),
            label_score=self.label_score[rows],
        )

    @property
    def suggested_labels(self) -> Table:
        """Labels for the unlabelled points, the most probable first: index, suggested_label, suggested_score."""
        rows = np.flatnonzero(self.given < 0)
        rows = rows[np.argsort(-self.suggested_score[rows], kind="stable")]
        return table_of(
            index=rows,
            suggested_label=self._names(self.suggested[rows]),
            suggested_score=self.suggested_score[rows],
        )

    @property
    def near_duplicates(self) -> Table:
        """Members of each set of near-duplicates: set, index, in_test, label, distance to the nearest point."""
        found = self.duplicates
        members = np.flatnonzero(found.set_of >= 0)
        members = members[np.argsort(found.set_of[members], kind="stable")]
        in_test = members >= self.n_points
        given = self.given if self.test_given is None else np.concatenate([self.given, self.test_given])
        return table_of(
            set=found.set_of[members],
            index=np.where(in_test, members - self.n_points, members),
            in_test=in_test,
            label=self._names(given[members]),
            distance=found.nearest[members],
        )

    @property
    def leaks(self) -> Table:
        """Test points that are near-duplicates of points: test_index, index, test_label, label, distance."""
        found = self.duplicates
        order = np.lexsort((found.leaks[:, 1], found.leaks[:, 0], found.leak_distances))
        tested, points = found.leaks[order].T
        test_given = np.empty(0, np.int64) if self.test_given is None else self.test_given
        return table_of(
            test_index=tested,
            index=points,
            test_label=self._names(test_given[tested]),
            label=self._names(self.given[points]),
            distance=found.leak_distances[order],
        )

    @property
    def outliers(self) -> Table:
        """Outliers, the most isolated first: index, label, outlier_factor, isolation."""
        rows = np.flatnonzero(self.is_outlier)
        rows = rows[np.lexsort((rows, -self.outlier_factor[rows] * self.isolation[rows]))]
        return table_of(
            index=rows,
            label=self._names(self.given[rows]),
            outlier_factor=self.outlier_factor[rows],
            isolation=self.isolation[rows],
        )

    @property
    def class_overlap(self) -> Table:
        """Pairs of classes, the most overlapping first.

        Columns: first_class, second_class, overlap 2 W_ab / (K_a + K_b), first_to_second W_ab / K_a, second_to_first,
        and n_first_as_second, n_second_as_first: label issues of the first that are suggested to be the second, and
        the other way round.
        """
        a, b = self.overlap_pairs.T
        n_classes = len(self.classes)
        rows = np.flatnonzero(self.is_label_issue)
        kinds, counts = np.unique(self.given[rows] * n_classes + self.suggested[rows], return_counts=True)

        def confused(given: npt.NDArray[np.int64], suggested: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
            if not len(kinds):
                return np.zeros(len(given), np.int64)
            wanted = given * n_classes + suggested
            at = np.minimum(np.searchsorted(kinds, wanted), len(kinds) - 1)
            return np.where(kinds[at] == wanted, counts[at], 0)

        return table_of(
            first_class=self._names(a),
            second_class=self._names(b),
            overlap=self.overlap_shares[:, 0],
            first_to_second=self.overlap_shares[:, 1],
            second_to_first=self.overlap_shares[:, 2],
            n_first_as_second=confused(a, b),
            n_second_as_first=confused(b, a),
        )

    @property
    def look_alikes(self) -> Table:
        """Most similar points of different classes, the nearest first: index, other, label, other_label, distance."""
        first, second = self.look_alike_pairs.T
        return table_of(
            index=first,
            other=second,
            label=self._names(self.given[first]),
            other_label=self._names(self.given[second]),
            distance=self.look_alike_distances,
        )

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """One row for each point, by column: everything that is known of it."""
        n = self.n_points
        return {
            "index": np.arange(n),
            "given_label": self._names(self.given),
            "suggested_label": self._names(self.suggested),
            "is_label_issue": self.is_label_issue,
            "label_score": self.label_score,
            "suggested_score": self.suggested_score,
            "is_outlier": self.is_outlier,
            "outlier_factor": self.outlier_factor,
            "isolation": self.isolation,
            "near_duplicate_set": self.duplicates.set_of[:n],
            "nearest_distance": self.duplicates.nearest[:n],
            "in_test_set": self._is_leaked(),
        }

    def to_cleanlab(self) -> Any:
        """`pandas.DataFrame` with the columns of cleanlab's `Datalab.get_issues()` and of its details for labels."""
        from clorg_scale.issues.exports import cleanlab_columns, data_frame

        return data_frame(cleanlab_columns(self.columns()))

    def to_fiftyone(self) -> dict[str, list[Any]]:
        """Values of sample fields, in the order of the points.

        ``for name, values in issues.to_fiftyone().items(): dataset.set_values(name, values)``

        To evaluate suggestions, or to color by them, make labels of ``suggested_label`` and ``suggested_confidence``:
        `fiftyone.Classification(label=..., confidence=...)`.
        """
        from clorg_scale.issues.exports import fiftyone_fields

        return fiftyone_fields(self.columns())

    def to_csv(self, path: str | Path) -> Path:
        """Write all points as a .csv (or .tsv) file, whole or not at all."""
        from clorg_scale.issues.exports import SEPARATORS, write

        return write(self, path, tuple(SEPARATORS))

    def to_parquet(self, path: str | Path) -> Path:
        """Write all points as a .parquet file, whole or not at all."""
        from clorg_scale.issues.exports import write

        return write(self, path, (".parquet",))

    def to_dict(self) -> dict[str, Any]:
        """The tables of issues and how they were found, as JSON can hold them."""
        tables = {name: _records(getattr(self, name)) for name in _TABLES}
        return {"n_points": self.n_points, "counts": self.counts(), "details": self.details} | tables

    def counts(self) -> dict[str, int]:
        """Numbers of issues by their kind."""
        return {
            "label_issues": int(self.is_label_issue.sum()),
            "unlabelled": int((self.given < 0).sum()),
            "near_duplicates": int((self.duplicates.set_of[: self.n_points] >= 0).sum()),
            "near_duplicate_sets": int(self.duplicates.set_of.max(initial=-1)) + 1,
            "test_points_in_train": len(np.unique(self.duplicates.leaks[:, 0])),
            "outliers": int(self.is_outlier.sum()),
            "overlapping_classes": len(self.overlap_pairs),
        }

    def _line(self) -> str:
        found = self.counts()
        return (
            f"{self.n_points:,} points: {counted(found['label_issues'], 'label issue')}, "
            f"{counted(found['near_duplicates'], 'near-duplicate')} in {counted(found['near_duplicate_sets'], 'set')}, "
            f"{counted(found['outliers'], 'outlier')}"
        )

    def _tables(self) -> dict[str, Callable[[], Columns]]:
        return {"points": self.columns} | {name: partial(self._columns_of, name) for name in _TABLES}

    def _columns_of(self, name: str) -> Columns:
        table = getattr(self, name)
        return {column: table[column] for column in table.dtype.names}

    def _shown(self) -> Columns:
        return self._columns_of("label_issues")

    def _is_leaked(self) -> npt.NDArray[np.bool_]:
        leaked = np.zeros(self.n_points, dtype=bool)
        leaked[self.duplicates.leaks[:, 1]] = True
        return leaked

    def _names(self, codes: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Names of classes; "" where unlabelled."""
        return np.array([*self.classes, ""])[codes]


def table_of(**columns: npt.NDArray[Any]) -> Table:
    """Structured array of columns of one length."""
    kinds = [(name, column.dtype) for name, column in columns.items()]
    table = np.empty(len(next(iter(columns.values()))), dtype=kinds)
    for name, column in columns.items():
        table[name] = column
    return table


def _records(table: Table) -> list[dict[str, Any]]:
    """Rows as dictionaries; None for NaN and infinity, which JSON lacks."""
    names = table.dtype.names or ()
    columns = [[_plain(value) for value in table[name].tolist()] for name in names]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
