"""Encoded images in a column of tables: data sets that Hugging Face's library saved to disk (Arrow), or Parquet files.

Rows are in the order of the files, then of the rows in each. Tables are opened by pyarrow: Arrow files are
memory-mapped, of Parquet files the row groups that are needed are read. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import threading
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from clorg_scale.errors import InputError, require

__all__ = ["TableMembers", "TableSamples", "is_saved_data_set", "read_image_tables", "saved_files"]

KEPT_GROUPS = 4
"""Row groups of Parquet files that a process keeps."""

LABEL_NAMES = ("label", "labels", "class")
"""Columns of labels where no column is declared as one."""

_PURPOSE = "Reading images in Arrow and Parquet files"

_ONE_AT_A_TIME = threading.Lock()
"""Threads that decode neighboring rows need the same row group: it is read once."""


@dataclass(frozen=True)
class TableMembers:
    """Images in a column of tables.

    Attributes
    ----------
    paths, rows
        (n,) file of each image, and its row there.
    column
        Name of the column.
    """

    paths: list[str]
    rows: npt.NDArray[np.int64]
    column: str

    def content(self, row: int) -> bytes:
        """Encoded image."""
        path, at = self.paths[row], int(self.rows[row])
        with _ONE_AT_A_TIME:
            values, first = _values(path, self.column, at)
        value = values[at - first].as_py()
        content = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(content, bytes):
            raise InputError(
                f"There is no image in {self.name_of(row)} (a path, or nothing); store the images themselves in it."
            )
        return content

    def name_of(self, row: int) -> str:
        """Name of an image in messages."""
        return f"row {self.rows[row]} of {self.paths[row]}"

    def taken(self, rows: npt.NDArray[np.int64]) -> TableMembers:
        """Images of some rows."""
        return TableMembers([self.paths[row] for row in rows], self.rows[rows], self.column)

    def digest(self) -> bytes:
        """Digest of the positions of the images."""
        return hashlib.blake2b(self.rows.tobytes() + self.column.encode(), digest_size=16).digest()


class TableSamples(NamedTuple):
    """Images of tables, the label of each (None where there is none), the names of labels that are numbers."""

    members: TableMembers
    labels: list[int | str | None]
    class_names: list[str] | None


def is_saved_data_set(folder: Path) -> bool:
    """Whether Hugging Face's library has saved a data set to this folder."""
    return (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()


def saved_files(folder: Path) -> list[Path]:
    """Files of a data set that was saved to disk, in their order.

    Raises
    ------
    InputError
        If its record is damaged, or it is a selection of rows that was not written out.
    """
    state = _record(folder / "state.json")
    files = state.get("_data_files")
    names = [entry.get("filename") if isinstance(entry, dict) else None for entry in files or ()]
    if not names or not all(isinstance(name, str) and name == Path(name).name for name in names):
        raise InputError(f"{folder / 'state.json'} does not name the files of a data set; save the data set again.")
    if state.get("_indices_data_files"):
        raise InputError(
            f"{folder} is a selection of rows by a list of indices; write it out with flatten_indices() and save it "
            "again."
        )
    return [folder / str(name) for name in names]


def _record(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({error}); save the data set again.") from error
    if not isinstance(document, dict):
        raise InputError(f"{path} holds no object; save the data set again.")
    return document


def read_image_tables(files: Sequence[Path]) -> TableSamples:
    """List the images of tables, in order.

    Parameters
    ----------
    files
        All ``.arrow``, or all ``.parquet``, with the same columns.

    Raises
    ------
    InputError
        If there is not exactly one column of images, or a file is damaged.
    MissingDependencyError
        If pyarrow is not installed.
    """
    require("pyarrow.parquet", extra="interop", purpose=_PURPOSE)
    paths: list[str] = []
    rows: list[npt.NDArray[np.int64]] = []
    labels: list[int | str | None] = []
    first = _schema(str(files[0]))
    features = _features(first, files[0])
    column, label = _image_column(first, features, files[0]), _label_column(first, features, files[0])
    for file in files:
        schema = _schema(str(file))
        if [column, *([label] if label else [])] != [n for n in (column, label) if n in schema.names]:
            raise InputError(f"{file} has other columns than {files[0]}; a data set has the same in all files.")
        found = _labels(str(file), label)
        n_rows = _n_rows(str(file))
        paths += [str(file)] * n_rows
        rows.append(np.arange(n_rows))
        labels += found if label else [None] * n_rows
    names = features.get(label, {}).get("names") if label else None
    named = isinstance(names, list) and all(isinstance(name, str) for name in names)
    members = TableMembers(paths, np.concatenate(rows), column)
    return TableSamples(members, labels, names if named else None)


def _features(schema: Any, file: Path) -> dict[str, dict[str, Any]]:
    """Description of the columns by Hugging Face's library; empty where it has written none."""
    features: Any = None
    if file.suffix == ".arrow":
        features = _record(file.parent / "dataset_info.json").get("features")
    elif schema.metadata and b"huggingface" in schema.metadata:
        try:
            features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        except (ValueError, KeyError, TypeError, RecursionError):
            features = None
    return {name: kind for name, kind in (features or {}).items() if isinstance(kind, dict)}


def _image_column(schema: Any, features: dict[str, dict[str, Any]], file: Path) -> str:
    """The only column of images."""
    declared = [name for name, kind in features.items() if kind.get("_type") == "Image" and name in schema.names]
    found = declared or [entry.name for entry in schema if _holds_bytes(entry.type)]
    if len(found) != 1:
        which = f"{len(found)} columns of images ({', '.join(found)})" if found else "no column of encoded images"
        raise InputError(f"{file} has {which}; one column is needed: remove the others, or store images in one.")
    return found[0]


def _holds_bytes(kind: Any) -> bool:
    import pyarrow.types as types

    if types.is_struct(kind):
        return any(entry.name == "bytes" and _holds_bytes(entry.type) for entry in kind)
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _label_column(schema: Any, features: dict[str, dict[str, Any]], file: Path) -> str | None:
    """The column of labels, if there is one."""
    declared = [name for name, kind in features.items() if kind.get("_type") == "ClassLabel" and name in schema.names]
    found = [name for name in LABEL_NAMES if name in (declared or schema.names)] or declared
    if len(found) > 1 and found[0] not in LABEL_NAMES:
        raise InputError(
            f"{file} has {len(found)} columns of labels ({', '.join(found)}); rename the one that counts to 'label'."
        )
    return found[0] if found else None


def _labels(path: str, column: str | None) -> list[int | str | None]:
    """Labels of a file's rows: whole numbers or names."""
    if column is None:
        return []
    import pyarrow
    import pyarrow.parquet
    import pyarrow.types as types

    try:
        if path.endswith(".arrow"):
            values = _table(path, _state(path)).column(column)
            values.validate(full=True)
        else:
            with pyarrow.parquet.ParquetFile(path) as file:
                values = file.read(columns=[column]).column(column)
    except (OSError, pyarrow.ArrowException) as error:
        raise _damaged(path, error) from error
    if types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if not (types.is_integer(values.type) or types.is_string(values.type) or types.is_large_string(values.type)):
        raise InputError(f"The column {column!r} of {path} holds {values.type}; labels are whole numbers or names.")
    return list(values.to_pylist())


def _schema(path: str) -> Any:
    import pyarrow
    import pyarrow.parquet

    try:
        return _table(path, _state(path)).schema if path.endswith(".arrow") else pyarrow.parquet.read_schema(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise _damaged(path, error) from error


def _n_rows(path: str) -> int:
    return int(_table(path, _state(path)).num_rows if path.endswith(".arrow") else _starts(path, _state(path))[-1])


def _values(path: str, column: str, row: int) -> tuple[Any, int]:
    """Values of a column around a row, and the row of the first."""
    pyarrow = require("pyarrow", extra="interop", purpose=_PURPOSE)
    try:
        state = _state(path)
        if path.endswith(".arrow"):
            return _validated_column(path, state, column), 0
        starts = _starts(path, state)
        group = bisect_right(starts, row) - 1
        return _group(path, state, column, group), starts[group]
    except (OSError, pyarrow.ArrowException) as error:
        raise _damaged(path, error) from error


def _damaged(path: str, error: Exception) -> InputError:
    reason = (getattr(error, "strerror", None) or " ".join(str(error).split())).rstrip(".")
    return InputError(f"{path} cannot be read: it is missing, damaged or truncated ({reason}).")


def _state(path: str) -> tuple[int, int]:
    """Size and time of change: what is kept of a file holds as long as these."""
    found = Path(path).stat()
    return found.st_size, found.st_mtime_ns


@lru_cache(maxsize=256)
def _table(path: str, state: tuple[int, int]) -> Any:
    """Table of an Arrow file, of the stream's or the file's form; memory-mapped."""
    import pyarrow

    source = pyarrow.memory_map(path)
    try:
        return pyarrow.ipc.open_stream(source).read_all()
    except pyarrow.ArrowInvalid:
        source.seek(0)
        return pyarrow.ipc.open_file(source).read_all()


@lru_cache(maxsize=256)
def _validated_column(path: str, state: tuple[int, int], column: str) -> Any:
    """A column whose offsets lie within the file: pyarrow follows them unchecked."""
    values = _table(path, state).column(column)
    values.validate(full=True)
    return values


@lru_cache(maxsize=4096)
def _starts(path: str, state: tuple[int, int]) -> list[int]:
    """First row of each row group of a Parquet file, and its number of rows."""
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        groups = file.metadata
        return list(accumulate((groups.row_group(i).num_rows for i in range(groups.num_row_groups)), initial=0))


@lru_cache(maxsize=KEPT_GROUPS)
def _group(path: str, state: tuple[int, int], column: str, group: int) -> Any:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        return file.read_row_group(group, columns=[column]).column(0)
