"""Writing embeddings that are complete in memory or in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clorg_scale.arrays import as_embeddings, label_array, row_slices
from clorg_scale.store.endings import check_folder_name
from clorg_scale.store.writer import EmbeddingsWriter

__all__ = ["save_embeddings"]


def save_embeddings(
    path: Path | str, embeddings: Any, labels: Any = None, metadata: dict[str, Any] | None = None
) -> None:
    """Write embeddings, labels and metadata into a folder, block by block.

    The folder holds ``embeddings.npy``, ``labels.npy`` and ``metadata.json``, which names them. Whatever
    happens, it holds afterward the complete new store or the complete old one (or nothing). Where a store is
    replaced, the new arrays get new names, so that memory maps of the old ones stay valid.

    Parameters
    ----------
    path
        Folder; made if it does not exist. An older store in it is replaced.
    embeddings
        (n, d) of any array library; the dtype is kept.
    labels
        (n,) integers, whole floats, booleans or strings; -1 where unlabelled.
    metadata
        Anything that JSON holds.

    Raises
    ------
    InputError
        If the folder holds something else or cannot be written, the disk is full, or embeddings, labels or
        metadata cannot be stored.
    """
    check_folder_name(path)
    array = as_embeddings(embeddings)
    checked = None if labels is None else label_array(labels, len(array))
    writer = EmbeddingsWriter(path, array.shape[1], array.dtype, metadata=metadata, resume=False)
    try:
        for rows in row_slices(*array.shape, itemsize=array.dtype.itemsize):
            writer.append(array[rows])
        writer.finish(checked)
    except BaseException:
        writer.discard()
        raise
