"""WebDataset's shards: tar files whose members are an image and its label, by a common name.

``0001.jpg`` and ``0001.cls`` (or ``0001.json``) are a sample. Rows are in the order of the shards' names, then of the
images in each. Only headers and labels are read when shards are opened; an image is read where it lies. Pickles and
other members are left out, and counted.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from clorg_scale.datasets.folders import IMAGE_ENDINGS
from clorg_scale.errors import InputError

__all__ = ["TarMembers", "TarSamples", "read_tar_shards"]

LARGEST_LABEL = 1 << 20
"""Bytes of a .cls or .json member; larger ones are no labels."""

LABEL_KEYS = ("label", "cls", "class")
"""Keys of a .json member that hold the label; the first that is there counts."""

_LISTED = 5


@dataclass(frozen=True)
class TarMembers:
    """Images in tar files.

    Attributes
    ----------
    paths, names
        (n,) tar file, and the member's name in it.
    offsets, sizes
        (n,) int64 bytes.
    """

    paths: list[str]
    names: list[str]
    offsets: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]

    def content(self, row: int) -> bytes:
        """Encoded image."""
        size = int(self.sizes[row])
        try:
            with Path(self.paths[row]).open("rb", buffering=0) as file:
                content = os.pread(file.fileno(), size, int(self.offsets[row]))
        except OSError as error:
            raise InputError(f"{self.paths[row]} cannot be read: {error.strerror}.") from error
        if len(content) != size:
            raise InputError(f"{self.paths[row]} has become shorter; run this again once it is complete.")
        return content

    def name_of(self, row: int) -> str:
        """Name of an image in messages."""
        return f"{self.names[row]} in {self.paths[row]}"

    def taken(self, rows: npt.NDArray[np.int64]) -> TarMembers:
        """Images of some rows."""
        names, paths = ([of[row] for row in rows] for of in (self.names, self.paths))
        return TarMembers(paths, names, self.offsets[rows], self.sizes[rows])

    def digest(self) -> bytes:
        """Digest of the positions of the images."""
        return hashlib.blake2b(self.offsets.tobytes() + self.sizes.tobytes(), digest_size=16).digest()


class TarSamples(NamedTuple):
    """Samples of shards: images, the label of each (None where there is none), what was left out by its ending."""

    members: TarMembers
    labels: list[int | str | None]
    others: Counter[str]


class _Member(NamedTuple):
    """An image: its name in the shard, where it begins, its bytes."""

    name: str
    offset: int
    size: int


@dataclass
class _Sample:
    """Members of a shard with one name; images with their endings."""

    images: list[tuple[str, _Member]] = field(default_factory=list)
    label: int | str | None = None


def read_tar_shards(files: Iterable[Path]) -> TarSamples:
    """List the samples of shards, in order.

    Raises
    ------
    InputError
        If a file is not a tar file, is truncated or compressed, or a sample has several images.
    """
    paths: list[str] = []
    images: list[_Member] = []
    labels: list[int | str | None] = []
    others: Counter[str] = Counter()
    for file in files:
        for name, sample in _samples(file, others).items():
            if sample.images:
                paths.append(str(file))
                images.append(_image_of(sample, name, file))
                labels.append(sample.label)
    offsets, sizes = (np.array([getattr(image, of) for image in images], np.int64) for of in ("offset", "size"))
    return TarSamples(TarMembers(paths, [image.name for image in images], offsets, sizes), labels, others)


def _samples(file: Path, others: Counter[str]) -> dict[str, _Sample]:
    found: dict[str, _Sample] = {}
    try:
        length = file.stat().st_size
        with tarfile.open(file, "r:") as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # it would keep all headers
                if member.isdir():
                    continue
                name, ending = _parts(member.name)
                if not member.isreg() or member.issparse():
                    others["links and special files"] += 1
                elif member.offset_data + member.size > length:
                    raise tarfile.ReadError(f"{member.name} goes beyond its end")
                elif "." + ending.rpartition(".")[2] in IMAGE_ENDINGS:
                    image = _Member(member.name, member.offset_data, member.size)
                    found.setdefault(name, _Sample()).images.append((ending, image))
                elif ending in ("cls", "json") and member.size <= LARGEST_LABEL:
                    _take_label(found.setdefault(name, _Sample()), ending, archive, member)
                else:
                    others["." + ending if ending else "without an ending"] += 1
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror or error}.") from error
    except tarfile.TarError as error:
        reason = str(error).rstrip(".")
        raise InputError(
            f"{file} is not a tar file, is compressed, or is truncated ({reason}); shards are read in place, so "
            "decompress them, or write them again."
        ) from error
    return found


def _parts(name: str) -> tuple[str, str]:
    """Name of a sample, with its folder, and the ending in lower case: from the first point of the file's name on."""
    path = PurePosixPath(name)
    base, _, ending = path.name.partition(".")
    return str(path.parent / base), ending.lower()


def _take_label(sample: _Sample, ending: str, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    """Read a label; that of .cls goes before that of .json, whatever their order."""
    stream = archive.extractfile(member)
    assert stream is not None
    content = stream.read()
    try:
        text = content.decode("utf-8").strip()
        label = _parsed(text) if ending == "cls" else _label_in(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{member.name} in {archive.name!s} is not a label ({' '.join(str(error).split())}); .cls holds a number "
            "or a name, .json an object."
        ) from None
    if label is not None and (ending == "cls" or sample.label is None):
        sample.label = label


def _parsed(text: str) -> int | str:
    if not text:
        raise ValueError("it is empty")
    return int(text) if text.removeprefix("-").isdecimal() and len(text) < 20 else text


def _label_in(document: Any) -> int | str | None:
    if not isinstance(document, dict):
        return None
    for key in LABEL_KEYS:
        label = document.get(key)
        if isinstance(label, (int, str)) and not isinstance(label, bool):
            return label
    return None


def _image_of(sample: _Sample, name: str, file: Path) -> _Member:
    """The image of a sample: of ``a.jpg`` and ``a.mask.png`` the first."""
    images = sample.images if len(sample.images) == 1 else [entry for entry in sample.images if "." not in entry[0]]
    if len(images) != 1:
        listed = ", ".join(member.name for _, member in sample.images[:_LISTED])
        raise InputError(
            f"The sample {name} in {file} has {len(sample.images)} images ({listed}); one image per sample is needed."
        )
    return images[0][1]
