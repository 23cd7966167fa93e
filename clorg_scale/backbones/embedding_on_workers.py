"""Embedding by the workers of a Dask cluster: one task per shard of images, which the worker writes into the store.

A shard is consecutive images: their paths, or their pixels where they are in this process's memory. Its task embeds
them and writes its rows where they belong in the file of the store, so no features pass through this process or the
scheduler. A shard whose worker is lost is written again, with the same bytes; this process counts rows in their order,
so that an interrupted run goes on after those it has counted, with or without a cluster.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from clorg_scale.backbones.features import features_of, stored_batches
from clorg_scale.backbones.memory import memory_format
from clorg_scale.datasets.images import ImageFiles, ImageSet
from clorg_scale.distributed import ask_workers, ordered_map
from clorg_scale.errors import InputError, require
from clorg_scale.store.atomic import explain_write_errors
from clorg_scale.store.growing import RowsOfFile
from clorg_scale.store.writer import EmbeddingsWriter

__all__ = ["Settings", "embedded_by_workers"]

SHARD_IMAGES = 1024
"""Images of a shard at least: a lost worker costs a few of these."""


class Settings(NamedTuple):
    """Settings of the embedding, as of `clorg_scale.backbones.embed`."""

    batch_size: int
    device: str
    dtype: str
    normalize: bool
    mixed: bool


class Shard(NamedTuple):
    """Consecutive images, and the row of the first."""

    first: int
    images: ImageSet


@dataclass(frozen=True)
class EmbedShard:
    """Embed a shard and write its rows: a task.

    Attributes
    ----------
    network
        In evaluation mode; it travels with its class where that is in no module.
    target
        Rows of the store.
    settings
        How.
    """

    network: nn.Module
    target: RowsOfFile
    settings: Settings

    def __reduce__(self) -> Any:
        cloudpickle = require("cloudpickle", extra="dask", purpose="Embedding by Dask workers")

        return _unpacked, (cloudpickle.dumps(self.network), self.target, self.settings)

    @cached_property
    def _on_device(self) -> tuple[nn.Module, torch.device]:
        device = torch.device(self.settings.device)
        return self.network.to(device, memory_format=memory_format(device)).eval(), device

    def __call__(self, shard: Shard) -> int:
        """Return the number of rows written."""
        (network, device), how = self._on_device, self.settings
        rows = np.arange(len(shard.images))
        batches = features_of(network, shard.images, rows, how.batch_size, device, mixed=how.mixed)
        with explain_write_errors(Path(self.target.path)):
            return self.target.write(shard.first, stored_batches(batches, how.dtype, normalize=how.normalize))


def _unpacked(network: bytes, target: RowsOfFile, settings: Settings) -> EmbedShard:
    try:
        return EmbedShard(pickle.loads(network), target, settings)  # noqa: S301  pickled by `EmbedShard`, on the client
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"A Dask worker cannot build the network ({error}); install the module that defines it on all workers."
        ) from None


def embedded_by_workers(
    client: Any, network: nn.Module, images: ImageSet, writer: EmbeddingsWriter, settings: Settings
) -> Generator[int, None, None]:
    """Embed the images that the writer lacks; yields how many rows each shard wrote, in their order.

    Raises
    ------
    InputError
        If workers do not see the files of the images, or that of the store; as `embed`.
    """
    target, mapper = writer.rows_of_file(), ordered_map(client)
    assert mapper is not None
    if isinstance(images, ImageFiles) and not all(ask_workers(client, _is_there, images.paths[0])):
        raise InputError(
            f"Not every Dask worker sees the images ({images.paths[0]}); put them in a folder that all workers can "
            "read under the same path."
        )
    writer.sync()
    if not all(ask_workers(client, os.access, target.path, os.W_OK)):
        raise InputError(
            f"Not every Dask worker can write into {writer.path}; choose a folder that all workers see under the same "
            "path."
        )
    shards = _shards(images, writer.rows, settings.batch_size)
    for n_rows in mapper(EmbedShard(network, target, settings), shards):
        yield int(n_rows)


def _is_there(path: str) -> bool:
    return Path(path).is_file()


def _shards(images: ImageSet, first: int, batch_size: int) -> Iterator[Shard]:
    """Shards of whole batches, so that batches are those of one process."""
    step = -(-SHARD_IMAGES // batch_size) * batch_size
    for start in range(first, len(images), step):
        yield Shard(start, images.shard(slice(start, start + step)))
