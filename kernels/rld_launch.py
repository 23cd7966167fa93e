"""Launches the tile kernels of exact RLD on torch tensors and adds up what the programs wrote."""

from __future__ import annotations

import os
from typing import Any

import torch
import triton
import triton.language as tl
from clorg_scale.kernels.rld_tiles import (
    CONFIGS,
    TileConfig,
    affinity_sums_kernel,
    kernel_sums_kernel,
    totals_kernel,
)

from clorg_scale.rld.exact.device_points import Panel
from clorg_scale.rld.exact.tiles_torch import NearPairs

__all__ = ["INTERPRETED", "affinity_sums", "buffer_bytes", "kernel_sums", "near_pairs", "over_parts", "tile_config"]

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
"""Triton runs the kernels in Python, on tensors in main memory."""

PRECISIONS = {
    "fp16": (torch.float16, "ieee", "two_programs"),
    "bf16": (torch.bfloat16, "ieee", "two_programs"),
    "tf32": (torch.float32, "tf32", "float32"),
    "tf32x3": (torch.float32, "tf32x3", "emulated"),
    "ieee": (torch.float32, "ieee", "emulated"),
}
"""Storage dtype, precision of the product and default tile of each input mode."""

TOTALS_BLOCK = 512
"""Sums of one program: each of its 128 threads reads 16 bytes at a time."""


def tile_config(precision: str, name: str | None = None) -> TileConfig:
    """The shape of a program for an input mode, or the one called `name` in `CONFIGS`."""
    return CONFIGS[name or PRECISIONS[precision][2]]


def buffer_bytes(n_rows: int, n_columns: int, n_sums: int, config: TileConfig) -> int:
    """Device memory that the partial sums of a pair of panels take."""
    row_blocks, strips = _blocks(n_rows, n_columns, config)
    return 4 * n_sums * (row_blocks * n_columns + strips * config.pieces * n_rows)


def kernel_sums(
    X: Panel, Y: Panel, rates: Any, forms: Any, *, precision: str, config: TileConfig, capacity: int
) -> tuple[Any, Any, Any, list[NearPairs]] | int:
    """Pass 1 of two panels.

    Parameters
    ----------
    X, Y
        Panels; the same one (equal `start`) for a panel with itself, of which pairs i < j count.
    rates, forms
        (t,) float32 c_t and (t,) int32, as `clorg_scale.kernels.rld_tiles` defines them.
    precision
        Key of `PRECISIONS`.
    capacity
        Tiles with near pairs that there is room for.

    Returns
    -------
    (2t, p) and (2t, q) float64 R, then D, of the rows and of the columns; S float64; the near pairs left out. Or,
    where the capacity was too small, the one needed.
    """
    t = len(rates)
    row_sums, column_sums, near = _buffers(X, Y, 2 * t, config, capacity)
    distance_sums = torch.empty(_blocks(len(X.x), len(Y.x), config), dtype=torch.float32, device=X.x.device)
    kernel_sums_kernel[_grid(X, Y, config)](
        X.x, Y.x, X.norms, Y.norms, rates, forms, row_sums, column_sums, distance_sums, *near, capacity,
        len(X.x), len(Y.x), X.x.shape[1], t, DIAGONAL=X.start == Y.start, **_constants(X, precision, config),
    )  # fmt: skip
    found = near_pairs(near, capacity, config.m, config.n)
    if isinstance(found, int):
        return found
    return *_total(row_sums, column_sums), distance_sums.sum(dtype=torch.float64), found


def affinity_sums(
    X: Panel, Y: Panel, x_weights: Any, y_weights: Any, rates: Any, forms: Any,
    *, safe: bool, precision: str, config: TileConfig, capacity: int,
) -> tuple[Any, Any, list[NearPairs]] | int:  # fmt: skip
    """Pass 2 of two panels.

    Parameters
    ----------
    x_weights, y_weights
        (t, p) and (t, q) float32: 1 / r, or log2 r where `safe`.

    Other parameters as in `kernel_sums`.

    Returns
    -------
    (2t, p) and (2t, q) float64: B, then W, of the rows and of the columns; the near pairs left out. Where not
    `safe`, still without the factor w of the row or column itself.
    """
    t = len(rates)
    labels = bool((X.codes[0] <= Y.codes[-1]) & (Y.codes[0] <= X.codes[-1]) & (X.codes[-1] >= 0))
    row_sums, column_sums, near = _buffers(X, Y, 2 * t if labels else t, config, capacity, clear=labels)
    affinity_sums_kernel[_grid(X, Y, config)](
        X.x, Y.x, X.norms, Y.norms, x_weights, y_weights, X.codes, Y.codes, rates, forms, row_sums, column_sums,
        *near, capacity, len(X.x), len(Y.x), X.x.shape[1], t,
        SAFE=safe, DIAGONAL=X.start == Y.start, LABELS=labels, **_constants(X, precision, config),
    )  # fmt: skip
    found = near_pairs(near, capacity, config.m, config.n)
    if isinstance(found, int):
        return found
    over_rows, over_columns = _total(row_sums, column_sums)
    if not labels:
        over_rows, over_columns = (torch.cat([sums, torch.zeros_like(sums)]) for sums in (over_rows, over_columns))
    return over_rows, over_columns, found


