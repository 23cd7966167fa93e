"""HTML page: template, style, scripts and data in one file; the points of very large maps in a file beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from clorg_scale.report.document import fill_document
from clorg_scale.report.findings import (
    comparison_findings,
    comparison_headline,
    comparison_title,
    findings,
    headline,
    homogeneity_basis,
    quantity_rows,
    trajectory_findings,
    trajectory_headline,
    unit_of,
)
from clorg_scale.report.mixing import describe_mixing
from clorg_scale.report.points import pack_points
from clorg_scale.store.atomic import write_together, write_whole

if TYPE_CHECKING:
    from clorg_scale.analysis.record import AnalysisRecord
    from clorg_scale.report.image_sources import ImageSource

__all__ = ["write_comparison", "write_report", "write_trajectory"]

SCRIPTS = (
    "deck.gl/deck.min.js",
    "models.js",
    "tables.js",
    "charts.js",
    "classes.js",
    "trajectory.js",
    "points.js",
    "raster.js",
    "webgl.js",
    "map.js",
    "map_tools.js",
    "images.js",
    "numbers.js",
    "page.js",
)
"""Scripts of the report, after those of every page, in the order in which they run."""

MOST_IN_PAGE = 10_000_000
"""Characters of points (base64) above which they go to a file beside the page."""

MOST_IMAGES_IN_PAGE = 5_000_000
"""Characters of thumbnails (base64) above which they go to a file beside the page."""


def write_report(analysis: AnalysisRecord, path: str | Path, *, images: str | Path | ImageSource | None = None) -> Path:
    """Write the report of one analysis.

    Parameters
    ----------
    analysis
        What `clorg_scale.analyze` returns.
    path
        File to write, whole or not at all; everything the page needs is in it, except the points of very large maps
        and very many thumbnails: these are written to ``NAME_points.js`` and ``NAME_images.js`` beside it.
    images
        The images of the points, in their order: a folder, an idx file or a Parquet file, as for `open_images`, or what
        this returned.
    """
    by_name = {analysis.name: analysis}
    shown = _shown(by_name, images)
    return _write(path, by_name, analysis.name, headline(analysis), findings(analysis), images=shown)


def _shown(analyses: Mapping[str, AnalysisRecord], images: str | Path | ImageSource | None) -> dict[str, Any] | None:
    """Describe the images of a page."""
    from clorg_scale.report.image_sources import open_images
    from clorg_scale.report.thumbnails import describe_images

    if images is None:
        return None
    n_points = next(iter(analyses.values())).n_points
    source = open_images(images, n_points) if isinstance(images, (str, Path)) else images
    return describe_images(analyses.values(), source)


def write_comparison(
    analyses: Mapping[str, AnalysisRecord],
    path: str | Path,
    *,
    look_alikes: Sequence[Mapping[str, Any]] = (),
    images: str | Path | ImageSource | None = None,
) -> Path:
    """Write several analyses side by side.

    Parameters
    ----------
    analyses
        By the name of the model.
    path
        File to write, whole or not at all.
    look_alikes
        Rows of `Comparison.look_alikes`.
    images
        As for `write_report`.
    """
    title = comparison_title(list(analyses))
    lead, sentences = comparison_headline(analyses), comparison_findings(analyses)
    shown = _shown(analyses, images)
    return _write(path, analyses, title, lead, sentences, images=shown, look_alikes=look_alikes)


def write_trajectory(
    analyses: Mapping[str, AnalysisRecord],
    steps: Sequence[float],
    path: str | Path,
    *,
    images: str | Path | ImageSource | None = None,
) -> Path:
    """Write the checkpoints of a training along its steps.

    Parameters
    ----------
    analyses
        By the name of the checkpoint, in the order of the steps.
    steps
        Step of each checkpoint.
    path
        File to write, whole or not at all.
    images
        As for `write_report`.
    """
    title = f"From {next(iter(analyses))} to {list(analyses)[-1]}"
    lead, sentences = trajectory_headline(analyses), trajectory_findings(analyses)
    return _write(path, analyses, title, lead, sentences, images=_shown(analyses, images), steps=steps)


def _write(
    path: str | Path,
    analyses: Mapping[str, AnalysisRecord],
    title: str,
    lead: str,
    sentences: list[str],
    *,
    images: dict[str, Any] | None = None,
    **more: Any,
) -> Path:
    """Write the page and, where there are too many points or images for it, files with these: all, or none."""
    path = Path(path)
    packed = pack_points(analyses.values())
    data: dict[str, Any] = {
        "analyses": [{**analysis.to_dict(), "name": name} for name, analysis in analyses.items()],
        "mixing": [describe_mixing(analysis) for analysis in analyses.values()],
        "points": packed.maps,
        "points_file": None,
        "images": images,
        "images_file": None,
    }
    points, beside = packed.text, {}
    if len(points) > MOST_IN_PAGE:
        data["points_file"] = f"{path.stem}_points.js"
        beside[data["points_file"]] = f'globalThis.clorgScalePoints="{points}";\n'
        points = ""
    if images is not None and sum(map(len, images["thumbnails"].values())) > MOST_IMAGES_IN_PAGE:
        data["images_file"] = f"{path.stem}_images.js"
        beside[data["images_file"]] = f"globalThis.clorgScaleImages={json.dumps(images['thumbnails'])};\n"
        data["images"] = images | {"thumbnails": {}}
    texts = (title, lead, sentences)
    with write_together():
        for name, text in beside.items():
            with write_whole(path.with_name(name), "w") as file:
                file.write(text)
        with write_whole(path, "w") as file:
            file.write(_render(analyses, texts, data, points=points, beside=list(beside), **more))
    return path


def _render(
    analyses: Mapping[str, AnalysisRecord],
    texts: tuple[str, str, list[str]],
    data: dict[str, Any],
    *,
    points: str,
    beside: Sequence[str],
    steps: Sequence[float] | None = None,
    look_alikes: Sequence[Mapping[str, Any]] = (),
) -> str:
    """Text of the page."""
    from markupsafe import Markup

    known: dict[str, Any] = {}
    if steps is not None:
        data = data | {"steps": list(steps), "unit": unit_of(analyses)}
        known = {"steps": steps, "table": quantity_rows(analyses)}
    title, lead, sentences = texts
    return fill_document(
        "template.html" if steps is None else "trajectory.html",
        data,
        SCRIPTS,
        title=title,
        lead=lead,
        sentences=sentences,
        analyses=analyses,
        look_alikes=look_alikes,
        basis=homogeneity_basis(analyses),
        mixing_basis=sorted({entry["basis"] for entry in data["mixing"]}),
        images=data["images"],
        points=Markup(points),
        beside=[quote(name) for name in beside],
        **known,
    )
