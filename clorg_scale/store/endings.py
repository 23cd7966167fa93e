"""What the ending of a file's name says is what is written to it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clorg_scale.errors import InputError

__all__ = ["check_ending", "check_folder_name"]

_FILES = (
    ".npy", ".npz", ".csv", ".tsv", ".txt", ".json", ".jsonl", ".parquet", ".feather", ".arrow", ".h5", ".hdf5",
    ".h5ad", ".safetensors", ".pt", ".pth", ".pkl", ".mat", ".html", ".htm", ".pdf", ".svg", ".png", ".zip", ".gz",
    ".xlsx", ".zarr",
)  # fmt: skip
"""Endings of files, and of folders in a format of their own."""


def check_ending(path: Path | str, endings: Sequence[str]) -> str:
    """Tell in which format a file is to be written.

    Parameters
    ----------
    path
        Name of the file.
    endings
        Those that can be written, with their dots, the usual one first.

    Returns
    -------
    One of the endings; the first one for a name without any.

    Raises
    ------
    InputError
        If the name has another ending.
    """
    ending = Path(path).suffix.lower()
    if not ending:
        return endings[0]
    if ending not in endings:
        able = endings[0] if len(endings) == 1 else f"{', '.join(endings[:-1])} or {endings[-1]}"
        raise InputError(f"{path} cannot be written as {ending}; give a name that ends in {able}.")
    return ending


def check_folder_name(path: Path | str) -> None:
    """Refuse the name of a file for a folder of results, unless there is such a folder.

    Raises
    ------
    InputError
        If the name ends as that of a file.
    """
    ending = Path(path).suffix.lower()
    if ending in _FILES and not Path(path).is_dir():
        raise InputError(f"{path} is to be a folder, but is named like a file; give a name without {ending}.")
