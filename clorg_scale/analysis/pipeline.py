"""`analyze`: all the way from embeddings to a report, on one page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clorg_scale.affinity import affinity_graph
from clorg_scale.analysis import steps
from clorg_scale.analysis.assembly import Results, assemble
from clorg_scale.analysis.fingerprint import Unchanged
from clorg_scale.analysis.inputs import Inputs, LabeledPoints, check_inputs, check_settings
from clorg_scale.analysis.probing import (
    AFFINITY_TEMPERATURE,
    FEWEST_TEST_POINTS,
    VARIED,
    Probing,
    choose_probes,
    joint_neighbors,
    probe_scores,
    study_scores,
)
from clorg_scale.analysis.resources import Resources
from clorg_scale.analysis.result import Analysis
from clorg_scale.analysis.sizes import CHI_POINTS, memory_needed, probe_memory, search_sizes
from clorg_scale.analysis.stages import Stages
from clorg_scale.arrays import UNLABELLED, Device
from clorg_scale.communities.detection import Method as CommunityMethod
from clorg_scale.errors import InputError
from clorg_scale.layout import PERPLEXITY
from clorg_scale.neighbors.shared import first_neighbors
from clorg_scale.rld.compute import DEFAULT_TEMPERATURES, Method, check_temperatures
from clorg_scale.store.atomic import write_together
from clorg_scale.store.locks import lock_folder, releasing_locks

if TYPE_CHECKING:
    from clorg_scale.report.image_sources import ImageSource

__all__ = ["analyze"]

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
    perplexity: float = PERPLEXITY,
    chi_points: int | None = CHI_POINTS,
    device: Device = "auto",
    memory_limit: str | int | None = None,
    seed: int = 0,
    output: str | Path | None = None,
    resume: bool = True,
    progress: bool = False,
    client: Any = None,
    unlabelled: int | str | None = UNLABELLED,
    normalize: bool = False,
    max_over_epochs: bool = False,
    images: str | Path | ImageSource | None = None,
) -> Analysis:
    """Compute every measure of how embeddings are organized.

    Parameters
    ----------
    embeddings
        (n, d) of any array library, or a memory map; or what `load_embeddings` returns, whose labels and names of
        classes are taken where none are passed.
    labels
        (n,) integers or strings.
    test_embeddings, test_labels
        (m, d), (m,) points that the probes are scored on; default: a stratified fifth of the points is held out.
        All else is computed on `embeddings` alone.
    class_names, test_class_names
        Name of class 0, of class 1, and so on, where labels are integers: shown instead of the numbers. Test points
        whose classes are numbered otherwise are matched by name.
    name
        Name of the model, in reports.
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
        Points in the two-dimensional map, at most (3 or more); 0 draws none. Where there are more points, all others
        are placed among these, and the report draws these.
    perplexity
        Neighbors that the map balances each point's distances for; at most a third of its points are taken.
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
    normalize
        Divide each embedding by its Euclidean length first (L2), as the paper's notebooks do before everything.
    max_over_epochs
        Record beside the accuracy of the graph networks, whose training stops on held-out training points, the largest
        accuracy on the test points over all epochs: the number that the code of the paper reports.
    images
        The images of the points, in their order, that the report shows some of: a folder (with a subfolder for each
        class, or without), an idx file or a Parquet file. Needs `output`.

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
    scales = check_temperatures(temperatures).tolist()
    chosen, left_out = choose_probes(probes)
    resources = Resources.checked(device, memory_limit, client=client, progress=progress)
    given = LabeledPoints.handed_in(embeddings, labels, class_names)
    test = LabeledPoints.handed_in(test_embeddings, test_labels, test_class_names)
    data = check_inputs(given, test, unlabelled=unlabelled)
    check_settings(
        len(data.points),
        k=k,
        method=method,
        target_error=target_error,
        community_method=community_method,
        resolution=resolution,
        map_points=map_points,
        perplexity=perplexity,
        chi_points=chi_points,
        seed=seed,
    )
    pictures = None if images is None else _open_images(images, len(data.points), output)
    k, map_points, seed = int(k), int(map_points), int(seed)
    target_error, resolution = float(target_error), float(resolution)
    sizes = search_sizes(
        data, k, chi_points=chi_points, probes=bool(chosen), probe_study=probe_study, normalize=normalize
    )
    on_map: dict[str, Any] = {"map_points": map_points, "perplexity": float(perplexity)}
    needs = memory_needed(data, sizes, k, n_temperatures=len(scales), method=method, **on_map)
    resources.check_memory(needs | probe_memory(data, chosen, k))
    unchanged = Unchanged(data.arrays, data.fingerprints)
    if normalize:
        data, left = data.normalized(resources.memory_limit, max(needs.values()))
        resources = replace(resources, memory_limit=left)
    folder = None if output is None else Path(output)
    known = [(array, data.fingerprints[what]) for what, array in data.arrays.items()]
    # Once for all stages: embeddings passed on the other side, or that fit the GPU.
    data = data.on_device(resources.device if client is None else "cpu")
    known += [(array, data.fingerprints[what]) for what, array in data.arrays.items()]
    stage = Stages(folder, resume=resume, progress=progress, check=unchanged.check, fingerprints=known)
    if folder is not None:
        lock_folder(folder)

    points, classes = data.points, data.coded
    common: dict[str, Any] = {"seed": seed, "resources": resources}
    rld_settings: dict[str, Any] = {"temperatures": scales, "method": method}
    rld_settings["approximation"] = {} if method == "exact" else {"target_error": target_error, "k": k}
    spread = stage(steps.spread_ratio, points, classes, resources=resources)
    # One search of all points: every stage takes the first columns that it needs, or the rows in another order.
    searched = stage(steps.neighbors, points, k=sizes.table, **common)
    table, wide = first_neighbors(searched, k), first_neighbors(searched, sizes.probes)
    chi_table = first_neighbors(searched, sizes.chi_k) if sizes.chi_from_table else None
    chi = stage(steps.homogeneity, points, classes, chi_table, n_asked=sizes.n_asked, k=sizes.chi_k, **common)
    density = stage(steps.density, points, classes, None if method == "exact" else table, **rld_settings, **common)
    mu = density.mean_distance
    between = None if data.test is None else stage(steps.leakage, points, data.test, resources=resources)
    graph = stage.derived(affinity_graph, table, temperature=AFFINITY_TEMPERATURE, mean_distance=mu)
    found = stage(steps.partition, graph, method=community_method, resolution=resolution, **common)
    spectrum = stage(steps.spectral, graph, classes, n_vectors=_spectrum_size(data), resources=resources)
    if data.test is not None and chosen and len(data.test) >= FEWEST_TEST_POINTS:
        searched = stage(joint_neighbors, points, data.test, k=sizes.with_test, **common)
        wide = first_neighbors(searched, sizes.probes)
    probing = Probing(
        points, classes, data.test, data.test_codes, chosen, wide, k, mu, seed, resources, max_over_epochs
    )
    scores = stage(probe_scores, probing, left_out=left_out)
    studies = []
    if probe_study and scores.rows:
        studies = [
            stage(study_scores[varied], probing, searched, varied=varied, tried=VARIED[varied]) for varied in VARIED
        ]
    layout = stage(steps.point_layout, points, data.classes.codes, **on_map, **common)

    settings = {
        "k": k,
        "normalize": normalize,
        "method": method,
        "target_error": target_error,
        "affinity_temperature": AFFINITY_TEMPERATURE,
        "community_method": community_method,
        "resolution": resolution,
        "chi_points": sizes.n_asked,
        "device": resources.device,
        "engine": resources.engine,
        "seed": seed,
    }
    kept_table = stage.files.get(steps.neighbors.name)
    results = Results(spread, chi, density, table, graph, found, spectrum, scores, studies, layout, between, kept_table)
    analysis = assemble(name, data, results, settings, stage.notes).with_neighbors(table)
    unchanged.check()
    if folder is not None:
        with write_together():
            analysis.to_json(folder / "analysis.json")
            analysis.report(folder / "report.html", images=pictures)
    return analysis


def _open_images(images: str | Path | ImageSource, n_points: int, output: str | Path | None) -> ImageSource:
    """Open the images before anything is computed, so that a wrong folder is noticed at once."""
    from clorg_scale.report.image_sources import open_images

    if output is None:
        raise InputError("images are shown in the report; give output, the folder for it, too.")
    return open_images(images, n_points) if isinstance(images, (str, Path)) else images


def _spectrum_size(data: Inputs) -> int:
    """Eigenvectors: twice as many as classes, so that a gap behind the classes is seen; from 20 to 50."""
    return min(len(data.points), max(FEWEST_VECTORS, min(2 * len(data.names), MOST_VECTORS)))
