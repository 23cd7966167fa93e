"""Embeddings of a set of images, streamed to a store that survives a crash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from clorg_scale.arrays import Device, resolve_torch_device
from clorg_scale.backbones.embedding_on_workers import Settings, embedded_by_workers
from clorg_scale.backbones.features import features_of, stored_batches
from clorg_scale.backbones.memory import memory_format
from clorg_scale.backbones.watch import ImageWatch
from clorg_scale.datasets.images import ImageFiles, ImageSet
from clorg_scale.distributed import device_of_workers
from clorg_scale.errors import InputError, lacks_memory
from clorg_scale.progress import progress_bar
from clorg_scale.store import EmbeddingsWriter, StoredEmbeddings, load_embeddings
from clorg_scale.whole import whole_number

__all__ = ["check_batch_size", "embed"]


def embed(
    model: nn.Module,
    images: ImageSet,
    *,
    out: Path | str,
    dtype: Literal["float16", "float32"] = "float16",
    normalize: bool = False,
    batch_size: int = 256,
    metadata: dict[str, Any] | None = None,
    device: Device = "auto",
    resume: bool = True,
    progress: bool = False,
    client: Any = None,
) -> StoredEmbeddings:
    """Embed images in their order.

    Parameters
    ----------
    model
        Maps images (b, c, h, w) in [0, 1] to features (b, d): a `Backbone`, the result of `load_backbone`, or a network
        of your own.
    images
        Images to embed; their labels are stored with the embeddings, and the names of the classes as `class_names` in
        the metadata.
    out
        Folder of the store; `clorg_scale.load_embeddings` reads it.
    dtype
        Type of the stored embeddings. A GPU computes in mixed precision for "float16", in full precision for "float32".
    normalize
        Divide each embedding by its length.
    batch_size
        Images in a batch.
    metadata
        Stored with the embeddings; anything that JSON can hold.
    device
        "auto", "cpu" or "cuda"; all visible GPUs where there are several.
    resume
        Continue an interrupted run with the same network, images and settings; a run with others starts again.
    progress
        Show a progress bar on stderr.
    client
        `distributed.Client` of a Dask cluster: its workers embed shards of the images and write them into the store,
        whose folder, like a folder of images, all of them must see under the same path.

    Raises
    ------
    InputError
        If a setting is out of range, the model does not take the images or does not return (b, d), an image cannot be
        read or is written to meanwhile, an embedding is not finite in that dtype, or the folder cannot be written. The
        previous contents of the folder are then kept.
    """
    batch_size = check_batch_size(batch_size)
    if not len(images):
        raise InputError(f"There are no images in {images.name} to embed.")
    if dtype not in ("float16", "float32"):
        raise InputError(f"Embeddings are stored as 'float16' or 'float32', not {dtype!r}.")
    watch = ImageWatch(images)  # before the digest is computed and the first image is read
    where = resolve_torch_device(device) if client is None else "cpu"
    target = torch.device(where)
    network = model.to(target, memory_format=memory_format(target)).eval()
    if target.type == "cuda" and torch.cuda.device_count() > 1:
        network = nn.DataParallel(network)
    n_features = _width(network, images, target)
    if client is not None:
        where = device_of_workers(client, device, resolve_torch_device)
    mixed = dtype == "float16" and where == "cuda"
    settings = {
        "data": images.name,
        "n_images": len(images),
        "normalized": normalize,
        "weights": _digest(model),
        "image_size": images.image_size,
        "images": images.digest(),
        "class_names": list(images.classes),
        "precision": "mixed" if mixed else "full",
    } | (metadata or {})
    if images.skipped:
        settings["skipped"] = images.skipped
    if where == "cuda" and isinstance(images, ImageFiles):
        settings["decoded"] = "on the GPU"  # pixels differ a little, and a store never mixes rows
    with (
        EmbeddingsWriter(out, n_features, dtype, metadata=settings, resume=resume, shared=client is not None) as writer,
        progress_bar("Embedding", len(images), unit="images", enabled=progress) as advance,
        _discarding_changed(writer, watch),
    ):
        advance(writer.rows)
        with _discarding_bad(writer):
            if client is None:
                rows = np.arange(writer.rows, len(images))
                batches = features_of(network, images, rows, batch_size, target, mixed=mixed)
                for features in stored_batches(batches, dtype, normalize=normalize):
                    writer.append(features, images.labels[writer.rows : writer.rows + len(features)])
                    advance(len(features))
            else:
                how = Settings(batch_size, where, dtype, normalize, mixed)
                with closing(embedded_by_workers(client, network, images, writer, how)) as shards:
                    for n_rows in shards:
                        writer.count(n_rows, images.labels[writer.rows : writer.rows + n_rows])
                        advance(n_rows)
        watch.check()
        writer.finish()
    return load_embeddings(out)


def check_batch_size(batch_size: Any) -> int:
    """Check a number of images in a batch.

    Raises
    ------
    InputError
        If it is not a whole number of 1 or more.
    """
    return whole_number("batch_size", batch_size, 1)


@contextmanager
def _discarding_changed(writer: EmbeddingsWriter, watch: ImageWatch) -> Iterator[None]:
    """Keep no rows for a later run where the block raises, or is interrupted, and images have changed."""
    try:
        yield
    except BaseException:
        if watch.has_changed():
            writer.discard()
        raise


@contextmanager
def _discarding_bad(writer: EmbeddingsWriter) -> Iterator[None]:
    """Keep no rows where the images or the network fail: the next run has others."""
    try:
        yield
    except InputError:
        writer.discard()
        raise


def _digest(model: nn.Module) -> str:
    """Digest of the network and its weights, so that a store never mixes rows of different networks."""
    digest = hashlib.blake2b(repr(model).encode(), digest_size=8)
    tensors = model.state_dict() | dict(model.named_buffers())  # some buffers are not part of the state
    for name, tensor in tensors.items():
        if isinstance(tensor, torch.Tensor):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _width(network: nn.Module, images: ImageSet, device: torch.device) -> int:
    """Number of features, from the first image."""
    size = images.image_size
    try:
        features = next(features_of(network, images, np.arange(1), 1, device))
    except torch.OutOfMemoryError:
        raise
    except (AssertionError, RuntimeError) as error:  # what PyTorch's layers raise
        if lacks_memory(error):
            raise
        reason = str(error).partition("\n")[0].rstrip(".")
        raise InputError(
            f"The network does not take images of {size} x {size} pixels and {images.n_channels} channels ({reason})."
        ) from error
    if features.ndim != 2:
        raise InputError(f"The network gives features of shape {tuple(features.shape)} for one image, not (1, d).")
    return int(features.shape[1])
