"""Landmarks: the random points that stand for all others in sampled RLD.

Every tile of points has landmarks of its own, so that the errors of the tiles average out: what is sampled is pairs
of points, not a few points that all others are compared with. The same ones are drawn with NumPy and, on a device, with
torch.
"""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from clorg_scale.rld.types import Floats, Integers

__all__ = ["GROUPS", "Drawing", "LandmarkPool", "LandmarkSets"]

GROUPS = 16
"""Groups of landmarks that the jackknife leaves out in turn."""

MOST_FOR_ALL_CLASSES = 4096
"""Largest number of landmarks that a tile takes in order to give every class 16."""

LEAST_POOL = 2 * GROUPS
"""Points of each class in the pool, if it has so many."""


class LandmarkSets(NamedTuple):
    """The landmarks of b tiles: the groups take turns, and last are the classes taken whole, which are never left out.

    `columns`: (b, m) positions in the pool, -1 where a group has fewer landmarks than another. `weights`: (b, 2, m)
    float64 number of points of its class that each stands for, 0 where there is none: first for the landmarks in
    groups, landmark s in group s mod 16, then for those that are never left out. `first`: (b, C) point of its class
    with which the drawing began. `slots`: (b, l) position among the m of each of the l landmarks, class by class.
    """

    columns: Any
    weights: Any
    first: Any
    slots: Any


class LandmarkPool:
    """A stratified random sample from which every tile draws its landmarks; unlabelled points are a class here.

    Within a class the points are in random order. A tile takes consecutive ones, from a position that is drawn anew for
    every tile and class, and they go to the groups in turn. Where the pool has only part of a class, all tiles have
    that error in common: there a point of the pool goes to the same group in every tile.

    `codes`: (n,) class codes, -1 where unlabelled; `size`: approximate number of points, half in proportion to the
    classes, half evenly.

    Attributes
    ----------
    rows
        (p,) positions in `codes` of the points, class by class.
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

    def _shares(self, n_landmarks: int) -> Floats:
        """(C,) landmarks of each class, half in proportion to its size and half evenly."""
        share = self.class_sizes / self.class_sizes.sum() + 1 / len(self.class_sizes)
        return np.asarray(n_landmarks * share / 2)

    def counts(self, n_landmarks: int) -> tuple[Integers, Integers]:
        """Landmarks that a tile takes of each class, and points of the pool that they are drawn from.

        Of each class at least one, and 16 where there are not too many classes; of 16 and more as many from every
        group. With fewer, leaving out a group changes the shares of the classes, and errors come out too large.
        """
        least = np.clip(MOST_FOR_ALL_CLASSES // len(self.class_sizes), 1, GROUPS)
        taken = np.maximum(np.ceil(self._shares(n_landmarks)).astype(np.int64), least)
        taken = np.where(taken >= GROUPS, -(-taken // GROUPS) * GROUPS, taken)
        rounds = self.pool_sizes // GROUPS * GROUPS
        drawn_from = np.where(self.pool_sizes < self.class_sizes, rounds, self.class_sizes)
        whole = (taken >= rounds) & (drawn_from == self.class_sizes)
        return np.where(whole, self.class_sizes, np.minimum(taken, drawn_from)), drawn_from

    def taken(self, n_landmarks: int) -> int:
        """Number of landmarks that a tile takes where about `n_landmarks` are asked for."""
        return int(self.counts(n_landmarks)[0].sum())

    def share(self, n_landmarks: int) -> float:
        """Smallest share of a class's points that a tile takes; 1 if it takes all points."""
        return float((self.counts(n_landmarks)[0] / self.class_sizes).min())


