"""Labelled images by name: in memory where they are small, decoded when asked for where they are files."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from clorg_scale.datasets.fashion_mnist import FASHION_MNIST_CLASSES, load_fashion_mnist
from clorg_scale.errors import InputError, require

__all__ = ["IMAGE_SETS", "ImageFiles", "ImageSet", "Images", "load_images"]

IMAGE_SETS = ("fashion-mnist", "cifar10", "cifar100", "stl10")
"""Names that `load_images` takes beside folders of images."""

Split = Literal["train", "test"]


@dataclass(frozen=True)
class Images:
    """Images in memory.

    Attributes
    ----------
    pixels
        (n, c, h, w) uint8.
    labels
        (n,) int64.
    classes
        Name of each label.
    name
        Of the data set.
    """

    pixels: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    classes: list[str]
    name: str

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def n_channels(self) -> int:
        """1 for grey images, 3 for colours."""
        return int(self.pixels.shape[1])

    @property
    def image_size(self) -> int:
        """Pixels a side."""
        return int(self.pixels.shape[2])

    def batch(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """(b, c, h, w) of the given rows."""
        return self.pixels[rows]

    def first(self, n: int) -> Images:
        """The first n images."""
        _check_first(n, len(self))
        return replace(self, pixels=self.pixels[:n], labels=self.labels[:n])

    def spread(self, n: int) -> Images:
        """N images at equal distances: of a set that lies class by class, as many of each."""
        _check_first(n, len(self))
        rows = np.arange(n) * len(self) // n
        return replace(self, pixels=self.pixels[rows], labels=self.labels[rows])


@dataclass(frozen=True)
class ImageFiles:
    """Images in files, decoded by threads when they are asked for; attributes as those of `Images`.

    Attributes
    ----------
    paths
        (n,) in the order of the labels.
    image_size
        The shorter side is resized to this, the middle square is taken.
    """

    paths: list[str]
    labels: npt.NDArray[np.int64]
    classes: list[str]
    name: str
    image_size: int
    n_channels: int = 3
    _threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(os.cpu_count() or 1), repr=False, compare=False
    )

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """(b, 3, h, w) of the given rows."""
        return np.stack(list(self._threads.map(self._decoded, rows.tolist())))

    def first(self, n: int) -> ImageFiles:
        """The first n images."""
        _check_first(n, len(self))
        return replace(self, paths=self.paths[:n], labels=self.labels[:n])

    def spread(self, n: int) -> ImageFiles:
        """N images at equal distances: of a set that lies class by class, as many of each."""
        _check_first(n, len(self))
        rows = np.arange(n) * len(self) // n
        return replace(self, paths=[self.paths[row] for row in rows], labels=self.labels[rows])

    def _decoded(self, row: int) -> npt.NDArray[np.uint8]:
        from PIL import Image, UnidentifiedImageError

        size, path = self.image_size, self.paths[row]
        try:
            with Image.open(path) as file:
                file.draft("RGB", (size, size))
                image = file.convert("RGB")
        except (OSError, UnidentifiedImageError) as error:
            raise InputError(f"The image {path} cannot be read: {error}.") from error
        scale = size / min(image.size)
        width, height = (max(size, round(side * scale)) for side in image.size)
        left, top = (width - size) // 2, (height - size) // 2
        image = image.resize((width, height), Image.Resampling.BILINEAR).crop((left, top, left + size, top + size))
        return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


ImageSet = Images | ImageFiles


def _check_first(n: int, there: int) -> None:
    """Refuse to take none, or more than there are."""
    if not 1 <= n <= there:
        raise InputError(f"{n} images cannot be taken; there are {there}.")


def load_images(
    name: str, split: Split = "train", *, root: Path | str | None = None, image_size: int = 224, download: bool = False
) -> ImageSet:
    """Load a labelled set of images.

    Parameters
    ----------
    name
        "fashion-mnist", "cifar10", "cifar100", "stl10", or a folder that holds one folder of images a class (below
        train/ and val/ or test/, as ImageNet does, or directly).
    split
        "train" or "test".
    root
        Data folder; default: the environment variable CLORG_SCALE_DATA.
    image_size
        Size that images in folders are brought to, in pixels.
    download
        Let torchvision download the named sets.

    Raises
    ------
    InputError
        If the images are not there.
    MissingDependencyError
        If torchvision is needed and not installed.
    """
    if split not in ("train", "test"):
        raise InputError(f"The split must be 'train' or 'test', not {split!r}.")
    if image_size < 1:
        raise InputError(f"image_size must be at least 1 pixel, not {image_size}.")
    if name == "fashion-mnist":
        pixels, labels = load_fashion_mnist(split, root=root, download=download)
        return Images(pixels[:, None], labels, list(FASHION_MNIST_CLASSES), name)
    if name in IMAGE_SETS:
        return _from_torchvision(name, split, root, download=download)
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise InputError(f"There is no data set and no folder {name!r}; choose from {', '.join(IMAGE_SETS)}.")
    return _from_folder(folder, split, image_size)


def _from_torchvision(name: str, split: Split, root: Path | str | None, *, download: bool) -> Images:
    """CIFAR-10, CIFAR-100 or STL-10."""
    datasets = require("torchvision.datasets", extra="train", purpose=f"Reading {name}")
    folder = root or os.environ.get("CLORG_SCALE_DATA")
    if not folder:
        raise InputError(f"{name} is read from a data folder: name it as root, or as CLORG_SCALE_DATA.")
    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100, "stl10": datasets.STL10}[name]
    which: dict[str, Any] = {"split": split} if name == "stl10" else {"train": split == "train"}
    try:
        data = kind(str(folder), download=download, **which)
    except (RuntimeError, OSError) as error:
        raise InputError(
            f"{name} is not in {folder}; download it there with --download on a machine that has a network, "
            f"or put torchvision's files there ({str(error).splitlines()[0].rstrip('.')})."
        ) from error
    pixels, labels = np.asarray(data.data), np.asarray(data.labels if name == "stl10" else data.targets, np.int64)
    pixels = pixels if name == "stl10" else pixels.transpose(0, 3, 1, 2)
    return Images(np.ascontiguousarray(pixels), labels, [str(c) for c in data.classes], name)


def _from_folder(folder: Path, split: Split, image_size: int) -> ImageFiles:
    """One folder of images a class."""
    datasets = require("torchvision.datasets", extra="train", purpose="Reading a folder of images")
    below = {"train": ("train",), "test": ("test", "val")}[split]
    parts = [folder / part for part in below if (folder / part).is_dir()]
    if not parts and any((folder / part).is_dir() for part in ("train", "test", "val")):
        raise InputError(f"{folder} has no folder {' or '.join(below)}/ for the {split} split.")
    try:
        found = datasets.ImageFolder(str(parts[0] if parts else folder))
    except FileNotFoundError as error:
        raise InputError(
            f"{folder} does not hold one folder of images a class: {str(error).splitlines()[0]}"
        ) from error
    paths, labels = zip(*found.samples, strict=True)
    return ImageFiles(list(paths), np.array(labels, np.int64), list(found.classes), folder.name, image_size)