def _blocks(n_rows: int, n_columns: int, config: TileConfig) -> tuple[int, int]:
    return -(-n_rows // config.m), -(-n_columns // (config.n * config.run))


def _grid(X: Panel, Y: Panel, config: TileConfig) -> tuple[int]:
    row_blocks, strips = _blocks(len(X.x), len(Y.x), config)
    return (row_blocks * strips,)


def _constants(X: Panel, precision: str, config: TileConfig) -> dict[str, Any]:
    """Compile-time arguments; tensor descriptors where the copy engine is there and tensor cores read the tiles."""
    tma = precision != "ieee" and _has_copy_engine(X.x)
    if tma:
        triton.set_allocator(_scratch)
    return {
        "TMA": tma, "PRECISION": PRECISIONS[precision][1],
        "BLOCK_M": config.m, "BLOCK_N": config.n, "BLOCK_K": config.k,
        "PIECES": config.pieces, "RUN": config.run, "GROUP": config.group,
        "num_warps": config.warps, "num_stages": config.stages,
    }  # fmt: skip


def _has_copy_engine(x: Any) -> bool:
    """Whether the GPU copies tiles by descriptor, and Triton knows how (from 3.4 on)."""
    hopper = x.is_cuda and torch.cuda.get_device_capability(x.device) >= (9, 0)
    return bool(hopper and hasattr(tl, "make_tensor_descriptor"))


def _scratch(size: int, alignment: int, stream: int | None) -> Any:
    """Device memory for the tensor descriptors that a kernel makes."""
    return torch.empty(size, dtype=torch.int8, device="cuda")


def _buffers(
    X: Panel, Y: Panel, n_sums: int, config: TileConfig, capacity: int, *, clear: bool = False
) -> tuple[Any, Any, tuple[Any, Any, Any]]:
    """Places for every program's sums; cleared where some tiles write nothing."""
    device = X.x.device
    row_blocks, strips = _blocks(len(X.x), len(Y.x), config)
    row_sums = torch.zeros((strips * config.pieces, n_sums, len(X.x)), dtype=torch.float32, device=device)
    make = torch.zeros if clear or X.start == Y.start else torch.empty
    column_sums = make((row_blocks, n_sums, len(Y.x)), dtype=torch.float32, device=device)
    masks = torch.empty((capacity, config.m, config.n), dtype=torch.int8, device=device)
    places = torch.empty((capacity, 2), dtype=torch.int32, device=device)
    return row_sums, column_sums, (masks, places, torch.zeros(1, dtype=torch.int32, device=device))


def near_pairs(near: tuple[Any, Any, Any], capacity: int, m: int, n: int) -> list[NearPairs] | int:
    """The tiles with near pairs in a fixed order, or how many there are if too many."""
    masks, places, count = near
    found = int(count)
    if found > capacity:
        return found
    places = places[:found].long()
    order = torch.argsort(places[:, 0] * 2**31 + places[:, 1])
    return [NearPairs(masks[:found][order], places[order, 0] * m, places[order, 1] * n)] if found else []


def _total(row_sums: Any, column_sums: Any) -> tuple[Any, Any]:
    """What all programs wrote, added up in float64: (s, p) and (s, q)."""
    return over_parts(row_sums), over_parts(column_sums)


def over_parts(parts: Any) -> Any:
    """(p, s, n) float32 added up over the parts, in order and in float64."""
    totals = torch.empty(parts.shape[1:], dtype=torch.float64, device=parts.device)
    if totals.numel():
        grid = (-(-totals.numel() // TOTALS_BLOCK),)
        totals_kernel[grid](parts, totals, len(parts), totals.numel(), BLOCK=TOTALS_BLOCK, num_warps=4)
    return totals
