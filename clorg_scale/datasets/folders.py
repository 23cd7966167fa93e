"""Folders of images, one for each class: their files and the names of the classes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from clorg_scale.errors import InputError

__all__ = ["IMAGE_ENDINGS", "ClassFolders", "find_split", "read_class_folders"]

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Extensions that torchvision's ImageFolder reads, in upper or lower case."""

_SYSTEM_FOLDERS = ("__MACOSX", "__pycache__", "@eaDir", "$RECYCLE.BIN", "lost+found", "System Volume Information")
"""Folders that operating systems create, besides hidden ones."""

_SYSTEM_FILES = ("thumbs.db", "desktop.ini")

_SPLITS = {"train": ("train", "training"), "test": ("test", "val", "valid", "validation", "testing")}


@dataclass(frozen=True)
class ClassFolders:
    """Images in one folder for each class.

    Attributes
    ----------
    classes
        Names of the folders, sorted.
    paths, names
        (n,) the images, class by class, and the class of each.
    others
        Files that are ignored because their extension is not that of an image; hidden ones are not listed.
    """

    classes: list[str]
    paths: list[str]
    names: list[str]
    others: list[str]


def find_split(folder: Path, split: Literal["train", "test"]) -> Path | None:
    """Find the folder of a split, which holds folders of classes; None where the folder is not divided into splits.

    Raises
    ------
    InputError
        If there is a folder of the other split only.
    """
    known = {name for names in _SPLITS.values() for name in names}
    named = [name for name in sorted(_folders(folder), reverse=True) if name.lower() in known]
    there = {name.lower(): name for name in named if _folders(folder / name)}  # "train" may also be a class of vehicles
    found = [folder / there[name] for name in _SPLITS[split] if name in there]
    if found:
        return found[0]
    if there:
        wanted = " or ".join(_SPLITS[split][:2]) if split == "test" else _SPLITS[split][0]
        raise InputError(f"{folder} has no folder {wanted}/ for the {split} split.")
    return None


def read_class_folders(folder: Path) -> ClassFolders:
    """List the images below the folder of each class, however deep; symbolic links are followed.

    Raises
    ------
    InputError
        If there is no folder of a class, a class has no image, or a folder cannot be read.
    """
    classes = sorted(_folders(folder))
    if not classes:
        raise InputError(
            f"{folder} does not hold a folder of images for each class; it has no folder that is not hidden."
        )
    paths: list[str] = []
    names: list[str] = []
    others: list[str] = []
    for name in classes:
        files = list(_files(folder / name))
        images = [file for file in files if file.lower().endswith(IMAGE_ENDINGS)]
        if not images:
            raise InputError(
                f"{folder} does not hold a folder of images for each class: {folder / name} holds no image (known "
                f"extensions: {', '.join(IMAGE_ENDINGS)}); remove that folder, or put its images there."
            )
        chosen = set(images)
        others += [file for file in files if file not in chosen]
        paths += images
        names += [name] * len(images)
    return ClassFolders(classes, paths, names, others)


def _folders(folder: Path) -> list[str]:
    """Names of the folders in a folder, without hidden ones."""
    try:
        return [entry.name for entry in os.scandir(folder) if entry.is_dir() and not _is_hidden(entry.name)]
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be read: {error.strerror}.") from error


def _files(folder: Path) -> Iterator[str]:
    """Paths of the files below a folder, sorted folder by folder, without hidden ones; each folder once."""
    seen: set[tuple[int, int]] = set()  # a link may lead back to its own folder
    for parent, below, files in os.walk(folder, followlinks=True, onerror=_refuse):
        status = Path(parent).stat()
        if (status.st_dev, status.st_ino) in seen:
            below.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        below[:] = sorted(name for name in below if not _is_hidden(name))
        yield from (
            str(Path(parent, name))
            for name in sorted(files)
            if not _is_hidden(name) and name.lower() not in _SYSTEM_FILES
        )


def _refuse(error: OSError) -> None:
    raise InputError(f"The folder {error.filename} cannot be read: {error.strerror}.") from error


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in _SYSTEM_FOLDERS
