"""Images beside the numbers: those that a report shows, as thumbnails that are made once and bounded in size."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays import on_host
from clorg_scale.errors import require
from clorg_scale.report.image_sources import ImageSource

if TYPE_CHECKING:
    from PIL import Image

    from clorg_scale.analysis.record import AnalysisRecord
    from clorg_scale.analysis.result import Analysis

__all__ = ["describe_images"]

SIZES = (96, 64, 48, 32)
"""Sides of thumbnails in pixels: the first whose thumbnails fit in `MOST_CHARACTERS`."""

MOST_CHARACTERS = 5_000_000
"""Bound on all thumbnails of a page, in base64."""

MOST_SUSPECTS, MOST_PAIRS, MOST_COMMUNITIES = 48, 24, 40

N_NEIGHBORS, N_SAMPLED = 3, 8
"""Nearest neighbors of a suspicious point, and points of each community, that are shown."""


def describe_images(analysis: Analysis, source: ImageSource) -> dict[str, Any]:
    """Choose the points to show, and make the thumbnail of each.

    Returns
    -------
    ``suspects``: ``row``, ``label``, ``suggested``, ``local_density`` and ``neighbors`` ([row, label] of the nearest,
    if the k-NN table is there); ``pairs``: the most similar points of different classes; ``communities``:
    ``community``, ``size`` and ``rows`` ([row, label] of random members); ``thumbnails``: data URLs by row; ``side``
    of the thumbnails in pixels, 0 where none fits in the bound.
    """
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
    shown: dict[str, Any] = {"suspects": suspects, "pairs": pairs, "communities": _communities(analysis, labels)}
    shown["side"], shown["thumbnails"] = _thumbnails(_rows(shown), source)
    return shown


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


def _rows(shown: dict[str, Any]) -> npt.NDArray[np.int64]:
    """Rows whose images are shown, each once, in ascending order."""
    rows = [suspect["row"] for suspect in shown["suspects"]]
    for group, key in (("suspects", "neighbors"), ("pairs", "rows"), ("communities", "rows")):
        rows += [row for entry in shown[group] for row, _ in entry[key]]
    return np.unique(np.array(rows, np.int64))


def _thumbnails(rows: npt.NDArray[np.int64], source: ImageSource) -> tuple[int, dict[int, str]]:
    """Largest thumbnails that fit in the bound: their side, and their data URLs by row."""
    require("PIL.Image", extra="plot", purpose="Showing images")
    images = source.read(rows.tolist(), SIZES[0])
    for side in SIZES:
        urls = {row: _data_url(image, side) for row, image in zip(rows.tolist(), images, strict=True)}
        if sum(map(len, urls.values())) <= MOST_CHARACTERS:
            return side, urls
    return 0, {}


def _data_url(image: Image.Image, side: int) -> str:
    """An image of at most `side` pixels, encoded anew: nothing of the user's file but its pixels reaches the page."""
    smaller = image.copy()
    smaller.thumbnail((side, side))
    content = io.BytesIO()
    few = smaller.width <= 32 and smaller.height <= 32
    smaller.save(content, "PNG" if few else "JPEG", **({"optimize": True} if few else {"quality": 82}))
    kind = "png" if few else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode('ascii')}"
