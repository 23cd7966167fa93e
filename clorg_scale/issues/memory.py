"""Main memory of `find_issues` after the search: what it holds of each point, and how many scores at once."""

from __future__ import annotations

from typing import NamedTuple

from clorg_scale.arrays.memory import check_memory
from clorg_scale.issues.graph_votes import BLOCK_NUMBERS

__all__ = ["Shares", "share_memory"]

PER_NEIGHBOR = 24
"""Bytes of each neighbor: 8 in the table, and those of two edges of the graph at most."""

PER_POINT = 260
"""Bytes of each point besides: its votes, its fold, its results and their temporaries. Measured at 10^6 points."""

PER_SCORE = 112
"""Bytes of each score of a point and a class that is computed at once: the shares, the logits and what they pass
through, twice over while the weights of the two are fitted."""

FEWEST_SCORES = 2**16

FEWEST_ROWS = 500
"""Points, at least, that have all of their scores at once."""


class Shares(NamedTuple):
    """Parts of a memory limit."""

    scores: int
    """Scores of points and classes computed at once."""
    probe: int | None
    """Bytes for each fit of a linear probe."""


def share_memory(n: int, n_features: int, n_classes: int, k: int, limit: int | None) -> Shares:
    """Divide a memory limit among what is held, the scores and the probe.

    Raises
    ------
    InputError
        If it is too small; says how much suffices.
    """
    if limit is None:
        return Shares(BLOCK_NUMBERS, None)
    from clorg_scale.probes.fitting import memory_needed as probe_memory  # it loads scipy.optimize

    held = n * (PER_NEIGHBOR * k + PER_POINT)
    fewest = max(FEWEST_SCORES, FEWEST_ROWS * n_classes)
    least = held + max(PER_SCORE * fewest, probe_memory(n, n_features, n_classes))
    check_memory(limit, least, f"Finding the issues of {n:,} points")
    return Shares(min(BLOCK_NUMBERS, (limit - held) // PER_SCORE), limit - held)
