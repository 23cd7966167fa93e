"""Batches of images, the next ones read while one is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from clorg_scale.datasets.images import ImageFiles, ImageSet

__all__ = ["prefetched"]

AHEAD = 3
"""Batches that are read ahead: one that takes long to decode is made up for by the others."""


def prefetched(images: ImageSet, batches: Iterable[npt.NDArray[np.int64]], device: Any = None) -> Iterator[Any]:
    """Read images batch by batch, some batches ahead.

    Parameters
    ----------
    images
        Images to read.
    batches
        Rows of each batch.
    device
        `torch.device` on which they are used: a GPU decodes files itself.

    Yields
    ------
    (b, c, h, w) uint8 of each batch, in order: arrays, tensors on the GPU where that decoded them.
    """
    read: Any = images.batch
    if isinstance(images, ImageFiles) and device is not None and device.type == "cuda":
        read = partial(images.batch_on, device=device)
    coming: deque[Future[Any]] = deque()
    with ThreadPoolExecutor(1) as reader:
        try:
            for rows in batches:
                coming.append(reader.submit(read, rows))
                if len(coming) > AHEAD:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
        finally:
            for waiting in coming:
                waiting.cancel()
