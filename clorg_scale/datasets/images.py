"""Labeled images by name: in memory where they are small, decoded on demand where they are files."""

from __future__ import annotations

import hashlib
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from clorg_scale.datasets.decoding import decode_square
from clorg_scale.datasets.fashion_mnist import FASHION_MNIST_CLASSES, load_fashion_mnist
from clorg_scale.datasets.folders import ClassFolders, find_split, read_class_folders
from clorg_scale.errors import InputError, require
from clorg_scale.progress import progress_bar
from clorg_scale.whole import whole_number

__all__ = ["IMAGE_SETS", "ImageFiles", "ImageSet", "Images", "load_images"]

IMAGE_SETS = ("fashion-mnist", "cifar10", "cifar100", "stl10")
"""Names that `load_images` takes in addition to folders of images."""

Split = Literal["train", "test"]

HASHED_BYTES = 2 << 30
"""Largest total size of image files whose bytes are hashed; beyond it, their sizes and times of change are."""

_LISTED = 5
"""Largest number of files that a message names."""


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
        Name of the data set.

    Raises
    ------
    InputError
        If the pixels are of another dtype or shape, or a label has no name.
    """

    pixels: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    classes: list[str]
    name: str

    def __post_init__(self) -> None:
        if self.pixels.dtype != np.uint8:
            raise InputError(
                f"The pixels of {self.name} have dtype {self.pixels.dtype}, whose black and white are not known; "
                "scale them to 0 .. 255 and hand them in as uint8."
            )
        if self.pixels.ndim != 4 or len(self.pixels) != len(self.labels):
            raise InputError(
                f"The pixels of {self.name} have shape {self.pixels.shape}; (images, channels, height, width) is "
                f"needed, one image for each of the {len(self.labels)} labels."
            )
        _check_labels(self.labels, self.classes, self.name)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def skipped(self) -> list[str]:
        """Files that were left out because they cannot be read: none of images in memory."""
        return []

    def digest(self) -> str:
        """Digest of pixels and labels, 32 hexadecimal digits."""
        digest = hashlib.blake2b(f"{self.pixels.shape}{self.classes}".encode(), digest_size=16)
        for image in self.pixels:
            digest.update(np.ascontiguousarray(image).data)
        digest.update(np.ascontiguousarray(self.labels, dtype=np.int64).data)
        return digest.hexdigest()

    @property
    def n_channels(self) -> int:
        """1 for gray images, 3 for colors."""
        return int(self.pixels.shape[1])

    @property
    def image_size(self) -> int:
        """Pixels a side."""
        return int(self.pixels.shape[2])

    def batch(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """(b, c, h, w) of the given rows."""
        return self.pixels[rows]

    def first(self, n: int) -> Images:
        """Take the first n images."""
        return self.shard(slice(_check_count(n, len(self))))

    def shard(self, rows: slice) -> Images:
        """Take consecutive images."""
        return replace(self, pixels=self.pixels[rows], labels=self.labels[rows])

    def spread(self, n: int) -> Images:
        """Take n images at equal distances: equally many of each class where the images are ordered by class."""
        n = _check_count(n, len(self))
        rows = np.arange(n) * len(self) // n
        return replace(self, pixels=self.pixels[rows], labels=self.labels[rows])


@dataclass(frozen=True)
class ImageFiles:
    """Images in files, decoded on demand by threads; attributes as those of `Images`.

    Attributes
    ----------
    paths
        (n,) in the order of the labels.
    image_size
        The shorter side is resized to this, the middle square is taken.
    skipped
        Files that were left out because they cannot be read.
    unsplit
        Whether the folder has one set of images for training and test.
    """

    paths: list[str]
    labels: npt.NDArray[np.int64]
    classes: list[str]
    name: str
    image_size: int
    n_channels: int = 3
    skipped: list[str] = field(default_factory=list)
    unsplit: bool = False
    _threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(os.cpu_count() or 1), repr=False, compare=False
    )

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """(b, 3, h, w) of the given rows."""
        return np.stack(list(self._threads.map(self._decoded, rows.tolist())))

    def batch_on(self, rows: npt.NDArray[np.int64], device: Any) -> Any:
        """(b, 3, h, w) of the given rows as a tensor on a GPU, which decodes JPEG (see `clorg_scale.datasets.jpeg`)."""
        from clorg_scale.datasets.jpeg import decode_squares

        return decode_squares([self.paths[row] for row in rows], self.image_size, device, self._threads)

    def first(self, n: int) -> ImageFiles:
        """Take the first n images."""
        return self.shard(slice(_check_count(n, len(self))))

    def shard(self, rows: slice) -> ImageFiles:
        """Take consecutive images."""
        return replace(self, paths=self.paths[rows], labels=self.labels[rows])

    def __reduce__(self) -> Any:
        values = (self.paths, self.labels, self.classes, self.name, self.image_size, self.n_channels, self.skipped)
        return ImageFiles, (*values, self.unsplit)  # with threads of its own

    def spread(self, n: int) -> ImageFiles:
        """Take n images at equal distances: equally many of each class where the images are ordered by class."""
        n = _check_count(n, len(self))
        rows = np.arange(n) * len(self) // n
        return replace(self, paths=[self.paths[row] for row in rows], labels=self.labels[rows])

    def digest(self) -> str:
        """Digest of files, labels and size, 32 hexadecimal digits.

        Beyond `HASHED_BYTES`, the sizes and times of change of the files are hashed, not their contents.
        """
        digest = hashlib.blake2b(f"{self.image_size} {self.classes}".encode(), digest_size=16)
        digest.update(np.ascontiguousarray(self.labels, dtype=np.int64).data)
        states = self.states()
        if sum(size for size, _ in states) <= HASHED_BYTES:
            for part in self._threads.map(_file_digest, self.paths):
                digest.update(part)
        else:
            for path, state in zip(self.paths, states, strict=True):
                digest.update(f"{os.path.realpath(path)} {state}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def states(self) -> list[tuple[int, int]]:
        """Size and time of change (ns) of each file; zeros for a file that does not exist."""
        return [_state(path) for path in self.paths]

    def without_unreadable(self, *, progress: bool = False) -> ImageFiles:
        """Leave out the images that cannot be read, after reading every one of them; `skipped` names them.

        Raises
        ------
        InputError
            If none is left.
        """
        readable = []
        with progress_bar("Checking images", len(self), unit="images", enabled=progress) as advance:
            for found in self._threads.map(self._is_readable, range(len(self))):
                readable.append(found)
                advance(1)
        kept = np.flatnonzero(readable)
        skipped = [path for path, found in zip(self.paths, readable, strict=True) if not found]
        if not len(kept):
            raise InputError(f"None of the {len(self)} images of {self.name} can be read; the first is {skipped[0]}.")
        paths = [self.paths[row] for row in kept]
        return replace(self, paths=paths, labels=self.labels[kept], skipped=self.skipped + skipped)

    def _is_readable(self, row: int) -> bool:
        try:
            self._decoded(row)
        except InputError:
            return False
        return True

    def _decoded(self, row: int) -> npt.NDArray[np.uint8]:
        return decode_square(self.paths[row], self.image_size)


ImageSet = Images | ImageFiles


def _check_count(n: int, n_images: int) -> int:
    """Check how many images are to be taken."""
    return whole_number("The number of images to take", n, 1, n_images)


def _check_labels(labels: npt.NDArray[np.int64], classes: list[str], name: str) -> None:
    """Refuse labels without a name; -1 is none."""
    if len(labels) and (labels.min() < -1 or labels.max() >= len(classes)):
        raise InputError(
            f"The labels of {name} go from {labels.min()} to {labels.max()}, but it names {len(classes)} classes."
        )


def _state(path: str) -> tuple[int, int]:
    """Size and time of the last change; zeros for a file that does not exist."""
    try:
        found = Path(path).stat()
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


def _file_digest(path: str) -> bytes:
    """Digest of a file's name and bytes; of its name alone where it cannot be read."""
    file = Path(path)
    digest = hashlib.blake2b(os.fsencode(file.name), digest_size=16)
    if file.is_file():
        with suppress(OSError), file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha1").digest())
    return digest.digest()


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
        train/ and val/ or test/, as ImageNet does, or directly). Hidden files and folders are passed over.
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
    if not folder.is_dir():
        raise InputError(f"There is no data set and no folder {name!r}; choose from {', '.join(IMAGE_SETS)}.")
    images = _from_folder(folder, split, image_size)
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
            f"{name} is not in {folder}; download it there with --download on a machine that has a network, "
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
            f"{len(found.others)} file{'s' * many} whose name{'s do' if many else ' does'} not end as an image's "
            f"{'were' if many else 'was'} left out ({listed}).",
            stacklevel=4,
        )
