"""`track`: the checkpoints of a training, analyzed one after the other and compared along its steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clorg_scale.analysis.aligned_maps import aligned_map, with_map
from clorg_scale.analysis.comparison import Comparison, compare
from clorg_scale.analysis.pipeline import analyze
from clorg_scale.analysis.result import Analysis
from clorg_scale.analysis.stages import Stages
from clorg_scale.analysis.summaries import PointMap
from clorg_scale.arrays import UNLABELLED, as_embeddings
from clorg_scale.errors import InputError
from clorg_scale.store import StoredEmbeddings
from clorg_scale.store.atomic import write_together
from clorg_scale.store.locks import lock_folder, releasing_locks

__all__ = ["track"]

FEWEST = 2
"""Checkpoints that make a trajectory."""


def track(
    checkpoints: Mapping[str, Any],
    labels: Any = None,
    *,
    map_points: int = 2_000,
    probes: Iterable[str] | None = ("linear", "knn"),
    seed: int = 0,
    unlabelled: int | str | None = UNLABELLED,
    output: str | Path | None = None,
    resume: bool = True,
    progress: bool = False,
    images: str | Path | None = None,
    **settings: Any,
) -> Comparison:
    """Analyze the same points at several checkpoints of a training.

    The map of each checkpoint begins where that of the one before ended, and is turned like it. With `output`, a
    checkpoint that is added later is the only one that is computed.

    Parameters
    ----------
    checkpoints
        (n, d) embeddings of the same points by name, in the order of the training, as for `clorg_scale.analyze`. The
        names say the step, such as "epoch 10".
    labels
        (n,), as for `analyze`; default: those stored with the embeddings.
    map_points, probes, seed, unlabelled, resume, progress
        As for `analyze`, with a smaller map and the quick probes.
    output
        Folder for a folder of each checkpoint, and for the comparison of all.
    images
        The images of the points, as for `analyze`, shown in the report of each checkpoint and in that of all. Needs
        `output`.
    settings
        More arguments of `analyze`.

    Returns
    -------
    Comparison of the checkpoints, whose report shows every measure along the training.

    Raises
    ------
    InputError
        If there are fewer than two checkpoints, or something cannot be used.
    """
    if len(checkpoints) < FEWEST:
        raise InputError(f"A trajectory needs at least {FEWEST} checkpoints, not {len(checkpoints)}.")
    folder = None if output is None else Path(output)
    common: dict[str, Any] = {
        "probes": probes,
        "seed": seed,
        "unlabelled": unlabelled,
        "resume": resume,
        "progress": progress,
        "images": images,
    }
    analyses: dict[str, Analysis] = {}
    before: PointMap | None = None
    for name, embeddings in checkpoints.items():
        own = None if folder is None else _folder_of(folder, name)
        n_mapped = map_points if before is None else 0
        analysis = analyze(embeddings, labels, name=name, output=own, map_points=n_mapped, **common, **settings)
        if before is not None and before.index:
            stages = Stages(own, resume=resume, progress=progress)
            normalize = bool(settings.get("normalize", False))
            analysis = _map_after(before, analysis, embeddings, stages, seed=seed, normalize=normalize)
            if own is not None:
                _write(analysis, own, images)
        if own is not None:
            analysis = analysis.stored_in(own)
        before = analysis.point_map
        analyses[name] = analysis
    comparison = compare(analyses)
    if folder is not None:
        comparison.write(folder, images=images)
    return comparison


def _folder_of(folder: Path, name: str) -> Path:
    """Folder of a checkpoint in that of the trajectory."""
    if not name or name in (".", "..") or "/" in name:
        raise InputError(f"The checkpoint {name!r} cannot be the name of a folder; give it another name.")
    return folder / name


def _map_after(
    before: PointMap, analysis: Analysis, embeddings: Any, stages: Stages, *, seed: int, normalize: bool
) -> Analysis:
    """Lay out the points that are on the map of the checkpoint before, from there."""
    points = as_embeddings(embeddings.embeddings if isinstance(embeddings, StoredEmbeddings) else embeddings)
    rows, start = np.array(before.index), np.column_stack([before.x, before.y])
    found = stages(aligned_map, points, rows, start, seed=seed, normalize=normalize)
    return with_map(analysis, rows, found.xy, found.how, before.local_density_temperature)


@releasing_locks
def _write(analysis: Analysis, folder: Path, images: str | Path | None) -> None:
    """Replace the analysis without a map by that with one."""
    lock_folder(folder)
    with write_together():
        analysis.to_json(folder / "analysis.json")
        analysis.report(folder / "report.html", images=images)
