"""The order in which sampled RLD takes the points: mixed, yet close to the order in which a file is stored."""

from __future__ import annotations

import numpy as np

from clorg_scale.rld.types import Integers

__all__ = ["BLOCK_ROWS", "ROWS", "tile_order"]

ROWS = 128
"""Points of a tile, which share their landmarks. Their errors are correlated: the fewer they are, the better the errors
of the tiles average out, and the more it costs to gather the landmarks."""

BLOCK_ROWS = 64 * ROWS
"""Points read at once."""

RUN = 64
"""Rows of the embeddings that are read together."""


def tile_order(n_points: int, seed: int) -> Integers:
    """(n,) rows of the embeddings, in the order in which blocks and their tiles take them.

    Files are often sorted by class. The tiles of one class would have similar errors, as would near neighbors in
    one tile, whose sums come from the same landmarks. So every block takes short runs of rows from all over the
    file, each row once, and shuffles them.
    """
    n_blocks = -(-n_points // BLOCK_ROWS)
    blocks = np.arange(n_points) // RUN % n_blocks
    # NumPy sorts 16-bit numbers in linear time.
    order = np.argsort(blocks.astype(np.uint16) if n_blocks <= 2**16 else blocks, kind="stable")
    random = np.random.default_rng([seed, n_points])
    for start in range(0, n_points, BLOCK_ROWS):
        random.shuffle(order[start : start + BLOCK_ROWS])
    return order
