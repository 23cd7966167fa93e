"""Exact search of blocks with torch: one matrix product and a top-k, on any device torch knows.

The way of a GPU where neither cuVS nor a GPU build of FAISS is installed, and wherever there are many features. There
the product is one of tensor cores, in tf32: the search keeps more candidates, knows how far their keys may be off, and
measures them (`neighbors.exact`).
"""

from __future__ import annotations

import importlib.util
from functools import partial
from typing import Any

import numpy as np

from clorg_scale.arrays import Array, array_module
from clorg_scale.arrays.products import TF32_ROUNDING, float32_products, rounded_to_tf32
from clorg_scale.errors import require
from clorg_scale.neighbors.exact import BlockSearch

__all__ = ["engine", "has_tensor_cores", "search_block"]

SCORES = 1 << 28
"""Entries of one tile of scores (1 GiB of float32)."""

KEY_ROUNDING = 2.1 * TF32_ROUNDING
"""Error of |y|^2 - 2 x.y, relative to |x|^2 + |y|^2, of rounded coordinates: 2 u (|x|^2 + |y|^2) >= 4 u |x| |y|; the
sums in float32 are allowed a twentieth of it, which thousands of features stay below."""

MARGIN = 32
"""Candidates beyond k of a search in tf32: in most data they span more than its rounding."""


def has_tensor_cores() -> bool:
    """Whether torch is there and the GPU multiplies tf32: from compute capability 8.0 on."""
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return bool(torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0))


def engine() -> BlockSearch:
    """The search that fits the GPU."""
    require("torch", extra="cuda13", purpose="Searching neighbours on a GPU without cuVS or FAISS")
    if has_tensor_cores():
        return BlockSearch("flat(torch)", partial(search_block, tf32=True), KEY_ROUNDING, MARGIN)
    return BlockSearch("flat(torch)", search_block)


def search_block(
    queries: Array,
    points: Array,
    k: int,
    inner_product: bool,  # noqa: FBT001
    *,
    tf32: bool = False,
) -> tuple[Array, Array]:
    """Find the k best of `points` for each of `queries` (see `neighbors.exact.PairSearch`)."""
    torch = require("torch", extra="train", purpose="Searching neighbours without cuVS or FAISS on this device")
    xp = array_module(queries)
    x, y = _tensor(torch, queries), _tensor(torch, points)
    keys = torch.empty((len(x), k), dtype=torch.float32, device=x.device)
    ids = torch.empty((len(x), k), dtype=torch.int64, device=x.device)
    norms = None if inner_product else (y * y).sum(1)
    factor = rounded_to_tf32(y) if tf32 else y
    step = max(1, min(len(x), SCORES // len(y)))
    with float32_products("tf32" if tf32 else "ieee"):
        start = 0
        while start < len(x):
            rows = slice(start, start + step)
            try:
                scores = _scores(torch, rounded_to_tf32(x[rows]) if tf32 else x[rows], factor, norms)
                keys[rows], ids[rows] = scores.topk(k, dim=1, largest=False, sorted=False)
            except torch.OutOfMemoryError:
                if step == 1:
                    raise
                step = -(-step // 2)
                continue
            if norms is not None:
                keys[rows] += (x[rows] * x[rows]).sum(1, keepdim=True)
            start += step
    return _back(xp, keys), _back(xp, ids)


def _tensor(torch: Any, block: Array) -> Any:
    """Share the block's memory with a tensor; read-only memory is copied, as torch knows no such thing."""
    if isinstance(block, np.ndarray) and not block.flags.writeable:
        block = block.copy()
    # DLPack orders the streams of the two libraries; `as_tensor` would not.
    return torch.from_numpy(block) if isinstance(block, np.ndarray) else torch.from_dlpack(block)


def _scores(torch: Any, x: Any, y: Any, norms: Any) -> Any:
    """(b, m): -x.y, or |y|^2 - 2 x.y, which orders a row as the squared distance does."""
    if norms is None:
        return (x @ y.T).neg_()
    return torch.addmm(norms[None, :], x, y.T, alpha=-2.0)


def _back(xp: Any, tensor: Any) -> Array:
    return tensor.numpy() if xp is np else xp.from_dlpack(tensor)
