"""`figures`: pictures for papers from the folder of an analysis or a comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from clorg_scale.cli.app import app
from clorg_scale.cli.output import printable

__all__: list[str] = []


@app.command(short_help="Draw the figures of an analysis or a comparison for a paper.")
def figures(
    folder: Annotated[
        Path, typer.Argument(help="Folder written by 'clorg-scale analyze', 'compare' or 'track'.", metavar="FOLDER")
    ],
    *,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the figures; default: 'figures' in FOLDER.", metavar="FOLDER")
    ] = None,
    format_name: Annotated[str, typer.Option("--format", help="pdf, svg or png.", metavar="NAME")] = "pdf",
) -> None:
    """Draw all figures of an analysis or a comparison, 85 mm wide, with text of 8 pt."""
    from clorg_scale.plot import save_figures

    result = _read(folder)
    for path in save_figures(result, folder / "figures" if out is None else out, format=format_name):  # type: ignore[arg-type]
        print(printable(path))


def _read(folder: Path) -> Any:
    """Read the comparison in a folder, or else the analysis."""
    from clorg_scale.analysis import Analysis, Comparison
    from clorg_scale.analysis.comparison import STORED

    return Comparison.from_json(folder / STORED) if (folder / STORED).exists() else Analysis.from_json(folder)
