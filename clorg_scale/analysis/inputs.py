"""Inputs and settings of `analyze`, checked before anything is computed or written."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from clorg_scale.analysis.fingerprint import fingerprint
from clorg_scale.analysis.summaries import TableColumns
from clorg_scale.arrays import (
    UNLABELLED,
    Array,
    ClassLabels,
    array_module,
    as_embeddings,
    column_means,
    encode_labels,
    label_array,
    row_slices,
)
from clorg_scale.arrays.gpu import brought_to
from clorg_scale.arrays.normalize import normalize_within
from clorg_scale.communities.detection import Method as CommunityMethod
from clorg_scale.counted import counted, numbered
from clorg_scale.errors import InputError
from clorg_scale.probes.comparison import joint_codes
from clorg_scale.results.plain import build
from clorg_scale.rld.compute import Method
from clorg_scale.store import StoredEmbeddings
from clorg_scale.whole import MOST_SEED, whole_number

__all__ = [
    "Inputs",
    "LabeledPoints",
    "check_choice",
    "check_inputs",
    "check_positive",
    "check_settings",
    "check_spread",
    "named_classes",
    "writable",
]

LEAST_ON_MAP = 3
"""Fewest points that make a map."""

_LISTED = 5
"""Bad rows that an error sentence names."""


class LabeledPoints(NamedTuple):
    """Embeddings, labels and names of classes as passed, and the columns of tables they were read from."""

    embeddings: Any
    labels: Any
    class_names: Sequence[str] | None
    columns: dict[str, TableColumns]

    @classmethod
    def handed_in(cls, embeddings: Any, labels: Any, class_names: Sequence[str] | None) -> LabeledPoints:
        """Take labels and names from `StoredEmbeddings` unless others are passed."""
        if not isinstance(embeddings, StoredEmbeddings):
            return cls(embeddings, labels, class_names, {})
        columns = {
            what: build(TableColumns, embeddings.metadata[key], key)
            for what, key in (("embeddings", "columns"), ("labels", "label_columns"))
            if _is_column_record(embeddings.metadata.get(key)) and (what == "embeddings" or labels is None)
        }
        if labels is not None:
            table = columns.get("embeddings")
            if table is not None and table.labels is not None:
                left_out = table.left_out | {table.labels: "other labels were given"}
                columns["embeddings"] = replace(table, left_out=left_out, labels=None)
            return cls(embeddings.embeddings, labels, class_names, columns)
        names = embeddings.class_names if class_names is None else class_names
        return cls(embeddings.embeddings, embeddings.labels, names, columns)


def _is_column_record(value: Any) -> bool:
    """Tell whether an entry of the metadata is a record of columns, not the user's own entry of that name."""
    try:
        build(TableColumns, value, "metadata")
    except ValueError:
        return False
    return True


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
        (m, d) and (m,); None where no test points were passed.
    fingerprints
        Digest of the contents of the "embeddings" and of the "test embeddings", if there are any.
    class_names
        Name of each integer label; None where labels stand for themselves.
    columns
        Columns of the tables that these were read from.
    """

    points: Array
    classes: ClassLabels
    test: Array | None
    test_codes: npt.NDArray[np.int64] | None
    fingerprints: dict[str, str]
    class_names: list[str] | None
    columns: dict[str, TableColumns]

    @property
    def arrays(self) -> dict[str, Array]:
        """Embeddings by the names of `fingerprints`."""
        known = {"embeddings": self.points, "test embeddings": self.test}
        return {name: array for name, array in known.items() if array is not None}

    def normalized(self, memory_limit: int | None, needed: int) -> tuple[Inputs, int | None]:
        """Inputs whose embeddings are divided by their Euclidean lengths (L2), and what is left of the memory limit.

        `needed` are the bytes that the stages take at least; copies that would leave less lie in temporary files.
        """
        points, left = normalize_within(self.points, memory_limit, needed=needed)
        test = None
        if self.test is not None:
            test, left = normalize_within(self.test, left, needed=needed, name="test embeddings")
        prints = {what: f"{digest} normalized" for what, digest in self.fingerprints.items()}
        return replace(self, points=points, test=test, fingerprints=prints), left

    def on_device(self, device: Literal["cpu", "cuda"]) -> Inputs:
        """Inputs whose embeddings are on a device, copied there once; those that do not fit a GPU stay in main memory.

        The fingerprints stay those of the arrays passed.
        """
        test = None if self.test is None else brought_to(device, self.test)
        return replace(self, points=brought_to(device, self.points), test=test)

    @property
    def coded(self) -> ClassLabels:
        """Classes by their numbers, for stages whose results do not depend on the names."""
        return ClassLabels(self.classes.codes, np.arange(len(self.classes.names)))

    @property
    def names(self) -> list[str]:
        """(C,) classes as text."""
        return [writable(name) for name in named_classes(self.classes.names, self.class_names)]


def named_classes(classes: npt.NDArray[Any], class_names: Sequence[str] | None) -> list[str]:
    """(C,) names of classes: from `class_names` for integer labels, else the labels as text."""
    known = [] if class_names is None or classes.dtype.kind not in "iu" else class_names
    return [known[label] if known and 0 <= label < len(known) else str(label) for label in classes.tolist()]


def writable(text: str) -> str:
    """Escape what UTF-8 cannot encode: halves of surrogate pairs, from names of files in another encoding."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def check_inputs(given: LabeledPoints, test: LabeledPoints, *, unlabelled: int | str | None = UNLABELLED) -> Inputs:
    """Check all arrays; test labels with names of their own are matched by name.

    Parameters
    ----------
    given, test
        Points of the analysis, and of the probes' test; embeddings and labels of `test` may be None.
    unlabelled
        The label of points without a class; None: every label is a class.

    Raises
    ------
    InputError
        If some stage would refuse the arrays.
    """
    if given.labels is None:
        raise InputError("There are no labels; pass one for each embedding.")
    if (test.embeddings is None) != (test.labels is None):
        raise InputError("Test embeddings and test labels go together; pass both or neither.")
    points = as_embeddings(given.embeddings)
    classes = encode_labels(given.labels, len(points), unlabelled=unlabelled)
    names = _checked_names(given.class_names, classes.names, "class_names", "labels")
    if classes.counts.max() < 2:
        raise InputError("Every labeled point is a class of its own; no class has a density to measure.")
    column_means(points)  # finds NaN and infinite values
    check_spread(points)
    _check_directions(points)
    prints = {"embeddings": fingerprint(points)}
    if test.embeddings is None:
        return Inputs(points, classes, None, None, prints, names, given.columns)
    test_points = as_embeddings(test.embeddings, name="test embeddings")
    if test_points.shape[1] != points.shape[1]:
        raise InputError(f"The test embeddings have {test_points.shape[1]} features, the embeddings {points.shape[1]}.")
    named = label_array(test.labels, len(test_points), name="test labels")
    test_names = _checked_names(test.class_names, named, "test_class_names", "test labels")
    named = _matched_by_name(named, test_names, classes.names, names)
    test_codes = _test_codes(classes, named, names, unlabelled)
    column_means(test_points, name="test embeddings")
    prints["test embeddings"] = fingerprint(test_points)
    if len(set(prints.values())) == 1:
        warnings.warn(
            "The test embeddings are the embeddings themselves, so the probes are scored on their training points; "
            "pass other test points, or none to hold out a fifth of the points.",
            stacklevel=3,
        )
    columns = given.columns | {f"test {what}": columns for what, columns in test.columns.items()}
    return Inputs(points, classes, test_points, test_codes, prints, names, columns)


