"""`analyze`: the whole way from embeddings to a report, on one page."""

from __future__ import annotations

import importlib.metadata
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import clorg_scale
from clorg_scale.affinity import affinity_graph
from clorg_scale.agreement import agreement
from clorg_scale.analysis.fingerprint import Unchanged
from clorg_scale.analysis.inputs import Inputs, check_inputs, check_memory, check_settings, writable
from clorg_scale.analysis.probing import AFFINITY_TEMPERATURE, VARIED, Probing, Scores, study_rows
from clorg_scale.analysis.record import (
    Analysis,
    CommunitySummary,
    NeighborSummary,
    PointMap,
    ProbeScore,
    RLDSummary,
    SpectrumSummary,
)
from clorg_scale.analysis.stages import Stages
from clorg_scale.analysis.suspects import find_suspects
from clorg_scale.arrays import UNLABELLED, Device, parse_memory, resolve_device
from clorg_scale.communities import Communities, communities, modularity
from clorg_scale.communities.detection import Method as CommunityMethod
from clorg_scale.errors import InputError
from clorg_scale.measures import calinski_harabasz, class_homogeneity, class_homogeneity_stderr
from clorg_scale.neighbors import KNN, knn, knn_of
from clorg_scale.rld import RLDResult, rld
from clorg_scale.rld.compute import DEFAULT_TEMPERATURES, Method, check_temperatures
from clorg_scale.spectrum import spectrum
from clorg_scale.store import StoredEmbeddings
from clorg_scale.store.atomic import write_together
from clorg_scale.store.locks import lock_folder, releasing_locks

__all__ = ["analyze"]

CHI_POINTS = 5_000
"""Points asked for their neighbors' classes where there are more; the standard error is below .007."""

CHI_MOST = 1_000
"""Largest k of class homogeneity, the paper's."""

FEWEST_VECTORS, MOST_VECTORS = 20, 50
"""Eigenvectors of the graph; their number is twice that of the classes between these."""


