"""Class labels of any kind as codes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from clorg_scale.arrays.adoption import as_array
from clorg_scale.arrays.device import on_host
from clorg_scale.errors import InputError

__all__ = ["UNLABELLED", "ClassLabels", "encode_labels", "is_unlabelled", "label_array", "warn_of_lookalike"]

UNLABELLED = -1
"""Label and label code of a point that belongs to no class."""

_NUMBERS = (int, float, np.integer, np.floating)

_EXACT_FLOATS = 2.0**53
"""Up to here float64 tells all whole numbers apart."""


@dataclass(frozen=True)
class ClassLabels:
    """Class labels encoded as integers.

    Attributes
    ----------
    codes
        (n,) int64, position of each point's class in `names`; -1 where unlabelled.
    names
        (C,) the labels of the classes as passed, sorted.
    """

    codes: npt.NDArray[np.int64]
    names: npt.NDArray[Any]

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """(C,) points in each class."""
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self.names)).astype(np.int64)

    @property
    def n_unlabelled(self) -> int:
        """Points that belong to no class."""
        return int(np.count_nonzero(self.codes < 0))


def encode_labels(
    labels: Any,
    n_points: int,
    *,
    name: str = "labels",
    unlabelled: int | str | None = UNLABELLED,
    fewest: int = 2,
    warn: bool = True,
) -> ClassLabels:
    """Encode class labels of any kind as integers.

    Parameters
    ----------
    labels
        (n,) integers, whole-numbered floats, booleans, strings or categories of any array library; or `ClassLabels`,
        which are taken as they are.
    n_points
        Number of embeddings they belong to.
    name
        Name used in error messages.
    unlabelled
        The label of points that belong to no class; -1 is meant also as a float, as the string ``"-1"`` or among
        strings. None: every label is a class.
    fewest
        Least number of classes.
    warn
        Whether to warn where -1 looks like a class.

    Raises
    ------
    InputError
        If the length differs, floats are not whole numbers, values are missing, or there are too few classes.

    Warns
    -----
    UserWarning
        If -1 means unlabelled and looks like a class: beside 1, or 0 and 1, alone, or as frequent as the classes are.
    """
    if isinstance(labels, ClassLabels):
        if len(labels.codes) != n_points:
            raise InputError(_wrong_number(len(labels.codes), n_points, name))
        return labels
    classes, codes = _classes(label_array(labels, n_points, name=name), unlabelled)
    encoded = ClassLabels(codes, classes)
    n_unlabelled = encoded.n_unlabelled
    if len(classes) < fewest:
        counted = "no class (all points are unlabelled)" if not len(classes) else "a single class"
        needed = "one class is" if fewest == 1 else "two classes are"
        left_out = f" ({n_unlabelled} of them are {unlabelled!r}, which means unlabelled; if it is a class, say "
        way_out = left_out + "unlabelled=None or --unlabelled none)" if n_unlabelled else ""
        raise InputError(f"The {name} hold {counted}; at least {needed} needed{way_out}.")
    if warn:
        warn_of_lookalike(encoded, unlabelled, name)
    return encoded


ALIKE = 1.5
"""Factor up to which -1 may be more or less frequent than the classes and counts as frequent as they are."""


def warn_of_lookalike(encoded: ClassLabels, unlabelled: int | str | None, name: str = "labels") -> None:
    """Warn where -1 means unlabelled and looks like a class."""
    if str(unlabelled) == str(UNLABELLED) and _looks_like_a_class(encoded):
        warnings.warn(
            f"{encoded.n_unlabelled} of the {len(encoded.codes)} {name} are -1, which means unlabelled, and look like "
            "a class of their own; if they are one, pass unlabelled=None (--unlabelled none).",
            stacklevel=4,
        )


def _looks_like_a_class(encoded: ClassLabels) -> bool:
    """Whether the points labeled -1 are as many as those of a class, or -1 belongs to 0 and 1 as in {-1, 1}."""
    n_unlabelled, counts = encoded.n_unlabelled, encoded.counts
    if not n_unlabelled or not len(counts):
        return False
    of_signs = {str(label) for label in encoded.names.tolist()} in ({"1"}, {"0", "1"})
    return of_signs or bool(counts.min() / ALIKE <= n_unlabelled <= counts.max() * ALIKE)


def _classes(
    array: npt.NDArray[Any], unlabelled_label: int | str | None
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Sorted classes and the code of each point."""
    classes, codes = np.unique(array, return_inverse=True)
    codes = codes.reshape(-1).astype(np.int64, copy=False)
    unlabelled = np.flatnonzero(is_unlabelled(classes, unlabelled_label))
    if not unlabelled.size:
        return classes, codes
    # Code u becomes -1 and the codes above it move down by one: no class is left without points.
    position = int(unlabelled[0])
    new_codes = np.arange(len(classes), dtype=np.int64)
    new_codes[position:] -= 1
    new_codes[position] = UNLABELLED
    return np.delete(classes, position), new_codes[codes]


