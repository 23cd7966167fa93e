"""Features of images, batch by batch, by a network on its device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from clorg_scale.backbones.memory import memory_format
from clorg_scale.datasets.images import ImageSet
from clorg_scale.datasets.prefetch import prefetched
from clorg_scale.errors import InputError

__all__ = ["as_stored", "features_of", "stored_batches", "to_pixels"]


def features_of(
    network: nn.Module,
    images: ImageSet,
    rows: npt.NDArray[np.int64],
    batch_size: int,
    device: torch.device,
    *,
    mixed: bool | None = None,
) -> Iterator[torch.Tensor]:
    """Features (b, d) float32 on the CPU, batch by batch, of the given rows; the network is on the device.

    Computed in mixed precision where `mixed`; default: on a GPU.
    """
    batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    mixed = device.type == "cuda" if mixed is None else mixed
    for read in prefetched(images, batches, device):
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=mixed):
            yield network(to_pixels(read, device)).float().cpu()


def to_pixels(read: npt.NDArray[np.uint8] | torch.Tensor, device: torch.device) -> torch.Tensor:
    """Pixels (b, c, h, w) float32 in [0, 1] on the device, in its memory format."""
    pixels = torch.as_tensor(read)
    if pixels.device.type != device.type:
        pixels = pixels.pin_memory().to(device, non_blocking=True)
    # Laid out anew: where there is one channel, strides of any array may be taken for another format.
    return pixels.to(torch.float32, memory_format=memory_format(device)).div_(255)


def as_stored(features: torch.Tensor, dtype: str) -> npt.NDArray[Any]:
    """Features in the type in which they are stored, checked to be finite."""
    with np.errstate(over="ignore"):  # reported below
        values = features.numpy().astype(dtype)
    if not np.isfinite(values).all():
        raise InputError(f"An embedding is not finite in {dtype}; store float32, or normalize the embeddings.")
    return values


def stored_batches(batches: Iterable[torch.Tensor], dtype: str, *, normalize: bool) -> Iterator[npt.NDArray[Any]]:
    """Batches of features as they are stored, divided by their lengths if `normalize` is set."""
    for features in batches:
        yield as_stored(nn.functional.normalize(features) if normalize else features, dtype)
