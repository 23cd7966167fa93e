"""AnnData in HDF5 and Zarr, by the rules of every version: which members describe points, and how columns are encoded.

Since 0.8 a column of categories is a group of ``codes`` and ``categories``, a column with missing values one of
``values`` and ``mask``. 0.7 stores the codes under the name of the column, with an attribute that refers to the
categories (https://anndata.readthedocs.io/en/0.7.8/fileformat-prose.html). 0.6 stores the whole of ``obs``, and of
``obsm``, as one array of records, the categories of ``obs`` under ``uns``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays import Array
from clorg_scale.errors import InputError
from clorg_scale.store.contents import Member, Table
from clorg_scale.store.readers.hdf5_objects import text_attribute

__all__ = ["describes_points", "encoded_members", "is_annotated", "table_of"]

_NOT_PER_POINT = ("var", "varm", "varp", "uns", "obsp", "layers", "raw", "raw.X", "raw.var", "raw.varm", "raw.cat")
"""Members that describe genes, pairs or other measurements, not points."""

_NOT_COLUMNS = ("_index", "__categories")
"""Members of ``obs`` that are not columns: its index, and the categories of columns."""

Plain = Callable[[Any, str], Member]
"""Makes a member of an array without an encoding, by the array and its full name."""


def is_annotated(group: Any) -> bool:
    """Whether a group of HDF5 or Zarr is an AnnData object."""
    return text_attribute(group, "encoding-type") == "anndata" or ("obs" in group and "var" in group)


def describes_points(group: Any, name: str, *, annotated: bool) -> bool:
    """Whether a member of a group may be embeddings or labels.

    Parameters
    ----------
    group, name
        The member is ``group[name]``.
    annotated
        The group is an AnnData object.
    """
    if annotated:
        return name not in _NOT_PER_POINT
    return name not in (*_NOT_COLUMNS, text_attribute(group, "_index"))


def encoded_members(group: Any, name: str, full: str, plain: Plain, path: Path) -> dict[str, Member] | None:
    """List the arrays that one member of a group holds in the encodings of AnnData.

    Parameters
    ----------
    group, name
        The member is ``group[name]``.
    full
        Its name in the file.
    plain
        Reads arrays without an encoding.
    path
        The file, for error messages.

    Returns
    -------
    By name; None for a group without an encoding, whose members are to be listed one by one.
    """
    item = group[name]
    encoding = text_attribute(item, "encoding-type")
    if hasattr(item, "shape"):
        if getattr(item.dtype, "names", None) and name in ("obs", "obsm"):
            return _record_members(group, name, full, plain, path)
        if "categories" in item.attrs and "obs" in full.split("/"):
            return {full: _old_categorical(group, name, full, plain, path)}
        return {full: plain(item, full)}
    if encoding in ("csr_matrix", "csc_matrix") or "h5sparse_format" in item.attrs:
        return {full: Member((), partial(_refuse_sparse, path, full))}
    if encoding == "categorical":
        categories = _one_member(item, "categories", f"{full}/categories", plain, path)
        codes = plain(item["codes"], f"{full}/codes")
        return {full: Member(codes.shape, partial(_labels_of_codes, codes, categories, path, full))}
    if encoding.startswith("nullable"):
        values, mask = plain(item["values"], f"{full}/values"), plain(item["mask"], f"{full}/mask")
        return {full: Member(values.shape, partial(_with_missing, values, mask))}
    if encoding == "awkward-array":
        return {full: Member((), partial(_refuse_ragged, path, full))}
    if encoding == "dataframe" and "obsm" in full.split("/"):
        return {full: _frame_member(item, full, plain, path)}
    return None


def table_of(members: dict[str, Member]) -> Table:
    """The arrays of an AnnData object, those of two dimensions as features."""

    def reason(name: str, member: Member) -> str:
        if "obs" in name.split("/"):
            return "a column of obs"
        return "" if member.may_have(2) else "not a dense matrix"

    return Table({name: reason(name, member) for name, member in members.items()})


def _text(value: Any) -> str:
    """An attribute as text, whoever wrote it; "" where it is none."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value if isinstance(value, str) else ""


def _one_member(group: Any, name: str, full: str, plain: Plain, path: Path) -> Member:
    """The one array that an encoded member is."""
    found = encoded_members(group, name, full, plain, path)
    if found is None or full not in found:
        raise InputError(f"{full!r} in {path} has an unknown encoding; write the file with a newer anndata.")
    return found[full]


