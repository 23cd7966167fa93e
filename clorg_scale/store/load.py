"""Reading embeddings and labels of any known format."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Literal

import numpy.typing as npt

from clorg_scale.arrays import as_embeddings, label_array
from clorg_scale.arrays.local_copies import local_copy
from clorg_scale.errors import InputError
from clorg_scale.store.block_sources import block_source, labels_at
from clorg_scale.store.contents import (
    Contents,
    StoredEmbeddings,
    choose_embeddings,
    choose_labels,
    columns_taken,
    with_features,
)
from clorg_scale.store.damage import explain_damage
from clorg_scale.store.regular import check_regular_file

__all__ = ["address_of", "load_embeddings", "load_labels", "open_address"]

_EMBEDDING_FORMATS = {
    ".npy": "npy",
    ".npz": "npz",
    ".safetensors": "safetensors",
    ".zarr": "zarr",
    ".parquet": "parquet",
    ".h5ad": "hdf5",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".pt": "pytorch",
    ".pth": "pytorch",
}
"""Module of `clorg_scale.store.readers` for each ending."""

_LABEL_FORMATS = _EMBEDDING_FORMATS | {".txt": "text", ".csv": "text", ".tsv": "text", ".json": "json"}


_LEADING_ELSEWHERE = ("folder", "hdf5", "zarr")
"""Formats that may take data from other files."""


def load_embeddings(
    path: Path | str, *, labels: Path | str | Literal[False] | None = None, allow_external: bool = False
) -> StoredEmbeddings:
    """Read embeddings, with their labels and metadata where they are stored.

    =================  ==========================================================================================
    format             how it is read
    =================  ==========================================================================================
    a folder           that `save_embeddings` wrote: memory-mapped
    ``.npy``           memory-mapped
    ``.npz``           uncompressed arrays memory-mapped where they lie in the file, compressed ones gathered
    ``.safetensors``   memory-mapped; bfloat16 gathered as float32
    ``.pt``            a tensor, or a dictionary or list of tensors, memory-mapped (``weights_only=True``)
    Zarr               gathered chunk by chunk
    ``.parquet``       a column of equally long lists or tensors, or else all numeric columns except the labels and the
                       index of a data frame; gathered. A folder of such files: copied, as an address
    ``.h5ad``, HDF5    contiguous uncompressed arrays memory-mapped, others gathered chunk by chunk
    an address         ``s3://``, ``gs://``, ``https://``, ``memory://`` and others of fsspec, of ``.npy``, ``.zarr`` or
                       ``.parquet``: copied block by block to a temporary file (in ``TMPDIR``) that is memory-mapped
    =================  ==========================================================================================

    *Gathered* means: into memory where the array takes less than a quarter of what is free, else into an unnamed
    temporary file (in ``TMPDIR``) that is memory-mapped; the array is never held in memory as a whole.

    Where a file holds several arrays, the one named ``embeddings``, ``X`` or ``features`` is taken, or the only
    matrix if there is just one; ``file.npz:name`` or ``file.h5ad:obsm/X_pca`` chooses another. Labels are the
    array (column, ``obs`` column) named ``labels``, ``y``, ``label`` or ``class``, if there is one. AnnData, in HDF5 or
    in Zarr, of whatever version, is read by its own rules: ``X`` or ``obsm/*``, and the columns of ``obs``. Which
    columns of a table were taken, and which were left out and why, stands in the metadata.

    Parameters
    ----------
    path
        File or folder, with ``:name`` of an array in it if need be.
    labels
        Where the labels are instead: another file (as `load_labels` takes it), or the name of an array in `path`.
        False reads none.
    allow_external
        Read what an HDF5 file takes from other files (external links, external storage, virtual data sets), and
        follow symbolic links that leave a Zarr store or a store of this package. By default that is refused, as such
        a file can name any file of the machine.

    Raises
    ------
    InputError
        If the file is missing, damaged, of an unknown format or holds Python objects (nothing is unpickled); if
        it is not clear which array is meant; if data were never written or are lost, which the format would read as
        zeros; if neither memory nor disk has room for what it announces; if it is a pipe, socket or device.
    MissingDependencyError
        If the format needs a package that is not installed.
    """
    if (address := address_of(path)) is not None:
        return open_address(address, labels, allow_external=allow_external)
    file, name = _split(path)
    labels_file, label = _label_source(file, labels)
    contents = _contents(file, _EMBEDDING_FORMATS, "embeddings", allow_external=allow_external)
    if label is not None and labels_file is None:
        if label not in contents.members and Path(label).suffix.lower() in _LABEL_FORMATS:
            raise InputError(f"{label} does not exist.")
        label = contents.key(label)
    contents = with_features(contents, label if labels_file is None else None)
    chosen = choose_embeddings(contents, name)
    with explain_damage(f"The embeddings in {path} cannot be read"):
        embeddings = as_embeddings(contents.members[chosen].read(), name=f"embeddings in {path}")
    metadata = dict(contents.metadata)
    stored, names = None, None
    if labels_file is not None:
        stored, names, metadata_of_labels = _labels_from(
            labels_file, label, len(embeddings), allow_external=allow_external
        )
        metadata |= metadata_of_labels
        label = None
    elif labels is not False:
        label = choose_labels(contents, label, embeddings=chosen)
        if label is not None:
            stored = _read_labels(contents, label, len(embeddings))
            names = contents.class_names(stored)
    if contents.table is not None:
        metadata["columns"] = columns_taken(contents, chosen, label)
    return StoredEmbeddings(embeddings, stored, metadata, names)


def address_of(path: Path | str) -> str | None:
    """Address of embeddings that fsspec reads, or of a folder of Parquet files; None for other files and folders."""
    if "://" in str(path):
        return str(path)
    folder = Path(path)
    is_data_set = folder.suffix.lower() == ".parquet" and folder.is_dir()
    return f"file://{folder.resolve()}" if is_data_set else None


def open_address(
    address: str,
    labels: Path | str | Literal[False] | None = None,
    *,
    allow_external: bool = False,
    copied: bool = True,
) -> StoredEmbeddings:
    """Read what lies at an address, as `load_embeddings`.

    Parameters
    ----------
    address
        Of ``.npy``, ``.zarr`` or ``.parquet``.
    labels
        File of the labels; None takes those stored with the embeddings.
    allow_external
        As `load_embeddings`.
    copied
        Copy the embeddings to this machine; otherwise they are the address, for workers that read it.

    Raises
    ------
    InputError, MissingDependencyError
        As `load_embeddings`.
    """
    source = block_source(address, has_workers=False)
    assert source is not None  # an address always has one
    n, stored, names, metadata = source.shape[0], None, None, dict[str, Any]()
    if labels:
        stored, names, metadata = _labels_from(*_split(labels), n, allow_external=allow_external)
    elif labels is None:
        found = labels_at(address)
        stored = None if found is None else label_array(found, n, name=f"labels in {address}")
    embeddings = as_embeddings(local_copy(source), name=f"embeddings in {address}") if copied else address
    return StoredEmbeddings(embeddings, stored, metadata, names)


def _read_labels(contents: Contents, name: str, n_points: int | None) -> npt.NDArray[Any]:
    """Read and check the labels of that name."""
    with explain_damage(f"The labels in {contents.path} cannot be read"):
        return label_array(contents.members[name].read(), n_points, name=f"labels in {contents.path}")


def _label_source(file: Path, labels: Path | str | Literal[False] | None) -> tuple[Path | None, str | None]:
    """Locate the labels: another file, or None for the file of the embeddings; and the name of an array."""
    if labels is None or labels is False:
        return None, None
    found = _existing(labels)
    if found is None:
        return None, str(labels)
    if found[1] is not None and found[0].samefile(file):
        return None, found[1]
    return found


def load_labels(path: Path | str, *, allow_external: bool = False) -> npt.NDArray[Any]:
    """Read class labels.

    Known are all formats of `load_embeddings`, text (``.txt``: one label a line; ``.csv``, ``.tsv``: one column,
    or columns with a header) and ``.json`` (a list, or an object of lists). Where there are several arrays or
    columns, the one named ``labels``, ``y``, ``label`` or ``class`` is taken; ``file.csv:column`` chooses another.

    Parameters
    ----------
    path
        File or folder.
    allow_external
        As `load_embeddings`.

    Returns
    -------
    (n,) integers, booleans or strings; -1 where unlabelled.

    Raises
    ------
    InputError, MissingDependencyError
        As `load_embeddings`.
    """
    return _labels_from(*_split(path), None, allow_external=allow_external)[0]


def _labels_from(
    file: Path, name: str | None, n_points: int | None, *, allow_external: bool
) -> tuple[npt.NDArray[Any], list[str] | None, dict[str, Any]]:
    """Read and check the labels in a file; with the names of the classes stored with them, and their column."""
    contents = _contents(file, _LABEL_FORMATS, "labels", allow_external=allow_external)
    chosen = choose_labels(contents, name, required=True)
    assert chosen is not None  # they are required
    labels = _read_labels(contents, chosen, n_points)
    names = contents.class_names(labels)
    if contents.table is None:
        return labels, names, {}
    taken = columns_taken(contents, chosen, None)
    return labels, names, {"label_columns": taken | {"left_out": dict.fromkeys(taken["left_out"], "not chosen")}}


def _split(path: Path | str) -> tuple[Path, str | None]:
    """Split ``file:name``.

    Raises
    ------
    InputError
        If there is no such file.
    """
    found = _existing(path)
    if found is None:
        raise InputError(f"{path} does not exist.")
    return found


def _existing(path: Path | str) -> tuple[Path, str | None] | None:
    """Split ``file:name`` at the colon that leaves the name of a file; None if there is none."""
    if Path(path).exists():
        return Path(path), None
    file, colon, name = str(path).rpartition(":")
    return (Path(file), name) if colon and file and Path(file).exists() else None


_CONVERT = {
    ending: f" Convert text once: numpy.save('x.npy', numpy.loadtxt('x{ending}'{arguments}))."
    for ending, arguments in ((".csv", ", delimiter=',', skiprows=1"), (".tsv", ", skiprows=1"), (".txt", ""))
}
"""Embeddings are not read as text: parsing takes far longer than all computations on them. Advice by the ending."""


def _contents(path: Path, formats: dict[str, str], what: str, *, allow_external: bool) -> Contents:
    """List the arrays of a file or folder."""
    check_regular_file(path)
    suffix = path.suffix.lower()
    if path.is_dir():
        reader = _folder_format(path)
    elif suffix in formats:
        reader = formats[suffix]
    else:
        raise InputError(
            f"{path} has an unknown format for {what}; known formats are a folder written by save_embeddings and "
            f"{', '.join(formats)}.{_CONVERT.get(suffix, '') if what == 'embeddings' else ''}"
        )
    options = {"allow_external": allow_external} if reader in _LEADING_ELSEWHERE else {}
    with explain_damage(f"{path} cannot be read"):
        contents: Contents = importlib.import_module(f"clorg_scale.store.readers.{reader}").contents(path, **options)
    return contents


def _folder_format(path: Path) -> str:
    """Tell what kind of store a folder is."""
    if any((path / name).exists() for name in ("metadata.json", "progress.json")):
        return "folder"
    if any((path / name).exists() for name in ("zarr.json", ".zgroup", ".zarray")):
        return "zarr"
    raise InputError(f"{path} is a folder, but neither one that save_embeddings wrote nor a Zarr store.")
