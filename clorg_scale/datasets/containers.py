"""Sets of images that are packed into files: WebDataset's tar shards, Hugging Face's data sets, Parquet files.

Which files belong to a split is in their names (``train-0000.tar``, ``test-0000.tar``) or in those of
folders (``train/``, ``val/``).
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from clorg_scale.counted import counted
from clorg_scale.datasets.image_tables import is_saved_data_set, read_image_tables, saved_files
from clorg_scale.datasets.packed import Members, PackedImages
from clorg_scale.datasets.tar_shards import read_tar_shards
from clorg_scale.errors import InputError, require

__all__ = ["Container", "find_container", "load_container"]

MOST_CLASSES = 1_000_000
"""Numbers of classes are below this; larger ones are identifiers of something else."""

CLASS_NAMES = "classnames.txt"
"""Names of numbered classes, one a line, beside the shards, as of the data sets of CLIP's benchmark."""

_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")

_SPLITS = {"train": ("train",), "test": ("test", "val")}
"""Beginnings of the names of files and folders; of several for the test images, the first that is there counts."""

_LISTED = 5

Split = Literal["train", "test"]


class Container(NamedTuple):
    """Files of a split, those of the training images where these are others, and whether there are splits at all."""

    files: list[Path]
    train: list[Path]
    unsplit: bool


def find_container(path: Path, split: Split) -> Container | None:
    """Find the files that hold the images of a split; None where images lie there as files of their own, or none do.

    Raises
    ------
    InputError
        If there are files of the other split only, archives are compressed, or a folder cannot be read.
    """
    if path.is_file():
        if path.name.lower().endswith(_COMPRESSED):
            raise InputError(f"{path} is compressed; images are read in place, so decompress it.")
        return Container([path], [], unsplit=True) if path.suffix.lower() in (".tar", ".parquet") else None
    if not path.is_dir():
        return None
    if is_saved_data_set(path):
        return Container(saved_files(path), [], unsplit=True)
    try:
        parts = _parts(path)
    except OSError as error:
        raise InputError(f"The folder {error.filename} cannot be read: {error.strerror}.") from error
    if not parts:
        return None
    if set(parts) == {""}:
        return Container(parts[""], [], unsplit=True)
    named = [name for name in _SPLITS[split] if name in parts]
    if not named:
        raise InputError(f"{path} has no images of the {split} split; it has files of {', '.join(parts)}.")
    return Container(parts[named[0]], parts.get("train", []) if split == "test" else [], unsplit=False)


def _parts(path: Path) -> dict[str, list[Path]]:
    """Files by the split that they are of; under "" where no name tells one."""
    visible = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    folders, data = [entry for entry in visible if entry.is_dir()], path / "data"
    if folders == [data]:
        return _parts(data)
    if folders:
        saved = {_split_of(entry.name): entry for entry in folders if is_saved_data_set(entry)}
        if saved:
            return {split: saved_files(folder) for split, folder in saved.items() if split}
        inside = {_split_of(entry.name): _packed(entry) for entry in folders if _split_of(entry.name)}
        return {split: files for split, files in inside.items() if files}
    files = _packed(path)
    of = [_split_of(file.name) for file in files]
    if not all(of):
        return {"": files} if files else {}
    return {split: [file for file, its in zip(files, of, strict=True) if its == split] for split in dict.fromkeys(of)}


def _split_of(name: str) -> str:
    known = (beginning for names in _SPLITS.values() for beginning in names)
    return next((beginning for beginning in known if name.lower().startswith(beginning)), "")


def _packed(folder: Path) -> list[Path]:
    """Tar or Parquet files of a folder that holds no folders, sorted by name."""
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    if any(entry.is_dir() for entry in entries):
        return []
    kinds = {ending: [e for e in entries if e.suffix.lower() == ending] for ending in (".tar", ".parquet")}
    if all(kinds.values()):
        raise InputError(f"{folder} holds both tar and Parquet files; put the images in one kind of file.")
    found = kinds[".tar"] or kinds[".parquet"]
    compressed = [entry for entry in entries if entry.name.lower().endswith(_COMPRESSED)]
    if compressed and len(compressed) == len(entries):
        raise InputError(f"{compressed[0]} is compressed; images are read in place, so decompress it.")
    return found


