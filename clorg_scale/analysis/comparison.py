"""`compare`: several models' analyses side by side."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clorg_scale.analysis.result import Analysis
from clorg_scale.analysis.summaries import LookAlike
from clorg_scale.arrays import on_host
from clorg_scale.errors import InputError
from clorg_scale.neighbors import KNN
from clorg_scale.report import write_comparison
from clorg_scale.store.atomic import result_folder, write_together, write_whole
from clorg_scale.store.endings import check_ending
from clorg_scale.store.locks import lock_folder, releasing_locks

__all__ = ["Comparison", "compare", "quantities"]


@dataclass(frozen=True)
class Comparison:
    """Analyses of several models by name.

    Attributes
    ----------
    analyses
        In the order they were handed in.
    """

    analyses: dict[str, Analysis]

    def table(self) -> list[dict[str, str | float | int | None]]:
        """Rows of one quantity each: its name, then each model's value (None where a model lacks it)."""
        rows: dict[str, dict[str, float | int | None]] = {}
        for name, analysis in self.analyses.items():
            for quantity, value in quantities(analysis).items():
                rows.setdefault(quantity, {})[name] = value
        return [
            {"quantity": quantity} | {name: values.get(name) for name in self.analyses}
            for quantity, values in rows.items()
        ]

    def look_alikes(self, n_most: int = 10) -> list[dict[str, Any]]:
        """Look-alikes of each model, and what the others say of them.

        Parameters
        ----------
        n_most
            Pairs of each model, the nearest.

        Returns
        -------
        Rows: ``model``, ``index``, ``other``, ``label``, ``other_label``, ``distance`` (in units of the model's mean
        distance), and ``ranks`` by the name of each other model: the rank of one of the points among the neighbors of
        the other there (1 is the nearest; the better of both directions), 0 where neither is among the k nearest, None
        where that model's k-NN table is not there any more.
        """
        tables = {name: analysis.neighbor_table() for name, analysis in self.analyses.items()}
        rows: list[dict[str, Any]] = []
        for model, analysis in self.analyses.items():
            for pair in [] if analysis.issues is None else analysis.issues.look_alikes[:n_most]:
                ranks = {name: _rank(table, pair) for name, table in tables.items() if name != model}
                rows.append({"model": model, **pair.to_dict(), "ranks": ranks})
        return rows

    def report(self, path: str | Path) -> Path:
        """Write the self-contained HTML page, whole or not at all."""
        check_ending(path, (".html", ".htm"))
        return write_comparison(self.analyses, path, look_alikes=self.look_alikes())

    @releasing_locks
    def write(self, folder: str | Path) -> None:
        """Write comparison.html and comparison.json (the table) into a folder: both of them, or none.

        Raises
        ------
        InputError
            If the folder cannot be written, or another run is writing to it.
        """
        folder = Path(folder)
        with result_folder(folder):
            lock_folder(folder)
            with write_together():
                self.report(folder / "comparison.html")
                with write_whole(folder / "comparison.json", "w") as file:
                    file.write(json.dumps(self.table(), indent=1, allow_nan=False) + "\n")


def compare(analyses: Mapping[str, Analysis]) -> Comparison:
    """Put analyses side by side.

    Parameters
    ----------
    analyses
        Two or more, by the name of the model. RLD at small temperatures depends on the number of points:
        compare models on the same data.

    Raises
    ------
    InputError
        If there are fewer than two, or they are of different numbers of points or classes.

    Warns
    -----
    UserWarning
        If only some of the models' embeddings were normalized.
    """
    if len(analyses) < 2:
        raise InputError(f"A comparison needs at least two analyses, not {len(analyses)}.")
    first = next(iter(analyses))
    for name, analysis in analyses.items():
        for quantity in ("n_points", "classes"):
            ours, theirs = getattr(analyses[first], quantity), getattr(analysis, quantity)
            if ours != theirs:
                what = f"{ours} and {theirs} points" if quantity == "n_points" else "different classes"
                raise InputError(
                    f"The analyses {first!r} and {name!r} have {what}; RLD depends on the number of points, "
                    "so compare models on the same data."
                )
    normalized = [name for name, analysis in analyses.items() if analysis.settings.get("normalize")]
    if 0 < len(normalized) < len(analyses):
        warnings.warn(
            f"Only the embeddings of {', '.join(map(repr, normalized))} were normalized; the numbers of the models are "
            "not comparable.",
            stacklevel=2,
        )
    return Comparison(dict(analyses))


def _rank(table: KNN | None, pair: LookAlike) -> int | None:
    """Rank of a pair in a k-NN table, the better of both directions; 0 where neither lists the other."""
    if table is None:
        return None
    found = [
        int(np.flatnonzero(neighbors == other)[0]) + 1
        for point, other in ((pair.index, pair.other), (pair.other, pair.index))
        if other in (neighbors := on_host(table.indices[point]))
    ]
    return min(found, default=0)


def quantities(analysis: Analysis) -> dict[str, float | int | None]:
    """List every quantity that models are compared by, in the order of a report."""
    rows: dict[str, float | int | None] = {}
    for temperature, value in zip(analysis.rld.temperatures, analysis.rld.values, strict=True):
        rows[f"RLD, T = {temperature:g}"] = value
    for k, value in analysis.class_homogeneity.items():
        rows[f"CHI, k = {k}"] = value
    rows["Calinski-Harabasz"] = analysis.calinski_harabasz
    rows["modularity of classes"] = analysis.communities.class_modularity
    rows["modularity of communities"] = analysis.communities.modularity
    rows["communities"] = analysis.communities.n_communities
    rows["NMI of communities and classes"] = analysis.communities.nmi
    rows |= _spectrum_quantities(analysis)
    for probe in analysis.probes:
        rows[f"accuracy, {probe.name}"] = probe.accuracy
    return rows | _issue_quantities(analysis)


def _issue_quantities(analysis: Analysis) -> dict[str, float | int | None]:
    """Numbers of issues of the data set."""
    found = analysis.issues
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


def _spectrum_quantities(analysis: Analysis) -> dict[str, float | int | None]:
    """Clusters of the graph, and the share of the classes that as many eigenvectors hold as there are classes."""
    found = analysis.spectrum
    if found is None or not found.eigenvalues:
        return {}
    m = min(len(analysis.classes), len(found.eigenvalues))
    return {
        "clusters by the eigengap": found.n_clusters,
        f"share of the classes in {m} eigenvectors": found.class_share[m - 1],
    }
