"""Fashion-MNIST (Xiao, Rasul and Vollgraf, arXiv 1708.07747): 70,000 real images of ten kinds of clothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from clorg_scale.datasets.idx import read_idx
from clorg_scale.errors import InputError, require

__all__ = ["FASHION_MNIST_CLASSES", "load_fashion_mnist"]

FASHION_MNIST_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
"""Name of each label, in order."""

_DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""Folder of the files of the Debian package dataset-fashion-mnist."""

_SUBFOLDERS = (".", "fashion-mnist", "FashionMNIST/raw")
"""Folders below a data folder that are searched for the files; the last is torchvision's layout."""

_PREFIX = {"train": "train", "test": "t10k"}


def load_fashion_mnist(
    split: Literal["train", "test"], *, root: Path | str | None = None, download: bool = False
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Load Fashion-MNIST from the four idx files, compressed (``.gz``) or not.

    They are looked for in `root`, in the folder that the environment variable ``CLORG_SCALE_DATA`` names (in
    both also under ``fashion-mnist/`` and torchvision's ``FashionMNIST/raw/``), and where the Debian package
    dataset-fashion-mnist installs them.

    Parameters
    ----------
    split
        ``"train"`` (60,000 images) or ``"test"`` (10,000).
    root
        Data folder to look in first.
    download
        Let torchvision download the files into `root` (or ``CLORG_SCALE_DATA``) where they are found nowhere.

    Returns
    -------
    (n, 28, 28) uint8 images and (n,) int64 labels, in file order.

    Raises
    ------
    InputError
        If the files are found nowhere or are damaged.
    MissingDependencyError
        If they have to be downloaded and torchvision is not installed.
    """
    if split not in _PREFIX:
        raise InputError(f"The split of Fashion-MNIST must be 'train' or 'test', not {split!r}.")
    roots = _data_folders(root)
    images_path = _find(f"{_PREFIX[split]}-images-idx3-ubyte", roots)
    labels_path = _find(f"{_PREFIX[split]}-labels-idx1-ubyte", roots)
    if images_path is None or labels_path is None:
        if not download:
            raise InputError(_how_to_get(roots))
        _download(roots)
        return load_fashion_mnist(split, root=root)
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.shape[1:] != (28, 28) or labels.shape != images.shape[:1]:
        raise InputError(
            f"{images_path} holds an array of shape {images.shape} and {labels_path} one of shape "
            f"{labels.shape}; these are not the files of Fashion-MNIST."
        )
    return images, labels.astype(np.int64)


def _data_folders(root: Path | str | None) -> list[Path]:
    """Return the user's data folders, the one named in the call first."""
    named = [root, os.environ.get("CLORG_SCALE_DATA")]
    return [Path(folder).expanduser() for folder in named if folder]


def _find(name: str, roots: list[Path]) -> Path | None:
    """Find the first file of that name, with or without ``.gz``."""
    folders = [folder / below for folder in roots for below in _SUBFOLDERS]
    candidates = [folder / file for folder in (*folders, _DEBIAN_FOLDER) for file in (name, f"{name}.gz")]
    return next((path for path in candidates if path.is_file()), None)


def _how_to_get(roots: list[Path]) -> str:
    """Say how the files can be had."""
    looked = ", ".join(map(str, [*roots, _DEBIAN_FOLDER]))
    return (
        f"Fashion-MNIST was not found in {looked}; install it with 'apt-get install dataset-fashion-mnist', "
        "or copy its four files (train-images-idx3-ubyte.gz and so on) to a folder and pass that as root or in the "
        "environment variable CLORG_SCALE_DATA, or pass download=True."
    )


def _download(roots: list[Path]) -> None:
    """Let torchvision fetch the files into the first data folder."""
    if not roots:
        raise InputError("Downloading Fashion-MNIST needs a folder: pass root, or set CLORG_SCALE_DATA.")
    datasets = require("torchvision.datasets", extra="train", purpose="Downloading Fashion-MNIST")
    try:
        datasets.FashionMNIST(str(roots[0]), download=True)
    except (OSError, RuntimeError) as error:
        raise InputError(f"Fashion-MNIST could not be downloaded to {roots[0]}: {error}.") from error
