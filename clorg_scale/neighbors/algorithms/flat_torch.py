"""Exact search of blocks with torch: one matrix product and a top-k, on any device torch knows.

The way of a GPU where neither cuVS nor a GPU build of FAISS is installed, and wherever there are many features. There
the product is one of tensor cores, in fp16 or tf32: the search keeps more candidates, knows how far their keys may be
off, and measures them (`neighbors.exact`).
"""

from __future__ import annotations

import importlib.util
import math
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np

from clorg_scale.arrays import Array, array_module
from clorg_scale.arrays.products import TF32_ROUNDING, float32_products, rounded_to_tf32
from clorg_scale.errors import require
from clorg_scale.neighbors.exact import BlockSearch

__all__ = ["engine", "has_tensor_cores", "search_block", "smallest"]

SCORES = 1 << 28
"""Entries of one tile of scores (1 GiB of float32)."""

GROUP = 64
"""Scores of a group, of which only the smallest is looked at first: about the root of the scores of a row over k."""

KEY_ROUNDING = 2.1 * TF32_ROUNDING
"""Error of |y|^2 - 2 x.y, relative to |x|^2 + |y|^2, of coordinates rounded to 11 bits (tf32 and fp16 alike):
2 u (|x|^2 + |y|^2) >= 4 u |x| |y|; the sums in float32 are allowed a twentieth of it, which thousands of features stay
below."""

MARGIN = 32
"""Candidates beyond k of a search on tensor cores: in most data they span more than its rounding."""

LARGEST_EXPONENT = 14
"""Coordinates are scaled to below 2^14 for fp16, whose largest number is just below 2^16."""

LEAST_LENGTH = 2.0**-12
"""Of a scaled vector, over the root of its features: below it coordinates that fp16 holds as subnormal numbers, to
2^-25, would err by more than 11 bits allow."""


def has_tensor_cores() -> bool:
    """Whether torch is there and the GPU multiplies tf32: from compute capability 8.0 on."""
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return bool(torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0))


def engine() -> BlockSearch:
    """The search that fits the GPU."""
    require("torch", extra="cuda13", purpose="Searching neighbors on a GPU without cuVS or FAISS")
    if has_tensor_cores():
        return BlockSearch("flat(torch)", partial(search_block, tensor_cores=True), KEY_ROUNDING, MARGIN)
    return BlockSearch("flat(torch)", search_block)


def search_block(
    queries: Array,
    points: Array,
    k: int,
    inner_product: bool,  # noqa: FBT001
    *,
    tensor_cores: bool = False,
) -> tuple[Array, Array]:
    """Find the k best of `points` for each of `queries` (see `neighbors.exact.PairSearch`).

    With `tensor_cores`, of coordinates rounded to 11 bits: in fp16 where their range allows, else in tf32.
    """
    torch = require("torch", extra="train", purpose="Searching neighbors without cuVS or FAISS on this device")
    xp = array_module(queries)
    x, y = _tensor(torch, queries), _tensor(torch, points)
    keys = torch.empty((len(x), k), dtype=torch.float32, device=x.device)
    ids = torch.empty((len(x), k), dtype=torch.int64, device=x.device)
    norms = None if inner_product else (y * y).sum(1)
    rounded = _rounding(torch, x, y) if tensor_cores else _Rounding("ieee", 1.0)
    factor = rounded(torch, y)
    step = max(1, min(len(x), SCORES // len(y)))
    with float32_products("tf32" if tensor_cores else "ieee"):
        start = 0
        while start < len(x):
            rows = slice(start, start + step)
            try:
                scores = _scores(torch, rounded(torch, x[rows]), factor, norms, rounded.scale)
                keys[rows], ids[rows] = smallest(torch, scores, k)
            except torch.OutOfMemoryError:
                if step == 1:
                    raise
                step = -(-step // 2)
                continue
            if norms is not None:
                keys[rows] += (x[rows] * x[rows]).sum(1, keepdim=True)
            start += step
    return _back(xp, keys), _back(xp, ids)


def smallest(torch: Any, scores: Any, k: int) -> tuple[Any, Any]:
    """(b, k) smallest of every row of (b, m) scores and their columns, in any order.

    The k smallest lie in the k groups of columns whose own smallest are smallest: every other group has k numbers at
    most as large before all of its own. So all scores are read once, and only k groups of each row are searched.
    """
    whole = scores.shape[1] // GROUP * GROUP
    if whole < 4 * GROUP * k:
        return tuple(scores.topk(k, dim=1, largest=False, sorted=False))
    groups = scores[:, :whole].unflatten(1, (-1, GROUP))
    chosen = groups.amin(2).topk(k, dim=1, largest=False, sorted=False).indices
    some = groups.gather(1, chosen[:, :, None].expand(-1, -1, GROUP)).flatten(1)
    some = torch.cat([some, scores[:, whole:]], dim=1)
    keys, places = some.topk(k, dim=1, largest=False, sorted=False)
    within = (places // GROUP).clamp_(max=k - 1)
    columns = chosen.gather(1, within) * GROUP + places % GROUP
    return keys, torch.where(places < k * GROUP, columns, places + (whole - k * GROUP))


def _tensor(torch: Any, block: Array) -> Any:
    """Share the block's memory with a tensor; read-only memory is copied, as torch knows no such thing."""
    if isinstance(block, np.ndarray) and not block.flags.writeable:
        block = block.copy()
    # DLPack orders the streams of the two libraries; `as_tensor` would not.
    return torch.from_numpy(block) if isinstance(block, np.ndarray) else torch.from_dlpack(block)


class _Rounding(NamedTuple):
    """How coordinates enter the products, and the power of two that they are multiplied with."""

    mode: Literal["ieee", "tf32", "fp16"]
    scale: float

    def __call__(self, torch: Any, x: Any) -> Any:
        """Coordinates as the products take them."""
        if self.mode == "ieee":
            return x
        return rounded_to_tf32(x) if self.mode == "tf32" else (x * self.scale).to(torch.float16)


def _rounding(torch: Any, x: Any, y: Any) -> _Rounding:
    """Fp16, which tensor cores multiply twice as fast, unless some vector is too short beside the longest one."""
    if x.device.type != "cuda":
        return _Rounding("tf32", 1.0)
    lengths = torch.cat([torch.linalg.vector_norm(side, dim=1) for side in (x, y)])
    largest = float(torch.maximum(x.abs().amax(), y.abs().amax()))
    if not largest > 0:
        return _Rounding("tf32", 1.0)
    scale = 2.0 ** (LARGEST_EXPONENT - 1 - math.floor(math.log2(largest)))
    short = (lengths > 0) & (lengths * scale < LEAST_LENGTH * x.shape[1] ** 0.5)
    return _Rounding("tf32", 1.0) if bool(short.any()) else _Rounding("fp16", scale)


def _scores(torch: Any, x: Any, y: Any, norms: Any, scale: float) -> Any:
    """(b, m) float32: -x.y, or |y|^2 - 2 x.y, which orders a row as the squared distance does; unscaled again."""
    more = {"out_dtype": torch.float32} if x.dtype == torch.float16 else {}
    if norms is None:
        return torch.mm(x, y.T, **more).mul_(-(scale**-2))
    if more:
        return torch.mm(x, y.T, **more).mul_(-2 * scale**-2).add_(norms)
    return torch.addmm(norms[None, :], x, y.T, alpha=-2.0)


def _back(xp: Any, tensor: Any) -> Array:
    return tensor.numpy() if xp is np else xp.from_dlpack(tensor)
