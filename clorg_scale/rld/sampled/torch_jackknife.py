"""The jackknife of sampled RLD on a device: what `clorg_scale.rld.sampled.jackknife` does in main memory."""

from __future__ import annotations

from typing import Any

import torch

from clorg_scale.rld.sampled.jackknife import LEAST, ONE, SHARE, Jackknife
from clorg_scale.rld.sampled.landmarks import GROUPS
from clorg_scale.rld.sampled.torch_segments import keyed_sums

__all__ = ["TorchJackknife", "relative_changes"]

POINTS = 1 << 14
"""Points whose changes are worked on at once: about 10 KB each at five temperatures."""


def relative_changes(sums: Any, r: Any, finite_population: float) -> tuple[Any, Any]:
    """Changes of r without each group, from (p, t, 17) sums over the groups and the rest, and (p, t) r.

    Returns
    -------
    (p, t, 16) int16 e in units of 1 / ONE, and (p, t) float64 v, the relative variance of r.
    """
    e = _without(sums, r, finite_population).mul_(ONE).round_()
    return e.to(torch.int16), (e / ONE).square_().sum(2).mul_(SHARE)


def _without(sums: Any, total: Any, finite_population: float) -> Any:
    """(p, t, 16) how a total (p, t) changes if a group's sum is left out and the others are raised by 16/15."""
    groups = sums[..., :GROUPS]
    sampled = groups.sum(2, keepdim=True)
    # Affinities of a point far away from all others may all be too small for float64: nothing changes there.
    least = torch.finfo(total.dtype).tiny
    return (sampled - GROUPS * groups) * (finite_population / (GROUPS - 1)) / total.clamp(min=least)[..., None]


class TorchJackknife:
    """Sums over the classes, without each group of landmarks, as `Jackknife.add` has them.

    Parameters
    ----------
    like
        Number of temperatures, classes and strata, and the finite-population correction.
    device
        torch device.
    """

    def __init__(self, like: Jackknife, device: Any) -> None:
        self.like = like
        t, n_codes = like.K.shape
        self._sums = torch.zeros(
            (like.n_strata * n_codes, t, 4 + 3 * GROUPS), dtype=torch.float64, device=device
        )  # raw k, raw w, k, w, then the changes of k, within classes, across classes

    def add(self, k: Any, w: Any, sums: Any, changes: Any, codes: Any, tiles: Any) -> tuple[Any, Any]:
        """Take some points.

        Parameters
        ----------
        k, w
            (p, t) near field's part of k and w.
        sums
            (2, p, t, 17) float64 landmarks' part, by groups.
        changes
            (p, t, 16) e.
        codes, tiles
            (p,) class codes, -1 where unlabelled, and numbers of their tiles.

        Returns
        -------
        (p, t) k and w, the bias of their own r removed.
        """
        found = [
            self._add(
                k[rows], w[rows], sums[:, rows], changes[rows].double() / ONE, codes[rows].long(), tiles[rows]
            )
            for rows in (slice(start, start + POINTS) for start in range(0, len(k), POINTS))
        ]  # fmt: skip
        of_k, of_w = zip(*found, strict=True)
        return torch.cat(of_k), torch.cat(of_w)

    def _add(self, k: Any, w: Any, sums: Any, e: Any, codes: Any, tiles: Any) -> tuple[Any, Any]:
        finite_population, n_codes = self.like.finite_population, self.like.K.shape[1]
        labeled = (codes >= 0)[:, None]
        raw_k, raw_w = k + sums[0].sum(2), torch.where(labeled, w + sums[1].sum(2), 0)
        f = _without(sums[0], raw_k, finite_population)
        h = torch.where((raw_w > 0)[..., None], _without(sums[1], raw_w, finite_population), 0)
        variance = e.square().sum(2) * SHARE

        def corrected(raw: Any, change: Any) -> Any:
            return raw * (1 + ((e * change).sum(2) * SHARE).clamp_(min=-0.5)) / (1 + variance)

        k, w = corrected(raw_k, f), corrected(raw_w, h)
        raised = 1 / (1 + e).clamp_(min=LEAST)
        of_columns = w[..., None] * (raised - 1)
        values = torch.cat(
            [
                torch.stack([raw_k, raw_w, k, w], 2),
                k[..., None] * ((1 + f) * raised - 1) + of_columns,
                w[..., None] * ((1 + h) * raised - 1) + of_columns,
                (k - w)[..., None] * (raised - 1),
            ],
            2,
        )
        keys = tiles % self.like.n_strata * n_codes + torch.where(codes >= 0, codes, n_codes - 1)
        self._sums += keyed_sums(values.flatten(1), keys, len(self._sums)).view_as(self._sums)
        return k, w

    def result(self) -> Jackknife:
        """The sums in main memory."""
        like = self.like
        t, n_codes = like.K.shape
        sums = self._sums.view(like.n_strata, n_codes, t, -1).permute(0, 2, 1, 3).cpu().numpy()
        found = like.empty()
        found.raw_K, found.raw_W, found.K, found.W = (sums[..., i].sum(axis=0) for i in range(4))
        found.changes_of_K = sums[..., 4 : 4 + GROUPS].copy()
        found.changes_within = sums[..., 4 + GROUPS : 4 + 2 * GROUPS].sum(axis=2)
        found.changes_across = sums[..., 4 + 2 * GROUPS :].sum(axis=2)
        return found
