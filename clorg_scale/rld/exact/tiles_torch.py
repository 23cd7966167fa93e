"""Tiles of exact RLD in plain torch operations, for devices without Triton and for float64.

The two functions that `clorg_scale.kernels.rld_panels` describes; `clorg_scale.kernels.rld_tiles` has the mathematics.
Each step of a tile goes through memory, about ten reads and writes of 4 bytes an element and temperature.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

from clorg_scale.kernels.rld_panels import AffinitySums, Exponents, KernelSums, Launch, NearPairs, Panel, Weights

__all__ = ["TILE_BYTES", "affinity_sums", "kernel_sums"]

TILE_BYTES = {"cuda": 128 << 20, "cpu": 4 << 20}
"""Bytes of a tile of distances, of which some eight are in use at once: large against the launch of an operation, or
half of a second-level cache."""


class _Tile(NamedTuple):
    """Distances of some rows to all columns; infinite where the pair does not count here."""

    rows: slice
    distance: Any


def kernel_sums(X: Panel, Y: Panel, exponents: Exponents, launch: Launch) -> KernelSums:
    """Pass 1 of two panels."""
    t = len(exponents.rates)
    over_rows, over_columns = _zeros(X, Y, t)
    total = torch.zeros((), dtype=torch.float64, device=X.x.device)
    left_out: list[NearPairs] = []
    for tile in _tiles(X, Y, launch.near, left_out):
        distance = tile.distance.masked_fill(tile.distance.isinf(), 0)
        total += distance.sum(dtype=torch.float64)
        e = tile.distance
        for number, (rate, root) in enumerate(_by_temperature(exponents)):
            e = e.square() if root >= 0 else torch.exp2(tile.distance * rate)
            weighted = e * distance
            for row, values in ((number, e), (t + number, weighted)):
                over_rows[row, tile.rows] += values.sum(1, dtype=torch.float64)
                over_columns[row] += values.sum(0, dtype=torch.float64)
    return KernelSums(over_rows, over_columns, total, left_out)


def affinity_sums(X: Panel, Y: Panel, exponents: Exponents, weights: Weights, launch: Launch) -> AffinitySums:
    """Pass 2 of two panels."""
    t = len(exponents.rates)
    over_rows, over_columns = _zeros(X, Y, t)
    left_out: list[NearPairs] = []
    for tile in _tiles(X, Y, launch.near, left_out):
        codes = X.codes[tile.rows, None]
        same = (codes == Y.codes) & (codes >= 0)
        q = tile.distance
        for number, (rate, root) in enumerate(_by_temperature(exponents)):
            wi, wj = weights.rows[number, tile.rows, None], weights.columns[number]
            if weights.log_space:
                q = torch.exp2(2 * rate * tile.distance - (wi + wj))
                a_rows = a_columns = q
            else:
                q = q.square() if root >= 0 else torch.exp2(2 * rate * tile.distance)
                a_rows, a_columns = q * wj, q * wi
            for a, into, rows, axis in ((a_rows, over_rows, tile.rows, 1), (a_columns, over_columns, slice(None), 0)):
                within = torch.where(same, a, 0)
                into[number, rows] += (a - within).sum(axis, dtype=torch.float64)
                into[t + number, rows] += within.sum(axis, dtype=torch.float64)
    return AffinitySums(over_rows, over_columns, left_out)


def _zeros(X: Panel, Y: Panel, t: int) -> tuple[Any, Any]:
    """(2t, p) and (2t, q) float64."""
    over_rows, over_columns = (
        torch.zeros((2 * t, len(panel.x)), dtype=torch.float64, device=panel.x.device) for panel in (X, Y)
    )
    return over_rows, over_columns


def _by_temperature(exponents: Exponents) -> Iterator[tuple[float, int]]:
    return zip(exponents.rates.tolist(), exponents.square_of.tolist(), strict=True)


def _tiles(X: Panel, Y: Panel, near_share: float, left_out: list[NearPairs]) -> Iterator[_Tile]:
    """Blocks of rows against all columns; appends to `left_out` where pairs are near."""
    step = max(1, TILE_BYTES[X.x.device.type] // (len(Y.x) * X.norms.element_size()))
    columns = Y.x.to(X.norms.dtype)
    for start in range(0, len(X.x), step):
        rows = slice(start, min(len(X.x), start + step))
        total = X.norms[rows, None] + Y.norms
        square = torch.addmm(total, X.x[rows].to(X.norms.dtype), columns.T, alpha=-2)
        near = square < near_share * total
        skipped = near.clone()
        if X.start == Y.start:
            first = torch.arange(rows.start, rows.stop, device=X.x.device)[:, None]
            lower = torch.arange(len(Y.x), device=X.x.device) <= first
            near &= ~lower
            skipped |= lower
        if bool(near.any()):
            origin = torch.tensor([[start], [0]], device=X.x.device)
            left_out.append(NearPairs(near[None], origin[0], origin[1]))
        yield _Tile(rows, square.clamp_min_(0).sqrt_().masked_fill_(skipped, float("inf")))
