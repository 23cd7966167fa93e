"""Landmarks of tiles drawn on a device: the same ones as `rld.sampled.landmarks.LandmarkPool.sets` draws."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from clorg_scale.rld.sampled.landmarks import GROUPS, Drawing, LandmarkPool

__all__ = ["TileLandmarks", "TorchPool"]


class TileLandmarks(NamedTuple):
    """The landmarks of b tiles, groups in turns as in `clorg_scale.rld.sampled.landmarks.LandmarkSets`.

    `columns`: (b, m) places in the pool, -1 where there is none; `weights`: (b, m, 17) float64, that of a landmark in
    the column of its group, in the last where it is never left out; `first`: (b, C) point of its class with which the
    drawing began; `slots`: (b, l) where each of the l landmarks, class by class, stands among the m.
    """

    columns: Any
    weights: Any
    first: Any
    slots: Any


class TorchPool:
    """Draws the landmarks of tiles, about so many each.

    Parameters
    ----------
    pool
        What they are drawn from.
    wanted
        As for `LandmarkPool.sets`.
    device
        torch device.
    """

    def __init__(self, pool: LandmarkPool, wanted: int, device: Any) -> None:
        self.seed, self.n_classes, self.device = pool.seed, len(pool.class_sizes), device
        self.how: Any = Drawing(*(torch.as_tensor(array, device=device) for array in pool.drawing(wanted)))
        self.class_of = torch.repeat_interleave(
            torch.arange(self.n_classes, device=device), torch.as_tensor(pool.pool_sizes, device=device)
        )
        self.before = self.how.taken.cumsum(0) - self.how.taken

    @property
    def n_landmarks(self) -> int:
        """Landmarks of a tile."""
        return len(self.how.of_class)

    def draw(self, start: int, stop: int) -> TileLandmarks:
        """Landmarks of the tiles start..stop."""
        how, arange = self.how, torch.arange
        words = _random_words(
            self.seed, arange(start, stop, device=self.device)[:, None], arange(self.n_classes, device=self.device)
        )
        first, turn = words & ((1 << 40) - 1), (words >> 60) & (GROUPS - 1)
        first = torch.where(how.rounded, first // GROUPS * GROUPS, first) % how.drawn_from
        drawn = (first[:, how.of_class] + how.place) % how.drawn_from[how.of_class]
        groups = torch.where(how.partial[how.of_class], drawn, how.place + turn[:, how.of_class]) % GROUPS
        groups = torch.where(how.whole[how.of_class], GROUPS, groups)
        return self._in_turns(drawn + how.starts[how.of_class], groups, first)

    def _in_turns(self, columns: Any, groups: Any, first: Any) -> TileLandmarks:
        """Lay out (b, l) landmarks by their (b, l) groups."""
        b, n = groups.shape
        counts = groups.new_zeros((b, GROUPS + 1)).scatter_add_(1, groups, torch.ones_like(groups))
        order = torch.argsort(groups.to(torch.uint8), dim=1, stable=True)
        sorted_groups = groups.gather(1, order)
        rank = torch.arange(n, device=self.device) - (counts.cumsum(1) - counts).gather(1, sorted_groups)
        of_turns, n_whole = torch.stack([counts[:, :GROUPS].max(), counts[:, GROUPS].max()]).tolist()
        n_in_turn = GROUPS * of_turns
        at = torch.where(sorted_groups < GROUPS, rank * GROUPS + sorted_groups, n_in_turn + rank)
        slots = torch.empty_like(at).scatter_(1, order, at)
        laid_out = columns.new_full((b, n_in_turn + n_whole), -1).scatter_(1, slots, columns)
        weights = torch.zeros((b, n_in_turn + n_whole, GROUPS + 1), dtype=torch.float64, device=self.device)
        cells = slots * (GROUPS + 1) + groups
        weights.view(b, -1).scatter_(1, cells, self.how.weights.expand(b, -1))
        return TileLandmarks(laid_out, weights, first, slots)

    def slots_of(self, landmarks: TileLandmarks, tiles: Any, places: Any) -> tuple[Any, Any]:
        """Which of some pairs of a tile (e,), counted from the first, and a place in the pool (e,) are its landmarks.

        Returns
        -------
        (e,) whether they are, and (e,) where the landmark stands among the tile's; anything where it is none.
        """
        how, owner = self.how, self.class_of[places]
        number = (places - how.starts[owner] - landmarks.first[tiles, owner]) % how.drawn_from[owner]
        # Points of the pool beyond the last whole round of the groups are never drawn.
        drawn = (number < how.taken[owner]) & (places - how.starts[owner] < how.drawn_from[owner])
        landmark = self.before[owner] + number.clamp(max=how.taken[owner] - 1)
        return drawn, landmarks.slots[tiles, landmark]


def _signed(word: int) -> int:
    """The signed 64-bit number of the same bits."""
    word &= 2**64 - 1
    return word - 2**64 if word >= 2**63 else word


def _shifted(word: Any, bits: int) -> Any:
    """Unsigned shift of signed numbers to the right."""
    return (word >> bits) & ((1 << (64 - bits)) - 1)


def _random_words(seed: int, tile: Any, code: Any) -> Any:
    """SplitMix64, as `rld.sampled.landmarks` has it, in signed numbers, whose sums and products are the same."""
    word = torch.full(torch.broadcast_shapes(tile.shape, code.shape), _signed(seed), device=tile.device)
    for number in (tile, code, 0):
        word = (word ^ number) + _signed(0x9E3779B97F4A7C15)
        word = (word ^ _shifted(word, 30)) * _signed(0xBF58476D1CE4E5B9)
        word = (word ^ _shifted(word, 27)) * _signed(0x94D049BB133111EB)
        word = word ^ _shifted(word, 31)
    return word
