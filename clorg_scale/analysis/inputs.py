"""What `analyze` is handed, checked before anything is computed or written."""

from __future__ import annotations

import warnings
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
from clorg_scale.rld.compute import Method
from clorg_scale.rld.exact.cpu import check_exact_memory, exact_bytes
from clorg_scale.rld.points import computing_dtype
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
    "named_classes",
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
    class_names
        Name of each integer label; None where labels stand for themselves.
    """

    points: Array
    classes: ClassLabels
    test: Array | None
    test_codes: npt.NDArray[np.int64] | None
    key: str
    test_key: str | None
    class_names: list[str] | None = None

    @property
    def coded(self) -> ClassLabels:
        """The classes by their numbers, for stages whose results do not depend on the names."""
        return ClassLabels(self.classes.codes, np.arange(len(self.classes.classes)))

    @property
    def names(self) -> list[str]:
        """(C,) classes as text."""
        return [writable(name) for name in named_classes(self.classes.classes, self.class_names)]


def named_classes(classes: npt.NDArray[Any], class_names: Sequence[str] | None) -> list[str]:
    """(C,) classes by name: those of integers out of `class_names`, else as they are written."""
    known = [] if class_names is None or classes.dtype.kind not in "iu" else class_names
    return [known[label] if known and 0 <= label < len(known) else str(label) for label in classes.tolist()]


def writable(text: str) -> str:
    """Text without what UTF-8 cannot say: halves of surrogate pairs, from names of files in another encoding."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def check_inputs(
    embeddings: Any,
    labels: Any,
    test_embeddings: Any,
    test_labels: Any,
    *,
    class_names: Sequence[str] | None = None,
    test_class_names: Sequence[str] | None = None,
    unlabelled: int | str | None = UNLABELLED,
) -> Inputs:
    """Check all arrays; test labels with names of their own are matched by name.

    Raises
    ------
    InputError
        For arrays that some stage would refuse.
    """
    if (test_embeddings is None) != (test_labels is None):
        raise InputError("Test embeddings and test labels go together; hand in both or neither.")
    points = as_embeddings(embeddings)
    classes = encode_labels(labels, len(points), unlabelled=unlabelled)
    names = _checked_names(class_names, classes.classes, "class_names", "labels")
    if classes.counts.max() < 2:
        raise InputError("Every labeled point is a class of its own; no class has a density to measure.")
    column_means(points)  # finds NaN and infinite values
    check_spread(points)
    _check_directions(points)
    key = f"{fingerprint(points)}-{fingerprint(classes.codes)}"
    if test_embeddings is None:
        return Inputs(points, classes, None, None, key, None, names)
    test = as_embeddings(test_embeddings, name="test embeddings")
    if test.shape[1] != points.shape[1]:
        raise InputError(f"The test embeddings have {test.shape[1]} features, the embeddings {points.shape[1]}.")
    named = label_array(test_labels, len(test), name="test labels")
    test_names = _checked_names(test_class_names, named, "test_class_names", "test labels")
    named = _matched_by_name(named, test_names, classes.classes, names)
    test_codes = _test_codes(classes, named, names, unlabelled)
    column_means(test, name="test embeddings")
    test_print = fingerprint(test)
    if test_print == fingerprint(points):
        warnings.warn(
            "The test embeddings are the embeddings themselves, so the accuracies are those of the training points; "
            "hand in other test points, or none: a fifth of the points is held out then.",
            stacklevel=3,
        )
    return Inputs(points, classes, test, test_codes, key, f"{test_print}-{fingerprint(test_codes)}", names)


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
    """Check that exact RLD and the largest of the neighbor searches fit.

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
    search_budget(searches, searches, memory_limit, f"Analyzing {n} points with {k} neighbors each")


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
            f"The embeddings hold {what} (row{'s' * (len(found) > 1)} {listed}), which the cosine neighbors of "
            "class homogeneity do not allow; remove these rows and their labels."
        )


def _checked_names(names: Sequence[str] | None, labels: npt.NDArray[Any], argument: str, what: str) -> list[str] | None:
    """Names of integer labels; None for labels that are names themselves.

    Raises
    ------
    InputError
        If a label has no name, or two classes have the same.
    """
    if names is None or labels.dtype.kind not in "iu" or not len(labels):
        return None
    listed = [str(name) for name in names]
    if int(labels.max()) >= len(listed) or int(labels.min()) < -1:
        wrong = int(labels.max()) if int(labels.max()) >= len(listed) else int(labels.min())
        raise InputError(
            f"The {what} hold the class {wrong}, but {argument} has names for 0 to {len(listed) - 1}; name every class."
        )
    if len(set(listed)) < len(listed):
        twice = next(name for name in listed if listed.count(name) > 1)
        raise InputError(f"{argument} holds the name {twice!r} twice; give each class a name of its own.")
    return listed


def _matched_by_name(
    labels: npt.NDArray[Any], names: list[str] | None, classes: npt.NDArray[Any], class_names: list[str] | None
) -> npt.NDArray[Any]:
    """(m,) labels of test points as the labels of the others are, where names tell how these go together.

    Parameters
    ----------
    labels, names
        Of the test points.
    classes, class_names
        Of the others.

    Raises
    ------
    InputError
        If classes occur whose names the others do not have; lists these.
    """
    if names is not None and class_names is None and classes.dtype.kind == "U":
        texts: npt.NDArray[Any] = np.array([*names, str(UNLABELLED)])
        named: npt.NDArray[Any] = texts[labels]
        return named
    if class_names is None or names == class_names or (names is None and labels.dtype.kind != "U"):
        return labels
    number = {name: label for label, name in enumerate(class_names)} | {str(UNLABELLED): UNLABELLED}
    own, codes = np.unique(labels, return_inverse=True)
    present = own.tolist() if names is None else [[*names, str(UNLABELLED)][label] for label in own.tolist()]
    missing = [name for name in present if name not in number]
    if missing:
        raise _foreign_classes(missing)
    return np.array([number[name] for name in present], dtype=np.int64)[codes.reshape(-1)]


def _foreign_classes(names: Sequence[Any]) -> InputError:
    """The error for classes that only the test labels have."""
    listed = ", ".join(repr(name) for name in names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
    what = "a class" if len(names) == 1 else f"{len(names)} classes"
    return InputError(
        f"The test labels hold {what} that the labels do not: {listed}; give both sets the same names of classes, or "
        "leave these points out."
    )


def _test_codes(
    classes: ClassLabels, test_labels: npt.NDArray[Any], names: list[str] | None, unlabelled_label: int | str | None
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
        raise _foreign_classes([label if names is None else names[label] for label in unknown.tolist()])
    return np.where(unlabelled, -1, np.searchsorted(classes.classes, test_labels)).astype(np.int64)
