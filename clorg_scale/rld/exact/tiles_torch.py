"""Tiles of exact RLD with plain torch operations: the way on any device without Triton, and in float64.

The same two functions with the same results as `clorg_scale.kernels.rld_launch`, which has the mathematics. Each
step of a tile goes through memory, about ten reads and writes of 4 bytes an element and temperature.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from clorg_scale.rld.exact.device_points import Panel

__all__ = ["NEAR", "TILE_BYTES", "NearPairs", "affinity_sums", "kernel_sums"]

NEAR = 1e-3
"""Pairs with d^2 below this share of n_i + n_j are recomputed from their coordinates."""

TILE_BYTES = {"cuda": 128 << 20, "cpu": 4 << 20}
"""Bytes of a tile of distances, of which some eight are in use at once: large against the launch of an operation, or
half of a second-level cache."""


class NearPairs(NamedTuple):
    """Tiles with pairs that were left out: masks (m, tile rows, tile columns), first row and column of each."""

    masks: Any
    rows: Any
    columns: Any


class _Tile(NamedTuple):
    """Distances of some rows to all columns; infinite where the pair does not count here."""

    rows: slice
    distance: Any


def kernel_sums(X: Panel, Y: Panel, rates: Any, forms: Any) -> tuple[Any, Any, Any, list[NearPairs]]:
    """Pass 1 of two panels: (2t, p) and (2t, q) float64 R, then D; S; the near pairs left out."""
    import torch

    t = len(rates)
    over_rows, over_columns = (torch.zeros((2 * t, len(P.x)), dtype=torch.float64, device=P.x.device) for P in (X, Y))
    total = torch.zeros((), dtype=torch.float64, device=X.x.device)
    left_out: list[NearPairs] = []
    for tile in _tiles(X, Y, left_out):
        distance = tile.distance.masked_fill(tile.distance.isinf(), 0)
        total += distance.sum(dtype=torch.float64)
        e = tile.distance
        for number, (rate, form) in enumerate(zip(rates.tolist(), forms.tolist(), strict=True)):
            e = e.square() if form == 2 else torch.exp2(tile.distance * rate)
            weighted = e * distance
            for place, values in ((number, e), (t + number, weighted)):
                over_rows[place, tile.rows] += values.sum(1, dtype=torch.float64)
                over_columns[place] += values.sum(0, dtype=torch.float64)
    return over_rows, over_columns, total, left_out


def affinity_sums(
    X: Panel, Y: Panel, x_weights: Any, y_weights: Any, rates: Any, forms: Any, *, safe: bool
) -> tuple[Any, Any, list[NearPairs]]:
    """Pass 2 of two panels: (2t, p) and (2t, q) float64 B, then W; the near pairs left out."""
    import torch

    t = len(rates)
    over_rows, over_columns = (torch.zeros((2 * t, len(P.x)), dtype=torch.float64, device=P.x.device) for P in (X, Y))
    left_out: list[NearPairs] = []
    for tile in _tiles(X, Y, left_out):
        codes = X.codes[tile.rows, None]
        same = (codes == Y.codes) & (codes >= 0)
        q = tile.distance
        for number, (rate, form) in enumerate(zip(rates.tolist(), forms.tolist(), strict=True)):
            wi, wj = x_weights[number, tile.rows, None], y_weights[number]
            if safe:
                q = torch.exp2(2 * rate * tile.distance - (wi + wj))
                a_rows = a_columns = q
            else:
                q = q.square() if form == 2 else torch.exp2(2 * rate * tile.distance)
                a_rows, a_columns = q * wj, q * wi
            for a, into, rows, axis in ((a_rows, over_rows, tile.rows, 1), (a_columns, over_columns, slice(None), 0)):
                within = torch.where(same, a, 0)
                into[number, rows] += (a - within).sum(axis, dtype=torch.float64)
                into[t + number, rows] += within.sum(axis, dtype=torch.float64)
    return over_rows, over_columns, left_out


def _tiles(X: Panel, Y: Panel, left_out: list[NearPairs]) -> Iterator[_Tile]:
    """Blocks of rows against all columns; appends to `left_out` where pairs are near."""
    import torch

    step = max(1, TILE_BYTES[X.x.device.type] // (len(Y.x) * X.norms.element_size()))
    columns = Y.x.to(X.norms.dtype)
    for start in range(0, len(X.x), step):
        rows = slice(start, min(len(X.x), start + step))
        total = X.norms[rows, None] + Y.norms
        square = torch.addmm(total, X.x[rows].to(X.norms.dtype), columns.T, alpha=-2)
        near = square < NEAR * total
        skipped = near.clone()
        if X.start == Y.start:
            first = torch.arange(rows.start, rows.stop, device=X.x.device)[:, None]
            lower = torch.arange(len(Y.x), device=X.x.device) <= first
            near &= ~lower
            skipped |= lower
        if bool(near.any()):
            place = torch.tensor([[start], [0]], device=X.x.device)
            left_out.append(NearPairs(near[None], place[0], place[1]))
        yield _Tile(rows, square.clamp_min_(0).sqrt_().masked_fill_(skipped, float("inf")))
