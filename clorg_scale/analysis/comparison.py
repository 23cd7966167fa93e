"""`compare`: several models' analyses side by side."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from clorg_scale.analysis.result import Analysis
from clorg_scale.errors import InputError
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

    def report(self, path: str | Path) -> Path:
        """Write the self-contained HTML page, whole or not at all."""
        check_ending(path, (".html", ".htm"))
        return write_comparison(self.analyses, path)

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
