"""What `analyze` is handed, checked before anything is computed or written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from clorg_scale.analysis.fingerprint import fingerprint
from clorg_scale.arrays import (
    UNLABELLED,
    Array,
    ClassLabels,
    array_module,
    as_embeddings,
    column_means,
    encode_labels,
    is_unlabelled,
    label_array,
    row_slices,
)
from clorg_scale.communities.detection import Method as CommunityMethod
from clorg_scale.errors import InputError
from clorg_scale.neighbors.memory import flat_bytes, search_budget
from clorg_scale.rld.exact import check_exact_memory, exact_bytes
from clorg_scale.rld.points import computing_dtype
from clorg_scale.rld.relative_local_density import Method
from clorg_scale.whole import whole_number

__all__ = [
    "MOST_SEED",
    "Inputs",
    "check_choice",
    "check_inputs",
    "check_memory",
    "check_positive",
    "check_settings",
    "check_spread",
    "check_whole",
    "writable",
]

MOST_SEED = 2**32 - 1
"""The largest that every library behind the stages takes."""

LEAST_ON_MAP = 3
"""Fewer points than that are no map."""

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
    def coded(self) -> ClassLabels:
        """The classes by their numbers, for stages whose results do not depend on the names."""
        return ClassLabels(self.classes.codes, np.arange(len(self.classes.classes)))

    @property
    def names(self) -> list[str]:
        """(C,) classes as text."""
        return [writable(str(label)) for label in self.classes.classes]


def writable(text: str) -> str:
    """Text without what UTF-8 cannot say: halves of surrogate pairs, from names of files in another encoding."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def check_inputs(
    embeddings: Any, labels: Any, test_embeddings: Any, test_labels: Any, unlabelled: int | str | None = UNLABELLED
) -> Inputs:
    """Check all arrays.

    Raises
    ------
    InputError
        For arrays that some stage would refuse.
    """
    if (test_embeddings is None) != (test_labels is None):
        raise InputError("Test embeddings and test labels go together; hand in both or neither.")
    points = as_embeddings(embeddings)
    classes = encode_labels(labels, len(points), unlabelled=unlabelled)
    if classes.counts.max() < 2:
        raise InputError("Every labelled point is a class of its own; no class has a density to measure.")
    column_means(points)  # finds NaN and infinite values
    check_spread(points)
    _check_directions(points)
    key = f"{fingerprint(points)}-{fingerprint(classes.codes)}"
    if test_embeddings is None:
        return Inputs(points, classes, None, None, key, None)
    test = as_embeddings(test_embeddings, name="test embeddings")
    if test.shape[1] != points.shape[1]:
        raise InputError(f"The test embeddings have {test.shape[1]} features, the embeddings {points.shape[1]}.")
    test_codes = _test_codes(classes, label_array(test_labels, len(test), name="test labels"), unlabelled)
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
    chi_points: int | None,
    seed: int,
) -> None:
    """Check the settings of all stages.

    Raises
    ------
    InputError
        For what some stage would refuse.
    """
    check_choice("method", method, get_args(Method))
    check_choice("community_method", community_method, get_args(CommunityMethod))
    check_positive("target_error", target_error)
    check_positive("resolution", resolution)
    check_whole("k", k, 1, n_points - 1, where=f" for {n_points} embeddings")
    check_whole("seed", seed, 0, MOST_SEED)
    check_whole("map_points", map_points, 0, where=" (0 for no map)")
    if map_points != 0:
        check_whole("map_points", map_points, LEAST_ON_MAP, where=" (or 0 for no map)")
    if chi_points is not None:
        check_whole("chi_points", chi_points, 1, where=" (or None for all)")


def check_choice(name: str, value: Any, known: Sequence[str]) -> None:
    """Check that an option is one of those known.

    Raises
    ------
    InputError
        If it is not; lists them.
    """
    if value not in known:
        raise InputError(f"{name} must be one of {', '.join(map(repr, known))}, not {value!r}.")


def check_positive(name: str, value: float) -> None:
    """Check that an option is a finite number above 0.

    Raises
    ------
    InputError
        If it is not.
    """
    if not (np.isfinite(value) and value > 0):
        raise InputError(f"{name} must be a positive number, not {value}.")


def check_whole(name: str, value: Any, least: int, most: int | None = None, *, where: str = "") -> None:
    """Check that an option is a whole number in a range.

    Raises
    ------
    InputError
        If it is not; says the range.
    """
    whole_number(name, value, least, most, where=where)


def check_spread(points: Array) -> None:
    """Check that points differ.

    Raises
    ------
    InputError
        If all points are identical.
    """
    first = points[:1]
    for rows in row_slices(*points.shape, itemsize=8):
        if bool((points[rows] != first).any()):
            return
    raise InputError("All points are identical (their mean distance is 0); nothing can be measured of them.")


def check_memory(
    inputs: Inputs, *, k: int, chi_points: int, chi_k: int, n_temperatures: int, memory_limit: int | None
) -> None:
    """Check that exact RLD and the largest of the neighbour searches fit.

    Raises
    ------
    InputError
        If one does not; says what would do for both.
    """
    n, d = inputs.points.shape
    both = n + (0 if inputs.test is None else len(inputs.test))
    searches = max(flat_bytes(n, d, chi_points, chi_k), flat_bytes(both, d, both, k))
    itemsize = computing_dtype(inputs.points.dtype).itemsize
    if memory_limit is not None and exact_bytes(n, d, itemsize, n_temperatures) > searches:
        check_exact_memory(n, d, itemsize, n_temperatures, memory_limit)
    search_budget(searches, searches, memory_limit, f"Analysing {n} points with {k} neighbours each")


def _check_directions(points: Array) -> None:
    """Refuse rows of zeros, which have no cosine."""
    xp = array_module(points)
    zero = [
        rows.start + xp.flatnonzero(~points[rows].astype(bool).any(axis=1))
        for rows in row_slices(*points.shape, itemsize=points.dtype.itemsize)
    ]
    found = xp.concatenate(zero)
    if len(found):
        listed = ", ".join(str(int(row)) for row in found[:_LISTED]) + (", ..." if len(found) > _LISTED else "")
        what = "a zero vector" if len(found) == 1 else f"{len(found)} zero vectors"
        raise InputError(
            f"The embeddings hold {what} (row{'s' * (len(found) > 1)} {listed}), which the cosine neighbours of "
            "class homogeneity do not allow; remove these rows and their labels."
        )


def _test_codes(
    classes: ClassLabels, test_labels: npt.NDArray[Any], unlabelled_label: int | str | None
) -> npt.NDArray[np.int64]:
    """(m,) codes of the test labels, in the numbering of the classes."""
    if (classes.classes.dtype.kind == "U") != (test_labels.dtype.kind == "U"):
        raise InputError(
            f"The labels have dtype {classes.classes.dtype}, the test labels {test_labels.dtype}; "
            "name the classes in one way."
        )
    unlabelled = is_unlabelled(test_labels, unlabelled_label)
    if unlabelled.all():
        raise InputError("None of the test points has a label, so no probe can be scored.")
    unknown = np.setdiff1d(test_labels[~unlabelled], classes.classes)
    if len(unknown):
        raise InputError(f"The test labels hold a class that the labels do not: {unknown[0].item()!r}.")
    return np.where(unlabelled, -1, np.searchsorted(classes.classes, test_labels)).astype(np.int64)
