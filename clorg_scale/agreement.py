"""How well two labelings of the same points agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays import UNLABELLED, is_unlabelled, label_array
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
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    a, b = (label_array(labels) for labels in (labels_a, labels_b))
    if len(a) != len(b):
        raise InputError(f"The labelings have {len(a)} and {len(b)} points; they must be of the same points.")
    both = ~(is_unlabelled(a, unlabelled) | is_unlabelled(b, unlabelled))
    if not both.any():
        raise InputError("No point is labeled in both labelings.")
    a, b = a[both], b[both]
    rows, codes_a = np.unique(a, return_inverse=True)
    columns, codes_b = np.unique(b, return_inverse=True)
    counts = np.bincount(codes_a * len(columns) + codes_b, minlength=len(rows) * len(columns))
    return Agreement(
        nmi=float(normalized_mutual_info_score(a, b)),
        ari=float(adjusted_rand_score(a, b)),
        contingency=counts.reshape(len(rows), len(columns)).astype(np.int64),
    )
