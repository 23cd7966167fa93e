"""Parts of a search: the neighbors of some points, found here or by a worker of a cluster."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clorg_scale.arrays import Array, array_module
from clorg_scale.neighbors.algorithms.candidates import Candidates
from clorg_scale.neighbors.approximate import ranked_candidates
from clorg_scale.neighbors.engines import exact_engine
from clorg_scale.neighbors.exact import search_exact
from clorg_scale.neighbors.points import Points
from clorg_scale.progress import Advance

__all__ = ["PART_ROWS", "CandidateSearch", "ExactSearch", "silent"]

PART_ROWS = 1 << 13
"""Points whose neighbors a worker is asked for at a time."""


def silent(done: float) -> None:
    """Tell nobody what is done."""


@dataclass(frozen=True)
class ExactSearch:
    """Exact neighbors of some points.

    Attributes
    ----------
    points
        What is searched.
    k, device, block_bytes
        As for `clorg_scale.neighbors.exact.search_exact`.
    """

    points: Points
    k: int
    device: str
    block_bytes: int

    def __call__(self, rows: Array) -> tuple[Array, Array, Array]:
        """(b,) rows, (b, k) keys and ids of their neighbors."""
        xp = array_module(self.points.embeddings)
        keys, ids = xp.empty((len(rows), self.k)), xp.empty((len(rows), self.k), dtype=np.int64)
        for part, part_keys, part_ids in search_exact(
            self.points, self.points, rows, self.k,
            exclude=rows, engine=exact_engine(self.points, self.k, self.device), block_bytes=self.block_bytes,
        ):  # fmt: skip
            keys[part], ids[part] = part_keys, part_ids
        return rows, keys, ids


@dataclass(frozen=True)
class CandidateSearch:
    """Neighbors of some points through an index; rows that lose too many candidates to checks are searched exactly.

    Attributes
    ----------
    index
        Proposes neighbors.
    points, k, device, block_bytes
        As for `ExactSearch`.
    advance
        Told of the points done.
    """

    index: Candidates
    points: Points
    k: int
    device: str
    block_bytes: int
    advance: Advance = silent

    def __call__(self, rows: Array) -> tuple[Array, Array, Array]:
        """(b,) rows, (b, k) keys and ids of their neighbors."""
        keys, ids = ranked_candidates(self.index, self.points, rows, self.k, self.advance)
        short = array_module(keys).flatnonzero(ids[:, -1] < 0)
        if short.size:
            exact = ExactSearch(self.points, self.k, self.device, self.block_bytes)
            _, keys[short], ids[short] = exact(rows[short])
        return rows, keys, ids
