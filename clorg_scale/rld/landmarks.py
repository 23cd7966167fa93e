"""Landmarks: the random points that stand for all others in sampled RLD."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["GROUPS", "Landmarks", "Strata"]

GROUPS = 16
"""Groups of landmarks that the jackknife leaves out in turn."""

SMALL_CLASS = 2 * GROUPS
"""Classes of up to so many points are taken whole."""


@dataclass(frozen=True)
class Landmarks:
    """Random points of every class, each standing for n_c / m_c of its class.

    They lie group by group, each group holding the same number of every sampled class, so that leaving out one group
    multiplies all other weights by 16/15. Classes taken whole come last and are never left out: they bring no error.

    Attributes
    ----------
    rows
        (m,) rows of the embeddings.
    codes
        (m,) their classes.
    weights
        (m,) n_c / m_c.
    starts
        (18,) first landmark of each group, of the classes taken whole, and m.
    """

    rows: npt.NDArray[np.int64]
    codes: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float64]
    starts: npt.NDArray[np.int64]

    @property
    def n_sampled(self) -> int:
        """Landmarks of classes that are not taken whole."""
        return int(self.starts[GROUPS])

    def deletion_weights(self) -> npt.NDArray[np.float64]:
        """(m, 17) weights: as they are, then with each group left out."""
        weights = np.repeat(self.weights[:, None], GROUPS + 1, axis=1)
        weights[: self.n_sampled, 1:] *= GROUPS / (GROUPS - 1)
        for group in range(GROUPS):
            weights[self.starts[group] : self.starts[group + 1], group + 1] = 0
        return weights


class Strata:
    """The points class by class, each in a random order of its own; unlabelled points are a stratum like a class.

    Parameters
    ----------
    codes
        (n,) class codes, -1 where unlabelled.
    seed
        Of the orders.
    """

    def __init__(self, codes: npt.NDArray[np.int64], seed: int) -> None:
        rng = np.random.default_rng(seed)
        shuffled = rng.permutation(len(codes))
        by_class = shuffled[np.argsort(codes[shuffled], kind="stable")]
        self.codes, sizes = np.unique(codes, return_counts=True)
        self.members = np.split(by_class, np.cumsum(sizes)[:-1])
        self.n_points = len(codes)

    def landmarks(self, wanted: int) -> Landmarks:
        """About `wanted` landmarks: half in proportion to the classes, half evenly, at least 16 of each class.

        Those of a smaller number are among those of a larger one, in the same groups.
        """
        groups: list[list[npt.NDArray[np.int64]]] = [[] for _ in range(GROUPS + 1)]
        parts: list[list[npt.NDArray[np.float64]]] = [[] for _ in range(GROUPS + 1)]
        labels: list[list[npt.NDArray[np.int64]]] = [[] for _ in range(GROUPS + 1)]
        for code, members in zip(self.codes, self.members, strict=True):
            share = wanted * (len(members) / self.n_points + 1 / len(self.codes)) / 2
            taken = GROUPS * -(-int(np.ceil(share)) // GROUPS)
            whole = len(members) <= SMALL_CLASS or taken >= len(members)
            for group in [GROUPS] if whole else range(GROUPS):
                chosen = members if whole else members[group:taken:GROUPS]
                groups[group].append(chosen)
                parts[group].append(np.full(len(chosen), 1.0 if whole else len(members) / taken))
                labels[group].append(np.full(len(chosen), code, dtype=np.int64))
        sizes = [sum(map(len, group)) for group in groups]
        return Landmarks(
            np.concatenate([part for group in groups for part in group]),
            np.concatenate([part for group in labels for part in group]),
            np.concatenate([part for group in parts for part in group]),
            np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        )

    def sample(self, wanted: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Rows of a stratified sample, at least four of each class, and how many points each stands for."""
        rows, weights = [], []
        for members in self.members:
            share = wanted * (len(members) / self.n_points + 1 / len(self.codes)) / 2
            # From the other end than the landmarks, so that the two are as independent as they can be.
            chosen = members[::-1][: max(4, int(np.ceil(share)))]
            rows.append(chosen)
            weights.append(np.full(len(chosen), len(members) / len(chosen)))
        return np.concatenate(rows), np.concatenate(weights)