def check_settings(
    n_points: int,
    *,
    k: int,
    method: str,
    target_error: float,
    community_method: str,
    resolution: float,
    map_points: int,
    perplexity: float,
    chi_points: int | None,
    seed: int,
) -> None:
    """Check the settings of all stages.

    Raises
    ------
    InputError
        If some stage would refuse one of them.
    """
    check_choice("method", method, get_args(Method))
    check_choice("community_method", community_method, get_args(CommunityMethod))
    check_positive("target_error", target_error)
    check_positive("resolution", resolution)
    whole_number("k", k, 1, n_points - 1, where=f" for {n_points} embeddings")
    whole_number("seed", seed, 0, MOST_SEED)
    whole_number("map_points", map_points, 0, where=" (0 for no map)")
    if map_points != 0:
        whole_number("map_points", map_points, LEAST_ON_MAP, where=" (or 0 for no map)")
    if not 1 <= perplexity < np.inf:
        raise InputError(f"perplexity must be a number of at least 1, not {perplexity}.")
    if chi_points is not None:
        whole_number("chi_points", chi_points, 1, where=" (or None for all)")


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
    raise InputError("All points are identical (their mean distance is 0); there is nothing to measure.")


def _check_directions(points: Array) -> None:
    """Refuse rows of zeros, which have no cosine."""
    xp = array_module(points)
    zero = [
        rows.start + xp.flatnonzero(~points[rows].astype(bool).any(axis=1))
        for rows in row_slices(*points.shape, itemsize=points.dtype.itemsize)
    ]
    found = xp.concatenate(zero)
    if len(found):
        listed = numbered("row", found[:_LISTED].tolist(), len(found))
        raise InputError(
            f"The embeddings hold {counted(len(found), 'zero vector')} ({listed}), which the cosine neighbors of class "
            "homogeneity do not allow; remove them and their labels."
        )


def _checked_names(names: Sequence[str] | None, labels: npt.NDArray[Any], argument: str, what: str) -> list[str] | None:
    """Check names of integer labels; None for labels that are names themselves.

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
    """(m,) test labels in the labels of the points, where names say which belong together.

    Parameters
    ----------
    labels, names
        Labels and class names of the test points.
    classes, class_names
        Labels and class names of the points.

    Raises
    ------
    InputError
        If the test points have classes that the points lack; lists them.
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
    """Error about classes that only the test labels have."""
    listed = ", ".join(repr(name) for name in names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
    what = "a class" if len(names) == 1 else f"{len(names)} classes"
    return InputError(
        f"The test labels hold {what} that the labels do not: {listed}; use the same class names in both sets, or "
        "leave these points out."
    )


def _test_codes(
    classes: ClassLabels, test_labels: npt.NDArray[Any], names: list[str] | None, unlabelled: int | str | None
) -> npt.NDArray[np.int64]:
    """(m,) codes of the test labels, in the numbering of the classes.

    Raises
    ------
    InputError
        If labels and test labels are of two kinds, or only the test labels have a class.
    """
    _, codes = joint_codes(classes, len(classes.codes), test_labels, len(test_labels), unlabelled)
    unknown = np.setdiff1d(test_labels[codes >= 0], classes.names)
    if len(unknown):
        raise _foreign_classes([label if names is None else names[label] for label in unknown.tolist()])
    return codes
