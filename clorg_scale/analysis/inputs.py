"""What `analyze` is handed, checked before anything is computed or written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from clorg_scale.analysis.fingerprint import fingerprint
from clorg_scale.arrays import (
    Array,
    ClassLabels,
    array_module,
    as_embeddings,
    column_means,
    encode_labels,
    label_array,
    row_slices,
)
from clorg_scale.communities.detection import Method as CommunityMethod
from clorg_scale.errors import InputError
from clorg_scale.neighbors.memory import flat_bytes, search_budget
from clorg_scale.rld.relative_local_density import Method

__all__ = ["Inputs", "check_inputs", "check_memory", "check_settings"]

MOST_SEED = 2**32 - 1
"""The largest that every library behind the stages takes."""

_LISTED = 5
"""Bad rows that an error sentence names."""


@dataclass(frozen=True)
class Inputs:
    """Embeddings and labels, checked; labels of training and test points in one numbering.

    Attributes
    ----------
    points
        (n, d).
    classes
        Codes of the points and the classes they stand for.
    test, test_codes
        (m, d) and (m,); None where no test points were handed in.
    key, test_key
        What they hold, as a digest.
    """

    points: Array
    classes: ClassLabels
    test: Array | None
    test_codes: npt.NDArray[np.int64] | None
    key: str
    test_key: str | None

    @property
    def names(self) -> list[str]:
        """(C,) classes as text."""
        return [str(label) for label in self.classes.classes]


def check_inputs(embeddings: Any, labels: Any, test_embeddings: Any, test_labels: Any) -> Inputs:
    """Check all arrays.

    Raises
    ------
    InputError
        For arrays that some stage would refuse.
    """
    if (test_embeddings is None) != (test_labels is None):
        raise InputError("Test embeddings and test labels go together; hand in both or neither.")
    points = as_embeddings(embeddings)
    classes = encode_labels(labels, len(points))
    if classes.counts.max() < 2:
        raise InputError("Every labelled point is a class of its own; no class has a density to measure.")
    column_means(points)  # finds NaN and infinite values
    _check_rows(points)
    key = f"{fingerprint(points)}-{fingerprint(classes.codes)}"
    if test_embeddings is None:
        return Inputs(points, classes, None, None, key, None)
    test = as_embeddings(test_embeddings, name="test embeddings")
    if test.shape[1] != points.shape[1]:
        raise InputError(f"The test embeddings have {test.shape[1]} features, the embeddings {points.shape[1]}.")
    test_codes = _test_codes(classes, label_array(test_labels, len(test), name="test labels"))
    column_means(test, name="test embeddings")
    return Inputs(points, classes, test, test_codes, key, f"{fingerprint(test)}-{fingerprint(test_codes)}")


def check_settings(
    n_points: int,
    *,
    k: int,
    method: str,
    target_error: float,
    community_method: str,
    resolution: float,
    map_points: int,
    seed: int,
) -> None:
    """Check the settings of all stages.

    Raises
    ------
    InputError
        For what some stage would refuse.
    """
    for name, value, known in (
        ("method", method, get_args(Method)), ("community_method", community_method, get_args(CommunityMethod)),
    ):  # fmt: skip
        if value not in known:
            raise InputError(f"{name} must be one of {', '.join(map(repr, known))}, not {value!r}.")
    for name, number in (("target_error", target_error), ("resolution", resolution)):
        if not (np.isfinite(number) and number > 0):
            raise InputError(f"{name} must be a positive number, not {number}.")
    for name, whole, least, most in (
        ("k", k, 1, n_points - 1), ("map_points", map_points, 0, None), ("seed", seed, 0, MOST_SEED),
    ):  # fmt: skip
        is_whole = isinstance(whole, (int, np.integer)) and not isinstance(whole, bool)
        if not is_whole or whole < least or (most is not None and whole > most):
            span = f"{least} or more" if most is None else f"from {least} to {most}"
            where = f" for {n_points} embeddings" if name == "k" else ""
            raise InputError(f"{name} must be a whole number {span}{where}, not {whole!r}.")


def check_memory(inputs: Inputs, k: int, chi_points: int, chi_k: int, memory_limit: int | None) -> None:
    """Check that the largest of the neighbour searches fits.

    Raises
    ------
    InputError
        If it does not; says what would.
    """
    n, d = inputs.points.shape
    both = n + (0 if inputs.test is None else len(inputs.test))
    needed = max(flat_bytes(n, d, chi_points, chi_k), flat_bytes(both, d, both, k))
    search_budget(needed, needed, memory_limit, f"Analysing {n} points with {k} neighbours each")


def _check_rows(points: Array) -> None:
    """Refuse rows of zeros, which have no cosine, and points that are all the same."""
    xp = array_module(points)
    first, differ, zero = points[:1], False, []
    for rows in row_slices(*points.shape, itemsize=points.dtype.itemsize):
        block = points[rows]
        differ = differ or bool((block != first).any())
        zero.append(rows.start + xp.flatnonzero(~block.astype(bool).any(axis=1)))
    if not differ:
        raise InputError("All points are identical (their mean distance is 0); nothing can be measured of them.")
    found = xp.concatenate(zero)
    if len(found):
        listed = ", ".join(str(int(row)) for row in found[:_LISTED]) + (", ..." if len(found) > _LISTED else "")
        what = "a zero vector" if len(found) == 1 else f"{len(found)} zero vectors"
        raise InputError(
            f"The embeddings hold {what} (row{'s' * (len(found) > 1)} {listed}), which the cosine neighbours of "
            "class homogeneity do not allow; remove these rows and their labels."
        )


def _test_codes(classes: ClassLabels, test_labels: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """(m,) codes of the test labels, in the numbering of the classes."""
    if (classes.classes.dtype.kind == "U") != (test_labels.dtype.kind == "U"):
        raise InputError(
            f"The labels have dtype {classes.classes.dtype}, the test labels {test_labels.dtype}; "
            "name the classes in one way."
        )
    unlabelled = test_labels == ("-1" if test_labels.dtype.kind == "U" else -1)
    if unlabelled.all():
        raise InputError("None of the test points has a label, so no probe can be scored.")
    unknown = np.setdiff1d(test_labels[~unlabelled], classes.classes)
    if len(unknown):
        raise InputError(f"The test labels hold a class that the labels do not: {unknown[0].item()!r}.")
    return np.where(unlabelled, -1, np.searchsorted(classes.classes, test_labels)).astype(np.int64)