@releasing_locks
def analyze(
    embeddings: Any,
    labels: Any = None,
    *,
    test_embeddings: Any = None,
    test_labels: Any = None,
    class_names: Sequence[str] | None = None,
    test_class_names: Sequence[str] | None = None,
    name: str = "embeddings",
    temperatures: Iterable[float] = DEFAULT_TEMPERATURES,
    method: Method = "auto",
    target_error: float = 0.005,
    k: int = 15,
    community_method: CommunityMethod = "leiden",
    resolution: float = 1.0,
    probes: Iterable[str] | None = None,
    probe_study: bool = False,
    map_points: int = 10_000,
    chi_points: int | None = CHI_POINTS,
    device: Device = "auto",
    memory_limit: str | int | None = None,
    seed: int = 0,
    output: str | Path | None = None,
    resume: bool = True,
    progress: bool = False,
    client: Any = None,
    unlabelled: int | str | None = UNLABELLED,
) -> Analysis:
    """Compute everything that is known of how embeddings are organized.

    Parameters
    ----------
    embeddings
        (n, d) of any array library, or a memory map; or what `load_embeddings` gives, whose labels and names of
        classes are taken where none are handed in.
    labels
        (n,) integers or strings.
    test_embeddings, test_labels
        (m, d), (m,) points that the probes are scored on; default: a stratified fifth of the points is held out.
        All else is computed on `embeddings` alone.
    class_names, test_class_names
        Name of class 0, of class 1, and so on, where labels are integers: shown instead of the numbers. Test points
        whose classes are numbered otherwise are matched by name.
    name
        Of the model, in reports.
    temperatures, method, target_error
        As for `clorg_scale.rld`.
    k
        Neighbors in the affinity graph.
    community_method, resolution
        As for `clorg_scale.communities`.
    probes
        Names out of `clorg_scale.probes.PROBES`; default: all whose packages are installed.
    probe_study
        Train the probes also with 1 % and 10 % of the labels, with 5 and 50 neighbors, and on graphs of temperature
        0.05 and 0.5: some six times the work of the probes.
    map_points
        Points in the two-dimensional map, at most (3 or more); 0 draws none.
    chi_points
        Points asked for their neighbors' classes (class homogeneity), drawn at random where there are more; None asks
        all: exact, but the search takes n^2 d.
    device, memory_limit, seed, progress
        As for every stage.
    output
        Folder for analysis.json, report.html and the finished stages; None writes nothing.
    resume
        Take stages that an earlier run has finished, on the same data with the same settings, from `output`.
    client
        `distributed.Client` of a Dask cluster that shares the work of RLD, neighbors and communities.
    unlabelled
        The label of points without a class; None: every label, -1 too, is a class.

    Returns
    -------
    Analysis

    Raises
    ------
    InputError
        For anything that cannot be used; nothing has been written then.

    Warns
    -----
    UserWarning
        If -1 means unlabelled and looks like a class.
    """
    wanted = check_temperatures(temperatures)
    chosen_probes, left_out = _chosen_probes(probes)
    place, limit = resolve_device(device), parse_memory(memory_limit)
    embeddings, labels, class_names = _unpacked(embeddings, labels, class_names)
    test_embeddings, test_labels, test_class_names = _unpacked(test_embeddings, test_labels, test_class_names)
    if labels is None:
        raise InputError("There are no labels; hand in one for each embedding.")
    data = check_inputs(
        embeddings, labels, test_embeddings, test_labels,
        class_names=class_names, test_class_names=test_class_names, unlabelled=unlabelled,
    )  # fmt: skip
    check_settings(
        len(data.points), k=k, method=method, target_error=target_error, community_method=community_method,
        resolution=resolution, map_points=map_points, chi_points=chi_points, seed=seed,
    )  # fmt: skip
    k, map_points, seed = int(k), int(map_points), int(seed)
    n_asked, chi_k = _homogeneity_size(data, chi_points)
    check_memory(
        data, k=k, chi_points=n_asked, chi_k=chi_k, n_temperatures=len(wanted), memory_limit=limit
    )  # fmt: skip
    folder = None if output is None else Path(output)
    unchanged = Unchanged(
        {"embeddings": data.points, "test embeddings": data.test},
        {"embeddings": data.key.partition("-")[0], "test embeddings": str(data.test_key).partition("-")[0]},
    )
    stages = Stages(folder, resume=resume, progress=progress, check=unchanged.check)
    if folder is not None:
        lock_folder(folder)
    common: dict[str, Any] = {"device": place, "memory_limit": limit, "progress": progress}
    shared = common | {"device": device, "client": client}
    told = {"data": data.key, "device": place, "seed": seed}

    spread, _ = stages.run(
        "Calinski-Harabasz", _Number, {"data": data.key},
        lambda: _Number(calinski_harabasz(data.points, data.coded)),
        lambda _: "Ratio of the spread between classes to that within, over all points, in float64.",
    )  # fmt: skip
    homogeneity, _ = stages.run(
        "class homogeneity",
        _Homogeneity,
        told | {"points": n_asked},
        lambda: _homogeneity(data, n_asked, chi_k, seed, common),
        _Homogeneity.how,
    )
    density, _ = stages.run(
        "RLD", RLDResult,
        told | {"temperatures": wanted.tolist(), "method": method}
        | ({} if method == "exact" else {"target_error": target_error, "k": k}),
        lambda: rld(data.points, data.coded, temperatures=wanted, method=method, target_error=target_error,
                    k=k, seed=seed, **shared),
        _how_rld,
    )  # fmt: skip
    table, table_key = stages.run(
        "nearest neighbors", KNN, told | {"k": k}, lambda: knn(data.points, k, seed=seed, **shared), _how_knn
    )
    graph = affinity_graph(table, temperature=AFFINITY_TEMPERATURE, mean_distance=density.mean_distance)
    found, _ = stages.run(
        "communities", Communities,
        {"table": table_key, "mean_distance": density.mean_distance, "method": community_method,
         "resolution": resolution, "seed": seed, "device": place},
        lambda: communities(graph, method=community_method, resolution=resolution, seed=seed, device=device,
                            client=client),
        _how_communities,
    )  # fmt: skip
    n_vectors = _spectrum_size(data)
    decomposed, _ = stages.run(
        "spectrum", SpectrumSummary,
        {"table": table_key, "mean_distance": density.mean_distance, "n_vectors": n_vectors, "device": place},
        lambda: _spectrum(graph, n_vectors, data, device), lambda found: found.how,
    )  # fmt: skip
    probing = Probing(data, chosen_probes, k=k, mean_distance=density.mean_distance, seed=seed, common=common)
    split = told | {"test": data.test_key}
    probed = split | {"k": k, "probes": chosen_probes, "mean_distance": density.mean_distance}
    scores, _ = stages.run(
        "probes", Scores, probed, probing.score, lambda scores: " ".join(filter(None, (scores.how, left_out)))
    )
    own_scores = [_score(probe) for probe in scores.rows]
    study = []
    if probe_study and own_scores:
        wide, wide_key = stages.run(
            "neighbors for the study", KNN, split | {"k": max(k, *VARIED["neighbors"])},
            lambda: probing.neighbors(int(max(k, *VARIED["neighbors"]))), _how_knn,
        )  # fmt: skip
        study = study_rows(own_scores, k, [
            stages.run(f"probes by {varied}", Scores, probed | {"table": wide_key, "tried": VARIED[varied]},
                       partial(probing.study, varied, wide), _how_scores)[0]
            for varied in VARIED
        ])  # fmt: skip
    laid_out, _ = stages.run(
        "map", _Layout, told | {"map_points": map_points},
        lambda: _lay_out(data, map_points, seed, progress=progress), lambda layout: layout.method,
    )  # fmt: skip

    result = Analysis(
        name=writable(name),
        n_points=len(data.points),
        n_features=int(data.points.shape[1]),
        n_test=scores.n_test,
        test_source="held out" if data.test is None else "given",
        classes=data.names,
        class_sizes=data.classes.counts.tolist(),
        n_unlabelled=int((data.classes.codes < 0).sum()),
        rld=_summary(density),
        class_homogeneity=dict(zip(homogeneity.ks, homogeneity.values, strict=True)),
        class_homogeneity_stderr=dict(zip(homogeneity.ks, homogeneity.stderr, strict=True)),
        calinski_harabasz=spread.value if math.isfinite(spread.value) else None,
        neighbors=NeighborSummary(k, table.metric, table.index, table.measured_recall),
        communities=_community_summary(found, graph, data),
        probes=own_scores,
        point_map=_point_map(laid_out, data, found, density),
        suspects=find_suspects(
            graph, data.classes.codes, data.names, density.local_density[_middle(density)]
        ),
        stages=stages.notes,
        settings={"k": k, "method": method, "target_error": target_error, "affinity_temperature": AFFINITY_TEMPERATURE,
                  "community_method": community_method, "resolution": resolution, "chi_points": n_asked,
                  "device": place, "seed": seed},
        versions=_versions(),
        probe_study=study,
        spectrum=decomposed,
        class_homogeneity_points=homogeneity.n_points,
    )  # fmt: skip
    unchanged.check()
    if folder is not None:
        with write_together():
            result.to_json(folder / "analysis.json")
            result.report(folder / "report.html")
    return result


