"""Images of a batch on a GPU: JPEG files decoded there (nvJPEG), resized and cropped there; other files by Pillow.

Pixels differ from Pillow's by rounding, and by a level or two where Pillow decodes a large file at a fraction of its
size. What nvJPEG would decode otherwise is left to Pillow: CMYK (ImageNet has some), files without an end, very large
images, and all files of a batch in which it finds an error, which is then reported as Pillow's is.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms.v2 import functional

from clorg_scale.datasets.decoding import LONGEST, Encoded, decode_square

__all__ = ["decode_squares"]

START, END = b"\xff\xd8", b"\xff\xd9"
"""Markers of a JPEG file. The end may be followed by a few bytes of a camera's."""

AFTER_END = 1 << 10

MOST_PIXELS = 1 << 22
"""Images with more pixels are left to Pillow: on the GPU a batch of 256 as large as this takes 3 GB."""


def decode_squares(images: Sequence[str | Encoded], size: int, device: torch.device, threads: Executor) -> torch.Tensor:
    """Decode images as `clorg_scale.datasets.decoding.decode_square` does: (b, 3, size, size) uint8 on the device.

    They are given by their paths or their contents. Files are read, and those of Pillow decoded, by the threads.

    Raises
    ------
    InputError
        As that does.
    """
    read = list(threads.map(lambda image: _encoded(image) or _by_pillow(image, size), images))
    which = [row for row, found in enumerate(read) if isinstance(found, bytes)]
    decoded = _decoded([read[row] for row in which], device)
    if decoded is None:
        for row, square in zip(which, threads.map(lambda row: _by_pillow(images[row], size), which), strict=True):
            read[row] = square
        which, decoded = [], []
    out = torch.empty((len(images), 3, size, size), dtype=torch.uint8, device=device)
    for row, image in zip(which, decoded, strict=True):
        out[row] = _square(image, size)
    others = sorted(set(range(len(images))) - set(which))
    if others:
        out[others] = torch.from_numpy(np.stack([_array(read[row]) for row in others])).to(device)
    return out


def _by_pillow(image: str | Encoded, size: int) -> npt.NDArray[np.uint8]:
    if isinstance(image, Encoded):
        return decode_square(image.content, size, name=image.name)
    return decode_square(image, size)


def _encoded(image: str | Encoded) -> bytes | None:
    """Bytes of a JPEG file that nvJPEG decodes as Pillow does; None for any other."""
    from PIL import Image

    try:
        if isinstance(image, Encoded):
            content = image.content
        else:
            content = Path(image).read_bytes() if Path(image).is_file() else b""
        if not content.startswith(START) or END not in content[-AFTER_END:]:
            return None
        with Image.open(io.BytesIO(content)) as header:
            usual = header.mode in ("RGB", "L") and header.width * header.height <= MOST_PIXELS
    except Exception:  # Pillow, which raises a dozen kinds, reports it when it decodes the file
        return None
    return content if usual else None


def _decoded(contents: list[Any], device: torch.device) -> list[torch.Tensor] | None:
    """(3, h, w) of each; None if one of them cannot be decoded."""
    if not contents:
        return []
    try:
        encoded = [torch.frombuffer(bytearray(content), dtype=torch.uint8) for content in contents]
        return list(decode_jpeg(encoded, ImageReadMode.RGB, device=device))
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:  # what torchvision makes of nvJPEG's errors
        return None


def _square(image: torch.Tensor, size: int) -> torch.Tensor:
    """Resize the shorter side of (3, h, w) to `size`, antialiased as Pillow does, and crop the middle."""
    height, width = (min(side, LONGEST * min(image.shape[1:])) for side in image.shape[1:])
    image = _middle(image, height, width)
    scale = size / min(height, width)
    shape = [max(size, round(side * scale)) for side in (height, width)]
    return _middle(functional.resize(image, shape, antialias=True), size, size)


def _middle(image: torch.Tensor, height: int, width: int) -> torch.Tensor:
    top, left = (image.shape[1] - height) // 2, (image.shape[2] - width) // 2
    return image[:, top : top + height, left : left + width]


def _array(square: Any) -> npt.NDArray[np.uint8]:
    assert isinstance(square, np.ndarray)
    return square
