"""Inputs and results of the launchers of exact RLD's tiles: panels of points, exponents, weights, sums.

Each way to compute the tiles (`rld_hopper`, `rld_launch`, `clorg_scale.rld.exact.tiles_torch`) has two functions,

    kernel_sums(X, Y, exponents, launch) -> KernelSums | int                  pass 1
    affinity_sums(X, Y, exponents, weights, launch) -> AffinitySums | int     pass 2

of two panels X and Y; the same panel twice (equal `start`) counts its pairs i < j. An int is the number of tiles with
near pairs where `Launch.capacity` was too small for them. `rld_reference` states what they compute.
"""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["AffinitySums", "Exponents", "KernelSums", "Launch", "NearPairs", "Panel", "Weights"]


class Panel(NamedTuple):
    """Consecutive points on the device.

    `x`: (p, d) contiguous, d a multiple of 64; `norms`: (p,) squared norms of the rounded points; `codes`: (p,) int32
    ascending, negative where unlabelled; `start`: position of the first.
    """

    x: Any
    norms: Any
    codes: Any
    start: int

    def slice(self, start: int, stop: int) -> Panel:
        """Points start..stop of the panel."""
        return Panel(self.x[start:stop], self.norms[start:stop], self.codes[start:stop], self.start + start)


class Exponents(NamedTuple):
    """Exponentials of falling temperatures.

    `rates`: (t,) float64 c_t = -log2(e) / (mu T_t), of 2^(c_t d); `square_of`: (t,) int32, t - 1 where the exponentials
    are the squares of those of the temperature before, else -1.
    """

    rates: Any
    square_of: Any


class Weights(NamedTuple):
    """Weights of the affinities of pass 2: (t, p) of rows and (t, q) of columns, 1 / r, or log2 r in `log_space`."""

    rows: Any
    columns: Any
    log_space: bool


class Launch(NamedTuple):
    """Settings of a launch.

    `precision`: input mode of the matrix products; `near`: pairs with d^2 below this share of n_i + n_j are left out
    and listed; `capacity`: tiles with such pairs that there is room for.
    """

    precision: str
    near: float
    capacity: int


class NearPairs(NamedTuple):
    """Tiles with pairs that were left out: masks (m, tile rows, tile columns), first row and column of each."""

    masks: Any
    rows: Any
    columns: Any


class KernelSums(NamedTuple):
    """Pass 1: (2t, p) and (2t, q) float64 R, then D, over rows and over columns; S; the near pairs left out."""

    over_rows: Any
    over_columns: Any
    distance_sum: Any
    near_pairs: list[NearPairs]


class AffinitySums(NamedTuple):
    """Pass 2: (2t, p) and (2t, q) float64 B, then W, over rows and over columns; the near pairs left out.

    Outside log space they lack the weight of the row or the column itself.
    """

    over_rows: Any
    over_columns: Any
    near_pairs: list[NearPairs]
