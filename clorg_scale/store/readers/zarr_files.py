"""Check of the files of a Zarr store before Zarr reads them: regular files, none of them outside."""

from __future__ import annotations

import os
from pathlib import Path

from clorg_scale.errors import InputError
from clorg_scale.store.regular import check_fits_memory, check_regular_file

__all__ = ["check_files"]

_METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")


def check_files(root: Path, *, allow_external: bool) -> None:
    """Check every file of a store, and every folder once, however many links lead to it.

    Raises
    ------
    InputError
        If one is a pipe, socket or device, metadata do not fit in memory, or a symbolic link leads out of the store
        (unless allowed).
    """
    inside = os.path.realpath(root)
    waiting, seen = [Path(root)], {inside}
    while waiting:
        folder = waiting.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError as error:
            raise InputError(f"{folder} cannot be read: {error.strerror}.") from error
        for entry in entries:
            path = folder / entry.name
            if entry.is_symlink():
                _check_link(path, root, inside, allow_external=allow_external)
            if entry.is_dir():
                real = os.path.realpath(path)
                if real not in seen:
                    seen.add(real)
                    waiting.append(path)
            elif entry.name in _METADATA:
                check_fits_memory(path)
            elif not entry.is_file(follow_symlinks=False):
                check_regular_file(path)


def _check_link(link: Path, root: Path, inside: str, *, allow_external: bool) -> None:
    """Refuse a symbolic link that leads out of the store."""
    target = os.path.realpath(link)
    if not allow_external and not Path(target).is_relative_to(inside):
        raise InputError(
            f"{link.relative_to(root)} in {root} is a link to {target}, outside the store; other files are read only "
            "with --allow-external (in Python, allow_external=True)."
        )