def _unpacked(embeddings: Any, labels: Any, names: Sequence[str] | None) -> tuple[Any, Any, Sequence[str] | None]:
    """Embeddings, labels and names of classes, out of a store where none are handed in beside it."""
    if not isinstance(embeddings, StoredEmbeddings):
        return embeddings, labels, names
    if labels is not None:
        return embeddings.embeddings, labels, names
    return embeddings.embeddings, embeddings.labels, embeddings.class_names if names is None else names


def _chosen_probes(probes: Iterable[str] | None) -> tuple[list[str], str]:
    """Probes by name, all where none are named, and a sentence on those that cannot run here."""
    from clorg_scale.probes import PROBES
    from clorg_scale.probes.comparison import installed_probes

    chosen = list(PROBES if probes is None else probes)
    for probe in chosen:
        if probe not in PROBES:
            raise InputError(f"There is no probe {probe!r}; choose from {', '.join(PROBES)}.")
    available, left_out = installed_probes(chosen)
    if left_out:
        warnings.warn(left_out, stacklevel=3)
    return available, left_out


@dataclass(frozen=True)
class _Number:
    value: float


@dataclass(frozen=True)
class _Homogeneity:
    ks: list[int]
    values: list[float]
    stderr: list[float]
    n_points: int
    n_labeled: int

    def how(self) -> str:
        share = "Share of the k nearest neighbors (cosine, exact) that have the point's class"
        if self.n_points == self.n_labeled:
            return f"{share}, mean over all {self.n_points:,} labeled points."
        return (
            f"{share}, mean over a random sample of {self.n_points:,} of {self.n_labeled:,} labeled points; standard "
            f"error at most {max(self.stderr):.2g} (chi_points=None asks all). A table of another metric gives another "
            "number."
        )


