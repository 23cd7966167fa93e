"""RLD over a fine range of temperatures: where two models change rank, and where shuffled labels begin to matter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clorg_scale.analysis.fingerprint import Unchanged
from clorg_scale.arrays import Device
from clorg_scale.datasets import load_fashion_mnist_embeddings
from clorg_scale.rld import rld
from clorg_scale.store.atomic import result_folder
from clorg_scale.store.locks import lock_folder, releasing_locks
from clorg_scale.studies.curves import rld_page
from clorg_scale.studies.table import Row, write_study
from clorg_scale.whole import MOST_SEED, whole_number

__all__ = ["study_temperature"]

TEMPERATURES = tuple(float(t) for t in np.geomspace(2, 0.02, 24))


@releasing_locks
def study_temperature(
    sets: Mapping[str, tuple[Any, Any]] | None = None,
    *,
    out: Path | str,
    device: Device = "auto",
    seed: int = 0,
    progress: bool = False,
) -> list[Row]:
    """RLD of each set of embeddings at 24 temperatures from 2 to 0.02, and of its shuffled labels.

    Parameters
    ----------
    sets
        Embeddings and labels by name; default: the contrastive and the supervised network that ship.
    out
        Folder for table.csv, table.json and plot.html.
    device, seed, progress
        As for `clorg_scale.rld`.

    Returns
    -------
    A row for each temperature.

    Raises
    ------
    InputError
        As `clorg_scale.rld`; if the folder cannot be written, or another run is writing to it.
    """
    seed = whole_number("seed", seed, 0, MOST_SEED)
    if sets is None:
        shipped = {name: load_fashion_mnist_embeddings(name, "train") for name in ("contrastive", "supervised")}
        sets = {name: (stored.embeddings, stored.labels) for name, stored in shipped.items()}
    rows: list[Row] = [{"T": t} for t in TEMPERATURES]
    curves = {}
    with result_folder(Path(out)):
        lock_folder(out)
        for name, (embeddings, labels) in sets.items():
            with Unchanged({f"embeddings {name}": embeddings}):
                found = rld(embeddings, labels, temperatures=TEMPERATURES, device=device, seed=seed, progress=progress)
            curves[name] = [float(value) for value in found.values]
            for row, value, error, mean, spread in zip(
                rows, found.values, found.stderr, found.null_mean, found.null_std, strict=True
            ):
                row[name] = float(value)
                row[f"{name}, standard error"] = float(error)
                row[f"{name}, shuffled"] = float(mean)
                row[f"{name}, shuffled, deviation"] = float(spread)
        write_study(out, rows, rld_page(TEMPERATURES, curves, title="RLD against the temperature"))
    return rows
