"""Work on images that benchmarks time: embedding and training by ours, and the network alone."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

__all__ = ["alone", "as_files", "backbone", "default_device", "embed", "train"]


def backbone(images: Any, width: int) -> Any:
    """A resnet18 for the images."""
    from clorg_scale import backbones

    return backbones.build("resnet18", n_channels=images.n_channels, image_size=images.image_size, width=width)


def default_device() -> Any:
    """The GPU if there is one."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def as_files(images: Any, folder: str) -> Any:
    """The same images as JPEG files, in one class."""
    from PIL import Image

    from clorg_scale.datasets import load_images

    inside = Path(folder) / "class"
    inside.mkdir()
    for i, pixels in enumerate(images.batch(range(len(images)))):
        Image.fromarray(pixels[0]).convert("RGB").resize((256, 256)).save(inside / f"{i:06}.jpg", quality=90)
    return load_images(folder, image_size=224)


def embed(images: Any, width: int, batch: int) -> None:
    """Embed all images."""
    from clorg_scale import backbones

    with tempfile.TemporaryDirectory() as folder:
        backbones.embed(backbone(images, width), images, out=f"{folder}/e", batch_size=batch)


def train(method: str, images: Any, width: int, batch: int) -> None:
    """Train for one epoch."""
    from clorg_scale import backbones

    backbones.train(images, backbone(images, width), method=method, epochs=1, batch_size=batch)


def alone(images: Any, width: int, batch: int, *, train: bool) -> None:
    """Take as many steps as there are batches, all on the first batch."""
    import numpy as np
    import torch
    from torch import nn

    from clorg_scale.backbones.features import to_pixels
    from clorg_scale.backbones.memory import memory_format

    device = default_device()
    network = backbone(images, width).to(device, memory_format=memory_format(device)).train(train)
    pixels = to_pixels(images.batch(np.arange(min(batch, len(images)))), device)
    labels = torch.from_numpy(images.labels[: len(pixels)]).to(device)
    head = nn.Linear(network(pixels[:2]).shape[1], len(images.classes)).to(device)
    optimizer = torch.optim.AdamW([*network.parameters(), *head.parameters()], lr=1e-3)
    mixed = torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")
    for _ in range(-(-len(images) // len(pixels))):
        if not train:
            with torch.inference_mode(), mixed:
                network(pixels).float().cpu()
            continue
        with mixed:
            loss = nn.functional.cross_entropy(head(network(pixels)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if device.type == "cuda":
        torch.cuda.synchronize()