def _homogeneity(data: Inputs, n_asked: int, k: int, seed: int, common: dict[str, Any]) -> _Homogeneity:
    """CHI of all points, or of a sample whose neighbors are sought among all."""
    labeled = np.flatnonzero(data.classes.codes >= 0)
    n_labeled = len(labeled)
    if len(labeled) > n_asked:
        labeled = np.sort(np.random.default_rng(seed).choice(labeled, n_asked, replace=False))
    table = knn_of(data.points, labeled, k, metric="cosine", **common)
    values = class_homogeneity(table, data.coded)
    errors = class_homogeneity_stderr(table, data.coded)
    return _Homogeneity(list(values), list(values.values()), list(errors.values()), len(labeled), n_labeled)


def _homogeneity_size(data: Inputs, chi_points: int | None) -> tuple[int, int]:
    """Points asked for their neighbors, and how many neighbors."""
    n_labeled = int(data.classes.counts.sum())
    return n_labeled if chi_points is None else min(int(chi_points), n_labeled), min(CHI_MOST, len(data.points) - 1)


def _score(probe: dict[str, Any]) -> ProbeScore:
    return ProbeScore(**probe | {"accuracy_interval": tuple(probe["accuracy_interval"])})


@dataclass(frozen=True)
class _Layout:
    index: npt.NDArray[np.int64]
    xy: npt.NDArray[np.float64]
    method: str


def _lay_out(data: Inputs, map_points: int, seed: int, *, progress: bool) -> _Layout:
    """Two-dimensional positions of a sample of the points."""
    from clorg_scale.layout import lay_out

    if map_points == 0:
        return _Layout(np.empty(0, np.int64), np.empty((0, 2)), "No map was asked for.")
    return _Layout(*lay_out(data.points, data.classes.codes, n_points=map_points, seed=seed, progress=progress))


def _point_map(layout: _Layout, data: Inputs, found: Communities, density: RLDResult) -> PointMap:
    """The map with what is known of each point on it."""
    index, t = layout.index, _middle(density)
    return PointMap(
        method=layout.method,
        index=index.tolist(),
        x=[round(float(x), 4) for x in layout.xy[:, 0]],
        y=[round(float(y), 4) for y in layout.xy[:, 1]],
        class_code=data.classes.codes[index].tolist(),
        community=found.labels[index].tolist(),
        local_density=_numbers(np.round(density.local_density[t, index].astype(np.float64), 4)),
        local_density_temperature=float(density.temperatures[t]),
    )


def _middle(density: RLDResult) -> int:
    """Position of the temperature at which local density finds mislabeled points best, T = 0.1."""
    return int(np.abs(np.log(density.temperatures / 0.1)).argmin())


def _summary(density: RLDResult) -> RLDSummary:
    return RLDSummary(
        temperatures=density.temperatures.tolist(),
        values=density.values.tolist(),
        stderr=density.stderr.tolist(),
        per_class=density.per_class.tolist(),
        purity=_numbers(density.purity),
        null_mean=density.null_mean.tolist(),
        null_std=_numbers(density.null_std),
        mean_distance=density.mean_distance,
        method=density.method,
        details=density.details,
    )


