"""Blocks of embeddings that do not fit the GPU: read, copied and searched at the same time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from clorg_scale.arrays import Array

__all__ = ["on_device"]


def on_device(blocks: Iterable[Array]) -> Iterator[Array]:
    """Copies on the GPU of blocks in main memory, the next one on its way while one is used.

    A block's memory is taken again for the one after the next: whoever used it must have waited for the device.
    """
    import cupy

    stream, device = cupy.cuda.Stream(non_blocking=True), cupy.cuda.runtime.getDevice()
    waiting = iter(blocks)

    def load() -> Array | None:
        # What is current is so in one thread only.
        with cupy.cuda.Device(device), stream:
            block = next(waiting, None)
            return None if block is None else _copied(block, stream)

    with ThreadPoolExecutor(1) as loader:
        coming = loader.submit(load)
        while (here := coming.result()) is not None:
            coming = loader.submit(load)
            yield here


def _copied(block: Array, stream: Any) -> Array:
    """A copy through pinned memory, which the device reads at several times the rate of other."""
    import cupy
    import cupyx

    pinned = cupyx.empty_pinned(block.shape, block.dtype)
    pinned[...] = block
    copy = cupy.empty(block.shape, block.dtype)
    copy.set(pinned, stream=stream)
    stream.synchronize()  # CuPy gives pinned memory out again without waiting for copies out of it
    return copy
