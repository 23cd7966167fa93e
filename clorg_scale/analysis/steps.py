"""Stages of an analysis, except the probes: one function each, with the sentence on how it was computed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from operator import attrgetter

import numpy as np
import numpy.typing as npt

from clorg_scale.affinity import AffinityGraph
from clorg_scale.analysis.resources import Resources
from clorg_scale.analysis.stages import stage
from clorg_scale.analysis.summaries import SpectrumSummary
from clorg_scale.arrays import Array, ClassLabels
from clorg_scale.arrays.gpu import OutOfDeviceMemoryError
from clorg_scale.communities import Communities, communities
from clorg_scale.communities.detection import Method as CommunityMethod
from clorg_scale.errors import InputError
from clorg_scale.layout import lay_out
from clorg_scale.measures import calinski_harabasz, class_homogeneity, class_homogeneity_stderr
from clorg_scale.neighbors import KNN, knn, knn_of
from clorg_scale.neighbors.result import Metric
from clorg_scale.neighbors.search import knn_between
from clorg_scale.neighbors.shared import cosine_rows
from clorg_scale.results.plain import select
from clorg_scale.rld import RLDResult
from clorg_scale.rld.compute import Method, rld_from_table
from clorg_scale.spectrum import solver_device, spectrum

__all__ = [
    "CHI_METRIC",
    "Homogeneity",
    "Layout",
    "SpreadRatio",
    "density",
    "describe_table",
    "homogeneity",
    "leakage",
    "neighbors",
    "partition",
    "point_layout",
    "spectral",
    "spread_ratio",
]

CHI_METRIC: Metric = "cosine"
"""Metric of class homogeneity's neighbors, the paper's."""

MOST_SPECTRAL_NODES = 200_000
"""Largest graph whose spectrum an analysis finds on a CPU: the products grow with the nodes, and their number with the
eigenvalues close to 1."""


@dataclass(frozen=True)
class SpreadRatio:
    """Calinski-Harabasz index."""

    value: float


@stage("Calinski-Harabasz", lambda _: "Ratio of the spread between classes to that within, all points, in float64.")
def spread_ratio(points: Array, classes: ClassLabels, *, resources: Resources) -> SpreadRatio:
    """Compute the Calinski-Harabasz index where the points are, which `resources` names for the stage's key."""
    del resources
    return SpreadRatio(calinski_harabasz(points, classes))


@dataclass(frozen=True)
class Homogeneity:
    """Class homogeneity at each k, of all labeled points or of a sample."""

    ks: list[int]
    values: list[float]
    stderr: list[float]
    n_points: int
    n_labeled: int
    from_graph_table: bool

    def how(self) -> str:
        """Describe in one sentence what was measured."""
        table = ", from the table of the affinity graph, as the points are normalized" if self.from_graph_table else ""
        share = f"Share of the k nearest neighbors ({CHI_METRIC}, exact{table}) that have the point's class"
        if self.n_points == self.n_labeled:
            return f"{share}, mean over all {self.n_points:,} labeled points."
        return (
            f"{share}, mean over a random sample of {self.n_points:,} of {self.n_labeled:,} labeled points; standard "
            f"error at most {max(self.stderr):.2g} (chi_points=None measures all). With another metric, CHI is another "
            "quantity."
        )


@stage("class homogeneity", Homogeneity.how)
def homogeneity(
    points: Array,
    classes: ClassLabels,
    shared: KNN | None,
    *,
    n_asked: int,
    k: int,
    seed: int,
    resources: Resources,
) -> Homogeneity:
    """Compute CHI of all labeled points, or of a sample of them whose neighbors are searched among all points.

    `shared` is an exact Euclidean table of k neighbors of all points, which are of length 1; None: they are searched.
    """
    labeled = np.flatnonzero(classes.codes >= 0)
    asked = labeled
    if len(labeled) > n_asked:
        asked = np.sort(np.random.default_rng(seed).choice(labeled, n_asked, replace=False))
    if shared is None:
        table = knn_of(points, asked, k, metric=CHI_METRIC, **resources.local)
    else:
        table = cosine_rows(shared, asked)
    values = class_homogeneity(table, classes)
    errors = class_homogeneity_stderr(table, classes)
    return Homogeneity(
        list(values), list(values.values()), list(errors.values()), len(asked), len(labeled), shared is not None
    )


def _describe_density(found: RLDResult) -> str:
    n_pairs = found.n_points * (found.n_points - 1) // 2
    methods = {
        "exact": f"Exact: all {n_pairs:,} pairs, O(n) memory",
        "sampled": "Sampled: landmarks and near field, with a standard error",
        "graph": "Modularity of the labels on the sparse k-NN graph, not RLD itself",
    }
    details = ", ".join(
        f"{name.replace('_', ' ')} {value}"
        for name, value in found.details.items()
        if name != "why" and isinstance(value, (str, int, float))
    )
    described = f"{methods[found.method]} ({details})."
    if reason := found.details.get("why"):
        described += f" {reason[0].upper()}{reason[1:]}."
    if not found.n_unlabelled:
        return described
    return f"{described} {found.n_unlabelled:,} unlabelled points count in the graph but are in no class."


