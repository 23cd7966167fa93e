"""Results of single stages as files, in the format given by the file extension."""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from clorg_scale.neighbors import KNN
from clorg_scale.rld import RLDResult
from clorg_scale.store.atomic import check_target, write_whole
from clorg_scale.store.endings import check_ending

__all__ = [
    "COMMUNITY_FILES",
    "NEIGHBOR_FILES",
    "RLD_FILES",
    "check_file",
    "write_communities",
    "write_neighbors",
    "write_rld",
]

NEIGHBOR_FILES = (".npz", ".csv", ".tsv")
COMMUNITY_FILES = (".npy", ".npz", ".txt", ".csv", ".tsv", ".json")
RLD_FILES = (".json", ".csv", ".tsv")

SEPARATORS = {".csv": ",", ".tsv": "\t"}


def check_file(path: Path | None, endings: tuple[str, ...]) -> None:
    """Check, before anything is computed, that a file can be written in the format of its extension.

    Raises
    ------
    InputError
        If it cannot.
    """
    if path is not None:
        check_ending(path, endings)
        check_target(path)


def write_neighbors(table: KNN, path: Path) -> None:
    """Write a k-NN table: .npz as `KNN.save`; .csv and .tsv one line per point and neighbor, nearest first."""
    ending = check_ending(path, NEIGHBOR_FILES)
    if ending == ".npz":
        table.save(path)
        return
    from clorg_scale.arrays import on_host

    separator = SEPARATORS[ending]
    indices, distances = on_host(table.indices), on_host(table.distances)
    with write_whole(path, "w") as file:
        file.write(separator.join(("point", "neighbor", "distance")) + "\n")
        for point, (neighbors, apart) in enumerate(zip(indices, distances, strict=True)):
            file.writelines(
                f"{point}{separator}{neighbor}{separator}{distance:.9g}\n"  # nine digits determine a float32
                for neighbor, distance in zip(neighbors.tolist(), apart.tolist(), strict=True)
            )


def write_communities(labels: npt.NDArray[np.integer[Any]], path: Path) -> None:
    """Write the community of each point, in the order of the points."""
    ending = check_ending(path, COMMUNITY_FILES)
    if ending in (".npy", ".npz"):
        with write_whole(path) as binary:
            if ending == ".npy":
                np.save(binary, labels)
            else:
                np.savez(binary, labels=labels)
        return
    with write_whole(path, "w") as file:
        if ending == ".json":
            file.write(json.dumps(labels.tolist()) + "\n")
            return
        if ending in SEPARATORS:
            file.write("community\n")
        file.writelines(f"{label}\n" for label in labels.tolist())


def write_rld(result: RLDResult, document: dict[str, Any], path: Path) -> None:
    """Write RLD: .json everything; .csv and .tsv one line per temperature."""
    ending = check_ending(path, RLD_FILES)
    with write_whole(path, "w") as file:
        if ending == ".json":
            file.write(json.dumps(document, indent=1, allow_nan=False) + "\n")
        else:
            _write_temperatures(result, file, SEPARATORS[ending])


def _write_temperatures(result: RLDResult, file: IO[str], separator: str) -> None:
    file.write(separator.join(("temperature", "rld", "stderr", "null_mean")) + "\n")
    columns = (result.temperatures, result.values, result.stderr, result.null_mean)
    for row in zip(*(column.tolist() for column in columns), strict=True):
        file.write(separator.join(map(repr, row)) + "\n")
