"""Blocks of embeddings that do not fit the GPU: read, copied and searched at the same time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from clorg_scale.arrays import Array

__all__ = ["on_device"]


def on_device(blocks: Iterable[Array]) -> Iterator[Array]:
    """Copies on the GPU of blocks in main memory, the next one on its way while one is used.

    The memory of a block is reused for the one after the next, so its user must wait for the device before asking for
    more.
    """
    import cupy

    stream, device = cupy.cuda.Stream(non_blocking=True), cupy.cuda.runtime.getDevice()
    waiting = iter(blocks)

    def load() -> Array | None:
        # The current device and stream are those of one thread only.
        with cupy.cuda.Device(device), stream:
            block = next(waiting, None)
            return None if block is None else _copied(block, stream)

    with ThreadPoolExecutor(1) as loader:
        coming = loader.submit(load)
        while (block := coming.result()) is not None:
            coming = loader.submit(load)
            yield block


def _copied(block: Array, stream: Any) -> Array:
    """A copy through pinned memory, which the device reads several times as fast as other memory."""
    import cupy
    import cupyx

    pinned = cupyx.empty_pinned(block.shape, block.dtype)
    pinned[...] = block
    copy = cupy.empty(block.shape, block.dtype)
    copy.set(pinned, stream=stream)
    stream.synchronize()  # CuPy reuses pinned memory without waiting for copies out of it
    return copy
