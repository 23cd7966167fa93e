"""File formats by the extension of the name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clorg_scale.errors import InputError

__all__ = ["check_ending", "check_folder_name"]

_FILES = (
    *(".npy", ".npz", ".csv", ".tsv", ".txt", ".json", ".jsonl", ".parquet", ".feather", ".arrow", ".h5", ".hdf5"),
    *(".h5ad", ".safetensors", ".pt", ".pth", ".pkl", ".mat", ".html", ".htm", ".pdf", ".svg", ".png", ".zip", ".gz"),
    *(".xlsx", ".zarr"),
)
"""Extensions of files, and of folders in a format of their own."""


def check_ending(path: Path | str, endings: Sequence[str]) -> str:
    """Return the extension that selects the format of a file to write.

    Parameters
    ----------
    path
        Name of the file.
    endings
        Extensions that can be written, with their dots, the default first.

    Returns
    -------
    One of `endings`; the first for a name without an extension.

    Raises
    ------
    InputError
        If the name has another extension.
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
        If the name has the extension of a file.
    """
    ending = Path(path).suffix.lower()
    if ending in _FILES and not Path(path).is_dir():
        raise InputError(f"{path} is to be a folder, but is named like a file; give a name without {ending}.")
