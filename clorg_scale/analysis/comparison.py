"""`compare`: several models' analyses side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from clorg_scale.analysis.result import Analysis
from clorg_scale.errors import InputError

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
        """One row a quantity: its name, then each model's value (None where a model lacks it)."""
        rows: dict[str, dict[str, float | int | None]] = {}
        for name, analysis in self.analyses.items():
            for quantity, value in quantities(analysis).items():
                rows.setdefault(quantity, {})[name] = value
        return [
            {"quantity": quantity} | {name: values.get(name) for name in self.analyses}
            for quantity, values in rows.items()
        ]

    def report(self, path: str | Path) -> Path:
        """Write the self-contained HTML page."""
        from clorg_scale.report import write_comparison
        from clorg_scale.store.endings import check_ending

        check_ending(path, (".html", ".htm"))
        return write_comparison(self.analyses, path)


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
    """
    if len(analyses) < 2:
        raise InputError(f"A comparison needs at least two analyses, not {len(analyses)}.")
    first = next(iter(analyses))
    for name, analysis in analyses.items():
        for quantity in ("n_points", "classes"):
            here, there = getattr(analyses[first], quantity), getattr(analysis, quantity)
            if here != there:
                what = f"{here} and {there} points" if quantity == "n_points" else "different classes"
                raise InputError(
                    f"The analyses {first!r} and {name!r} have {what}; RLD depends on the number of points, "
                    "so compare models on the same data."
                )
    return Comparison(dict(analyses))


def quantities(analysis: Analysis) -> dict[str, float | int | None]:
    """Everything comparable, in the order of a report."""
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
    rows |= _of_spectrum(analysis)
    for probe in analysis.probes:
        rows[f"accuracy, {probe.name}"] = probe.accuracy
    return rows


def _of_spectrum(analysis: Analysis) -> dict[str, float | int | None]:
    """The graph's own clusters, and how much of the classes as many eigenvectors hold as there are classes."""
    found = analysis.spectrum
    if found is None or not found.eigenvalues:
        return {}
    m = min(len(analysis.classes), len(found.eigenvalues))
    return {
        "clusters by the eigengap": found.n_clusters,
        f"share of the classes in {m} eigenvectors": found.class_share[m - 1],
    }
