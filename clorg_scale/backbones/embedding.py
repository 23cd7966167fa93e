"""Embeddings of a set of images by a network, streamed to a store that survives a crash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from clorg_scale.arrays import Device, resolve_torch_device
from clorg_scale.backbones.memory import memory_format
from clorg_scale.datasets.images import ImageSet
from clorg_scale.datasets.prefetch import prefetched
from clorg_scale.errors import InputError, lacks_memory
from clorg_scale.progress import progress_bar
from clorg_scale.store import EmbeddingsWriter, StoredEmbeddings, load_embeddings

__all__ = ["check_batch_size", "embed", "features_of", "to_pixels"]


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
) -> StoredEmbeddings:
    """Embed images in their order.

    Parameters
    ----------
    model
        From images (b, c, h, w) in [0, 1] to features (b, d): a `Backbone`, what `load_backbone` gives, or your own.
    images
        What is embedded; their labels are stored with the embeddings, and the names of the classes as `class_names` in
        the metadata.
    out
        Folder of the store; `clorg_scale.load_embeddings` reads it.
    dtype
        Of the stored embeddings. For "float16" a GPU computes in mixed precision, for "float32" in full.
    normalize
        Divide each embedding by its length.
    batch_size
        Images at once.
    metadata
        Stored with the embeddings; anything that JSON holds.
    device
        "auto", "cpu" or "cuda"; several at once where "cuda" sees several.
    resume
        Go on where an earlier run was interrupted that had the same network, images and settings; another one is
        started again from the first image.
    progress
        Show a progress bar on stderr.

    Raises
    ------
    InputError
        If a setting makes no sense, the model does not take the images or does not give (b, d), an image cannot be
        read, an embedding is not finite in that dtype, or the folder cannot be written. What was in the folder before
        is as it was then.
    """
    check_batch_size(batch_size)
    if not len(images):
        raise InputError(f"There are no images in {images.name} to embed.")
    if dtype not in ("float16", "float32"):
        raise InputError(f"Embeddings are stored as 'float16' or 'float32', not {dtype!r}.")
    place = torch.device(resolve_torch_device(device))
    network = model.to(place, memory_format=memory_format(place)).eval()
    if place.type == "cuda" and torch.cuda.device_count() > 1:
        network = nn.DataParallel(network)
    rough = dtype == "float16"
    n_features = _width(network, images, place)
    told = {
        "data": images.name, "n_images": len(images), "normalized": normalize, "weights": _digest(model),
        "image_size": images.image_size, "images": images.digest(), "class_names": list(images.classes),
        "precision": "mixed" if rough and place.type == "cuda" else "full",
    } | (metadata or {})  # fmt: skip
    if images.skipped:
        told["skipped"] = images.skipped
    with (
        EmbeddingsWriter(out, n_features, dtype, metadata=told, resume=resume) as writer,
        progress_bar("Embedding", len(images), unit="images", enabled=progress) as advance,
    ):
        advance(writer.rows)
        labels = images.labels[writer.rows :]
        for features in _all_stored(writer, network, images, batch_size, place, dtype, normalize=normalize):
            of_batch, labels = labels[: len(features)], labels[len(features) :]
            writer.append(features, of_batch)
            advance(len(features))
        writer.finish()
    return load_embeddings(out)


def check_batch_size(batch_size: Any) -> None:
    """Refuse a number of images at once that is none.

    Raises
    ------
    InputError
        If it is not a whole number of 1 or more.
    """
    is_whole = isinstance(batch_size, (int, np.integer)) and not isinstance(batch_size, bool)
    if not is_whole or batch_size < 1:
        raise InputError(f"batch_size must be a whole number of 1 or more, not {batch_size!r}.")


def _all_stored(
    writer: EmbeddingsWriter,
    network: nn.Module,
    images: ImageSet,
    batch_size: int,
    device: torch.device,
    dtype: str,
    *,
    normalize: bool,
) -> Iterator[Any]:
    """The features that the writer lacks, batch by batch, as they are stored.

    Where the images or the network fail, what is written so far is removed: the next run has others.
    """
    rows = np.arange(writer.rows, len(images))
    try:
        for features in features_of(network, images, rows, batch_size, device, rough=dtype == "float16"):
            yield _stored(nn.functional.normalize(features) if normalize else features, dtype)
    except InputError:
        writer.discard()
        raise


def _digest(model: nn.Module) -> str:
    """Hash of the network and its weights, so that rows of different ones never get into one store."""
    digest = hashlib.blake2b(repr(model).encode(), digest_size=8)
    held = model.state_dict() | dict(model.named_buffers())  # the latter with those that are not part of its state
    for name, tensor in held.items():
        if isinstance(tensor, torch.Tensor):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _width(network: nn.Module, images: ImageSet, device: torch.device) -> int:
    """Length of an embedding, from the first image."""
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


def features_of(
    network: nn.Module,
    images: ImageSet,
    rows: npt.NDArray[np.int64],
    batch_size: int,
    device: torch.device,
    *,
    rough: bool = True,
) -> Iterator[torch.Tensor]:
    """Features (b, d) float32 on the CPU, batch by batch, of the given rows; the network is on the device.

    Where `rough`, a GPU computes in mixed precision.
    """
    batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    mixed = rough and device.type == "cuda"
    for read in prefetched(images, batches):
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=mixed):
            yield network(to_pixels(read, device)).float().cpu()


def to_pixels(read: npt.NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    """(b, c, h, w) float32 in [0, 1] on the device, in its memory format."""
    pixels = torch.from_numpy(read)
    if device.type == "cuda":
        pixels = pixels.pin_memory().to(device, non_blocking=True)
    return pixels.to(torch.float32).div_(255).contiguous(memory_format=memory_format(device))


def _stored(features: torch.Tensor, dtype: str) -> Any:
    """The features as they are stored, all of them finite."""
    with np.errstate(over="ignore"):  # told below
        values = features.numpy().astype(dtype)
    if not np.isfinite(values).all():
        raise InputError(f"An embedding is not finite in {dtype}; store float32, or normalize the embeddings.")
    return values
