"""`compare`: several models' analyses side by side."""

from __future__ import annotations

import csv
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clorg_scale.analysis.aligned_maps import align
from clorg_scale.analysis.order import steps_of
from clorg_scale.analysis.result import Analysis
from clorg_scale.analysis.summaries import LookAlike
from clorg_scale.arrays import on_host
from clorg_scale.errors import InputError
from clorg_scale.neighbors import KNN
from clorg_scale.report import write_comparison, write_trajectory
from clorg_scale.report.findings import quantity_rows
from clorg_scale.results.latex import latex_table
from clorg_scale.results.result import Columns, Result
from clorg_scale.store.atomic import result_folder, write_together, write_whole
from clorg_scale.store.endings import check_ending
from clorg_scale.store.locks import lock_folder, releasing_locks

if TYPE_CHECKING:
    from clorg_scale.report.image_sources import ImageSource

__all__ = ["STORED", "Comparison", "compare"]

FEWEST_STEPS = 3
"""Checkpoints from which on a comparison follows a training."""

STORED = "analyses.json"
"""Name of the stored comparison in the folder that `Comparison.write` writes."""


@dataclass(frozen=True)
class Comparison(Result):
    """Analyses of several models by name.

    Attributes
    ----------
    analyses
        In the order they were passed.
    """

    analyses: dict[str, Analysis]

    @property
    def steps(self) -> list[float] | None:
        """Steps of the training that the models are checkpoints of; None where they are other models."""
        return steps_of(list(self.analyses)) if len(self.analyses) >= FEWEST_STEPS else None

    def table(self) -> list[dict[str, str | float | int | None]]:
        """Rows of one quantity each: its name, then each model's value (None where a model lacks it)."""
        return quantity_rows(self.analyses)

    def to_csv(self, path: str | Path) -> Path:
        """Write the table as a CSV file, whole or not at all: a column for each model."""
        check_ending(path, (".csv",))
        rows = self.table()
        with write_whole(path, "w") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        return Path(path)

    def to_latex(self, path: str | Path | None = None) -> str:
        r"""Return the table for LaTeX, with the rules of the package booktabs; also write it to a ``.tex`` file.

        Numbers of points and communities are whole, other values have four digits. ``\usepackage{booktabs}`` belongs
        in the preamble.
        """
        text = latex_table(self.table())
        if path is not None:
            check_ending(path, (".tex",))
            with write_whole(path, "w") as file:
                file.write(text)
        return text

    def _tables(self) -> dict[str, Callable[[], Columns]]:
        return {"quantities": self._by_quantity}

    def _by_quantity(self) -> Columns:
        rows = self.table()
        return {name: [row[name] for row in rows] for name in rows[0]}

    def _line(self) -> str:
        first = next(iter(self.analyses.values()))
        return f"{', '.join(map(repr, self.analyses))}: {first.n_points:,} points, {len(first.classes):,} classes"

    def look_alikes(self, n_most: int = 10) -> list[dict[str, Any]]:
        """Look-alikes of each model, and what the others say of them.

        Parameters
        ----------
        n_most
            Pairs of each model, the nearest.

        Returns
        -------
        Rows: ``model``, ``index``, ``other``, ``label``, ``other_label``, ``distance`` (in units of the model's mean
        distance), and ``ranks`` by the name of each other model: the rank of one of the points among the neighbors of
        the other there (1 is the nearest; the better of both directions), 0 where neither is among the k nearest, None
        where that model's k-NN table is not there any more.
        """
        tables = {name: analysis.neighbor_table() for name, analysis in self.analyses.items()}
        rows: list[dict[str, Any]] = []
        for model, analysis in self.analyses.items():
            for pair in [] if analysis.issues is None else analysis.issues.look_alikes[:n_most]:
                ranks = {name: _rank(table, pair) for name, table in tables.items() if name != model}
                rows.append({"model": model, **pair.to_dict(), "ranks": ranks})
        return rows

    def report(self, path: str | Path, *, images: str | Path | ImageSource | None = None) -> Path:
        """Write the self-contained HTML page, whole or not at all; of checkpoints, one that follows their steps.

        Maps of the same points are turned like each other.

        Parameters
        ----------
        path
            File to write.
        images
            The images of the points, as for `Analysis.report`; shown of each model.
        """
        check_ending(path, (".html", ".htm"))
        if self.steps is not None:
            return write_trajectory(self.analyses, self.steps, path, images=images)
        turned_maps = align(list(self.analyses.values()))
        by_name = dict(zip(self.analyses, turned_maps, strict=True))
        return write_comparison(by_name, path, look_alikes=self.look_alikes(), images=images)

    @releasing_locks
    def write(self, folder: str | Path, *, images: str | Path | ImageSource | None = None) -> None:
        """Write comparison.html, comparison.json (the table) and analyses.json into a folder: all of them, or none.

        analyses.json is what `to_json` writes, without the values of single points; `clorg-scale figures` reads it. The
        page shows the `images` of the points, as for `Analysis.report`.

        Raises
        ------
        InputError
            If the folder cannot be written, or another run is writing to it.
        """
        folder = Path(folder)
        with result_folder(folder):
            lock_folder(folder)
            with write_together():
                self.report(folder / "comparison.html", images=images)
                with write_whole(folder / "comparison.json", "w") as file:
                    file.write(json.dumps(self.table(), indent=1, allow_nan=False) + "\n")
                smaller = {name: replace(analysis, points={}) for name, analysis in self.analyses.items()}
                Comparison(smaller).to_json(folder / STORED)


