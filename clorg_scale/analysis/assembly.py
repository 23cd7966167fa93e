"""Assembly of the record of an analysis from the results of its stages."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from clorg_scale.affinity import AffinityGraph
from clorg_scale.agreement import agreement
from clorg_scale.analysis.inputs import Inputs, writable
from clorg_scale.analysis.probing import ProbeScores, StudyScores, rows_of_own_setting
from clorg_scale.analysis.result import Analysis
from clorg_scale.analysis.steps import CHI_METRIC, Homogeneity, Layout, SpreadRatio
from clorg_scale.analysis.summaries import (
    CommunitySummary,
    NeighborSummary,
    PointMap,
    RLDSummary,
    SpectrumSummary,
    StageNote,
)
from clorg_scale.analysis.suspects import MOST_SUSPECTS, find_suspects, summarize_issues
from clorg_scale.arrays import array_module, on_host
from clorg_scale.communities import Communities, modularity
from clorg_scale.neighbors import KNN
from clorg_scale.results.plain import select
from clorg_scale.rld import RLDResult
from clorg_scale.version import __version__

__all__ = ["Results", "assemble"]

BEST_TEMPERATURE = 0.1
"""Temperature at which local density finds mislabeled points best."""

PACKAGES = ("numpy", "scipy", "numba", "faiss-cpu", "igraph", "openTSNE", "scikit-learn", "torch", "cupy")
"""Packages whose versions are recorded."""


@dataclass(frozen=True)
class Results:
    """Results of all stages of an analysis."""

    spread: SpreadRatio
    homogeneity: Homogeneity
    density: RLDResult
    table: KNN
    graph: AffinityGraph
    communities: Communities
    spectrum: SpectrumSummary
    scores: ProbeScores
    studies: list[StudyScores]
    layout: Layout
    between: KNN | None = None
    neighbors_file: str | None = None


def assemble(
    name: str, data: Inputs, results: Results, settings: Mapping[str, Any], notes: list[StageNote]
) -> Analysis:
    """Assemble the record.

    Parameters
    ----------
    name
        Name of the model.
    data
        Inputs of the analysis.
    results
        Results of its stages.
    settings
        Settings to be recorded.
    notes
        How each stage was computed.
    """
    density, chi, scores = results.density, results.homogeneity, results.scores
    at = int(np.abs(np.log(density.temperatures / BEST_TEMPERATURE)).argmin())
    suspects = find_suspects(results.graph, data.classes.codes, data.names, density.local_density[at])
    issues = summarize_issues(
        results.table,
        data.classes.codes,
        data.names,
        n_suspects=len(suspects),
        mean_distance=density.mean_distance,
        between=results.between,
        test_codes=data.test_codes,
        neighbors_file=results.neighbors_file,
    )
    study = rows_of_own_setting(scores.rows, settings["k"]) if results.studies else []
    return Analysis(
        name=writable(name),
        n_points=len(data.points),
        n_features=int(data.points.shape[1]),
        n_test=scores.n_test,
        test_source="held out" if data.test is None else "given",
        classes=data.names,
        class_sizes=data.classes.counts.tolist(),
        n_unlabelled=data.classes.n_unlabelled,
        rld=select(RLDSummary, density.to_dict()),
        class_homogeneity=dict(zip(chi.ks, chi.values, strict=True)),
        class_homogeneity_stderr=dict(zip(chi.ks, chi.stderr, strict=True)),
        calinski_harabasz=results.spread.value if math.isfinite(results.spread.value) else None,
        neighbors=select(NeighborSummary, results.table.to_dict()),
        communities=_summarize_communities(results.communities, results.graph, data),
        probes=scores.rows,
        point_map=_describe_map(results, data, at),
        suspects=suspects[:MOST_SUSPECTS],
        stages=notes,
        settings=dict(settings),
        versions=_versions(),
        probe_study=study + [row for scores_of_study in results.studies for row in scores_of_study.rows],
        spectrum=results.spectrum,
        class_homogeneity_points=chi.n_points,
        class_homogeneity_metric=CHI_METRIC,
        columns=data.columns,
        points={
            "class_code": data.classes.codes.astype(np.int32),
            "community": results.communities.labels,
            "local_density": density.local_density[at],
            **_map_coordinates(results.layout),
        },
        class_mixing=_class_mixing(results.graph, data),
        issues=issues,
    )


def _map_coordinates(layout: Layout) -> dict[str, npt.NDArray[np.float32]]:
    """(n,) coordinates of every point on the map, landmarks and those placed among them; none without a map."""
    if not len(layout.placed):
        return {}
    return {f"map_{axis}": np.ascontiguousarray(layout.placed[:, column]) for column, axis in enumerate("xy")}


def _summarize_communities(found: Communities, graph: AffinityGraph, data: Inputs) -> CommunitySummary:
    """Communities beside the classes."""
    codes = data.classes.codes
    labeled = codes >= 0
    shape = (len(data.names), len(found.sizes))
    pairs = np.ravel_multi_index((codes[labeled], found.labels[labeled].astype(np.int64)), shape)
    against = agreement(codes, found.labels)
    beside = {
        "class_modularity": modularity(graph, data.coded, resolution=found.resolution),
        "nmi": against.nmi,
        "ari": against.ari,
        "class_by_community": np.bincount(pairs, minlength=shape[0] * shape[1]).reshape(shape).tolist(),
    }
    return select(CommunitySummary, found.to_dict() | beside)


def _class_mixing(graph: AffinityGraph, data: Inputs) -> npt.NDArray[np.float64]:
    """(C, C) share of the affinity of each class that goes to each class, among the labeled points."""
    n_classes = len(data.names)
    codes = array_module(graph.weights).asarray(data.classes.codes)
    ends, others = codes[graph.rows()], codes[graph.indices]
    labeled = (ends >= 0) & (others >= 0)
    pairs = ends[labeled] * n_classes + others[labeled]
    weights = graph.weights[labeled].astype(np.float64)
    sums = on_host(array_module(weights).bincount(pairs, weights=weights, minlength=n_classes**2))
    sums = sums.reshape(n_classes, n_classes)
    totals = sums.sum(axis=1, keepdims=True)
    shares: npt.NDArray[np.float64] = np.divide(sums, totals, out=np.zeros_like(sums), where=totals > 0)
    return shares


def _describe_map(results: Results, data: Inputs, at: int) -> PointMap:
    """Positions on the map, with the class, community and local density (at a temperature) of each point."""
    layout, density = results.layout, results.density
    local = np.round(density.local_density[at, layout.index].astype(np.float64), 4)
    return PointMap(
        method=layout.method,
        index=layout.index.tolist(),
        x=[round(float(x), 4) for x in layout.xy[:, 0]],
        y=[round(float(y), 4) for y in layout.xy[:, 1]],
        class_code=data.classes.codes[layout.index].tolist(),
        community=results.communities.labels[layout.index].tolist(),
        local_density=[None if math.isnan(value) else float(value) for value in local],
        local_density_temperature=float(density.temperatures[at]),
    )


def _versions() -> dict[str, str]:
    """Versions of clorg-scale and of the packages that the numbers come from."""
    versions = {"clorg-scale": __version__}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
