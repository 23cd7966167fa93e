"""Images that a report shows beside the numbers, as thumbnails made once for all of its models."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from clorg_scale.arrays import on_host
from clorg_scale.errors import require
from clorg_scale.report.image_sources import ImageSource

if TYPE_CHECKING:
    from PIL import Image

    from clorg_scale.analysis.record import AnalysisRecord

__all__ = ["describe_images"]

SIDE = 96
"""Largest side of a thumbnail in pixels."""

MOST_SUSPECTS, MOST_PAIRS, MOST_COMMUNITIES = 48, 24, 40

N_NEIGHBORS, N_SAMPLED = 3, 8
"""Nearest neighbors of a suspicious point, and points of each community, that are shown."""


def describe_images(analyses: Iterable[AnalysisRecord], source: ImageSource) -> dict[str, Any]:
    """Choose the points to show of each model, and make the thumbnail of each.

    Parameters
    ----------
    analyses
        Of the same points.
    source
        The images of the points.

    Returns
    -------
    ``models``: for each analysis ``suspects``: ``row``, ``label``, ``suggested``, ``local_density`` and ``neighbors``
    ([row, label] of the nearest, if the k-NN table is there); ``pairs``: the most similar points of different classes;
    ``communities``: ``community``, ``size`` and ``rows`` ([row, label] of random members). ``thumbnails``: data URLs by
    row, each once.
    """
    models = [_chosen(analysis) for analysis in analyses]
    return {"models": models, "thumbnails": _thumbnails(_rows(models), source)}


def _chosen(analysis: AnalysisRecord) -> dict[str, Any]:
    """Points to show of a model."""
    labels = _Labels(analysis)
    table = analysis.neighbor_table()
    suspects = [
        {
            "row": suspect.index,
            "label": suspect.label,
            "suggested": suspect.suggested_label,
            "local_density": suspect.local_density,
            "neighbors": labels.of(() if table is None else on_host(table.indices[suspect.index])[:N_NEIGHBORS]),
        }
        for suspect in analysis.suspects[:MOST_SUSPECTS]
    ]
    look_alikes = [] if analysis.issues is None else analysis.issues.look_alikes[:MOST_PAIRS]
    pairs = [
        {"rows": [[pair.index, pair.label], [pair.other, pair.other_label]], "distance": pair.distance}
        for pair in look_alikes
    ]
    return {"suspects": suspects, "pairs": pairs, "communities": _communities(analysis, labels)}


class _Labels:
    """Names of the classes of points."""

    def __init__(self, analysis: AnalysisRecord) -> None:
        self._names = [*analysis.classes, "unlabelled"]
        self._codes = analysis.points.get("class_code")

    def of(self, rows: Iterable[Any]) -> list[list[Any]]:
        """[row, name of its class] of each row; rows below zero are left out."""
        found = [int(row) for row in rows if row >= 0]
        return [[row, "" if self._codes is None else self._names[int(self._codes[row])]] for row in found]


def _communities(analysis: AnalysisRecord, labels: _Labels) -> list[dict[str, Any]]:
    """Random members of the largest communities; none in records without the values of points."""
    found = analysis.points.get("community")
    if found is None:
        return []
    random = np.random.default_rng(0)
    order = np.argsort(found, kind="stable")
    ends = np.cumsum(np.bincount(found))
    samples = []
    for community, end in enumerate(ends[:MOST_COMMUNITIES]):
        members = order[end - analysis.communities.sizes[community] : end]
        chosen = random.choice(members, min(N_SAMPLED, len(members)), replace=False)
        samples.append({"community": community, "size": len(members), "rows": labels.of(chosen)})
    return samples


def _rows(models: Iterable[dict[str, Any]]) -> list[int]:
    """Rows whose images are shown, each once, in ascending order."""
    rows: set[int] = set()
    for shown in models:
        rows.update(suspect["row"] for suspect in shown["suspects"])
        for group, key in (("suspects", "neighbors"), ("pairs", "rows"), ("communities", "rows")):
            rows.update(row for entry in shown[group] for row, _ in entry[key])
    return sorted(rows)


def _thumbnails(rows: list[int], source: ImageSource) -> dict[int, str]:
    """Data URLs by row."""
    require("PIL.Image", extra="plot", purpose="Showing images")
    images = source.read(rows, SIDE)
    return {row: _data_url(image) for row, image in zip(rows, images, strict=True)}


def _data_url(image: Image.Image) -> str:
    """An image of at most `SIDE` pixels, encoded anew: nothing of the user's file but its pixels reaches the page."""
    smaller = image.copy()
    smaller.thumbnail((SIDE, SIDE))
    content = io.BytesIO()
    few = smaller.width <= 32 and smaller.height <= 32
    smaller.save(content, "PNG" if few else "JPEG", **({"optimize": True} if few else {"quality": 82}))
    kind = "png" if few else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode('ascii')}"
