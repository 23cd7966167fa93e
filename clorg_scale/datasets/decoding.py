"""Decoding of an image file to a square of 8-bit colors."""

from __future__ import annotations

import io
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays.memory import available_memory
from clorg_scale.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Encoded", "decode_square"]

LARGE_PIXELS = 1 << 26
"""Images with more pixels than this are decoded one at a time."""

DECODING_BYTES = 8
"""Memory that decoding takes per pixel: four bytes as read, and four for the copy in RGB."""

LONGEST = 16
"""Longest side of an image, in units of its shorter side; longer ones are cropped before resizing."""

_ONE_LARGE = threading.Lock()

_limit_lock = threading.Lock()
_limit_users = 0
_limit_before: int | None = None


class Encoded(NamedTuple):
    """Content of an image's file, and its name for messages."""

    content: bytes
    name: str


def decode_square(source: str | bytes, size: int, *, name: str = "") -> npt.NDArray[np.uint8]:
    """Decode an image, resize its shorter side to `size` pixels and crop the square in the middle.

    It is given by its path, or by its content with a name for messages.

    Unsigned integers of 12 and 16 bits are scaled by the range that the file declares. Signed integers, integers of 32
    bits and floats are refused: the file does not say which values are black and white.

    Returns
    -------
    (3, size, size) uint8.

    Raises
    ------
    InputError
        If the file cannot be read, holds values without a range, or does not fit in the free memory; names it.
    """
    from PIL import Image

    try:
        if isinstance(source, str) and not stat.S_ISREG(Path(source).stat().st_mode):
            raise InputError("it is not a regular file")
        file_or_path = source if isinstance(source, str) else io.BytesIO(source)
        with _without_pixel_limit(), Image.open(file_or_path) as file:
            file.draft("RGB", (size, size))
            with _memory_for(file.size):
                return _square(_in_rgb(file), size)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's readers raise a dozen kinds for a damaged file
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise InputError(
            f"The image {name or str(source)} cannot be read ({reason}); repair or remove it, or leave out such images "
            "with --skip-unreadable (load_images(..., skip_unreadable=True))."
        ) from error


def _square(image: Image.Image, size: int) -> npt.NDArray[np.uint8]:
    """Resize an image and crop its middle to (3, size, size)."""
    from PIL import Image

    image = _shortened(image)
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    image = image.resize((width, height), Image.Resampling.BILINEAR).crop((left, top, left + size, top + size))
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def _shortened(image: Image.Image) -> Image.Image:
    """Crop a very long image to its middle: resized as a whole, it would take a multiple of its memory."""
    longest = LONGEST * min(image.size)
    if max(image.size) <= longest:
        return image
    width, height = (min(side, longest) for side in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _in_rgb(file: Image.Image) -> Image.Image:
    """Convert an image to 8 bits per channel; values of more bits are scaled by their range, not clipped."""
    from PIL import Image

    mode = file.mode
    if mode == "F":
        raise InputError(
            "it holds floats, whose values for black and white are not known; save it as unsigned 8 or 16 bits"
        )
    if mode != "I" and not mode.startswith("I;"):
        return file.convert("RGB")
    tags: Any = getattr(file, "tag_v2", {})
    if mode == "I" and file.format not in ("PNG", "PPM"):  # these two have 16 bits at most
        kind = "signed integers" if np.max(tags.get(339, 1)) == 2 else "integers"  # SampleFormat
        n_bits = int(np.max(tags.get(258, 32)))  # BitsPerSample
        raise InputError(
            f"it holds {kind} of {n_bits} bits, whose values for black and white are not known; save it as unsigned 8 "
            "or 16 bits"
        )
    n_bits = int(np.max(tags.get(258, 16)))  # BitsPerSample
    values = np.asarray(file).astype(np.float32) * (255 / (2**n_bits - 1))
    if tags.get(262) == 0:  # PhotometricInterpretation: white is zero
        values = 255 - values
    return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8)).convert("RGB")


@contextmanager
def _memory_for(shape: tuple[int, int]) -> Iterator[None]:
    """Admit large images one at a time; refuse those that do not fit in memory."""
    n_pixels = shape[0] * shape[1]
    if n_pixels <= LARGE_PIXELS:
        yield
        return
    with _ONE_LARGE:
        needed, free = n_pixels * DECODING_BYTES, available_memory()
        if needed > free:
            raise InputError(
                f"its {shape[0]} x {shape[1]} pixels need {needed / 1e9:.1f} GB, but {free / 1e9:.1f} GB are free"
            )
        yield


@contextmanager
def _without_pixel_limit() -> Iterator[None]:
    """Lift Pillow's limit on pixels, which refuses valid images; `_memory_for` limits them by the free memory instead.

    The limit is global: the first thread that enters lifts it, and the last one that leaves restores it.
    """
    global _limit_users, _limit_before
    from PIL import Image

    with _limit_lock:
        if not _limit_users:
            _limit_before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        _limit_users += 1
    try:
        yield
    finally:
        with _limit_lock:
            _limit_users -= 1
            if not _limit_users:
                Image.MAX_IMAGE_PIXELS = _limit_before
