"""The jackknife of sampled RLD on a device: the sums of `clorg_scale.rld.sampled.jackknife`, made with torch."""

from __future__ import annotations

from typing import Any

import torch

from clorg_scale.numerics.segments import keyed_sums
from clorg_scale.rld.sampled.jackknife import LEAST, ONE, SHARE, ClassSums, Jackknife, PointSums
from clorg_scale.rld.sampled.landmarks import GROUPS

__all__ = ["TorchJackknife", "relative_changes"]

POINTS = 1 << 14
"""Points whose changes are computed at once: about 10 KB each at five temperatures."""


def relative_changes(sums: Any, r: Any, finite_population: float) -> tuple[Any, Any]:
    """Changes of r without each group, from (p, t, 17) sums over the groups and the rest, and (p, t) r.

    Returns
    -------
    (p, t, 16) int16 e in units of 1 / ONE, and (p, t) float64 v, the relative variance of r.
    """
    e = _without(sums, r, finite_population).mul_(ONE).round_()
    return e.to(torch.int16), (e / ONE).square_().sum(2).mul_(SHARE)


def _without(sums: Any, total: Any, finite_population: float) -> Any:
    """(p, t, 16) relative changes of a total (p, t) without a group's sum, the others raised by 16/15."""
    groups = sums[..., :GROUPS]
    sampled = groups.sum(2, keepdim=True)
    # Affinities of a point far away from all others may all be too small for float64: nothing changes there.
    least = torch.finfo(total.dtype).tiny
    return (sampled - GROUPS * groups) * (finite_population / (GROUPS - 1)) / total.clamp(min=least)[..., None]


class TorchJackknife:
    """Sums over the classes, without each group of landmarks, as an empty `Jackknife`, `like`, makes them by `add`."""

    def __init__(self, like: Jackknife, device: Any) -> None:
        self.like = like
        t, n_codes = like.sums.K.shape
        # Raw k, raw w, k, w, then the changes of k, within classes, across classes.
        self._sums = torch.zeros((like.n_strata * n_codes, t, 4 + 3 * GROUPS), dtype=torch.float64, device=device)

    def add(self, points: PointSums) -> tuple[Any, Any]:
        """Add some points, k and w of which are (p, t).

        Returns
        -------
        (p, t) k and w, the bias of their own r removed.
        """
        some = (slice(start, start + POINTS) for start in range(0, len(points.k), POINTS))
        found = [
            self._add(PointSums(*(array[rows] for array in points))._replace(sums=points.sums[:, rows]))
            for rows in some
        ]
        k, w = (torch.cat(chunks) for chunks in zip(*found, strict=True))
        return k, w

    def _add(self, points: PointSums) -> tuple[Any, Any]:
        finite_population, n_codes = self.like.finite_population, self.like.sums.K.shape[1]
        sums, e, codes = points.sums, points.changes.double() / ONE, points.codes.long()
        labeled = (codes >= 0)[:, None]
        raw_k, raw_w = points.k + sums[0].sum(2), torch.where(labeled, points.w + sums[1].sum(2), 0)
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
        keys = points.tiles % self.like.n_strata * n_codes + torch.where(codes >= 0, codes, n_codes - 1)
        self._sums += keyed_sums(values.flatten(1), keys, len(self._sums)).view_as(self._sums)
        return k, w

    def result(self) -> Jackknife:
        """The sums in main memory."""
        like, found = self.like, self.like.empty()
        t, n_codes = like.sums.K.shape
        sums = self._sums.view(like.n_strata, n_codes, t, -1).permute(0, 2, 1, 3).cpu().numpy()
        K_raw, W_raw, K, W = (sums[..., i].sum(axis=0) for i in range(4))
        found.sums = ClassSums(
            K,
            W,
            K_raw,
            W_raw,
            K_changes=sums[..., 4 : 4 + GROUPS].copy(),
            changes_within=sums[..., 4 + GROUPS : 4 + 2 * GROUPS].sum(axis=2),
            changes_across=sums[..., 4 + 2 * GROUPS :].sum(axis=2),
        )
        return found
