"""Input of the probes that are scikit-learn estimators: its conventions, for arrays of any library, read in blocks.

scikit-learn's own `check_array` copies memory maps that are not native floats, and knows neither files read in slices
nor arrays on a GPU. So the checks are ours, with the words that scikit-learn's `check_estimator` looks for; names and
number of the features are checked by scikit-learn's `validate_data`.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import DataConversionWarning
from sklearn.utils.validation import validate_data

from clorg_scale.arrays import (
    UNLABELLED,
    Array,
    ClassLabels,
    array_module,
    as_array,
    encode_labels,
    label_array,
)
from clorg_scale.arrays.frames import holds_vectors, stack_vectors
from clorg_scale.errors import InputError

__all__ = ["NotNumbersError", "like_points", "points_to_fit", "points_to_predict", "share_correct", "training_labels"]

FEWEST = 3
"""Training points at least, as in all other stages."""


class NotNumbersError(InputError, TypeError):
    """Python objects that are no numbers; scikit-learn raises a TypeError for them."""


def points_to_fit(estimator: Any, X: Any) -> Array:
    """Take training embeddings, and note on the estimator the number of features and their names.

    Parameters
    ----------
    estimator
        Gets `n_features_in_`, and `feature_names_in_` where X is a frame whose columns are the features.
    X
        (n, d) as for `as_embeddings`, or Python objects that are numbers.

    Returns
    -------
    (n, d) NumPy or CuPy, sharing memory where possible; values may still be NaN.

    Raises
    ------
    InputError
        If X cannot be used; `NotNumbersError`, a TypeError too, for objects that are no numbers.
    """
    array = _checked(estimator, X, fitted=False)
    if array.shape[0] < FEWEST:
        raise InputError(f"The embeddings hold {array.shape[0]} sample(s); a probe needs at least {FEWEST}.")
    return array


def points_to_predict(estimator: Any, X: Any) -> Array:
    """Take embeddings to predict: one row or more, of the features that the estimator was fitted on.

    Raises
    ------
    InputError
        As `points_to_fit`; if the number or the names of the features differ.
    """
    return _checked(estimator, X, fitted=True)


def _checked(estimator: Any, X: Any, *, fitted: bool) -> Array:
    array = _numbers(X)
    columns = getattr(X, "columns", None)
    named = X if columns is not None and len(columns) == array.shape[1] else array
    try:
        validate_data(estimator, named, reset=not fitted, skip_check_array=True)
    except ValueError as error:
        raise InputError(str(error)) from None
    return array


def _numbers(X: Any) -> Array:
    """X as a 2-D array of real numbers with at least one row and column."""
    array = as_array(X)
    if array.dtype == object:
        one_column = array.ndim == 1 or array.shape[1:] == (1,)
        vectors = one_column and holds_vectors(array.reshape(-1))
        array = stack_vectors(array.reshape(-1), "embeddings") if vectors else _as_floats(array)
    shape = tuple(array.shape)
    if array.dtype.kind == "c":
        raise InputError(f"Complex data not supported: the embeddings have dtype {array.dtype}; pass real numbers.")
    if array.dtype.kind not in "fiub":
        raise InputError(f"The embeddings have dtype {array.dtype}; real numbers are needed.")
    if array.ndim != 2:
        raise InputError(
            f"The embeddings have shape {shape}; two dimensions (points, features) are needed (Reshape your data: "
            ".reshape(1, -1) makes one point of a vector)."
        )
    if array.shape[0] < 1:
        raise InputError(f"The embeddings hold 0 sample(s) (shape={shape}) while a minimum of 1 is required.")
    if array.shape[1] < 1:
        raise InputError(f"The embeddings have 0 feature(s) (shape={shape}) while a minimum of 1 is required.")
    return array


def _as_floats(array: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Python objects as floats."""
    try:
        return array.astype(np.float64)
    except TypeError as error:
        raise NotNumbersError(
            f"The embeddings hold Python objects that are no numbers ({error}); pass a numeric (n, d) array."
        ) from None
    except ValueError as error:
        raise InputError(f"The embeddings hold text that is not a number ({error}); pass a numeric array.") from None


def training_labels(estimator: Any, y: Any, n_points: int, *, unlabelled: int | str | None = UNLABELLED) -> ClassLabels:
    """Take the labels of training points.

    Labels that are -1 and 1 alone are two classes, as everywhere in scikit-learn: with -1 for unlabelled there would be
    nothing to tell apart.

    Raises
    ------
    InputError
        If there are none, or `encode_labels` refuses them.

    Warns
    -----
    DataConversionWarning
        If they are a column (n, 1).
    UserWarning
        If -1 and 1 are taken as two classes.
    """
    if y is None:
        raise InputError(f"{type(estimator).__name__} requires y to be passed, but the target y is None.")
    if isinstance(y, ClassLabels):
        return encode_labels(y, n_points)
    shape = getattr(y, "shape", None)
    if isinstance(shape, tuple) and len(shape) == 2 and shape[1] == 1:
        warnings.warn(
            "A column-vector y was passed when a 1d array was expected. Please change the shape of y to (n_samples,), "
            "for example using ravel().",
            DataConversionWarning,
            stacklevel=3,
        )
    labels = label_array(y, n_points)
    if isinstance(unlabelled, int) and unlabelled == UNLABELLED and _are_signs(labels):
        warnings.warn(
            "The labels are -1 and 1, which are taken as two classes; pass unlabelled=None to say so and to "
            "silence this warning.",
            stacklevel=3,
        )
        unlabelled = None
    return encode_labels(labels, n_points, unlabelled=unlabelled)


def _are_signs(labels: npt.NDArray[Any]) -> bool:
    """Whether the labels are the integers -1 and 1, both of them, and no others."""
    return labels.dtype.kind == "i" and bool((np.abs(labels) == 1).all()) and labels.min() != labels.max()


def like_points(values: npt.NDArray[Any], X: Array) -> Array:
    """Predictions where the points are: on the GPU for points there, unless they are strings."""
    return values if values.dtype.kind not in "fiub" else array_module(X).asarray(values)


def share_correct(predicted: npt.NDArray[Any], y: Any, sample_weight: Any = None) -> float:
    """Accuracy of predictions in main memory against labels of any library; those of an unknown class are wrong.

    Raises
    ------
    InputError
        If the numbers of labels or weights differ.
    """
    from sklearn.metrics import accuracy_score

    truth = label_array(y, len(predicted))
    if truth.dtype.kind in "US" and predicted.dtype.kind not in "US":
        predicted = predicted.astype(str)
    elif predicted.dtype.kind in "US" and truth.dtype.kind not in "US":
        truth = truth.astype(str)
    weights = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    return float(accuracy_score(truth, predicted, sample_weight=weights))