@stage("RLD", _describe_density)
def density(
    points: Array,
    classes: ClassLabels,
    table: KNN | None,
    *,
    temperatures: list[float],
    method: Method,
    seed: int,
    resources: Resources,
    approximation: dict[str, float],
) -> RLDResult:
    """Compute RLD; `approximation` holds the settings that exact RLD lacks: target error and number of neighbors.

    Sampled RLD and RLD of the graph take the neighbors of `table`.
    """
    settings = {"temperatures": temperatures, "method": method, "seed": seed}
    return rld_from_table(points, classes, table, **settings, **approximation, **resources.shared)  # type: ignore[arg-type]


def describe_table(table: KNN) -> str:
    """Describe in one sentence how a k-NN table was found."""
    recall = "" if table.measured_recall is None else f", recall {table.measured_recall:.3f} measured on a sample"
    return f"{table.k} nearest neighbors of every point, {table.metric}, index {table.index}{recall}."


def _describe_shared_table(table: KNN) -> str:
    return f"{describe_table(table)[:-1]}; RLD's near field, the graph and the probes use this table."


@stage("nearest neighbors", _describe_shared_table)
def neighbors(points: Array, *, k: int, seed: int, resources: Resources) -> KNN:
    """Find as many neighbors as any of the later stages takes."""
    return knn(points, k, seed=seed, **resources.shared)


LEAK_NEIGHBORS = 5
"""Points that each test point is compared with."""


def _describe_leakage(table: KNN) -> str:
    return f"{table.k} nearest points of each test point, {table.metric}, exact, to find near-duplicates in both sets."


@stage("test points among the points", _describe_leakage)
def leakage(points: Array, test: Array, *, resources: Resources) -> KNN:
    """Find the points nearest to each test point."""
    return knn_between(test, points, min(LEAK_NEIGHBORS, len(points)), **resources.local)


def _describe_partition(found: Communities) -> str:
    details = ", ".join(f"{name} {value}" for name, value in found.details.items())
    return f"{found.method.capitalize()} on the affinity graph at resolution {found.resolution:g} ({details})."


@stage("communities", _describe_partition)
def partition(
    graph: AffinityGraph, *, method: CommunityMethod, resolution: float, seed: int, resources: Resources
) -> Communities:
    """Find the communities of the affinity graph."""
    settings = {"device": resources.requested, "client": resources.client}
    return communities(graph, method=method, resolution=resolution, seed=seed, **settings)


@stage("spectrum", attrgetter("how"))
def spectral(graph: AffinityGraph, classes: ClassLabels, *, n_vectors: int, resources: Resources) -> SpectrumSummary:
    """Find the leading eigenvalues and the classes' share; where none are sought or found, the summary says so."""
    none_found = SpectrumSummary([], None, 0, 0, [], [None] * len(classes.names), "")
    if graph.n_nodes > MOST_SPECTRAL_NODES and solver_device(graph, resources.requested) == "cpu":
        return replace(
            none_found,
            how=f"Left out: on a CPU the eigenvalues of a graph of more than {MOST_SPECTRAL_NODES:,} nodes take "
            "long; clorg_scale.spectrum computes them.",
        )
    try:
        found = spectrum(graph, n_vectors, labels=classes, device=resources.requested)
    except OutOfDeviceMemoryError:
        raise  # the CPU may compute it
    except InputError as problem:
        return replace(none_found, how=f"Not found: {problem}")
    isolated = f", {found.n_isolated:,} isolated nodes left out" if found.n_isolated else ""
    how = (
        f"{len(found.eigenvalues)} largest eigenvalues of the normalized affinity graph ({found.method}{isolated}; "
        f"largest residual {found.residuals.max():.0e})."
    )
    return select(SpectrumSummary, found.to_dict() | {"how": how})


@dataclass(frozen=True)
class Layout:
    """Rows of the landmarks, their positions, a sentence on how these were found, and positions of all points.

    `placed` is (n, 2), or (0, 2) where no map was asked for.
    """

    index: npt.NDArray[np.int64]
    xy: npt.NDArray[np.float64]
    method: str
    placed: npt.NDArray[np.float32]


@stage("map", attrgetter("method"))
def point_layout(
    points: Array, codes: npt.NDArray[np.int64], *, map_points: int, perplexity: float, seed: int, resources: Resources
) -> Layout:
    """Lay out landmarks in two dimensions, and place all other points among them."""
    if map_points == 0:
        return Layout(np.empty(0, np.int64), np.empty((0, 2)), "No map was requested.", np.empty((0, 2), np.float32))
    found = lay_out(points, codes, n_points=map_points, perplexity=perplexity, seed=seed, progress=resources.progress)
    return Layout(*found)