class Drawing:
    """Parameters that all tiles share when they draw about `n_landmarks`: in NumPy, or in torch on a device."""

    def __init__(self, pool: LandmarkPool, n_landmarks: int, device: Any = None) -> None:
        self.seed, self.device = pool.seed, device
        self._xp = np if device is None else importlib.import_module("torch")
        taken, drawn_from = pool.counts(n_landmarks)
        n_classes = len(taken)
        of_class, before = np.repeat(np.arange(n_classes), taken), np.cumsum(taken) - taken
        partial = pool.pool_sizes < pool.class_sizes

        def here(array: npt.NDArray[Any]) -> Any:
            return self._xp.asarray(array, device=device)

        # (C,) for each class.
        self.taken, self.drawn_from, self.starts, self.before = map(here, (taken, drawn_from, pool.starts, before))
        # Rounds of the groups are drawn from their beginning, so that each group is as often among those taken.
        self.in_rounds = here(partial & (taken >= GROUPS))
        # (l,) for each landmark: class, number within it, whether the pool has only part of the class or all its points
        # are landmarks, and the points that it stands for.
        self.of_class, self.number = here(of_class), here(np.arange(len(of_class)) - before[of_class])
        self.partial, self.whole = here(partial[of_class]), here((taken == pool.class_sizes)[of_class])
        self.weights = here((pool.class_sizes / taken)[of_class])
        self.class_of = here(np.repeat(np.arange(n_classes), pool.pool_sizes))

    @property
    def n_landmarks(self) -> int:
        """Landmarks of a tile."""
        return len(self.of_class)

    def draw(self, start: int, stop: int) -> LandmarkSets:
        """Landmarks of the tiles start..stop; the same for the same tile whatever the others are."""
        xp, of_class = self._xp, self.of_class
        words = _random_words(self.seed, self._arange(start, stop)[:, None], self._arange(0, len(self.taken)))
        first, turn = words & (2**40 - 1), (words >> 60) & (GROUPS - 1)
        first = xp.where(self.in_rounds, first // GROUPS * GROUPS, first) % self.drawn_from
        drawn = (first[:, of_class] + self.number) % self.drawn_from[of_class]
        groups = xp.where(self.partial, drawn, self.number + turn[:, of_class]) % GROUPS
        groups = xp.where(self.whole, GROUPS, groups)
        return self._in_turns(drawn + self.starts[of_class], groups, first)

    def _arange(self, start: int, stop: int) -> Any:
        return self._xp.arange(start, stop, dtype=self._xp.int64, device=self.device)

    def _in_turns(self, columns: Any, groups: Any, first: Any) -> LandmarkSets:
        """Lay out (b, l) landmarks by their (b, l) groups."""
        xp, (b, n) = self._xp, groups.shape
        tiles = self._arange(0, b)[:, None]
        counts = (groups[:, :, None] == self._arange(0, GROUPS + 1)).sum(axis=1)
        order = xp.argsort(xp.asarray(groups, dtype=xp.uint8), stable=True)  # eight bits are sorted in linear time
        in_order = groups[tiles, order]
        rank = self._arange(0, n) - (counts.cumsum(axis=1) - counts)[tiles, in_order]
        n_turns, n_whole = xp.stack([counts[:, :GROUPS].max(), counts[:, GROUPS].max()]).tolist()
        slots, m = xp.empty_like(groups), GROUPS * n_turns + n_whole
        slots[tiles, order] = xp.where(in_order < GROUPS, rank * GROUPS + in_order, GROUPS * n_turns + rank)
        laid_out = xp.full((b, m), -1, dtype=xp.int64, device=self.device)
        laid_out[tiles, slots] = columns
        weights = xp.zeros((b, 2, m), dtype=xp.float64, device=self.device)
        weights[tiles, groups // GROUPS, slots] = self.weights
        return LandmarkSets(laid_out, weights, first, slots)

    def slots_of(self, landmarks: LandmarkSets, tiles: Any, positions: Any) -> tuple[Any, Any]:
        """Which pairs (e,) of a tile, counted from the first one, and a position in the pool are landmark of that tile.

        Returns
        -------
        (e,) whether they are, and (e,) the slot of the landmark among the tile's; arbitrary where it is none.
        """
        owner = self.class_of[positions]
        number = (positions - self.starts[owner] - landmarks.first[tiles, owner]) % self.drawn_from[owner]
        # Points of the pool beyond the last whole round of the groups are never drawn.
        drawn = (number < self.taken[owner]) & (positions - self.starts[owner] < self.drawn_from[owner])
        landmark = self.before[owner] + self._xp.minimum(number, self.taken[owner] - 1)
        return drawn, landmarks.slots[tiles, landmark]


def _random_words(seed: int, tile: Any, code: Any) -> Any:
    """64 random bits for each tile and class, whatever the others are: SplitMix64 of the three numbers.

    In signed integers, which torch has, too; their sums and products wrap around to the same bits.
    """
    word: Any = tile * 0 + code * 0 + _signed(seed)
    for number in (tile, code, 0):
        word = (word ^ number) + _signed(0x9E3779B97F4A7C15)
        word = (word ^ _shifted(word, 30)) * _signed(0xBF58476D1CE4E5B9)
        word = (word ^ _shifted(word, 27)) * _signed(0x94D049BB133111EB)
        word = word ^ _shifted(word, 31)
    return word


def _signed(word: int) -> int:
    """The signed 64-bit number of the same bits."""
    word &= 2**64 - 1
    return word - 2**64 if word >= 2**63 else word


def _shifted(word: Any, bits: int) -> Any:
    """Unsigned shift of signed numbers to the right."""
    return (word >> bits) & ((1 << (64 - bits)) - 1)
