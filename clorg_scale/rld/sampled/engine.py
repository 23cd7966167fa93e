"""Protocol of the engines of sampled RLD, and the tuples that pass between them and the estimator."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from clorg_scale.progress import Advance
from clorg_scale.rld.points import ClassOrderedPoints
from clorg_scale.rld.sampled.jackknife import Jackknife
from clorg_scale.rld.sampled.landmarks import LandmarkPool
from clorg_scale.rld.sampled.near_field import NearField
from clorg_scale.rld.types import Floats, Integers

__all__ = ["HEADROOM", "AffinitySums", "Data", "Engine", "KernelSums", "Round"]

HEADROOM = 16
"""Powers of two by which a term may exceed what it is scaled to, such as a neighbor nearer than the nearest known."""


class Data(NamedTuple):
    """The points, (n,) their class codes in the order of the near field, the near field, and the landmarks' pool."""

    points: ClassOrderedPoints
    codes: Integers
    near_field: NearField
    pool: LandmarkPool


class Round(NamedTuple):
    """Settings of one estimate.

    `rates`: (t,) c = -log2(e) / (mu T). `square_of`: (t,) the temperature whose terms squared are this one's, or -1.
    `n_landmarks`: approximate number for each tile. `finite_population`: the correction that multiplies all changes
    without a group, see `Jackknife`.
    """

    rates: Floats
    square_of: Integers
    n_landmarks: int
    finite_population: float


class KernelSums(NamedTuple):
    """Pass 1, in the engine's own arrays and order: log2 r, its relative variance, its changes without each group."""

    log_r: Any
    variances: Any
    changes: Any


class AffinitySums(NamedTuple):
    """Pass 2.

    k and w of each point in the engine's own arrays and order, (t,) sum of the squares of all affinities, and the
    jackknife's sums over the classes.
    """

    k: Any
    w: Any
    squares: Floats
    jackknife: Jackknife


class Engine(Protocol):
    """Does the passes of sampled RLD over all points; its own arrays are of the library `xp`, NumPy or torch."""

    precision: str
    xp: Any

    def pair_lengths(self, seed: int, n_pairs: int) -> Floats:
        """Distances of random pairs of points, as `clorg_scale.rld.points.pair_sample` takes them."""

    def sum_of_squares(self, unit: float) -> float:
        """Sum of the squared distances of all points from their mean, in squares of `unit`."""

    def kernel_pass(self, settings: Round, advance: Advance) -> KernelSums:
        """Pass 1: r of each point, and how it changes without each group; reports pairs of points."""

    def affinity_pass(
        self, settings: Round, found: KernelSums, column_logs: Any, jackknife: Jackknife, advance: Advance
    ) -> AffinitySums:
        """Pass 2: k and w of each point, with log2 r as it is taken of columns, added to an empty jackknife."""

    def spread(self, rates: Floats, log_r: Any, sums: AffinitySums, seed: int) -> Floats | None:
        """(t,) sum of B^2 over all pairs (`clorg_scale.rld.null`); None leaves it to be found from the squares."""
        return None

    def restore_order(self, values: Any, factor: float = 1.0) -> Floats:
        """(t, n) values times `factor` in main memory and in the order of the embeddings."""
