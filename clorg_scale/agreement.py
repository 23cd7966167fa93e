"""Agreement of two labelings of the same points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays import UNLABELLED, is_unlabelled, label_array
from clorg_scale.counted import counted
from clorg_scale.errors import InputError

__all__ = ["Agreement", "agreement"]


@dataclass(frozen=True)
class Agreement:
    """Agreement of labelings a and b.

    Attributes
    ----------
    nmi
        Normalized mutual information, 0 .. 1 (arithmetic mean of the entropies, as scikit-learn).
    ari
        Adjusted Rand index, 1 for equal partitions, about 0 for independent ones.
    contingency
        (A, B) int64, points with label a and label b; labels in ascending order.
    """

    nmi: float
    ari: float
    contingency: npt.NDArray[np.int64]


def agreement(labels_a: Any, labels_b: Any, *, unlabelled: int | str | None = UNLABELLED) -> Agreement:
    """Compare two labelings of the same points; points without a label in either are left out.

    Parameters
    ----------
    labels_a, labels_b
        (n,) integers or strings.
    unlabelled
        The label of points without one; None: every label, -1 too, is one.

    Raises
    ------
    InputError
        If lengths differ or no point is labeled in both.
    """
    a, b = (label_array(labels) for labels in (labels_a, labels_b))
    if len(a) != len(b):
        raise InputError(
            f"The labelings have {len(a)} and {counted(len(b), 'point')}; they must be of the same points."
        )
    both = ~(is_unlabelled(a, unlabelled) | is_unlabelled(b, unlabelled))
    if not both.any():
        raise InputError("No point is labeled in both labelings.")
    a, b = a[both], b[both]
    rows, codes_a = np.unique(a, return_inverse=True)
    columns, codes_b = np.unique(b, return_inverse=True)
    counts = np.bincount(codes_a * len(columns) + codes_b, minlength=len(rows) * len(columns))
    contingency = counts.reshape(len(rows), len(columns)).astype(np.int64)
    return Agreement(_normalized_mutual_information(contingency), _adjusted_rand_index(contingency), contingency)


# Scikit-learn has both, but importing its metrics takes longer than a small analysis.
def _normalized_mutual_information(contingency: npt.NDArray[np.int64]) -> float:
    """Twice the entropy that a and b share over the sum of theirs; 1 where both have a single label."""
    of_a, of_b, of_both = map(_entropy, (contingency.sum(1), contingency.sum(0), contingency.ravel()))
    if of_a == of_b == 0:
        return 1.0
    shared = of_a + of_b - of_both
    if shared <= 4 * np.finfo(float).eps * (of_a + of_b):  # no more than rounding
        return 0.0
    return min(1.0, 2 * shared / (of_a + of_b))


def _entropy(counts: npt.NDArray[np.int64]) -> float:
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum())


def _adjusted_rand_index(contingency: npt.NDArray[np.int64]) -> float:
    """Pairs together in both labelings beyond those expected, over the most there could be; 1 for equal partitions."""
    in_a, in_b, in_both = map(_n_pairs, (contingency.sum(1), contingency.sum(0), contingency))
    if in_a == in_b == in_both:
        return 1.0
    of_all = _n_pairs(contingency.sum())
    expected = in_a * in_b  # each times of_all, so that all are whole numbers of Python's, which do not overflow
    return 2 * (in_both * of_all - expected) / ((in_a + in_b) * of_all - 2 * expected)


def _n_pairs(sizes: npt.NDArray[np.int64]) -> int:
    return int((sizes * (sizes - 1) // 2).sum())
