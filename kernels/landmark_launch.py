"""Launches the landmark kernel of sampled RLD on torch tensors."""

from __future__ import annotations

from typing import Any

import torch
from clorg_scale.kernels.rld_landmarks import landmark_sums_kernel
from clorg_scale.kernels.rld_launch import PRECISIONS, tile_config
from clorg_scale.kernels.rld_tiles import TileConfig

from clorg_scale.rld.device_points import Panel

__all__ = ["landmark_sums"]

COLUMNS = 32
"""Columns of weights that a product takes, the rest of them zero."""


def landmark_sums(
    X: Panel, Y: Panel, rates: Any, shifts: tuple[Any, Any], weights: Any, skip: Any,
    *, same_class: bool, precision: str, config: TileConfig | None = None,
) -> tuple[Any, Any | None]:  # fmt: skip
    """Weighted kernel sums of all rows against all landmarks.

    Parameters
    ----------
    X, Y
        Rows and landmarks.
    rates
        (t,) float32 c_t.
    shifts
        (t, p) a and (t, m) b, float32, added to the exponents.
    weights
        (t, m, g) or, for all temperatures, (1, m, g) float32; g <= 32.
    skip
        (s, 2) int64 pairs (row, landmark) within the panels that do not count: the point itself, the near field.
    same_class
        Whether the sums over landmarks of the row's own class are wanted too.
    precision
        Input mode of the products (see `clorg_scale.rld.device_points.PRECISIONS`).

    Returns
    -------
    (t, p, g) float32 sums over all landmarks, and over those of the same class (None where not wanted).
    """
    config = config or tile_config(precision, "landmarks" if X.x.element_size() == 2 else "landmarks_float32")
    t, n, m, g = len(rates), len(X.x), len(Y.x), weights.shape[2]
    device = X.x.device
    padded = torch.zeros((len(weights), m, COLUMNS), dtype=torch.float32, device=device)
    padded[:, :, :g] = weights
    total = torch.zeros((t, n, COLUMNS), dtype=torch.float32, device=device)
    own = torch.zeros_like(total) if same_class else total
    starts, skip = _by_tile(skip, n, m, config)
    landmark_sums_kernel[(-(-n // config.m),)](
        X.x, Y.x, X.norms, Y.norms, shifts[0].contiguous(), shifts[1].contiguous(), X.codes, Y.codes,
        rates, padded, m * COLUMNS if len(weights) > 1 else 0, starts, skip[:, 0].contiguous(), skip[:, 1].contiguous(),
        total, own, n, m, X.x.shape[1], t,
        SAME=same_class, PRECISION=PRECISIONS[precision][1], BLOCK_M=config.m, BLOCK_N=config.n, BLOCK_K=config.k,
        PIECES=config.pieces, G=COLUMNS, num_warps=config.warps, num_stages=config.stages,
    )  # fmt: skip
    return total[:, :, :g], own[:, :, :g] if same_class else None


def _by_tile(skip: Any, n: int, m: int, config: TileConfig) -> tuple[Any, Any]:
    """Where each tile's pairs begin, and the pairs in the order of the tiles."""
    row_blocks, blocks = -(-n // config.m), -(-m // config.n)
    tiles = skip[:, 0] // config.m * blocks + skip[:, 1] // config.n
    order = torch.argsort(tiles, stable=True)
    bounds = torch.arange(row_blocks * blocks + 1, device=skip.device)
    return torch.searchsorted(tiles[order], bounds).int(), skip[order].int()
