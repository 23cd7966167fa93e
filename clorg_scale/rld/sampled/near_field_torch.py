"""The near field of sampled RLD on a device: the sums of `clorg_scale.rld.sampled.near_field`, made with torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

from clorg_scale.numerics.segments import run_reduce, run_sums
from clorg_scale.rld.exact.device_points import on_device
from clorg_scale.rld.sampled.near_field import NearField
from clorg_scale.rld.sampled.tile_order import ROWS

__all__ = ["NearLandmarks", "TorchNearField"]

ENTRIES = 1 << 21
"""Pairs summed at once; each takes about 30 bytes a temperature."""


class _Entries(NamedTuple):
    """The pairs of some consecutive points: slice of the points, lengths (p,) of their lists, (e,) both ends, d."""

    rows: slice
    lengths: Any
    owner: Any
    other: Any
    distance: Any


class TorchNearField:
    """A `NearField` of any array library on a device; arrays that are on it already are not copied."""

    def __init__(self, near_field: NearField, device: Any) -> None:
        self.indptr, self.indices, self.distances, self.reach = (
            on_device(device, array)
            for array in (near_field.indptr.astype("int64"), near_field.indices, near_field.distances, near_field.reach)
        )
        self.n_points = len(self.reach)
        marks = torch.arange(ENTRIES, max(len(self.indices), ENTRIES), ENTRIES, device=device)
        cuts = torch.searchsorted(self.indptr, marks, right=True) - 1
        rows = torch.cat([cuts.new_zeros(1), cuts, cuts.new_full((1,), self.n_points)]).unique()
        self._cuts = list(zip(rows.tolist(), self.indptr[rows].tolist(), strict=True))
        # Every point lists at least one neighbor, so no row is empty.
        self.nearest = torch.cat(
            [run_reduce(some.distance[:, None], some.lengths, "min").flatten() for some in self.blocks()]
        )

    def blocks(self) -> Iterator[_Entries]:
        """All pairs, those of some consecutive points at a time."""
        for (start, first), (stop, last) in zip(self._cuts[:-1], self._cuts[1:], strict=True):
            lengths = self.indptr[start + 1 : stop + 1] - self.indptr[start:stop]
            owner = torch.repeat_interleave(
                torch.arange(start, stop, device=lengths.device), lengths, output_size=last - first
            )
            entries = slice(first, last)
            yield _Entries(
                slice(start, stop), lengths, owner, self.indices[entries].long(), self.distances[entries].double()
            )

    def log_sums(self, rates: Any) -> Any:
        """(n, t) log2 of the sum of 2^(rate d) over the near pairs of each point, rates (t,) below 0."""
        result = torch.empty((self.n_points, len(rates)), dtype=torch.float64, device=self.nearest.device)
        for some in self.blocks():
            terms = torch.exp2((some.distance - self.nearest[some.owner])[:, None] * rates)
            result[some.rows] = run_sums(terms, some.lengths).log2_() + self.nearest[some.rows, None] * rates
        return result

    def affinities(self, rates: Any, row_logs: Any, column_logs: Any, codes: Any) -> tuple[Any, Any, Any]:
        """(n, t) sums of a = 2^(2 rate d - l_i - l_j) over all near pairs and those of one class, (t,) of a^2."""
        total, within = torch.empty_like(row_logs), torch.empty_like(row_logs)
        of_squares = torch.zeros(len(rates), dtype=torch.float64, device=row_logs.device)
        for some in self.blocks():
            a = torch.exp2(some.distance[:, None] * (2 * rates) - row_logs[some.owner] - column_logs[some.other])
            total[some.rows] = run_sums(a, some.lengths)
            of_squares += a.square().sum(0)
            same = (codes[some.owner] == codes[some.other])[:, None]
            within[some.rows] = run_sums(torch.where(same, a, 0), some.lengths)
        return total, within, of_squares


class NearLandmarks:
    """Points of a landmark pool, `pool_rows` (l,), that are near each point or the point itself: never summed."""

    def __init__(self, near_field: TorchNearField, pool_rows: Any) -> None:
        n, device = near_field.n_points, pool_rows.device
        position_of = torch.full((n,), -1, dtype=torch.int32, device=device)
        position_of[pool_rows] = torch.arange(len(pool_rows), dtype=torch.int32, device=device)
        owners, positions = [pool_rows], [position_of[pool_rows]]
        for some in near_field.blocks():
            position = position_of[some.other]
            chosen = torch.nonzero(position >= 0).flatten()
            owners.append(some.owner[chosen])
            positions.append(position[chosen])
        owner = torch.cat(owners)
        order = torch.argsort(owner, stable=True)
        self.owner, self.position = owner[order], torch.cat(positions)[order]
        first_rows = torch.arange(0, n + ROWS, ROWS, device=device)
        self._starts = torch.searchsorted(self.owner, first_rows).tolist()

    def of_tiles(self, start: int, stop: int) -> tuple[Any, Any]:
        """(e,) points of the tiles start..stop, counted from the first, and (e,) positions in the pool near to them."""
        entries = slice(self._starts[start], self._starts[stop])
        return self.owner[entries] - start * ROWS, self.position[entries].long()
