"""Count of the stored chunks of a Zarr array: those with a file, and those listed in the index of a shard.

A shard is a file of many chunks (https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed). Its index, at
the end or at the start, holds the offset and the length of each chunk, 8 bytes each, in C order; both have all bits set
where the chunk is not stored. Chunks of a shard may be shards themselves.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["StoredChunks", "count_stored_chunks", "grid_shape"]

_NOT_STORED = 2**64 - 1

_CHECKSUM_BYTES = 4
"""Bytes that the codec crc32c appends."""

Position = tuple[int, ...]


class StoredChunks(NamedTuple):
    """Chunks of an array; of one in shards, the innermost ones.

    Attributes
    ----------
    n_chunks
        Chunks that the array consists of; those of a shard that lie beyond the end of the array do not count.
    n_stored
        How many of them are stored.
    empty_rows
        How many rows of chunks there are of which not one is stored.
    unknown_shards
        Shards whose index is encoded in a way that is not known here; all of their chunks count as stored.
    """

    n_chunks: int
    n_stored: int
    empty_rows: int
    unknown_shards: int


def count_stored_chunks(array: Any) -> StoredChunks | None:
    """Count the chunks of an array in a folder that are stored; None for a store that is not a folder.

    Parameters
    ----------
    array
        ``zarr.Array`` of version 2 or 3 of the format.
    """
    root = getattr(array.store_path.store, "root", None)
    if not isinstance(root, Path):  # in memory, in an archive, or remote
        return None
    outer = array.shards or array.chunks
    axes = tuple(range(array.ndim))
    sharding = _sharding(array.metadata.to_dict().get("codecs", ()), axes)
    innermost = outer if sharding is None else sharding.innermost
    grid = grid_shape(array.shape, innermost)
    rows, n_stored, unknown = np.zeros(grid[0], dtype=bool), 0, 0
    for path, position in _chunk_files(root / array.path, grid_shape(array.shape, outer)):
        if sharding is None:
            rows[position[0]] = True
            n_stored += 1
            continue
        start = tuple(map(operator.mul, position, outer))
        shard = _Region(start, outer, 0, path.stat().st_size)
        with path.open("rb") as file:
            for row, count, known in _stored_within(file, sharding, shard, array.shape):
                rows[row] = True
                n_stored += count
                unknown += not known
    return StoredChunks(prod(grid), n_stored, int(np.count_nonzero(~rows)), unknown)


def _chunk_files(folder: Path, grid: Position) -> Iterator[tuple[Path, Position]]:
    """Yield the file and the position of each chunk, whatever separates the numbers in their names."""
    waiting: list[tuple[Path, Position]] = [(folder, ())]
    while waiting:
        below, start = waiting.pop()
        for entry in os.scandir(below):
            parts = entry.name.removeprefix("c").removeprefix(".").split(".")
            if parts != [""] and not all(part.isdecimal() for part in parts):
                continue
            position = (*start, *(int(part) for part in parts if part))
            if len(position) > len(grid) or not all(map(operator.lt, position, grid)):
                continue
            if entry.is_dir():
                waiting.append((Path(entry.path), position))
            elif len(position) == len(grid):
                yield Path(entry.path), position


class _Sharding(NamedTuple):
    """The codec that cuts a shard into chunks; shapes are along the axes of the array."""

    chunk_shape: Position
    axes: Position
    """Axis of the array that lies along each axis of the index."""
    index_dtype: np.dtype[Any] | None
    """Type of the numbers in the index; None where it is encoded in a way that is not known."""
    index_suffix: int
    """Bytes that follow these numbers."""
    at_start: bool
    inner: _Sharding | None

    @property
    def innermost(self) -> Position:
        """Shape of the chunks that are no shards."""
        return self.chunk_shape if self.inner is None else self.inner.innermost


class _Region(NamedTuple):
    """A shard: where it begins in the array, its shape there, and the bytes of the file that it takes."""

    start: Position
    shape: Position
    offset: int
    n_bytes: int


def _sharding(codecs: Sequence[Mapping[str, Any]], axes: Position) -> _Sharding | None:
    """Find the sharding among the codecs of an array or of the chunks of a shard; None where there is none."""
    for position, codec in enumerate(codecs):
        settings = codec.get("configuration") or {}
        if codec["name"] == "transpose":
            axes = tuple(axes[axis] for axis in settings["order"])
        if codec["name"] == "sharding_indexed":
            shape = dict(zip(axes, settings["chunk_shape"], strict=True))
            dtype, suffix = _index_encoding(settings["index_codecs"])
            return _Sharding(
                chunk_shape=tuple(shape[axis] for axis in sorted(shape)),
                axes=axes,
                index_dtype=dtype if position == len(codecs) - 1 else None,  # else the shard itself is encoded
                index_suffix=suffix,
                at_start=settings.get("index_location", "end") == "start",
                inner=_sharding(settings["codecs"], axes),
            )
    return None


def _index_encoding(codecs: Sequence[Mapping[str, Any]]) -> tuple[np.dtype[Any] | None, int]:
    """Type of the numbers of an index, and how many bytes follow them."""
    names = [codec["name"] for codec in codecs]
    if names not in (["bytes"], ["bytes", "crc32c"]):
        return None, 0
    big = (codecs[0].get("configuration") or {}).get("endian") == "big"
    return np.dtype(">u8" if big else "<u8"), _CHECKSUM_BYTES * (len(names) - 1)


def _stored_within(
    file: BinaryIO, sharding: _Sharding, shard: _Region, shape: Position
) -> Iterator[tuple[Any, int, bool]]:
    """Yield rows of the grid of innermost chunks, how many chunks in them are stored, and whether that is known."""
    counts = tuple(map(operator.floordiv, shard.shape, sharding.chunk_shape))
    index = _read_index(file, sharding, shard, counts)
    if index is None:
        yield *_all_within(sharding.innermost, shard, shape), sharding.index_dtype is not None
        return
    offsets, lengths = index
    # Zarr reads a chunk of no bytes, or beyond the end of the file, like one that is not stored.
    stored = (offsets != _NOT_STORED) & (lengths > 0)
    stored &= (offsets <= shard.n_bytes) & (lengths <= shard.n_bytes - np.minimum(offsets, shard.n_bytes))
    for axis, (start, step, end) in enumerate(zip(shard.start, sharding.chunk_shape, shape, strict=True)):
        inside = -(-max(0, end - start) // step)
        np.moveaxis(stored, axis, 0)[inside:] = False
    found = np.argwhere(stored)
    if sharding.inner is None:
        row = shard.start[0] // sharding.chunk_shape[0]
        yield row + found[:, 0], len(found), True
        return
    for chunk in found:
        position = tuple(chunk.tolist())
        origin = tuple(s + i * step for s, i, step in zip(shard.start, position, sharding.chunk_shape, strict=True))
        within = _Region(origin, sharding.chunk_shape, shard.offset + int(offsets[position]), int(lengths[position]))
        yield from _stored_within(file, sharding.inner, within, shape)


def _read_index(
    file: BinaryIO, sharding: _Sharding, shard: _Region, counts: Position
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]] | None:
    """Offset and length of each chunk of a shard, along the axes of the array; None where they are unknown.

    An empty file is read like one without chunks. Another one that is too short for its index is damaged, and reading
    it says so.
    """
    if not shard.n_bytes:
        empty = np.full(counts, _NOT_STORED, dtype=np.uint64)
        return empty, empty
    n_numbers = 2 * prod(counts)
    n_bytes = 8 * n_numbers + sharding.index_suffix
    if sharding.index_dtype is None or n_bytes > shard.n_bytes:
        return None
    file.seek(shard.offset if sharding.at_start else shard.offset + shard.n_bytes - n_bytes)
    numbers = np.frombuffer(file.read(8 * n_numbers), dtype=sharding.index_dtype).astype(np.uint64)
    index = numbers.reshape(*(counts[axis] for axis in sharding.axes), 2)
    index = np.moveaxis(index, range(len(counts)), sharding.axes)
    return index[..., 0], index[..., 1]


def _all_within(chunks: Position, shard: _Region, shape: Position) -> tuple[slice, int]:
    """Rows of the grid that the chunks of a shard take, and how many of these chunks lie in the array."""
    inside = [
        -(-(min(start + length, end) - start) // chunk)
        for start, length, end, chunk in zip(shard.start, shard.shape, shape, chunks, strict=True)
    ]
    row = shard.start[0] // chunks[0]
    return slice(row, row + inside[0]), prod(inside)


def grid_shape(shape: Position, chunks: Position) -> Position:
    """Number of chunks along each axis."""
    return tuple(-(-length // chunk) for length, chunk in zip(shape, chunks, strict=True))