def load_container(path: Path, container: Container, split: Split, image_size: int) -> PackedImages:
    """Open the images of a container; its order is that of its files, then of the images in each.

    Raises
    ------
    InputError
        If a file is damaged, holds no images, or labels are neither numbers of classes nor names.
    MissingDependencyError
        If Pillow is not installed, or pyarrow for tables.
    """
    require("PIL.Image", extra="train", purpose="Reading images")
    if container.unsplit and split == "test":
        warnings.warn(
            f"{path} has no files of train and test images, so its test images are its training images; measures of "
            "them do not show how the network performs on unseen images.",
            stacklevel=3,
        )
    members, labels, names = _read(container.files)
    if not len(labels):
        raise InputError(f"{path} holds no images; tar shards need members such as 0001.jpg and 0001.cls.")
    known = _read(container.train)[1] if container.train and names is None else []
    codes, classes = _coded(labels, known, names, path)
    paths = members.paths  # type: ignore[attr-defined]
    unsplit = container.unsplit
    return PackedImages(paths, codes, classes, path.resolve().name, image_size, unsplit=unsplit, members=members)


def _read(files: Sequence[Path]) -> tuple[Members, list[int | str | None], list[str] | None]:
    """Images, labels, and the names of numbered classes."""
    if files[0].suffix.lower() in (".parquet", ".arrow"):
        return read_image_tables(files)
    members, labels, others = read_tar_shards(files)
    _warn_of_others(others)
    return members, labels, _class_names(files[0].parent)


def _class_names(folder: Path) -> list[str] | None:
    file = next((place / CLASS_NAMES for place in (folder, folder.parent) if (place / CLASS_NAMES).is_file()), None)
    if file is None:
        return None
    try:
        return [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read ({error}); it must hold the name of a class in each line.") from error


def _warn_of_others(others: Counter[str]) -> None:
    """Say which members of shards are not used."""
    if not others:
        return
    listed = ", ".join(f"{count:,} {kind}" for kind, count in others.most_common(_LISTED))
    more = ", ..." if len(others) > _LISTED else ""
    warnings.warn(
        f"Members of tar shards that are neither images nor labels (.cls, .json) were left out ({listed}{more}); "
        "pickles are never loaded.",
        stacklevel=5,
    )


def _coded(
    labels: list[int | str | None], known: list[int | str | None], names: list[str] | None, path: Path
) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Codes of labels, -1 where there is none, and the names of the classes.

    Numbers are the codes; names are numbered in their order, those of the training images first.
    """
    lacking = sum(label is None for label in labels)
    if lacking:
        warnings.warn(
            f"{'All' if lacking == len(labels) else f'{lacking:,} of the {len(labels):,}'} images of {path} have no "
            "label; they are embedded as unlabelled (-1).",
            stacklevel=4,
        )
    if all(isinstance(label, int) for label in (*labels, *known) if label is not None):
        codes = np.array([-1 if label is None else min(int(label), MOST_CLASSES) for label in labels], np.int64)
        largest = int(codes.max(initial=-1))
        if codes.min(initial=0) < -1 or largest >= MOST_CLASSES:
            raise InputError(
                f"The labels of {path} are not numbers of classes, which go from 0 (or -1: unlabelled) to "
                f"{MOST_CLASSES - 1:,}."
            )
        if names is not None and largest >= len(names):
            raise InputError(f"The labels of {path} go up to {largest}, but it names {counted(len(names), 'class')}.")
        seen = max([largest, *(int(label) for label in known if label is not None)])
        return codes, names or [str(number) for number in range(min(seen, MOST_CLASSES) + 1)]
    first = sorted({str(label) for label in known if label is not None})
    new = {str(label) for label in labels if label is not None} - set(first)
    classes = first + sorted(new)
    number = {name: code for code, name in enumerate(classes)}
    return np.array([-1 if label is None else number[str(label)] for label in labels], np.int64), classes
