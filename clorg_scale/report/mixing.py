"""Mixing of classes: the class that each one shares most with, and the pairs that share most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from clorg_scale.analysis.record import AnalysisRecord

__all__ = ["describe_mixing"]

MOST_PAIRS = 200
"""Pairs of classes that a page lists."""


def describe_mixing(analysis: AnalysisRecord) -> dict[str, Any]:
    """Describe the mixing of classes, small at any number of classes.

    Returns
    -------
    ``basis``: "affinity", or "communities" for records without `class_mixing`; ``own``, ``partner`` and ``share``, C
    entries each: the share of each class that stays in it, the other class with its largest share (-1 where there is
    none), and that share; ``pairs``: [a, b, share of a in b, share of b in a], largest mean first, at most
    `MOST_PAIRS`; ``n_pairs``: pairs with any share.
    """
    if analysis.class_mixing is None:
        shares, basis = _through_communities(analysis), "communities"
    else:
        shares, basis = np.asarray(analysis.class_mixing, np.float64), "affinity"
    own = shares.diagonal().copy()
    others = shares.copy()
    np.fill_diagonal(others, 0)
    partner = others.argmax(axis=1)
    share = others.max(axis=1, initial=0)
    first, second = np.triu_indices(len(own), 1)
    mean = (others[first, second] + others[second, first]) / 2
    order = np.argsort(-mean, kind="stable")[:MOST_PAIRS]
    order = order[mean[order] > 0]
    return {
        "basis": basis,
        "own": _rounded(own),
        "partner": np.where(share > 0, partner, -1).tolist(),
        "share": _rounded(share),
        "pairs": [
            [int(a), int(b), round(float(others[a, b]), 4), round(float(others[b, a]), 4)]
            for a, b in zip(first[order], second[order], strict=True)
        ],
        "n_pairs": int((mean > 0).sum()),
    }


def _through_communities(analysis: AnalysisRecord) -> npt.NDArray[np.float64]:
    """(C, C) chance that a random point of the community of a random point of class a is of class b."""
    counts = np.array(analysis.communities.class_by_community, np.float64).reshape(len(analysis.classes), -1)
    by_class = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    by_community = counts / np.maximum(counts.sum(axis=0, keepdims=True), 1)
    return np.asarray(by_class @ by_community.T)


def _rounded(values: npt.NDArray[np.float64]) -> list[float]:
    return [round(float(value), 4) for value in values]
