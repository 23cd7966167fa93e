"""`analyze`: all the way from embeddings to a report, on one page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clorg_scale.analysis.assembly import assemble
from clorg_scale.analysis.computation import compute
from clorg_scale.analysis.fingerprint import Unchanged
from clorg_scale.analysis.inputs import Inputs, LabeledPoints, check_inputs
from clorg_scale.analysis.plan import AnalysisPlan
from clorg_scale.analysis.probing import choose_probes
from clorg_scale.analysis.resources import Resources
from clorg_scale.analysis.result import Analysis
from clorg_scale.analysis.sizes import CHI_POINTS
from clorg_scale.analysis.stages import Stages
from clorg_scale.arrays import UNLABELLED, Device
from clorg_scale.communities.detection import Method as CommunityMethod
from clorg_scale.errors import InputError
from clorg_scale.layout import PERPLEXITY
from clorg_scale.rld.compute import DEFAULT_TEMPERATURES, Method, check_temperatures
from clorg_scale.store.atomic import write_together
from clorg_scale.store.locks import lock_folder, releasing_locks

if TYPE_CHECKING:
    from clorg_scale.report.image_sources import ImageSource

__all__ = ["analyze"]


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
        Largest number of points that t-SNE lays out on the two-dimensional map (3 or more); 0 draws no map. Where
        there are more points, all others are placed among these.
    perplexity
        Number of neighbors for which t-SNE balances each point's distances; at most a third of its points.
    chi_points
        Points that class homogeneity is measured on, drawn at random where there are more; None measures all points:
        exact, but the search takes n^2 d operations.
    device, memory_limit, seed, progress
        As for every stage.
    output
        Folder for analysis.json, report.html and the finished stages; None writes nothing.
    resume
        Reuse stages that an earlier run on the same data with the same settings has finished in `output`.
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
    plan = AnalysisPlan(
        temperatures=scales,
        method=method,
        target_error=target_error,
        k=k,
        community_method=community_method,
        resolution=resolution,
        probes=chosen,
        left_out=left_out,
        probe_study=probe_study,
        map_points=map_points,
        perplexity=perplexity,
        chi_points=chi_points,
        seed=seed,
        normalize=normalize,
        max_over_epochs=max_over_epochs,
        resources=resources,
    ).checked(len(data.points))
    pictures = None if images is None else _open_images(images, len(data.points), output)
    unchanged = Unchanged(data.arrays, data.fingerprints)
    plan, data = plan.within_memory(data)
    stage, data = _stages(data, plan, output, resume=resume, check=unchanged.check)
    results = compute(stage, data, plan)
    analysis = assemble(name, data, results, plan.recorded(data), stage.notes).with_neighbors(results.table)
    unchanged.check()
    if output is not None:
        with write_together():
            analysis.to_json(Path(output) / "analysis.json")
            analysis.report(Path(output) / "report.html", images=pictures)
    return analysis


def _stages(
    data: Inputs, plan: AnalysisPlan, output: str | Path | None, *, resume: bool, check: Callable[[], None]
) -> tuple[Stages, Inputs]:
    """Stages whose results go to the output's folder, and the points, on the device where they fit."""
    known = [(array, data.fingerprints[what]) for what, array in data.arrays.items()]
    # Once for all stages: embeddings passed on the other side, or that fit the GPU.
    data = data.on_device("cpu" if plan.resources.client is not None else plan.resources.device)
    known += [(array, data.fingerprints[what]) for what, array in data.arrays.items()]
    folder = None if output is None else Path(output)
    stage = Stages(folder, resume=resume, progress=plan.resources.progress, check=check, fingerprints=known)
    if folder is not None:
        lock_folder(folder)
    return stage, data


def _open_images(images: str | Path | ImageSource, n_points: int, output: str | Path | None) -> ImageSource:
    """Open the images before anything is computed, so that a wrong folder is noticed at once."""
    from clorg_scale.report.image_sources import open_images

    if output is None:
        raise InputError("images are shown in the report; also give output, the folder to write it to.")
    return open_images(images, n_points) if isinstance(images, (str, Path)) else images
