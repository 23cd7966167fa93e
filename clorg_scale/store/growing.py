"""A .npy file that grows row by row."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["GrowingNpy", "RowsOfFile"]


class RowsOfFile(NamedTuple):
    """Location of the rows of a growing file, where other processes write them in any order.

    Attributes
    ----------
    path
        Absolute path.
    start
        Bytes before the first row.
    n_features
        Length of a row.
    dtype
        Type of the elements.
    """

    path: str
    start: int
    n_features: int
    dtype: np.dtype[Any]

    def write(self, first: int, blocks: Iterable[npt.NDArray[Any]]) -> int:
        """Write blocks (b, d) from row `first` on, and flush them to the disk; returns how many rows."""
        row_bytes = self.n_features * self.dtype.itemsize
        with Path(self.path).open("r+b", buffering=0) as file:
            start = self.start + first * row_bytes
            file.seek(start)
            for block in blocks:
                left = memoryview(np.ascontiguousarray(block, dtype=self.dtype).tobytes())
                while left:
                    left = left[file.write(left) :]
            written = file.tell() - start
            os.fsync(file.fileno())
        return written // row_bytes


class GrowingNpy:
    """A ``.npy`` file to which rows are appended; its header is corrected when it is complete.

    Parameters
    ----------
    path
        The file; of an existing one the first `rows` rows are kept, and the rest is truncated.
    row_shape
        Shape of one row: (d,) for a matrix, () for a vector.
    dtype
        Type of the elements, kept with its byte order.
    rows
        Rows to keep.
    """

    def __init__(self, path: Path, row_shape: tuple[int, ...], dtype: npt.DTypeLike, *, rows: int = 0) -> None:
        self.path = path
        self.row_shape = row_shape
        self.dtype = np.dtype(dtype)
        self.rows = rows
        self._file = path.open("r+b" if rows else "w+b")
        self._write_header()
        self._file.truncate(self._end)
        self._file.seek(self._end)

    def _write_header(self) -> None:
        """Write the header for the current number of rows; NumPy pads it to a fixed length."""
        self._file.seek(0)
        header = {"descr": self.dtype.str, "fortran_order": False}
        np.lib.format.write_array_header_1_0(self._file, {**header, "shape": (self.rows, *self.row_shape)})
        self._start = self._file.tell()

    @property
    def _row_bytes(self) -> int:
        return int(np.prod(self.row_shape, dtype=np.int64)) * self.dtype.itemsize

    @property
    def _end(self) -> int:
        return self._start + self.rows * self._row_bytes

    def append(self, block: npt.NDArray[Any]) -> None:
        """Append (b, ...) rows."""
        self._file.write(np.ascontiguousarray(block, dtype=self.dtype).view(np.uint8).data)
        self.rows += len(block)

    def rows_of_file(self) -> RowsOfFile:
        """Location of the rows of a matrix, for other processes; `count` is to be called with those that they wrote."""
        return RowsOfFile(str(self.path.resolve()), self._start, self.row_shape[0], self.dtype)

    def count(self, n_rows: int) -> None:
        """Count the next rows, which another process has written."""
        self.rows += n_rows
        self._file.seek(self._end)

    def sync(self) -> None:
        """Flush all rows to the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def finish(self) -> None:
        """Correct the header, sync and close."""
        self._write_header()
        self.sync()
        self._file.close()

    def close(self) -> None:
        """Close without completing the file; unwritten rows that do not fit on the disk are lost."""
        try:
            self._file.close()
        except OSError:
            self._file.raw.close()

    @staticmethod
    def whole_rows(path: Path, row_shape: tuple[int, ...], dtype: npt.DTypeLike) -> int:
        """Number of complete rows in the file; 0 if it does not exist."""
        row_bytes = int(np.prod(row_shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        try:
            with path.open("rb") as file:
                np.lib.format.read_magic(file)
                np.lib.format.read_array_header_1_0(file)
                return (os.fstat(file.fileno()).st_size - file.tell()) // row_bytes
        except (OSError, ValueError, EOFError):
            return 0
