"""Embeddings that the workers of a Dask cluster read themselves, block by block.

Dask arrays, Zarr arrays on a disk or in an object store, and addresses of .npy, Zarr and Parquet data sets that fsspec
opens (``s3://``, ``gs://``, ``https://``, ``file://``, ...). A source is small: it is sent to the workers in place of
what it names.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays.blocks import row_slices
from clorg_scale.arrays.local_copies import BlockSource
from clorg_scale.errors import InputError, require
from clorg_scale.store.contents import EMBEDDING_NAMES, LABEL_NAMES
from clorg_scale.store.readers.npy import read_header

__all__ = ["DaskSource", "NpySource", "ParquetSource", "ZarrSource", "block_source", "labels_at"]

AHEAD = 2
"""Blocks of a Dask array that are computed ahead of the one that is written."""

ROWS_AT_ONCE = 8192
"""Rows of a Parquet data set that are read at a time."""


def _new_token() -> str:
    return uuid.uuid4().hex


def block_source(data: Any, *, has_workers: bool) -> BlockSource | None:
    """Source of embeddings that need not pass through this process; None for what is in its memory or in a local file.

    Parameters
    ----------
    data
        What the user passed as embeddings.
    has_workers
        Whether workers will read it; without them, only addresses have a source.

    Raises
    ------
    InputError
        If the address cannot be opened, or what is there has not two dimensions and a numeric type.
    MissingDependencyError
        If the format or the file system needs a package that is not installed.
    """
    if isinstance(data, str) and "://" in data:
        return _checked(_at_address(data), data)
    library = type(data).__module__.partition(".")[0] if has_workers else ""
    if library == "dask" and hasattr(data, "rechunk"):
        return _checked(DaskSource.of(data), "The Dask array")
    if library == "zarr" and hasattr(data, "store_path") and _is_shared(data.store_path.store):
        return _checked(ZarrSource(data, tuple(data.shape), np.dtype(data.dtype)), "The Zarr array")
    return None


def labels_at(address: str) -> Any:
    """Labels that are stored with the embeddings at an address, of Parquet and Zarr data sets; None without any.

    Raises
    ------
    InputError, MissingDependencyError
        As `block_source`.
    """
    ending = _ending(address)
    if ending == ".parquet":
        data = _opened(_parquet, address)
        names = [name for name in LABEL_NAMES if name in data.schema.names]
        return data.to_table(columns=names[:1]).column(0) if names else None
    if ending == ".zarr":
        root = _opened(_zarr_root, address)
        names = [name for name in LABEL_NAMES if hasattr(root, "arrays") and name in dict(root.arrays())]
        return np.asarray(root[names[0]][:]) if names else None
    return None


def _is_shared(store: Any) -> bool:
    """Whether other processes see what is in a Zarr store."""
    return type(store).__name__ in ("LocalStore", "FsspecStore", "ObjectStore")


def _checked(source: BlockSource, what: str) -> BlockSource:
    if len(source.shape) != 2 or source.dtype.kind not in "fiub":
        raise InputError(
            f"{what} holds {source.dtype} of shape {tuple(source.shape)}; numbers in two dimensions (points, features) "
            "are needed."
        )
    return source


@dataclass(frozen=True)
class DaskSource:
    """A Dask array whose blocks hold whole rows; each is computed by the cluster when it is needed."""

    array: Any
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    token: str = field(default_factory=_new_token)

    @classmethod
    def of(cls, array: Any) -> DaskSource:
        """Take a Dask array of one or two dimensions."""
        if any(np.isnan(size) for size in array.shape):
            raise InputError("The Dask array has blocks of unknown size; call its compute_chunk_sizes() first.")
        if array.ndim == 2 and array.numblocks[1] > 1:
            array = array.rechunk({1: -1})
        return cls(array, tuple(map(int, array.shape)), array.dtype)

    def blocks(self) -> Iterator[npt.NDArray[Any]]:
        """Compute the blocks of rows, in order."""
        from distributed import worker_client

        with worker_client() as client:
            waiting: deque[Any] = deque()
            for number in range(self.array.numblocks[0]):
                waiting.append(client.compute(self.array.blocks[number]))
                if len(waiting) > AHEAD:
                    yield np.asarray(waiting.popleft().result())
            while waiting:
                yield np.asarray(waiting.popleft().result())


@dataclass(frozen=True)
class ZarrSource:
    """A Zarr array, read in whole chunks."""

    array: Any
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    token: str = field(default_factory=_new_token)

    def blocks(self) -> Iterator[npt.NDArray[Any]]:
        """Read some rows of chunks at a time."""
        height = (self.array.shards or self.array.chunks)[0]
        for rows in row_slices(-(-self.shape[0] // height), height * self.shape[1], itemsize=self.dtype.itemsize):
            yield np.asarray(self.array[rows.start * height : rows.stop * height])


@dataclass(frozen=True)
class NpySource:
    """A `.npy` file at an address."""

    address: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    token: str = field(default_factory=_new_token)

    def blocks(self) -> Iterator[npt.NDArray[Any]]:
        """Read ranges of the file."""
        import fsspec

        with fsspec.open(self.address, "rb") as file:
            file.seek(self.offset)
            for rows in row_slices(*self.shape, itemsize=self.dtype.itemsize):
                wanted = (rows.stop - rows.start) * self.shape[1] * self.dtype.itemsize
                data = file.read(wanted)
                if len(data) != wanted:
                    raise InputError(f"{self.address} is truncated: it ends within rows {rows.start} to {rows.stop}.")
                yield np.frombuffer(data, self.dtype).reshape(-1, self.shape[1])


@dataclass(frozen=True)
class ParquetSource:
    """Columns of a Parquet file, or of all files of a folder, at an address: one of lists, or numbers."""

    address: str
    columns: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    token: str = field(default_factory=_new_token)

    def blocks(self) -> Iterator[npt.NDArray[Any]]:
        """Read batches of rows."""
        for batch in _parquet(self.address).to_batches(columns=list(self.columns), batch_size=ROWS_AT_ONCE):
            if batch.num_rows:
                yield _rows_of(batch, self.columns)


def _at_address(address: str) -> BlockSource:
    """Open what an address names; by the ending of its path."""
    ending = _ending(address)
    readers: dict[str, Callable[[str], BlockSource]] = {".npy": _npy, ".zarr": _zarr, ".parquet": _parquet_columns}
    if ending not in readers:
        raise InputError(f"{address} has an unknown format; at addresses {', '.join(readers)} are read.")
    source: BlockSource = _opened(readers[ending], address)
    return source


def _ending(address: str) -> str:
    return PurePosixPath(address.rstrip("/")).suffix.lower()


def _opened(reader: Callable[[str], Any], address: str) -> Any:
    """Open an address, with errors that users understand."""
    require("fsspec", extra="dask", purpose=f"Reading {address}")
    try:
        return reader(address)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{address} does not exist.") from None
    except ImportError as error:  # s3fs, gcsfs and others, which fsspec names
        raise InputError(f"{address} cannot be opened: {' '.join(str(error).split()).rstrip('.')}.") from None
    except Exception as error:  # each file system has errors of its own
        reason = " ".join(str(error).split()).rstrip(".")
        raise InputError(f"{address} cannot be opened ({type(error).__name__}: {reason}).") from error


def _npy(address: str) -> NpySource:
    import fsspec

    with fsspec.open(address, "rb") as file:
        shape, fortran, dtype = read_header(file, address)
        offset = file.tell()
    if fortran and len(shape) == 2 and min(shape) > 1:
        raise InputError(f"{address} is stored column by column; save numpy.ascontiguousarray of it.")
    return NpySource(address, shape, dtype, offset)


def _zarr(address: str) -> ZarrSource:
    zarr = require("zarr", extra="interop", purpose="Reading Zarr stores")
    root = array = _zarr_root(address)
    if not isinstance(root, zarr.Array):
        arrays = dict(root.arrays())
        named = [name for name in EMBEDDING_NAMES if name in arrays]
        matrices = [name for name, some in arrays.items() if some.ndim == 2]
        chosen = named[:1] or (matrices if len(matrices) == 1 else [])
        if not chosen:
            listed = ", ".join(sorted(arrays)) or "none"
            raise InputError(
                f"It is not clear which array of {address} holds the embeddings (there are: {listed}); name one "
                f"{EMBEDDING_NAMES[0]!r}, or give the address of the array."
            )
        array = arrays[chosen[0]]
    return ZarrSource(array, tuple(array.shape), np.dtype(array.dtype))


def _zarr_root(address: str) -> Any:
    zarr = require("zarr", extra="interop", purpose="Reading Zarr stores")
    return zarr.open(zarr.storage.FsspecStore.from_url(address, read_only=True), mode="r")


def _parquet(address: str) -> Any:
    import fsspec

    dataset = require("pyarrow.dataset", extra="interop", purpose="Reading .parquet files")
    filesystem, path = fsspec.core.url_to_fs(address)
    return dataset.dataset(path, filesystem=filesystem, format="parquet")


def _parquet_columns(address: str) -> ParquetSource:
    from clorg_scale.arrays.arrow import describe_column, index_columns
    from clorg_scale.arrays.columns import row_number_reason

    data = _parquet(address)
    index = index_columns(data.schema)
    lists, numbers = [], []
    for column in data.schema:
        kind, row_shape = describe_column(column.type)
        if row_shape:
            lists.append(column.name)
        elif not kind and column.name not in {*index, *LABEL_NAMES} and not row_number_reason(column.name):
            numbers.append(column.name)
    named = [name for name in EMBEDDING_NAMES if name in lists]
    columns = tuple(named[:1] or (lists if len(lists) == 1 else [] if lists else numbers))
    if not columns:
        raise InputError(
            f"{address} holds no column, or several, that can be the embeddings: lists in {lists}, numbers in "
            f"{numbers}."
        )
    first = next((batch for batch in data.head(1, columns=list(columns)).to_batches() if batch.num_rows), None)
    if first is None:
        raise InputError(f"{address} holds no rows.")
    row = _rows_of(first, columns)
    return ParquetSource(address, columns, (data.count_rows(), row.shape[1]), row.dtype)


def _rows_of(batch: Any, columns: tuple[str, ...]) -> npt.NDArray[Any]:
    from clorg_scale.arrays.arrow import from_arrow

    found = [from_arrow(batch.column(name), name=f"column {name!r}") for name in columns]
    return np.asarray(found[0]) if found[0].ndim == 2 else np.column_stack(found)