def is_unlabelled(labels: npt.NDArray[Any], unlabelled: int | str | None) -> npt.NDArray[np.bool_]:
    """Find the labels, as `label_array` returns them, of points without a class.

    Raises
    ------
    InputError
        If `unlabelled` is not a label.
    """
    if unlabelled is None:
        return np.zeros(labels.shape, dtype=bool)
    if isinstance(unlabelled, (bool, np.bool_)) or not isinstance(unlabelled, (int, np.integer, str)):
        raise InputError(f"unlabelled must be a label (an integer or a string) or None, not {unlabelled!r}.")
    if labels.dtype.kind == "U":
        return np.asarray(labels == str(unlabelled))
    if isinstance(unlabelled, str):
        try:
            unlabelled = int(unlabelled)
        except ValueError:
            raise InputError(f"unlabelled={unlabelled!r} is a string, but the labels are integers.") from None
    return np.asarray(labels == unlabelled) if labels.dtype.kind in "iu" else np.zeros(labels.shape, dtype=bool)


def label_array(labels: Any, n_points: int | None = None, *, name: str = "labels") -> npt.NDArray[Any]:
    """Convert labels of any kind to a NumPy vector of integers, booleans or strings.

    Parameters
    ----------
    labels
        As `encode_labels` takes them; a single class, or none, is allowed.
    n_points
        Number of embeddings they belong to; None if unknown.
    name
        Name used in error messages.

    Returns
    -------
    (n,) integers, booleans or ``str``, in main memory.

    Raises
    ------
    InputError
        As `encode_labels`.
    """
    if isinstance(labels, (list, tuple)) and any(isinstance(label, str) for label in labels):
        labels = _objects(labels)  # NumPy would turn numbers and missing values among them into text
    array: Any = on_host(_categories(labels, name) if _is_categorical(labels) else as_array(labels, name=name))
    if array.ndim == 2 and array.shape[1] == 1:
        array = array.reshape(-1)
    if array.ndim != 1:
        raise InputError(
            f"The {name} have shape {tuple(array.shape)}; one label per row, (n,), is needed "
            "(for one-hot rows, take argmax(axis=1))."
        )
    if n_points is not None and len(array) != n_points:
        raise InputError(_wrong_number(len(array), n_points, name))
    if array.dtype.kind in "OT":
        array = _object_labels(array, name)
    if array.dtype.kind == "f":
        array = _whole_numbers(array, name)
    if array.dtype.kind == "S":
        array = _decoded(array, name)
    if array.dtype.kind not in "iubU":
        raise InputError(f"The {name} have dtype {array.dtype}; class labels must be integers or strings.")
    plain: npt.NDArray[Any] = array
    return plain


def _objects(labels: Sequence[Any]) -> npt.NDArray[Any]:
    """Python objects as an array of the same objects."""
    array = np.empty(len(labels), dtype=object)
    array[:] = labels
    return array


def _is_categorical(labels: Any) -> bool:
    """Whether this is a pandas or cuDF column of categories."""
    return type(getattr(labels, "dtype", None)).__name__ == "CategoricalDtype"