def _old_categorical(group: Any, name: str, full: str, plain: Plain, path: Path) -> Member:
    """A column of version 0.7: codes whose attribute leads to the categories, by name or by reference."""
    item = group[name]
    reference = item.attrs["categories"]
    categories = group[_text(reference)] if _text(reference) else item.file[reference]
    # The full name of what a reference leads to begins with a slash; in Zarr, names are relative.
    where = categories.name.strip("/")
    codes = plain(item, full)
    return Member(codes.shape, partial(_labels_of_codes, codes, plain(categories, where), path, full))


def _record_members(group: Any, name: str, full: str, plain: Plain, path: Path) -> dict[str, Member]:
    """Columns of ``obs``, without the first, which is the index, or arrays of ``obsm``, of version 0.6."""
    records = group[name]
    fields = records.dtype.names[1:] if name == "obs" else records.dtype.names
    members = {}
    for field in fields:
        kind = records.dtype[field]
        column = Member((*records.shape, *kind.shape), partial(_read_field, path, plain(records, full), full, field))
        categories = f"{field}_categories"
        if name == "obs" and kind.kind in "iu" and "uns" in group and categories in group["uns"]:
            prefix = full.removesuffix(name)
            stored = plain(group["uns"][categories], f"{prefix}uns/{categories}")
            column = Member(column.shape, partial(_labels_of_codes, column, stored, path, f"{full}/{field}"))
        members[f"{full}/{field}"] = column
    return members


def _read_field(path: Path, records: Member, full: str, field: str) -> Array:
    values: Array = records.read()[field]
    if values.dtype.kind == "O" or values.dtype.kind in "fiubSU":
        return np.ascontiguousarray(values)
    raise InputError(f"The column {field!r} of {full!r} in {path} has type {values.dtype}; numbers or text are needed.")


def _labels_of_codes(codes: Member, categories: Member, path: Path, full: str) -> npt.NDArray[Any]:
    """Labels of a column of categories; missing ones are None."""
    numbers, names = np.asarray(codes.read()), np.atleast_1d(np.asarray(categories.read()))
    if numbers.dtype.kind not in "iu":
        raise InputError(
            f"The column {full!r} in {path} is damaged: its codes have type {numbers.dtype}, not integers."
        )
    wrong = np.flatnonzero(numbers >= len(names))
    if len(wrong):
        raise InputError(
            f"The column {full!r} in {path} is damaged: it holds the code {numbers[wrong[0]]}, but there are "
            f"{len(names)} categories (row {wrong[0]}); write the file again."
        )
    labeled = numbers >= 0
    if labeled.all():
        labels: npt.NDArray[Any] = names[numbers]
    else:
        labels = np.full(numbers.shape, None, dtype=object)
        labels[labeled] = names[numbers[labeled]]
    return labels


def _with_missing(values: Member, mask: Member) -> npt.NDArray[Any]:
    """Values of a nullable column; missing ones are None."""
    array, missing = np.asarray(values.read()), np.asarray(mask.read())
    if not missing.any():
        return array
    labels = array.astype(object)
    labels[missing] = None
    return labels


def _frame_member(item: Any, full: str, plain: Plain, path: Path) -> Member:
    """A data frame of ``obsm``, whose columns are the features."""
    names = [_text(name) for name in np.atleast_1d(item.attrs["column-order"])]
    columns = {name: _one_member(item, name, f"{full}/{name}", plain, path) for name in names}
    n_points = next((column.shape[0] for column in columns.values()), 0)
    return Member((n_points, len(columns)), partial(_read_frame, path, full, columns))


def _read_frame(path: Path, full: str, columns: dict[str, Member]) -> Array:
    values = {name: np.asarray(column.read()) for name, column in columns.items()}
    wrong = [name for name, column in values.items() if column.dtype.kind not in "fiub"]
    if wrong:
        raise InputError(f"The column {wrong[0]!r} of {full!r} in {path} is not numeric or has missing values.")
    return np.column_stack(list(values.values()))


def _refuse_sparse(path: Path, name: str) -> Array:
    raise InputError(
        f"{name!r} in {path} is a sparse matrix; choose a dense embedding such as '{path}:obsm/X_pca', or store "
        "a dense matrix."
    )


def _refuse_ragged(path: Path, name: str) -> Array:
    raise InputError(f"{name!r} in {path} is a ragged (awkward) array; store a dense matrix.")
