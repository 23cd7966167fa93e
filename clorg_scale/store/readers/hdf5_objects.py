"""Objects that an HDF5 file leads to: its own, each once, and those in other files, read only on request.

External links, external storage and virtual data sets make HDF5 open any file of the machine. Here they are found
before anything is followed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from clorg_scale.errors import InputError
from clorg_scale.store.regular import check_regular_file

__all__ = ["Objects", "Unfollowed", "check_path", "check_sources", "leads_elsewhere", "text_attribute"]

_MOST_HOPS = 64
"""Soft links that lead to soft links, and virtual data sets made of virtual data sets, are followed so far."""


@dataclass(frozen=True)
class Unfollowed:
    """An entry of a group that lies in another file, or has no NumPy type; the sentence says why it is not read."""

    sentence: str
    elsewhere: bool


class Objects:
    """The entries of the groups of an open file; every group is given once, however many links lead to it.

    Parameters
    ----------
    file
        ``h5py.File``.
    path
        Path of the file, for error messages.
    allow_external
        Follow links to other files.
    """

    def __init__(self, file: Any, path: Path, *, allow_external: bool) -> None:
        self._path, self._allow_external = path, allow_external
        self._groups = {_identity(file)}

    def entries(self, group: Any) -> Iterator[tuple[str, Any]]:
        """Name and object of each entry: a dataset, a group not met before, or a `Unfollowed`."""
        import h5py

        for name in group:
            foreign = self._foreign(group, name)
            if foreign is not None:
                yield name, foreign
                continue
            item = _opened(group, name)
            if item is None:  # a link that leads nowhere
                continue
            if isinstance(item, h5py.Group):
                if _identity(item) in self._groups:
                    continue
                self._groups.add(_identity(item))
            elif not isinstance(item, h5py.Dataset):  # a named type
                continue
            elif (problem := _unreadable_type(item)) is not None:
                full = item.name.lstrip("/")
                sentence = f"The dataset {full!r} in {self._path} has a type that NumPy lacks ({problem})."
                yield name, Unfollowed(sentence, elsewhere=False)
                continue
            yield name, item

    def unfollowed_member(self, group: Any, name: str, item: Any) -> Unfollowed | None:
        """Whether a column or matrix, encoded as AnnData does, has a member that must not be followed."""
        encoding = text_attribute(item, "encoding-type")
        members = [(group, text_attribute(item, "categories")), *((group, some) for some in ("uns",) if some in group)]
        if not hasattr(item, "shape") and encoding not in ("", "anndata", "dict", "raw"):
            members += [(item, member) for member in item]
        found = (self._foreign(owner, member) for owner, member in members if member)
        return next((foreign for foreign in found if foreign is not None), None)

    def _foreign(self, group: Any, name: str) -> Unfollowed | None:
        """Whether a link leads to another file that must not, or cannot, be followed."""
        try:
            check_path(group, name, self._path, allow_external=self._allow_external)
        except InputError as error:
            return Unfollowed(str(error), elsewhere=True)
        return None


def check_path(group: Any, name: str, path: Path, *, allow_external: bool) -> None:
    """Check that a name in a group leads to no other file; if allowed, that the other one can be read.

    Raises
    ------
    InputError
        If it leads to a file that is not allowed, missing, or not a regular file.
    """
    target = _leaves(group, name)
    if target is None:
        return
    full = f"{group.name.rstrip('/')}/{name.lstrip('/')}".lstrip("/")
    what = f"{full!r} in {path}"
    if not allow_external:
        raise InputError(_refusal(what, target))
    found = _located(target, group)
    if found is None:
        raise InputError(f"{what} lies in another file, {target}, which does not exist.")
    check_regular_file(found)


def leads_elsewhere(group: Any, name: str) -> bool:
    """Whether a name in a group leads to another file."""
    return _leaves(group, name) is not None


def check_sources(dataset: Any, path: Path, *, allow_external: bool) -> None:
    """Check the files that a dataset is made of: none but its own unless allowed, all of them complete.

    Raises
    ------
    InputError
        If external storage or a virtual source names another file; if allowed, if it is missing, not a regular file
        or shorter than what is read of it; if data of a virtual source were never written.
    """
    _check_sources(dataset, path, allow_external=allow_external, seen=())


def _check_sources(dataset: Any, path: Path, *, allow_external: bool, seen: tuple[tuple[str, str], ...]) -> None:
    name = f"dataset {dataset.name.lstrip('/')!r} in {path}"
    if dataset.external:
        _check_external_storage(dataset, name, allow_external=allow_external)
    if dataset.is_virtual:
        here = (os.path.realpath(_own_file(dataset)), dataset.name)
        if here in seen or len(seen) > _MOST_HOPS:
            raise InputError(f"The {name} is a virtual data set that refers to itself, so it cannot be read.")
        _check_virtual(dataset, path, name, allow_external=allow_external, seen=(*seen, here))


def _check_external_storage(dataset: Any, name: str, *, allow_external: bool) -> None:
    """Check the raw files of a dataset; beyond the end of one, HDF5 reads zeros."""
    left = dataset.size * dataset.id.get_type().get_size()
    for file, offset, size in dataset.external:
        if not allow_external:
            raise InputError(_refusal(f"The {name}", file))
        check_regular_file(file)
        available = Path(file).stat().st_size - offset if Path(file).is_file() else None
        needed = min(size, left)
        if available is None or available < needed:
            size = (
                "does not exist"
                if available is None
                else f"holds {max(available, 0)} of the {needed} bytes read from it"
            )
            raise InputError(f"The {name} lies in another file, {file}, which {size}; zeros would be read instead.")
        left -= needed


def _check_virtual(
    dataset: Any, path: Path, name: str, *, allow_external: bool, seen: tuple[tuple[str, str], ...]
) -> None:
    """Check that every element of a virtual data set has a source, and that none is missing."""
    import h5py

    from clorg_scale.arrays.unwritten import check_written

    sources = dataset.virtual_sources()
    files: dict[str, Path | None] = {}
    for source in sources:
        if source.file_name not in files:
            files[source.file_name] = _virtual_file(source.file_name, dataset)
            own = files[source.file_name] == Path(_own_file(dataset))
            if not own and not allow_external:
                raise InputError(_refusal(f"The {name}", source.file_name))
    missing = 0
    for source in sources:
        file = files[source.file_name]
        if file is None:
            missing += 1
            continue
        check_regular_file(file)
        with h5py.File(file, "r") as opened:
            check_path(opened, source.dset_name, file, allow_external=allow_external)
            stored = opened.get(source.dset_name)
            if not isinstance(stored, h5py.Dataset):
                missing += 1
                continue
            _check_sources(stored, file, allow_external=allow_external, seen=seen)
            check_written(stored, name=f"dataset {stored.name.lstrip('/')!r} in {file}, a source of the {name}")
    if missing:
        gone = next(source for source in sources if files[source.file_name] is None) if None in files.values() else None
        which = f" (such as {gone.file_name})" if gone is not None else ""
        verb = "is" if missing == 1 else "are"
        raise InputError(
            f"{missing} of the {len(sources)} sources of the virtual {name} {verb} missing{which}; "
            f"{dataset.fillvalue!s} would be read instead."
        )
    mapped = sum(source.vspace.get_select_npoints() for source in sources)
    if mapped < prod(dataset.shape):
        raise InputError(
            f"The virtual {name} has no source for {prod(dataset.shape) - mapped} of its {prod(dataset.shape)} "
            f"numbers, which would be read as {dataset.fillvalue!s}."
        )


def _virtual_file(name: str, dataset: Any) -> Path | None:
    """Find the file of a virtual source; that of the data set itself under its own name, None where there is none."""
    own = Path(_own_file(dataset))
    if name == ".":
        return own
    found = _located(name, dataset)
    return own if found is not None and found.exists() and found.samefile(own) else found


def _leaves(group: Any, target: str, hops: int = 0) -> str | None:
    """Name of the other file that a path in this one leads to; None where it stays, or leads nowhere."""
    import h5py

    here = group.file if target.startswith("/") else group
    for step in target.split("/"):
        if step in ("", "."):
            continue
        if not isinstance(here, h5py.Group):
            return None
        try:
            link = here.get(step, getlink=True)
        except TypeError:  # a kind of link that somebody's own code defines
            return "unknown to h5py"
        if link is None:
            return None
        if isinstance(link, h5py.ExternalLink):
            return str(link.filename)
        if isinstance(link, h5py.SoftLink):
            if hops >= _MOST_HOPS:
                return None
            foreign = _leaves(here, link.path, hops + 1)
            if foreign is not None:
                return foreign
        here = _opened(here, step)
    return None


def _opened(group: Any, name: str) -> Any:
    """Open an entry of a group; None where its link is broken or circular."""
    try:
        return group[name]
    except KeyError:
        return None
    except RuntimeError as error:
        if "too many links" in str(error):
            return None
        raise


def _located(name: str, item: Any) -> Path | None:
    """Find a file as HDF5 does: as it is named, then beside the file that names it."""
    beside = Path(_own_file(item)).resolve().parent
    candidates = [Path(name)] if Path(name).is_absolute() else [beside / name, Path(name)]
    candidates.append(beside / Path(name).name)
    return next((path for path in candidates if os.path.lexists(path)), None)


def _own_file(item: Any) -> str:
    """Name of the file that an object lies in."""
    return str(item.file.filename)


def _refusal(what: str, target: str) -> str:
    return (
        f"{what} lies in another file, {target}; other files are read only with --allow-external (in Python, "
        "allow_external=True)."
    )


def _identity(item: Any) -> tuple[int, int]:
    """Number of the open file and address in it."""
    from h5py import h5o

    info = h5o.get_info(item.id)
    return info.fileno, info.addr


def _unreadable_type(dataset: Any) -> str | None:
    """Reason why h5py has no NumPy type for a dataset; None if it has one."""
    try:
        dataset.dtype  # noqa: B018
    except Exception as error:  # h5py documents none of them
        return str(error)
    return None


def text_attribute(item: Any, name: str) -> str:
    """Read an attribute as text: other programs write it as bytes, of fixed length, or as an array of one.

    Returns
    -------
    Empty where there is none, or it is not text.
    """
    try:
        value = item.attrs[name]
    except Exception:  # missing, or of a type that h5py lacks
        return ""
    if hasattr(value, "ravel") and getattr(value, "size", 0) == 1:
        value = value.ravel()[0]
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value.rstrip("\0 ") if isinstance(value, str) else ""