def _categories(labels: Any, name: str) -> npt.NDArray[Any]:
    """Labels of a column of categories, made from its codes: no string is compared."""
    columns = getattr(labels, "cat", labels)
    codes: npt.NDArray[Any] = on_host(as_array(columns.codes, name=name))
    categories = label_array(columns.categories, name=f"categories of the {name}")
    n_missing = int((codes < 0).sum())
    if n_missing:
        raise InputError(_missing(n_missing, int(np.flatnonzero(codes < 0)[0]), name))
    labeled: npt.NDArray[Any] = categories[codes]
    return labeled


def _missing(n_missing: int, first: int, name: str) -> str:
    verb = "is" if n_missing == 1 else "are"
    return (
        f"{n_missing} of the {name} {verb} missing (NaN or None; the first at row {first}); write -1 for points "
        "without a class, or leave them out."
    )


def _object_labels(array: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    """Strings or numbers out of an array of Python objects (a data-frame column)."""
    missing = [row for row, label in enumerate(array) if _is_missing(label)]
    if missing:
        raise InputError(_missing(len(missing), missing[0], name))
    kinds = {type(label) for label in array}
    if all(issubclass(kind, (bool, np.bool_)) for kind in kinds):
        return array.astype(bool)
    if all(issubclass(kind, _NUMBERS) and kind is not bool for kind in kinds):
        return _integers(array, name)
    if all(issubclass(kind, bytes) for kind in kinds):
        return array.astype(bytes)
    if all(isinstance(label, str) or (_is_number(label) and label == UNLABELLED) for label in array):
        return np.array([label if isinstance(label, str) else "-1" for label in array], dtype=str)
    listed = ", ".join(sorted(kind.__name__ for kind in kinds))
    raise InputError(f"The {name} mix Python objects ({listed}); class labels must be all integers or all strings.")


def _integers(array: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    """Integers, and floats that are whole, out of an array of Python objects."""
    for row, label in enumerate(array):
        if label != label // 1 or label in (np.inf, -np.inf):
            raise InputError(
                f"The {name} are continuous, floats that are not whole numbers (the first is {label} at row {row}); "
                "class labels must be integers or strings."
            )
    whole = [int(label) for label in array]  # exact, whereas integers among floats would be rounded
    for dtype in (np.int64, np.uint64):
        limits = np.iinfo(dtype)
        if limits.min <= min(whole, default=0) and max(whole, default=0) <= limits.max:
            return np.array(whole, dtype=dtype)
    row = next(row for row, label in enumerate(whole) if not -(2**63) <= label < 2**63)
    raise InputError(
        f"The {name} hold an integer of more than 64 bits (the first at row {row}); write such labels as text."
    )


def _is_missing(label: Any) -> bool:
    """Tell None, NaN, and the missing values of pandas."""
    return label is None or type(label).__name__ in ("NAType", "NaTType") or (_is_number(label) and label != label)


def _is_number(label: Any) -> bool:
    return isinstance(label, _NUMBERS)


def _whole_numbers(array: npt.NDArray[Any], name: str) -> npt.NDArray[np.int64]:
    """Floats as the integers they are."""
    array = array.astype(np.float64)
    missing = np.isnan(array)
    if missing.any():
        raise InputError(_missing(int(missing.sum()), int(np.flatnonzero(missing)[0]), name))
    whole = np.isfinite(array) & (array == np.floor(array)) & (np.abs(array) <= _EXACT_FLOATS)
    if not whole.all():
        first = int(np.flatnonzero(~whole)[0])
        raise InputError(
            f"The {name} are continuous, floats that are not whole numbers (the first is {array[first]} at row "
            f"{first}); class labels must be integers or strings."
        )
    return array.astype(np.int64)


def _decoded(array: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    """Byte strings as text."""
    try:
        return np.char.decode(array, "utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"The {name} are byte strings that are not UTF-8: {error}.") from error


def _wrong_number(n_labels: int, n_points: int, name: str) -> str:
    """Say how many labels there are, and how many are needed."""
    are = f"is 1 {name.replace('labels', 'label', 1)}" if n_labels == 1 else f"are {n_labels} {name}"
    return f"There {are}, but {n_points} embeddings; one label per row is needed."
