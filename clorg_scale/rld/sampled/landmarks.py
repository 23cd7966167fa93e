"""Landmarks: the random points that stand for all others in sampled RLD.

Every tile of points has landmarks of its own, so that the errors of the tiles average out: what is sampled is pairs
of points, not a few points that all others are compared with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["GROUPS", "Drawing", "LandmarkPool", "LandmarkSets"]

Integers = npt.NDArray[np.int64]

GROUPS = 16
"""Groups of landmarks that the jackknife leaves out in turn."""

MOST_FOR_ALL_CLASSES = 4096
"""Landmarks that a tile takes if that gives every class 16."""

LEAST_POOL = 2 * GROUPS
"""Points of each class in the pool, if it has so many."""


@dataclass(frozen=True)
class LandmarkSets:
    """The landmarks of some tiles: groups take turns, and last are the classes taken whole, which are never left out.

    Attributes
    ----------
    columns
        (b, m) their places in the pool; -1 where a group has fewer than another.
    weights
        (b, 2, m) how many points of its class each stands for, 0 where there is none: those of the groups, landmark s
        of group s mod 16, and those never left out.
    """

    columns: Integers
    weights: npt.NDArray[np.float64]


class Drawing(NamedTuple):
    """What all tiles have in common when they draw their landmarks.

    `taken`, `drawn_from`, `starts`: (C,) landmarks of each class, points of the pool that they are drawn from, and the
    first of these; `rounded`: (C,) whether they begin with a round of the groups; `of_class`, `place`: (m,) class of
    each landmark and its number within it; `partial`, `whole`: (C,) whether the pool has but a part of the class, and
    whether all its points are landmarks; `weights`: (m,) points that each stands for.
    """

    taken: Integers
    drawn_from: Integers
    starts: Integers
    rounded: npt.NDArray[np.bool_]
    of_class: Integers
    place: Integers
    partial: npt.NDArray[np.bool_]
    whole: npt.NDArray[np.bool_]
    weights: npt.NDArray[np.float64]


class LandmarkPool:
    """A stratified random sample from which every tile draws its landmarks; unlabelled points are a class here.

    Within a class the points are in random order. A tile takes consecutive ones, from a place that is drawn anew for
    every tile and class, and they fall to the groups in turn. Where the pool has but a part of the class, that is an
    error which all tiles have in common: there a point of the pool falls to the same group in every tile.

    Parameters
    ----------
    codes
        (n,) class codes, -1 where unlabelled.
    size
        About how many points: half in proportion to the classes, half evenly.
    seed
        Of the order.

    Attributes
    ----------
    rows
        (p,) their places in `codes` as handed in, class by class.
    codes
        (p,) their classes.
    """

    def __init__(self, codes: Integers, size: int, seed: int) -> None:
        self.seed = seed
        shuffled = np.random.default_rng(seed).permutation(len(codes))
        counts = np.bincount(codes + 1)
        classes = np.flatnonzero(counts) - 1
        self.class_sizes = counts[classes + 1]
        # NumPy sorts 16-bit numbers in linear time.
        narrow = codes.astype(np.int16) if len(counts) < 2**15 else codes
        by_class = shuffled[np.argsort(narrow[shuffled], kind="stable")]
        wanted = np.maximum(np.ceil(self._shares(size)).astype(np.int64), LEAST_POOL)
        self.pool_sizes = np.minimum(self.class_sizes, wanted)
        ends = np.cumsum(self.class_sizes)
        first = ends - self.class_sizes
        self.rows = np.concatenate([by_class[a : a + p] for a, p in zip(first, self.pool_sizes, strict=True)])
        self.codes = np.repeat(classes, self.pool_sizes)
        self.starts = np.cumsum(self.pool_sizes) - self.pool_sizes

    def _shares(self, wanted: int) -> npt.NDArray[np.float64]:
        """(C,) landmarks of each class, half in proportion to its size and half evenly."""
        share = self.class_sizes / self.class_sizes.sum() + 1 / len(self.class_sizes)
        return np.asarray(wanted * share / 2)

    def counts(self, wanted: int) -> tuple[Integers, Integers]:
        """Of each class, the landmarks that a tile takes and the points of the pool that they are drawn from.

        Of each class at least one, and 16 where there are not too many classes; of 16 and more as many from every
        group. With fewer, leaving out a group changes the shares of the classes, and errors come out too large.
        """
        least = np.clip(MOST_FOR_ALL_CLASSES // len(self.class_sizes), 1, GROUPS)
        taken = np.maximum(np.ceil(self._shares(wanted)).astype(np.int64), least)
        taken = np.where(taken >= GROUPS, -(-taken // GROUPS) * GROUPS, taken)
        rounds = self.pool_sizes // GROUPS * GROUPS
        drawn_from = np.where(self.pool_sizes < self.class_sizes, rounds, self.class_sizes)
        whole = (taken >= rounds) & (drawn_from == self.class_sizes)
        return np.where(whole, self.class_sizes, np.minimum(taken, drawn_from)), drawn_from

    def share(self, wanted: int) -> float:
        """Share of its points that a tile takes, of the class of which it takes the smallest one; 1 if it takes all."""
        taken = self.counts(wanted)[0]
        return float((taken / self.class_sizes).min())

    def drawing(self, wanted: int) -> Drawing:
        """How tiles draw about `wanted` landmarks."""
        taken, drawn_from = self.counts(wanted)
        of_class = np.repeat(np.arange(len(taken)), taken)
        place = np.arange(len(of_class)) - np.repeat(np.cumsum(taken) - taken, taken)
        partial = self.pool_sizes < self.class_sizes
        # From the beginning of a round of the groups, so that each is as often among those taken.
        return Drawing(
            taken, drawn_from, self.starts, partial & (taken >= GROUPS), of_class, place, partial,
            taken == self.class_sizes, (self.class_sizes / taken)[of_class],
        )  # fmt: skip

    def sets(self, tiles: range, wanted: int) -> LandmarkSets:
        """Landmarks of each of some tiles, about `wanted`; the same for the same tile whatever the others are."""
        how = self.drawing(wanted)
        words = _random_words(self.seed, np.asarray(tiles)[:, None], np.arange(len(how.taken)))
        first, turn = (words % np.uint64(1 << 40)).astype(np.int64), (words >> np.uint64(60)).astype(np.int64)
        first = np.where(how.rounded, first // GROUPS * GROUPS, first)
        drawn = (first[:, how.of_class] + how.place) % how.drawn_from[how.of_class]
        groups = np.where(how.partial[how.of_class], drawn, how.place + turn[:, how.of_class]) % GROUPS
        groups = np.where(how.whole[how.of_class], GROUPS, groups)
        return _in_turns(drawn + how.starts[how.of_class], how.weights, groups)


def _in_turns(columns: Integers, weights: npt.NDArray[np.float64], groups: Integers) -> LandmarkSets:
    """Lay out (b, m) landmarks with their (m,) weights by their (b, m) groups."""
    counts = (groups[:, :, None] == np.arange(GROUPS + 1)).sum(axis=1)
    order = np.argsort(groups, axis=1, kind="stable")
    first = np.take_along_axis(np.cumsum(counts, axis=1) - counts, groups, axis=1)
    rank = np.empty_like(groups)
    np.put_along_axis(rank, order, np.broadcast_to(np.arange(groups.shape[1]), groups.shape), axis=1)
    rank -= first
    n_in_turn, n_whole = GROUPS * counts[:, :GROUPS].max(), counts[:, GROUPS].max()
    place = np.where(groups < GROUPS, rank * GROUPS + groups, n_in_turn + rank)
    laid_out = np.full((len(groups), n_in_turn + n_whole), -1, dtype=np.int64)
    np.put_along_axis(laid_out, place, columns, axis=1)
    by_kind = np.zeros((len(groups), 2, laid_out.shape[1]))
    for kind, chosen in enumerate((groups < GROUPS, groups == GROUPS)):
        np.put_along_axis(by_kind[:, kind], place, np.where(chosen, weights, 0), axis=1)
    return LandmarkSets(laid_out, by_kind)


def _random_words(seed: int, tile: Integers, code: Integers) -> npt.NDArray[np.uint64]:
    """64 random bits for each tile and class, whatever the others are: SplitMix64 of the three numbers."""
    word = np.full(np.broadcast_shapes(tile.shape, code.shape), seed & (2**64 - 1), dtype=np.uint64)
    for number in (tile, code, np.zeros(1, np.int64)):
        word = (word ^ number.astype(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
        word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        word ^= word >> np.uint64(31)
    return word
