"""Labeled images by name: a known set, a folder of images, tar shards, a Hugging Face data set."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np

from clorg_scale.datasets.containers import find_container, load_container
from clorg_scale.datasets.fashion_mnist import FASHION_MNIST_CLASSES, load_fashion_mnist
from clorg_scale.datasets.folders import ClassFolders, find_split, read_class_folders
from clorg_scale.datasets.images import ImageFiles, Images, ImageSet
from clorg_scale.errors import InputError, require
from clorg_scale.whole import whole_number

__all__ = ["IMAGE_SETS", "load_images"]

IMAGE_SETS = ("fashion-mnist", "cifar10", "cifar100", "stl10")
"""Names that `load_images` takes in addition to folders of images."""

Split = Literal["train", "test"]

_LISTED = 5
"""Largest number of files that a message names."""


def load_images(
    name: str,
    split: Split = "train",
    *,
    root: Path | str | None = None,
    image_size: int = 224,
    download: bool = False,
    skip_unreadable: bool = False,
    progress: bool = False,
) -> ImageSet:
    """Load a labeled set of images.

    Parameters
    ----------
    name
        "fashion-mnist", "cifar10", "cifar100", "stl10", or a folder that holds one folder of images a class (below
        train/ and val/ or test/, as ImageNet does, or directly). Hidden files and folders are passed over. Or images
        that are packed into files: WebDataset's tar shards (``.jpg`` and ``.cls`` or ``.json`` by a common name), a
        data set that Hugging Face's ``save_to_disk`` wrote, Parquet files with a column of encoded images; one such
        file, or a folder of them, whose names (``train-0000.tar``) or folders tell the split. Rows are in the order of
        the files' names, then of the images in each. Parquet files are read in row groups, so training on them in
        random order is slow.
    split
        "train" or "test". Labels of both follow the names of the classes in train/; classes that only test/ has come
        after them. A folder without train/ and val/ has one set of images only: it is given for both, with a warning
        where test images were asked for.
    root
        Data folder; default: the environment variable CLORG_SCALE_DATA.
    image_size
        Size in pixels that images in folders are resized to.
    download
        Let torchvision download the named sets.
    skip_unreadable
        Read every image of a folder once beforehand and leave out those that cannot be read; `skipped` names them.
    progress
        Show a progress bar on stderr meanwhile.

    Raises
    ------
    InputError
        If the images are not there.
    MissingDependencyError
        If torchvision is needed and not installed.
    """
    if split not in ("train", "test"):
        raise InputError(f"The split must be 'train' or 'test', not {split!r}.")
    image_size = whole_number("image_size", image_size, 1)
    if name == "fashion-mnist":
        pixels, labels = load_fashion_mnist(split, root=root, download=download)
        return Images(pixels[:, None], labels, list(FASHION_MNIST_CLASSES), name)
    if name in IMAGE_SETS:
        return _from_torchvision(name, split, root, download=download)
    folder = Path(name).expanduser()
    images: ImageFiles
    container = find_container(folder, split)
    if container is not None:
        images = load_container(folder, container, split, image_size)
    elif folder.is_dir():
        images = _from_folder(folder, split, image_size)
    else:
        raise InputError(f"There is no data set and no folder {name!r}; choose from {', '.join(IMAGE_SETS)}.")
    return images.without_unreadable(progress=progress) if skip_unreadable else images


def _from_torchvision(name: str, split: Split, root: Path | str | None, *, download: bool) -> Images:
    """CIFAR-10, CIFAR-100 or STL-10."""
    datasets = require("torchvision.datasets", extra="train", purpose=f"Reading {name}")
    folder = root or os.environ.get("CLORG_SCALE_DATA")
    if not folder:
        raise InputError(f"{name} is read from a data folder; pass it as root, or set CLORG_SCALE_DATA.")
    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100, "stl10": datasets.STL10}[name]
    which: dict[str, Any] = {"split": split} if name == "stl10" else {"train": split == "train"}
    try:
        data = kind(str(folder), download=download, **which)
    except (RuntimeError, OSError) as error:
        raise InputError(
            f"{name} is not in {folder}; download it there with --download on a machine with network access, "
            f"or put torchvision's files there ({str(error).splitlines()[0].rstrip('.')})."
        ) from error
    pixels, labels = np.asarray(data.data), np.asarray(data.labels if name == "stl10" else data.targets, np.int64)
    pixels = pixels if name == "stl10" else pixels.transpose(0, 3, 1, 2)
    return Images(np.ascontiguousarray(pixels), labels, [str(c) for c in data.classes], name)


def _from_folder(folder: Path, split: Split, image_size: int) -> ImageFiles:
    """One folder of images a class."""
    require("PIL.Image", extra="train", purpose="Reading a folder of images")
    split_folder = find_split(folder, split)
    found = read_class_folders(split_folder or folder)
    _warn_of_others(found)
    if split_folder is None and split == "test":
        warnings.warn(
            f"{folder} has no train/ and no val/ or test/, so its test images are its training images; measures of "
            "them do not show how the network performs on unseen images.",
            stacklevel=3,
        )
    classes = found.classes
    train = find_split(folder, "train") if split_folder is not None and split == "test" else None
    if train is not None:
        known = read_class_folders(train).classes
        classes = known + [name for name in classes if name not in set(known)]
    number = {name: label for label, name in enumerate(classes)}
    labels = np.array([number[name] for name in found.names], np.int64)
    return ImageFiles(found.paths, labels, classes, folder.resolve().name, image_size, unsplit=split_folder is None)


def _warn_of_others(found: ClassFolders) -> None:
    """Warn of files in class folders that are not images."""
    if found.others:
        listed = ", ".join(found.others[:_LISTED]) + (", ..." if len(found.others) > _LISTED else "")
        many = len(found.others) > 1
        warnings.warn(
            f"{len(found.others)} file{'s' * many} without an image's file extension {'were' if many else 'was'} "
            f"left out ({listed}).",
            stacklevel=4,
        )
