"""Labeled images: in memory where they are small, decoded on demand where they are files."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from clorg_scale.counted import counted
from clorg_scale.datasets.decoding import decode_square
from clorg_scale.errors import InputError
from clorg_scale.progress import progress_bar
from clorg_scale.whole import whole_number

__all__ = ["ImageFiles", "ImageSet", "Images"]

HASHED_BYTES = 2 << 30
"""Largest total size of image files whose bytes are hashed; beyond it, their sizes and times of change are."""


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
                f"The pixels of {self.name} have dtype {self.pixels.dtype}, whose values for black and white "
                "are not known; scale them to 0 .. 255 and pass them as uint8."
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

    def first(self, n: int) -> Self:
        """Take the first n images."""
        return self.shard(slice(_check_count(n, len(self))))

    def shard(self, rows: slice) -> Self:
        """Take consecutive images."""
        return self._taken(np.arange(len(self))[rows])

    def spread(self, n: int) -> Self:
        """Take n images at equal distances: equally many of each class where the images are ordered by class."""
        return self._taken(np.arange(_check_count(n, len(self))) * len(self) // n)

    def _taken(self, rows: npt.NDArray[np.int64]) -> Self:
        """Take some images, in the order given."""
        return replace(self, paths=[self.paths[row] for row in rows], labels=self.labels[rows])

    def __reduce__(self) -> Any:
        values = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name != "_threads"}
        return partial(type(self), **values), ()  # with threads of its own

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
        known = {path: _state(path) for path in dict.fromkeys(self.paths)}
        return [known[path] for path in self.paths]

    def without_unreadable(self, *, progress: bool = False) -> Self:
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
        skipped = [self.name_of(row) for row, found in enumerate(readable) if not found]
        if not len(kept):
            raise InputError(f"None of the {len(self)} images of {self.name} can be read; the first is {skipped[0]}.")
        return replace(self._taken(kept), skipped=self.skipped + skipped)

    def name_of(self, row: int) -> str:
        """Name of an image in messages."""
        return self.paths[row]

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
            f"The labels of {name} go from {labels.min()} to {labels.max()}, but it names "
            f"{counted(len(classes), 'class')}."
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
