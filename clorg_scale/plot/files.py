"""All figures of an analysis or a comparison as files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

from clorg_scale.analysis.comparison import Comparison
from clorg_scale.analysis.order import steps_of
from clorg_scale.errors import InputError
from clorg_scale.plot.curves import class_homogeneity, rld, spectrum, trajectory
from clorg_scale.plot.models import analyses_of
from clorg_scale.plot.scatter import MAP_HEIGHT, point_map
from clorg_scale.plot.style import HEIGHT, new_figure
from clorg_scale.plot.tables import COLUMN_HEIGHT, mixing, probes
from clorg_scale.store.atomic import result_folder, write_together, write_whole

__all__ = ["FORMATS", "Format", "save_figures"]

Format = Literal["pdf", "svg", "png"]

FORMATS: tuple[Format, ...] = ("pdf", "svg", "png")

_METADATA: dict[str, dict[str, Any]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}
"""No date, so that the same figure is the same file."""


def save_figures(result: Any, folder: str | Path, *, format: Format = "pdf") -> list[Path]:
    """Write every figure that a result has into a folder: all of them, or none.

    Parameters
    ----------
    result
        `Analysis` or `Comparison`.
    folder
        Made if it is missing; figures of the same names in it are replaced.
    format
        "pdf", "svg" or "png" (300 dots an inch).

    Returns
    -------
    Paths of the files.

    Raises
    ------
    InputError
        If the result or the format is another, or the folder cannot be written.
    MissingDependencyError
        If matplotlib is not installed.
    """
    if format not in FORMATS:
        raise InputError(f"Figures are written as {', '.join(FORMATS)}, not {format!r}.")
    analyses_of(result, "A set of figures")
    written = []
    with result_folder(Path(folder)), write_together():
        for name, draw, height in _figures(result):
            path = Path(folder) / f"{name}.{format}"
            with new_figure(height) as (figure, axes):
                draw(axes)
                with write_whole(path) as file:
                    figure.savefig(file, format=format, metadata=_METADATA[format])
            written.append(path)
    return written


def _figures(result: Any) -> Iterator[tuple[str, Callable[[Any], Any], float]]:
    """Name, function that draws on axes, and height of each figure."""
    analyses = analyses_of(result, "A set of figures")
    yield "rld", partial(rld, result), HEIGHT
    yield "class-homogeneity", partial(class_homogeneity, result), HEIGHT
    if any(a.probes for a in analyses.values()):
        yield "probes", partial(probes, result), HEIGHT
    if any(a.spectrum is not None and a.spectrum.eigenvalues for a in analyses.values()):
        yield "spectrum", partial(spectrum, result), HEIGHT
    if isinstance(result, Comparison) and len(analyses) > 2 and steps_of(list(analyses)) is not None:
        for measure in ("rld", "chi", *(["probes"] if any(a.probes for a in analyses.values()) else [])):
            yield f"trajectory-{measure}", partial(trajectory, result, measure=measure), HEIGHT  # type: ignore[arg-type]
    for number, (name, analysis) in enumerate(analyses.items(), 1):
        ending = f"-{number}-{re.sub(r'[^A-Za-z0-9.]+', '-', name)[:40].strip('-.')}" if len(analyses) > 1 else ""
        if analysis.class_mixing is not None:
            yield f"mixing{ending}", partial(mixing, analysis), COLUMN_HEIGHT
        if analysis.point_map.index:
            yield f"map{ending}", partial(point_map, analysis), MAP_HEIGHT
