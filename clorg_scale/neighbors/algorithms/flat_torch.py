"""Exact search of blocks with torch: one matrix product and a top-k, on any device torch knows.

Used on a GPU where neither cuVS nor a GPU build of FAISS is installed, and wherever there are many features. Tensor
cores then compute the product, in fp16 or tf32: the search keeps more candidates, knows the bound of the error of their
keys, and measures them (`neighbors.exact`).
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from clorg_scale.arrays import Array, array_module
from clorg_scale.errors import require
from clorg_scale.neighbors.exact import BlockSearch
from clorg_scale.numerics.products import TF32_ROUNDING, float32_products, rounded_to_tf32

__all__ = ["engine", "has_tensor_cores", "search_block", "smallest"]

Scores = Callable[[Any], Any]
"""(b, d) queries -> (b, m) float32."""

SCORES = 1 << 28
"""Entries of one tile of scores (1 GiB of float32)."""

GROUP = 64
"""Scores of a group, of which only the smallest is compared at first: about the root of the scores of a row over k."""

KEY_ROUNDING = 2.1 * TF32_ROUNDING
"""Error of |y|^2 - 2 x.y, relative to |x|^2 + |y|^2, of coordinates rounded to 11 bits (tf32 and fp16 alike):
2 u (|x|^2 + |y|^2) >= 4 u |x| |y|; the sums in float32 are allowed a twentieth of it, which thousands of features stay
below."""

MARGIN = 32
"""Candidates beyond k of a search on tensor cores; in most data they span more than its rounding errors."""

LONGEST = 14
"""The longest vector is scaled to a length of 2^14 to 2^15 for fp16, whose largest number is just below 2^16."""

LEAST_LENGTH = 2.0**-12
"""Least length of a scaled vector over the root of its features: below it coordinates that fp16 holds as subnormal
numbers, to 2^-25, would err by more than 11 bits allow."""

PIECES = (2.0**14, 2.0**3, 2.0**-8)
"""Half a squared length, below 2^29, is the sum of fp16 numbers times these: 33 bits of it."""


def has_tensor_cores() -> bool:
    """Whether torch is installed and the GPU multiplies tf32: from compute capability 8.0 on."""
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
    scores_of, unit = _products(torch, x, y, inner_product=inner_product, tensor_cores=tensor_cores)
    step = max(1, min(len(x), SCORES // len(y)))
    with float32_products("tf32" if tensor_cores else "ieee"):
        start = 0
        while start < len(x):
            rows = slice(start, start + step)
            try:
                keys[rows], ids[rows] = smallest(torch, scores_of(x[rows]), k)
            except torch.OutOfMemoryError:
                if step == 1:
                    raise
                step = -(-step // 2)
                continue
            if unit != 1:
                keys[rows] *= unit
            if not inner_product:
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
    keys, positions = some.topk(k, dim=1, largest=False, sorted=False)
    within = (positions // GROUP).clamp_(max=k - 1)
    columns = chosen.gather(1, within) * GROUP + positions % GROUP
    return keys, torch.where(positions < k * GROUP, columns, positions + (whole - k * GROUP))


def _tensor(torch: Any, block: Array) -> Any:
    """Share the block's memory with a tensor; read-only memory is copied, as torch does not support it."""
    if isinstance(block, np.ndarray) and not block.flags.writeable:
        block = block.copy()
    # DLPack orders the streams of the two libraries; `as_tensor` would not.
    return torch.from_numpy(block) if isinstance(block, np.ndarray) else torch.from_dlpack(block)


def _products(torch: Any, x: Any, y: Any, *, inner_product: bool, tensor_cores: bool) -> tuple[Scores, float]:
    """Function that computes the scores of some of x against y, (b, m) float32, and their unit.

    They are -x.y, or |y|^2 - 2 x.y, which orders a row as the squared distance does.
    """
    norms = None if inner_product else (y * y).sum(1)
    scale = _half_scale(torch, x, y) if tensor_cores else None
    if scale is not None:
        return _half_products(torch, y, norms, scale)
    rounded = rounded_to_tf32 if tensor_cores else lambda side: side
    factor = rounded(y).T
    if norms is None:
        return lambda some: (rounded(some) @ factor).neg_(), 1.0
    return lambda some: torch.addmm(norms[None, :], rounded(some), factor, alpha=-2.0), 1.0


def _half_products(torch: Any, y: Any, norms: Any, scale: float) -> tuple[Scores, float]:
    """Scores of coordinates in fp16; the squared lengths are three more features, so that nothing need be added."""

    def half(side: Any, more: list[Any]) -> Any:
        """(b, d + more, to a multiple of 8) scaled coordinates, and columns beside them."""
        out = torch.zeros((len(side), -(-(side.shape[1] + len(more)) // 8) * 8), dtype=torch.float16, device=y.device)
        out[:, : side.shape[1]] = side * scale
        for column, values in enumerate(more, side.shape[1]):
            out[:, column] = values
        return out

    pieces: list[Any] = []
    if norms is not None:
        rest = norms.double() * (scale**2 / 2)
        for unit in PIECES:
            pieces.append((rest / unit).half())
            rest = rest - pieces[-1].double() * unit
    factor = half(y, pieces).T
    units = list(PIECES[: len(pieces)])
    unit_of_scores = scale**-2 * (1 if norms is None else 2)
    return lambda some: torch.mm(half(-some, units), factor, out_dtype=torch.float32), unit_of_scores


def _half_scale(torch: Any, x: Any, y: Any) -> float | None:
    """The power of two for fp16, which tensor cores multiply twice as fast as tf32; None where the range is too wide.

    That is where a vector is so much shorter than the longest one that its coordinates would be subnormal.
    """
    if y.device.type != "cuda":
        return None
    lengths = torch.cat([torch.linalg.vector_norm(side, dim=1) for side in (x, y)])
    longest = float(lengths.max())
    if not longest > 0:
        return None
    scale = 2.0 ** (LONGEST - math.floor(math.log2(longest)))
    short = (lengths > 0) & (lengths * scale < LEAST_LENGTH * x.shape[1] ** 0.5)
    return None if bool(short.any()) else scale


def _back(xp: Any, tensor: Any) -> Array:
    return tensor.numpy() if xp is np else xp.from_dlpack(tensor)
