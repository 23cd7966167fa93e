"""The time of each method at one quality, read off its curve of quality against time."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["At", "time_at"]


class At(NamedTuple):
    """Seconds at a quality, and how they were found."""

    seconds: float
    how: str


def time_at(curve: Iterable[tuple[float, float]], quality: float) -> At | None:
    """Seconds at which a method reaches a quality.

    Points that another one beats in both are left out, as nobody would choose them.

    Parameters
    ----------
    curve
        (seconds, quality) of each effort.
    quality
        The quality asked for, higher is better.

    Returns
    -------
    Interpolated between the two efforts around it, linearly in the logarithm of the seconds; the fastest effort where
    even that one is better; None where none reaches it.
    """
    best: list[tuple[float, float]] = []
    for seconds, reached in sorted(curve):
        if not best or reached > best[-1][1]:
            best.append((seconds, reached))
    above = next((number for number, (_, reached) in enumerate(best) if reached >= quality), None)
    if above is None:
        return None
    seconds, reached = best[above]
    if above == 0 or reached == quality:
        return At(seconds, "measured" if reached == quality else "its fastest effort, which is better")
    before, below = best[above - 1]
    share = (quality - below) / (reached - below)
    return At(math.exp((1 - share) * math.log(before) + share * math.log(seconds)), "interpolated")