def compare(analyses: Mapping[str, Analysis]) -> Comparison:
    """Put analyses side by side.

    Parameters
    ----------
    analyses
        Two or more, by the name of the model. Three or more checkpoints of a training, whose names differ in their
        last number only ("epoch 10"), are put in its order. RLD at small temperatures depends on the number of points:
        compare models on the same data.

    Raises
    ------
    InputError
        If there are fewer than two, or they are of different numbers of points or classes.

    Warns
    -----
    UserWarning
        If only some of the models' embeddings were normalized.
    """
    if len(analyses) < 2:
        raise InputError(f"A comparison needs at least two analyses, not {len(analyses)}.")
    first = next(iter(analyses))
    for name, analysis in analyses.items():
        for quantity in ("n_points", "classes"):
            ours, theirs = getattr(analyses[first], quantity), getattr(analysis, quantity)
            if ours != theirs:
                what = f"{ours} and {theirs} points" if quantity == "n_points" else "different classes"
                raise InputError(
                    f"The analyses {first!r} and {name!r} have {what}; RLD depends on the number of points, "
                    "so compare models on the same data."
                )
    normalized = [name for name, analysis in analyses.items() if analysis.settings.get("normalize")]
    if 0 < len(normalized) < len(analyses):
        warnings.warn(
            f"Only the embeddings of {', '.join(map(repr, normalized))} were normalized; the numbers of the models are "
            "not comparable.",
            stacklevel=2,
        )
    return Comparison(_in_order(analyses))


def _in_order(analyses: Mapping[str, Analysis]) -> dict[str, Analysis]:
    """Checkpoints of a training by their steps, with their maps turned like each other; others as they are."""
    steps = steps_of(list(analyses))
    if len(analyses) < FEWEST_STEPS or steps is None:
        return dict(analyses)
    ordered = [name for _, name in sorted(zip(steps, analyses, strict=True))]
    turned_maps = align([analyses[name] for name in ordered])
    return dict(zip(ordered, turned_maps, strict=True))


def _rank(table: KNN | None, pair: LookAlike) -> int | None:
    """Rank of a pair in a k-NN table, the better of both directions; 0 where neither lists the other."""
    if table is None:
        return None
    found = [
        int(np.flatnonzero(neighbors == other)[0]) + 1
        for point, other in ((pair.index, pair.other), (pair.other, pair.index))
        if other in (neighbors := on_host(table.indices[point]))
    ]
    return min(found, default=0)
