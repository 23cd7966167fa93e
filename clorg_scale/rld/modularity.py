r"""From sums over all pairs of points to RLD: modularity of the class labels, class by class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from clorg_scale.rld.types import Floats, Integers

__all__ = ["LabelModularity", "PairSums", "label_modularity", "shuffled_labels"]


@dataclass(frozen=True, kw_only=True)
class PairSums:
    """Sums over all pairs of points, exact or estimated, in the order of the embeddings and temperatures passed.

    Attributes
    ----------
    k, w
        (t, n) affinity of each point to all others and to those of its class (0 where unlabelled), in units of A / n^2.
    log_r
        (t, n) natural logarithm of r: the larger, the denser a point's neighborhood.
    mean_distance
        mu.
    squares
        (t,) sum of the squares of all affinities; None where `spread` is known without.
    spread
        (t,) sum of B^2 (see `clorg_scale.rld.null`); None: found from the squares.
    """

    k: Floats
    w: Floats
    log_r: Floats
    mean_distance: float
    squares: Floats | None = None
    spread: Floats | None = None


class LabelModularity(NamedTuple):
    """Modularity of the labels and what it is made of, as in `clorg_scale.RLDResult`."""

    values: Floats
    per_class: Floats
    purity: Floats
    local_density: npt.NDArray[np.float32]


def label_modularity(k: Floats, w: Floats, codes: Integers, n_classes: int) -> LabelModularity:
    """Newman modularity of the class labels from `k` and `w` of `PairSums`; code -1 counts in 2m and in no class."""
    labeled = codes >= 0
    two_m = k.sum(axis=1)
    K = np.stack([np.bincount(codes[labeled], row[labeled], n_classes) for row in k])
    W = np.stack([np.bincount(codes[labeled], row[labeled], n_classes) for row in w])
    per_class = W / two_m[:, None] - (K / two_m[:, None]) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        purity = W / K
        local_density = np.where(labeled, w / k, np.nan).astype(np.float32)
    return LabelModularity(per_class.sum(axis=1), per_class, purity, local_density)


def shuffled_labels(k: Floats, codes: Integers, n_classes: int) -> Floats:
    """(t,) RLD expected where the labels are shuffled among the labeled points.

    With f_c the class shares and s_i = k_i / 2m, E[W_c / 2m] is the share of ordered pairs of points that fall in
    class c, and E[(K_c / 2m)^2] = f_c^2 + n_c (1 - f_c) n / (n - 1) Var(s), the variance of a sum drawn without
    replacement. Exact where every point is labeled.
    """
    n = k.shape[1]
    counts = np.bincount(codes[codes >= 0], minlength=n_classes).astype(np.float64)
    shares = counts / n
    variance = np.var(k / k.sum(axis=1, keepdims=True), axis=1)
    pairs = (counts * (counts - 1)).sum() / (n * (n - 1))
    spread = (counts * (1 - shares)).sum() * n / (n - 1)
    return np.asarray(pairs - (shares**2).sum() - spread * variance)