def _community_summary(found: Communities, graph: Any, data: Inputs) -> CommunitySummary:
    against = agreement(data.classes.codes, found.labels)
    contingency = np.zeros((len(data.names), len(found.sizes)), dtype=np.int64)
    present = (data.classes.counts > 0, np.isin(np.arange(len(found.sizes)), found.labels[data.classes.codes >= 0]))
    contingency[np.ix_(*present)] = against.contingency
    return CommunitySummary(
        method=found.method,
        resolution=found.resolution,
        n_communities=len(found.sizes),
        modularity=found.modularity,
        class_modularity=modularity(graph, data.coded, resolution=found.resolution),
        nmi=against.nmi,
        ari=against.ari,
        sizes=found.sizes.tolist(),
        class_by_community=contingency.tolist(),
    )


def _spectrum_size(data: Inputs) -> int:
    """Eigenvectors: twice as many as classes, so that a gap behind the classes is seen; from 20 to 50."""
    return min(len(data.points), max(FEWEST_VECTORS, min(2 * len(data.names), MOST_VECTORS)))


def _spectrum(graph: Any, n_vectors: int, data: Inputs, device: Device) -> SpectrumSummary:
    """Leading eigenvalues and the share of the classes; an analysis goes on without where no solver converges."""
    present = np.flatnonzero(data.classes.counts > 0)
    per_class: list[float | None] = [None] * len(data.names)
    try:
        found = spectrum(graph, n_vectors, labels=data.coded, device=device)
    except InputError as problem:
        return SpectrumSummary([], None, 0, 0, [], per_class, f"Not found: {problem}")
    for position, share in zip(present, _numbers(found.per_class), strict=True):
        per_class[position] = share
    isolated = f", {found.n_isolated:,} isolated nodes left out" if found.n_isolated else ""
    return SpectrumSummary(
        eigenvalues=found.eigenvalues.tolist(),
        n_clusters=found.n_clusters,
        n_connected=found.n_connected,
        n_isolated=found.n_isolated,
        class_share=found.class_share.tolist(),
        per_class=per_class,
        how=f"{len(found.eigenvalues)} largest eigenvalues of the normalized affinity graph ({found.method}{isolated}; "
        f"largest residual {found.residuals.max():.0e}).",
    )


def _numbers(array: npt.NDArray[Any]) -> Any:
    """Nested lists with None for NaN."""
    return [_numbers(x) if np.ndim(x) else None if math.isnan(x) else float(x) for x in array]


def _how_rld(density: RLDResult) -> str:
    how: dict[str, Callable[[], str]] = {
        "exact": lambda: f"Exact: all {density.n_points * (density.n_points - 1) // 2:,} pairs, O(n) memory",
        "sampled": lambda: "Sampled: landmarks and near field, with a standard error",
        "graph": lambda: "Modularity of the labels on the sparse k-NN graph, not RLD itself",
    }
    details = ", ".join(
        f"{key} {value}" for key, value in density.details.items() if isinstance(value, (str, int, float))
    )
    beside = (
        f" {density.n_unlabelled:,} unlabelled points take part and are in no class." if density.n_unlabelled else ""
    )
    return f"{how[density.method]()} ({details}).{beside}"


def _how_knn(table: KNN) -> str:
    recall = "" if table.measured_recall is None else f", recall {table.measured_recall:.3f} measured on a sample"
    return f"{table.k} nearest neighbors of every point, {table.metric}, index {table.index}{recall}."


def _how_scores(scores: Scores) -> str:
    return scores.how


def _how_communities(found: Communities) -> str:
    details = ", ".join(f"{key} {value}" for key, value in found.details.items())
    return f"{found.method.capitalize()} on the affinity graph at resolution {found.resolution:g} ({details})."


def _versions() -> dict[str, str]:
    """Of clorg-scale and the packages the numbers come from."""
    versions = {"clorg-scale": clorg_scale.__version__}
    for package in ("numpy", "scipy", "numba", "faiss-cpu", "igraph", "openTSNE", "scikit-learn", "torch", "cupy"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
