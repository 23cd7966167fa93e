"""Writing a store of embeddings batch by batch, so that a killed process loses little and resumes."""

from __future__ import annotations

import json
import secrets
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays import as_array, label_array, on_host
from clorg_scale.errors import InputError
from clorg_scale.store.atomic import explain_write_errors, sync_folder
from clorg_scale.store.growing import GrowingNpy, RowsOfFile
from clorg_scale.store.layout import METADATA, PROGRESS, read_record, remove_leftovers, write_record
from clorg_scale.store.locks import FolderLock

__all__ = ["EmbeddingsWriter"]

_SYNC_BYTES = 64 << 20
"""Bytes after which rows are flushed to the disk; a crash loses at most these."""


class EmbeddingsWriter:
    """Write embeddings in order, batch by batch, into the folder that `load_embeddings` reads.

    An existing store stays readable until `finish` replaces it in one step. The rows of a process that dies are kept:
    a new writer with the same settings continues after the first `rows` of them; one with other settings starts again.
    There is one writer at a time: the folder is locked until `finish` or `close`, or until the process ends.

    Parameters
    ----------
    path
        Folder; made if it does not exist.
    n_features
        d.
    dtype
        Type in which the embeddings are stored.
    metadata
        Stored with them; anything that JSON holds. It also decides whether a partial store is continued.
    resume
        If False, a partial store is dropped.
    sync_bytes
        Bytes after which rows are flushed to the disk; a crash loses at most these.
    shared
        Other processes write the embeddings, at `rows_of_file`; `count` replaces `append`. The file then has its own
        name, so that a late process of an interrupted run cannot write into that of another one.

    Attributes
    ----------
    rows
        Rows written; after a crash, those that are safe: the next batch starts at this row.

    Raises
    ------
    InputError
        If the folder holds something else, cannot be written, another writer is writing there, the disk is full, or
        metadata is not JSON.

    Examples
    --------
    >>> with EmbeddingsWriter(folder, 512, np.float16, metadata={"model": "resnet18"}) as writer:
    ...     for start in range(writer.rows, len(images), 256):
    ...         writer.append(encode(images[start : start + 256]), targets[start : start + 256])
    ...     writer.finish()
    """

    def __init__(
        self,
        path: Path | str,
        n_features: int,
        dtype: npt.DTypeLike = np.float32,
        *,
        metadata: dict[str, Any] | None = None,
        resume: bool = True,
        sync_bytes: int = _SYNC_BYTES,
        shared: bool = False,
    ) -> None:
        self.path = Path(path)
        self._sync_bytes = sync_bytes
        self._shared = shared
        self._unsynced = 0
        self._n_features = int(n_features)
        self._dtype = np.dtype(dtype)
        self._settings = {
            "n_features": self._n_features,
            "dtype": self._dtype.str,
            "metadata": _as_json(metadata or {}),
        }
        self._made_folder = not self.path.exists()
        self._lock: FolderLock | None = None
        try:
            self._open(resume=resume)
        except BaseException:
            self._remove_made_folder()
            self._unlock()
            raise

    def _open(self, *, resume: bool) -> None:
        """Open the files, at the rows that are safe."""
        with explain_write_errors(self.path):
            _check_folder(self.path)
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = FolderLock(self.path)
            self._complete = read_record(self.path / METADATA)
            files, rows = self._resumed() if resume else (None, 0)
            self._files = files or self._fresh_files()
            self._embeddings = GrowingNpy(
                self.path / self._files["embeddings"], (self._n_features,), self._dtype, rows=rows
            )
            self._labels: GrowingNpy | None = None
            if rows and "labels" in self._files:
                self._labels = GrowingNpy(self.path / self._files["labels"], (), np.int64, rows=rows)

    @property
    def rows(self) -> int:
        """Rows written so far, those of an interrupted earlier writer included."""
        return self._embeddings.rows

    def append(self, embeddings: Any, labels: Any = None) -> None:
        """Append a batch.

        Parameters
        ----------
        embeddings
            (b, d) of any array library.
        labels
            (b,) integers, -1 where unlabelled; with every batch or with none.

        Raises
        ------
        InputError
            If shapes do not fit, labels come with some batches only, or the disk is full.
        """
        block = on_host(as_array(embeddings, name="embeddings of a batch"))
        if block.ndim != 2 or block.shape[1] != self._n_features:
            raise InputError(
                f"A batch of embeddings has shape {block.shape}, but {self.path} takes (points, {self._n_features})."
            )
        with explain_write_errors(self.path):
            self._append_labels(labels, len(block))
            self._embeddings.append(block)
            self._unsynced += block.nbytes
            if self._unsynced >= self._sync_bytes:
                self.sync()

    def rows_of_file(self) -> RowsOfFile:
        """Location of the embeddings, into which other processes write them."""
        return self._embeddings.rows_of_file()

    def count(self, n_rows: int, labels: Any = None) -> None:
        """Count the next rows, which another process has written at `rows_of_file` and flushed to the disk.

        Parameters
        ----------
        n_rows
            b.
        labels
            (b,) integers, -1 where unlabelled; with every call or with none.

        Raises
        ------
        InputError
            As `append`.
        """
        with explain_write_errors(self.path):
            self._append_labels(labels, n_rows)
            self._embeddings.count(n_rows)
            self.sync()

    def _append_labels(self, labels: Any, n_rows: int) -> None:
        """Append the labels of a batch to their own file."""
        if self._labels is None and labels is not None and self.rows == 0:
            self._files["labels"] = self._labels_name()
            self._labels = GrowingNpy(self.path / self._files["labels"], (), np.int64)
        if (self._labels is None) != (labels is None):
            raise InputError(f"Labels for {self.path} must come with every batch or with none.")
        if self._labels is not None:
            codes = label_array(labels, n_rows)
            if codes.dtype.kind not in "iub":
                raise InputError("Labels that come with batches must be integers; pass strings to finish().")
            self._labels.append(codes)

    def _labels_name(self) -> str:
        """Name the file of the labels after that of the embeddings."""
        return self._files["embeddings"].replace("embeddings", "labels", 1)

    def sync(self) -> None:
        """Flush all rows to the disk and record that they are safe."""
        with explain_write_errors(self.path):
            if self._labels is not None:
                self._labels.sync()
            self._embeddings.sync()
            write_record(self.path / PROGRESS, {"files": self._files, "rows": self.rows, **self._settings})
        self._unsynced = 0

    def finish(self, labels: Any = None) -> None:
        """Complete the store, so that `load_embeddings` can read it.

        Parameters
        ----------
        labels
            (n,) of all points, integers or strings, if they did not come with the batches.

        Raises
        ------
        InputError
            If there are no rows, labels do not fit, or the disk is full.
        """
        if not self.rows:
            raise InputError(f"No embeddings were written to {self.path}; a store needs at least one.")
        if labels is not None and self._labels is not None:
            raise InputError(f"The labels of {self.path} already came with the batches.")
        if self._labels is not None and self._labels.rows != self.rows:
            raise InputError(f"A batch could not be written to {self.path}; run the command again to resume.")
        array = None if labels is None else label_array(labels, self.rows)
        files = dict(self._files)
        with explain_write_errors(self.path):
            if array is not None:
                files["labels"] = self._labels_name()
                whole = GrowingNpy(self.path / files["labels"], (), array.dtype)
                whole.append(array)
                whole.finish()
            if self._labels is not None:
                self._labels.finish()
            self._embeddings.finish()
            self._unsynced = 0
            sync_folder(self.path)
            write_record(
                self.path / METADATA,
                {"files": files, "shape": [self.rows, self._n_features], **self._settings},
            )
            (self.path / PROGRESS).unlink(missing_ok=True)
            remove_leftovers(self.path, keep=set(files.values()))
        self._unlock()

    def discard(self) -> None:
        """Remove what this writer wrote; an existing store is kept."""
        self._close_files()
        self._unsynced = 0
        (self.path / PROGRESS).unlink(missing_ok=True)
        remove_leftovers(self.path, keep=self._kept_files())
        self._remove_made_folder()
        self._unlock()

    def _remove_made_folder(self) -> None:
        """Remove the folder if it was made for this store and is empty."""
        if self._made_folder:
            with suppress(OSError):
                self.path.rmdir()

    def close(self) -> None:
        """Close the files; an unfinished store can be resumed at `rows`."""
        if self._unsynced:
            with suppress(InputError, OSError):  # a full disk: what was synced before stays
                self.sync()
        self._close_files()
        self._unlock()

    def _unlock(self) -> None:
        """Release the lock of the folder."""
        if self._lock is not None:
            self._lock.release()

    def _close_files(self) -> None:
        self._embeddings.close()
        if self._labels is not None:
            self._labels.close()

    def __enter__(self) -> EmbeddingsWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _kept_files(self) -> set[str]:
        """Names of the arrays of the complete store."""
        return set() if self._complete is None else set(self._complete["files"].values())

    def _resumed(self) -> tuple[dict[str, str] | None, int]:
        """Files and safe rows of an interrupted writer with the same settings; (None, 0) if there is none."""
        progress = read_record(self.path / PROGRESS)
        if progress is None or any(progress.get(key) != value for key, value in self._settings.items()):
            return None, 0
        files: dict[str, str] = progress.get("files", {})
        if "embeddings" not in files:
            return None, 0
        if self._kept_files() & set(files.values()):  # killed between the last two steps of finish
            return None, 0
        rows = int(progress.get("rows", 0))
        present = GrowingNpy.whole_rows(self.path / files["embeddings"], (self._n_features,), self._dtype)
        if "labels" in files:
            present = min(present, GrowingNpy.whole_rows(self.path / files["labels"], (), np.int64))
        return (files, rows) if 0 < rows <= present else (None, 0)

    def _fresh_files(self) -> dict[str, str]:
        """Name a new file for the embeddings and remove what earlier writers left."""
        (self.path / PROGRESS).unlink(missing_ok=True)
        remove_leftovers(self.path, keep=self._kept_files())
        plain = self._complete is None and not self._shared
        files = {"embeddings": "embeddings.npy" if plain else f"embeddings-{secrets.token_hex(4)}.npy"}
        write_record(self.path / PROGRESS, {"files": files, "rows": 0, **self._settings})
        return files


def _check_folder(path: Path) -> None:
    """Refuse to write into something that is not a store."""
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file; embeddings are stored in a folder: choose another path.")
    if path.is_dir():
        names = {name.name for name in path.iterdir() if not name.name.endswith(".tmp")}
        if names and not names & {METADATA, PROGRESS}:
            raise InputError(
                f"{path} is not empty and not a store of embeddings ({min(names)!r} lies in it); choose another folder."
            )


def _as_json(metadata: dict[str, Any]) -> dict[str, Any]:
    """Metadata as it will be read back: lists for tuples, numbers for NumPy's."""
    try:
        plain: dict[str, Any] = json.loads(json.dumps(metadata, default=lambda value: value.tolist(), allow_nan=False))
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"The metadata cannot be stored as JSON: {error}.") from error
    return plain
