"""Batches of images, the next one read while this one is used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from clorg_scale.datasets.images import ImageSet

__all__ = ["prefetched"]


def prefetched(images: ImageSet, batches: Iterable[npt.NDArray[np.int64]]) -> Iterator[npt.NDArray[np.uint8]]:
    """Read images batch by batch, one batch ahead.

    Parameters
    ----------
    images
        Images to read.
    batches
        Rows of each batch.

    Yields
    ------
    (b, c, h, w) of each batch, in order.
    """
    with ThreadPoolExecutor(1) as reader:
        waiting = None
        for rows in batches:
            ready, waiting = waiting, reader.submit(images.batch, rows)
            if ready is not None:
                yield ready.result()
        if waiting is not None:
            yield waiting.result()
