"""The interface of every approximate index."""

from __future__ import annotations

from typing import Protocol

from clorg_scale.arrays import Array
from clorg_scale.progress import Advance

__all__ = ["Candidates"]


class Candidates(Protocol):
    """An index over all points that proposes neighbors; the caller checks and measures them."""

    oversampling: float
    """Candidates that are measured for each one wanted: as many as the index may need, until a sample shows how many
    it does need. 1 where the order of its candidates is that of their distances."""

    @property
    def description(self) -> str:
        """The index with its present parameters."""

    @property
    def order(self) -> Array | None:
        """(n,) order of the queries in which successive ones read the same memory; None if any order does."""

    def candidates(self, rows: Array, k: int, advance: Advance) -> Array:
        """(b, c) int64, about k points likely to be nearest to each of the points `rows` (b,).

        Rows may hold -1, repetitions and the point itself. `advance` is called with `len(rows)` points in all.
        """

    def try_harder(self) -> bool:
        """Raise the effort of a search, and with it the recall; False where it cannot be raised further."""
