"""Terms of a chunk of landmarks and their sums: the vector loops of `clorg_scale.rld.sampled.tiles_numba`.

`d`: (m,) distances of a point to the landmarks of a chunk, m <= TILE; `e`, `a`: (t, TILE) terms e and a of both passes
by temperatures; `weights`: (TILE,) v, 0 beyond the last landmark.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from clorg_scale.numerics.compiler import callee
from clorg_scale.numerics.exp2 import exp2
from clorg_scale.numerics.simd import use_wide_vectors
from clorg_scale.rld.exact.tiles_numba import TILE
from clorg_scale.rld.sampled.landmarks import GROUPS

__all__ = [
    "add_groups",
    "affinities",
    "exponentials",
    "of_class",
    "squared_affinities",
    "squares",
    "weighted_squares",
    "weighted_sum",
]

Floats = npt.NDArray[Any]

HALF = TILE // 2

_Exponent = tuple[int, Any, Any]
"""t, rate, shift: of temperature t, rate d - shift."""

_Square = tuple[int, int, int, Any, Any]
"""t, root, m, factor, floor: m terms of temperature t, factor times the squares of the root's, at least `floor`."""


@callee(fastmath=True)
def exponentials(d: Floats, exponent: _Exponent, e: Floats) -> None:
    """e_t = 2^(rate d - shift)."""
    use_wide_vectors()
    t, rate, shift = exponent
    for step in range(len(d)):
        j = np.uintp(step)
        e[t, j] = exp2(rate * d[j] - shift)


@callee(fastmath=True)
def squares(square: _Square, e: Floats) -> None:
    """e_t = factor times the square of another temperature's."""
    use_wide_vectors()
    t, root, m, factor, floor = square
    for step in range(m):
        j = np.uintp(step)
        value = max(e[root, j], floor)
        e[t, j] = factor * value * value


@callee(fastmath=True)
def add_groups(e: Floats, t: int, weights: Floats, halves: Floats, sums: Floats) -> None:
    """Add v e_t of a chunk to the (16,) sums of the groups.

    Beyond the last landmark v is 0 and e finite.
    """
    use_wide_vectors()
    for step in range(HALF):
        j = np.uintp(step)
        other = j + np.uintp(HALF)
        halves[j] = weights[j] * e[t, j] + weights[other] * e[t, other]
    for step in range(HALF // 2):
        j = np.uintp(step)
        halves[j] += halves[j + np.uintp(HALF // 2)]
    for step in range(HALF // 4):
        j = np.uintp(step)
        halves[j] += halves[j + np.uintp(HALF // 4)]
    for step in range(HALF // 8):
        j = np.uintp(step)
        halves[j] += halves[j + np.uintp(HALF // 8)]
    for step in range(GROUPS):
        j = np.uintp(step)
        sums[j] += halves[j] + halves[j + np.uintp(GROUPS)]


@callee(fastmath=True)
def weighted_sum(e: Floats, t: int, weights: Floats) -> Any:
    """Sum of v e_t over a chunk."""
    use_wide_vectors()
    total = weights[0] - weights[0]
    for step in range(TILE):
        j = np.uintp(step)
        total += weights[j] * e[t, j]
    return total


@callee(fastmath=True)
def affinities(d: Floats, exponent: _Exponent, logs: Floats, a: Floats) -> None:
    """a_t = 2^(rate d - l_i - l_s), the shift being l_i."""
    use_wide_vectors()
    t, rate, l_row = exponent
    for step in range(len(d)):
        j = np.uintp(step)
        a[t, j] = exp2(rate * d[j] - l_row - logs[t, j])


@callee(fastmath=True)
def squared_affinities(square: _Square, factors: Floats, a: Floats) -> None:
    """a_t from the squares of another temperature's, with the factors of both ends."""
    use_wide_vectors()
    t, root, m, factor, floor = square
    for step in range(m):
        j = np.uintp(step)
        value = max(a[root, j], floor)
        a[t, j] = value * value * (factor * factors[t, j])


@callee(fastmath=True)
def of_class(weights: Floats, classes: npt.NDArray[np.int32], own: Any, chosen: Floats) -> None:
    """V of the landmarks of one class in a chunk, 0 elsewhere."""
    use_wide_vectors()
    for step in range(TILE):
        j = np.uintp(step)
        chosen[j] = weights[j] if classes[j] == own else weights[j] * 0


@callee(fastmath=True)
def weighted_squares(a: Floats, t: int, weights: Floats, floor: Any) -> Any:
    """Sum of v a_t^2 over a chunk, a at least `floor` (as in `squares`)."""
    use_wide_vectors()
    total = weights[0] - weights[0]
    for step in range(TILE):
        j = np.uintp(step)
        value = max(a[t, j], floor)
        total += weights[j] * value * value
    return total
